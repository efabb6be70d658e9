// The grid of a workflow: a row for each task, a column for each of its last runs, and the durations of the runs.

import { html, useState, useMemo, useRef, shorten, duration, look, wordOf, moment, number, many, keyed, runText, combined, useWindow, Space, onKeys, longest } from "./kit.js";
import { Fold, Folding, NO_GROUPS, treeOf, useFolds } from "./folds.js";
import { tallyText } from "./graph.js";

const GRID_ROW = 22; // pixels

// -- pure -------------------------------------------------------------------------------------------------------------

/** Return the labels of the columns: the day, where it differs from that of the column before and has room. */
export function dayLabels(runs) {
  let before = null, free = 0;
  return runs.map((run, column) => {
    const day = moment(run.started_at).slice(0, 6); // such as Fri 27
    if (!day || day === before || column < free) return "";
    before = day;
    free = column + 3;
    return day;
  });
}

/** Return the place that a key leads to; null for another key. Row −1 is that of the runs. */
export function moved([row, column], key, rows, columns) {
  const last = [rows - 1, columns - 1];
  const to = {
    ArrowDown: [row + 1, column], ArrowUp: [row - 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
    Home: [row, 0], End: [row, last[1]], PageDown: [row + 15, column], PageUp: [row - 15, column],
  }[key];
  return to && [Math.min(last[0], Math.max(-1, to[0])), Math.min(last[1], Math.max(0, to[1]))];
}

/** Return the next cell that failed, column by column from the newest run back. */
export function nextFailure([row, column], cells, rows) {
  const columns = cells.length, size = rows * columns;
  const place = (columns - 1 - column) * rows + Math.max(row, -1);
  for (let step = 1; step <= size; step++) {
    const at = (place + step + size) % size, run = columns - 1 - Math.floor(at / rows);
    if (cells[run][at % rows] === "FAILED") return [at % rows, run];
  }
  return null;
}

// -- the grid ---------------------------------------------------------------------------------------------------------

const times = new WeakMap(); // of runs: a time takes longer to format than a cell to draw

function timeOf(run) {
  if (!times.has(run)) times.set(run, moment(run.started_at, { seconds: false }) || "not started");
  return times.get(run);
}

/** A row; it is drawn again only where `stamp` differs, which has all that it shows. */
function GridRow({ node, at, runs, states, focus, note, isCritical, folds }) {
  this.shouldComponentUpdate ??= next => next.stamp !== this.props.stamp;
  const name = node.name, text = shorten(name.slice(node.from), 48);
  return html`<tr data-task=${at} role="row" aria-rowindex=${at + 2}><th scope="row" title=${name} style=${node.depth > 0 && { paddingLeft: `${16 * node.depth}px` }}>${node.children ? html`<${Fold} node=${node} folds=${folds} tabindex="-1">${text}<//>` : text}${isCritical && html` <b class="mark" title="on the critical path of the newest run">▵</b>`}</th>${
    runs.map((run, column) => html`<td key=${run.run_id} role="gridcell" class="cell" data-state=${states[column] || "NONE"} data-column=${column} tabindex=${focus === column ? 0 : -1}
      aria-label=${`${name}, ${timeOf(run)}, ${wordOf(states[column])}`}>${states[column] == null ? null : look(states[column])[0]}</td>`)
  }<td class="median muted">${note}</td></tr>`;
}

/** Return the rows of the grid, `{name, from, places, depth}`; what its group has of a name ends at `from`. A group that is folded has the places of its tasks. */
function gridRows(tasks, cells, groups, folds) {
  const rows = [];
  const placesOf = ({ place, children }) => children ? children.flatMap(placesOf) : [place];
  const add = (nodes, depth, group) => {
    for (const node of nodes) {
      rows.push({ ...node, depth, from: node.name.startsWith(group) ? group.length : 0, places: placesOf(node) });
      if (node.isOpen) add(node.children, depth + 1, `${node.name}.`);
    }
  };
  add(treeOf(tasks.map((name, place) => ({ name, place, status: cells.at(-1)?.[place] })), groups, folds), 0, "");
  return rows;
}

/** Return the state of tasks in a run together. */
function stateAt(places, run) {
  if (places.length === 1) return run[places[0]] ?? null;
  const counts = {};
  for (const place of places) if (run[place]) counts[run[place]] = true;
  return combined(counts);
}

/**
 * The grid.
 *
 * runs: the oldest first, `{run_id, status, started_at, duration_s}`. tasks: their ids. cells: for each run the states of
 * the tasks; null where a run has no such task. medians: by task `{median_s, p95_s}`. failures: by task in how many runs of
 * 30 days it failed. critical: the tasks of the critical path of the newest run. groups: those of that run. onSelect(run_id, task): opens a cell; task is null for a run.
 */
export const Grid = ({ runs, tasks: names, cells: states, medians = new Map(), failures = new Map(), critical = NO_GROUPS, groups = NO_GROUPS, onSelect }) => {
  const folds = useFolds();
  const tasks = useMemo(() => gridRows(names, states, groups, folds), [names, states, groups, folds.fold, `${folds.toggled}`]);
  const cells = useMemo(() => groups.length ? states.map(run => tasks.map(({ places }) => stateAt(places, run))) : states, [tasks, states]);
  const body = useRef(), table = useRef(), [chosen, setFocus] = useState([0, null]);
  const focus = [Math.min(chosen[0], tasks.length - 1), Math.min(chosen[1] ?? Infinity, runs.length - 1)]; // the newest run at first
  const on = useMemo(() => new Set(critical.map(name => names.indexOf(name))), [critical, names]), days = useMemo(() => dayLabels(runs), [runs]);
  const most = longest(runs);
  const [first, last, height] = useWindow(tasks.length, body, GRID_ROW);
  const runKey = runs.map(run => run.run_id).join();
  const focusAt = ([row, column]) => {
    setFocus([row, column]);
    if (row < first || row >= last) scrollTo(0, scrollY + body.current.getBoundingClientRect().top + row * height - innerHeight / 2);
    const cell = () => table.current?.querySelector(row < 0 ? `[data-run="${column}"]` : `[data-task="${row}"] [data-column="${column}"]`);
    if (cell()) cell().focus();
    else requestAnimationFrame(() => requestAnimationFrame(() => cell()?.focus()));
  };
  const place = target => {
    const cell = target.closest?.("[data-column], [data-run]");
    if (!cell) return null;
    return cell.dataset.run != null ? [-1, Number(cell.dataset.run)] : [Number(cell.parentNode.dataset.task), Number(cell.dataset.column)];
  };
  const open = ([row, column]) => tasks[row]?.children ? folds.toggle(tasks[row].name) : onSelect?.(runs[column].run_id, tasks[row]?.name ?? null);
  const onKey = onKeys(event => {
    const from = place(event.target);
    if (!from) return false;
    const to = moved(from, event.key, tasks.length, runs.length) || (event.key === "e" ? nextFailure(from, cells, tasks.length) : null);
    if (to) focusAt(to);
    else if (event.key === "Enter" || event.key === " ") open(from);
    else return false;
    return true;
  });
  const onClick = event => { const at = place(event.target); if (at) open(at); };
  const rows = [];
  for (let at = first; at < last; at++) {
    const node = tasks[at], shown = cells.map(run => run[at] ?? null), median = medians.get(node.name);
    const focused = focus[0] === at ? focus[1] : -1, isCritical = node.places.some(place => on.has(place)), failed = failures.get(node.name);
    const note = node.children ? tallyText(null, node.counts) || many(node.places.length, "task")
      : [median?.median_s != null && `median ${duration(median.median_s)} · p95 ${duration(median.p95_s)}`, failed > 0 && `${many(failed, "failure")} in 30 days`].filter(Boolean).join(" · ");
    const stamp = `${runKey} ${at} ${shown.join()} ${focused} ${note} ${isCritical} ${node.isOpen} ${folds.fold} ${folds.toggled}`;
    rows.push(html`<${GridRow} key=${node.name} ...${{ node, at, runs, states: shown, focus: focused, note, isCritical, folds, stamp }} />`);
  }
  if (!runs.length) return html`<p class="muted">It has not run yet.</p>`;
  const failed = nextFailure([-1, runs.length - 1], cells, tasks.length);
  return html`${groups.length > 0 && html`<${Folding} folds=${folds} />`}<div class="grid"><table ref=${table} role="grid" aria-label="Tasks of the last runs" aria-rowcount=${tasks.length + 1} aria-colcount=${runs.length + 1} onKeyDown=${onKey} onClick=${onClick}
      onFocusIn=${event => { const at = place(event.target); if (at) setFocus(old => old[0] === at[0] && old[1] === at[1] ? old : at); }}>
    <thead><tr class="days"><td></td>${days.map((day, column) => html`<td key=${runs[column].run_id}><span>${day || null}</span></td>`)}<td></td></tr>
      <tr role="row"><th scope="row" class="muted">duration, up to ${duration(most)}</th>${runs.map((run, column) => html`<td key=${run.run_id} role="gridcell" class="run" data-run=${column} data-state=${run.status} tabindex=${focus[0] === -1 && focus[1] === column ? 0 : -1}
        title=${runText(run)} aria-label=${`run: ${runText(run)}`}>
        <i style=${{ height: `${3 + 37 * (run.duration_s || 0) / most}px` }}></i></td>`)}<td></td></tr></thead>
    <tbody ref=${body}><${Space} count=${first} height=${height} />${rows}<${Space} count=${tasks.length - last} height=${height} /></tbody></table>
    <p class="muted hint">The newest run is at the right. Arrow keys move, Enter opens, e finds the next failure.${on.size > 0 && " ▵ is on the critical path of the newest run."}
      ${failed && html` <button type="button" class="quiet" ...${keyed("failure")} onClick=${() => focusAt(nextFailure(focus[0] < 0 ? [-1, runs.length - 1] : focus, cells, tasks.length))}>Next failure</button>`}</p></div>`;
};

/**
 * How long a task took in the last runs.
 *
 * points: the oldest first, `{run_id, status, started_at, duration_s}`; the duration is null where it did not end. median, p95: in
 * seconds. onSelect(run_id).
 */
export const Durations = ({ points, median, p95, onSelect, label = "Durations in the last runs" }) => {
  const most = longest(points);
  if (median == null) return html`<p class="muted">It has not succeeded yet.</p>`;
  return html`<figure class="durations" aria-label=${label}><div class="plot"><span class="line" style=${{ bottom: `${100 * median / most}%` }}></span>
      ${points.map(point => html`<button type="button" key=${point.run_id} class="bar" data-state=${point.status || "NONE"} onClick=${() => onSelect?.(point.run_id)}
        title=${runText(point)} aria-label=${runText(point)}>
        <i style=${{ height: `${point.duration_s == null ? 3 : Math.max(2, 100 * point.duration_s / most)}%` }}></i></button>`)}</div>
    <figcaption class="muted">last ${number(points.length)} runs · median ${duration(median)} · p95 ${duration(p95)} · longest ${duration(most)}</figcaption></figure>`;
};
