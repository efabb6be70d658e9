// The graph of a run or a workflow: boxes and edges at the places that the server has laid out.
//
// Preact makes the frame; the drawing itself is SVG that this module builds once for a geometry. A change of states
// touches the nodes that changed, and a pan or a zoom is a CSS transform of the whole drawing: neither builds anything.

import {
  html, useLayoutEffect, useMemo, useRef, useLive, useReread, look, wordOf, clean, shorten, duration, secondsBetween, number, Failure,
  Unread, useNow, announce, ENDED, ORDER, combined, keyed, onKeys, spanned, tallied, total,
} from "./kit.js";
import { useFolds, Folding } from "./folds.js";

const SVG = "http://www.w3.org/2000/svg";
const LABEL_LIMIT = 44, NONE = [];
const SCALE = [0.04, 4], FIT_SCALE = 1.25, LEGIBLE = 0.5;

// -- states, pure -----------------------------------------------------------------------------------------------------

/** Return the state of each task: `{status, started_at, ended_at, tally}`; a tally has the instances by state. */
export function statesOf(rows) {
  const tasks = Map.groupBy([...rows].filter(row => row.kind === "task"), row => row.task);
  return new Map([...tasks].map(([task, all]) => {
    const top = all.find(row => row.map_index == null), inside = all.filter(row => row !== top), tally = tallied(inside.map(row => row.status));
    return [task, inside.length ? Object.assign(spanned(top || { status: combined(tally) }, inside), { tally }) : top];
  }));
}

/** Return the state of a node: of its task, or together that of the tasks in whose place it stands. */
export function stateOf(task, members, states) {
  if (!members) return states.get(task) || null;
  const tally = tallied(members.map(member => states.get(member)?.status)), status = combined(tally);
  return status && { status, tally };
}

/** Return "3 of 6 done, 1 failed", and of what has ended "1 of 6 failed"; empty where the word of the state is enough. */
export function tallyText(status, tally) {
  if (!tally) return "";
  const all = total(tally), done = total(Object.fromEntries(Object.entries(tally).filter(([state]) => ENDED.has(state)))), failed = tally.FAILED || 0;
  if (done < all) return `${number(done)} of ${number(all)} done${failed ? `, ${number(failed)} failed` : ""}`;
  return failed ? `${number(failed)} of ${number(all)} failed` : "";
}

/** Return the second line of a node. */
export function captionOf(kind, state, now) {
  if (!state) return kind;
  const text = tallyText(state.status, state.tally) || wordOf(state.status);
  const seconds = state.started_at ? secondsBetween(state.started_at, state.ended_at, now) : null;
  const took = seconds == null ? "" : state.ended_at ? duration(seconds) : duration(Math.max(10, seconds));
  return [kind, `${look(state.status)[0]} ${text}`, took].filter(Boolean).join(" · ");
}

// -- geometry, pure ---------------------------------------------------------------------------------------------------

/** Return the path of edges, each a start and curves of three points, with a line to the point of the arrow. */
export function pathOf(edges) {
  const parts = [];
  for (const [, , p] of edges) {
    if (p.length < 4) continue;
    let d = `M${p[0]} ${p[1]}`, at = 2;
    for (; at + 6 <= p.length; at += 6) d += `C${p[at]} ${p[at + 1]} ${p[at + 2]} ${p[at + 3]} ${p[at + 4]} ${p[at + 5]}`;
    for (; at + 2 <= p.length; at += 2) d += `L${p[at]} ${p[at + 1]}`;
    parts.push(d);
  }
  return parts.join("");
}

/** Return the path of the arrows at the ends of edges. */
export function arrowsOf(edges, length = 7, half = 3.2) {
  const parts = [];
  for (const [, , p] of edges) {
    if (p.length < 4) continue;
    const x = p.at(-2), y = p.at(-1), dx = x - p.at(-4), dy = y - p.at(-3), size = Math.hypot(dx, dy);
    if (!size) continue;
    const ux = dx / size, uy = dy / size, bx = x - ux * length, by = y - uy * length;
    parts.push(`M${x} ${y}L${(bx - uy * half).toFixed(1)} ${(by + ux * half).toFixed(1)}L${(bx + uy * half).toFixed(1)} ${(by - ux * half).toFixed(1)}Z`);
  }
  return parts.join("");
}

