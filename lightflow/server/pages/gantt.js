// The Gantt chart of a run: a bar for each attempt, a thin line where it waited, the critical path marked.

import {
  html, useState, useMemo, useRef, useLive, useReread, rowsOf, shorten, number, many, duration, look, wordOf, clock,
  instanceName, useNow, Failure, Unread, ACTIVE, keyed, onKeys, useResize, greatest,
} from "./kit.js";

const GANTT_ROW = 26; // pixels
const NARROW = 3; // pixels of the smallest bar

// -- rows, pure -------------------------------------------------------------------------------------------------------

const at = iso => iso == null ? null : Date.parse(iso);

/**
 * Return the rows of the chart, in the order of their starts: `{name, task, row, depth, count, ready, bars}` with bars
 * `{attempt, status, start, end}` in milliseconds; `end` is null while it runs. A mapped task has one row from the first
 * start to the last end of its instances, and those of its instances where it is open.
 *
 * attempts: rows of `…/attempts`. upstream: the direct upstreams by task. since: when the run started.
 */
export function ganttRows(rows, attempts, upstream, since, open = new Set()) {
  const bars = Map.groupBy(attempts.map(each => ({ name: instanceName(each), attempt: each.attempt, status: each.status, start: at(each.started_at), end: at(each.ended_at) })), bar => bar.name);
  const tasks = Map.groupBy([...rows].filter(row => row.kind === "task"), row => row.task);
  const ends = new Map([...tasks].map(([task, all]) => [task, greatest(all.map(row => at(row.ended_at) || 0))]));
  /** Return a row as a list: an empty one where nothing has started. Attempts before the first bar may be left out. */
  const rowOf = (row, own, ready, depth, count) => own?.length
    ? [{ name: instanceName(row), task: row.task, row, depth, count, ready: own[0].attempt > 1 ? own[0].start : Math.min(ready, own[0].start), bars: own }] : [];
  const byStart = ([a], [b]) => a.bars[0].start - b.bars[0].start || (a.name < b.name ? -1 : 1);
  return [...tasks].map(([task, all]) => {
    const top = all.find(row => row.map_index == null), inside = all.filter(row => row !== top);
    const parts = inside.flatMap(row => bars.get(instanceName(row)) || []);
    const [start] = [...parts.map(bar => bar.start), ...inside.map(row => at(row.started_at))].filter(Boolean).sort((a, b) => a - b);
    const whole = parts.slice(0, 1).map(() => ({ attempt: null, status: top.status, start, end: parts.some(bar => bar.end == null) ? null : greatest(parts.map(bar => bar.end)) }));
    const ready = greatest((upstream.get(task) || []).map(above => ends.get(above) || 0), since);
    const [first] = rowOf(top, inside.length ? whole : bars.get(task), ready, 0, inside.length);
    const below = first && open.has(task) ? inside.map(row => rowOf(row, bars.get(instanceName(row)), first.ready, 1, 0)).filter(each => each.length).sort(byStart) : [];
    return first ? [first, ...below.flat()] : [];
  }).filter(each => each.length).sort(byStart).flat();
}

/** Return the first start and the last end of all rows; of what runs, the present. */
export function spanOf(rows, now) {
  let start = Infinity, end = -Infinity;
  for (const { ready, bars } of rows) {
    start = Math.min(start, ready);
    for (const bar of bars) end = Math.max(end, bar.end ?? now);
  }
  return start <= end ? [start, Math.max(end, start + 1)] : [now - 1000, now];
}

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

/** Return the seconds after the start at which the axis has a line: at most `most`, at round distances. */
export function ticksOf(seconds, most) {
  const step = STEPS.find(each => seconds / each <= most) || STEPS.at(-1) * Math.ceil(seconds / STEPS.at(-1) / most);
  return Array.from({ length: Math.floor(seconds / step + 1e-9) + 1 }, (_, count) => Number((count * step).toFixed(3)));
}

/** Return a text for a line of the axis: 0, 250 ms, 12 s, 3 min, 2 h 30. */
export function tickText(seconds) {
  if (!seconds) return "0";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${Number(seconds.toFixed(1))} s`;
  const rest = Math.round(seconds % 60), minutes = Math.floor(seconds / 60);
  if (minutes < 60) return rest ? `${minutes} min ${rest}` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${String(minutes % 60).padStart(2, "0")}` : `${hours} h`;
  return `${Math.floor(hours / 24)} d${hours % 24 ? ` ${hours % 24} h` : ""}`;
}

// -- the chart --------------------------------------------------------------------------------------------------------

