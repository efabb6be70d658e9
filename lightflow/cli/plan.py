"""`--dry-run`: what would run, level by level. It touches nothing: no state file, no log folder."""

from __future__ import annotations

from typing import Any

from lightflow.cli.output import paint, say, table
from lightflow.errors import printable
from lightflow.service.instances import FEW
from lightflow.service.parameters import shown
from lightflow.service.workflows import Outline, OutlineTask
from liteflow.limits import Concurrency
from liteflow.pictures.picture import duration_text
from liteflow.values.params import stored


def shape(outline: Outline, kept: frozenset[str], at_once: int, mode: str) -> dict[str, Any]:
    """The plan as JSON."""
    place = outline.limits.concurrency
    return {
        "workflow": outline.name,
        "max_workers": at_once,
        "mode": mode,
        "params": stored(outline.values),
        "secrets": list(outline.secrets),
        "timeout_s": outline.limits.timeout_s,
        "retries": outline.limits.retry.retries,
        "concurrency": None if place is None else {"group": place.group or outline.name, **_rest(place)},
        "pools": {name: pool.slots for name, pool in outline.limits.pools.items()},
        "levels": [
            [
                {
                    "task": task.id,
                    "type": task.kind,
                    "depends_on": list(task.depends_on),
                    "trigger_rule": task.rule,
                    "retries": task.retries,
                    "timeout_s": task.timeout_s,
                    "priority": task.order.priority,
                    "max_parallel": task.order.at_once,
                    "resources": dict(task.order.needs),
                    "summary": task.summary,
                    "done": task.id in kept,
                    "special": list(task.special),
                    "skipped": task.skipped or None,
                    "mapped": task.mapped or None,
                    "instances": _instances(outline, task),
                }
                for task in level
            ]
            for level in outline.levels()
        ],
    }


def _rest(place: Concurrency) -> dict[str, Any]:
    return {"limit": place.limit, "on_conflict": place.on_conflict}


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
    if outline.secrets:
        say(f"secrets, fetched when a run starts: {', '.join(outline.secrets)}")
    for line in _limits(outline):
        say(printable(line))
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


def _limits(outline: Outline) -> list[str]:
    """What bounds the run, in words."""
    pools, timeout_s, retry, place = outline.limits
    lines = []
    if pools:
        lines.append("pools: " + ", ".join(f"{name} {pool.slots or ''}".strip() for name, pool in pools.items()))
    if timeout_s is not None or retry.retries:
        parts = [f"timeout {duration_text(timeout_s)}" if timeout_s is not None else ""]
        parts.append(f"tried again up to {_many(retry.retries, 'time')} if it fails" if retry.retries else "")
        lines.append("the run: " + ", ".join(part for part in parts if part))
    if place is not None:
        group = place.group or outline.name
        lines.append(f"at most {_many(place.limit, 'run')} of group {group} at once, else {place.on_conflict}")
    return lines


def _conditions(task: OutlineTask, kept: frozenset[str]) -> str:
    """What is not the default of a task, in few words."""
    parts = [
        "done" if task.id in kept else "",
        printable(task.mapped),
        f"retries {task.retries}" if task.retries else "",
        f"timeout {duration_text(task.timeout_s)}" if task.timeout_s is not None else "",
        task.rule if task.rule != "all_success" else "",
        f"priority {task.order.priority}" if task.order.priority else "",
        f"at most {task.order.at_once} at once" if task.order.at_once is not None else "",
        *[f"{slots} {pool}" for pool, slots in task.order.needs],
        f"reads {' '.join(task.implied)}" if task.implied else "",
        *task.special,
        "SKIPPED: the condition is false" if task.skipped else "",
    ]
    return ", ".join(part for part in parts if part)


def _instances(outline: Outline, task: OutlineTask) -> list[dict[str, Any]] | None:
    found = outline.instances(task)
    if found is None:
        return None
    return [{"map_index": index, "map_key": one.label, "summary": one.summary} for index, one in enumerate(found)]


def _many(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number:,} {word}s"
