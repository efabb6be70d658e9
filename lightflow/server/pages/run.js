// A run: its head, its failures, and its tasks as a table; the panel of the selected task beside it.

import {
  html, useLive, useState, useEffect, useMemo, useRef, useLayoutEffect, get, send, request, href, go, taskHref, State, Took, Ago,
  Tally, Failure, Waiting, Action, Dialog, Copy, act, announce, session, clean, wordOf, rowsOf, instanceName, many, number,
  duration, moment, ZONE, FAILURES, ACTIVE, taskPath, look,
} from "./kit.js";
import { origin, paramText } from "./runs.js";
import { TaskPanel, Tail } from "./task.js";

const encode = encodeURIComponent;
const ROW = 32;
const ORDER = ["FAILED", "UP_FOR_RETRY", "RUNNING", "WAITING", "QUEUED", "PENDING", "UPSTREAM_FAILED", "CANCELLED", "SKIPPED", "SUCCESS"];
const rank = state => { const at = ORDER.indexOf(state); return at < 0 ? ORDER.length : at; };
export const rowKey = (task, index) => index == null ? task : `${task}[${index}]`;

/** Return the rows of an answer, by their names. */
const tableOf = answer => new Map(rowsOf(answer).map(row => [instanceName(row), row]));

function applyTasks(data, frame) {
  if (!frame.tasks) return data;
  const table = new Map(data.table || tableOf(data));
  for (const row of rowsOf(frame.tasks)) table.set(instanceName(row), row);
  for (const [task, index] of frame.removed || []) table.delete(rowKey(task, index));
  return { table };
}

const applyRun = (data, frame) => frame.deleted ? { ...data, deleted: true } : frame.run ? { ...data, ...frame.run } : data;

/** Follow a run: its head and its rows. */
export function useRun(id) {
  const path = `runs/${encode(id)}`;
  const head = useLive(path, `run:${id}`, applyRun);
  const tasks = useLive(`${path}/tasks`, `run:${id}`, applyTasks);
  const rows = useMemo(() => tasks.data && (tasks.data.table || tableOf(tasks.data)), [tasks.data]);
  return { run: head.data, rows, problem: head.problem || tasks.problem, reload: () => { head.reload(); tasks.reload(); } };
}

// -- actions ----------------------------------------------------------------------------------------------------------

/** Cancel a run; a second request ends its teardowns and hooks, too. */
const Cancel = ({ run }) => {
  const [asks, ask] = useState(false), [asked, set] = useState(0);
  const cancel = async () => {
    ask(false);
    const answer = await act(() => send("POST", `runs/${encode(run.run_id)}/cancel`),
      asked ? "The run ends at once, without its teardowns." : "The run was asked to end; its teardowns and hooks still run.");
    if (answer) set(asked + 1);
  };
  return html`<button type="button" class="danger" data-key="x" onClick=${() => ask(true)}>${asked ? "End at once" : "Cancel"}</button>
    ${asks && html`<${Dialog} title=${asked ? "End the run at once?" : "Cancel this run?"} onClose=${() => ask(false)}>
      <p>${asked ? "Its teardowns and hooks are stopped, too." : "Running tasks are stopped, the others do not start. Teardowns and hooks still run."}</p>
      <footer><button type="button" onClick=${() => ask(false)}>Keep running</button>
        <button type="button" class="danger" autofocus onClick=${cancel}>${asked ? "End at once" : "Cancel the run"}</button></footer><//>`}`;
};

const Resume = ({ run, rows }) => {
  const [asks, ask] = useState(false);
  const all = [...(rows?.values() || [])].filter(row => row.map_index == null && row.kind === "task");
  const kept = all.filter(row => row.status === "SUCCESS" || row.status === "SKIPPED");
  const again = all.filter(row => !kept.includes(row));
  const resume = async () => {
    ask(false);
    await act(() => send("POST", `runs/${encode(run.run_id)}/resume`), "The run continues.");
  };
  return html`<button type="button" class="primary" data-key="c" onClick=${() => ask(true)}>Resume…</button>
    ${asks && html`<${Dialog} title="Resume this run?" onClose=${() => ask(false)}>
      <p>${many(kept.length, "task")} ${kept.length === 1 ? "keeps its result" : "keep their results"}; ${many(again.length, "task")} ${again.length === 1 ? "runs" : "run"} again:</p>
      <ul class="names">${again.slice(0, 12).map(row => html`<li key=${row.task}><${State} state=${row.status} /> ${clean(row.task)}</li>`)}
        ${again.length > 12 && html`<li class="muted">and ${number(again.length - 12)} more</li>`}</ul>
      <footer><button type="button" onClick=${() => ask(false)}>Not now</button>
        <button type="button" class="primary" autofocus onClick=${resume}>Resume</button></footer><//>`}`;
};

