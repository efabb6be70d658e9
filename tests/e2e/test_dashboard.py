"""Journeys through the dashboard: a real browser, a real server, real runs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dashboard_kit import Tabs, findings_of_axe, log_in
from history_kit import multiply
from scheduler_kit import until
from server_kit import RunningServer, environment, lightflow, serving

from lightflow.client import Client

FILES = {
    "five": """
        workflow_name: five
        description: Fails at c
        params: {n: 3}
        tasks:
          a: {run: "echo hello; echo n=1 >> $LIGHTFLOW_OUTPUT"}
          c: {run: "echo connecting; echo ERROR timeout >&2; test -e mended", depends_on: [a]}
          m: {run: "test ${{ item }} != 2", foreach: [1, 2, 3], depends_on: [a, c], trigger_rule: all_done}
          d: {run: "echo d", depends_on: [c]}
    """,
    "form": """
        workflow_name: form
        params:
          name: {type: string, pattern: "[a-z]+", description: Lower case}
          count: {type: integer, default: 5, minimum: 1, maximum: 9}
          share: {type: number, default: 0.5}
          day: {type: date, default: 2026-01-31}
          full: {type: boolean, default: false}
          mode: {type: enum, values: [fast, slow], default: fast}
          regions: {type: list, default: [eu]}
        tasks:
          show: {run: "echo ${{ params.name }} ${{ params.count }} ${{ params.mode }} ${{ params.full }}"}
    """,
    "ask": """
        workflow_name: ask
        tasks:
          ok: {type: approval, message: "Send it?", fields: {copies: {type: integer, default: 2}}}
          send: {run: "echo ${{ tasks.ok.outputs.copies }} copies", depends_on: [ok]}
    """,
    "parent": """
        workflow_name: parent
        tasks: {sub: {type: workflow, file: small.yaml}}
    """,
    "small": """
        workflow_name: small
        tasks: {a: {run: "echo small"}}
    """,
    "cron": """
        workflow_name: cron
        schedule: {cron: "30 2 * * *", timezone: America/New_York}
        tasks: {a: {run: "echo by schedule"}}
    """,
    "stuck": """
        workflow_name: stuck
        tasks:
          a: {run: "echo done"}
          b: {run: "test -e go || sleep 600", depends_on: [a]}
    """,
    "long": """
        workflow_name: long
        pools: {api: 1}
        tasks:
          first: {run: "echo started; sleep 600", pool: api, priority: 9}
          second: {run: "sleep 600", pool: api}
          torn: {run: "echo torn", teardown_of: first}
    """,
    "ending": """
        workflow_name: ending
        tasks:
          first: {run: "true"}
          middle: {run: "sleep 600", depends_on: [first]}
          torn: {run: "sleep 600", teardown_of: first, depends_on: [middle]}
    """,
}

NIGHT = """
    workflow_name: night
    schedule: {cron: "30 2 1 1 *", timezone: Europe/Berlin}
    tasks:
      extract: {run: "echo 12 rows"}
      load: {run: "test -e mended && exit; echo connecting; echo ERROR timeout >&2; exit 3", depends_on: [extract]}
      report: {run: "echo sent", depends_on: [load]}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("dashboard")
    for name, text in FILES.items():
        (folder / f"{name}.yaml").write_text(textwrap.dedent(text))
    assert lightflow(folder, "run", "five.yaml").returncode == 1
    with serving(folder, "serve") as running:
        yield running
    cancel_runs(folder)  # a run outlives its server


def cancel_runs(folder: Path) -> None:
    """Cancel the runs of a folder that have not ended."""
    for run in json.loads(lightflow(folder, "runs", "--limit", "1000", "--json").stdout):
        if run["status"] in ("PENDING", "RUNNING"):
            lightflow(folder, "cancel", run["run_id"])


@pytest.fixture
def page(tabs: Tabs, server: RunningServer) -> Any:
    return log_in(tabs.tab(), server.url, server.operator)


def start(server: RunningServer, workflow: str, params: dict[str, Any] | None = None) -> str:
    """Start a run, and wait until there is room for it: runs of earlier tests may still be ending."""
    answer = server.request("POST", f"/api/v1/workflows/{workflow}/runs", {"params": params or {}})
    assert answer.status in (201, 202), answer.body
    run, fire = answer.json()["run_id"], answer.json()["fire_no"]
    if run is None:
        run = until(lambda: fired_run(server, fire), server.process, 100)
    until(lambda: server.request("GET", f"/api/v1/runs/{run}").status == 200, server.process, 100)
    return str(run)


def fired_run(server: RunningServer, fire: int) -> Any:
    return next(each["run_id"] for each in server.get("/api/v1/fires?limit=50")["fires"] if each["fire_no"] == fire)


def show(page: Any, server: RunningServer, fragment: str) -> None:
    page.goto(f"{server.url}/#/{fragment}")


def state_of(page: Any) -> Any:
    return page.locator(".head .state .word").first


def wait_for_text(page: Any, selector: str, text: str) -> None:
    page.locator(selector, has_text=text).first.wait_for()


# -- getting in --------------------------------------------------------------------------------------------------------


def test_a_code_lets_in_once_and_other_tabs_follow(tabs: Tabs, server: RunningServer) -> None:
    code = server.request("POST", "/api/v1/codes").json()["code"]
    context = tabs.context()
    first = tabs.tab(context)
    first.goto(f"{server.url}/#code={code}")
    first.wait_for_selector("nav.rail")
    assert code not in first.url
    first.reload()
    first.wait_for_selector("nav.rail")
    second = tabs.tab(context)
    second.goto(f"{server.url}/#/runs")
    second.wait_for_selector("table.runs")
    assert context.cookies() == []

    tabs.expected.append("status of 401")
    stranger = tabs.tab()
    stranger.goto(f"{server.url}/#code={code}")
    wait_for_text(stranger, "[role=alert]", "unknown, used or older")
    stranger.fill("input[name=token]", "wrong")
    stranger.click("text=Open")
    wait_for_text(stranger, "[role=alert]", "does not have this token")


def test_an_address_that_follows_at_once_is_shown(tabs: Tabs, server: RunningServer) -> None:
    page = log_in(tabs.tab(), server.url, server.operator)
    page.add_init_script("""
        new MutationObserver((_, observer) => {
            if (!document.querySelector("nav.rail")) return;
            observer.disconnect();
            location.hash = "#/runs";
        }).observe(document, { childList: true, subtree: true });
    """)
    page.reload()
    page.wait_for_selector("table.runs")


def test_an_empty_folder_says_what_to_do(tabs: Tabs, tmp_path: Path) -> None:
    with serving(tmp_path, "serve") as empty:
        page = log_in(tabs.tab(), empty.url, empty.operator)
        wait_for_text(page, ".empty", "lightflow template")
        for fragment, text in (("runs", "lightflow run"), ("schedules", "schedule:"), ("pools", "lightflow pools set")):
            page.goto(f"{empty.url}/#/{fragment}")
            wait_for_text(page, ".empty", text)
        tabs.close()


