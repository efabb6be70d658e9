"""The budget of the dashboard's heavy views, in Chromium: the graph, the grid, the live feed, and the heap of a page.

Each view is shown alone, by the modules that the server delivers. Frames and draws are timed in the page.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lightflow.server import static
from liteflow import Dag

LAYERS, BREADTH = 30, 50  # a graph of 1,500 tasks
FRAMES: Final = 90
LIVE_TASKS: Final = 150
ROUNDS: Final = 300
PAGES: Final = Path(static.__file__).parent / "pages"
EXPORTS: Final = re.compile(r"^export (?:\{ ([^}]*) \};|(?:async function|function|class|const) (\w+))", re.MULTILINE)

#: Shows a component alone; `show` draws it again with further properties.
HARNESS: Final = """async ({name, run, props}) => {
  const kit = await import('/ui/app.js');
  if (window.main) kit.render(null, window.main);
  window.main = document.createElement('main');
  document.body.replaceChildren(window.main);
  const rows = run && new Map(kit.rowsOf(await kit.get(`runs/${run}/tasks`)).map(row => [kit.instanceName(row), row]));
  Object.assign(window, {kit, rows, picked: null, extra: {}});
  window.show = (more = {}) => {
    Object.assign(window.extra, more);
    const onSelect = (...names) => { window.picked = names; window.show({selected: names[0]}); };
    const all = {...props, ...(window.rows && {rows: window.rows}), onSelect, ...window.extra};
    kit.render(kit.html`<${kit[name]} ...${all} />`, window.main);
  };
  window.show();
}"""
PAN: Final = """async frames => {
  const stage = document.querySelector('.stage'), at = {pointerId: 1, bubbles: true, button: 0};
  const next = () => new Promise(requestAnimationFrame), times = [];
  stage.dispatchEvent(new PointerEvent('pointerdown', {...at, clientX: 500, clientY: 300}));
  let before = await next();
  for (let frame = 0; frame < frames; frame++) {
    const angle = frame / 10;
    stage.dispatchEvent(new PointerEvent('pointermove',
      {...at, clientX: 500 + 200 * Math.sin(angle), clientY: 300 + 200 * Math.cos(angle)}));
    const now = await next();
    times.push(now - before);
    before = now;
  }
  stage.dispatchEvent(new PointerEvent('pointerup', at));
  return times.slice(5);
}"""
GRID: Final = """async () => {
  const runs = Array.from({length: 25}, (_, at) =>
    ({run_id: `r${at}`, status: 'SUCCESS', started_at: '2026-11-26T02:30:00Z', duration_s: at}));
  const tasks = Array.from({length: 200}, (_, at) => `task_${at}`), cells = runs.map(() => tasks.map(() => 'SUCCESS'));
  const timed = action => {
    const from = performance.now();
    action();
    document.body.offsetHeight;
    return performance.now() - from;
  };
  const first = timed(() => window.show({runs, tasks, cells})), changes = [];
  for (let number = 0; number < 50; number++) {
    await new Promise(requestAnimationFrame);
    const next = cells.map(run => [...run]);
    next[24][number * 3] = number % 2 ? 'FAILED' : 'RUNNING';
    changes.push(timed(() => window.show({cells: next})));
  }
  return {first, changes};
}"""
LIVE: Final = """async () => {
  window.delays = [];
  const {kit, rows} = window;
  kit.feed.start();
  kit.feed.follow('run:painted', null, frame => {
    if (!frame.tasks) return;
    const changed = kit.rowsOf(frame.tasks);
    window.rows = new Map(window.rows);
    for (const row of changed) window.rows.set(kit.instanceName(row), row);
    window.show();
    const ends = changed.map(row => row.ended_at).filter(Boolean).sort();
    const painted = () => window.delays.push(Date.now() - Date.parse(ends.at(-1)));
    if (ends.length) requestAnimationFrame(() => setTimeout(painted));
  }, () => {});
  while (kit.feed.state !== 'live') await new Promise(done => setTimeout(done, 20));
}"""
CHURN: Final = """async rounds => {
  const states = ['RUNNING', 'SUCCESS', 'FAILED', 'UP_FOR_RETRY', 'PENDING'], names = [...window.rows.keys()];
  for (let round = 0; round < rounds; round++) {
    const rows = new Map(window.rows);
    for (let step = 0; step < 50; step++) {
      const name = names[(round * 50 + step) % names.length];
      rows.set(name, {...rows.get(name), status: states[(round + step) % 5]});
    }
    window.rows = rows;
    window.show();
    if (round % 10 === 0) await new Promise(requestAnimationFrame);
  }
}"""


@contextlib.contextmanager
def browser_page(url: str, token: str) -> Iterator[Any]:
    """Open a page that is logged in; None where there is no browser."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        export_all(page)
        items = {"lightflow/api/v1/": token, "lightflow/api/v1/role": "operator"}
        page.add_init_script("".join(f"sessionStorage.setItem({key!r},{value!r});" for key, value in items.items()))
        page.goto(url)
        page.wait_for_selector("main")
        yield page
        browser.close()


