// A run: its head, its failures, and its tasks as a table; the panel of the selected task beside it.

import {
  html, useLive, useState, useEffect, useMemo, useRef, get, href, go, taskHref, State, Took, Ago, Tally, Failure, Rows, Asks, byName, keyed, Waiting,
  announce, wordOf, rowsOf, instanceName, number, many, clock, moment, ZONE, ACTIVE, rank, encode, spanned, total,
} from "./kit.js";
import { origin, paramText } from "./runs.js";
import { Fold, Folding, treeOf, useFolds, useGroups } from "./folds.js";
import { GanttView } from "./gantt.js";
import { GraphView } from "./graph.js";
import { RunActions } from "./actions.js";
import { TaskPanel, Tail, Values } from "./task.js";

/** Return the rows of an answer, by their names. */
const tableOf = answer => new Map(rowsOf(answer).map(row => [instanceName(row), row]));

function applyTasks(data, frame) {
  if (!frame.tasks) return data;
  const table = new Map(data.table || tableOf(data));
  for (const row of rowsOf(frame.tasks)) table.set(instanceName(row), row);
  for (const [task, index] of frame.removed || []) table.delete(instanceName({ task, map_index: index }));
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

const Head = ({ run, picked, onPick }) => html`
  <div class="head run"><h1><a href=${href(["w", run.workflow])}>${run.workflow}</a></h1><span class="id">${run.run_id}</span>
    <${State} state=${run.status} /><${Asks} run=${run} /><b class="num"><${Took} row=${run} /></b><span class="grow"></span><${RunActions} run=${run} /></div>
  <p class="facts"><span>started <${Ago} at=${run.started_at || run.created_at} /> ${origin(run)}</span>
    ${run.request && html`<span>${`${run.request.action} by ${run.request.requested_by}`} <${Ago} at=${run.request.at} /></span>`}
    ${run.logical_date && html`<span>for ${run.logical_date}</span>`}
    ${run.params && Object.keys(run.params).length > 0 && html`<span class="cut" title=${paramText(run.params)}>${paramText(run.params)}</span>`}
    ${run.parent && html`<span>child run of task <a href=${taskHref(run.parent.run_id, run.parent)}>${instanceName(run.parent)}</a> of ${run.parent.run_id}</span>`}
    ${run.origin && html`<span>fork of <a href=${href(["r", run.origin])}>${run.origin}</a></span>`}
    ${run.selection && html`<span>only a part of its tasks</span>`}
    ${run.reason && html`<span class="reason">${run.reason}</span>`}</p>
  <p><${Tally} counts=${run.counts} onPick=${onPick} picked=${picked} /></p>`;

/** The first failures of a run with the end of their output: what a person wants to know first. */
const Failures = ({ run, rows }) => {
  const failed = [...rows.values()].filter(row => row.status === "FAILED" && (row.map_index != null || !rows.has(`${row.task}[0]`)));
  failed.sort((a, b) => a.tolerated - b.tolerated || (a.ended_at || "").localeCompare(b.ended_at || ""));
  if (!failed.length || run.status === "SUCCESS") return null;
  const [first] = failed, others = [...Map.groupBy(failed, row => row.task).values()].filter(rows => rows.length > 1 || rows[0] !== first);
  return html`<section class="failure" aria-label="First failure">
    <h2><${State} state=${first.status} /> <a href=${taskHref(run.run_id, first)}>${instanceName(first)}</a>
      <span class="muted"> attempt ${number(first.attempt)}</span><span class="reason"> ${first.reason || ""}</span></h2>
    <${Tail} run=${run.run_id} row=${first} key=${`${instanceName(first)} ${first.attempt}`} />
    <p>${others.slice(0, 5).map(([{ task, map_index }, ...more]) => html`<a class="button quiet" key=${task} href=${taskHref(run.run_id, { task, map_index: more.length ? null : map_index })}>✗ ${more.length ? `${task} ×${number(more.length + 1)}` : instanceName({ task, map_index })}</a> `)}
      ${others.length > 5 && html`<span class="muted">and ${many(others.length - 5, "more task")}</span>`}</p></section>`;
};

// -- the table --------------------------------------------------------------------------------------------------------

const panelRow = (rows, row) => row && !row.started_at && row.map_index == null
  ? spanned(row, [...rows.values()].filter(each => each.task === row.task)) : row;

/** Return the lines of the table: nodes with `depth`, in the order of their states and of `names`; a group has a row of its own. */
function linesOf(rows, names, groups, folds, state, words) {
  const nodes = names.map(name => rows.get(name)).map(row => ({ name: instanceName(row), row, status: row.status })), lines = [];
  const instances = Map.groupBy(nodes, ({ row }) => row.map_index == null ? null : row.task), tasks = instances.get(null) || [];
  for (const node of tasks) node.children = instances.get(node.name);
  /** Give a node its row, and what is shown of what is in it; return whether it is shown. */
  const isShown = node => {
    const { children, name, status } = node, row = node.row ||= { task: name, status, kind: "group", map_index: null };
    const inside = node.inside = children?.filter(isShown);
    if (children && !row.started_at) {
      const rows = children.map(child => child.row);
      node.row = Object.assign(spanned(row, rows), { attempt: rows.reduce((sum, each) => sum + (each.attempt || 0), 0) });
    }
    node.isPart = inside && (inside.length < children.length || inside.some(each => each.isPart));
    node.isOpen ||= inside?.length > 0 && node.isPart;
    return inside?.length > 0 || (!state || row.status === state) && (!words || `${name} ${row.map_key || ""}`.toLowerCase().includes(words));
  };
  const add = (nodes, depth) => {
    for (const node of nodes.sort((a, b) => rank(a.row.status) - rank(b.row.status))) {
      lines.push({ ...node, depth });
      if (node.isOpen && node.inside) add(node.inside, depth + 1);
    }
  };
  add(treeOf(tasks, groups, folds).filter(isShown), 0);
  return lines;
}

const Table = ({ run, rows, state, text, selected, onSelect }) => {
  const folds = useFolds(), groups = useGroups(run.run_id, run.graph), canFold = groups?.length > 0;
  const names = useRef([]); // sorting takes too long for each change of a state
  const lines = useMemo(() => {
    if (names.current.length !== rows.size || !names.current.every(name => rows.has(name))) names.current = [...rows.keys()].sort(byName);
    return linesOf(rows, names.current, groups || [], folds, state, text.toLowerCase());
  }, [rows, groups, state, text, folds.fold, `${folds.toggled}`]);
  if (!groups) return html`<${Waiting} />`;
  return html`${canFold && html`<${Folding} folds=${folds} />`}<table class="list tasks" aria-rowcount=${lines.length}><thead><tr><th>State</th><th>Task</th><th class="num wide">Attempts</th><th class="num">Duration</th><th class="wide">Why</th></tr></thead>
    <${Rows} items=${lines} row=${node => {
      const { name, row, children, counts, depth } = node;
      return html`<tr key=${name} data-row aria-selected=${selected === name} class=${selected === name ? "on" : ""} onClick=${event => { if (!event.target.closest("a, button")) (counts ? folds.toggle : onSelect)(name); }}>
        <td><${State} state=${row.status} /></td>
        <td class="name" style=${depth > 0 && { paddingLeft: `${24 * depth}px` }}><a href=${taskHref(run.run_id, row)}>${row.map_index == null ? name : row.map_key || `[${row.map_index}]`}</a>
          ${children && html`<${Fold} node=${node} folds=${folds}>${counts ? many(total(counts), "task") : many(children.length, "instance")}<//>`}
          ${counts ? html`<${Tally} counts=${counts} />` : row.kind !== "task" && html`<span class="muted kind">${row.kind}</span>`}</td>
        <td class="num wide">${row.attempt ? number(row.attempt) : ""}</td><td class="num"><${Took} row=${row} /></td>
        <td class="wide muted cut" title=${row.reason || ""}>${row.reason || ""}</td></tr>`;
    }} /></table>
    ${!lines.length && html`<p class="muted">No task matches.</p>`}`;
};

// -- the page ---------------------------------------------------------------------------------------------------------

const Neighbours = ({ run }) => {
  const runs = useLive(`workflows/${encode(run.workflow)}?runs=100`).data?.runs || [], at = runs.findIndex(each => each.run_id === run.run_id);
  const link = (to, action, text) => at >= 0 && to && html`<a class="button quiet" ...${keyed(action)} href=${href(["r", to.run_id])}>${text}</a>`;
  return html`<span class="actions">${link(runs[at + 1], "older", "‹ previous")}${link(runs[at - 1], "newer", "next ›")}</span>`;
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
      <td class="name">${each.task ? html`<a href=${taskHref(id, each)}>${instanceName(each)}</a>` : html`<span class="muted">the run</span>`}</td>
      <td>${each.previous && html`<${State} state=${each.previous} small /> → `}<${State} state=${each.status} /></td><td class="wide muted">${each.reason || ""}</td></tr>`)}</tbody></table>
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
  const chosen = selected && panelRow(rows, rows.get(selected));
  const failures = [...rows.values()].filter(row => row.status === "FAILED");
  const nextFailure = () => {
    const at = failures.findIndex(row => instanceName(row) === selected);
    const row = failures[(at + 1) % failures.length];
    select(instanceName(row));
    announce(`${instanceName(row)} failed`);
  };
  const folds = { fold: query.fold, toggled: query.toggled };
  const pick = name => select(name === selected ? null : name);
  const filter = picked => { setState(picked); if (picked && tab !== "table") go(href(["r", id, "table"], folds)); };
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
    <${Head} run=${run} picked=${state} onPick=${filter} />
    <${Failures} run=${run} rows=${rows} />
    <div class="bar"><nav class="tabs" aria-label="Views of the run">${RUN_TABS.map(([name, label]) => html`<a key=${name} href=${href(["r", id, name], folds)} aria-current=${tab === name ? "page" : undefined}>${label}</a>`)}</nav>
      ${tab === "table" && html`<input type="search" data-filter placeholder="Filter tasks  /" aria-label="Filter tasks" value=${text} onInput=${event => setText(event.target.value)} />`}
      ${failures.length > 0 && html`<button type="button" class="quiet" ...${keyed("failure")} onClick=${nextFailure}>Next failure</button>`}
      <span class="grow"></span><${Neighbours} run=${run} /></div>
    <div class=${chosen ? "split" : ""}><div>${view()}</div>
      ${chosen && html`<${TaskPanel} run=${run} row=${chosen} key=${selected} onClose=${() => select(null)} />`}</div>`;
}
