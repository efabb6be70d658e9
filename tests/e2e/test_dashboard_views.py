"""The graph, the Gantt chart, the grid and the log of the dashboard, in a real browser with real runs."""
# ruff: noqa: E501 - the lines of JavaScript

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from dashboard_kit import findings_of_axe, logged_in
from history_kit import multiply
from server_kit import RunningServer, environment, lightflow, serving

from bench.pages import HARNESS, heap_growth
from liteflow import Dag

FLOW = """
workflow_name: shapes
tasks:
  extract: {run: "sleep 0.1"}
  load:
    tasks:
      eu: {run: "true"}
      us: {run: "exit 3", retries: 1, retry_delay: 0.1}
      check: {run: "true", depends_on: [eu, us]}
    depends_on: [extract]
  resize: {run: "test ${{ item }} != 2", foreach: [1, 2, 3, 4], depends_on: [extract]}
  publish: {run: "true", depends_on: [load]}
"""
PRINTS = r"""
workflow_name: prints
tasks:
  colours:
    run: |
      printf '\033[31mred\033[0m plain \033[1;32mbold green\033[0m \033[38;5;208morange\033[0m\n'
      printf '\033[33mgoes on\nhere\033[0m and ends\n'
      printf 'progress 1%%\rprogress \033[32m100%%\033[0m\n'
      printf '\033]0;title\007<script>boom()</script> <img src=x onerror=boom()> \000 nul\n'
      python3 -c "print('x' * 1000000)"
      printf 'the end\n'
  numbers:
    run: |
      python3 -c "import sys; sys.stdout.writelines(f'{n:09d} the quick brown fox\\n' for n in range(1_200_000))"
  huge: {run: "echo the first line"}
  silent: {run: "true"}
"""
WIDE = """
workflow_name: wide
tasks:
  each: {run: "test ${{ item }} != 2", foreach: [1, 2, 3]}
"""
INSTANCES = 10_000
GIGABYTE = 1_000_000_000
FAN = 600


def fan(db: Path) -> None:
    """Make a run of a task, FAN tasks that are alike, and a last task."""
    dag = Dag("fan", str(db))
    first = dag.task(nothing, "first")
    middle = [dag.task(nothing, f"load_{number}") for number in range(FAN)]
    last = dag.task(nothing, "last")
    for task in middle:
        first >> task >> last
    dag.run(2, "thread", run_id="fan")


