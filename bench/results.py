"""Results as plain values: medians, ratios, and the JSON file that stores them."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sqlite3
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.measure import ROOT, Sample
from bench.rounds import Turns
from bench.workloads import Entry, Workload
from liteflow.version import __version__

RECORD: Final = ROOT / "bench" / "results.json"
FRACTIONS: Final = ("seconds", "wall", "cpu", "work_cpu")

#: The result of a contestant in a workload; a workload with its contestants; all workloads.
Row = dict[str, Any]
Result = dict[str, Any]
Results = dict[str, Any]


def value(sample: Sample, measure: str) -> float:
    """Return the number that a workload measures: a field of the sample, or a number that the program reported."""
    if measure in FRACTIONS:
        return float(getattr(sample, measure))
    return float(sample.said[measure])


def ratio_of_rounds(ours: list[float], baseline: list[float]) -> float:
    """Return the median of the ratios of the rounds: a disturbance of a round affects both of its sides."""
    return median(one / other for one, other in zip(ours, baseline, strict=False))


def row(entry: Entry, turns: Turns, measure: str, version: str) -> Row:
    """Return the result of a contestant."""
    facts: Row = {"name": entry.name, "durable": entry.durable, "peer": entry.peer, "note": entry.note}
    if version:
        facts["version"] = version
    if entry.name in turns.failed:
        return {**facts, "failed": turns.failed[entry.name]}
    samples = turns.samples[entry.name]
    values = [value(sample, measure) for sample in samples]
    said = {key: item for key, item in samples[0].said.items() if isinstance(item, int | float)}
    return {
        **facts,
        "median": _short(median(values)),
        "values": [_short(one) for one in values],
        "wall": _short(median(sample.wall for sample in samples)),
        "cpu": _short(median(sample.cpu for sample in samples)),
        "peak_mb": round(turns.peaks[entry.name], 1),
        "said": {key: _short(median(float(sample.said[key]) for sample in samples)) for key in said},
    }


def result(workload: Workload, entries: list[Entry], turns: Turns) -> Result:
    """Return a workload with the results of its contestants, the fastest first."""
    rows = [
        row(entry, turns, workload.measure, "" if entry.name in turns.failed else entry.environment.version())
        for entry in entries
    ]
    rows.sort(key=lambda one: one.get("median", float("inf")))
    base = next((one for one in rows if one["name"] == workload.baseline and "median" in one), None)
    for one in rows:
        if base and "median" in one:
            one["ratio"] = round(one["median"] / base["median"], 2)
    return {
        "title": workload.title,
        "tasks": workload.tasks,
        "measure": workload.measure,
        "baseline": workload.baseline,
        "note": workload.note,
        "others": round(turns.others, 3),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "entries": rows,
    }


def machine() -> dict[str, str]:
    """Return the versions and the machine of the measurement."""
    return {
        "lightflow": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "linux": platform.release().partition("-")[0],
        "cores": str(os.cpu_count()),
    }


def load(path: Path = RECORD) -> Results:
    """Return the recorded results; empty if there are none."""
    if not path.exists():
        return {"machine": machine(), "workloads": {}}
    results: Results = json.loads(path.read_text(encoding="utf-8"))
    return results


def save(results: Results, path: Path = RECORD) -> None:
    """Write the results to the file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _short(number: float) -> float:
    """Round to five digits."""
    return float(f"{number:.5g}")
