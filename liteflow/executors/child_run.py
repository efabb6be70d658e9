"""Child runs: each is executed to its end by a worker, as one long poll of the task that waits for it.

The attempt itself only says that it waits, so the id of the child run is stored before the child run exists.
"""

from __future__ import annotations

import json
import signal
import time
from functools import partial
from typing import Final

from liteflow.digest import sha256_hex
from liteflow.executors.process import ProcessBackend
from liteflow.executors.protocol import CANCEL_SIGNAL, BackendContext
from liteflow.work import Call, Outcome, Waiting, Work

_LONGEST_ID: Final = 128
_DIGEST: Final = 10  # characters


def child_run_id(parent: str, *place: str | int) -> str:
    """Return the id of the child run of a run: the same one for the same task, instance, round and iteration."""
    digest = sha256_hex(json.dumps(place).encode("utf-8", "surrogatepass"))[:_DIGEST]
    if len(parent) + 1 + len(digest) > _LONGEST_ID:
        parent = sha256_hex(parent.encode())[:32]
    return f"{parent}.{digest}"


class ChildRunBackend(ProcessBackend):
    """At most `slots` child runs are executed at once; further ones are queued. Attempts that wait take no slot."""

    queues = False

    def __init__(self, context: BackendContext) -> None:
        super().__init__(context)
        self._bodies = context.bodies

    def submit(self, work: Work) -> None:
        if work.handle is not None:
            super().submit(work)
            return
        body = self._bodies[work.task_id]
        assert isinstance(body, Call)
        assert body.poll is not None
        place: list[str | int] = [work.task_id, work.map_index, work.round, work.iteration]
        if body.poll.child == "new":
            place.append(work.attempt)
        run_id, now = child_run_id(self._info.run_id, *place), time.time()
        waiting = self._info.stored_wait(Waiting({"run": run_id}, 0.0, f"child run {run_id}"))
        log = work.log_path
        outcome = Outcome(work.node, work.attempt, "LOST", None, None, None, None, now, now, log, waiting=waiting)
        self._outcomes.post(outcome)

    def cancel(self, node: int, grace_s: float) -> None:
        """Let a child run end as CANCELLED, with its teardowns and hooks; after the grace, end all its processes."""
        if grace_s <= 0 or not self._signal(node, CANCEL_SIGNAL):
            super().cancel(node, 0.0)
        elif grace_s != float("inf"):
            self._outcomes.at(time.monotonic() + grace_s, partial(self._end_late, node, self._submissions[node]))

    def interrupt(self, node: int) -> None:
        if not self._signal(node, signal.SIGTERM):
            super().cancel(node, 0.0)

    def _signal(self, node: int, number: signal.Signals) -> bool:
        """Send a signal to the worker that executes a child run. Return False where no worker does."""
        submission = self._submissions.get(node)
        worker = None if submission is None else submission.worker
        if worker is None:
            return False
        self._guardian.signal(worker.handle, number)
        return True

    def _end_late(self, node: int, submission: object) -> None:
        if self._submissions.get(node) is submission:
            super().cancel(node, 0.0)
