"""The demo: it runs, its retry happens, its report is the same every time, and its cross-check can fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "etl"


def lightflow(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lightflow", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder in which the demo has run as the Makefile runs it, and what it printed as JSON."""
    folder = tmp_path_factory.mktemp("etl")
    (folder / "demo-out").mkdir()
    paths = ["--db", "demo-out/lightflow.db", "--log-dir", "demo-out/logs"]
    done = lightflow(folder, "run", str(EXAMPLE / "etl.yaml"), *paths, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads(done.stdout)


def test_every_task_succeeds_and_one_at_its_second_attempt(demo: tuple[Path, dict[str, Any]]) -> None:
    _, run = demo
    assert run["counts"] == {"SUCCESS": 16}
    tries = {entry["task"]: [attempt["status"] for attempt in entry["attempts"]] for entry in run["tasks"]}
    assert tries.pop("rates") == ["FAILED", "SUCCESS"]
    assert set(map(tuple, tries.values())) == {("SUCCESS",)}


def test_branches_run_side_by_side(demo: tuple[Path, dict[str, Any]]) -> None:
    _, run = demo
    shops = [entry for entry in run["tasks"] if entry["task"].startswith("orders_")]
    assert max(entry["started_at"] for entry in shops) < min(entry["ended_at"] for entry in shops)


def test_it_keeps_to_its_folder(demo: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = demo
    assert [path.name for path in folder.iterdir()] == ["demo-out"]


def test_the_report_adds_up(demo: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = demo
    report = (folder / "demo-out/etl/report.md").read_text(encoding="utf-8")
    orders, total = re.search(r"^([\d,]+) orders, ([\d,.]+) € in all", report, re.M).groups()  # type: ignore[union-attr]
    months = re.findall(r"^\| 2026-\d\d \| (\d+) \| ([\d,.]+) € \|$", report, re.M)
    cents = [int(euros.replace(",", "").replace(".", "")) for _, euros in months]
    assert sum(cents) == int(total.replace(",", "").replace(".", ""))
    assert sum(int(count) for count, _ in months) == int(orders.replace(",", "")) > 5000


def test_a_second_run_makes_the_same_files(demo: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = demo
    done = lightflow(tmp_path, "run", str(EXAMPLE / "etl.yaml"), "--log-dir", "demo-out/logs", "--quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = folder / "demo-out/etl", tmp_path / "demo-out/etl"
    assert {path.name: path.read_bytes() for path in second.iterdir()} == {
        path.name: path.read_bytes() for path in first.iterdir()
    }


def test_the_cross_check_notices_a_wrong_total(tmp_path: Path) -> None:
    for name in ("etl.yaml", "etl_sources.py", "etl_steps.py"):
        text = (EXAMPLE / name).read_text(encoding="utf-8")
        text = re.sub(r"wait_s: [\d.]+", "wait_s: 0", text)
        (tmp_path / name).write_text(re.sub(r"\+ 5000\) // 10000", "+ 4999) // 10000", text), encoding="utf-8")
    done = lightflow(tmp_path, "run", "etl.yaml", "--json")
    assert done.returncode == 1
    states = {entry["task"]: entry["status"] for entry in json.loads(done.stdout)["tasks"]}
    assert states["cross_check"] == "FAILED"
    assert states["report"] == "UPSTREAM_FAILED"
    assert states["tidy"] == "SUCCESS"  # its rule is all_done


def test_the_committed_picture_is_up_to_date(tmp_path: Path) -> None:
    pytest.importorskip("pygraphviz")
    done = lightflow(tmp_path, "dag", str(EXAMPLE / "etl.yaml"), "--output", "etl.svg")
    assert done.returncode == 0, done.stderr
    names = re.compile(r">([a-z_]+)</text>")
    drawn = set(names.findall((tmp_path / "etl.svg").read_text(encoding="utf-8")))
    assert drawn == set(names.findall((ROOT / "docs/images/etl.svg").read_text(encoding="utf-8")))
    assert "cross_check" in drawn
