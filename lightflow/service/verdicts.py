"""Why a run is SUCCESS although tasks of it failed: from its graph and its states, as the engine decides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from liteflow import Status
from liteflow.planning.control import forgiven
from liteflow.state.history import InstanceRecord, RunRecord

_NAMED: Final = 3


class Overlooked(NamedTuple):
    """A task that failed in a run that is SUCCESS, and why its failure does not count."""

    task_id: str
    because: str


def overlooked(
    run: RunRecord, rows: Sequence[Mapping[str, Any]], instances: Sequence[InstanceRecord]
) -> list[Overlooked]:
    """The tasks whose failure did not fail the run, in the order of the graph."""
    failed = [one for one in instances if one.status == Status.FAILED]
    if run.status != Status.SUCCESS or not failed:
        return []
    by_id = {row["id"]: row for row in rows}
    below: dict[str, list[str]] = {}
    for row in rows:
        for above in row.get("depends_on", ()):
            below.setdefault(above, []).append(row["id"])
    found = []
    for one in failed:
        if one.map_index < 0:
            row = by_id.get(one.task_id, {})
            parts = [each for each in failed if each.task_id == one.task_id and each.map_index >= 0] or [one]
            if all(forgiven(each.status, each.reason) for each in parts):
                because = "continue_on_error allows it to fail"
            elif row.get("teardown") is True:
                because = "it is a teardown, which does not count"
            else:
                because = _last_ones(one.task_id, below, by_id)
            found.append(Overlooked(one.task_id, because))
    return found


def _last_ones(task_id: str, below: Mapping[str, Sequence[str]], by_id: Mapping[str, Mapping[str, Any]]) -> str:
    """The tasks that decide in its place: those behind it that nothing waits for."""
    seen, stack, last = {task_id}, [task_id], list[str]()
    while stack:
        name = stack.pop()
        after = [one for one in below.get(name, ()) if by_id[one].get("teardown") is not True]
        if not after and name != task_id:
            last.append(name)
        for one in after:
            if one not in seen:
                seen.add(one)
                stack.append(one)
    if not last:
        return "no task that counts depends on it"
    order = {name: number for number, name in enumerate(by_id)}
    last.sort(key=order.__getitem__)
    names = [f"{name} ({by_id[name].get('rule', 'all_success')})" for name in last[:_NAMED]]
    if len(last) == 1:
        return f"{names[0]} is the only task behind it that counts"
    more = f" and {len(last) - _NAMED} more" if len(last) > _NAMED else ""
    return f"the tasks behind it that count are {', '.join(names)}{more}"


def in_words(found: Sequence[Overlooked]) -> str:
    """`although extract failed: cleanup (all_done) is the only task behind it that counts`; empty if there are none."""
    reasons: dict[str, list[str]] = {}
    for one in found:
        reasons.setdefault(one.because, []).append(one.task_id)
    parts = []
    for because, tasks in list(reasons.items())[:_NAMED]:
        more = f" and {len(tasks) - _NAMED} more" if len(tasks) > _NAMED else ""
        parts.append(f"{', '.join(tasks[:_NAMED])}{more} failed: {because}")
    rest = len(reasons) - _NAMED
    if rest > 0:
        parts.append(f"and {rest} more")
    return f"although {'; '.join(parts)}" if parts else ""
