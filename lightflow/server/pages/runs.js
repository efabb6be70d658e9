// Runs, the newest first; the filters are in the address.

import {
  html, useLive, useState, useEffect, get, href, go, State, Took, Ago, Tally, Failure, Waiting, Empty, clean, wordOf, act, rowsOf,
} from "./kit.js";

const STATES = ["RUNNING", "FAILED", "SUCCESS", "CANCELLED", "INTERRUPTED", "PENDING"];
const PAGE = 100, MOST_RUNS = 300; // of runs; a page that is open for days does not grow

/** Return how a run began, in words. */
export function origin(run) {
  if (run.trigger) return run.trigger.trigger.endsWith(":manual") ? `by ${run.trigger.started_by || "hand"}` : `${run.trigger.trigger.split(":").slice(1).join(" ")}`;
  if (run.origin) return `fork of ${run.origin}`;
  return "by hand";
}

/** Return parameters in one line. */
export const paramText = params => Object.entries(params || {}).map(([name, value]) =>
  `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join("  ");

const path = (query, after) => `runs?${new URLSearchParams({
  limit: PAGE, ...(query.workflow && { workflow: query.workflow }), ...(query.state && { status: query.state }), ...(after && { after }) })}`;

const matches = (run, query) => (!query.workflow || run.workflow === query.workflow) && (!query.state || run.status === query.state);

export function withRuns(query) {
  return (data, frame) => {
    if (!frame.runs) return data;
    // Child runs are on the page of the task that executes them.
    const changed = new Map(frame.runs.filter(run => !run.parent).map(run => [run.run_id, run])), gone = new Set(frame.deleted);
    const runs = data.runs.filter(run => !gone.has(run.run_id)).map(run => {
      const next = changed.get(run.run_id);
      changed.delete(run.run_id);
      return next || run;
    });
    const newest = data.runs[0]?.created_at || "";
    const added = [...changed.values()].filter(run => run.created_at >= newest && matches(run, query)).reverse();
    return { ...data, runs: [...added, ...runs] };
  };
}

export function Runs({ query }) {
  const live = useLive(path(query), "runs", withRuns(query));
  const [more, setMore] = useState({ runs: [], after: undefined, busy: false });
  const isLong = live.data?.runs.length > MOST_RUNS;
  useEffect(() => setMore({ runs: [], after: undefined, busy: false }), [query.workflow, query.state, isLong]);
  useEffect(() => { if (isLong) live.reload(); }, [isLong]);
  const choose = change => go(href(["runs"], { ...query, ...change }));
  const after = more.after === undefined ? live.data?.after : more.after;
  const next = async () => {
    setMore(old => ({ ...old, busy: true }));
    const page = await act(() => get(path(query, after)), "");
    setMore(old => page ? { runs: [...old.runs, ...page.runs], after: page.after, busy: false } : { ...old, busy: false });
  };
  const listed = new Set(live.data?.runs.map(run => run.run_id));
  const runs = live.data ? [...live.data.runs, ...more.runs.filter(run => !listed.has(run.run_id))] : [];
  return html`<div class="head"><h1>Runs</h1><span class="grow"></span>
      <input type="search" data-filter placeholder="Workflow  /" aria-label="Only runs of this workflow" value=${query.workflow || ""}
        onChange=${event => choose({ workflow: event.target.value.trim() })} />
      <select aria-label="Only runs in this state" value=${query.state || ""} onChange=${event => choose({ state: event.target.value })}>
        <option value="">all states</option>${STATES.map(state => html`<option key=${state} value=${state}>${wordOf(state)}</option>`)}</select></div>
    <${Failure} problem=${live.problem} retry=${live.reload} />
    ${!live.data && !live.problem && html`<${Waiting} />`}
    ${live.data && !runs.length && html`<${Empty} title=${query.workflow || query.state ? "No run matches" : "Nothing has run yet"}>
      ${query.workflow || query.state ? html`<p><a href=${href(["runs"])}>Show all runs</a></p>`
        : html`<p>Start one: <code>lightflow run flow.yaml</code>. It appears here while it runs.</p>`}<//>`}
    ${runs.length > 0 && html`<table class=${`list runs${live.isStale ? " stale" : ""}`}><thead><tr><th>State</th><th>Workflow</th><th>Run</th><th>Started</th><th class="num">Duration</th>
      <th>Tasks</th><th class="wide">Started by</th><th class="wide">Parameters</th></tr></thead>
      <tbody>${runs.map(run => html`<tr key=${run.run_id} data-row>
        <td><${State} state=${run.status} /></td>
        <td class="name"><a href=${href(["r", run.run_id])}>${clean(run.workflow)}</a></td><td class="id">${clean(run.run_id)}</td>
        <td><${Ago} at=${run.started_at || run.created_at} /></td>
        <td class="num"><${Took} row=${run} /></td>
        <td><${Tally} counts=${run.counts} /></td>
        <td class="wide muted">${clean(origin(run))}</td>
        <td class="wide muted cut" title=${clean(paramText(run.params))}>${clean(paramText(run.params))}</td></tr>`)}</tbody></table>
      ${after && html`<p><button type="button" disabled=${more.busy} onClick=${next}>Older runs</button></p>`}`}`;
}