def swell(folder: Path) -> None:
    """Make the log of the task `huge` a file of 1 GB, which takes no room on the disk."""
    (log,) = (path for path in folder.rglob("*.log") if path.read_bytes().startswith(b"the first line"))
    with log.open("r+b") as file:
        file.truncate(GIGABYTE)
        file.seek(GIGABYTE // 2 + 1_000)
        file.write(b"\n500 million\n")
        file.seek(GIGABYTE)
        file.write(b"\nthe last line\n")


def widen(db: Path) -> None:
    """Copy the first instance of the mapped task of the run `wide1`, which succeeded, until there are INSTANCES."""
    first = "run_id='wide1' AND task_id='each' AND map_index=0"
    multiply(db, "liteflow_task_instances", first, range(3, INSTANCES), map_index="i", map_key="'item ' || i")


def nothing() -> None:
    """Do nothing."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("views")
    (folder / "shapes.yaml").write_text(FLOW)
    (folder / "prints.yaml").write_text(PRINTS)
    assert lightflow(folder, "run", "shapes.yaml", "--run-id", "shapes1").returncode == 1
    assert lightflow(folder, "run", "prints.yaml", "--run-id", "prints1", "--quiet").returncode == 0
    swell(folder)
    (folder / "wide.yaml").write_text(WIDE)
    assert lightflow(folder, "run", "wide.yaml", "--run-id", "wide1", "--quiet").returncode == 1
    widen(folder / "lightflow.db")
    fan(folder / "lightflow.db")
    with serving(folder, "ui", "lightflow.db") as running:
        yield running


@pytest.fixture
def page(browser: Any, server: RunningServer) -> Iterator[Any]:
    with logged_in(browser, server) as opened:
        yield opened


def shown(page: Any, name: str, rows_of: str | None = None, **props: Any) -> None:
    """Show a component alone, with the rows of a run."""
    page.evaluate(HARNESS, {"name": name, "run": rows_of, "props": props})


def focused(page: Any) -> str:
    label: str = page.evaluate("document.activeElement.getAttribute('aria-label')")
    return label


# -- the graph ---------------------------------------------------------------------------------------------------------


def test_the_graph_shows_states_tallies_and_the_critical_path(page: Any) -> None:
    pytest.importorskip("pygraphviz")
    shown(page, "GraphView", "shapes1", path="runs/shapes1")
    page.locator(".node.critical").first.wait_for()
    texts = page.locator(".node").evaluate_all("nodes => nodes.map(node => node.ariaLabel)")
    labels = {text.partition(" shell")[0]: text for text in texts}
    assert sorted(labels) == ["extract", "load.check", "load.eu", "load.us", "publish", "resize ×4"]
    assert "✗ failed" in labels["load.us"]
    assert "1 of 4 failed" in labels["resize ×4"]
    assert page.locator(".node", has_text="resize ×4").locator(".parts [data-state]").count() == 2
    assert page.locator(".box").text_content().startswith("load · ✗ failed")
    assert page.locator(".node.critical .label").first.text_content() == "extract"
    assert page.locator("path.edges.critical").get_attribute("d")


def test_arrow_keys_walk_along_the_edges_and_enter_opens(page: Any) -> None:
    pytest.importorskip("pygraphviz")
    shown(page, "GraphView", "shapes1", path="runs/shapes1")
    page.locator(".node[tabindex='0']").focus()
    assert focused(page).startswith("extract ")
    page.keyboard.press("ArrowRight")
    assert focused(page).startswith(("load.", "resize"))
    page.keyboard.press("ArrowLeft")
    assert focused(page).startswith("extract ")
    page.keyboard.press("Enter")
    assert page.evaluate("window.picked") == ["extract"]
    assert page.locator(".node.selected .label").text_content() == "extract"


def test_a_pan_and_a_change_of_state_touch_only_what_changes(page: Any) -> None:
    pytest.importorskip("pygraphviz")
    shown(page, "GraphView", "shapes1", path="runs/shapes1")
    page.locator(".node.critical").first.wait_for()
    changes = page.evaluate("""async () => {
      const seen = [], observer = new MutationObserver(list => seen.push(...list.map(each => each.target.dataset.at || each.target.nodeName)));
      const settle = () => new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)));
      observer.observe(document.querySelector('.stage'), {subtree: true, childList: true, attributes: true, attributeFilter: ['data-state', 'd', 'x', 'y']});
      const stage = document.querySelector('.stage'), at = {pointerId: 1, bubbles: true, button: 0};
      const before = stage.firstChild.style.transform;
      stage.dispatchEvent(new PointerEvent('pointerdown', {...at, clientX: 300, clientY: 300}));
      for (let x = 300; x < 400; x += 10) stage.dispatchEvent(new PointerEvent('pointermove', {...at, clientX: x, clientY: 300}));
      stage.dispatchEvent(new PointerEvent('pointerup', {...at, clientX: 400, clientY: 300}));
      await settle();
      const panned = seen.splice(0).length, hasMoved = stage.firstChild.style.transform !== before;
      const rows = new Map(window.rows);
      rows.set('publish', {...rows.get('publish'), status: 'RUNNING', started_at: new Date().toISOString(), ended_at: null});
      window.show({rows});
      await settle();
      observer.disconnect();
      const node = document.querySelector('[aria-label^="publish "]');
      return {panned, hasMoved, changed: [...new Set(seen)], publish: node.dataset.at, state: node.dataset.state};
    }""")
    assert changes["hasMoved"]
    assert changes["panned"] == 0
    assert set(changes["changed"]) <= {changes["publish"], "text"}
    assert changes["state"] == "RUNNING"


def test_what_is_alike_is_a_stack_that_unfolds(page: Any) -> None:
    pytest.importorskip("pygraphviz")
    shown(page, "GraphView", "fan", path="runs/fan")
    page.locator(".node.fold").wait_for()
    assert page.locator(".node").count() == 3
    assert f"{FAN + 2} tasks are drawn as 3 boxes" in page.locator(".folds").inner_text()
    page.locator(".node.fold").click()
    page.locator(".node >> nth=600").wait_for()
    assert page.locator(".node").count() == FAN + 2
    page.get_by_role("button", name="Automatic").click()
    page.locator(".node.fold").wait_for()


def test_a_graph_that_cannot_be_drawn_is_a_sentence_and_the_table(page: Any, server: RunningServer) -> None:
    page.route("**/geometry?*", lambda route: route.fulfill(
        status=200, content_type="application/json", body=json.dumps({"columns": [], "rows": [], "members": {},
        "boxes": {"rows": []}, "edges": [], "size": [0, 0], "folded": None, "layered": False})))  # fmt: skip
    shown(page, "GraphView", None, path="runs/fan")
    page.get_by_text("This workflow has no tasks.").wait_for()


# -- the Gantt chart ---------------------------------------------------------------------------------------------------


def test_the_gantt_chart_has_attempts_waits_and_the_critical_path(page: Any, server: RunningServer) -> None:
    run = server.get("/api/v1/runs/shapes1")
    shown(page, "GanttView", "shapes1", path="runs/shapes1", run=run)
    page.locator(".row.critical").first.wait_for()
    retried = page.locator(".row", has_text="load.us")
    assert retried.locator(".span").count() == 2
    assert retried.locator(".wait").count() >= 1
    assert "attempt 2 of 2 · failed" in retried.locator(".span").nth(1).get_attribute("title")
    assert "critical path: 2 tasks" in page.locator(".facts").inner_text()
    mapped = page.locator(".row", has_text="resize")
    assert "×4" in mapped.inner_text()
    mapped.get_by_role("button", name="instances of resize").click()
    page.locator(".row.child").nth(3).wait_for()
    assert page.locator(".row.child").count() == 4
    page.locator(".task[tabindex='0']").focus()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    assert page.evaluate("window.picked") == [page.locator(".row").last.locator(".name").get_attribute("title")]


def test_10_000_rows_are_drawn_by_the_viewport(page: Any) -> None:
    shown(page, "Gantt", None, tasks=[], now=0)
    page.evaluate("""() => window.show({now: 1e6, critical: [], tasks: Array.from({length: 10000}, (_, at) => ({
      name: `t${at}`, task: `t${at}`, depth: 0, count: 0, ready: at, row: {status: 'SUCCESS'},
      bars: [{attempt: 1, status: 'SUCCESS', start: at * 10, end: at * 10 + 50}]}))})""")
    page.locator(".row").first.wait_for()
    assert page.locator(".row").count() < 100
    page.locator(".scroll").evaluate("box => { box.scrollTop = box.scrollHeight }")
    page.locator(".row", has_text="t9999").wait_for()
    assert page.locator(".row").count() < 100


def test_the_pure_parts_of_the_charts(page: Any) -> None:
    made = page.evaluate("""async () => {
      const gantt = await import('/ui/app.js'), grid = gantt, graph = gantt, log = gantt;
      const rows = [{task: 'a', status: 'SUCCESS', kind: 'task', ended_at: '2026-01-01T00:00:02Z'}, {task: 'b', status: 'FAILED', kind: 'task'}];
      const attempts = [{task: 'b', attempt: 1, status: 'FAILED', started_at: '2026-01-01T00:00:05Z', ended_at: '2026-01-01T00:00:06Z'},
        {task: 'a', attempt: 1, status: 'SUCCESS', started_at: '2026-01-01T00:00:01Z', ended_at: '2026-01-01T00:00:02Z'}];
      const start = Date.parse('2026-01-01T00:00:00Z');
      const [a, b] = gantt.ganttRows(rows, attempts, new Map([['b', ['a']]]), start);
      const cells = [['SUCCESS', 'FAILED'], ['FAILED', 'SUCCESS'], [null, 'SUCCESS']];
      return {
        ready: [a.ready - start, b.ready - start], span: gantt.spanOf([a, b], 0).map(each => each - start),
        ticks: gantt.ticksOf(95, 8), words: [0, 0.25, 12, 180, 9000, 200000].map(gantt.tickText),
        upstream: gantt.upstreamOf([{id: 'a'}, {id: 'g', gate: 'group', depends_on: ['a']}, {id: 'z', depends_on: ['g']}]).get('z'),
        moves: [grid.moved([0, 0], 'ArrowUp', 2, 3), grid.moved([-1, 0], 'ArrowUp', 2, 3), grid.moved([1, 2], 'ArrowRight', 2, 3), grid.moved([0, 0], 'x', 2, 3)],
        failures: [grid.nextFailure([-1, 2], cells, 2), grid.nextFailure([0, 1], cells, 2), grid.nextFailure([1, 0], cells, 2)],
        states: [...graph.statesOf([{task: 'm', kind: 'task', status: 'RUNNING'}, {task: 'm', map_index: 0, kind: 'task', status: 'SUCCESS'},
          {task: 'm', map_index: 1, kind: 'task', status: 'FAILED'}, {task: 'm', map_index: 2, kind: 'task', status: 'RUNNING'}])][0][1].tally,
        tally: [graph.tallyText('RUNNING', {SUCCESS: 2, FAILED: 1, RUNNING: 3}), graph.tallyText('FAILED', {SUCCESS: 5, FAILED: 1}), graph.tallyText('SUCCESS', {SUCCESS: 6})],
        path: graph.pathOf([[0, 1, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]]]),
        lines: ['a\\rb', 'a\\r', '\\x1b[31ma\\rb', '\\x1b[2Jx', '\\x1b]0;t\\x07y'].map(log.collapsed),
        marked: log.marked('abcabc', 'b'),
      };
    }""")
    assert made == {
        "ready": [0, 2000],
        "span": [0, 6000],
        "ticks": [0, 15, 30, 45, 60, 75, 90],
        "words": ["0", "250 ms", "12 s", "3 min", "2 h 30", "2 d 7 h"],
        "upstream": ["a"],
        "moves": [[-1, 0], [-1, 0], [1, 2], None],
        "failures": [[0, 1], [1, 0], [0, 1]],
        "states": {"SUCCESS": 1, "FAILED": 1, "RUNNING": 1},
        "tally": ["3 of 6 done, 1 failed", "1 of 6 failed", ""],
        "path": "M0 0C1 1 2 2 3 3L4 4",
        "lines": ["b", "a", "\x1b[31mb", "x", "y"],
        "marked": ["a", "b", "ca", "b", "c"],
    }


def test_200_000_instances_and_lines_are_no_arguments_of_a_function(page: Any) -> None:
    """A browser takes about 120,000 arguments."""
    made = page.evaluate("""async () => {
      const {ganttRows, LogWindow} = await import('/ui/app.js');
      const at = second => new Date(1000 * second).toISOString(), blank = count => new Uint8Array(count).fill(10);
      const instances = Array.from({length: 200000}, (_, index) => ({task: 'm', map_index: index, kind: 'task', status: 'SUCCESS', started_at: at(1), ended_at: at(2)}));
      const rows = [{task: 'm', map_index: null, kind: 'task', status: 'SUCCESS'}, ...instances];
      const [row] = ganttRows(rows, [{task: 'm', map_index: 0, attempt: 1, status: 'SUCCESS', started_at: at(1), ended_at: at(2)}], new Map(), 0);
      const log = new LogWindow(), size = 265536;
      log.reset({bytes: blank(200000), offset: 65536, size, generation: 0});
      log.prepend({bytes: blank(65536), size});
      return {count: row.count, start: row.bars[0].start, end: row.bars[0].end, lines: log.lines.length, places: [0, 1, -1].map(place => log.lines.at(place).at)};
    }""")
    assert made == {"count": 200_000, "start": 1000, "end": 2000, "lines": 265_536, "places": [0, 1, 265_535]}


def test_a_page_that_is_open_for_long_does_not_grow(page: Any) -> None:
    before, after = heap_growth(page, "shapes1", 200)
    assert after < before * 1.1 + 0.5, f"{before:.1f} MB became {after:.1f} MB"


# -- the grid ----------------------------------------------------------------------------------------------------------

CELLS = """({rows, columns}) => {
  const states = ['SUCCESS', 'FAILED', 'SKIPPED', 'RUNNING'];
  window.tasks = Array.from({length: rows}, (_, at) => `task_${at}`);
  window.runs = Array.from({length: columns}, (_, at) => ({run_id: `r${at}`, status: 'SUCCESS', started_at: '2026-11-26T02:30:00Z', duration_s: at}));
  window.cells = runs.map((_, run) => tasks.map((_, task) => (run + task) % 7 ? 'SUCCESS' : states[(run * task) % 4]));
  window.show({runs, tasks, cells});
}"""


def test_5_000_cells_by_keyboard(page: Any) -> None:
    shown(page, "Grid", None, runs=[], tasks=[], cells=[])
    page.evaluate(CELLS, {"rows": 200, "columns": 25})
    assert page.locator(".cell").count() < 2500  # those in view, and some around them
    assert page.locator(".grid [tabindex='0']").count() == 1  # one stop of the Tab key
    page.locator(".grid [tabindex='0']").focus()
    assert focused(page).startswith("task_0, Thu 26 Nov")
    for key in ("ArrowDown", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    page.locator("[data-task='2'] [data-column='23']:focus").wait_for()
    page.keyboard.press("Enter")
    assert page.evaluate("window.picked") == ["r23", "task_2"]
    page.keyboard.press("e")
    page.locator(".cell[data-state=FAILED]:focus").wait_for()
    page.keyboard.press("Home")
    page.locator("[data-column='0']:focus").wait_for()


def test_a_change_touches_only_the_rows_that_change(page: Any) -> None:
    shown(page, "Grid", None, runs=[], tasks=[], cells=[])
    page.evaluate(CELLS, {"rows": 200, "columns": 25})
    touched = page.evaluate("""async () => {
      const seen = [], observer = new MutationObserver(list => seen.push(...list.map(each => each.target.closest?.('tr')?.dataset.task ?? each.target.parentNode?.closest('tr')?.dataset.task)));
      observer.observe(document.querySelector('.grid table'), {subtree: true, childList: true, attributes: true, characterData: true});
      const next = cells.map(run => [...run]);
      next[24][7] = 'CANCELLED';
      window.show({cells: next});
      await new Promise(done => setTimeout(done, 100));
      observer.disconnect();
      return [...new Set(seen.filter(Boolean))];
    }""")
    assert touched == ["7"]
    assert page.locator("[data-task='7'] [data-column='24']").get_attribute("data-state") == "CANCELLED"


def test_10_000_tasks_are_drawn_by_the_viewport(page: Any) -> None:
    shown(page, "Grid", None, runs=[], tasks=[], cells=[])
    page.evaluate(CELLS, {"rows": 10_000, "columns": 25})
    page.locator("[data-task='0']").wait_for()
    assert page.locator("tr[data-task]").count() < 100
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator("[data-task='9999']").wait_for()
    assert page.locator("tr[data-task]").count() < 100


# -- folds -------------------------------------------------------------------------------------------------------------


def row_of(page: Any, name: str) -> Any:
    """Return the row of a task, an instance or a group in the table of a run."""
    return page.locator("tr[data-row]", has=page.get_by_role("link", name=name, exact=True))


def names_in(page: Any) -> list[str]:
    """Return the tasks and groups of the table of a run."""
    names: list[str] = page.locator("tr[data-row] .name > a").all_inner_texts()
    return names


def test_groups_fold_in_the_table_of_a_run_and_the_address_has_it(page: Any, server: RunningServer) -> None:
    page.goto(f"{server.url}/#/runs")
    page.wait_for_selector("table.runs")
    page.goto(f"{server.url}/#/r/shapes1/table")
    group = row_of(page, "load")
    group.wait_for()
    everything = ["load", "load.us", "load.check", "load.eu", "resize", "publish", "extract"]
    assert names_in(page) == everything
    group.get_by_role("button", name="3 tasks").click()
    row_of(page, "load.us").wait_for(state="detached")
    assert names_in(page) == ["load", "resize", "publish", "extract"]
    counts = group.locator(".count").evaluate_all("all => all.map(each => each.textContent.trim())")
    assert counts == ["✗ 1 failed", "⊘ 1 upstream failed", "✓ 1 success"]
    page.reload()
    group.wait_for()
    assert names_in(page) == ["load", "resize", "publish", "extract"]
    group.locator("a").focus()
    page.keyboard.press("b")
    row_of(page, "load.us").wait_for()
    assert group.get_by_role("button", name="3 tasks").get_attribute("aria-expanded") == "true"
    page.evaluate("document.activeElement.blur()")  # no row has the focus now
    page.keyboard.press("b")
    row_of(page, "1").wait_for()
    assert len(names_in(page)) == len(everything) + 4
    page.get_by_role("button", name="Fold", exact=True).click()
    row_of(page, "load.us").wait_for(state="detached")
    page.locator("[data-filter]").fill("load.u")  # a filter shows what it finds
    row_of(page, "load.us").wait_for()
    assert names_in(page) == ["load", "load.us"]
    page.locator("[data-filter]").fill("")
    page.get_by_role("link", name="Gantt").click()
    page.locator(".gantt").wait_for()
    page.get_by_role("link", name="Table", exact=True).click()
    group.wait_for()
    assert names_in(page) == ["load", "resize", "publish", "extract"]
    for _ in range(3):
        page.go_back()
    page.wait_for_selector("table.runs")  # what was folded is no page of its own


def test_groups_fold_in_the_grid(page: Any, server: RunningServer) -> None:
    page.goto(f"{server.url}/#/w/shapes")
    page.get_by_role("button", name="load", exact=True).wait_for()
    titles = "all => all.map(each => each.title)"
    assert page.locator("tr[data-task] th").evaluate_all(titles) == [
        "extract",
        "load",
        "load.eu",
        "load.us",
        "load.check",
        "resize",
        "publish",
    ]
    names = page.locator("tr[data-task] th").all_inner_texts()
    assert [name.strip("▵ ").split()[-1] for name in names] == [
        "extract",
        "load",
        "eu",
        "us",
        "check",
        "resize",
        "publish",
    ]
    page.locator("[data-task='1'] .cell").focus()
    page.keyboard.press("Enter")
    page.locator("tr[data-task='4']").wait_for(state="detached")
    assert page.locator("tr[data-task] th").evaluate_all(titles) == ["extract", "load", "resize", "publish"]
    folded = page.locator("[data-task='1']")
    assert folded.locator(".cell:focus").get_attribute("data-state") == "FAILED"
    assert folded.locator(".median").inner_text() == "1 of 3 failed"
    page.wait_for_url("**toggled=load*")
    page.keyboard.press("b")
    page.locator("tr[data-task='6']").wait_for()


def test_folds_have_no_serious_finding_of_axe(page: Any, server: RunningServer) -> None:
    for fragment in ("r/shapes1/table?toggled=load", "r/shapes1/table", "w/shapes?toggled=load", "w/shapes"):
        page.goto(f"{server.url}/#/{fragment}")
        page.locator(f"main .fold[aria-expanded={'false' if 'toggled' in fragment else 'true'}]").first.wait_for()
        assert findings_of_axe(page) == [], fragment


def test_10_000_tasks_in_groups_are_folded_at_first(page: Any) -> None:
    shown(page, "Grid", None, runs=[], tasks=[], cells=[])
    page.evaluate(CELLS, {"rows": 10_000, "columns": 25})
    page.evaluate("""() => window.show({groups: Array.from({length: 100}, (_, group) =>
      ({id: `group_${group}`, members: window.tasks.slice(100 * group, 100 * group + 100)}))})""")
    page.locator(".grid table[aria-rowcount='101']").wait_for()
    page.locator("[data-task='0'] [data-column='24']").focus()
    page.keyboard.press("Enter")
    page.locator(".grid table[aria-rowcount='201']").wait_for()
    assert page.locator("tr[data-task]").count() < 150
    page.get_by_role("button", name="Unfold", exact=True).click()
    page.locator(".grid table[aria-rowcount='10101']").wait_for()
    assert page.locator("tr[data-task]").count() < 150
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.locator("[data-task='10099']").wait_for()


def test_a_group_that_is_in_itself_hides_no_task(page: Any) -> None:
    """Only an altered state file has one."""
    names = page.evaluate("""async () => {
      const {treeOf} = await import('/ui/app.js');
      const flat = nodes => nodes.flatMap(node => [node.name, ...flat(node.children || [])]);
      const groups = [{id: 'a', members: ['b', 'x']}, {id: 'b', members: ['a', 'y']}, {id: 'c', members: ['c', 'z']}];
      return flat(treeOf([{name: 'x'}, {name: 'y'}, {name: 'z'}], groups, {fold: 'none', toggled: []})).sort();
    }""")
    assert names == ["a", "b", "c", "x", "y", "z"]


# -- the mosaic --------------------------------------------------------------------------------------------------------


def pixel(page: Any, at: int) -> str:
    """Return the fill of a cell of the mosaic: the colour at the left of its upper edge, below its border."""
    colour: str = page.evaluate(
        """at => {
      const canvas = document.querySelector('.mosaic canvas'), ratio = devicePixelRatio, across = Math.floor(canvas.clientWidth / 8);
      const [x, y] = [at % across * 8 + 3, Math.floor(at / across) * 8 + 1.5].map(each => Math.round(each * ratio));
      const pen = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
      pen.drawImage(canvas, -x, -y);
      return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)].join();
    }""",
        at,
    )
    return colour


def test_10_000_instances_are_a_mosaic(page: Any, server: RunningServer) -> None:
    page.goto(f"{server.url}/#/r/wide1/t/each")
    mosaic = page.locator(".mosaic")
    mosaic.wait_for()
    assert mosaic.get_attribute("aria-label") == "10,000 instances: 1 failed, 9,999 success"
    assert page.locator("tr[data-row]").count() < 150  # the table has the rows in view
    assert page.locator(".head .took").inner_text(), "from the first start to the last end of its instances"
    failed, success = pixel(page, 0), pixel(page, 1)  # failures are first
    assert failed != success == pixel(page, 9_999)
    mosaic.focus()
    assert "each[1]" in page.locator("#cell").inner_text()
    page.keyboard.press("ArrowRight")
    page.locator("#cell", has_text="each[0]").wait_for()
    page.keyboard.press("End")
    page.locator("#cell", has_text="item 9999").wait_for()
    page.keyboard.press("e")
    page.locator("#cell", has_text="each[1]").wait_for()
    page.locator(".mosaic canvas").hover(position={"x": 12, "y": 4})
    page.locator("#cell", has_text="each[0]").wait_for()
    page.get_by_label("Order of instances").select_option("index")
    page.locator("#cell", has_text="each[1]").wait_for()
    assert pixel(page, 0) == success
    assert pixel(page, 1) == failed
    page.get_by_label("Filter instances").fill("item 77")
    page.locator(".mosaic[aria-label^='111 instances']").wait_for()
    page.locator(".mosaic canvas").click(position={"x": 5, "y": 5})
    page.wait_for_url("**/#/r/wide1/t/each/77")
    page.go_back()
    page.locator(".mosaic[aria-label^='10,000']").wait_for()
    page.emulate_media(color_scheme="dark")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert pixel(page, 1) != success


#: Scrolls by 300 pixels, and returns how far the row in the middle of the page has moved, and the height of a row. Not every
#: browser hides by scroll anchoring that rows above have other heights than was expected.
ROWS_MOVED = """async () => {
  const painted = async () => { for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame); };
  document.documentElement.style.overflowAnchor = 'none';
  scrollTo(0, 200000);
  await painted();
  const rows = [...document.querySelectorAll('tr[data-row]')], top = row => row.getBoundingClientRect().top;
  const at = rows.findIndex(row => top(row) > 400), name = rows[at].innerText, before = top(rows[at]);
  const height = top(rows[1]) - top(rows[0]);
  scrollBy(0, 300);
  await painted();
  const [row] = [...document.querySelectorAll('tr[data-row]')].filter(row => row.innerText === name);
  return {moved: row && before - top(row), height};
}"""


def test_rows_of_a_narrow_page_stay_where_they_are_while_it_is_scrolled(page: Any, server: RunningServer) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(f"{server.url}/#/r/wide1/t/each")
    page.locator("tr[data-row]").first.wait_for()
    scrolled = page.evaluate(ROWS_MOVED)
    assert scrolled["height"] > 40, "a card is higher than a row"
    assert abs(scrolled["moved"] - 300) <= 2
    page.set_viewport_size({"width": 1280, "height": 700})
    scrolled = page.evaluate(ROWS_MOVED)
    assert scrolled["height"] < 40
    assert abs(scrolled["moved"] - 300) <= 2


def test_the_long_name_of_a_task_that_failed_fits_into_a_narrow_page(page: Any, server: RunningServer) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(f"{server.url}/#/r/shapes1/table")
    name = page.locator(".failure h2 a")
    name.wait_for()
    name.evaluate("link => { link.textContent = 'region_'.repeat(15) }")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_small_mosaic_has_the_signs_of_states(page: Any) -> None:
    shown(page, "Mosaic", None, rows=[])
    page.evaluate("""() => window.show({rows: Array.from({length: 40}, (_, at) => (
      {task: 't', map_index: at, map_key: null, status: at % 2 ? 'FAILED' : 'SUCCESS', attempt: 1, reason: ''}))})""")
    page.locator(".mosaic[aria-label='40 instances: 20 success, 20 failed']").wait_for()
    different = page.evaluate("""() => {
      const canvas = document.querySelector('.mosaic canvas'), pen = new OffscreenCanvas(100, 20).getContext('2d', {willReadFrequently: true});
      pen.drawImage(canvas, 0, 0);
      const dark = at => pen.getImageData(at * 20 + 2, 2, 15, 15).data.reduce((sum, value) => sum + value, 0);
      return dark(0) !== dark(1) && dark(0) === dark(2);
    }""")
    assert different


# -- the log -----------------------------------------------------------------------------------------------------------


def in_time(page: Any, value: str, condition: str) -> Any:
    """Return an expression of the page in the first picture of the screen in which it meets a condition."""
    return page.evaluate(f"""async () => {{
      for (;;) {{
        const value = {value};
        if (({condition})(value)) return value;
        await new Promise(requestAnimationFrame);
      }}
    }}""")


VISIBLE = """() => {
  const box = document.querySelector('.text').getBoundingClientRect();
  return [...document.querySelectorAll('.line')].filter(line => {
    const place = line.getBoundingClientRect();
    return place.top >= box.top && place.bottom <= box.bottom;
  }).map(line => line.textContent);
}"""


def numbers(page: Any) -> list[int]:
    """Return the numbers of the whole lines in view; after a jump the browser shows none until it has drawn them.

    The first line of what is read may be cut, until what is before it has been read.
    """
    lines = in_time(page, f"({VISIBLE})().filter(line => !line.startsWith('…'))", "lines => lines.length > 0")
    return [int(text.split(" ")[0]) for text in lines]


def log_of(page: Any, task: str, **props: Any) -> None:
    shown(page, "Log", None, url=f"runs/prints1/tasks/{task}/attempts/1/log", **props)


def test_a_log_has_colours_no_escapes_and_only_text(page: Any) -> None:
    log_of(page, "colours")
    page.locator(".line").first.wait_for()
    assert page.locator(".line").nth(0).inner_text() == "red plain bold green orange"
    named = page.locator(".line .named.c")
    assert named.all_inner_texts() == ["red", "bold green", "goes on", "here", "100%"]
    colours = named.evaluate_all("all => all.map(each => getComputedStyle(each).color)")
    assert colours[1] == colours[4] != colours[0] != colours[2] == colours[3]
    assert page.locator(".named.bold").inner_text() == "bold green"
    assert page.locator(".line").nth(0).locator(".c:not(.named)").inner_text() == "orange"
    assert page.locator(".line").nth(3).inner_text() == "progress 100%"
    assert page.locator(".line").nth(4).inner_text() == "<script>boom()</script> <img src=x onerror=boom()> ␠0000 nul"
    assert page.locator(".log script, .log img").count() == 0
    assert "more characters" in page.locator(".line").nth(5).inner_text()
    page.get_by_role("button", name="End").click()
    page.locator(".line", has_text="the end").wait_for()


def test_a_large_log_is_read_by_windows(page: Any) -> None:
    sizes: list[int] = []
    page.on("response", lambda response: sizes.append(int(response.headers.get("content-length", 0)))
            if "/log?" in response.url else None)  # fmt: skip
    log_of(page, "numbers", fromEnd=True)
    page.locator(".line", has_text="001199999").wait_for()
    assert numbers(page)[-1] == 1_199_999
    assert max(sizes) <= 65536
    page.fill("[name=find]", "000600000 ")
    page.keyboard.press("Enter")
    page.locator(".hit", has_text="000600000").wait_for()
    assert page.locator(".hit mark").inner_text() == "000600000 "
    for distance in (-3000, -3000, -3000, -3000, -3000, -3000, 9000, 9000, 9000, 9000):
        page.locator(".text").evaluate(f"box => {{ box.scrollTop += {distance} }}")
        seen = numbers(page)  # at each moment there is no gap, and no line twice
        assert seen == list(range(seen[0], seen[0] + len(seen)))
    assert page.locator(".line").count() < 100
    assert max(sizes) <= 65536
    assert sum(sizes) < 3_000_000  # of 36 MB
    page.get_by_role("button", name="Start").click()
    page.locator(".line", has_text="000000000 ").wait_for()
    page.get_by_label("Place in the log").evaluate(
        "bar => { bar.value = 500; bar.dispatchEvent(new Event('change', {bubbles: true})) }"
    )
    page.locator(".line", has_text="000600010").wait_for()
    page.fill("[name=find]", "nowhere")
    page.keyboard.press("Enter")
    page.get_by_text("is not in this log").wait_for()


def test_a_log_of_a_gigabyte_is_read_by_windows(page: Any) -> None:
    sizes: list[int] = []
    page.on("response", lambda response: sizes.append(int(response.headers.get("content-length", 0)))
            if "/log?" in response.url else None)  # fmt: skip
    log_of(page, "huge", fromEnd=True)
    page.locator(".line", has_text="the last line").wait_for()
    assert "1.0 GB" in page.locator(".place").inner_text()
    page.get_by_role("button", name="Start").click()
    page.locator(".line", has_text="the first line").wait_for()
    page.get_by_label("Place in the log").evaluate(
        "bar => { bar.value = 500; bar.dispatchEvent(new Event('change', {bubbles: true})) }"
    )
    page.locator(".line", has_text="500 million").wait_for()
    assert sum(sizes) < 2_000_000


def test_wrap_raw_and_download(page: Any, tmp_path: Path) -> None:
    log_of(page, "colours")
    page.locator(".line").first.wait_for()
    page.get_by_role("button", name="Wrap").click()
    assert page.locator(".text.wrap .line").nth(5).evaluate("line => line.clientHeight") > 18
    page.get_by_role("button", name="Raw").click()
    assert "<script>boom()</script>" in page.locator("pre.text").inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "saved.log")
    assert (tmp_path / "saved.log").read_bytes().endswith(b"\nthe end\n")
    assert (tmp_path / "saved.log").stat().st_size > 1_000_000


def test_no_output_and_a_missing_log_are_sentences(page: Any) -> None:
    log_of(page, "silent")
    page.get_by_text("It printed nothing.").wait_for()


class GrowingLog:
    """A log whose windows the test answers, so that it decides when a page reads on."""

    def __init__(self, page: Any) -> None:
        self.page, self.size, self.held = page, 0, list[Any]()
        self.is_holding = False
        page.route("**/growing?*", self._answer)

    def _answer(self, route: Any) -> None:
        if self.is_holding:
            self.held.append(route)
            return
        query = {name: values[0] for name, values in parse_qs(urlsplit(route.request.url).query).items()}
        text = "".join(f"{number:07d} growing\n" for number in range(self.size)).encode()
        start = max(0, len(text) - 65536) if query.get("from") == "end" else int(query["offset"])
        sizes = {"X-Log-Offset": str(start), "X-Log-Size": str(len(text)), "X-Log-Generation": "0"}
        route.fulfill(body=text[start : start + 65536], content_type="text/plain", headers=sizes)

    def show(self, lines: int) -> None:
        self.size = lines
        log = {"url": "growing", "live": True, "topic": "runs"}
        shown(self.page, "Log", None, **log)
        self.page.locator(".line", has_text=f"{lines - 1:07d}").wait_for()

    def grow(self, lines: int) -> None:
        """Let the page know that the log has grown; it requests the rest."""
        self.size += lines
        frame = {"topic": "runs", "size": self.size * 16, "generation": 0}
        self.page.evaluate("frame => window.kit.feed.deliver('log', frame)", frame)

    def hold(self) -> None:
        self.is_holding = True

    def release(self) -> None:
        """Answer the request that is held, and wait until the page has drawn its lines."""
        self.is_holding = False
        for route in self.held:
            self._answer(route)
        self.held.clear()
        in_time(self.page, "document.querySelector('.all').clientHeight", f"height => height === {self.size * 18}")


def log_that_is_read_on(page: Any) -> GrowingLog:
    """Return a log of 1,000 lines, of which the page has just requested 100 more; the answer is held."""
    log = GrowingLog(page)
    log.show(1000)
    log.hold()
    with page.expect_request("**/growing?*"):
        log.grow(100)
    return log


#: Scrolls a log, and waits until the page knows.
SCROLL_LOG = """by => new Promise(done => {
  const box = document.querySelector('.text');
  box.addEventListener('scroll', () => requestAnimationFrame(done), {once: true});
  box.scrollTop += by;
})"""


@pytest.mark.parametrize("is_known", [True, False], ids=["before", "with"])
def test_a_person_who_scrolls_up_is_not_taken_back_to_the_end(page: Any, is_known: bool) -> None:
    """The page reads on while the person scrolls; or it draws the lines before it knows that the person has."""
    log = log_that_is_read_on(page)
    if is_known:
        page.evaluate(SCROLL_LOG, -400)
    else:
        page.evaluate("document.querySelector('.text').scrollTop -= 400; window.show()")
    page.locator("[data-key=f][aria-pressed=false]").wait_for()
    before = numbers(page)
    assert before[-1] < 990
    log.release()
    assert numbers(page) == before
    page.evaluate("document.querySelector('.text').scrollTop -= 180; window.show()")
    assert numbers(page) == [number - 10 for number in before]
    page.locator("[data-key=f]").click()
    page.locator(".line", has_text="0001099").wait_for()


def test_a_log_that_grows_while_the_view_moves_is_still_followed(page: Any) -> None:
    log = log_that_is_read_on(page)
    page.evaluate(SCROLL_LOG, -1)
    assert page.locator("[data-key=f]").get_attribute("aria-pressed") == "true"
    log.release()
    page.locator(".line", has_text="0001099").wait_for()
    assert page.locator("[data-key=f]").get_attribute("aria-pressed") == "true"


def test_the_place_in_a_log_that_grows_stays_where_a_person_drags_it(page: Any) -> None:
    log = GrowingLog(page)
    log.show(10_000)
    place = page.get_by_label("Place in the log")
    place.evaluate("bar => { bar.value = 500; bar.dispatchEvent(new Event('input', {bubbles: true})) }")
    log.grow(100)
    page.locator(".line", has_text="0010099").wait_for()
    assert place.input_value() == "500"
    place.evaluate("bar => { bar.dispatchEvent(new Event('change', {bubbles: true})) }")
    page.locator(".line", has_text="0005050").wait_for()


def test_a_page_goes_on_after_it_has_left_a_log_that_grows(page: Any) -> None:
    log_that_is_read_on(page)
    page.evaluate("window.kit.render(null, document.querySelector('main'))")
    assert in_time(page, "document.querySelector('.log')", "log => log === null") is None


LIVE = """
workflow_name: live
tasks:
  talk:
    run: |
      number=0
      while [ ! -e stop ]; do
        for each in 1 2 3 4 5 6 7 8 9 10; do printf '%07d growing\\n' $number; number=$((number + 1)); done
        sleep 0.02
      done