/** A geometry as objects: nodes, boxes, and what is above and below each node. */
export function graphOf(geometry) {
  const nodes = geometry.rows.map(([task, label, kind, group, x, y, width, height], at) =>
    ({ at, task, label, kind, group, x, y, width, height, members: geometry.members[task] || null, above: [], below: [] }));
  const boxes = geometry.boxes.rows.map(([group, parent, x, y, width, height]) => ({ group, parent, x, y, width, height }));
  const parents = new Map(boxes.map(box => [box.group, box.parent]));
  const inside = new Map(boxes.map(box => [box.group, []]));
  for (const node of nodes)
    for (let group = node.group, depth = 0; inside.has(group) && depth < 50; group = parents.get(group), depth++) inside.get(group).push(node);
  const ends = at => at < nodes.length ? [nodes[at]] : inside.get(boxes[at - nodes.length].group);
  for (const [source, target] of geometry.edges) {
    const sources = ends(source), targets = ends(target);
    if (sources.length * targets.length > 10000) continue; // between two large groups: the arrows lead to neighbours
    for (const above of sources) for (const below of targets) { above.below.push(below); below.above.push(above); }
  }
  return { nodes, boxes, inside, byTask: new Map(nodes.map(node => [node.task, node])), isAcross: isAcross(nodes) };
}

/** Return whether edges lead from left to right, and not from top to bottom. */
function isAcross(nodes) {
  let across = 0, down = 0;
  for (const node of nodes) for (const below of node.below) {
    across += Math.abs(below.x - node.x) - (below.width + node.width) / 2;
    down += Math.abs(below.y - node.y) - (below.height + node.height) / 2;
  }
  return across > down;
}

const nearest = (node, others) => others.reduce((best, other) => {
  const distance = Math.hypot(other.x - node.x, other.y - node.y);
  return !best || distance < best[0] ? [distance, other] : best;
}, null)?.[1] || null;

/** Return the node that an arrow key leads to: along an edge, or to the neighbour, where that is no way of its edges. */
export function step(graph, node, key) {
  const along = graph.isAcross ? { ArrowRight: "below", ArrowLeft: "above" } : { ArrowDown: "below", ArrowUp: "above" };
  if (along[key] && node.above.length + node.below.length) return nearest(node, node[along[key]]);
  const [axis, side, reach] = key === "ArrowDown" || key === "ArrowUp" ? ["y", "x", node.width / 2] : ["x", "y", node.height / 2];
  const forward = key === "ArrowDown" || key === "ArrowRight";
  return nearest(node, graph.nodes.filter(other => Math.abs(other[side] - node[side]) <= reach &&
    (forward ? other[axis] > node[axis] : other[axis] < node[axis])));
}

// -- the drawing ------------------------------------------------------------------------------------------------------

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  parent?.append(made);
  return made;
}

class Drawing {
  constructor(stage) {
    this.stage = stage;
    this.view = { x: 0, y: 0, scale: 1 };
    this.painted = new Map(); // node -> the text that says how it looks
  }