def test_the_first_page_is_small(tabs: Tabs, server: RunningServer) -> None:
    page = tabs.tab()
    log_in(page, server.url, server.operator)
    wait_for_text(page, "td", "five")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.reload()
    wait_for_text(page, "td", "five")
    page.wait_for_selector(".connection.live")
    assert len([url for url in requests if not url.startswith("data:")]) <= 10, requests


# -- looking -----------------------------------------------------------------------------------------------------------


def test_a_failure_leads_to_its_output(page: Any, server: RunningServer) -> None:
    wait_for_text(page, "tr", "five")
    page.locator("tr", has_text="five").locator("td a").first.click()
    wait_for_text(page, ".failure pre", "ERROR timeout")
    page.keyboard.press("e")
    page.wait_for_selector("aside.panel")
    page.keyboard.press("l")
    wait_for_text(page, ".why", "exit code 1")
    page.keyboard.press("Escape")
    page.wait_for_selector(".failure")


def test_a_newcomer_learns_what_happened_last_night(tabs: Tabs, tmp_path: Path) -> None:
    """The clicks of docs/howto/dashboard.md: why it failed, what it printed, when it runs next, how the rest runs."""
    (tmp_path / "night.yaml").write_text(textwrap.dedent(NIGHT))
    assert lightflow(tmp_path, "run", "night.yaml").returncode == 1
    with serving(tmp_path, "serve") as night:
        page = log_in(tabs.tab(), night.url, night.operator)
        row = page.locator("tr", has_text="night")
        assert re.search(r"in \d+ (days|h|min|s)", row.locator(".next").inner_text())
        row.get_by_role("link", name="night", exact=True).click()
        wait_for_text(page, ".head", "next: ")
        page.go_back()
        row.get_by_role("link", name="failed", exact=True).click()
        wait_for_text(page, ".failure h2", "load attempt 1 exit code 3")
        wait_for_text(page, ".failure .tail", "ERROR timeout")
        page.locator(".failure h2 a").click()
        wait_for_text(page, ".log .line", "connecting")
        wait_for_text(page, ".why", "exit code 3")
        page.locator(".crumbs a").last.click()
        (tmp_path / "mended").touch()
        page.get_by_role("button", name="Resume…").click()
        wait_for_text(page, "dialog", "2 tasks run again")
        wait_for_text(page, "dialog", "1 task keeps its result")
        page.locator("dialog").get_by_role("button", name="Resume").click()
        wait_for_text(page, ".head .state", "success")
        tabs.close()


def test_a_run_that_begins_in_a_terminal_appears_and_changes(page: Any, server: RunningServer) -> None:
    show(page, server, "runs?workflow=form")
    wait_for_text(page, ".empty", "No run matches")
    lightflow(server.folder, "run", "form.yaml", "-p", "name=abc")
    wait_for_text(page, "table.runs tr", "success")
    page.click("table.runs a")
    wait_for_text(page, "h1", "form")
    assert state_of(page).inner_text() == "success"


def test_runs_are_filtered_by_text_and_days(page: Any, server: RunningServer) -> None:
    run = start(server, "form", {"name": "needle"})
    start(server, "form", {"name": "hay"})
    show(page, server, "runs?workflow=form")
    page.locator("table.runs td", has_text="name=hay").wait_for()
    page.fill("[aria-label='Only runs with this text']", "needle")
    later = start(server, "form", {"name": "later"})  # the list changes while a person types
    page.locator("table.runs tr", has_text=later).locator(".state", has_text="success").wait_for()
    page.keyboard.press("Enter")
    page.locator("table.runs td", has_text="name=hay").wait_for(state="detached")
    assert page.locator("table.runs .id").inner_text() == run
    page.get_by_label("from", exact=True).fill("2999-01-01")
    wait_for_text(page, ".empty", "No run matches")
    page.go_back()
    page.locator("table.runs .id", has_text=run).wait_for()
    page.get_by_label("Only runs of this trigger").select_option("form:manual")
    page.wait_for_url("**trigger=form%3Amanual*")
    page.locator("table.runs .id", has_text=run).wait_for()


def test_what_a_person_types_at_once_stays(tabs: Tabs, server: RunningServer) -> None:
    page = log_in(tabs.tab(), server.url, server.operator, "#/runs")
    page.add_init_script("""
        new MutationObserver((_, observer) => {
            const field = document.querySelector("[data-filter]");
            if (!field) return;
            observer.disconnect();
            field.value = "typed";
            field.dispatchEvent(new InputEvent("input", { bubbles: true }));
        }).observe(document, { childList: true, subtree: true });
    """)
    page.reload()
    page.wait_for_selector("table.runs")
    assert page.input_value("[data-filter]") == "typed"


def test_states_change_while_a_run_is_open(page: Any, server: RunningServer) -> None:
    run = start(server, "long")
    show(page, server, f"r/{run}/table")
    wait_for_text(page, "tr", "running")
    page.keyboard.press("x")
    page.click("dialog button:has-text('Cancel the run')")
    wait_for_text(page, ".note", "was asked to end")
    wait_for_text(page, ".head .state", "cancelled")
    wait_for_text(page, "#spoken", "long: cancelled")


def test_every_page_opens_without_an_error(page: Any, server: RunningServer) -> None:
    run = server.get("/api/v1/runs?workflow=five")["runs"][0]["run_id"]
    fragments = [
        "",
        "runs",
        "schedules",
        "pools",
        "system",
        "w/five",
        "w/five/graph",
        "w/cron/triggers",
        "w/five/source",
    ]
    fragments += [f"r/{run}/{tab}" for tab in ("graph", "table", "gantt", "events", "values")]
    fragments += [f"r/{run}/t/c", f"r/{run}/t/m", f"r/{run}/t/m/1", "w/form/run"]
    for fragment in fragments:
        show(page, server, fragment)
        page.wait_for_selector("h1")
        page.locator("[aria-busy=true]").first.wait_for(state="detached")
        assert page.locator("main .problem", has_text="could not be read").count() == 0, fragment


def test_what_does_not_exist_is_a_sentence(tabs: Tabs, page: Any, server: RunningServer) -> None:
    tabs.expected.append("status of 404")
    for fragment, text in (("r/none", "no run"), ("w/none", "no workflow"), ("nothing", "No such page")):
        show(page, server, fragment)
        wait_for_text(page, "main", text)


# -- acting ------------------------------------------------------------------------------------------------------------


