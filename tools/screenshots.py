"""Make pictures of every page of the dashboard: light, dark, narrow, enlarged, in forced colours, empty, large, failed.

`python tools/screenshots.py` writes them to demo-out/screens. With `--docs` it writes the pictures of the documentation
to docs/images instead. It needs Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Page, sync_playwright

ROOT: Final = Path(__file__).resolve().parents[1]
ARGUMENTS: Final = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

NIGHTLY: Final = """
workflow_name: nightly
description: Orders of all regions, from the shops to the warehouse
schedule: {cron: "30 2 * * *", timezone: Europe/Berlin}
params:
  day: {type: date, default: yesterday, description: The day to load}
  full: {type: boolean, default: false, description: Load everything again}
  regions: {type: list, default: [eu, us, apac], description: Regions to load}
  limit: {type: integer, default: 1000, minimum: 1, maximum: 100000}
  mode: {type: enum, values: [fast, careful], default: fast}
tasks:
  extract: {run: "echo reading 3 sources; sleep 0.3; echo rows=4120 >> $LIGHTFLOW_OUTPUT"}
  clean: {run: "echo 4120 rows, 12 dropped; sleep 0.2", depends_on: [extract]}
  resize:
    run: 'echo image ${{ item }}; sleep 0.0${{ item }}; test "$FIXED" != no -o ${{ item }} != 7'
    foreach: [1, 2, 3, 4, 5, 6, 7, 8, 9]
    depends_on: [clean]
    on_failure: continue
  load_eu:
    run: |
      echo connecting to warehouse eu-1
      printf '\\033[33mWARNING\\033[0m slow answer (12.1 s)\\n'
      printf '\\033[31mERROR\\033[0m timeout after 30 s: COPY orders_eu\\n' >&2
      test "$FIXED" = yes
    depends_on: [clean]
    retries: 1
    retry_delay: 0.2
  load_us: {run: "echo loaded 2210 rows; sleep 0.4", depends_on: [clean]}
  check: {run: "echo totals agree", depends_on: [load_eu, load_us]}
  publish: {run: "echo published", depends_on: [check, resize]}
"""
REPORT: Final = """
workflow_name: report
description: The weekly report
on:
  workflow: {name: nightly, status: [SUCCESS]}
tasks:
  query: {run: "echo 52 rows"}
  draw: {run: "sleep 0.1; echo report.pdf", depends_on: [query]}
  ok:
    type: approval
    message: Send the report to the board?
    fields: {copies: {type: integer, default: 1}}
    depends_on: [draw]
  send: {run: "echo sent", depends_on: [ok]}
"""
BROKEN: Final = """
workflow_name: broken
tasks:
  a: {run: "true"}
  b: {run: "true", depend_on: [a]}
"""
SYNC: Final = """
workflow_name: sync
schedule: {every: 15m}
pools: {api: 2}
tasks:
  pull: {run: "sleep 600", pool: api}
  push: {run: "sleep 600", pool: api}
  later: {run: "echo later", pool: api}
"""
LARGE: Final = """
workflow_name: large
tasks:
  prepare: {run: "true"}
  each:
    run: "true"
    foreach: ${{ range(9998) }}
    depends_on: [prepare]
"""
#: Runs 100 groups of 100 tasks, one of which fails.
PLAIN: Final = """
from liteflow import Dag
def work():
    pass
def fail():
    raise ValueError("no such table")
dag = Dag("plain", "lightflow.db")
for number in range(100):
    with dag.group(f"region_{number}"):
        for task in range(100):
            dag.task(fail if (number, task) == (41, 7) else work, f"load_{task}")