const quote = text => /^[\w./:=@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

/** Return the line that starts the same run in a terminal. */
export const commandLine = run => ["lightflow", "run", run.source || run.workflow,
  ...Object.entries(run.params || {}).flatMap(([name, value]) =>
    ["-p", `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`])].map(quote).join(" ");

const Actions = ({ run, rows }) => html`<span class="actions">
  ${session.mayAct && run.status === "RUNNING" && html`<${Cancel} run=${run} />`}
  ${session.mayAct && run.resumable && !ACTIVE.has(run.status) && html`<${Resume} run=${run} rows=${rows} />`}
  <${Copy} text=${commandLine(run)} label="Copy command" /></span>`;

// -- the head ---------------------------------------------------------------------------------------------------------

const Head = ({ run, rows, picked, onPick }) => html`
  <div class="head run"><h1><a href=${href(["runs"], { workflow: run.workflow })}>${clean(run.workflow)}</a></h1><span class="id">${clean(run.run_id)}</span>
    <${State} state=${run.status} /><b class="num"><${Took} row=${run} /></b><span class="grow"></span><${Actions} run=${run} rows=${rows} /></div>
  <p class="facts"><span>started <${Ago} at=${run.started_at || run.created_at} /> ${clean(origin(run))}</span>
    ${run.logical_date && html`<span>for ${clean(run.logical_date)}</span>`}
    ${run.params && Object.keys(run.params).length > 0 && html`<span class="cut" title=${clean(paramText(run.params))}>${clean(paramText(run.params))}</span>`}
    ${run.selection && html`<span>only a part of its tasks</span>`}
    ${run.reason && html`<span class="reason">${clean(run.reason)}</span>`}</p>
  <p><${Tally} counts=${run.counts} onPick=${onPick} picked=${picked} /></p>`;

/** The first failures of a run with the end of their output: what a person wants to know first. */
const Failures = ({ run, rows, onSelect }) => {
  const failed = [...rows.values()].filter(row => row.status === "FAILED" && !(row.map_index == null && rows.has(rowKey(row.task, 0))));
  failed.sort((a, b) => (a.ended_at || "").localeCompare(b.ended_at || ""));
  if (!failed.length || run.status === "SUCCESS") return null;
  const [first] = failed;
  return html`<section class="failure" aria-label="First failure">
    <h2><${State} state=${first.status} /> <a href=${taskHref(run.run_id, first)}>${clean(instanceName(first))}</a>
      <span class="muted"> attempt ${first.attempt}</span><span class="reason"> ${clean(first.reason || "")}</span></h2>
    <${Tail} run=${run.run_id} row=${first} key=${`${instanceName(first)} ${first.attempt}`} />
    <p>${failed.slice(1, 6).map(row => html`<a class="button quiet" key=${instanceName(row)} href=${taskHref(run.run_id, row)}>✗ ${clean(instanceName(row))}</a> `)}
      ${failed.length > 6 && html`<span class="muted">and ${number(failed.length - 6)} more failures</span>`}</p></section>`;
};

// -- the table --------------------------------------------------------------------------------------------------------

/** Return the first and the last row to draw of a long table of rows of one height. */
export function useWindow(count, ref, height = ROW) {
  const [range, set] = useState([0, 60]);
  useLayoutEffect(() => {
    if (count <= 200) return undefined;
    const update = () => {
      const box = ref.current?.getBoundingClientRect();
      if (!box) return;
      const first = Math.max(0, Math.floor(-box.top / height) - 10), last = first + Math.ceil(innerHeight / height) + 20;
      set(old => old[0] === first && old[1] === last ? old : [first, last]);
    };
    update();
    addEventListener("scroll", update, { passive: true });
    addEventListener("resize", update);
    return () => { removeEventListener("scroll", update); removeEventListener("resize", update); };
  }, [count]);
  return count <= 200 ? [0, count] : [Math.min(range[0], Math.max(0, count - 1)), Math.min(range[1], count)];
}

const Table = ({ run, rows, state, text, selected, onSelect }) => {
  const [open, setOpen] = useState(new Set()), body = useRef();
  const lines = useMemo(() => {
    const instances = new Map(), tops = [], words = text.toLowerCase();
    for (const row of rows.values()) {
      if (row.map_index == null) tops.push(row);
      else instances.set(row.task, [...(instances.get(row.task) || []), row]);
    }
    const isShown = row => (!state || row.status === state) && (!words || `${instanceName(row)} ${row.map_key || ""}`.toLowerCase().includes(words));
    const list = [];
    for (const row of tops.sort((a, b) => rank(a.status) - rank(b.status))) {
      const children = instances.get(row.task), picks = children?.filter(isShown) || [];
      if (!isShown(row) && !picks.length) continue;
      list.push({ row, count: children?.length });
      if (children && (open.has(row.task) || (state || words) && picks.length < children.length))
        for (const child of picks.sort((a, b) => rank(a.status) - rank(b.status) || a.map_index - b.map_index)) list.push({ row: child, child: true });
    }
    return list;
  }, [rows, state, text, open]);
  const [first, last] = useWindow(lines.length, body);
  const toggle = task => setOpen(old => { const next = new Set(old); if (!next.delete(task)) next.add(task); return next; });
  const spacer = count => count > 0 && html`<tr aria-hidden="true" class="space"><td colspan="5"><i style=${{ height: `${count * ROW}px` }}></i></td></tr>`;
  return html`<table class="list tasks" aria-rowcount=${lines.length}><thead><tr><th>State</th><th>Task</th><th class="num wide">Attempt</th><th class="num">Took</th><th class="wide">Reason</th></tr></thead>
    <tbody ref=${body}>${spacer(first)}${lines.slice(first, last).map(({ row, count, child }) => {
      const name = instanceName(row);
      return html`<tr key=${name} data-row aria-selected=${selected === name} class=${`${selected === name ? "on" : ""}${child ? " child" : ""}`} onClick=${event => { if (!event.target.closest("a, button")) onSelect(name); }}>
        <td><${State} state=${row.status} /></td>
        <td class="name"><a href=${taskHref(run.run_id, row)}>${child ? clean(row.map_key || `[${row.map_index}]`) : clean(name)}</a>
          ${count && html`<button type="button" class="quiet fold" aria-expanded=${open.has(row.task)} onClick=${() => toggle(row.task)}>${open.has(row.task) ? "▾" : "▸"} ${number(count)} instances</button>`}
          ${row.kind !== "task" && html`<span class="muted kind">${clean(row.kind)}</span>`}</td>
        <td class="num wide">${row.attempt > 1 ? row.attempt : ""}</td><td class="num"><${Took} row=${row} /></td>
        <td class="wide muted cut" title=${clean(row.reason || "")}>${clean(row.reason || "")}</td></tr>`;
    })}${spacer(lines.length - last)}</tbody></table>
    ${!lines.length && html`<p class="muted">No task matches.</p>`}`;
};

// -- the page ---------------------------------------------------------------------------------------------------------

const Neighbours = ({ run }) => {
  const [around, set] = useState({});
  useEffect(() => {
    const abort = new AbortController();
    get(`workflows/${encode(run.workflow)}?runs=100`, { signal: abort.signal }).then(({ runs }) => {
      const at = runs.findIndex(each => each.run_id === run.run_id);
      if (at >= 0) set({ newer: runs[at - 1]?.run_id, older: runs[at + 1]?.run_id });
    }, () => {});
    return () => abort.abort();
  }, [run.run_id]);
  return html`<span class="actions">${around.older && html`<a class="button quiet" data-key="[" href=${href(["r", around.older])} title="previous run ([)">‹ previous</a>`}
    ${around.newer && html`<a class="button quiet" data-key="]" href=${href(["r", around.newer])} title="next run (])">next ›</a>`}</span>`;
};

export const TABS = [["table", "Table"]];

export default function Run({ id, tab = TABS[0][0], query }) {
  const { run, rows, problem, reload } = useRun(id);
  const [state, setState] = useState(query.state || null), [text, setText] = useState(""), [selected, select] = useState(query.task || null);
  const before = useRef();
  useEffect(() => {
    if (run && before.current && before.current !== run.status && !ACTIVE.has(run.status)) announce(`${run.workflow}: ${wordOf(run.status)}`);
    before.current = run?.status;
  }, [run?.status]);
  if (!run || !rows) return problem ? html`<${Failure} problem=${problem} retry=${reload} /><p><a href=${href(["runs"])}>All runs</a></p>` : html`<${Waiting} />`;
  const chosen = selected && rows.get(selected);
  const failures = [...rows.values()].filter(row => row.status === "FAILED");
  const nextFailure = () => {
    const at = failures.findIndex(row => instanceName(row) === selected);
    const row = failures[(at + 1) % failures.length];
    select(instanceName(row));
    announce(`${instanceName(row)} failed`);
  };
  return html`<${Failure} problem=${problem} retry=${reload} />
    ${run.deleted && html`<p class="problem">This run was deleted. <a href=${href(["runs"])}>All runs</a></p>`}
    <${Head} run=${run} rows=${rows} picked=${state} onPick=${setState} />
    <${Failures} run=${run} rows=${rows} onSelect=${select} />
    <div class="bar"><nav class="tabs" aria-label="Views of the run">${TABS.map(([name, label]) => html`<a key=${name} href=${href(["r", id, name])} aria-current=${tab === name ? "page" : undefined}>${label}</a>`)}</nav>
      <input type="search" data-filter placeholder="Filter tasks  /" aria-label="Filter tasks" value=${text} onInput=${event => setText(event.target.value)} />
      ${failures.length > 0 && html`<button type="button" class="quiet" data-key="e" onClick=${nextFailure}>Next failure</button>`}
      <span class="grow"></span><${Neighbours} run=${run} /></div>
    <div class=${chosen ? "split" : ""}><div><${Table} run=${run} rows=${rows} state=${state} text=${text} selected=${selected} onSelect=${name => select(name === selected ? null : name)} /></div>
      ${chosen && html`<${TaskPanel} run=${run} row=${chosen} key=${selected} onClose=${() => select(null)} />`}</div>`;
}