def test_the_form_has_each_type_and_the_mistakes_of_the_server(tabs: Tabs, page: Any, server: RunningServer) -> None:
    tabs.expected.append("status of 422")
    show(page, server, "w/form/run")
    page.fill("#param-name", "UPPER")
    page.fill("#param-count", "12")
    page.click("text=Start")
    wait_for_text(page, ".field.wrong", "count")
    assert page.get_attribute("#param-count", "aria-invalid") == "true"
    page.fill("#param-name", "lower")
    page.fill("#param-count", "7")
    page.fill("#param-regions", '["eu", "us"]')
    page.select_option("#param-mode", "slow")
    page.check("#param-full")
    page.click("text=Start")
    page.wait_for_url("**/#/r/*")
    run = page.url.rpartition("/")[2]
    assert server.get(f"/api/v1/runs/{run}")["params"] == {
        "name": "lower", "count": 7, "share": 0.5, "day": "2026-01-31", "full": True, "mode": "slow",
        "regions": ["eu", "us"],
    }  # fmt: skip
    show(page, server, "w/form/run")
    page.click("text=As last time")
    assert page.input_value("#param-name") == "lower"


def test_a_failed_run_is_resumed_and_run_again(page: Any, server: RunningServer) -> None:
    run = start(server, "five")
    show(page, server, f"r/{run}/table")
    wait_for_text(page, ".head .state", "failed")
    page.click("text=Resume…")
    page.locator("dialog", has_text=re.compile("3 tasks run again:.*keeps its result")).wait_for()
    (server.folder / "mended").touch()
    page.click("dialog button:has-text('Resume')")
    wait_for_text(page, ".note", "continues")
    page.locator("tr", has_text=re.compile("success.*c")).first.wait_for()
    (server.folder / "mended").unlink()


def test_each_row_of_the_list_of_runs_has_one_line(page: Any, server: RunningServer) -> None:
    failed, long = start(server, "five"), start(server, "form", {"name": "longtext" * 40})
    show(page, server, "runs")
    for run in (failed, long):
        page.locator("table.runs tr", has_text=run).locator("text=Run again…").wait_for()
    heights = page.locator("table.runs tr[data-row]").evaluate_all("rows => rows.map(row => row.offsetHeight)")
    assert len({*heights}) == 1
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_run_is_run_again_in_the_list(page: Any, server: RunningServer) -> None:
    run = start(server, "form", {"name": "twice"})
    show(page, server, "runs?workflow=form")
    row = page.locator("table.runs tr", has_text=run)
    row.locator(".state", has_text="success").wait_for()
    row.locator(".name a").focus()
    page.keyboard.press("a")
    wait_for_text(page, "dialog", "twice")
    page.click("dialog button:has-text('Run again')")
    page.locator(".note", has_text="has started").wait_for()
    page.locator("table.runs tr", has_text="name=twice").nth(1).locator(".state", has_text="success").wait_for()


def test_a_run_is_cancelled_in_the_list_and_ends_at_once_by_a_second_cancel(page: Any, server: RunningServer) -> None:
    run = start(server, "ending")
    until(lambda: server.get(f"/api/v1/runs/{run}")["counts"].get("RUNNING"), server.process, 60)
    show(page, server, "runs?workflow=ending")
    row = page.locator("table.runs tr", has_text=run)
    row.get_by_role("button", name="Cancel").click()
    page.click("dialog button:has-text('Cancel the run')")
    wait_for_text(page, ".note", "was asked to end")
    row.get_by_role("button", name="End at once").wait_for()
    page.reload()  # the server knows that it was asked
    row.get_by_role("button", name="End at once").wait_for()
    row.locator(".name a").focus()
    page.keyboard.press("x")
    page.click("dialog button:has-text('End at once')")
    wait_for_text(page, ".note", "ends at once")
    row.locator(".state", has_text="cancelled").wait_for()