const title = (row, bar, now) => [
  row.name, bar.attempt != null && `attempt ${bar.attempt}${row.bars.length > 1 ? ` of ${row.bars.at(-1).attempt}` : ""}`, wordOf(bar.status),
  duration(((bar.end ?? now) - bar.start) / 1000), `from ${clock(bar.start)}`,
].filter(Boolean).join(" · ");

const Track = ({ row, place, width, now }) => {
  const marks = [];
  let from = row.ready;
  for (const bar of row.bars) {
    if (bar.start - from > 0 && place(bar.start) - place(from) > 0.02)
      marks.push(html`<i class="wait" key=${`w${marks.length}`} title=${`${row.name} waited ${duration((bar.start - from) / 1000)}`} style=${{ left: `${place(from)}%`, width: `${place(bar.start) - place(from)}%` }}></i>`);
    const left = place(bar.start), size = place(bar.end ?? now) - left, isNarrow = size / 100 * width < 14;
    marks.push(html`<i class=${`span${bar.attempt == null ? " whole" : ""}`} key=${marks.length} data-state=${bar.status} title=${title(row, bar, now)} style=${{ left: `${left}%`, width: `max(${NARROW}px, ${size}%)` }}>${!isNarrow && look(bar.status)[0]}</i>`);
    from = bar.end ?? now;
  }
  return html`<span class="track">${marks}</span>`;
};

/**
 * The chart.
 *
 * tasks: rows from `ganttRows`. now: the present, in milliseconds. critical: the tasks of the critical path. selected: the
 * name of a task or an instance; onSelect: takes one. onOpen: takes a mapped task; open: those that show their instances.
 */
export const Gantt = ({ tasks, now, critical = [], selected, onSelect, onOpen, open = new Set() }) => {
  const box = useRef(), [view, setView] = useState({ top: 0, height: 600, width: 800 }), [zoom, setZoom] = useState(1), [focus, setFocus] = useState(0);
  const on = useMemo(() => new Set(critical), [critical]);
  const [start, end] = spanOf(tasks, now), seconds = (end - start) / 1000;
  const place = time => 100 * (time - start) / (end - start);
  const isEmpty = !tasks.length;
  const measure = () => {
    if (!box.current) return;
    const { scrollTop: top, clientHeight: height, clientWidth } = box.current, width = Math.max(100, clientWidth - labels(clientWidth)) * zoom;
    setView(old => old.top === top && old.height === height && old.width === width ? old : { top, height, width });
  };
  useResize(box, measure, [zoom, isEmpty]);
  const first = Math.max(0, Math.floor(view.top / GANTT_ROW) - 8), last = Math.min(tasks.length, Math.ceil((view.top + view.height) / GANTT_ROW) + 8);
  const onKey = onKeys(event => {
    const to = { ArrowDown: focus + 1, ArrowUp: focus - 1, Home: 0, End: tasks.length - 1, PageDown: focus + 15, PageUp: focus - 15 }[event.key];
    if (to != null) {
      const next = Math.min(tasks.length - 1, Math.max(0, to)), { current } = box;
      const top = next * GANTT_ROW;
      if (top < current.scrollTop) current.scrollTop = top;
      else if (top + GANTT_ROW * 3 > current.scrollTop + current.clientHeight) current.scrollTop = top + GANTT_ROW * 3 - current.clientHeight;
      setFocus(next);
      measure();
      const row = () => current.querySelector(`[data-row-at="${next}"] .task`);
      if (row()) row().focus();
      else requestAnimationFrame(() => row()?.focus());
    } else if ((event.key === "ArrowRight" || event.key === "ArrowLeft") && tasks[focus]?.count > 0) onOpen?.(tasks[focus].task);
    else return false;
    return true;
  });
  if (isEmpty) return html`<p class="muted">No task has started.</p>`;
  const ticks = ticksOf(seconds, Math.max(2, Math.floor(view.width / 90)));
  return html`<div class="gantt"><div class="scroll" ref=${box} onScroll=${measure}><div class="sheet" style=${{ width: zoom > 1 ? `${view.width + labels(box.current?.clientWidth)}px` : undefined }}>
      <div class="axis"><span class="name"><span class="grow"></span>
        <button type="button" ...${keyed("zoomOut")} aria-label="Zoom out" disabled=${zoom <= 1} onClick=${() => setZoom(Math.max(1, zoom / 2))}>−</button>
        <button type="button" ...${keyed("zoomIn")} aria-label="Zoom in" disabled=${zoom >= 256} onClick=${() => setZoom(Math.min(256, zoom * 2))}>+</button></span><span class="track" aria-hidden="true">${ticks.filter(tick => tick / seconds <= 1 - 48 / view.width).map(tick => html`<b key=${tick} style=${{ left: `${100 * tick / seconds}%` }}>${tickText(tick)}</b>`)}</span></div>
      <div class="rows" role="group" aria-label="Attempts by time" onKeyDown=${onKey} style=${{ height: `${tasks.length * GANTT_ROW}px` }}>
        <span class="lines" aria-hidden="true">${ticks.map(tick => html`<b key=${tick} style=${{ left: `${100 * tick / seconds}%` }}></b>`)}</span>
        <div class="shown" style=${{ transform: `translateY(${first * GANTT_ROW}px)` }}>${tasks.slice(first, last).map((row, offset) => html`
          <div key=${row.name} class=${`row${row.depth ? " child" : ""}${on.has(row.task) && !row.depth ? " critical" : ""}${selected === row.name ? " on" : ""}`} data-row-at=${first + offset} onClick=${() => onSelect?.(row.name)}>
            <span class="name" title=${row.name}>${row.count > 0 && html`<button type="button" class="quiet" tabindex="-1" aria-expanded=${open.has(row.task)} aria-label=${`instances of ${row.name}`} onClick=${event => { event.stopPropagation(); onOpen?.(row.task); }}>${open.has(row.task) ? "▾" : "▸"}</button>`}
              <button type="button" class="quiet task cut" tabindex=${focus === first + offset ? 0 : -1} aria-pressed=${selected === row.name} onFocus=${() => setFocus(first + offset)}><span class="sign" data-state=${row.row.status} aria-hidden="true">${look(row.row.status)[0]}</span>
                ${row.depth ? row.row.map_key || `[${row.row.map_index}]` : shorten(row.name, 60)}<span class="hidden">, ${wordOf(row.row.status)}${on.has(row.task) ? ", on the critical path" : ""}</span></button>${row.count > 0 && html`<span class="muted">×${number(row.count)}</span>`}</span>
            <${Track} row=${row} place=${place} width=${view.width} now=${now} /></div>`)}</div></div></div></div></div>`;
};

