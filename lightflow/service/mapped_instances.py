"""The instances of mapped tasks: their names, and how many have which status."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lightflow.engine.formatting import display_name
from liteflow.api import TASK_ENDED, InstanceRecord, combined_status, instance_name, status_style, tally_text

__all__ = [
    "MAX_LISTED",
    "combined_hooks",
    "display_name_of",
    "instance_name_of",
    "is_hook",
    "split_name",
    "status_note",
    "tally_by_task",
    "tally_text",
    "with_times",
]

#: Of a task with more instances, only the failed and the running ones are listed.
MAX_LISTED: Final = 10
_NAME: Final = r"(.+)\[([0-9]{1,9})\]"


def split_name(name: str) -> tuple[str, int]:
    """Return the task and the index of an instance such as `fetch[3]`; for the name of a task the index is -1."""
    match = re.fullmatch(_NAME, name)
    return (match[1], int(match[2])) if match else (name, -1)


def is_hook(instance: InstanceRecord) -> bool:
    """Return whether it is a hook or a precondition, and so no node of the graph."""
    return instance.kind in ("hook", "precondition")


def instance_name_of(instance: InstanceRecord) -> str:
    """Return the name of a task or an instance, such as `fetch[3]`."""
    return instance_name(instance.task_id, instance.map_index)


def display_name_of(instance: InstanceRecord) -> str:
    """Return the name of a task or an instance with its key, for a terminal."""
    return display_name(instance.task_id, instance.map_index, instance.map_key)


def tally_by_task(instances: Iterable[InstanceRecord]) -> dict[str, Counter[str]]:
    """Return for each mapped task how many of its instances have each status."""
    tallies: dict[str, Counter[str]] = {}
    for instance in instances:
        if instance.map_index >= 0:
            tallies.setdefault(instance.task_id, Counter())[instance.status] += 1
    return tallies


def with_times(instances: Iterable[InstanceRecord]) -> list[InstanceRecord]:
    """Return the instances, with times of mapped tasks: from the start of the first instance to the end of the last."""
    records = list(instances)
    started: dict[str, float] = {}
    ended: dict[str, float] = {}
    for record in records:
        if record.map_index >= 0 and record.started_at is not None:
            started[record.task_id] = min(started.get(record.task_id, record.started_at), record.started_at)
            ended[record.task_id] = max(ended.get(record.task_id, 0.0), record.ended_at or 0.0)
    for number, record in enumerate(records if started else ()):
        if record.map_index < 0 and record.task_id in started:
            ended_at = ended[record.task_id] if record.status in TASK_ENDED else None
            records[number] = record._replace(started_at=started[record.task_id], ended_at=ended_at)
    return records


def combined_hooks(hooks: Sequence[InstanceRecord]) -> InstanceRecord:
    """Return one record for the hooks of one name that the instances of a mapped task have."""
    first = hooks[0]
    return first._replace(
        map_index=-1,
        map_key=None,
        status=combined_status(hook.status for hook in hooks) or first.status,
        reason=tally_text(Counter(hook.status for hook in hooks)),
        error_log=None,
        try_number=0,
        started_at=None,
        ended_at=None,
    )


def status_note(instance: InstanceRecord, tally: Mapping[str, int] | None) -> str:
    """Return what to show of a task or instance besides its status: of a mapped task the tally of its instances."""
    if tally is not None:
        return tally_text(tally)
    reason = instance.reason or ""
    return "" if reason == status_style(instance.status).word else reason  # not "cancelled" next to CANCELLED
