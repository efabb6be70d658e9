"""Setup and teardown: what a teardown waits for, which setups a task needs, and what a resume repeats. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from liteflow.planning.graph import reachable
from liteflow.record import Record

_Edges = Sequence[Sequence[int]]


class Teardown(Record, kw_only=False):
    """A task that tears down what `setups` have set up."""

    setups: tuple[int, ...] = ()
    fails_run: bool = False  # whether its failure fails the run


def between(setups: Sequence[int], teardown: int, upstream: _Edges, downstream: _Edges) -> list[int]:
    """Return the tasks on the paths from the setups of a teardown to it: the teardown waits for all of them."""
    before_teardown = reachable([teardown], upstream)
    after_setups = reachable(list(setups), downstream)
    return [node for node in after_setups if node in before_teardown and node != teardown]


def needed_setups(
    setups: Collection[int], teardowns: Mapping[int, Teardown], upstream: _Edges, downstream: _Edges
) -> dict[int, list[int]]:
    """Return, for each task, the setups that it needs without a direct dependency on them.

    A task needs a setup that is upstream of it and is not torn down before it.
    """
    needed: dict[int, list[int]] = {}
    for setup in setups:
        ends = [node for node, teardown in teardowns.items() if setup in teardown.setups]
        scope = reachable(ends, upstream) if ends else None
        for node in reachable([setup], downstream):
            inside = scope is None or node in scope
            if node != setup and inside and node not in teardowns and setup not in upstream[node]:
                needed.setdefault(node, []).append(setup)
    return needed


def to_set_up_again(
    setups: Collection[int],
    teardowns: Mapping[int, Teardown],
    upstream: _Edges,
    downstream: _Edges,
    *,
    to_do: Collection[int],
    torn_down: Collection[int],
) -> set[int]:
    """Return the setups and teardowns that a resumed run repeats.

    `to_do` are the tasks that have still to run; `torn_down` are the teardowns that started after their setups
    succeeded. Where a task that has to run needs what was torn down, that is set up again, with the setups that depend
    on it, and torn down again in the end. Other tasks keep their success: the engine does not undo their effects.
    """
    again: set[int] = set()
    scopes = {node: between(teardowns[node].setups, node, upstream, downstream) for node in torn_down}
    own_setups = {setup for node in torn_down for setup in teardowns[node].setups}  # decided by their own teardown
    grown = True
    while grown:  # a setup that is repeated may itself need something that was torn down
        before = len(again)
        for node, scope in scopes.items():
            wanted = [task for task in scope if (task in to_do or task in again) and task not in teardowns]
            if not wanted:
                continue
            needed = reachable(wanted, upstream)
            again.update((node, *teardowns[node].setups))
            again.update(task for task in scope if task in setups and task not in own_setups and task in needed)
        grown = len(again) > before
    return again