"""


def test_following_stops_where_a_person_scrolls_up_and_resumes(page: Any, server: RunningServer) -> None:
    stop = server.folder / "stop"
    (server.folder / "live.yaml").write_text(LIVE)
    process = subprocess.Popen(
        [sys.executable, "-m", "lightflow", "run", "live.yaml", "--run-id", "live", "--quiet"],
        cwd=server.folder, env=environment(server.folder),
    )  # fmt: skip
    try:
        log = "/api/v1/runs/live/tasks/talk/attempts/1/log"
        while server.request("GET", log).status != 200 or not server.request("GET", log).body:
            assert process.poll() is None
        page.evaluate("import('/ui/app.js').then(kit => kit.feed.start())")
        shown(page, "Log", None, url="runs/live/tasks/talk/attempts/1/log", live=True, topic="log:live:talk:-1:1")
        page.locator(".line").first.wait_for()
        last = numbers(page)[-1]
        while numbers(page)[-1] < last + 100:  # it goes on by itself
            page.wait_for_timeout(50)
        page.locator(".text").evaluate("box => { box.scrollTop -= 400 }")
        page.locator("[data-key=f][aria-pressed=false]").wait_for()
        before = numbers(page)
        page.get_by_text("more below").wait_for()
        assert numbers(page) == before
        page.locator("[data-key=f]").click()
        page.locator("[data-key=f][aria-pressed=true]").wait_for()
        while numbers(page)[-1] < before[-1] + 100:
            page.wait_for_timeout(50)
    finally:
        stop.touch()
        process.wait(120)


# -- text of others ----------------------------------------------------------------------------------------------------

PAYLOADS = [
    "<script>boom()</script>", "<img src=x onerror=boom()>", '"><svg onload=boom()>', "javascript:boom()",
    "<a href=javascript:boom()>x</a>", "</title><script>boom()</script>", "${boom()}", "{{boom()}}", "<!--", "\u202eabc",
    "' onmouseover='boom()", "<iframe srcdoc='<script>boom()</script>'>", "\u0000\u001b[31m", "</text><script>boom()</script>",
]  # fmt: skip


def test_names_of_others_stay_text(page: Any) -> None:
    """Each payload as a label, a kind, a group, a task, a reason, a key of an instance and an id of a run."""
    shown(page, "Durations", None, points=[])
    count = page.evaluate(
        """async payloads => {
      window.boom = () => { throw new Error('it came to life'); };
      const {kit} = window, gantt = kit, grid = kit, graph = kit;
      let elements = 0;
      for (const text of payloads) {
        const place = document.createElement('div');
        document.body.append(place);
        const geometry = {size: [300, 100], rows: [[text, text, text, text, 50, 50, 100, 36]], boxes: {rows: [[text, '', 60, 50, 120, 60]]}, edges: [], members: {}};
        const states = new Map([[text, {status: text, started_at: null, ended_at: null, tally: null}]]);
        const row = {name: text, task: text, depth: 0, count: 2, ready: 0, row: {status: text, map_key: text}, bars: [{attempt: 1, status: text, start: 0, end: 10}]};
        const run = {run_id: text, status: text, started_at: '2026-11-26T02:30:00Z', duration_s: 1};
        kit.render(kit.html`<${graph.Graph} geometry=${geometry} states=${states} critical=${[text]} selected=${text} />
          <${gantt.Gantt} tasks=${[row, {...row, name: text + 1, depth: 1}]} now=${20} critical=${[text]} />
          <${grid.Grid} runs=${[run]} tasks=${[text]} cells=${[[text]]} medians=${new Map()} />
          <${grid.Durations} points=${[{...run, duration_s: 1}]} median=${1} p95=${1} />`, place);
        elements += place.querySelectorAll('script, img, iframe, a, svg svg, [onload], [onerror], [onmouseover]').length;
        if (!place.textContent.includes(kit.clean(text).slice(0, 8))) elements += 100;
      }
      await new Promise(done => setTimeout(done, 100));
      return elements;
    }""",
        PAYLOADS,
    )
    assert count == 0


def test_requests_end_when_a_view_is_left(page: Any) -> None:
    log_of(page, "numbers", fromEnd=True)
    page.locator(".line").first.wait_for()
    page.route("**/log?find=*", lambda route: None)  # the answer does not come before the view is left
    page.fill("[name=find]", "never to be found")
    with page.expect_request("**/log?find=*"):
        page.keyboard.press("Enter")
    with page.expect_event("requestfailed", lambda request: "/log?find=" in request.url):
        page.evaluate("window.kit.render(null, document.querySelector('main'))")
