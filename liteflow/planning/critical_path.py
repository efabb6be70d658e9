"""The critical path of a run: the chain of tasks that decided when it ended. Pure: no clock, no I/O, no recursion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def critical_path(upstream: Mapping[str, Sequence[str]], ended_at: Mapping[str, float]) -> list[str]:
    """Return the chain from the task that ended last back over the upstream that ended last, the first task first.

    Args:
        upstream: the direct upstream tasks of each task. Cycles and unknown names, as in an altered file, are allowed.
        ended_at: the ends of the tasks that have run. A node without one, such as a join or a skipped task, is passed
            through to what is above it.
    """
    if not ended_at:
        return []
    above = _last_above(upstream, ended_at)
    task: str | None = max(ended_at, key=lambda name: (ended_at[name], name))
    path: list[str] = []
    passed = set[str]()
    while task is not None and task not in passed:
        path.append(task)
        passed.add(task)
        task = above.get(task)
    return path[::-1]


def _last_above(upstream: Mapping[str, Sequence[str]], ended_at: Mapping[str, float]) -> dict[str, str]:
    """Return for each node the task above it that ended last."""
    above: dict[str, str] = {}
    entered = set[str]()
    for start in upstream:
        waiting = [start]
        while waiting:
            name = waiting[-1]
            if name not in entered:
                entered.add(name)
                # Only what is above a node without an end has to be looked at before it.
                waiting += [each for each in upstream.get(name, ()) if each not in entered and each not in ended_at]
                continue
            waiting.pop()
            ends = [each if each in ended_at else above.get(each, "") for each in upstream.get(name, ())]
            last = max(filter(None, ends), key=lambda each: (ended_at[each], each), default=None)
            if last is not None:
                above[name] = last
    return above
