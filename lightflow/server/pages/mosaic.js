// The instances of a mapped task: a mosaic with a cell for each, and a table of those in view.

import {
  html, useLive, useState, useEffect, useLayoutEffect, useMemo, useRef, go, taskHref, taskPath, rowsOf, instanceName, State, Took, Failure, 
  wordOf, look, number, many, duration, secondsBetween, keyed, Rows, ORDER, onKeys, tallied, useResize,
} from "./kit.js";

const MOST_INSTANCES = 10000; // of a read
const GAP = 1; // pixels between two cells
/** What a small cell has in the place of a sign: lines between points of a square, 0 to 1. */
const STROKES = {
  FAILED: [[0, 0, 1, 1], [0, 1, 1, 0]], UP_FOR_RETRY: [[0, 1, 1, 0]], RUNNING: [[0.2, 0, 1, 0.5], [1, 0.5, 0.2, 1], [0.2, 1, 0.2, 0]],
  WAITING: [[0.5, 0, 0.5, 0.5], [0.5, 0.5, 1, 0.5]], SKIPPED: [[0, 0.5, 1, 0.5]], UPSTREAM_FAILED: [[0.5, 0, 0.5, 1]], CANCELLED: [[0, 0, 1, 1]],
};

/** Return the pixels of a cell: large enough for a sign where there is room. */
export const cellOf = count => count <= 300 ? 20 : count <= 3000 ? 13 : 8;

/** Return the place that a key leads to among `count` cells in rows of `across`; null for another key. */
export function cellAfter(at, key, count, across) {
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - across, ArrowDown: at + across, Home: 0, End: count - 1 }[key];
  return to == null ? null : Math.max(0, Math.min(count - 1, to));
}

/** Return the place of the next instance that failed; null where none has. */
export function failureAfter(at, rows) {
  for (let step = 1; step <= rows.length; step++) if (rows[(at + step) % rows.length].status === "FAILED") return (at + step) % rows.length;
  return null;
}

