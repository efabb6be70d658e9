"""Format results as Markdown, and write them to the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from bench.goals import GOALS, Goal, measured
from bench.measure import ROOT
from bench.results import Result, Results

#: The columns of the short table: workload and heading.
SHORT: Final = (
    ("wide", "1,000 Python tasks, threads"),
    ("layered", "20 × 50, each reads two values"),
    ("layered-processes", "the same in processes"),
    ("large", "10,000 in 100 layers"),
    ("shell", "500 × `true`, 4 at a time"),
    ("chain", "chain of 200 × `true`"),
    ("start", "one task from the command line, CPU"),
)
#: Contestants that share a row in the short table, although their names differ by mode.
SAME: Final = {
    "Lightflow": "Lightflow, from Python",
    "lightflow run": "lightflow run, from YAML",
    "Parsl, HTEX": "Parsl",
    "Parsl, threads": "Parsl",
    "Dask, processes": "Dask",
    "Dask, threads": "Dask",
    "bare thread pool": "bare pools of Python",
    "bare process pool": "bare pools of Python",
    "bare Popen": "bare pools of Python",
}
#: If other programs used more than this share of the processors, the text says so.
BUSY: Final = 0.15
PAGES: Final = {
    "bench:short": (ROOT / "docs" / "explanation" / "performance.md",),
    "bench": (ROOT / "docs" / "explanation" / "performance.md",),
    "live": (ROOT / "docs" / "explanation" / "performance.md",),
}


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first row is its heading."""
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    lines.insert(1, "| " + " | ".join("---" for _ in rows[0]) + " |")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Format a duration with three digits, in a suitable unit."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1 or unit == "µs":
            number = seconds * factor
            digits = 0 if number >= 100 else 1 if number >= 10 else 2
            return f"{number:,.{digits}f} {unit}"
    raise AssertionError("there is a smallest unit")


def amount(number: float, measure: str) -> str:
    """Format a median with its unit."""
    if measure == "us_per_task":
        return duration(number / 1e6)
    return duration(number)


def long(result: Result) -> str:
    """Return the complete table of a workload."""
    many = result["tasks"] > 1
    head = ["", "keeps state", "median", f"× {result['baseline']}"]
    head += ["tasks/s"] if many else []
    head += ["whole program", "CPU", "memory", "rounds"]
    rows = [head]
    for one in result["entries"]:
        name = " ".join(part for part in (shown(one["name"]), one.get("version", "")) if part)
        name += f" ({one['note']})" if one["note"] else ""
        if "failed" in one:
            rows.append([name, "", f"not run: {one['failed']}", *[""] * (len(head) - 3)])
            continue
        cells = [name, "yes" if one["durable"] else "no", amount(one["median"], result["measure"])]
        cells.append(f"{one['ratio']:.2f}" if "ratio" in one else "")
        if many:
            cells.append(f"{per_second(result, one):,.0f}")
        cells += [duration(one["wall"]), duration(one["cpu"]), f"{one['peak_mb']:.0f} MB", str(len(one["values"]))]
        rows.append(cells)
    note = f"\n\n{result['note']}" if result["note"] else ""
    return markdown(rows) + note


def per_second(result: Result, one: dict[str, Any]) -> float:
    """Return the tasks per second."""
    if result["measure"] == "us_per_task":
        return float(1e6 / one["median"])
    return float(result["tasks"] / one["median"])