  /** Build the drawing of a geometry. */
  build(geometry) {
    this.graph = graphOf(geometry);
    this.geometry = geometry;
    this.painted.clear();
    const [width, height] = this.size = geometry.size;
    const svg = element("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Graph of the tasks" });
    for (const box of this.graph.boxes) this.addBox(svg, box);
    element("path", { class: "edges", d: pathOf(geometry.edges) }, svg);
    element("path", { class: "arrows", d: arrowsOf(geometry.edges) }, svg);
    this.steps = element("path", { class: "edges critical" }, svg);
    this.arrows = element("path", { class: "arrows critical" }, svg);
    for (const node of this.graph.nodes) this.addNode(svg, node);
    this.stage.replaceChildren(svg);
    this.svg = svg;
    this.focused = this.graph.nodes[0];
    this.focused?.group_.setAttribute("tabindex", "0");
    this.fit();
    if (this.view.scale > LEGIBLE || !this.focused) return;
    this.zoomBy(LEGIBLE / this.view.scale);
    this.show(this.focused);
  }

  addBox(svg, box) {
    const { x, y, width, height } = box;
    box.group_ = element("g", { class: "box", "data-group": box.group }, svg);
    element("rect", { x: x - width / 2, y: y - height / 2, width, height, rx: 8 }, box.group_);
    box.text = element("text", { x: x - width / 2 + 10, y: y - height / 2 + 15 }, box.group_);
    box.text.textContent = shorten(clean(box.group), LABEL_LIMIT);
  }

  addNode(svg, node) {
    const { x, y, width, height, at } = node;
    node.group_ = element("g", { class: node.members ? "node fold" : "node", "data-at": at, tabindex: "-1", role: "button" }, svg);
    if (node.members) element("rect", { class: "behind", x: x - width / 2 + 4, y: y - height / 2 + 4, width, height, rx: 7 }, node.group_);
    element("rect", { x: x - width / 2, y: y - height / 2, width, height, rx: 7 }, node.group_);
    node.label_ = element("text", { class: "label", x, y: y - 2 }, node.group_);
    node.label_.textContent = shorten(clean(node.label), LABEL_LIMIT);
    node.caption = element("text", { class: "caption", x, y: y + 11 }, node.group_);
  }

  /** Show states; only the nodes whose look changes are touched. */
  paint(states, now) {
    for (const node of this.graph.nodes) {
      const state = stateOf(node.task, node.members, states);
      const caption = captionOf(node.kind, state, now), looks = `${state?.status} ${caption} ${tallyKey(state)}`;
      if (this.painted.get(node) === looks) continue;
      this.painted.set(node, looks);
      this.paintNode(node, state, caption);
    }
    for (const box of this.graph.boxes) {
      const status = combined(tallied(this.graph.inside.get(box.group).map(node => stateOf(node.task, node.members, states)?.status)));
      if (this.painted.get(box) === status) continue;
      this.painted.set(box, status);
      setState(box.group_, status);
      box.text.textContent = [shorten(clean(box.group), LABEL_LIMIT), status && `${look(status)[0]} ${wordOf(status)}`].filter(Boolean).join(" · ");
    }
  }

  paintNode(node, state, caption) {
    setState(node.group_, state?.status);
    node.caption.textContent = ` ${shorten(clean(caption), LABEL_LIMIT + 8)}`; // the space separates it from the label in the text of the node
    const all = state?.tally && total(state.tally);
    if (all && !node.members) node.label_.textContent = `${shorten(clean(node.task), LABEL_LIMIT - 8)} ×${number(all)}`;
    node.group_.setAttribute("aria-label", node.label_.textContent + node.caption.textContent);
    node.bar?.remove();
    node.bar = null;
    node.label_.setAttribute("y", node.y - (all ? 5 : 2));
    node.caption.setAttribute("y", node.y + (all ? 6 : 11));
    if (!all) return;
    node.bar = element("g", { class: "parts" }, node.group_);
    const width = node.width - 16, y = node.y + node.height / 2 - 7;
    let x = node.x - width / 2;
    element("rect", { class: "back", x: x - 1, y: y - 1, width: width + 2, height: 5, rx: 2 }, node.bar);
    for (const part of ORDER) {
      if (!state.tally[part] || part === "PENDING") continue;
      const size = width * state.tally[part] / all;
      element("rect", { x, y, width: size, height: 3, "data-state": part }, node.bar);
      x += size;
    }
  }

  /** Mark the critical path. */
  mark(tasks) {
    const places = new Map(), { nodes, inside, boxes } = this.graph;
    for (const node of nodes) for (const task of node.members || [node.task]) places.set(task, node.at);
    const path = [];
    for (const task of tasks) if (places.has(task) && path.at(-1) !== places.get(task)) path.push(places.get(task));
    const pairs = new Set(path.slice(1).map((at, before) => `${path[before]} ${at}`)), on = new Set(path);
    const members = at => at < nodes.length ? [at] : inside.get(boxes[at - nodes.length].group).filter(node => on.has(node.at)).map(node => node.at);
    const steps = this.geometry.edges.filter(([source, target]) =>
      members(source).some(above => members(target).some(below => pairs.has(`${above} ${below}`))));
    this.steps.setAttribute("d", pathOf(steps));
    this.arrows.setAttribute("d", arrowsOf(steps, 8, 3.8));
    for (const node of nodes) node.group_.classList.toggle("critical", on.has(node.at));
  }

  select(task) {
    this.selected?.group_.classList.remove("selected");
    this.selected = this.graph.byTask.get(task) || this.graph.nodes.find(node => node.members?.includes(task));
    if (!this.selected) return;
    this.selected.group_.classList.add("selected");
    this.show(this.selected);
  }

  // pan and zoom

  apply() {
    const { x, y, scale } = this.view;
    this.svg.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  }

  /** While a finger or the mouse moves the drawing, the browser may keep it as a picture; afterwards it is sharp again. */
  moving() {
    this.svg.classList.add("moving");
    clearTimeout(this.rest);
    this.rest = setTimeout(() => this.svg?.classList.remove("moving"), 200);
  }

  panBy(dx, dy) {
    const { clientWidth, clientHeight } = this.stage, { scale } = this.view, margin = 60;
    const clamp = (value, size, room) => Math.min(room - margin, Math.max(margin - size * scale, value));
    this.view.x = clamp(this.view.x + dx, this.size[0], clientWidth);
    this.view.y = clamp(this.view.y + dy, this.size[1], clientHeight);
    this.moving();
    this.apply();
  }

  zoomBy(factor, at = null) {
    const { clientWidth, clientHeight } = this.stage, { view } = this;
    const [px, py] = at || [clientWidth / 2, clientHeight / 2];
    const scale = Math.min(SCALE[1], Math.max(SCALE[0], view.scale * factor));
    view.x = px - (px - view.x) * scale / view.scale;
    view.y = py - (py - view.y) * scale / view.scale;
    view.scale = scale;
    this.moving();
    this.apply();
  }

  fit() {
    const { clientWidth, clientHeight } = this.stage, [width, height] = this.size, room = 24;
    const scale = Math.max(SCALE[0], Math.min(FIT_SCALE, (clientWidth - room) / width, (clientHeight - room) / height));
    this.view = { scale, x: Math.max(room / 2, (clientWidth - width * scale) / 2), y: Math.max(room / 2, (clientHeight - height * scale) / 2) };
    this.apply();
  }

  /** Focus a node, and show it. */
  focus(node) {
    this.focused?.group_.setAttribute("tabindex", "-1");
    this.focused = node;
    node.group_.setAttribute("tabindex", "0");
    node.group_.focus({ preventScroll: true });
    this.show(node);
  }

  /** Move a node into the view. */
  show(node) {
    const { x, y, scale } = this.view, { clientWidth, clientHeight } = this.stage, edge = 40;
    const left = x + (node.x - node.width / 2) * scale, right = left + node.width * scale;
    const top = y + (node.y - node.height / 2) * scale, bottom = top + node.height * scale;
    const dx = left < edge ? edge - left : right > clientWidth - edge ? Math.max(clientWidth - edge - right, edge - left) : 0;
    const dy = top < edge ? edge - top : bottom > clientHeight - edge ? Math.max(clientHeight - edge - bottom, edge - top) : 0;
    if (dx || dy) this.panBy(dx, dy);
  }
}

