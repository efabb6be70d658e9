"""The budget of pages in Chromium: the first load, the graph, the grid, the live feed, and the heap.

Each heavy view is shown alone, by the modules that the server delivers. Frames and draws are timed in the page.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.live_rows import Figure, Figures
from bench.measure import NotRun
from lightflow.server import static
from liteflow import Dag

LAYERS, BREADTH = 30, 50  # a graph of 1,500 tasks
FRAMES: Final = 90
LIVE_TASKS: Final = 150
ROUNDS: Final = 300
PAGES: Final = Path(static.__file__).parent / "pages"
EXPORTS: Final = re.compile(r"^export (?:\{ ([^}]*) \};|(?:async function|function|class|const) (\w+))", re.MULTILINE)
LOADS: Final = 3
QUIET_MS: Final = 1_000
PAGE_LIMIT_MS: Final = 120_000
#: Executes a run whose first task waits until its input is closed, and further tasks that follow all those.
PAINTED: Final = f"""
import sys, time
from liteflow import Dag
def ready():
    sys.stdin.read()
def nap():
    time.sleep(0.05)
def nothing():
    pass
dag = Dag("painted", sys.argv[1])
first, last = dag.task(ready, "ready"), dag.task(nothing, "last")
for number in range({LIVE_TASKS}):
    first >> dag.task(nap, f"t{{number}}") >> last
for number in range(int(sys.argv[3])):
    last >> dag.task(nothing, f"w{{number}}")
dag.run(2, "thread", run_id=sys.argv[2])
"""
LARGE: Final = 9_848  # with the others 10,000
#: Runs follow each other until the program is ended.
BUSY: Final = """
import sys, time
from liteflow import Dag
def nap():
    time.sleep(0.02)
while True:
    dag = Dag("busy", sys.argv[1])
    for number in range(10):
        dag.task(nap, f"t{number}")
    dag.run(2, "thread")
