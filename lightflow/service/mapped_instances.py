"""The instances of mapped tasks in what is shown: their names, and how many there are in which state."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from lightflow.engine.formatting import display_name
from liteflow.api import TASK_ENDED, InstanceRecord, instance_name, status_style, tally_text

__all__ = [
    "MAX_LISTED",
    "called",
    "instance_name_of",
    "split_name",
    "status_note",
    "tally_by_task",
    "tally_text",
    "whole_of",
    "with_times",
]

#: So many instances are listed one by one; of more, only those that are worth a look.
MAX_LISTED: Final = 10
_NAMED: Final = re.compile(r"(.+)\[([0-9]{1,9})\]")


def split_name(name: str) -> tuple[str, int]:
    """The task and the index of an instance that is called `fetch[3]`; -1: it is the name of a task."""
    found = _NAMED.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, -1)


def instance_name_of(one: InstanceRecord) -> str:
    """How people call it."""
    return instance_name(one.task_id, one.map_index)


def called(one: InstanceRecord) -> str:
    """What it is called where it is shown: an instance with its key."""
    return display_name(one.task_id, one.map_index, one.map_key)


def tally_by_task(instances: Iterable[InstanceRecord]) -> dict[str, Counter[str]]:
    """How many instances each mapped task has in each state."""
    found: dict[str, Counter[str]] = {}
    for one in instances:
        if one.map_index >= 0:
            found.setdefault(one.task_id, Counter())[one.status] += 1
    return found


def with_times(instances: Iterable[InstanceRecord]) -> list[InstanceRecord]:
    """The same; a mapped task began with its first instance, and ended with its last."""
    found = list(instances)
    begun: dict[str, float] = {}
    ended: dict[str, float] = {}
    for one in found:
        if one.map_index >= 0 and one.started_at is not None:
            begun[one.task_id] = min(begun.get(one.task_id, one.started_at), one.started_at)
            ended[one.task_id] = max(ended.get(one.task_id, 0.0), one.ended_at or 0.0)
    for number, one in enumerate(found if begun else ()):
        if one.map_index < 0 and one.task_id in begun:
            until = ended[one.task_id] if one.status in TASK_ENDED else None
            found[number] = one._replace(started_at=begun[one.task_id], ended_at=until)
    return found


def whole_of(instances: Sequence[InstanceRecord]) -> InstanceRecord:
    """What stands for hooks of the same name, of which each instance of a mapped task has its own."""
    first, states = instances[0], {one.status for one in instances}
    order = ("RUNNING", "QUEUED", "UP_FOR_RETRY", "PENDING", "FAILED", "CANCELLED", "SUCCESS")
    return first._replace(
        map_index=-1,
        map_key=None,
        status=next((status for status in order if status in states), first.status),
        reason=tally_text(Counter(one.status for one in instances)),
        error_log=None,
        try_number=0,
        started_at=None,
        ended_at=None,
    )


def status_note(one: InstanceRecord, tally: Mapping[str, int] | None) -> str:
    """What there is to say of a task or instance beside its state."""
    if tally is not None:
        return tally_text(tally)
    reason = one.reason or ""
    return "" if reason == status_style(one.status).word else reason  # "cancelled" beside the state cancelled
