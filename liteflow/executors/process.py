"""Python tasks in worker processes: forked by the guardian as needed, reused, one task at a time.

A worker that dies costs its own task only. Only polls are submitted several at once, for one worker: a poll that ends
its worker costs the others an answer.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Sequence
from functools import partial

from liteflow.errors import LiteflowError
from liteflow.executors.attempt import (
    cancelled_in_queue,
    death_text,
    failure,
    one_line,
    survivors_text,
    timeout_message,
)
from liteflow.executors.guardian_client import LOST_MESSAGE, ProcessHandle
from liteflow.executors.outcome_queue import Timer
from liteflow.executors.protocol import Backend, BackendContext
from liteflow.executors.worker import outcome_from_wire, work_to_wire
from liteflow.outputs import discard, output_path
from liteflow.processes.client import Exited
from liteflow.processes.forks import close_in_forks, keep_open_in_forks
from liteflow.processes.packets import WorkerSocket, pack
from liteflow.states import Verdict
from liteflow.work import Outcome, Work

_GATHER_S = 0.004  # outcomes are held back at most for so long while more attempts are queued


class _Submission:
    """An attempt, or several polls, that was submitted: it runs in its worker, or is queued for one."""

    __slots__ = ("packet", "started_at", "stopped", "timer", "worker", "works")

    def __init__(self, works: Sequence[Work], packet: bytes) -> None:
        self.works = works
        self.packet = packet
        self.worker: _Worker | None = None
        self.started_at = 0.0
        self.timer: Timer | None = None
        self.stopped: tuple[Verdict, str] | None = None  # why the attempt is being ended


class _Worker:
    """A worker process, as the orchestrator sees it."""

    __slots__ = ("attempt", "handle", "retired", "socket")

    def __init__(self, socket: WorkerSocket) -> None:
        self.socket = socket
        self.attempt: _Submission | None = None
        self.retired = False  # runs no further attempts
        self.handle: ProcessHandle


class ProcessBackend(Backend):
    """At most `slots` workers; attempts beyond that are queued.

    While attempts are queued, outcomes are gathered for some milliseconds: the caller then commits many of them at
    once, and workers get their next attempt before that.
    """

    queues = True

    def __init__(self, context: BackendContext) -> None:
        assert context.guardian is not None
        self._outcomes = context.outcomes
        self._info = context.info
        self._guardian = context.guardian
        self._slots = context.slots
        self._undos = context.undos
        self._post = context.post
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._submissions: dict[int, _Submission] = {}  # by node
        self._queue: deque[_Submission] = deque()  # those that have no worker yet
        self._gathered: list[Outcome] = []
        self._gathering: Timer | None = None

    def submit(self, work: Work) -> None:
        self.submit_all((work,))

    def submit_all(self, works: Sequence[Work]) -> None:
        """Run attempts one after the other in one worker."""
        try:
            submission = _Submission(works, pack(list(map(work_to_wire, works))))
        except ValueError as error:  # a value that is not plain data
            for work in works:
                self._outcomes.post(failure(work, "FAILED", one_line(str(error))))
            return
        for work in works:
            self._submissions[work.node] = submission
        self._queue.append(submission)
        self._start_queued()

    # -- workers --------------------------------------------------------------------------------------------

    def _start_queued(self) -> None:
        """Give queued attempts to workers as long as there are slots."""
        while self._queue and sum(worker.attempt is not None for worker in self._workers) < self._slots:
            submission = self._queue.popleft()
            try:
                self._start(submission, self._idle.pop() if self._idle else self._new_worker())
            except (LiteflowError, OSError) as error:
                self._remove(submission)
                for work in submission.works:
                    self._post(failure(work, "FAILED", one_line(str(error))))
        if not self._queue:
            self._post_gathered()

    def _start(self, submission: _Submission, worker: _Worker) -> None:
        if self._undos is not None:
            self._undos.register(submission.works[0])
        if not worker.socket.post(submission.packet):
            self._idle.append(worker)
            raise OSError(errno.ENOBUFS, "the socket to its worker is full")
        worker.attempt, submission.worker = submission, worker
        submission.started_at = time.time()
        work = submission.works[0]
        if work.timeout_s is not None:
            on_timeout = partial(self._stop, submission, "TIMED_OUT", timeout_message(work), work.grace_s)
            submission.timer = self._outcomes.at(time.monotonic() + work.timeout_s, on_timeout)

    def _new_worker(self) -> _Worker:
        socket = WorkerSocket()
        close_in_forks(socket.parent_end)
        close_in_forks(socket.worker_end)
        worker = _Worker(socket)
        on_exit, keeps_logs = partial(self._on_exit, worker), self._info.log_dir is not None
        try:
            worker.handle = self._guardian.start_worker(on_exit, socket.worker_end, keeps_logs=keeps_logs)
        except LiteflowError:
            socket.close()
            raise
        self._workers.add(worker)
        self._outcomes.watch(socket.fileno(), partial(self._read, worker))
        return worker

    # -- how attempts end ----------------------------------------------------------------------------------

    def _remove(self, submission: _Submission) -> None:
        """Forget an attempt that has ended or was never started."""
        for work in submission.works:
            del self._submissions[work.node]
        if submission.timer is not None:
            submission.timer.cancel()

    def _read(self, worker: _Worker) -> None:
        """Read the outcome of a worker's attempt, if it has arrived; give the worker the next attempt."""
        message = worker.socket.take()
        if message is not None:
            clean, wires = message
            worker.retired = worker.retired or not clean
            submission = worker.attempt
            if submission is not None and submission.stopped is None:  # else it is being killed
                worker.attempt = None
                self._remove(submission)
                if not worker.retired:
                    self._idle.append(worker)
                self._gathered.extend(map(outcome_from_wire, wires))
                if len(wires) < len(submission.works):  # the last of these polls has changed the worker for good
                    self.submit_all(submission.works[len(wires) :])
                self._start_queued()
                if self._gathered and self._gathering is None:
                    self._gathering = self._outcomes.at(time.monotonic() + _GATHER_S, self._post_gathered)
        if worker.socket.problem is not None and not worker.retired:
            worker.retired = True
            self._guardian.stop(worker.handle, 0.0)

    def _post_gathered(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        gathered, self._gathered = self._gathered, []
        for outcome in gathered:
            self._post(outcome)

    def _stop(self, submission: _Submission, verdict: Verdict, message: str, grace_s: float) -> None:
        """End an attempt; its Outcome comes when its worker has ended."""
        worker = submission.worker
        if worker is not None:
            self._read(worker)  # the attempt may have ended already
        if self._submissions.get(submission.works[0].node) is not submission:
            return
        if worker is None:
            self._queue.remove(submission)
            self._remove(submission)
            for work in submission.works:
                self._outcomes.post(cancelled_in_queue(work))
            return
        if submission.stopped is None:
            submission.stopped = (verdict, message)
        worker.retired = True
        self._guardian.stop(worker.handle, grace_s)

    def cancel(self, node: int, grace_s: float) -> None:
        submission = self._submissions.get(node)
        if submission is not None:
            self._stop(submission, "CANCELLED", "cancelled", grace_s)

    def _on_exit(self, worker: _Worker, event: Exited | None) -> None:
        """Handle the end of a worker's process, by which all that it started is gone, too."""
        worker.retired = True
        self._read(worker)  # its last outcome may still be on the way
        self._close_socket(worker)
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if (submission := worker.attempt) is not None:
            self._remove(submission)
            self._report(submission, event, worker.socket.problem)
        self._start_queued()

    def _close_socket(self, worker: _Worker) -> None:
        self._outcomes.unwatch(worker.socket.fileno())
        keep_open_in_forks(worker.socket.parent_end)
        keep_open_in_forks(worker.socket.worker_end)
        worker.socket.close()

    def _report(self, submission: _Submission, event: Exited | None, problem: str | None) -> None:
        verdict: Verdict = "FAILED"
        if submission.stopped is not None:
            verdict, message = submission.stopped
            message += survivors_text(() if event is None else event.survivors)
        elif event is None:
            verdict, message = "LOST", LOST_MESSAGE
        elif problem is not None:
            message = problem
        elif event.error is not None:
            message = one_line(event.error)
        else:
            message = death_text("worker", event.code)
        for work in submission.works:
            path = output_path(self._info, work)
            if path is not None:
                discard(path)
            self._post(
                failure(
                    work,
                    verdict,
                    message,
                    exit_code=event.code if event is not None and event.error is None else None,
                    started_at=submission.started_at,
                    ended_at=event.ended_at if event is not None else None,
                    log_path=_log_of(work, event),
                    log_lost=None if event is None else event.lost,
                )
            )

    @property
    def is_busy(self) -> bool:
        return bool(self._submissions)

    def close(self, grace_s: float) -> None:
        """Drop queued attempts and stop the others; idle workers end with the guardian."""
        for submission in self._queue:
            self._remove(submission)
        self._queue.clear()
        for worker in self._workers:
            if worker.attempt is not None:
                self._guardian.stop(worker.handle, grace_s)

    def release(self) -> None:
        """Close the sockets, once the guardian is gone."""
        for worker in self._workers:
            self._close_socket(worker)
        self._workers.clear()
        self._idle.clear()
        self._submissions.clear()
        self._queue.clear()


def _log_of(work: Work, event: Exited | None) -> str | None:
    """Return the log of an attempt whose worker has died, if the attempt has printed anything."""
    if work.log_path is None or (event is not None and event.output_bytes):
        return work.log_path
    return work.log_path if os.path.exists(work.log_path) else None