"""

_WARM_UP_MS: Final = 180_000  # until the list has begun again for the first time: it is short when there are few runs

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
LIVE: Final = """async run => {
  window.delays = [];
  const {kit, rows} = window;
  kit.feed.start();
  kit.feed.follow(`run:${run}`, null, frame => {
    if (!frame.tasks) return;
    const changed = kit.rowsOf(frame.tasks);
    window.rows = new Map(window.rows);
    for (const row of changed) window.rows.set(kit.instanceName(row), row);
    window.show();
    const ends = changed.filter(row => row.task[0] === 't').map(row => row.ended_at).filter(Boolean).sort();
    const painted = () => window.delays.push(Date.now() - Date.parse(ends.at(-1)));
    if (ends.length) requestAnimationFrame(() => setTimeout(painted));
  }, () => {});
  for (let tries = 0; kit.feed.state !== 'live'; tries++) {
    if (tries === 1500) throw new Error('the feed does not become live');
    await new Promise(done => setTimeout(done, 20));
  }
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
def chromium() -> Iterator[Any]:
    """Start a browser; None where there is none."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        yield None
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def login(token: str) -> str:
    """Return the script that logs the pages of a server in."""
    items = {"lightflow/api/v1/": token, "lightflow/api/v1/role": "operator"}
    return "".join(f"sessionStorage.setItem({key!r},{value!r});" for key, value in items.items())


@contextlib.contextmanager
def browser_page(url: str, token: str) -> Iterator[Any]:
    """Open a page that is logged in; None where there is no browser."""
    with chromium() as browser:
        if browser is None:
            yield None
            return
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        export_all(page)
        page.add_init_script(login(token))
        page.goto(url)
        page.wait_for_selector("main")
        yield page


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


def painted_delays(page: Any, db: str, environ: dict[str, str], waiting: int = 0) -> list[float]:
    """Return the milliseconds from the ends of tasks to the picture that shows them; the run is another process.

    `waiting` further tasks follow those whose ends are shown.
    """
    run_id = f"painted{waiting}"
    page.evaluate(HARNESS, {"name": "Durations", "run": None, "props": {"points": []}})
    page.evaluate("window.rows = new Map()")
    command = [sys.executable, "-c", PAINTED, db, run_id, str(waiting)]
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE) as process:
        while not page.evaluate(f"window.kit.get('runs/{run_id}').then(() => true, () => false)"):
            page.wait_for_timeout(20)
        page.evaluate(HARNESS, {"name": "GraphView", "run": run_id, "props": {"path": f"runs/{run_id}"}})
        page.wait_for_selector(".node", timeout=60_000)
        page.evaluate(LIVE, run_id)
        assert process.stdin is not None
        process.stdin.close()  # the first task waits for that
    page.wait_for_timeout(300)
    delays: list[float] = page.evaluate("window.delays")
    return delays


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[18]


def view_figures(url: str, token: str, db: str, environ: dict[str, str]) -> Figures:
    """Return the figures of the heavy views; none where there is no browser."""
    make_mesh(db, "mesh")
    with browser_page(url, token) as page:
        if page is None:
            return {}
        graph, grid = graph_times(page, "mesh"), grid_times(page)
        delays, large = painted_delays(page, db, environ), painted_delays(page, db, environ, LARGE)
        before, after = heap_growth(page, "mesh", ROUNDS)
    rate = 1000 / statistics.mean(graph["frames"])
    return {
        "graph": Figure(f"{graph['first']:.0f} ms"),
        "pan": Figure(f"{rate:.0f} frames/s, p95 {p95(graph['frames']):.0f} ms"),
        "cells": Figure(f"{grid['first']:.0f} ms"),
        "cell-changes": Figure(f"{p95(grid['changes']):.1f} ms"),
        "painted": Figure(f"{statistics.median(delays):.0f} / {p95(delays):.0f} ms"),
        "painted-large": Figure(f"{statistics.median(large):.0f} / {p95(large):.0f} ms"),
        "heap": _growth(before, after),
    }


def _growth(before: float, after: float) -> Figure:
    return Figure(f"{after / before:.2f} × ({before:.1f} to {after:.1f} MB)", after / before)


def heap_figures(url: str, token: str, db: Path, minutes: float) -> Figures:
    """Leave the page of all runs open while runs of ten tasks come and go, several a second."""
    with browser_page(url, token) as page, subprocess.Popen([sys.executable, "-c", BUSY, str(db)]) as busy:
        try:
            if page is None:
                return {}
            page.goto(f"{url}#/runs")
            page.wait_for_timeout(_WARM_UP_MS)
            before = _least_heap(page)
            page.wait_for_timeout(minutes * 60_000)
            return {"heap-hour": _growth(before, _least_heap(page))}
        finally:
            busy.terminate()


def _least_heap(page: Any) -> float:
    """Return the least heap of a page within two minutes: that of a list which has just begun again, because it grows.

    The largest heap depends on how long the list is when it is measured; what is never released raises the least, too.
    """
    heaps = []
    for _ in range(24):
        page.wait_for_timeout(5_000)
        heaps.append(heap_mb(page))
    return min(heaps)


# -- the first page ----------------------------------------------------------------------------------------------------


class Load(NamedTuple):
    """What a browser with an empty cache requests for a page."""

    requests: int
    kilobytes: float  # as they are sent: compressed, with headers
    code_kilobytes: float  # those of scripts
    paint_ms: float  # until the first text or picture

    def __str__(self) -> str:
        return f"{self.requests}, {self.kilobytes:,.0f} KB ({self.code_kilobytes:,.0f} KB), {self.paint_ms:.0f} ms"


def first_load(url: str, script: str = "") -> Load | None:
    """Load a page in new browsers and return the median of each number; None where there is no browser.

    `script` is executed before those of the page.
    """
    loads = []
    for _ in range(LOADS + 1):  # the first one warms the server
        with chromium() as browser:
            if browser is None:
                return None
            loads.append(_load(browser.new_page(viewport={"width": 1280, "height": 800}), url, script))
    return Load(*(statistics.median(values) for values in zip(*loads[1:], strict=True)))


def _load(page: Any, url: str, script: str) -> Load:
    types, sizes = dict[str, str](), dict[str, float]()
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.requestWillBeSent", lambda event: types.update({event["requestId"]: event.get("type", "")}))
    session.on("Network.loadingFinished", lambda event: sizes.update({event["requestId"]: event["encodedDataLength"]}))
    page.add_init_script(script)
    page.goto(url, wait_until="load", timeout=PAGE_LIMIT_MS)
    count, paint_ms, give_up = -1, None, time.monotonic() + PAGE_LIMIT_MS / 1000
    while paint_ms is None or count != len(types):  # a page with a stream is never without a request
        if time.monotonic() > give_up:
            raise NotRun(f"{url} shows nothing")
        count = len(types)
        page.wait_for_timeout(QUIET_MS)
        paint_ms = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    code = sum(size for request, size in sizes.items() if types.get(request) == "Script")
    return Load(count, sum(sizes.values()) / 1000, code / 1000, paint_ms)
