"""The lists of the dashboard: what waits for a person, the order of names, many rows, narrow pages."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from dashboard_kit import Tabs, findings_of_axe, log_in
from history_kit import multiply
from server_kit import RunningServer, lightflow, serving

from lightflow.client import Client

ASKS = """
workflow_name: asks
tasks:
  first: {type: approval, message: "Send it?"}
  second: {type: approval, message: "Really?"}
  other: {type: wait, file: never}
"""
TASKS = "\n".join(f"  t{number}: {{run: 'true'}}" for number in range(1, 13))
NUMBERED = f"workflow_name: numbered\ntasks:\n{TASKS}\n"
NIGHTLY = """
workflow_name: load_orders_of_all_regions
schedule: "30 2 * * *"
tasks: {a: {run: "echo name=value >> $LIGHTFLOW_OUTPUT"}}
"""


def show(page: Any, server: RunningServer, fragment: str) -> None:
    page.goto(f"{server.url}/#/{fragment}")


def test_a_run_that_waits_for_people_says_so_wherever_it_is_listed(tabs: Tabs, tmp_path: Path) -> None:
    (tmp_path / "asks.yaml").write_text(ASKS)
    with serving(tmp_path, "serve") as server:
        client = Client(server.url, server.operator)
        page = log_in(tabs.tab(), server.url, server.operator, "#/runs")
        run = str(client.start("asks")["run_id"])
        page.locator("table.runs tr", has_text=run).get_by_role("link", name="waits for 2 decisions").wait_for()
        assert client.run(run)["approvals"] == ["first", "second"]
        sign = page.locator("table.runs tr", has_text=run).locator("[data-state=RUNNING] > .sign")
        assert sign.evaluate("sign => getComputedStyle(sign).animationName") == "sheen"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert findings_of_axe(page) == []
        show(page, server, "")
        page.locator("tr", has_text="asks").get_by_role("link", name="waits for 2 decisions").click()
        page.wait_for_url(f"**/#/r/{run}/table?state=WAITING")
        page.locator(".head").get_by_role("link", name="waits for 2 decisions").wait_for()
        client.decide(run, "first", approved=True)
        page.locator(".head").get_by_role("link", name="waits for 1 decision").wait_for()
        client.decide(run, "second", approved=True)
        page.locator(".head").get_by_role("link", name="waits for").wait_for(state="detached")
        client.cancel(run)
        tabs.close()


def test_tasks_and_workflows_are_in_the_order_of_their_numbers(tabs: Tabs, tmp_path: Path) -> None:
    (tmp_path / "numbered.yaml").write_text(NUMBERED)
    for number in (2, 10):
        (tmp_path / f"w{number}.yaml").write_text(f"workflow_name: w{number}\ntasks: {{a: {{run: 'true'}}}}\n")
    assert lightflow(tmp_path, "run", "numbered.yaml", "--run-id", "numbered1").returncode == 0
    with serving(tmp_path, "serve") as server:
        page = log_in(tabs.tab(), server.url, server.operator, "#/r/numbered1/table")
        page.locator("tr[data-row]").nth(11).wait_for()
        names = page.locator("tr[data-row] .name > a").all_inner_texts()
        assert names == [f"t{number}" for number in range(1, 13)]
        show(page, server, "")
        page.locator("tr", has_text="w10").wait_for()
        assert page.locator("tr[data-row] .name > a").all_inner_texts() == ["numbered", "w2", "w10"]
        tabs.close()


def test_hundreds_of_workflows_and_values_are_shown_a_part_at_a_time(tabs: Tabs, tmp_path: Path) -> None:
    (tmp_path / "nightly.yaml").write_text(NIGHTLY)
    assert lightflow(tmp_path, "run", "nightly.yaml", "--run-id", "night").returncode == 0
    db = tmp_path / "lightflow.db"
    multiply(db, "liteflow_dags", "true", range(1, 500), dag_id="'flow' || i")
    multiply(db, "liteflow_dag_runs", "true", range(1, 500), run_id="'run' || i", dag_id="'flow' || i", run_no="NULL")
    multiply(db, "liteflow_events", "task_id IS NULL", range(1, 500), run_id="'run' || i", seq="NULL")
    multiply(db, "liteflow_xcom", "key='name'", range(1, 1_200), key="'key' || i")
    with serving(tmp_path, "ui", "lightflow.db") as server:
        page = log_in(tabs.tab(), server.url, server.operator)
        page.locator("table[aria-rowcount='500']").wait_for()
        assert page.locator("tr[data-row]").count() < 100
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.get_by_role("link", name="load_orders_of_all_regions", exact=True).wait_for()
        page.fill("[data-filter]", "flow49")
        page.locator("table[aria-rowcount='11']").wait_for()
        show(page, server, "r/night/values")
        page.locator("tr[data-row]").nth(499).wait_for()
        assert page.locator("tr[data-row]").count() == 500
        for count in (1_000, 1_200):
            page.keyboard.press("m")
            page.locator("tr[data-row]").nth(count - 1).wait_for()
        page.get_by_role("button", name="More values").wait_for(state="detached")
        tabs.close()


def test_a_week_names_its_workflows_in_full(tabs: Tabs, tmp_path: Path) -> None:
    (tmp_path / "nightly.yaml").write_text(NIGHTLY)
    with serving(tmp_path, "serve") as server:
        page = log_in(tabs.tab(), server.url, server.operator, "#/schedules")
        name = page.locator(".fire span", has_text="load_orders_of_all_regions").first
        name.wait_for()
        left_out = "each => [each.scrollWidth - each.clientWidth, each.scrollHeight - each.clientHeight]"
        assert max(name.evaluate(left_out)) <= 0
        day = page.locator(".week > div", has=name).first
        assert day.evaluate(left_out)[0] <= 0
        tabs.close()


@pytest.mark.parametrize("width", [345, 360])
def test_the_views_of_a_narrow_page_are_in_one_line(tabs: Tabs, tmp_path: Path, width: int) -> None:
    (tmp_path / "numbered.yaml").write_text(NUMBERED)
    assert lightflow(tmp_path, "run", "numbered.yaml", "--run-id", "numbered1").returncode == 0
    with serving(tmp_path, "ui", "lightflow.db") as server:
        page = log_in(
            tabs.tab(viewport={"width": width, "height": 700}), server.url, server.operator, "#/r/numbered1/table"
        )
        views = page.locator("nav.tabs[aria-label='Views of the run'] > *")
        views.last.wait_for()
        assert len({each.bounding_box()["y"] for each in views.all()}) == 1
        assert page.locator("nav.tabs").evaluate("each => each.scrollWidth <= each.clientWidth") or width < 360
        views.last.click()
        page.wait_for_url("**/#/r/numbered1/values")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert findings_of_axe(page) == []
        tabs.close()


#: Texts, and what is shown of them.
JOINED = {
    "👩\u200d💻": "👩\u200d💻",
    "👩🏽\u200d🚀 ❤️\u200d🔥": "👩🏽\u200d🚀 ❤️\u200d🔥",
    "\u0645\u06cc\u200c\u062e": "\u0645\u06cc\u200c\u062e",
    "क्\u200dष": "क्\u200dष",
    "pay\u200dpal": "pay␠200dpal",
    "\u200ca👩\u200d": "␠200ca👩␠200d",
    "a\u202eb\u200f\u2066": "a␠202eb␠200f␠2066",
}


def test_joiners_are_text_where_they_join_and_directions_are_shown(tabs: Tabs, tmp_path: Path) -> None:
    with serving(tmp_path, "serve") as server:
        page = log_in(tabs.tab(), server.url, server.operator)
        clean = "texts => import('/ui/app.js').then(({clean}) => texts.map(clean))"
        assert dict(zip(JOINED, page.evaluate(clean, list(JOINED)), strict=True)) == JOINED
        tabs.close()


FAILS = """
workflow_name: fails
tasks:
  a: {run: "sleep 0.2"}
  b: {run: "exit 3", depends_on: [a]}
  c: {run: "exit 3", continue_on_error: true}