const labels = width => width < 640 ? 120 : 240; // pixels for the names

/**
 * The chart of a run: reads its attempts, its graph and its critical path, and again after changes.
 *
 * path: `runs/ID`. rows: the rows of the run by name. run: the run.
 */
export const GanttView = ({ path, rows, run, selected, onSelect }) => {
  const [open, setOpen] = useState(new Set()), live = useReread(`${path}/attempts?attempts=200`, rows), chain = useReread(`${path}/critical-path`, rows);
  const graph = useLive(`${path}/graph`, null, undefined, run.graph).data, critical = chain.data?.tasks || [];
  const now = useNow(ACTIVE.has(run.status)), since = Date.parse(run.started_at || run.created_at);
  const attempts = useMemo(() => live.data && rowsOf(live.data), [live.data]), upstream = useMemo(() => upstreamOf(graph?.tasks || []), [graph]);
  const tasks = useMemo(() => attempts ? ganttRows(rows.values(), attempts, upstream, since, open) : [], [rows, attempts, upstream, since, open]);
  const toggle = task => setOpen(old => { const next = new Set(old); if (!next.delete(task)) next.add(task); return next; });
  if (!attempts) return html`<${Unread} live=${live} />`;
  const [start, end] = spanOf(tasks, now), share = chain.data?.work_s, whole = (end - Math.min(start, since)) / 1000;
  return html`<${Failure} problem=${live.problem} />
    ${critical.length > 1 && html`<p class="facts"><span><b class="mark">▵</b> critical path: ${many(critical.length, "task")}, at work ${duration(share)} of ${duration(whole)} (${Math.min(100, Math.round(100 * share / whole))} %)</span>
      <span class="cut">${critical.slice(0, 12).join(" → ")}${critical.length > 12 ? " …" : ""}</span></p>`}
    <${Gantt} tasks=${tasks} now=${now} critical=${critical} selected=${selected} onSelect=${onSelect} onOpen=${toggle} open=${open} />
    <p class="muted hint">A bar is an attempt, a thin line the time it waited. Arrow keys move, Enter opens, → unfolds a mapped task.${live.data.earlier && " The chart has the last attempts of each task: at most 200, and 20,000 in all."}</p>`;
};

/** Return the direct upstreams of each task, where a join or an entry of a group stands for what is above it. */
export function upstreamOf(tasks) {
  const rows = new Map(tasks.map(row => [row.id, row])), known = new Map();
  const above = (id, depth = 0) => {
    if (known.has(id)) return known.get(id);
    known.set(id, []); // a cycle of an altered file ends here
    const list = (rows.get(id)?.depends_on || []).flatMap(name => rows.get(name)?.gate && depth < 50 ? above(name, depth + 1) : [name]);
    known.set(id, list);
    return list;
  };
  for (const row of tasks) above(row.id);
  return known;
}
