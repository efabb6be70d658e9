// A run: its head, its failures, and its tasks as a table; the panel of the selected task beside it.

import {
  html, useLive, useState, useEffect, useMemo, useRef, useLayoutEffect, get, href, go, taskHref, State, Took, Ago,
  Tally, Failure, useWindow, Space, keyed, Waiting, announce, clean, wordOf, rowsOf, instanceName, number, size, clock,
  moment, ZONE, ACTIVE, encode,
} from "./kit.js";
import { origin, paramText } from "./runs.js";
import { GanttView } from "./gantt.js";
import { GraphView } from "./graph.js";
import { RunActions } from "./actions.js";
import { TaskPanel, Tail, Values } from "./task.js";

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

// -- the head ---------------------------------------------------------------------------------------------------------

const Head = ({ run, rows, picked, onPick }) => html`
  <div class="head run"><h1><a href=${href(["w", run.workflow])}>${clean(run.workflow)}</a></h1><span class="id">${clean(run.run_id)}</span>
    <${State} state=${run.status} /><b class="num"><${Took} row=${run} /></b><span class="grow"></span><${RunActions} run=${run} /></div>
  <p class="facts"><span>started <${Ago} at=${run.started_at || run.created_at} /> ${clean(origin(run))}</span>
    ${run.logical_date && html`<span>for ${clean(run.logical_date)}</span>`}
    ${run.params && Object.keys(run.params).length > 0 && html`<span class="cut" title=${clean(paramText(run.params))}>${clean(paramText(run.params))}</span>`}
    ${run.parent && html`<span>child of <a href=${taskHref(run.parent.run_id, run.parent)}>${clean(instanceName(run.parent))}</a> of ${clean(run.parent.run_id)}</span>`}
    ${run.origin && html`<span>fork of <a href=${href(["r", run.origin])}>${clean(run.origin)}</a></span>`}
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

/** Return a mapped task with the time from the first start to the last end of its instances, and their attempts. */
function spanned(row, children) {
  if (row.started_at) return row;
  const starts = children.map(child => child.started_at).filter(Boolean).sort();
  const ends = children.map(child => child.ended_at).filter(Boolean).sort();
  const attempt = children.reduce((sum, child) => sum + (child.attempt || 0), 0);
  return { ...row, attempt, started_at: starts[0] ?? null, ended_at: row.status === "RUNNING" ? null : ends.at(-1) ?? null };
}

const Table = ({ run, rows, state, text, selected, onSelect }) => {
  const [open, setOpen] = useState(new Set()), body = useRef();
  const lines = useMemo(() => {
    const instances = new Map(), tops = [], words = text.toLowerCase();
    for (const row of rows.values()) {
      if (row.map_index == null) tops.push(row);
      else if (instances.has(row.task)) instances.get(row.task).push(row);
      else instances.set(row.task, [row]);
    }
    const isShown = row => (!state || row.status === state) && (!words || `${instanceName(row)} ${row.map_key || ""}`.toLowerCase().includes(words));
    const list = [];
    for (const row of tops.sort((a, b) => rank(a.status) - rank(b.status))) {
      const children = instances.get(row.task), picks = children?.filter(isShown) || [];
      if (!isShown(row) && !picks.length) continue;
      list.push({ row: children ? spanned(row, children) : row, count: children?.length });
      if (children && (open.has(row.task) || (state || words) && picks.length < children.length))
        for (const child of picks.sort((a, b) => rank(a.status) - rank(b.status) || a.map_index - b.map_index)) list.push({ row: child, child: true });
    }
    return list;
  }, [rows, state, text, open]);
  const [first, last] = useWindow(lines.length, body);
  const toggle = task => setOpen(old => { const next = new Set(old); if (!next.delete(task)) next.add(task); return next; });
  return html`<table class="list tasks" aria-rowcount=${lines.length}><thead><tr><th>State</th><th>Task</th><th class="num wide">Attempts</th><th class="num">Duration</th><th class="wide">Why</th></tr></thead>
    <tbody ref=${body}><${Space} count=${first} />${lines.slice(first, last).map(({ row, count, child }) => {
      const name = instanceName(row);
      return html`<tr key=${name} data-row aria-selected=${selected === name} class=${`${selected === name ? "on" : ""}${child ? " child" : ""}`} onClick=${event => { if (!event.target.closest("a, button")) onSelect(name); }}>
        <td><${State} state=${row.status} /></td>
        <td class="name"><a href=${taskHref(run.run_id, row)}>${child ? clean(row.map_key || `[${row.map_index}]`) : clean(name)}</a>
          ${count && html`<button type="button" class="quiet fold" aria-expanded=${open.has(row.task)} onClick=${() => toggle(row.task)}>${open.has(row.task) ? "▾" : "▸"} ${number(count)} instances</button>`}
          ${row.kind !== "task" && html`<span class="muted kind">${clean(row.kind)}</span>`}</td>
        <td class="num wide">${row.attempt ? number(row.attempt) : ""}</td><td class="num"><${Took} row=${row} /></td>
        <td class="wide muted cut" title=${clean(row.reason || "")}>${clean(row.reason || "")}</td></tr>`;
    })}<${Space} count=${lines.length - last} /></tbody></table>
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
  return html`<span class="actions">${around.older && html`<a class="button quiet" ...${keyed("older")} href=${href(["r", around.older])}>‹ previous</a>`}
    ${around.newer && html`<a class="button quiet" ...${keyed("newer")} href=${href(["r", around.newer])}>next ›</a>`}</span>`;
};

