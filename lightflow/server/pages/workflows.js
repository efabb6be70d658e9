// All workflows: what each does now, its last runs, when it runs next.

import {
  html, useLive, useState, href, State, Asks, Rows, byName, Bars, Took, Instant, Failure, Unread, Empty, act, send, session, number, encode, keyed,
} from "./kit.js";

const BROKEN_FIRST = (a, b) => (b.served?.problem ? 1 : 0) - (a.served?.problem ? 1 : 0) || byName(a.workflow, b.workflow);

/** Return the workflows with the runs of a frame. */
export function applyRuns(data, frame) {
  if (!frame.runs) return data;
  const changed = Map.groupBy(frame.runs.filter(run => !run.parent), run => run.workflow);
  return {
    ...data,
    workflows: data.workflows.map(workflow => {
      const runs = changed.get(workflow.workflow);
      if (!runs) return workflow;
      const bars = new Map((workflow.runs || []).map(run => [run.run_id, run]));
      let latest = workflow.latest;
      for (const run of runs) {
        const isNew = !bars.has(run.run_id) && (!latest || run.created_at >= latest.created_at);
        if (bars.has(run.run_id) || isNew) bars.set(run.run_id, run);
        if (!latest || latest.run_id === run.run_id || isNew) latest = run;
      }
      const sorted = [...bars.values()].sort((a, b) => a.run_id === latest?.run_id ? -1 : b.run_id === latest?.run_id ? 1 : 0);
      return { ...workflow, latest, runs: sorted.slice(0, 14) };
    }),
  };
}

/** Return the earliest instant of the triggers of a workflow. */
export const nextOf = served => (served?.triggers || []).flatMap(trigger => trigger.next || []).sort()[0] || null;

export const Next = ({ served }) => {
  const next = nextOf(served);
  if (!served) return html`<span class="muted" title="This server has no file of it.">–</span>`;
  if (served.paused_by) return html`<span class="muted">paused</span>`;
  if (next) return html`<${Instant} at=${next} />`;
  const words = (served.triggers || []).map(trigger => trigger.words).join(", ");
  return html`<span class="muted" title=${words}>${words || "by hand"}</span>`;
};

export const Pause = ({ workflow, served, onDone }) => {
  const [wish, set] = useState(null);
  if (!served || !(served.triggers || []).length || !session.mayAct) return null;
  const paused = wish ?? served.paused_by != null;
  const change = async () => {
    set(!paused); // the wish is shown at once; the answer corrects it
    await act(() => send(paused ? "DELETE" : "PUT", `workflows/${encode(workflow)}/pause`, {}),
      paused ? `${workflow} continues; what was due during the pause does not run.` : `${workflow} is paused. Running it by hand still works.`);
    await onDone();
    set(null);
  };
  return html`<button type="button" role="switch" class="switch" aria-checked=${!paused} onClick=${change}
    aria-label="${paused ? "off" : "on"}, triggers of ${workflow}" ...${keyed("pause", paused ? `paused by ${served.paused_by || "you"}; click to continue` : "active; click to pause")}>
    <i aria-hidden="true"></i><span>${paused ? "off" : "on"}</span></button>`;
};

export function Workflows() {
  const live = useLive("workflows", "runs", applyRuns);
  const [filter, setFilter] = useState("");
  if (!live.data) return html`<${Unread} live=${live} />`;
  const all = [...live.data.workflows].sort(BROKEN_FIRST);
  const words = filter.toLowerCase();
  const shown = all.filter(each => each.workflow.toLowerCase().includes(words));
  return html`<div class="head"><h1>Workflows</h1><span class="muted">${number(all.length)}</span><span class="grow"></span>
      <input type="search" data-filter placeholder="Filter  /" aria-label="Filter workflows" value=${filter} onInput=${event => setFilter(event.target.value)} /></div>
    <${Failure} problem=${live.problem} retry=${live.reload} />
    ${(live.data.problems || []).map(each => html`<p class="problem" key=${each.file}><span>${each.problem}</span></p>`)}
    ${!all.length && html`<${Empty} title="No workflow has run, and none is served">
      <p>Write one with <code>lightflow template > flow.yaml</code>, run it with <code>lightflow run flow.yaml</code>,
      or start the server in the folder of your workflows: <code>lightflow serve</code>.</p><//>`}
    ${all.length > 0 && html`<table class="list" aria-rowcount=${shown.length}><thead><tr><th>State</th><th>Workflow</th><th class="wide">Last runs</th>
        <th class="num">Duration</th><th>Next</th><th class="acts"><span class="hidden">Actions</span></th></tr></thead>
      <${Rows} items=${shown} row=${each => html`<tr key=${each.workflow} data-row>
        <td>${each.latest ? html`<a class="plain" href=${href(["r", each.latest.run_id])} tabindex="-1"><${State} state=${each.latest.status} /></a> <${Asks} run=${each.latest} />` : html`<${State} state=${null} />`}</td>
        <td class="name described"><a href=${href(["w", each.workflow])}>${each.workflow}</a>
          ${each.description && html`<span class="muted wide"> ${each.description}</span>`}</td>
        <td class="wide"><${Bars} runs=${each.runs || []} label="last runs of ${each.workflow}" /></td>
        <td class="num">${each.latest && html`<${Took} row=${each.latest} />`}</td>
        <td class="next"><${Next} served=${each.served} /></td>
        <td class="acts"><${Pause} workflow=${each.workflow} served=${each.served} onDone=${live.reload} />
          ${each.served && session.mayAct && html`<a class="button" ...${keyed("run")} href=${href(["w", each.workflow, "run"])} aria-label="Run… ${each.workflow}">Run…</a>`}</td>
      </tr>`} /></table>
      ${!shown.length && html`<p class="muted">No workflow has “${filter}” in its name. <button type="button" class="quiet" onClick=${() => setFilter("")}>Show all ${all.length}</button></p>`}`}`;
}