def short(results: Results) -> str:
    """Return a table with a row for each contestant and a column for each of the main workloads."""
    workloads = [(results["workloads"][name], title) for name, title in SHORT if name in results["workloads"]]
    lines: dict[str, list[str]] = {}
    durable: dict[str, bool] = {}
    for column, (result, _) in enumerate(workloads):
        for one in result["entries"]:
            if one["name"] == "lightflow --version":
                continue
            name = SAME.get(one["name"], one["name"])
            durable.setdefault(name, one["durable"])
            cells = lines.setdefault(name, [""] * len(workloads))
            if "failed" in one:
                cells[column] = "not run"
                continue
            cells[column] = amount(one["median"], result["measure"])
            if "ratio" in one:
                digits = ",.0f" if one["ratio"] >= 100 else ".3g"
                cells[column] += f" ({one['ratio']:{digits}} ×)"
    order = sorted(lines, key=lambda name: (not is_ours(name), not durable[name]))
    rows = [["", "keeps state", *(title for _, title in workloads)]]
    rows += [[shown(name), "yes" if durable[name] else "no", *lines[name]] for name in order]
    return markdown(rows)


def is_ours(name: str) -> bool:
    """Whether a contestant is Lightflow, in one of its forms."""
    return name.lower().startswith("lightflow")


def shown(name: str) -> str:
    """Return the name of a contestant, in bold if it is Lightflow."""
    return f"**{name}**" if is_ours(name) else name


def own(results: Results, names: Iterable[str]) -> str:
    """Return a table with the workloads of Lightflow alone."""
    rows = [["workload", "Lightflow", "compared with", "ratio", "memory"]]
    for name in names:
        result = results["workloads"].get(name)
        ours = next((one for one in result["entries"] if one["name"] == "Lightflow"), None) if result else None
        if not result or not ours:
            continue
        if "failed" in ours:
            rows.append([result["title"], f"not run: {ours['failed']}", "", "", ""])
            continue
        beside = next((one for one in result["entries"] if one is not ours and "median" in one), None)
        rows.append(
            [
                result["title"],
                amount(ours["median"], result["measure"]),
                f"{beside['name']}: {amount(beside['median'], result['measure'])}" if beside else "",
                f"{ours['ratio']:.2f}" if beside else "",
                f"{ours['peak_mb']:.0f} MB"
                + (f", {ours['said']['kb_per_task']:.2f} KB a task" if "kb_per_task" in ours["said"] else ""),
            ]
        )
    return markdown(rows)


def goals(results: Results, wanted: Sequence[Goal] = GOALS) -> str:
    """Return a table with the goals and the results."""
    rows = [["goal", "at most", "measured"]]
    for goal in wanted:
        result = results["workloads"].get(goal.workload)
        number = measured(goal, result) if result else None
        if number is not None:
            reached = f"{number:.2f}" if number <= goal.most else f"**{number:.2f}**"
            rows.append([goal.title, f"{goal.most:g}{goal.unit}", f"{reached}{goal.unit}"])
    return markdown(rows)


def conditions(results: Results) -> str:
    """Return the date, the versions and the machine of the measurement."""
    facts = results["machine"]
    dates = sorted({result["date"] for result in results["workloads"].values()})
    when = " and ".join(sorted({dates[0], dates[-1]}))
    others = max(result.get("others", 1.0) for result in results["workloads"].values())
    busy = ""
    if others > BUSY:
        busy = " Other programs were running on the machine, so these numbers are higher than they should be."
    return (
        f"Medians, measured on {when} with Lightflow {facts['lightflow']}, Python {facts['python']}, SQLite "
        f"{facts['sqlite']}, Linux {facts['linux']}, {facts['cores']} cores, by `make bench`.{busy}"
    )


def write(texts: dict[str, str]) -> list[Path]:
    """Write texts between their markers, and return the pages that changed.

    Raises:
        ValueError: a page has lost its markers.
    """
    changed = []
    for marker, text in texts.items():
        start, end = f"<!-- {marker}:start -->", f"<!-- {marker}:end -->"
        for page in PAGES[marker]:
            old = page.read_text(encoding="utf-8")
            before, found, rest = old.partition(start)
            _, closed, after = rest.partition(end)
            if not found or not closed:
                raise ValueError(f"{page}: has no {start} … {end}")
            new = f"{before}{start}\n{text}\n{end}{after}"
            if new != old:
                page.write_text(new, encoding="utf-8")
                changed.append(page)
    return changed
