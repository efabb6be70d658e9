// A task of a run: why it is in its state, its attempts, the end of its output, its values.

import {
  html, useLive, useState, useEffect, request, href, taskHref, State, Took, Failure, Waiting, Unread, size, go, instanceName, moment, taskPath,
  number, ACTIVE, feed, rowsOf, encode, keyed, textOf,
} from "./kit.js";
import { TaskActions } from "./actions.js";
import { Durations } from "./grid.js";
import { Log, plainLine } from "./log.js";
import { Instances } from "./mosaic.js";

/** Return text as a terminal leaves it, without colours. */
export const plain = text => text.split("\n").map(plainLine).join("\n");

/** The last lines of the output of an attempt, live while it runs. */
export const Tail = ({ run, row, lines = 12 }) => {
  const [state, set] = useState({ text: null, problem: null });
  const path = `${taskPath(run, row.task, row.map_index)}/attempts/${row.attempt}/log?from=end&limit=4096`;
  useEffect(() => {
    const abort = new AbortController();
    const read = async () => {
      try {
        const response = await request(path, { signal: abort.signal });
        set({ text: plain(await response.text()), problem: null });
      } catch (problem) { if (problem.name !== "AbortError") set(old => ({ ...old, problem })); }
    };
    read();
    const index = row.map_index ?? -1;
    const stop = row.ended_at == null ? feed.follow(`log:${run}:${row.task}:${index}:${row.attempt}`, null, read, read) : null;
    return () => { abort.abort(); stop?.(); };
  }, [path, row.ended_at]);
  if (row.attempt < 1) return null;
  if (state.problem?.status === 404) return null;
  if (state.problem) return html`<${Failure} problem=${state.problem} />`;
  if (state.text == null) return html`<${Waiting} />`;
  if (!state.text.trim()) return html`<p class="muted">It printed nothing.</p>`;
  const all = state.text.replace(/\n+$/, "").split("\n");
  return html`<pre class="tail" tabindex="0" aria-label="End of the output">${all.slice(-lines).join("\n")}</pre>`;
};

/** Why a task is in its state, sentence by sentence. */
export const Why = ({ run, row }) => {
  const live = useLive(`${taskPath(run, row.task, row.map_index)}/why`, null, undefined, row.status);
  if (!live.data) return html`<${Unread} live=${live} />`;
  return html`<ul class="why">${live.data.because.map((text, at) => html`<li key=${at}>${text}</li>`)}</ul>
    ${live.data.trace && html`<${Trace} trace=${live.data.trace} />`}`;
};

/** The lines of user code of an exception. */
const Trace = ({ trace }) => html`<details class="trace" open><summary>Where it was raised</summary>${trace.map((raised, at) => html`<div key=${at}>
  <p><code>${raised.error}</code></p><ol>${raised.frames.map((frame, number) => html`<li key=${number}><span class="muted">${frame.file}:${frame.line}</span> in ${frame.function}<pre>${frame.source || ""}</pre></li>`)}</ol></div>`)}</details>`;

/** The panel of a selected task beside the views of a run. */
export const TaskPanel = ({ run, row, onClose }) => html`<aside class="panel" aria-label="Task ${instanceName(row)}">
  <header><h2>${instanceName(row)}</h2><span class="grow"></span><button type="button" class="quiet" ...${keyed("back")} aria-label="Close" onClick=${onClose}>✕</button></header>
  <p><${State} state=${row.status} /> ${row.attempt > 0 && html`<span class="muted">attempt ${number(row.attempt)} ·</span>`} <${Took} row=${row} />
    ${row.map_key && html` <span class="muted">${row.map_key}</span>`}</p>
  <${Why} run=${run.run_id} row=${row} /><${Tail} run=${run.run_id} row=${row} key=${row.attempt} />
  <${TaskActions} run=${run} row=${row} />
  <p><a class="button" ...${keyed("log")} href=${taskHref(run.run_id, row)}>Log, attempts, values</a></p></aside>`;

/** How long a task took in its last runs. */
const TaskDurations = ({ workflow, task }) => {
  const live = useLive(`workflows/${encode(workflow)}/durations?task=${encode(task)}&runs=50`);
  const of = live.data?.tasks[0];
  if (!of || of.durations_s.filter(each => each != null).length < 2) return null;
  const points = live.data.runs.map((run, at) => ({ ...run, duration_s: of.durations_s[at], ...(of.durations_s[at] != null && { status: "SUCCESS" }) })).reverse();
  return html`<${Durations} points=${points} median=${of.median_s} p95=${of.p95_s} label="Durations of ${task} in the last runs" onSelect=${run => go(href(["r", run, "t", task]))} />`;
};