def nothing() -> None:
    """Do nothing: the task of a graph."""


def make_mesh(db: str, run_id: str) -> None:
    """Run a graph of LAYERS x BREADTH tasks, each of which waits for two tasks of the layer before."""
    dag = Dag("mesh", db)
    above = [dag.task(nothing, f"l0_{place}") for place in range(BREADTH)]
    for layer in range(1, LAYERS):
        row = [dag.task(nothing, f"l{layer}_{place}") for place in range(BREADTH)]
        for place, task in enumerate(row):
            above[place] >> task
            above[(place + 7) % BREADTH] >> task
        above = row
    dag.run(4, "thread", run_id=run_id)


def heap_mb(page: Any) -> float:
    """Return the size of the heap of a page after a collection."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used: float = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return used / 1e6


def heap_growth(page: Any, run_id: str, rounds: int) -> tuple[float, float]:
    """Return the heap of a page with the graph of a run before and after rounds of 50 changes."""
    props = {"path": f"runs/{run_id}"}
    page.evaluate(HARNESS, {"name": "GraphView", "run": run_id, "props": props})
    page.wait_for_selector(".node")
    page.evaluate(CHURN, rounds // 10)
    before = heap_mb(page)
    page.evaluate(CHURN, rounds)
    return before, heap_mb(page)


def export_all(context: Any) -> None:
    """Let the script of the pages export what its modules export."""
    texts = [path.read_text() for path in PAGES.glob("*.js")]
    names = ", ".join(sorted({first or second for text in texts for first, second in EXPORTS.findall(text)}))
    script = static.static_file("/ui/app.js").content.decode()
    body = f"{script}\nexport {{ {names} }};"
    context.route("**/ui/app.js", lambda route: route.fulfill(body=body, content_type="text/javascript"))


def graph_times(page: Any, run_id: str) -> dict[str, Any]:
    """Return how long the first draw of a graph of 1,500 tasks takes, and its frames while it is moved, in ms."""
    props = {"path": f"runs/{run_id}"}
    page.evaluate(HARNESS, {"name": "GraphView", "run": run_id, "props": props})
    page.wait_for_selector(".node", timeout=60_000)
    page.locator(f".node >> nth={LAYERS * BREADTH - 1}").wait_for(state="attached", timeout=60_000)
    first = page.evaluate("""async () => {
      const answer = await window.kit.get('runs/mesh/geometry?fold=none'), place = document.createElement('div');
      document.body.append(place);
      const states = window.kit.statesOf(window.rows.values()), from = performance.now();
      window.kit.render(window.kit.html`<${window.kit.Graph} geometry=${answer} states=${states} />`, place);
      place.getBoundingClientRect();
      const took = performance.now() - from;
      window.kit.render(null, place);
      place.remove();
      return took;
    }""")
    return {"first": first, "frames": page.evaluate(PAN, FRAMES)}


def grid_times(page: Any) -> dict[str, Any]:
    """Return how long the first draw of 5,000 cells and each of 50 changes take, in ms."""
    props: dict[str, Any] = {"runs": [], "tasks": [], "cells": []}
    page.evaluate(HARNESS, {"name": "Grid", "run": None, "props": props})
    times: dict[str, Any] = page.evaluate(GRID)
    return times


def painted_delays(page: Any, db: str, environ: dict[str, str]) -> list[float]:
    """Return the milliseconds from the ends of tasks to the picture that shows them; the run is another process."""
    script = (
        "import sys, time\nfrom liteflow import Dag\ndef nap():\n    time.sleep(0.05)\n"
        f"dag = Dag('painted', sys.argv[1])\nfor n in range({LIVE_TASKS}):\n    dag.task(nap, f't{{n}}')\n"
        "dag.run(2, 'thread', run_id='painted')\n"
    )
    page.evaluate(HARNESS, {"name": "Durations", "run": None, "props": {"points": []}})
    page.evaluate("window.rows = new Map()")
    process = subprocess.Popen([sys.executable, "-c", script, db], env=environ)
    while not page.evaluate("window.kit.get('runs/painted').then(() => true, () => false)"):
        page.wait_for_timeout(20)
    props = {"path": "runs/painted"}
    page.evaluate(HARNESS, {"name": "GraphView", "run": "painted", "props": props})
    page.evaluate(LIVE)
    process.wait(120)
    page.wait_for_timeout(300)
    delays: list[float] = page.evaluate("window.delays")
    return delays


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[18]


def view_rows(url: str, token: str, db: str, environ: dict[str, str]) -> list[tuple[str, str, str, bool | None]]:
    """Return the lines of the table: name, measured, goal, whether a limit is met."""
    make_mesh(db, "mesh")
    with browser_page(url, token) as page:
        if page is None:
            return [("the views in a browser", "not measured: no Chromium", "", None)]
        graph, grid = graph_times(page, "mesh"), grid_times(page)
        delays = painted_delays(page, db, environ)
        before, after = heap_growth(page, "mesh", ROUNDS)
    rate = 1000 / statistics.mean(graph["frames"])
    return [
        ("graph of 1,500 tasks, first draw", f"{graph['first']:.0f} ms", "-", None),
        ("the same while it is moved", f"{rate:.0f} frames/s, p95 {p95(graph['frames']):.0f} ms", "30 frames/s", None),
        ("grid of 5,000 cells, first draw", f"{grid['first']:.0f} ms", "100 ms", None),
        ("the same, 50 changes, p95", f"{p95(grid['changes']):.1f} ms", "16 ms", None),
        ("commit to pixel, p50 / p95", f"{statistics.median(delays):.0f} / {p95(delays):.0f} ms", "p95 100 ms", None),
        (f"heap after {ROUNDS * 50:,} changes", f"{before:.1f} to {after:.1f} MB", "+10 %", after <= before * 1.1 + 1),
    ]  # fmt: skip


def main() -> int:
    """Print the table for a server on an empty state file."""
    import tempfile

    from bench.live import ServerProcess, token_of

    with tempfile.TemporaryDirectory(prefix="bench-pages-") as name:
        db = str(Path(name) / "state.db")
        make_mesh(db, "first")
        server = ServerProcess(["-m", "lightflow", "ui", "state.db", "--port", "0"], Path(name))
        try:
            rows = view_rows(f"http://127.0.0.1:{server.port}/", token_of(server, "state.db"), db, server.environ)
        finally:
            server.stop()
    for row in rows:
        print(f"| {row[0]} | {row[1]} | {row[2]} |")
    return int(any(row[3] is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
