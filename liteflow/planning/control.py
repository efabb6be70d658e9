"""Control flow besides dependencies and trigger rules, by task number. Pure.

Failures that count as a success (`Tolerance`), setups and teardowns, tasks with checks before their start. The rules
themselves are in `branching` and `setup_teardown`; hooks and conditions are evaluated by the loop (see `running`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from liteflow.planning.branching import Branching as Branching
from liteflow.planning.branching import WrongDecision as WrongDecision
from liteflow.planning.branching import chosen_names as chosen_names
from liteflow.planning.branching import skipped_by as skipped_by
from liteflow.planning.setup_teardown import Teardown as Teardown
from liteflow.planning.setup_teardown import between as between
from liteflow.planning.setup_teardown import needed_setups as needed_setups

#: Ends the reason of a task that FAILED and counts as a success for its downstream tasks and for the run.
FORGIVEN: Final = "the run goes on as if it had succeeded (continue_on_error)"


class Tolerance(NamedTuple):
    """The failures of a task that count as a success for other tasks; with neither list, any failure."""

    exit_codes: tuple[int, ...] = ()
    errors: tuple[str, ...] = ()  # class names of exceptions

    def covers(self, error_types: Sequence[str], exit_code: int | None) -> bool:
        """Return whether this failure is tolerated."""
        if not self.exit_codes and not self.errors:
            return True
        return exit_code in self.exit_codes or any(name in self.errors for name in error_types)


class ControlFlow(NamedTuple):
    """The control flow of a graph besides its dependencies and trigger rules."""

    #: tasks with checks that are evaluated when their trigger rule lets them run
    gated: Collection[int] = frozenset()
    tolerant: Mapping[int, Tolerance] = {}
    teardowns: Mapping[int, Teardown] = {}
    #: the setups that a task needs without a direct dependency: it runs neither before them nor without them
    needs: Mapping[int, Sequence[int]] = {}
    #: tasks whose `if` uses a status function: their success does not hide a failure of their upstream tasks
    watchers: frozenset[int] = frozenset()
    setups: frozenset[int] = frozenset()

    def repeats(self, node: int) -> bool:
        """Return whether the task may succeed more than once in a run."""
        return node in self.setups or node in self.teardowns


NO_CONTROL_FLOW: Final = ControlFlow()


def status_for_downstream(status: str, tolerated: bool) -> str:
    """Return the state that the downstream tasks of a task see."""
    return "SUCCESS" if tolerated else status