"""


def test_the_grid_counts_the_failures_of_30_days_and_marks_the_critical_path(tabs: Tabs, tmp_path: Path) -> None:
    (tmp_path / "fails.yaml").write_text(FAILS)
    for number in range(4):
        assert lightflow(tmp_path, "run", "fails.yaml", "--run-id", f"run{number}").returncode == 1
    with contextlib.closing(sqlite3.connect(tmp_path / "lightflow.db")) as connection, connection:
        connection.execute("UPDATE liteflow_dag_runs SET started_at=started_at-31*86400 WHERE run_id='run0'")
    with serving(tmp_path, "ui", "lightflow.db") as server:
        grid = server.get("/api/v1/workflows/fails/grid")
        assert dict(zip(grid["tasks"], grid["failures"], strict=True)) == {"a": 0, "b": 3, "c": 0}
        page = log_in(tabs.tab(), server.url, server.operator, "#/w/fails/grid")
        notes = page.locator("tr[data-task] .median")
        page.get_by_text("3 failures in 30 days").wait_for()
        assert [("failures" in text) for text in notes.all_inner_texts()] == [False, True, False]
        page.locator("tr[data-task] .mark").nth(1).wait_for()
        marked = page.locator("tr[data-task] th", has=page.locator(".mark")).all_inner_texts()
        assert [text.split()[0] for text in marked] == ["a", "b"]
        assert findings_of_axe(page) == []
        tabs.close()


def test_the_system_page_says_that_the_clock_was_set(tabs: Tabs, tmp_path: Path) -> None:
    (tmp_path / "numbered.yaml").write_text(NUMBERED)
    with serving(tmp_path, "serve") as server:
        system = server.get("/api/v1/system")
        assert abs(system["clock_set_s"]) < 2
        page = tabs.tab()
        page.route("**/api/v1/system", lambda route: route.fulfill(json={**system, "clock_set_s": -3600.0}))
        log_in(page, server.url, server.operator, "#/system")
        page.locator("dd", has_text="it was set back by 1 h 00 min since the server has started").wait_for()
        tabs.close()


def test_triggers_are_grouped_by_time_zone(tabs: Tabs, tmp_path: Path) -> None:
    for name, zone in (("paris", "Europe/Paris"), ("tokyo", "Asia/Tokyo"), ("lyon", "Europe/Paris")):
        schedule = f"schedule: {{cron: '30 2 * * *', timezone: {zone}}}"
        (tmp_path / f"{name}.yaml").write_text(f"workflow_name: {name}\n{schedule}\ntasks: {{a: {{run: 'true'}}}}\n")
    with serving(tmp_path, "serve") as server:
        page = log_in(tabs.tab(), server.url, server.operator, "#/schedules")
        page.locator("tbody tr[data-row]").nth(2).wait_for()
        rows = [text.split(",")[0].split()[0] for text in page.locator("tbody th, tbody .name").all_inner_texts()]
        assert rows == ["Asia/Tokyo", "tokyo", "Europe/Paris", "lyon", "paris"]
        assert findings_of_axe(page) == []
        page.set_viewport_size({"width": 360, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        show(page, server, "w/paris/triggers")
        page.locator("tbody tr[data-row]").wait_for()
        assert page.locator("tbody th").count() == 0
        tabs.close()
