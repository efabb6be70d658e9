"""The rows of `python -m bench live`: what is measured, its goal, the record, and the table for the documentation."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.measure import ROOT
from bench.results import machine
from bench.table import markdown

RECORD: Final = ROOT / "bench" / "live.json"


class Row(NamedTuple):
    """A line of the table."""

    name: str  # for `--row`
    title: str
    goal: str
    limit: float | None = None  # of a ratio: the command fails beyond it. Times have none, because machines are shared


class Figure(NamedTuple):
    """What was measured for a row."""

    text: str
    ratio: float | None = None  # where the row has a limit


#: The figures of one column, by the names of their rows.
Figures = dict[str, Figure]

START: Final = (
    Row("start", "`serve` to the first answer", "350 ms"),
    Row("start-ratio", "CPU until then, to a bare server of the same stack", "2.0 ×", 3.0),
    Row("ready", "`serve --no-ui` to its first schedules", "200 ms"),
)
IDLE: Final = (
    Row("memory", "memory when idle (PSS), processes; Lightflow with 1,000 schedules", "65 MB", 65.0),
    Row("idle", "processor when idle; Lightflow with 1,000 schedules", "0.5 % of a core"),
    Row("read-files", "CPU to read 1,000 workflow files", ""),
)
PAGE: Final = (Row("page", "first page: requests, size, first paint", "10, 60 KB of code, 250 ms", 10.0),)
DUE: Final = (
    Row("claim", "due to claimed, p95", "20 ms"),
    Row("task", "due to the first task, p95", "100 ms"),
)
AT_ONCE: Final = (Row("at-once", "100 due in one instant, all at work", "4 s"),)
TAKE_OVER: Final = (Row("take-over", "a standby server schedules after a `kill -9` of the other, at most", "2 s"),)
RUN: Final = (Row("run-ratio", "CPU of a scheduled run, to a bare `fork` and `exec` of `true`", "20 ×", 40.0),)
READS: Final = (
    Row("runs-page", "REST: page of runs, p50 / p95", "p95 30 ms"),
    Row("grid", "REST: grid of 25 runs, p50 / p95", "p95 30 ms"),
    Row("run-tasks", "REST: run of 10,000 tasks, p50 / p95", "p95 60 ms"),
    Row("workflows", "REST: workflows with their last runs, p50 / p95", "p95 30 ms"),
    Row("geometry", "REST: geometry of a graph of 10,000 tasks, from the cache, p50 / p95", "p95 300 ms"),
    Row("critical-path", "REST: critical path of 10,000 tasks, p50 / p95", "p95 300 ms"),
    Row("graphql", "GraphQL: 20 runs with 10 tasks and their attempts, p50 / p95", "p95 60 ms"),
)
FEED: Final = (
    Row("clients", "100 stream clients, commit to frame, p50 / p95", "p95 200 ms"),
    Row("clients-cpu", "the server meanwhile, at about 100 tasks/s", "10 % of a core"),
)
ENGINE: Final = (Row("engine", "CPU of 10,000 tasks with a server and a client, to alone", "1.03 ×", 1.15),)
VIEWS: Final = (
    Row("graph", "graph of 1,500 tasks, first draw", ""),
    Row("pan", "the same while it is moved", "30 frames/s"),
    Row("cells", "grid of 5,000 cells, first draw", "100 ms"),
    Row("cell-changes", "the same, 50 changes, p95", "16 ms"),
    Row("painted", "commit to painted pixel, p50 / p95", "p95 100 ms"),
    Row("painted-large", "the same for a run of 10,000 tasks", "p95 300 ms"),
    Row("heap", "heap of a page after 15,000 changes, to before", "1.1 ×", 1.15),
)
HEAP_HOUR: Final = (
    Row("heap-hour", "least heap of a page on a busy engine, to that of its first two minutes", "1.1 ×", 1.25),
)
ROWS: Final = (*START, *IDLE, *PAGE, *DUE, *AT_ONCE, *TAKE_OVER, *RUN, *READS, *FEED, *ENGINE, *VIEWS, *HEAP_HOUR)


def exceeded(figures: Figures) -> list[Row]:
    """Return the rows whose ratios are beyond their limits."""
    pairs = [(row, figures[row.name].ratio) for row in ROWS if row.name in figures and row.limit is not None]
    return [row for row, ratio in pairs if ratio is not None and row.limit is not None and ratio > row.limit]


def table(columns: Mapping[str, Mapping[str, str]]) -> str:
    """Return the rows that have a figure, with a column for each server; Lightflow is the first one."""
    ours, *peers = columns
    lines = [["", f"**{ours}**", "goal", *peers]]
    for row in ROWS:
        texts = [columns[name].get(row.name, "") for name in columns]
        if any(texts):
            lines.append([row.title, texts[0], row.goal, *texts[1:]])
    return markdown(lines)


# -- the record --------------------------------------------------------------------------------------------------------


def load(path: Path = RECORD) -> dict[str, Any]:
    """Return what was recorded: `machine`, and in `columns` the text, day and load of each figure."""
    if not path.exists():
        return {"machine": machine(), "columns": {}}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def record(columns: Mapping[str, Mapping[str, str]], path: Path = RECORD) -> dict[str, Any]:
    """Put figures into the record, in the place of those of the same rows, and return it."""
    facts = load(path)
    day, busy = datetime.datetime.now(datetime.UTC).date().isoformat(), round(os.getloadavg()[1], 1)
    facts["machine"] = machine()
    for name, figures in columns.items():
        column = facts["columns"].setdefault(name, {})
        column.update({row: {"text": text, "day": day, "load": busy} for row, text in figures.items()})
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return facts


def documentation(facts: Mapping[str, Any]) -> str:
    """Return the table of the record, and the conditions of the measurement."""
    columns = {
        name: {row: str(figure["text"]) for row, figure in column.items()} for name, column in facts["columns"].items()
    }
    figures = [figure for column in facts["columns"].values() for figure in column.values()]
    days = sorted({figure["day"] for figure in figures})
    loads = [figure["load"] for figure in figures]
    there = facts["machine"]
    return (
        f"{table(columns)}\n\nMeasured on {' to '.join(dict.fromkeys([days[0], days[-1]]))} by `make bench-live`, with "
        f"Python {there['python']}, SQLite {there['sqlite']}, Linux {there['linux']}, {there['cores']} cores. Other "
        f"programs were running: the load of the machine was {min(loads):g} to {max(loads):g}."
    )
