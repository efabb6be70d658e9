"""The tasks of a run that run again when some are chosen. Pure.

A rerun is the second execution of chosen tasks of a run, usually with all that follows them. Other tasks
that have ended stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from liteflow.planning.graph import reachable
from liteflow.record import EMPTY_MAPPING, Record

#: Of a mapped task the indexes of instances; None: the whole task.
Indexes = frozenset[int] | None
WHOLE: Final[Indexes] = None


class Rerun(Record):
    """A request to run tasks of a run again: `chosen` has their ids."""

    chosen: Mapping[str, Indexes] = EMPTY_MAPPING
    follow: bool = True  # whether all tasks downstream of them run again, too
    ignore_upstream: bool = False  # whether the chosen tasks run although an upstream task did not succeed
    reason: str = "run again"  # of the events: the tasks, and the user


def closure(
    chosen: Mapping[int, Indexes], downstream: Sequence[Sequence[int]], *, follow: bool
) -> dict[int, tuple[Indexes, int | None]]:
    """Return the tasks that run again: of each the instances, and the chosen task that it follows.

    A task that follows a chosen instance runs again as a whole, because it may have read the values of all instances.
    """
    again: dict[int, tuple[Indexes, int | None]] = {node: (indexes, None) for node, indexes in chosen.items()}
    if follow:
        for node in chosen:
            for after in reachable(downstream[node], downstream):
                # A chosen task that follows another chosen task runs again as a whole.
                again[after] = (WHOLE, None if after in chosen else again.get(after, (WHOLE, node))[1])
    return again