def test_a_run_whose_process_was_killed_is_resumed(page: Any, server: RunningServer) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "lightflow", "run", "stuck.yaml", "--run-id", "stuck1", "--quiet"],
        cwd=server.folder, env=environment(server.folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    show(page, server, "runs?workflow=stuck")
    page.locator("table.runs a", has_text="stuck").click()
    show(page, server, "r/stuck1/table")
    page.locator("tr", has_text=re.compile("running.*b")).wait_for()
    process.kill()
    process.wait()
    wait_for_text(page, ".head .state", "interrupted")
    (server.folder / "go").touch()
    page.keyboard.press("c")
    page.locator("dialog", has_text=re.compile("1 task runs again:.*keeps its result")).wait_for()
    page.click("dialog button:has-text('Resume')")
    wait_for_text(page, ".head .state", "success")
    assert [each["attempt"] for each in server.get("/api/v1/runs/stuck1/tasks/b")["attempts"]] == [1, 2]
    assert len(server.get("/api/v1/runs/stuck1/tasks/a")["attempts"]) == 1


def test_a_task_and_what_follows_runs_again(page: Any, server: RunningServer) -> None:
    run = start(server, "form", {"name": "again"})
    show(page, server, f"r/{run}/t/show")
    wait_for_text(page, ".head .state", "success")
    page.click("text=Run from here…")
    wait_for_text(page, "dialog", "runs again")
    page.click("dialog button:has-text('Run again')")
    page.get_by_role("button", name="attempt 2").wait_for()
    page.click("text=Mark…")
    page.get_by_label("failed").check()
    page.fill("dialog input[name=reason]", "by a test")
    page.click("dialog button:has-text('Mark')")
    wait_for_text(page, ".head .state", "failed")


def test_the_first_failure_of_a_run_is_not_one_that_it_tolerates(tabs: Tabs, tmp_path: Path) -> None:
    (tmp_path / "tolerant.yaml").write_text("""
workflow_name: tolerant
tasks:
  part: {run: "test ${{ item }} -gt 3", foreach: [1, 2, 3, 4, 5], continue_on_error: true}
  other: {run: "exit 5", continue_on_error: true}
  load: {run: "echo no such table; exit 3", depends_on: [part, other]}
""")
    assert lightflow(tmp_path, "run", "tolerant.yaml", "--run-id", "night").returncode == 1
    with serving(tmp_path, "serve") as served:
        page = log_in(tabs.tab(), served.url, served.operator, "#/r/night")
        wait_for_text(page, ".failure h2", "load attempt 1 exit code 3")
        wait_for_text(page, ".failure pre", "no such table")
        links = page.locator(".failure p a")
        assert sorted(links.all_inner_texts()) == ["✗ other", "✗ part ×3"]
        links.get_by_text("part").click()
        page.wait_for_url("**/#/r/night/t/part")
        wait_for_text(page, "h1", "part")
        tabs.close()


def test_a_child_run_names_the_task_that_executes_it(tabs: Tabs, tmp_path: Path) -> None:
    for name in ("parent", "small"):
        (tmp_path / f"{name}.yaml").write_text(textwrap.dedent(FILES[name]))
    assert lightflow(tmp_path, "run", "parent.yaml", "--run-id", "above").returncode == 0
    with serving(tmp_path, "serve") as served:
        page = log_in(tabs.tab(), served.url, served.operator, "#/r/above/t/sub")
        children = page.locator("main h2:has-text('Child runs') + table")
        children.wait_for()
        page.locator(".log").wait_for()
        assert children.bounding_box()["y"] < page.locator(".log").bounding_box()["y"]
        children.get_by_role("link").click()
        wait_for_text(page, ".facts", "by a task")
        wait_for_text(page, ".facts", "child run of task sub of above")
        page.click(".facts a")
        page.wait_for_url("**/#/r/above/t/sub")
        tabs.close()


def test_an_address_with_a_wrong_day_is_refused_in_words(tabs: Tabs, page: Any, server: RunningServer) -> None:
    tabs.expected += ["400 (Bad Request)", "does not conform to the required format"]
    show(page, server, "runs?from=yesterday&to=2026-99-01")
    wait_for_text(page, ".problem", "since")
    show(page, server, "system")
    wait_for_text(page, "h1", "System")


def test_a_row_of_a_narrow_list_has_its_actions_beside_its_state(page: Any, server: RunningServer) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    show(page, server, "")
    row = page.locator("tr", has_text="form")
    state, run, name = (row.locator(each).bounding_box() for each in (".state", "text=Run…", ".name"))
    assert run["y"] < state["y"] + state["height"] <= name["y"]
    page.set_viewport_size({"width": 1280, "height": 800})


def test_a_person_approves_with_a_form(page: Any, server: RunningServer) -> None:
    run = start(server, "ask")
    show(page, server, f"r/{run}/t/ok")
    wait_for_text(page, ".approval", "Send it?")
    assert page.input_value(".approval input[name=copies]") == "2"
    page.fill(".approval input[name=copies]", "4")
    page.click("text=Approve")
    wait_for_text(page, ".head .state", "success")
    show(page, server, f"r/{run}")
    wait_for_text(page, ".head .state", "success")
    assert server.get(f"/api/v1/runs/{run}/values/ok/copies")["value"] == 4


def test_a_file_has_its_graph_before_its_first_run(tabs: Tabs, tmp_path: Path) -> None:
    pytest.importorskip("pygraphviz")
    (tmp_path / "two.yaml").write_text(
        "workflow_name: two\ntasks: {a: {run: 'true'}, b: {run: 'true', depends_on: [a]}}\n"
    )
    with serving(tmp_path, "serve") as served:
        page = log_in(tabs.tab(), served.url, served.operator, "#/w/two/graph")
        page.locator(".node").nth(1).wait_for()
        assert page.locator(".node .label").all_text_contents() == ["a", "b"]
        tabs.close()


def test_a_parent_leads_to_its_child_and_back(page: Any, server: RunningServer) -> None:
    run = start(server, "parent")
    show(page, server, f"r/{run}/t/sub")
    wait_for_text(page, ".head .state", "success")
    page.locator("tr", has_text="small").locator("a").click()
    wait_for_text(page, "h1", "small")
    page.locator(".facts a", has_text="sub").click()
    wait_for_text(page, "h1", "sub")


def test_child_runs_do_not_come_into_the_list_of_runs(page: Any, server: RunningServer) -> None:
    show(page, server, "runs")
    page.wait_for_selector("table.runs")
    run = start(server, "parent")
    page.locator("tr", has_text=run).locator(".state", has_text="success").first.wait_for()
    assert page.locator("table.runs td.name", has_text="small").count() == 0


def test_triggers_are_paused_fired_and_planned(page: Any, server: RunningServer) -> None:
    show(page, server, "schedules")
    row = page.locator("table tr", has_text="cron")
    row.wait_for()
    next_fire = json.loads(lightflow(server.folder, "schedule", "next", "cron", "-n", "1", "--json").stdout)
    at = datetime.fromisoformat(row.locator("time").get_attribute("datetime"))
    assert f"{at:%Y-%m-%dT%H:%M}" in json.dumps(next_fire)
    there, here = (f"{at.astimezone(ZoneInfo(zone)):%H:%M}" for zone in ("America/New_York", "Europe/Berlin"))
    text = row.locator("time").inner_text()
    assert ("America/New_York" in text, there in text, here in text) == (True, True, True), text
    for zone in ("UTC", "America/New_York"):
        page.get_by_label("times of").select_option(zone)
        page.locator(".fire.planned", has_text=f"{at.astimezone(ZoneInfo(zone)):%H:%M}").first.wait_for()
    row.get_by_role("button", name="Pause").click()
    wait_for_text(page, "table tr", "paused")
    row.get_by_role("button", name="Continue").click()
    wait_for_text(page, "table tr", "active")
    row.get_by_role("button", name="Fire now").click()
    wait_for_text(page, ".note", "has started")
    show(page, server, "runs?workflow=cron")
    wait_for_text(page, "table.runs tr", "success")


def test_a_broken_file_is_shown_and_goes_when_it_is_mended(page: Any, server: RunningServer) -> None:
    file = server.folder / "broken.yaml"
    file.write_text("workflow_name: broken\ntasks: {a: {run: 'true', depend_on: []}}\n")
    until(lambda: problems_of_files(server))
    show(page, server, "system")
    wait_for_text(page, "h1", "System")
    show(page, server, "")
    assert "depends_on" in page.locator(".problem", has_text="broken.yaml").inner_text()
    file.unlink()
    until(lambda: not problems_of_files(server))
    show(page, server, "system")
    wait_for_text(page, "h1", "System")
    show(page, server, "")
    page.wait_for_selector("td")
    assert page.locator(".problem").count() == 0


def problems_of_files(server: RunningServer) -> list[str]:
    return [each["problem"] for each in server.get("/api/v1/workflows")["problems"]]


def test_a_pool_is_resized_and_shows_who_waits(page: Any, server: RunningServer) -> None:
    run = start(server, "long")
    show(page, server, "pools")
    wait_for_text(page, ".slots", "second")
    page.click("text=Resize…")
    page.fill("dialog input[name=slots]", "2")
    with page.expect_response("**/api/v1/pools"):
        lightflow(server.folder, "run", "small.yaml")  # the page reads its pools again
    page.click("dialog button:has-text('Resize')")
    wait_for_text(page, ".card", "2 of 2 used")
    lightflow(server.folder, "cancel", run)
    lightflow(server.folder, "pools", "set", "api", "1")


def test_viewers_and_read_only_servers_have_no_buttons(tabs: Tabs, server: RunningServer) -> None:
    page = log_in(tabs.tab(), server.url, server.viewer)
    wait_for_text(page, "td", "five")
    assert page.locator("text=Run…").count() == 0
    show(page, server, "runs")
    page.wait_for_selector("table.runs")
    assert page.locator("main .acts button").count() == 0
    with serving(server.folder, "ui", "lightflow.db") as history:
        other = log_in(tabs.tab(), history.url, history.operator)
        wait_for_text(other, "td", "five")
        other.locator("tr", has_text="five").locator("td a").first.click()
        other.wait_for_selector(".failure")
        assert other.locator("main button", has_text=re.compile("Resume|Run again|Cancel")).count() == 0
        other.goto(f"{history.url}/#/runs")
        other.wait_for_selector("table.runs")
        assert other.locator("main .acts button").count() == 0
        other.goto(f"{history.url}/#/system")
        wait_for_text(other, "dd", "read-only")
        tabs.close()


def test_a_dialog_takes_the_keys_from_its_first_picture(page: Any, server: RunningServer) -> None:
    show(page, server, "runs")
    page.evaluate("""
        window.opened = new Promise(resolve => new MutationObserver((_, observer) => {
            const dialog = document.querySelector("dialog");
            if (!dialog) return;
            observer.disconnect();
            resolve(dialog.open);
        }).observe(document, { childList: true, subtree: true }));
        undefined
    """)
    page.keyboard.press("?")
    assert page.evaluate("window.opened")


# -- the connection ----------------------------------------------------------------------------------------------------


def test_seven_tabs_share_one_stream(tabs: Tabs, server: RunningServer) -> None:
    context = tabs.context()
    pages = [log_in(tabs.tab(context), server.url, server.operator, "#/runs?workflow=form")]
    for _ in range(6):
        tab = tabs.tab(context)
        tab.goto(f"{server.url}/#/runs?workflow=form")
        pages.append(tab)
    for tab in pages:
        tab.wait_for_selector("h1")
        tab.wait_for_selector(".connection.live")
    run = start(server, "form", {"name": "seven"})
    for tab in pages:
        wait_for_text(tab, "table.runs .id", run)
    until(lambda: server.get("/api/v1/system")["stream_clients"] == 1)
    pages[0].close()  # it held the stream
    run = start(server, "form", {"name": "six"})
    for tab in pages[1:]:
        wait_for_text(tab, "table.runs .id", run)


def test_a_connection_that_lives_at_once_is_shown(tabs: Tabs, server: RunningServer) -> None:
    page = log_in(tabs.tab(), server.url, server.operator)
    page.add_init_script("""
        new MutationObserver((_, observer) => {
            if (!document.querySelector(".connection")) return;
            observer.disconnect();
            import("/ui/app.js").then(({feed}) => feed.setState("live"));
        }).observe(document, { childList: true, subtree: true });
    """)
    page.route("**/api/v1/stream?*", lambda route: None)  # nothing later says that the connection lives
    page.reload()
    page.wait_for_selector(".connection.live")


def test_a_tab_that_takes_the_stream_over_misses_nothing(tabs: Tabs, server: RunningServer) -> None:
    context = tabs.context()
    leader = log_in(tabs.tab(context), server.url, server.operator, "#/runs?workflow=form")
    follower = tabs.tab(context)
    follower.goto(f"{server.url}/#/runs?workflow=form")
    follower.wait_for_selector("h1")
    follower.wait_for_selector(".connection.live")
    held: list[Any] = []
    follower.route("**/api/v1/stream?*", lambda route: held.append(route))
    with follower.expect_request("**/api/v1/stream?*"):
        leader.close()
    client, before = Client(server.url, server.operator), server.get("/api/v1/runs?limit=1")["as_of"]
    run = start(server, "form", {"name": "between"})
    frames = (event["data"].get("runs", []) for event in client.events(["runs"], as_of=before))
    next(frame for frame in frames if any((each["run_id"], each["status"]) == (run, "SUCCESS") for each in frame))
    follower.unroute("**/api/v1/stream?*")
    for route in held:
        route.continue_()
    wait_for_text(follower, "table.runs .id", run)
    tabs.close()


def test_a_log_that_was_deleted_ends_no_other_topic(tabs: Tabs, server: RunningServer) -> None:
    tabs.expected.append("status of 404")
    context = tabs.context()
    first = log_in(tabs.tab(context), server.url, server.operator, "#/runs?workflow=form")
    first.wait_for_selector(".connection.live")
    second = tabs.tab(context)
    second.goto(f"{server.url}/#/system")
    second.wait_for_selector(".connection.live")
    with first.expect_response(lambda response: "/stream?" in response.url and response.status == 404):
        second.evaluate("""import('/ui/app.js').then(({feed}) => {
          feed.follow('log:none:a:-1:1', null, () => {}, () => {});
        })""")
    run = start(server, "form", {"name": "gone"})
    wait_for_text(first, "table.runs .id", run)


def test_what_happens_while_an_answer_is_on_its_way_is_shown(page: Any, server: RunningServer) -> None:
    """The stream of the view before has told of it, when the new view did not listen yet."""
    show(page, server, "pools")
    page.wait_for_selector(".connection.live")
    runs: list[str] = []

    def answer_late(route: Any) -> None:
        response = route.fetch()
        runs.append(start(server, "form", {"name": "meanwhile"}))
        Client(server.url, server.operator).wait(runs[0], timeout_s=60)
        page.evaluate(REACH, server.get("/api/v1/runs?limit=1")["as_of"])
        route.fulfill(response=response)

    page.route("**/api/v1/runs?*", answer_late, times=1)
    show(page, server, "runs?workflow=form")
    page.wait_for_selector("table.runs, .empty")
    row = page.locator("table.runs tr", has_text=runs[0])
    row.locator(".state", has_text="success").wait_for()


#: Waits until the stream of a page has reached a position.
REACH = """async position => {
  const {feed} = await import('/ui/app.js'), seq = text => Number((text || '').split('.')[1]);
  while (!(seq(feed.position) >= seq(position))) await new Promise(requestAnimationFrame);
}"""


def test_what_happens_while_the_network_is_away_is_shown_once(tabs: Tabs, tmp_path: Path) -> None:
    """A server that is stopped is silent, as an unplugged network is; the clock of the page goes a minute forward.

    The first view has no snapshot: its stream begins at the present position.
    """
    (tmp_path / "form.yaml").write_text(textwrap.dedent(FILES["form"]))
    lightflow(tmp_path, "run", "form.yaml", "-p", "name=before")
    tabs.expected.append("net::ERR")
    with serving(tmp_path, "ui", "lightflow.db") as server:
        page = tabs.tab()
        page.clock.install()
        log_in(page, server.url, server.operator, "#/pools")
        page.wait_for_selector(".connection.live")
        page.keyboard.press("g")
        page.keyboard.press("r")
        page.locator("table.runs td", has_text="name=before").wait_for()
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            page.clock.fast_forward(60_000)
            page.wait_for_selector(".connection.lost")
            assert page.locator("table.runs tr[data-row]").count() == 1
            for name in ("one", "two"):
                lightflow(tmp_path, "run", "form.yaml", "-p", f"name={name}")
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        page.clock.fast_forward(10_000)
        page.wait_for_selector(".connection.live")
        lightflow(tmp_path, "run", "form.yaml", "-p", "name=after")
        page.locator("table.runs tr", has_text="name=after").locator(".state", has_text="success").first.wait_for()
        names = page.locator("table.runs tr[data-row] td.cut").all_inner_texts()
        assert [text.split()[0] for text in names] == ["name=after", "name=two", "name=one", "name=before"]
        tabs.close()


def test_a_stream_that_is_not_answered_is_requested_again(tabs: Tabs, server: RunningServer) -> None:
    page = tabs.tab()
    page.clock.install()
    page.route("**/api/v1/stream?*", lambda route: None, times=1)
    with page.expect_request("**/api/v1/stream?*"):
        log_in(page, server.url, server.operator)
    page.clock.fast_forward(60_000)
    page.wait_for_selector(".connection.lost, .connection.live")
    page.clock.fast_forward(10_000)
    page.wait_for_selector(".connection.live")
    tabs.close()


def test_the_page_survives_the_server(tabs: Tabs, tmp_path: Path) -> None:
    (tmp_path / "form.yaml").write_text(textwrap.dedent(FILES["form"]))
    lightflow(tmp_path, "run", "form.yaml", "-p", "name=one")
    tabs.expected += ["net::ERR", "status of 401"]
    with serving(tmp_path, "serve") as first:
        page = log_in(tabs.tab(), first.url, first.operator, "#/runs")
        page.wait_for_selector("table.runs .id")
        page.wait_for_selector(".connection.live")
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        page.wait_for_selector(".connection.lost")
        assert page.locator("table.runs tr[data-row]").count() == 1
        lightflow(tmp_path, "run", "form.yaml", "-p", "name=two")
        command = [sys.executable, "-m", "lightflow", "serve", "--port", str(first.port)]
        again = subprocess.Popen(
            command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            page.wait_for_selector(".connection.live")
            page.locator("table.runs tr[data-row]").nth(1).wait_for()
            assert page.locator("table.runs tr[data-row]").count() == 2
            tabs.close()
        finally:
            again.terminate()
            again.wait()


def test_another_state_file_is_shown_after_it_replaces_the_first(tabs: Tabs, tmp_path: Path) -> None:
    (tmp_path / "form.yaml").write_text(textwrap.dedent(FILES["form"]))
    lightflow(tmp_path, "run", "form.yaml", "-p", "name=one")
    lightflow(tmp_path, "run", "form.yaml", "-p", "name=two", "--db", "other.db")
    with serving(tmp_path, "ui", "lightflow.db") as history:
        page = log_in(tabs.tab(), history.url, history.operator, "#/runs")
        wait_for_text(page, "table.runs td", "name=one")
        page.wait_for_selector(".connection.live")
        for end in ("", "-wal", "-shm"):
            (tmp_path / f"lightflow.db{end}").unlink(missing_ok=True)
        os.rename(tmp_path / "other.db", tmp_path / "lightflow.db")
        wait_for_text(page, "table.runs td", "name=two")
        page.locator("table.runs td", has_text="name=one").wait_for(state="detached")
        tabs.close()


def test_a_page_keeps_what_it_had_while_the_state_file_is_gone(tabs: Tabs, tmp_path: Path) -> None:
    def move(source: Path, target: Path) -> None:
        for end in ("", "-wal", "-shm"):
            if (source / f"lightflow.db{end}").exists():
                os.rename(source / f"lightflow.db{end}", target / f"lightflow.db{end}")

    (tmp_path / "form.yaml").write_text(textwrap.dedent(FILES["form"]))
    (tmp_path / "away").mkdir()
    lightflow(tmp_path, "run", "form.yaml", "-p", "name=one")
    with serving(tmp_path, "ui", "lightflow.db") as history:
        page = log_in(tabs.tab(), history.url, history.operator, "#/runs")
        wait_for_text(page, "table.runs td", "name=one")
        page.wait_for_selector(".connection.live")
        tabs.expected.append("status of 503")
        move(tmp_path, tmp_path / "away")
        wait_for_text(page, "main .lost", "the state file was deleted or moved")
        assert page.locator(".connection.lost").inner_text() == "no state file"
        assert page.locator("table.runs tr[data-row]").count() == 1
        assert page.locator("table.runs").evaluate("table => getComputedStyle(table).opacity") == "0.6"
        other = log_in(tabs.tab(), history.url, history.operator, "#/runs")
        wait_for_text(other, "main .lost", "the state file was deleted or moved")
        move(tmp_path / "away", tmp_path)
        for each in (page, other):
            each.locator("main .lost").wait_for(state="detached")
        other.locator("main .problem").wait_for(state="detached")
        wait_for_text(other, "table.runs td", "name=one")
        lightflow(tmp_path, "run", "form.yaml", "-p", "name=two")
        wait_for_text(page, "table.runs td", "name=two")
        tabs.close()


def test_a_deleted_run_leaves_the_list_and_its_page_says_so(tabs: Tabs, tmp_path: Path) -> None:
    (tmp_path / "form.yaml").write_text(textwrap.dedent(FILES["form"]))
    for name in ("one", "two"):
        lightflow(tmp_path, "run", "form.yaml", "-p", f"name={name}")
    with serving(tmp_path, "ui", "lightflow.db") as history:
        page = log_in(tabs.tab(), history.url, history.operator, "#/runs")
        page.locator("table.runs tr[data-row]").nth(1).wait_for()
        other = log_in(tabs.tab(), history.url, history.operator, "#/runs")
        other.locator("table.runs a").last.click()
        other.wait_for_selector(".head .state")
        assert lightflow(tmp_path, "prune", "--older-than", "0", "--keep", "1").returncode == 0
        page.locator("table.runs tr[data-row]").nth(1).wait_for(state="detached")
        wait_for_text(other, ".problem", "was deleted")
        tabs.close()


# -- keys, access, sizes -----------------------------------------------------------------------------------------------


def test_a_key_in_a_list_acts_on_the_row_with_the_focus(page: Any, server: RunningServer) -> None:
    show(page, server, "")
    wait_for_text(page, "tr", "five")
    page.keyboard.press("n")  # no row has the focus: nothing happens
    page.locator("tr", has_text="small").locator(".name a").focus()
    page.keyboard.press("n")
    page.wait_for_url("**/#/w/small/run")
    show(page, server, "w/form/source")
    page.locator("pre.source").wait_for()
    page.keyboard.press("1")
    page.wait_for_url("**/#/w/form/grid")


def test_keys_lead_everywhere_and_help_names_them(page: Any, server: RunningServer) -> None:
    for key, heading in (("r", "Runs"), ("s", "Schedules"), ("p", "Pools"), ("y", "System"), ("w", "Workflows")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        wait_for_text(page, "h1", heading)
    page.keyboard.press("?")
    wait_for_text(page, "dialog", "next failure")
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    wait_for_text(page, "td", "five")
    page.keyboard.press("/")
    page.keyboard.type("fiv")
    page.locator("tr", has_text="form").wait_for(state="detached")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector(".failure, .head .state")


def test_each_action_has_a_key_and_a_control(tabs: Tabs, page: Any, server: RunningServer) -> None:
    """Walk the table of actions, and the controls of all pages: neither has one that the other lacks."""
    table = page.evaluate("import('/ui/app.js').then(({KEYS}) => KEYS)")
    keys = {key: name for name, (key, _) in table.items()}
    assert len(keys) == len(table), "two actions have one key"
    cancel_runs(server.folder)  # so that the server has room for another
    running, old = start(server, "long"), server.get("/api/v1/runs?workflow=five")["runs"][-1]["run_id"]
    log = f"/api/v1/runs/{running}/tasks/first/attempts/1/log"
    until(lambda: server.request("GET", log).body == b"started\n")  # it can be followed
    seen = {"/", "Enter"}  # a field and a link
    pages = ["", "runs", "schedules", "pools", "w/form", "w/form/run"]
    pages += [f"r/{running}", f"r/{running}/t/first", f"r/{old}/t/c", f"r/{old}/t/m"]
    pages += [f"r/{old}/{view}" for view in ("graph", "gantt", "events", "table?task=c")]
    for fragment in pages:
        show(page, server, fragment)
        page.wait_for_selector("h1")
        page.locator("[aria-busy=true]").first.wait_for(state="detached")
        controls = page.locator("[data-key]").evaluate_all("all => all.map(each => [each.dataset.key, each.title])")
        for key, title in controls:
            assert key in keys, f"the help does not have the key {key}: {title}"
            assert title.endswith(f"({key})"), title
        seen |= {key for key, _ in controls}
        places = "main :is(.actions, .acts, .log, .tools, .head)"
        bare = page.locator(f"{places} :is(button, a.button):not([data-key], [type=submit])")
        assert bare.all_inner_texts() == [], fragment
    lightflow(server.folder, "cancel", running)
    assert sorted(keys[key] for key in set(keys) - seen - {"m", "[", "]", "b"}) == []


def test_states_have_a_word_where_colour_is_lost(page: Any, server: RunningServer) -> None:
    show(page, server, "runs")
    page.wait_for_selector("table.runs")
    for state in page.locator(".state").all():
        assert state.inner_text().strip(), "a state without a word"
        assert state.locator(".sign").inner_text().strip()


@pytest.mark.parametrize(
    "options",
    [
        {"viewport": {"width": 360, "height": 720}},
        {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2},
        {"color_scheme": "dark", "reduced_motion": "reduce", "forced_colors": "active"},
    ],
    ids=["phone", "zoom", "contrast"],
)
def test_a_narrow_or_plain_page_has_failure_log_and_resume(
    tabs: Tabs, server: RunningServer, options: dict[str, Any]
) -> None:
    run = server.get("/api/v1/runs?workflow=five")["runs"][-1]["run_id"]
    page = log_in(tabs.tab(**options), server.url, server.operator, f"#/r/{run}/table")
    wait_for_text(page, ".failure pre", "ERROR timeout")
    assert page.locator("text=Resume…").is_visible()
    for fragment in ("", "runs", "schedules", "pools", "system", f"r/{run}/table", f"r/{run}/t/c", "w/form/run"):
        show(page, server, fragment)
        page.wait_for_selector("h1")
        page.locator("[aria-busy=true]").first.wait_for(state="detached")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{fragment} is {wide} px too wide"


def test_times_are_those_of_the_browser_with_utc_beside_them(page: Any, server: RunningServer) -> None:
    wait_for_text(page, ".clock", "Europe/Berlin")
    show(page, server, "schedules")
    time = page.locator("table time").first
    time.wait_for()
    assert time.get_attribute("title").endswith("UTC")


def test_no_page_has_a_serious_finding_of_axe(tabs: Tabs, server: RunningServer) -> None:
    run = server.get("/api/v1/runs?workflow=five")["runs"][-1]["run_id"]
    findings = []
    for scheme in ("light", "dark"):
        page = log_in(tabs.tab(color_scheme=scheme), server.url, server.operator)
        for fragment in ("", "runs", "schedules", "pools", "system", "w/five", "w/five/triggers", "w/form/run",
                         f"r/{run}/table", f"r/{run}/events", f"r/{run}/values",
                         f"r/{run}/graph", f"r/{run}/gantt", f"r/{run}/t/c", f"r/{run}/t/m"):  # fmt: skip
            show(page, server, fragment)
            page.wait_for_selector("h1")
            page.locator("[aria-busy=true]").first.wait_for(state="detached")
            findings += [(scheme, fragment, *each) for each in findings_of_axe(page)]
    assert findings == [], "\n".join(map(str, findings))


def test_ten_thousand_runs_have_a_last_page(tabs: Tabs, tmp_path: Path, quick: Callable[[int, int], int]) -> None:
    count = quick(949, 9_949)
    (tmp_path / "form.yaml").write_text(textwrap.dedent(FILES["form"]))
    first = "the-first"
    lightflow(tmp_path, "run", "form.yaml", "-p", "name=one", "--run-id", first)
    name, db = "printf('copy-%05d', i)", tmp_path / "lightflow.db"
    multiply(db, "liteflow_dag_runs", "true", range(count), run_id=name, run_no="NULL")
    multiply(db, "liteflow_events", "task_id IS NULL", range(count), run_id=name, seq="NULL")
    with serving(tmp_path, "ui", "lightflow.db") as history:
        page = log_in(tabs.tab(), history.url, history.operator, "#/runs")
        for rows in range(100, count + 1, 100):
            page.locator(f"table.runs[aria-rowcount='{rows}']").wait_for()
            page.click("text=Older runs")
        page.locator(f"table.runs[aria-rowcount='{count + 1}']").wait_for()
        assert page.locator("text=Older runs").count() == 0
        assert page.locator("tr[data-row]").count() < 150  # those in view, and some around them
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.locator("tr[data-row]", has_text=first).locator("a").click()
        page.wait_for_selector(".head .state")
        page.go_back()
        page.wait_for_selector("table.runs")
        tabs.close()


def test_a_task_of_a_million_attempts_has_a_page(tabs: Tabs, tmp_path: Path, quick: Callable[[int, int], int]) -> None:
    count = quick(20_000, 1_000_000)
    (tmp_path / "often.yaml").write_text("workflow_name: often\ntasks: {often: {run: 'echo hello; exit 3'}}\n")
    lightflow(tmp_path, "run", "often.yaml", "--run-id", "often1")
    multiply(tmp_path / "lightflow.db", "liteflow_attempts", "attempt=1", range(2, count + 1), attempt="i")
    with contextlib.closing(sqlite3.connect(tmp_path / "lightflow.db")) as connection, connection:
        connection.execute("UPDATE liteflow_task_instances SET try_number=?", (count,))
        connection.execute("UPDATE liteflow_events SET attempt=? WHERE attempt=1", (count,))
    with serving(tmp_path, "ui", "lightflow.db") as history:
        path = "/api/v1/runs/often1/attempts"
        last, some = history.get(path), history.get(f"{path}?attempts=3")
        assert (len(last["rows"]), last["earlier"]) == (1000, True)
        assert [row[2] for row in some["rows"]] == [count - 2, count - 1, count]
        page = log_in(tabs.tab(), history.url, history.operator, "#/r/often1/gantt")
        page.locator(".gantt .span").last.wait_for()
        assert page.locator(".gantt .span").count() == 200
        assert f"attempt {count} of {count}" in page.locator(".gantt .span").last.get_attribute("title")
        wait_for_text(page, ".hint", "the last attempts of each task")
        show(page, history, "r/often1")
        wait_for_text(page, ".failure", f"attempt {count:,}")
        page.locator(".failure h2 a").click()
        attempts = page.locator("nav[aria-label=Attempts] button")
        page.get_by_role("button", name=f"attempt {count:,}", pressed=True).wait_for()
        assert attempts.count() == 21  # the last twenty, and those before
        wait_for_text(page, ".why", f"attempt {count}, its last")
        wait_for_text(page, ".log .line", "hello")
        page.keyboard.press("m")
        page.get_by_role("button", name=f"attempt {count - 20:,}", pressed=True).wait_for()
        wait_for_text(page, ".log .line", "hello")
        attempts.last.click()
        page.get_by_role("button", name=f"attempt {count:,}", pressed=True).wait_for()
        tabs.close()


# -- hostile text ------------------------------------------------------------------------------------------------------

SEEDS = [
    "<script>boom()</script>", "<img src=x onerror=boom()>", "<svg onload=boom()>", "<svg/onload=boom()>",
    "<iframe srcdoc='<script>parent.boom()</script>'>", "<a href=javascript:boom()>x</a>", "<body onload=boom()>",
    "<details open ontoggle=boom()>", "<video><source onerror=boom()>", "<math><mtext><script>boom()</script>",
    "<link rel=stylesheet href=//evil.example/x.css>", "<img src=//evil.example/p.png>", "<object data=//evil.example>",
    "<embed src=//evil.example>", "<form action=//evil.example><input autofocus onfocus=boom()>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>", "<style>@import '//evil.example/x.css'</style>",
    "<style>*{background:url(//evil.example/b)}</style>", "<x style=background:url(//evil.example/s)>",
    "'\"><script>boom()</script>", "</script><script>boom()</script>", "</textarea><script>boom()</script>",
    "</title><script>boom()</script>", "</style><script>boom()</script>", "--><script>boom()</script>",
    "javascript:boom()", "${boom()}", "{{constructor.constructor('boom()')()}}", "`${boom()}`",
    "\u202e<script>boom()</script>", "\x1b[31m<script>boom()</script>\x1b[0m",
    "\x1b]8;;javascript:boom()\x07x\x1b]8;;\x07",
    "\x00<script>boom()</script>", "%3Cscript%3Eboom()%3C/script%3E", "&lt;script&gt;boom()&lt;/script&gt;",
    "__proto__", "constructor", "<template><script>boom()</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=boom()>'>",
]  # fmt: skip
FORMS = ("{}", '"{}', "'{}", ">{}", "a {} b", "{}{}", "[{}](javascript:boom())", "{}\n{}")
PAYLOADS = [form.replace("{}", seed) for form in FORMS for seed in SEEDS][:300]


def test_hostile_text_stays_text_in_every_place(tabs: Tabs, tmp_path: Path) -> None:
    assert len(set(PAYLOADS)) == 300
    safe = [text.replace("\x00", "").replace("\x1b", "") for text in PAYLOADS]
    listed = [text for text in safe if text.isprintable()]
    everything = " ".join(listed)
    workflow = {
        "workflow_name": "hostile",
        "description": everything[:4000],
        "params": {
            "p": {"type": "string", "default": everything[:3000].replace("$", "S"), "description": everything[:2000]}
        },
        "pools": {"x": 1},
        "tasks": {
            "each": {
                "type": "python",
                "run": "print(item)\nset_output = None\nraise ValueError(item)",
                "foreach": [text.replace("${{", "") for text in listed],
            },
            "ok": {"type": "approval", "message": everything[:2000].replace("${", "$ {")},
        },
    }
    (tmp_path / "hostile.json").write_text(json.dumps(workflow))
    (tmp_path / "bad.yaml").write_text(f"workflow_name: bad\ntasks: {{a: {{run: x, {json.dumps(listed[0])}: 1}}}}\n")
    checked = lightflow(tmp_path, "validate", "hostile.json")
    assert checked.returncode == 0, checked.stderr
    running = subprocess.Popen(
        [sys.executable, "-m", "lightflow", "run", "hostile.json", "--run-id", "hostile1"],
        cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with serving(tmp_path, "serve") as server:
            page = tabs.tab()
            page.add_init_script("window.boom = () => { console.error('boom'); }")
            run = "hostile1"
            until(lambda: server.request("GET", f"/api/v1/runs/{run}").status == 200)
            log_in(page, server.url, server.operator)
            wait_for_text(page, "td", "hostile")
            page.locator("tr", has_text="hostile").locator("td a").first.click()
            page.wait_for_url(f"**/#/r/{run}")
            page.wait_for_selector(".failure")
            pages = ["", "runs", "w/hostile", "w/hostile/graph", "w/hostile/source", "w/hostile/triggers",
                     "w/hostile/run",
                     f"r/{run}/table", f"r/{run}/graph", f"r/{run}/gantt", f"r/{run}/events", f"r/{run}/values",
                     f"r/{run}/t/each", f"r/{run}/t/ok", "pools", "schedules", "system"]  # fmt: skip
            pages += [f"r/{run}/t/each/{index}" for index in range(0, len(listed), 23)]
            for fragment in pages:
                page.goto(f"{server.url}/#/{fragment}")
                page.wait_for_selector("h1")
                page.locator("[aria-busy=true]").first.wait_for(state="detached")
                if fragment.endswith("/table"):
                    page.locator("button.fold").first.click()
                dead = (
                    "main :is(script, iframe, object, embed, img, base, meta, link, style, video, math, form[action])"
                )
                assert page.locator(dead).count() == 0, fragment
                assert page.locator("main a[href^='javascript:' i], main a[href*='evil']").count() == 0, fragment
            wait_for_text(page, "main", "<")
            tabs.close()
    finally:
        running.terminate()
        running.wait(120)