dag.run(2, "thread", run_id="plain1")
"""


class World:
    """A folder with workflows, their history, and a server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(folder / "state"),
            "NO_COLOR": "1",
        }

    def lightflow(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder."""
        command = [sys.executable, "-m", "lightflow", *arguments]
        values = {**self.environment, **environment}
        return subprocess.run(
            command, cwd=self.folder, env=values, capture_output=True, text=True, timeout=300, check=False
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in the folder."""
        command = [sys.executable, "-m", "lightflow", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def wait_for_runs(self, *workflows: str) -> dict[str, str]:
        """Wait until the latest run of each workflow waits or runs; return the latest run of every workflow."""
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            runs = json.loads(self.lightflow("runs", "--json", "--limit", "50").stdout)
            latest = {run["workflow"]: run for run in reversed(runs)}
            if all(name in latest and set(latest[name]["counts"]) & {"RUNNING", "WAITING"} for name in workflows):
                return {name: run["run_id"] for name, run in latest.items()}
        raise SystemExit(f"no runs of {workflows} within 30 s")

    @contextlib.contextmanager
    def serving(self, *arguments: str) -> Iterator[tuple[str, str]]:
        """Serve; yield the address and the token."""
        process = self.start(*arguments, "--port", "0")
        try:
            assert process.stdout is not None
            address = next(
                match[1] for line in process.stdout if (match := re.search(r"(http://[^\s;,]+?)/?[;,\s]", line))
            )
            yield address, self.lightflow("token").stdout.strip()
        finally:
            process.terminate()
            process.wait(30)


def make_history(world: World) -> None:
    """Write the workflows, and run them."""
    texts = {"nightly": NIGHTLY, "report": REPORT, "broken": BROKEN, "sync": SYNC}
    for name, text in texts.items():
        (world.folder / f"{name}.yaml").write_text(text)
    for number in range(8):
        world.lightflow("run", "nightly.yaml", FIXED="no" if number == 4 else "yes")
    world.lightflow("run", "nightly.yaml", FIXED="later")


def watched(page: Page) -> Page:
    """Print what goes wrong in a page."""
    page.on("console", lambda message: print(f"console: {message.text}", file=sys.stderr))
    page.on("pageerror", lambda error: print(f"error: {error}", file=sys.stderr))
    return page


def log_in(page: Page, address: str, token: str) -> None:
    """Open the dashboard with a token."""
    page.goto(f"{address}/")
    page.fill("input[name=token]", token)
    page.click("text=Open")
    page.wait_for_selector(".rail")


def settle(page: Page) -> None:
    """Wait until nothing of the page is being read."""
    page.locator("[aria-busy=true]").first.wait_for(state="detached")
    page.wait_for_timeout(400)


def page_addresses(runs: dict[str, str]) -> dict[str, str]:
    """Return the address of each page by its name."""
    failed, waiting = runs["nightly"], runs["report"]
    return {
        "workflows": "#/",
        "workflow-grid": "#/w/nightly",
        "workflow-graph": "#/w/nightly/graph",
        "workflow-triggers": "#/w/nightly/triggers",
        "workflow-source": "#/w/nightly/source",
        "runs": "#/runs",
        "run-graph": f"#/r/{failed}/graph",
        "run-table": f"#/r/{failed}/table?task=load_eu",
        "run-gantt": f"#/r/{failed}/gantt",
        "run-events": f"#/r/{failed}/events",
        "run-values": f"#/r/{failed}/values",
        "task": f"#/r/{failed}/t/load_eu",
        "task-mapped": f"#/r/{failed}/t/resize",
        "approval": f"#/r/{waiting}/t/ok",
        "schedules": "#/schedules",
        "pools": "#/pools",
        "form": "#/w/nightly/run",
        "system": "#/system",
    }


def shoot(page: Page, address: str, pages: dict[str, str], out: Path, suffix: str) -> None:
    """Make a picture of each page."""
    for name, fragment in pages.items():
        page.goto(f"{address}/{fragment}")
        settle(page)
        page.screenshot(path=str(out / f"{name}-{suffix}.png"))


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "demo-out" / "screens")
    parser.add_argument("--docs", action="store_true", help="write the pictures of the documentation")
    parser.add_argument("--only", help="only pages with this text in their name")
    options = parser.parse_args()
    out = ROOT / "docs" / "images" if options.docs else options.out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        try:
            take(World(Path(name)), browser, out, options)
        finally:
            browser.close()
    print(f"pictures are in {out}")


def take(world: World, browser: Any, out: Path, options: argparse.Namespace) -> None:
    """Make all pictures of a world."""
    make_history(world)
    with world.serving("serve") as (address, token):
        long = [world.start("run", "sync.yaml"), world.start("run", "report.yaml")]
        try:
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            page = watched(context.new_page())
            log_in(page, address, token)
            runs = world.wait_for_runs("report", "sync")
            pages = page_addresses(runs)
            if options.docs:
                picked = {each: pages[each] for each in ("run-graph", "workflow-grid")}
                page.set_viewport_size({"width": 1200, "height": 640})
                shoot(page, address, picked, out, "light")
                page.emulate_media(color_scheme="dark")
                shoot(page, address, {"run-graph": pages["run-graph"]}, out, "dark")
                return
            pages = {key: value for key, value in pages.items() if not options.only or options.only in key}
            shoot(page, address, pages, out, "light")
            page.emulate_media(color_scheme="dark")
            shoot(page, address, pages, out, "dark")
            page.emulate_media(color_scheme="light", forced_colors="active")
            shoot(page, address, pages, out, "forced")
            page.emulate_media(forced_colors="none")
            page.set_viewport_size({"width": 360, "height": 720})
            shoot(page, address, pages, out, "narrow")
            page.set_viewport_size({"width": 640, "height": 400})  # what a zoom of 200 % leaves of 1,280 x 800
            shoot(page, address, pages, out, "enlarged")
            context.close()
        finally:
            for process in long:
                process.terminate()
                process.wait(30)
    if not options.only:
        empty_and_large(world, browser, out)


def empty_and_large(world: World, browser: Any, out: Path) -> None:
    """Make the pictures of a server without workflows, and of a run with 10,000 tasks."""
    folder = world.folder / "large"
    folder.mkdir()
    other = World(folder)
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = watched(context.new_page())
    with other.serving("serve") as (address, token):
        log_in(page, address, token)
        empty = {"workflows": "#/", "runs": "#/runs", "schedules": "#/schedules", "pools": "#/pools"}
        shoot(page, address, empty, out, "empty")
    (folder / "large.yaml").write_text(LARGE)
    other.lightflow("run", "large.yaml")
    subprocess.run([sys.executable, "-c", PLAIN], cwd=folder, env=other.environment, capture_output=True, check=False)
    with other.serving("serve") as (address, token):
        page = watched(browser.new_context(viewport={"width": 1280, "height": 800}).new_page())
        log_in(page, address, token)
        page.goto(f"{address}/#/runs")
        page.click("table.runs a:text-is('large')")
        page.wait_for_selector("h1")
        run = page.url.partition("#/r/")[2]
        tabs = {name: f"#/r/{run}/{name}" for name in ("graph", "table", "gantt", "events")}
        shoot(page, address, {**tabs, "workflow-grid": "#/w/large", "task": f"#/r/{run}/t/each"}, out, "large")
        tabs = {name: f"#/r/plain1/{name}" for name in ("graph", "table", "gantt")}
        shoot(page, address, {**tabs, "workflow-grid": "#/w/plain"}, out, "plain")


if __name__ == "__main__":
    main()