const tallyKey = state => state?.tally ? Object.entries(state.tally).join() : "";
const setState = (group, status) => status ? group.setAttribute("data-state", status) : group.removeAttribute("data-state");

/** Follow pointers: one pans, two zoom; a press that does not move is a click on a node. */
function followPointers(stage, drawing, onPress) {
  const pointers = new Map();
  let moved = 0, pressed = null;
  const down = event => {
    if (event.button > 0) return;
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    moved = 0;
    pressed = event.target;
  };
  const move = event => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const after = [event.clientX, event.clientY], dx = after[0] - before[0], dy = after[1] - before[1];
    moved += Math.abs(dx) + Math.abs(dy);
    if (moved > 4 && !stage.hasPointerCapture(event.pointerId)) stage.setPointerCapture(event.pointerId);
    const others = [...pointers].filter(([id]) => id !== event.pointerId);
    if (others.length === 1) {
      const [, other] = others[0], rect = stage.getBoundingClientRect();
      const size = point => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
      drawing.zoomBy(size(after) / size(before), [(after[0] + other[0]) / 2 - rect.left, (after[1] + other[1]) / 2 - rect.top]);
      drawing.panBy(dx / 2, dy / 2);
    } else if (!others.length && moved > 4) drawing.panBy(dx, dy);
    pointers.set(event.pointerId, after);
  };
  const up = event => {
    if (!pointers.delete(event.pointerId)) return;
    if (moved <= 4 && event.type === "pointerup") onPress(pressed);
  };
  const wheel = event => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const rect = stage.getBoundingClientRect();
    drawing.zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), [event.clientX - rect.left, event.clientY - rect.top]);
  };
  const handlers = { pointerdown: down, pointermove: move, pointerup: up, pointercancel: up };
  for (const [name, handler] of Object.entries(handlers)) stage.addEventListener(name, handler);
  stage.addEventListener("wheel", wheel, { passive: false });
}

/**
 * The graph.
 *
 * geometry: an answer of `…/geometry`. states: the state of each task, from `statesOf`; an empty map for a definition.
 * critical: the tasks of the critical path. selected, onSelect: a task. onFold: takes the id of a group or a stack.
 */
