"""Python tasks in the calling thread, one after the other: for tests and debuggers."""

from __future__ import annotations

from collections.abc import Mapping

from liteflow.executors.base import Attempt, Lane
from liteflow.executors.inbox import Inbox
from liteflow.executors.stdout_capture import AttemptOutput, destination
from liteflow.work import Call, Outcome, RunInfo, Work


def run_here(body: Call, work: Work, info: RunInfo) -> Outcome:
    """Run one attempt in this thread, its output routed to its log."""
    if work.log_path is None:
        return Attempt(work, info).run(body)
    output = AttemptOutput(work.log_path, info.masker)
    token = destination.set(output)
    try:
        outcome = Attempt(work, info).run(body)
    finally:
        destination.reset(token)
    return output.close(outcome)


class InlineLane(Lane):
    """`submit` returns when the task has ended; so nothing can be cancelled or time out."""

    def __init__(self, inbox: Inbox, calls: Mapping[str, Call], info: RunInfo) -> None:
        self._inbox = inbox
        self._calls = calls
        self._info = info

    def submit(self, work: Work) -> None:
        self._inbox.post(run_here(self._calls[work.task_id], work, self._info))

    def cancel(self, node: int, grace_s: float) -> None:
        """Nothing runs between two calls."""

    def close(self, grace_s: float) -> None:
        """Nothing to end."""