export function Task({ id, task, index, query }) {
  const path = taskPath(id, task, index), place = index == null ? null : Number(index), [before, showBefore] = useState(null);
  const changes = (data, frame) => frame.tasks && rowsOf(frame.tasks).some(row => row.task === task && row.map_index === place)
    ? { ...data, changes: (data.changes || 0) + 1 } : data;
  const live = useLive(`${path}?attempts=20${before ? `&before=${before}` : ""}`, `run:${id}`, changes), head = useLive(`runs/${encode(id)}`, `run:${id}`, (data, frame) => frame.run ? { ...data, ...frame.run } : data);
  const [attempt, choose] = useState(null);
  useEffect(() => { if (live.data?.changes) live.reload(); }, [live.data?.changes]);
  const back = html`<p class="crumbs"><a href=${href(["w", head.data?.workflow || ""])}>${head.data?.workflow || ""}</a> › <a ...${keyed("back")} href=${href(["r", id])}>${id}</a>
    ${index != null && html` › <a href=${href(["r", id, "t", task])}>${task}</a>`}</p>`;
  if (!live.data || !head.data) return html`${back}<${Unread} live=${live.data ? head : live} />`;
  const data = live.data, shown = data.attempts.find(each => each.attempt === attempt) || data.attempts.at(-1);
  const isMapped = index == null && data.instances !== undefined;
  const log = shown && `${path}/attempts/${shown.attempt}/log`;
  return html`${back}<div class="head"><h1>${instanceName(data)}</h1><${State} state=${data.status} /><b><${Took} row=${data} /></b>
      ${data.map_key && html`<span class="muted">${data.map_key}</span>`}<span class="grow"></span><${TaskActions} run=${head.data} row=${data} /></div>
    <${Why} run=${id} row=${data} />
    ${index == null && html`<${TaskDurations} workflow=${head.data.workflow} task=${task} />`}
    <${Children} id=${id} task=${task} index=${place} state=${data.status} />
    ${shown && html`<div class="bar"><nav class="tabs" aria-label="Attempts">${data.attempts[0].attempt > 1 && html`<button type="button" ...${keyed("more")} onClick=${() => showBefore(data.attempts[0].attempt)}>‹ earlier</button>`}${data.attempts.map(each => html`<button type="button" key=${each.attempt} aria-pressed=${each === shown} onClick=${() => choose(each.attempt)}>
        <${State} state=${each.status} small /> attempt ${number(each.attempt)}</button>`)}${before && html`<button type="button" onClick=${() => showBefore(null)}>last ›</button>`}</nav>
        <span class="muted">${moment(shown.started_at)} · <${Took} row=${shown} />${shown.exit_code != null ? ` · exit code ${shown.exit_code}` : ""}${shown.host ? ` · on ${shown.host}` : ""}</span></div>
      ${shown.error && shown.error !== `exit code ${shown.exit_code}` && html`<p class="problem"><span>${shown.error}</span></p>`}
      ${shown.log_lost && html`<p class="problem"><span>${shown.log_lost}</span></p>`}
      <${Log} key=${log} url=${log} topic=${`log:${id}:${task}:${place ?? -1}:${shown.attempt}`}
        live=${shown.ended_at == null} fromEnd=${shown.status !== "SUCCESS"} name=${`${id}.${task}${index == null ? "" : `.${index}`}.${shown.attempt}.log`} />`}
    ${!shown && !isMapped && !ACTIVE.has(data.status) && html`<p class="muted">It has no attempt.</p>`}
    <${Values} title="Values" id=${id} task=${task} index=${place} state=${data.status} />
    ${isMapped && html`<${Instances} id=${id} task=${task} state=${data.status} />`}`;
}

const VALUES = 500; // that are shown at first, and more by a button: they have rows of different heights

/** The values that the tasks of a run have stored. Nothing is decoded: a pickle stays a pickle. */
export const Values = ({ id, task, index, state, title }) => {
  const live = useLive(`runs/${encode(id)}/values`, null, undefined, state), [most, setMost] = useState(VALUES);
  if (!live.data) return html`<${Unread} live=${live} />`;
  const values = live.data.values.filter(each => task == null || (each.task === task && (each.map_index ?? null) === (index ?? null)));
  if (!values.length) return title ? null : html`<p class="muted">No values.</p>`;
  return html`${title && html`<h2 class="gap">${title}</h2>`}<table class="list values"><thead><tr>${task == null && html`<th>Task</th>`}<th>Name</th><th>Value</th><th class="num wide">Size</th></tr></thead><tbody>${values.slice(0, most).map(each => html`
    <tr key=${`${instanceName(each)} ${each.key}`} data-row>${task == null && html`<td class="name"><a href=${taskHref(id, each)}>${instanceName(each)}</a></td>`}<td>${each.key}</td>
      <td>${each.value === null && each.encoding !== "json" ? html`<span class="muted">${each.encoding}, ${size(each.size)}</span>` : html`<pre>${pretty(each.value)}</pre>`}</td>
      <td class="num wide muted">${size(each.size)}</td></tr>`)}</tbody></table>${values.length > most && html`<p><button type="button" ...${keyed("more")} onClick=${() => setMost(most + VALUES)}>More values</button> <span class="muted">${number(values.length - most)}</span></p>`}`;
};

const pretty = value => { const text = textOf(value, 1); return text.length > 4000 ? `${text.slice(0, 4000)}…` : text; };

/** The runs that a task has started. */
const Children = ({ id, task, index, state }) => {
  const live = useLive(`runs/${encode(id)}/children?limit=500`, "runs", (data, frame) => ({
    ...data, children: data.children.map(child => (frame.runs || []).find(run => run.run_id === child.run_id) || child) }), state);
  const children = (live.data?.children || []).filter(child => child.parent?.task === task && (child.parent.map_index ?? null) === index);
  return children.length > 0 && html`<h2 class="gap">Child runs</h2><table class="list"><tbody>${children.map(child => html`<tr key=${child.run_id} data-row><td><${State} state=${child.status} /></td>
    <td class="name"><a href=${href(["r", child.run_id])}>${child.workflow}</a></td><td class="id">${child.run_id}</td><td class="num"><${Took} row=${child} /></td></tr>`)}</tbody></table>`;
};
