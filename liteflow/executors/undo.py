"""The undos of attempts: they end what an attempt has started outside the process tree, after any end but a success."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from liteflow.errors import LiteflowError
from liteflow.executors.guardian_client import CHECK_EVERY_S, GuardianClient
from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.executors.worker import outcome_from_wire, work_to_wire
from liteflow.processes.client import Undone
from liteflow.processes.packets import pack
from liteflow.processes.undos import ALL_UNDOS_S, UNDO_S
from liteflow.record import replace
from liteflow.work import Outcome, Work

_TOO_MANY: Final = f"it did not end within {ALL_UNDOS_S:g} s, with the others"


class AttemptUndos:
    """Has the guardian do the undos of the attempts of one run."""

    def __init__(
        self, guardian: GuardianClient, outcomes: OutcomeQueue, undo_of: Callable[[Work], Work | None]
    ) -> None:
        """Take a function that returns the work of an undo for that of its attempt; None: it has no undo."""
        self._guardian = guardian
        self._outcomes = outcomes
        self._undo_of = undo_of
        self._numbers: dict[int, int] = {}  # of the undos of running attempts, by node

    def register(self, work: Work) -> None:
        """Register the undo of an attempt before it starts, if its task has one.

        Raises:
            ValueError: a value is not plain data.
            LiteflowError: there is no guardian.
        """
        undo = self._undo_of(work)
        if undo is not None:
            self._numbers[work.node] = self._guardian.register_undo(_packet(undo))

    def post(self, outcome: Outcome) -> None:
        """Post an outcome: a success or a wait at once, any other outcome after the undo of its attempt."""
        number = self._numbers.pop(outcome.node, None)
        if number is None:
            self._outcomes.post(outcome)
        elif outcome.verdict == "SUCCESS" or outcome.waiting is not None:
            self._guardian.take_back_undo(number)
            self._outcomes.post(outcome)
        else:
            self._guardian.undo(number, partial(self._post_undone, outcome))

    def _post_undone(self, outcome: Outcome, event: Undone) -> None:
        self._outcomes.post(outcome._replace(undo_error=_problem(event)))

    def start(self, undo: Work, on_end: Callable[[str | None], None]) -> None:
        """Start an undo of an attempt of a dead process. `on_end` gets why it has failed; None: it has not."""
        try:
            number = self._guardian.register_undo(_packet(undo))
        except (LiteflowError, ValueError) as error:
            on_end(str(error))
            return
        self._guardian.undo(number, lambda event: on_end(_problem(event)))

    def undo(self, works: Sequence[Work]) -> list[str | None]:
        """Undo attempts of dead processes. Return for each why its undo has failed; None: it has not."""
        problems: dict[int, str | None] = dict.fromkeys(range(len(works)), _TOO_MANY)
        left = set(problems)

        def on_end(place: int, problem: str | None) -> None:
            problems[place] = problem
            left.discard(place)
            self._outcomes.wake()

        for place, work in enumerate(works):
            undo = self._undo_of(work)
            if undo is None:
                on_end(place, None)
            else:
                self.start(undo, partial(on_end, place))
        end = time.monotonic() + ALL_UNDOS_S
        while left and (pause := end - time.monotonic()) > 0:
            self._outcomes.wait(min(pause, CHECK_EVERY_S))
            self._guardian.continue_stopped()
        return list(problems.values())


def _packet(undo: Work) -> bytes:
    return pack([work_to_wire(replace(undo, is_undo=True, timeout_s=UNDO_S))])


def _problem(event: Undone) -> str | None:
    """Return why an undo has failed; None: it has not."""
    if event.value is None:
        return event.error
    error = outcome_from_wire(event.value[1][0]).error
    return None if error is None else error.message