/** The changes of state of a run, a page at a time. */
const Events = ({ run, id }) => {
  const [pages, set] = useState([]), [problem, setProblem] = useState(null), end = useRef(null);
  const read = async (signal = undefined) => {
    try {
      const answer = await get(`runs/${encode(id)}/events?limit=500${end.current ? `&after=${end.current}` : ""}`, { signal });
      if (answer.events.length) { end.current = answer.after; set(old => [...old, answer]); }
    } catch (error) { if (error.name !== "AbortError") setProblem(error); }
  };
  const state = `${run.status} ${JSON.stringify(run.counts)}`;
  useEffect(() => { const abort = new AbortController(); if (pages.length < 4) read(abort.signal); return () => abort.abort(); }, [state]);
  const events = pages.flatMap(page => page.events), full = pages.at(-1)?.events.length === 500;
  return html`<${Failure} problem=${problem} /><table class="list"><thead><tr><th>Time</th><th>Task</th><th>State</th><th class="wide">Why</th></tr></thead>
    <tbody>${events.map(each => html`<tr key=${each.seq} data-row><td class="when"><time dateTime=${each.at} title=${`${moment(each.at)} ${ZONE}`}>${clockMs(each.at)}</time></td>
      <td class="name">${each.task ? html`<a href=${taskHref(id, each)}>${clean(instanceName(each))}</a>` : html`<span class="muted">the run</span>`}</td>
      <td>${each.previous && html`<${State} state=${each.previous} small /> → `}<${State} state=${each.status} /></td><td class="wide muted">${clean(each.reason || "")}</td></tr>`)}</tbody></table>
    ${full && html`<p><button type="button" ...${keyed("more")} onClick=${() => read()}>More events</button></p>`}`;
};

const clockMs = iso => `${clock(new Date(iso))}.${iso.slice(20, 23)}`;

const RUN_TABS = [["graph", "Graph"], ["table", "Table"], ["gantt", "Gantt"], ["events", "Events"], ["values", "Values"]];

export function Run({ id, tab = RUN_TABS[0][0], query }) {
  const { run, rows, problem, reload } = useRun(id);
  const [state, setState] = useState(query.state || null), [text, setText] = useState(""), [selected, select] = useState(query.task || null);
  useEffect(() => { if (query.task) select(query.task); }, [query.task]);
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
  const pick = name => select(name === selected ? null : name);
  const filter = picked => { setState(picked); if (picked && tab !== "table") go(href(["r", id, "table"])); };
  const table = () => html`<${Table} run=${run} rows=${rows} state=${state} text=${text} selected=${selected} onSelect=${pick} />`;
  const view = () => {
    if (tab === "graph") return html`<${GraphView} path=${`runs/${encode(id)}`} rows=${rows} graph=${run.graph} selected=${selected} onSelect=${pick} fallback=${table()} />`;
    if (tab === "gantt") return html`<${GanttView} path=${`runs/${encode(id)}`} rows=${rows} run=${run} selected=${selected} onSelect=${pick} />`;
    if (tab === "events") return html`<${Events} run=${run} id=${id} />`;
    if (tab === "values") return html`<${Values} id=${id} state=${run.status} />`;
    return table();
  };
  return html`<${Failure} problem=${problem} retry=${reload} />
    ${run.deleted && html`<p class="problem">This run was deleted. <a href=${href(["runs"])}>All runs</a></p>`}
    <${Head} run=${run} rows=${rows} picked=${state} onPick=${filter} />
    <${Failures} run=${run} rows=${rows} onSelect=${select} />
    <div class="bar"><nav class="tabs" aria-label="Views of the run">${RUN_TABS.map(([name, label]) => html`<a key=${name} href=${href(["r", id, name])} aria-current=${tab === name ? "page" : undefined}>${label}</a>`)}</nav>
      ${tab === "table" && html`<input type="search" data-filter placeholder="Filter tasks  /" aria-label="Filter tasks" value=${text} onInput=${event => setText(event.target.value)} />`}
      ${failures.length > 0 && html`<button type="button" class="quiet" ...${keyed("failure")} onClick=${nextFailure}>Next failure</button>`}
      <span class="grow"></span><${Neighbours} run=${run} /></div>
    <div class=${chosen ? "split" : ""}><div>${view()}</div>
      ${chosen && html`<${TaskPanel} run=${run} row=${chosen} key=${selected} onClose=${() => select(null)} />`}</div>`;
}
