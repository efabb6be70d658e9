// A task of a run: why it is in its state, its attempts, the end of its output, its values.

import {
  html, useLive, useState, useEffect, useRef, request, get, href, taskHref, State, Took, Ago, Failure, Waiting, clean, wordOf,
  instanceName, moment, duration, secondsBetween, taskPath, size, number, ACTIVE, feed, Problem,
} from "./kit.js";

const encode = encodeURIComponent;
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\^_])/g;

/** Return text as a terminal leaves it: without escapes, each line as it was last written. */
export const plain = text => text.replace(ESCAPES, "").split("\n").map(line => {
  const end = line.endsWith("\r") ? line.slice(0, -1) : line;
  return end.slice(end.lastIndexOf("\r") + 1);
}).join("\n");

/** The last lines of the output of an attempt, live while it runs. */
export const Tail = ({ run, row, lines = 12 }) => {
  const [state, set] = useState({ text: null, size: 0, problem: null });
  const path = `${taskPath(run, row.task, row.map_index)}/attempts/${row.attempt}/log?from=end&limit=4096`;
  useEffect(() => {
    const abort = new AbortController();
    const read = async () => {
      try {
        const response = await request(path, { signal: abort.signal });
        set({ text: plain(await response.text()), size: Number(response.headers.get("X-Log-Size")), problem: null });
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
  return html`<pre class="tail" tabindex="0" aria-label="End of the output">${clean(all.slice(-lines).join("\n"))}</pre>`;
};

/** Why a task is in its state, sentence by sentence. */
export const Why = ({ run, row }) => {
  const live = useLive(`${taskPath(run, row.task, row.map_index)}/why`);
  useEffect(() => { live.reload(); }, [row.status]);
  if (live.problem) return html`<${Failure} problem=${live.problem} />`;
  if (!live.data) return html`<${Waiting} />`;
  return html`<ul class="why">${live.data.because.map((text, at) => html`<li key=${at}>${clean(text)}</li>`)}</ul>
    ${live.data.trace && html`<${Trace} trace=${live.data.trace} />`}`;
};

/** The lines of user code of an exception. */
const Trace = ({ trace }) => html`<details class="trace" open><summary>Where it was raised</summary>${trace.map((raised, at) => html`<div key=${at}>
  <p><code>${clean(raised.error)}</code></p><ol>${raised.frames.map((frame, number) => html`<li key=${number}><span class="muted">${clean(frame.file)}:${frame.line}</span> in ${clean(frame.function)}<pre>${clean(frame.source || "")}</pre></li>`)}</ol></div>`)}</details>`;

/** The panel of a selected task beside the views of a run. */
export const TaskPanel = ({ run, row, onClose }) => html`<aside class="panel" aria-label="Task ${instanceName(row)}">
  <header><h2>${clean(instanceName(row))}</h2><span class="grow"></span><button type="button" class="quiet" data-key="Escape" aria-label="Close" onClick=${onClose}>✕</button></header>
  <p><${State} state=${row.status} /> ${row.attempt > 0 && html`<span class="muted">attempt ${row.attempt}</span>`} <${Took} row=${row} />
    ${row.map_key && html` <span class="muted">${clean(row.map_key)}</span>`}</p>
  <${Why} run=${run.run_id} row=${row} /><${Tail} run=${run.run_id} row=${row} key=${row.attempt} />
  <p><a class="button" data-key="l" href=${taskHref(run.run_id, row)}>Log, attempts, values</a></p></aside>`;

export default function Task({ id, task, index }) {
  const path = taskPath(id, task, index);
  const live = useLive(path, `run:${id}`, (data, frame) => {
    if (!frame.tasks) return data;
    return (frame.tasks.rows || []).some(row => row[0] === task && (row[1] ?? null) == (index == null ? null : Number(index))) ? { ...data, changes: (data.changes || 0) + 1 } : data;
  });
  const [attempt, choose] = useState(null);
  useEffect(() => { if (live.data?.changes) live.reload(); }, [live.data?.changes]);
  const back = html`<p class="crumbs"><a data-key="Escape" href=${href(["r", id])}>‹ run ${clean(id)}</a></p>`;
  if (!live.data) return live.problem ? html`${back}<${Failure} problem=${live.problem} retry=${live.reload} />` : html`<${Waiting} />`;
  const data = live.data, last = data.attempts.at(-1), shown = data.attempts.find(each => each.attempt === attempt) || last;
  const row = { task: data.task, map_index: data.map_index, status: data.status, attempt: shown?.attempt || 0, ended_at: shown?.ended_at, started_at: data.started_at };
  return html`${back}<div class="head"><h1>${clean(instanceName(data))}</h1><${State} state=${data.status} /><b><${Took} row=${data} /></b>
      ${data.map_key && html`<span class="muted">${clean(data.map_key)}</span>`}</div>
    <${Why} run=${id} row=${data} />
    ${data.attempts.length > 1 && html`<nav class="tabs" aria-label="Attempts">${data.attempts.map(each => html`<button type="button" key=${each.attempt} aria-pressed=${each === shown} onClick=${() => choose(each.attempt)}>
      <${State} state=${each.status} small /> ${each.attempt}</button>`)}</nav>`}
    ${shown && html`<p class="facts"><span>attempt ${shown.attempt} <${State} state=${shown.status} /></span><span>${moment(shown.started_at)}</span><span><${Took} row=${shown} /></span>
      ${shown.exit_code != null && html`<span>exit code ${shown.exit_code}</span>`}${shown.log_lost && html`<span class="reason">${clean(shown.log_lost)}</span>`}</p>
      ${shown.error && html`<p class="problem"><span>${clean(shown.error)}</span></p>`}
      <${Tail} run=${id} row=${row} lines=${200} key=${shown.attempt} />`}
    ${!shown && html`<p class="muted">It has not started.</p>`}`;
}