export const Graph = ({ geometry, states, critical = [], selected, onSelect, onFold }) => {
  const stage = useRef(), drawing = useRef(), calls = useRef();
  calls.current = { onSelect, onFold };
  const isActive = useMemo(() => [...states.values()].some(state => state.started_at && !state.ended_at), [states]);
  const now = useNow(isActive);
  const press = target => {
    const node = drawing.current.graph.nodes[target?.closest?.(".node")?.dataset.at];
    const box = target?.closest?.(".box")?.dataset.group;
    if (node) open(node);
    else if (box && target.nodeName === "text") calls.current.onFold?.(box);
  };
  const open = node => {
    drawing.current.focus(node);
    if (node.members) calls.current.onFold?.(node.task);
    else calls.current.onSelect?.(node.task);
  };
  useLayoutEffect(() => {
    drawing.current = new Drawing(stage.current);
    followPointers(stage.current, drawing.current, press);
  }, []);
  useLayoutEffect(() => drawing.current.build(geometry), [geometry]);
  useLayoutEffect(() => drawing.current.paint(states, now), [geometry, states, now]);
  useLayoutEffect(() => drawing.current.mark(critical), [geometry, critical]);
  useLayoutEffect(() => drawing.current.select(selected), [geometry, selected]);
  const onKey = onKeys(event => {
    const { current } = drawing, node = current.focused;
    if (event.key.startsWith("Arrow") && node) {
      const next = event.shiftKey ? null : step(current.graph, node, event.key);
      if (next) current.focus(next);
      else if (event.shiftKey) current.panBy(...{ ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] }[event.key]);
    } else if ((event.key === "Enter" || event.key === " ") && node) open(node);
    else return false;
    return true;
  });
  return html`<div class="graph"><div class="stage" ref=${stage} onKeyDown=${onKey}></div>
    <div class="tools"><button type="button" ...${keyed("zoomOut")} aria-label="Zoom out" onClick=${() => drawing.current.zoomBy(0.8)}>−</button>
      <button type="button" ...${keyed("zoomIn")} aria-label="Zoom in" onClick=${() => drawing.current.zoomBy(1.25)}>+</button>
      <button type="button" ...${keyed("fit")} onClick=${() => drawing.current.fit()}>Fit</button></div></div>`;
};

/**
 * The graph of a run or a workflow with its tools: reads the geometry, folds and unfolds, and says what cannot be drawn.
 *
 * path: `runs/ID` or `workflows/NAME`. rows: the rows of the run by name; none for a workflow. graph: the digest of its
 * graph, after whose change the geometry is read again. fallback: what is shown where nothing can be drawn.
 */
export const GraphView = ({ path, rows = null, graph, selected, onSelect, fallback = null }) => {
  const folds = useFolds(), { fold, toggled } = folds;
  const query = new URLSearchParams({ fold, ...(toggled.length && { toggled }) });
  const live = useLive(`${path}/geometry?${query}`, null, undefined, graph), { data: geometry, problem } = live;
  const states = useMemo(() => statesOf(rows ? rows.values() : []), [rows]);
  const ends = useMemo(() => [...states.values()].filter(each => each.ended_at).length, [states]);
  const critical = useReread(ends ? `${path}/critical-path` : null, ends).data?.tasks || NONE;
  const toggle = id => {
    if (geometry?.layered) { announce("these layers are too large to unfold; the table has every task"); return; }
    folds.toggle(id);
  };
  if (!geometry) return html`<${Unread} live=${live} />${problem && fallback}`;
  if (!geometry.rows.length) return html`<p class="muted">This workflow has no tasks.</p>`;
  const canFold = geometry.folded != null || fold !== "auto" || toggled.length + geometry.boxes.rows.length > 0;
  return html`<${Failure} problem=${problem} />
    ${canFold && html`<${Folding} folds=${folds}>${geometry.folded && html`<span class="muted">${geometry.folded}${geometry.layered ? "; the table has every task" : ""}.</span>`}<//>`}
    <${Graph} geometry=${geometry} states=${states} critical=${critical} selected=${selected} onSelect=${onSelect} onFold=${toggle} />
    <p class="muted hint">Drag to move; Ctrl and the wheel, + and − zoom, 0 fits. Arrow keys walk along the edges, Enter opens.
      ${critical.length > 1 && html` Thick lines: the critical path.`}</p>`;
};
