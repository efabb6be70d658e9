// Draws the workflow with Mermaid, then adds what a picture of a run needs: move, zoom, find a task, show one state.
// Nothing here makes HTML out of task text: labels are drawn by Mermaid in strict mode, the rest uses textContent.
(async () => {
  "use strict";
  const isFolded = location.hash === "#folded" && document.getElementById("folded") !== null;
  const source = document.getElementById(isFolded ? "folded" : "source");
  const stage = document.getElementById("stage");
  const rows = new Map([...document.querySelectorAll("tbody tr")].map((row) => [row.dataset.node, row]));
  const nodes = new Map();
  let shown = null;

  function showOnly(state) {
    shown = shown === state ? null : state;
    for (const button of document.querySelectorAll(".legend button"))
      button.setAttribute("aria-pressed", String(button.dataset.state === shown));
    for (const [name, row] of rows) {
      const other = shown !== null && row.dataset.state !== shown;
      row.hidden = other;
      nodes.get(name)?.classList.toggle("dim", other);
    }
    for (const edge of stage?.querySelectorAll(".edgePaths path") ?? []) edge.classList.toggle("dim", shown !== null);
  }
  for (const button of document.querySelectorAll(".legend button"))
    button.addEventListener("click", () => showOnly(button.dataset.state));
  if (!source || !stage) return;

  const few = rows.size <= 400;
  mermaid.initialize({
    startOnLoad: false, securityLevel: "strict", theme: "base", htmlLabels: true, maxTextSize: 5000000, maxEdges: 20000,
    fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, "DejaVu Sans", sans-serif',
    flowchart: { htmlLabels: true, useMaxWidth: false, curve: few ? "basis" : "linear", wrappingWidth: 600, padding: 11, nodeSpacing: 26, rankSpacing: 54 },
    deterministicIds: true, suppressErrorRendering: true,
  });
  // Mermaid needs about 25 ms a task and holds the page meanwhile: show the page first, and ask when it is long.
  const message = stage.querySelector(".message");
  if (rows.size > 300) {
    const go = document.createElement("button");
    go.type = "button";
    go.id = "draw";
    go.textContent = `Draw the graph (takes about ${Math.ceil(rows.size / 40)} s)`;
    message.replaceChildren(go);
    stage.dataset.done = "asked";
    await new Promise((resolve) => go.addEventListener("click", resolve, { once: true }));
    message.textContent = "Drawing…";
    delete stage.dataset.done;
  }
  await new Promise((resolve) => { setTimeout(resolve, 30); });
  let svg;
  try {
    const drawn = await mermaid.render("dag", source.textContent);
    stage.innerHTML = drawn.svg;
    svg = stage.querySelector("svg");
  } catch (error) {
    message.textContent = "This browser could not draw the graph; the table below has every task.";
    stage.replaceChildren(message);
    stage.dataset.done = "failed";
    console.warn(error);
    return;
  }
  svg.removeAttribute("style");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", document.title);

  for (const group of svg.querySelectorAll("g.node")) {
    const name = (group.id.match(/flowchart-(.*)-\d+$/) ?? [])[1];
    const row = rows.get(name);
    if (!row) continue;
    nodes.set(name, group);
    const tip = document.createElementNS("http://www.w3.org/2000/svg", "title");
    tip.textContent = row.dataset.tip;
    group.prepend(tip);
    group.addEventListener("click", () => { if (!moved) mark(name, row); });
    row.querySelector(".go")?.addEventListener("click", () => { mark(name, stage); look(group); });
  }
  function mark(name, target) {
    for (const old of document.querySelectorAll(".on")) old.classList.remove("on");
    rows.get(name).classList.add("on");
    nodes.get(name).classList.add("on");
    target.scrollIntoView({ block: "nearest" });
  }

  // Move and zoom change only the viewBox, so that text stays sharp and the browser does the work.
  const box = svg.getBBox();
  const whole = { x: box.x - 24, y: box.y - 24, w: box.width + 48, h: box.height + 48 };
  let view = { ...whole };
  svg.removeAttribute("width");
  svg.removeAttribute("height");
  svg.setAttribute("preserveAspectRatio", "xMidYMid meet");
  const set = () => svg.setAttribute("viewBox", [view.x, view.y, view.w, view.h].join(" "));
  function fit() {
    const natural = whole.h / Math.max(whole.w / stage.clientWidth, 0.8); // its height once it is as wide as the stage
    stage.style.height = Math.min(Math.max(natural, 200), Math.max(360, innerHeight * 0.72)) + "px";
    const scale = Math.max(whole.w / stage.clientWidth, whole.h / stage.clientHeight, 0.8); // small graphs stay small
    const w = stage.clientWidth * scale, h = stage.clientHeight * scale;
    view = { x: whole.x - (w - whole.w) / 2, y: whole.y - (h - whole.h) / 2, w, h };
    set();
  }
  function zoom(factor, px = stage.clientWidth / 2, py = stage.clientHeight / 2) {
    const scale = view.w / stage.clientWidth;
    const wanted = Math.min(Math.max(scale * factor, 0.2), 60) / scale;
    view = { x: view.x + px * scale * (1 - wanted), y: view.y + py * scale * (1 - wanted), w: view.w * wanted, h: view.h * wanted };
    set();
  }
  function look(group) {
    const at = group.getBoundingClientRect(), frame = stage.getBoundingClientRect();
    const scale = view.w / stage.clientWidth;
    const x = view.x + (at.x + at.width / 2 - frame.x) * scale, y = view.y + (at.y + at.height / 2 - frame.y) * scale;
    const w = Math.min(view.w, stage.clientWidth), h = (w * stage.clientHeight) / stage.clientWidth;
    view = { x: x - w / 2, y: y - h / 2, w, h };
    set();
  }
  let grip = null, moved = false;
  stage.addEventListener("pointerdown", (event) => { grip = { x: event.clientX, y: event.clientY, view: { ...view } }; moved = false; });
  addEventListener("pointermove", (event) => {
    if (!grip) return;
    const dx = event.clientX - grip.x, dy = event.clientY - grip.y, scale = view.w / stage.clientWidth;
    if (Math.abs(dx) + Math.abs(dy) > 4) moved = true;
    if (moved) { view = { ...view, x: grip.view.x - dx * scale, y: grip.view.y - dy * scale }; set(); }
  });
  addEventListener("pointerup", () => { grip = null; });
  addEventListener("pointercancel", () => { grip = null; });
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the wheel alone scrolls the page
    event.preventDefault();
    const frame = stage.getBoundingClientRect();
    zoom(Math.exp(Math.sign(event.deltaY) * 0.18), event.clientX - frame.x, event.clientY - frame.y);
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    const step = view.w / 10;
    const keys = {
      "+": () => zoom(0.8), "=": () => zoom(0.8), "-": () => zoom(1.25), "0": fit,
      ArrowLeft: () => { view.x -= step; set(); }, ArrowRight: () => { view.x += step; set(); },
      ArrowUp: () => { view.y -= step; set(); }, ArrowDown: () => { view.y += step; set(); },
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  document.getElementById("in").addEventListener("click", () => zoom(0.8));
  document.getElementById("out").addEventListener("click", () => zoom(1.25));
  document.getElementById("fit").addEventListener("click", fit);
  const fold = document.getElementById("fold");
  if (fold) {
    fold.textContent = isFolded ? "Unfold groups" : "Fold groups";
    fold.addEventListener("click", () => { location.hash = isFolded ? "" : "#folded"; location.reload(); });
  }
  addEventListener("resize", fit);
  addEventListener("beforeprint", () => { view = { ...whole }; set(); });
  addEventListener("afterprint", fit);
  fit();
  document.getElementById("tools").hidden = false;
  document.getElementById("hint").hidden = false;
  stage.dataset.done = "yes";
})();
