"""`--dry-run`: what would run, level by level. It touches nothing: no state file, no log folder."""

from __future__ import annotations

from typing import Any

from lightflow.cli.output import paint, say, table
from lightflow.errors import printable
from lightflow.service.instances import FEW
from lightflow.service.parameters import shown
from lightflow.service.workflows import Outline, OutlineTask
from liteflow.params import stored
from liteflow.picture import duration_text


def shape(outline: Outline, kept: frozenset[str], at_once: int, mode: str) -> dict[str, Any]:
    """The plan as JSON."""
    return {
        "workflow": outline.name,
        "max_workers": at_once,
        "mode": mode,
        "params": stored(outline.values),
        "levels": [
            [
                {
                    "task": task.id,
                    "type": task.kind,
                    "depends_on": list(task.depends_on),
                    "trigger_rule": task.rule,
                    "retries": task.retries,
                    "timeout_s": task.timeout_s,
                    "summary": task.summary,
                    "done": task.id in kept,
                    "mapped": task.mapped or None,
                    "instances": _instances(outline, task),
                }
                for task in level
            ]
            for level in outline.levels()
        ],
    }


def show(outline: Outline, kept: frozenset[str], at_once: int, mode: str) -> None:
    """Print the plan."""
    levels = outline.levels()
    say(
        f"{paint(outline.name, 'bold')}: {_many(len(outline.tasks), 'task')} in {_many(len(levels), 'step')}, "
        f"at most {at_once} at once, mode {mode}"
    )
    if outline.description:
        say(printable(outline.description))
    if outline.values:
        say(f"with {printable(shown(outline.values))}")
    say()
    rows = []
    for number, level in enumerate(levels, start=1):
        for place, task in enumerate(level):
            instances = outline.instances(task)
            count = "" if instances is None else f"×{len(instances):,}"
            special = ", ".join(part for part in (count, _conditions(task, kept)) if part)
            rows.append((str(number) if not place else "", task.id, task.kind, special or "-", printable(task.summary)))
            for index, one in enumerate((instances or ())[:FEW]):
                label = "-" if one.label is None else printable(one.label)
                rows.append(("", f"  {task.id}[{index}]", "", label, printable(one.summary)))
            if instances is not None and len(instances) > FEW:
                rows.append(("", f"  … and {len(instances) - FEW:,} more", "", "", ""))
    say(table(("STEP", "TASK", "TYPE", "SPECIAL", "RUNS"), rows, "STEP"))
    say()
    widest = max((len(level) for level in levels), default=0)
    if widest > 1:
        say(f"Tasks of one step can run side by side: up to {min(widest, at_once)} at once.")
    if kept:
        say(f"{_many(len(kept & {task.id for task in outline.tasks}), 'task')} done before would be kept.")
    say("Nothing was run.")


def _conditions(task: OutlineTask, kept: frozenset[str]) -> str:
    """What is not the default of a task, in few words."""
    parts = [
        "done" if task.id in kept else "",
        printable(task.mapped),
        f"retries {task.retries}" if task.retries else "",
        f"timeout {duration_text(task.timeout_s)}" if task.timeout_s is not None else "",
        task.rule if task.rule != "all_success" else "",
        f"reads {' '.join(task.implied)}" if task.implied else "",
    ]
    return ", ".join(part for part in parts if part)


def _instances(outline: Outline, task: OutlineTask) -> list[dict[str, Any]] | None:
    found = outline.instances(task)
    if found is None:
        return None
    return [{"map_index": index, "map_key": one.label, "summary": one.summary} for index, one in enumerate(found)]


def _many(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number:,} {word}s"
