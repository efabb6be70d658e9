"""Control flow besides dependencies and trigger rules, by task number. Pure.

Failures that count as a success (`Tolerance`), setups and teardowns, and tasks with checks before their start. The
rules are in `branching` and `setup_teardown`; the loop evaluates hooks and conditions (see `running`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from liteflow.planning.setup_teardown import Teardown
from liteflow.record import EMPTY_MAPPING, Record

#: Ends the reason of a task that FAILED and counts as a success for its downstream tasks and for the run.
TOLERATED: Final = "the run continues as if it had succeeded (continue_on_error)"


class Tolerance(Record):
    """The failures of a task that count as a success for other tasks; with neither list, any failure."""

    exit_codes: tuple[int, ...] = ()
    errors: tuple[str, ...] = ()  # class names of exceptions

    def covers(self, error_types: Sequence[str], exit_code: int | None) -> bool:
        """Return whether this failure is tolerated."""
        if not self.exit_codes and not self.errors:
            return True
        return exit_code in self.exit_codes or any(name in self.errors for name in error_types)


class ControlFlow(Record):
    """The control flow of a graph besides its dependencies and trigger rules."""

    #: the tasks with checks that are evaluated when their trigger rule lets them run
    checked: Collection[int] = frozenset()
    tolerances: Mapping[int, Tolerance] = EMPTY_MAPPING
    setups: frozenset[int] = frozenset()
    teardowns: Mapping[int, Teardown] = EMPTY_MAPPING
    #: the setups that a task needs without a direct dependency: it runs neither before them nor without them
    needed_setups: Mapping[int, Sequence[int]] = EMPTY_MAPPING
    #: the tasks whose `if` uses a status function: their success does not hide a failure of their upstream tasks
    status_readers: frozenset[int] = frozenset()
    #: the joins of groups: nodes without an attempt, which end when all members of their group have ended
    joins: frozenset[int] = frozenset()
    #: the entries of groups: nodes without an attempt, each with the tasks that run only after it has ended as SUCCESS
    entries: Mapping[int, Sequence[int]] = EMPTY_MAPPING

    def entries_of(self) -> dict[int, list[int]]:
        """Return the entries that must be SUCCESS before a node starts."""
        entries: dict[int, list[int]] = {}
        for entry, members in self.entries.items():
            for node in members:
                entries.setdefault(node, []).append(entry)
        return entries

    def never_skipped(self) -> frozenset[int]:
        """Return the nodes that no decision skips: teardowns, and joins, whose members decide their state."""
        return self.joins.union(self.teardowns)


NO_CONTROL_FLOW: Final = ControlFlow()


def status_for_downstream(status: str, tolerated: bool) -> str:
    """Return the state that the downstream tasks of a task see."""
    return "SUCCESS" if tolerated else status
