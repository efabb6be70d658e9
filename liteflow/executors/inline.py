"""Python tasks in the calling thread, one after the other: for tests and debuggers."""

from __future__ import annotations

from typing import cast

from liteflow.executors.attempt import Attempt
from liteflow.executors.protocol import Backend, BackendContext
from liteflow.executors.stdout_capture import AttemptOutput, destination
from liteflow.work import Call, Outcome, RunInfo, Work


def run_attempt(body: Call, work: Work, info: RunInfo) -> Outcome:
    """Run one attempt in this thread, with its output in its log."""
    if work.log_path is None:
        return Attempt(work, info).run(body)
    output = AttemptOutput(work.log_path, info.masker)
    token = destination.set(output)
    try:
        outcome = Attempt(work, info).run(body)
    finally:
        destination.reset(token)
    return output.close(outcome)


class InlineBackend(Backend):
    """Runs an attempt inside `submit`, so none can be cancelled or time out."""

    in_this_process = True

    def __init__(self, context: BackendContext) -> None:
        self._context = context

    def submit(self, work: Work) -> None:
        body = cast("Call", self._context.bodies[work.task_id])
        self._context.outcomes.post(run_attempt(body, work, self._context.info))

    def cancel(self, node: int, grace_s: float) -> None:
        """Do nothing: no attempt runs between two calls."""
