"""Which runs are listed, and the conditions in SQL that select them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from liteflow.record import Record


class RunConditions(Record):
    """Which runs are listed; None, or no states: all."""

    statuses: Sequence[str] = ()  #: their states, as readers see them: a run without an owner is INTERRUPTED
    text: str | None = None  #: in their id, their parameters or their reason
    hides_params: bool = False  #: whether the text is not looked for in parameters
    trigger: str | None = None  #: the id of the trigger that started them
    since: float | None = None  #: when they were created at the earliest, in seconds since 1970
    until: float | None = None  #: before when they were created

    def by_columns(self) -> Mapping[str, object]:
        """Return the conditions on columns of a run, each with its parameter; None: it does not hold."""
        params = "''" if self.hides_params else "coalesce(params, '')"
        return {
            f"instr(run_id || ' ' || {params} || ' ' || coalesce(reason, ''), ?) > 0": self.text,
            "run_id IN (SELECT run_id FROM liteflow_fires WHERE trigger_id=?)": self.trigger,
            "created_at>=?": self.since,
            "created_at<?": self.until,
        }

    def by_status(self, ownerless: Sequence[int]) -> tuple[str, list[str]]:
        """Return the condition on the status, and its parameters.

        `ownerless` are the numbers of the runs that are stored as open and have no owner.
        """
        stored = [*self.statuses, *(["UP_FOR_RETRY"] if "RUNNING" in self.statuses else [])]
        listed, numbers = "SELECT value FROM json_each(?)", json.dumps(ownerless)
        # `+` keeps SQLite from sorting all runs with these states: it reads the newest runs until the page is full.
        condition = f"+status IN ({listed}) AND run_no NOT IN ({listed})"
        if "INTERRUPTED" in self.statuses:
            return f"({condition} OR run_no IN ({listed}))", [json.dumps(stored), numbers, numbers]
        return condition, [json.dumps(stored), numbers]