/** Draw cells, those of one state together. colours: reads `{fill, stroke, ink}` of a state, or of FOCUS. */
function draw(canvas, rows, size, across, focus, colours) {
  const ratio = devicePixelRatio || 1, pen = canvas.getContext("2d"), side = size - GAP;
  canvas.width = across * size * ratio;
  canvas.height = Math.ceil(rows.length / across) * size * ratio;
  pen.scale(ratio, ratio);
  pen.font = `${size - 8}px "DejaVu Sans", "Segoe UI Symbol", system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  for (const [state, list] of Map.groupBy(rows.keys(), at => rows[at].status)) {
    const { fill, stroke, ink } = colours(state), inset = size > 10 ? 0.5 : 1.5, lines = STROKES[state] || [];
    pen.fillStyle = fill;
    pen.strokeStyle = stroke;
    pen.beginPath();
    for (const at of list) pen.rect(at % across * size + 0.5, Math.floor(at / across) * size + 0.5, side - 1, side - 1);
    pen.fill();
    pen.globalAlpha = size > 10 ? 1 : 0.5; // the borders of small cells would be all that one sees
    pen.stroke();
    pen.globalAlpha = 1;
    pen.fillStyle = pen.strokeStyle = ink;
    pen.beginPath();
    for (const at of list) {
      const x = at % across * size, y = Math.floor(at / across) * size, room = side - 2 * inset - 2;
      if (size >= 13) pen.fillText(look(state)[0], x + side / 2, y + side / 2 + 0.5);
      else for (const [x1, y1, x2, y2] of lines) {
        pen.moveTo(x + inset + 1 + x1 * room, y + inset + 1 + y1 * room);
        pen.lineTo(x + inset + 1 + x2 * room, y + inset + 1 + y2 * room);
      }
    }
    pen.stroke();
  }
  if (focus == null) return;
  pen.lineWidth = 2;
  pen.strokeStyle = colours("FOCUS").stroke;
  pen.strokeRect(focus % across * size, Math.floor(focus / across) * size, side, side);
}

/** Return a function that reads the colours of a state, as the stylesheet has them now. */
const coloursOf = probe => state => {
  probe.dataset.state = state;
  const { backgroundColor, borderTopColor, color } = getComputedStyle(probe);
  return { fill: backgroundColor, stroke: borderTopColor, ink: color };
};

/** Count the changes of colours: of the system, and of the switch of this page. */
function useTheme() {
  const [theme, set] = useState(0);
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)"), changed = () => set(count => count + 1), observer = new MutationObserver(changed);
    dark.addEventListener("change", changed);
    observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => { dark.removeEventListener("change", changed); observer.disconnect(); };
  }, []);
  return theme;
}

/**
 * The mosaic.
 *
 * rows: the instances, in the order of the cells. onSelect: takes the row of a cell.
 */
export const Mosaic = ({ rows, onSelect }) => {
  const box = useRef(), canvas = useRef(), probe = useRef(), [width, setWidth] = useState(0), [focus, setFocus] = useState(0), [pointed, point] = useState(null);
  const size = cellOf(rows.length), across = Math.max(1, Math.floor(width / size)), theme = useTheme();
  useResize(box, () => setWidth(box.current.clientWidth), []);
  useLayoutEffect(() => { if (width) draw(canvas.current, rows, size, across, pointed == null ? focus : null, coloursOf(probe.current)); }, [rows, size, across, focus, pointed, theme]);
  const move = to => {
    if (to == null) return;
    point(null);
    setFocus(to);
    const top = Math.floor(to / across) * size, { current } = box;
    if (top < current.scrollTop || top + size > current.scrollTop + current.clientHeight) current.scrollTop = top - current.clientHeight / 2;
  };
  const placeOf = event => {
    const x = Math.floor(event.offsetX / size), at = Math.floor(event.offsetY / size) * across + x;
    return x < across && at < rows.length ? at : null;
  };
  const onKey = onKeys(event => {
    const to = cellAfter(focus, event.key, rows.length, across);
    if (to != null) move(to);
    else if (event.key === "Enter" || event.key === " ") onSelect(rows[focus]);
    else return false;
    return true;
  });
  const row = rows[Math.min(pointed ?? focus, rows.length - 1)], seconds = row?.started_at && secondsBetween(row.started_at, row.ended_at);
  const tally = useMemo(() => Object.entries(tallied(rows.map(each => each.status))), [rows]);
  return html`<div class="mosaic" ref=${box} tabindex="0" role="group" aria-describedby="cell"
      aria-label=${`${many(rows.length, "instance")}: ${tally.map(([state, count]) => `${number(count)} ${wordOf(state)}`).join(", ")}`} onKeyDown=${onKey}>
      <i ref=${probe} hidden></i><canvas ref=${canvas} aria-hidden="true" style=${{ width: `${across * size}px` }} onPointerMove=${event => point(placeOf(event))} onPointerLeave=${() => point(null)}
        onClick=${event => { const at = placeOf(event); if (at != null) onSelect(rows[at]); }}></canvas></div>
    <p id="cell" class="cell-text" role="status">${row && html`<${State} state=${row.status} /> <b>${row.map_key || instanceName(row)}</b> <span class="muted">${instanceName(row)}${seconds ? ` · ${duration(seconds)}` : ""} ${row.reason || ""}</span>`}
      <span class="grow"></span>${failureAfter(0, rows) != null && html`<button type="button" class="quiet" ...${keyed("failure")} onClick=${() => { box.current.focus(); move(failureAfter(focus, rows)); }}>Next failure</button>`}</p>`;
};

/** Return the instances with the rows of a frame, each in the place that it has. */
function withInstances(data, frame, task, isFiltered) {
  if (!frame.tasks) return data;
  const table = new Map(data.table || rowsOf(data).map(row => [row.map_index, row]));
  for (const row of rowsOf(frame.tasks))
    if (row.task === task && row.map_index != null && (!isFiltered || table.has(row.map_index))) table.set(row.map_index, row);
  return { ...data, table };
}

/** The instances of a mapped task: the server filters and sorts them, the failed ones first; changes come in place. */
export const Instances = ({ id, task, state }) => {
  const [filter, set] = useState({ label: "", status: "", order: "failures" }), [most, setMost] = useState(MOST_INSTANCES);
  const isFiltered = Boolean(filter.label || filter.status), query = { limit: most, ...Object.fromEntries(Object.entries(filter).filter(([, value]) => value)) };
  const live = useLive(`${taskPath(id, task, null)}/instances?${new URLSearchParams(query)}`, `run:${id}`, (data, frame) => withInstances(data, frame, task, isFiltered), state);
  const rows = useMemo(() => live.data ? live.data.table ? [...live.data.table.values()] : rowsOf(live.data) : [], [live.data]);
  if (!rows.length && !isFiltered) return html`<${Failure} problem=${live.problem} retry=${live.reload} />`;
  const choose = name => event => set({ ...filter, [name]: event.target.value });
  return html`<div class="bar"><h2>Instances</h2><span class="muted">${number(rows.length)}${live.data?.after ? " of more" : ""}</span><input type="search" data-filter placeholder="Filter  /" aria-label="Filter instances" value=${filter.label} onInput=${choose("label")} />
      <select aria-label="State of instances" value=${filter.status} onChange=${choose("status")}><option value="">all states</option>${ORDER.map(each => html`<option key=${each} value=${each}>${wordOf(each)}</option>`)}</select>
      <select aria-label="Order of instances" value=${filter.order} onChange=${choose("order")}><option value="failures">failures first</option><option value="duration">slowest first</option><option value="index">in order</option></select></div>
    <${Failure} problem=${live.problem} retry=${live.reload} />
    ${!rows.length ? html`<p class="muted">No instance matches.</p>` : html`<${Mosaic} rows=${rows} onSelect=${row => go(taskHref(id, row))} />
    <table class="list tasks" aria-rowcount=${rows.length}><${Rows} items=${rows} row=${row => html`<tr key=${row.map_index} data-row><td><${State} state=${row.status} /></td><td class="name"><a href=${taskHref(id, row)}>${row.map_key || `[${row.map_index}]`}</a></td>
      <td class="num"><${Took} row=${row} /></td><td class="wide muted cut">${row.reason || ""}</td></tr>`} /></table>`}
    ${live.data?.after && html`<p><button type="button" ...${keyed("more")} onClick=${() => setMost(most + MOST_INSTANCES)}>More instances</button></p>`}`;
};
