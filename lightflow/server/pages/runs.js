// Runs, the newest first; the filters are in the address.

import { CancelOrAgain } from "./actions.js";
import {
  html, useLive, useState, useEffect, Rows, get, href, go, State, Asks, Took, Ago, Tally, Failure, Waiting, Empty, Typed, wordOf, act, keyed, textOf,
} from "./kit.js";

const STATES = ["RUNNING", "FAILED", "SUCCESS", "CANCELLED", "INTERRUPTED", "PENDING"];
const PAGE = 100, MOST_RUNS = 300; // of runs; a page that is open for days does not grow

/** Return how a run began, in words. */
export function origin(run) {
  if (run.trigger) return run.trigger.trigger.endsWith(":manual") ? `by ${run.trigger.started_by || "hand"}` : `${run.trigger.trigger.split(":").slice(1).join(" ")}`;
  if (run.parent) return "by a task";
  if (run.origin) return `fork of ${run.origin}`;
  return "by hand";
}

/** Return parameters in one line. */
export const paramText = params => Object.entries(params || {}).map(([name, value]) =>
  `${name}=${textOf(value)}`).join("  ");

/** Return the moment at which a day of this browser begins, or the day after it; what is no day stays, and the server says why. */
const dayStart = (day, later = 0) => { const at = new Date(`${day}T00:00`); at.setDate(at.getDate() + later); return isNaN(at) ? day : at.toISOString(); };

/** Return the filters of an address as those of a request. */
const filtersOf = ({ workflow, state, text, trigger, from, to }) => Object.fromEntries(Object.entries({
  workflow, status: state, text, trigger, since: from && dayStart(from), until: to && dayStart(to, 1) }).filter(([, value]) => value));
const path = (query, after) => `runs?${new URLSearchParams({ limit: PAGE, ...filtersOf(query), ...(after && { after }) })}`;

const matches = (run, { workflow, status, text, trigger, since, until }) => (!workflow || run.workflow === workflow) && (!status || run.status === status)
  && (!trigger || run.trigger?.trigger === trigger) && (!since || run.created_at >= since) && (!until || run.created_at < until)
  && (!text || `${run.run_id} ${JSON.stringify(run.params)} ${run.reason || ""}`.includes(text));

export function withRuns(query) {
  const filters = filtersOf(query);
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
    const added = [...changed.values()].filter(run => run.created_at >= newest && matches(run, filters)).reverse();
    return { ...data, runs: [...added, ...runs] };
  };
}

export function Runs({ query }) {
  const live = useLive(path(query), "runs", withRuns(query));
  const [more, setMore] = useState({ runs: [], after: undefined, busy: false }), triggers = useLive("triggers");
  const isFiltered = Object.keys(filtersOf(query)).length > 0, isLong = live.data?.runs.length > MOST_RUNS;
  useEffect(() => setMore({ runs: [], after: undefined, busy: false }), [path(query), isLong]);
  useEffect(() => { if (isLong) live.reload(); }, [isLong]);
  const choose = name => event => go(href(["runs"], { ...query, [name]: event.target.value.trim() }));
  const starts = (triggers.data?.triggers || []).filter(each => !query.workflow || each.workflow === query.workflow);
  const after = more.after === undefined ? live.data?.after : more.after;
  const next = async () => {
    setMore(old => ({ ...old, busy: true }));
    const page = await act(() => get(path(query, after)), "");
    setMore(old => page ? { runs: [...old.runs, ...page.runs], after: page.after, busy: false } : { ...old, busy: false });
  };
  const listed = new Set(live.data?.runs.map(run => run.run_id));
  const runs = live.data ? [...live.data.runs, ...more.runs.filter(run => !listed.has(run.run_id))] : [];
  return html`<div class="head runs-filters"><h1>Runs</h1><span class="grow"></span>
      <${Typed} type="search" data-filter placeholder="Workflow  /" aria-label="Only runs of this workflow" value=${query.workflow || ""}
        onChange=${choose("workflow")} />
      <${Typed} type="search" class="wide" placeholder="Any text" aria-label="Only runs with this text" value=${query.text || ""} onChange=${choose("text")} />
      <select aria-label="Only runs in this state" value=${query.state || ""} onChange=${choose("state")}>
        <option value="">all states</option>${STATES.map(state => html`<option key=${state} value=${state}>${wordOf(state)}</option>`)}</select>
      <select class="wide" aria-label="Only runs of this trigger" value=${query.trigger || ""} onChange=${choose("trigger")}><option value="">all triggers</option>
        ${query.workflow && html`<option value=${`${query.workflow}:manual`}>by hand, in a page</option>`}
        ${starts.map(each => html`<option key=${each.trigger} value=${each.trigger}>${query.workflow ? each.words : `${each.workflow}: ${each.words}`}</option>`)}</select>
      <label class="wide">from <input type="date" value=${query.from || ""} onChange=${choose("from")} /></label>
      <label class="wide">to <input type="date" value=${query.to || ""} onChange=${choose("to")} /></label></div>
    <${Failure} problem=${live.problem} retry=${live.reload} />
    ${!live.data && !live.problem && html`<${Waiting} />`}
    ${live.data && !runs.length && html`<${Empty} title=${isFiltered ? "No run matches" : "Nothing has run yet"}>
      ${isFiltered ? html`<p><a href=${href(["runs"])}>Show all runs</a></p>`
        : html`<p>Start one: <code>lightflow run flow.yaml</code>. It appears here while it runs.</p>`}<//>`}
    ${runs.length > 0 && html`<table class=${`list runs${live.isStale ? " stale" : ""}`} aria-rowcount=${runs.length}><thead><tr><th>State</th><th>Workflow</th><th>Run</th><th>Started</th><th class="num">Duration</th>
      <th>Tasks</th><th class="wide">Started by</th><th class="wide">Parameters</th><th class="acts"><span class="hidden">Actions</span></th></tr></thead>
      <${Rows} items=${runs} row=${run => html`<tr key=${run.run_id} data-row>
        <td><${State} state=${run.status} /> <${Asks} run=${run} /></td>
        <td class="name"><a href=${href(["r", run.run_id])}>${run.workflow}</a></td><td class="id">${run.run_id}</td>
        <td><${Ago} at=${run.started_at || run.created_at} /></td>
        <td class="num"><${Took} row=${run} /></td>
        <td><${Tally} counts=${run.counts} /></td>
        <td class="wide muted">${origin(run)}</td>
        <td class="wide muted cut" title=${paramText(run.params)}>${paramText(run.params)}</td><td class="acts"><${CancelOrAgain} run=${run} /></td></tr>`} /></table>
      ${after && html`<p><button type="button" ...${keyed("more")} disabled=${more.busy} onClick=${next}>Older runs</button></p>`}`}`;
}
