"""Python tasks in worker processes: forked by the guardian as needed, reused, one task at a time.

A worker that dies costs its own task only.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from functools import partial

from liteflow.errors import LiteflowError
from liteflow.executors.base import (
    Lane,
    cancelled_in_queue,
    failure,
    how_it_died,
    left_text,
    one_line,
    timeout_message,
)
from liteflow.executors.hub import LOST_MESSAGE, Hub, Ticket
from liteflow.executors.inbox import Inbox, Timer
from liteflow.executors.worker import outcome_from_wire, work_to_wire
from liteflow.outputs import discard, output_path
from liteflow.processes.client import Exited
from liteflow.processes.forks import close_in_forks, keep_open_in_forks
from liteflow.processes.packets import WorkerSocket, pack
from liteflow.states import Verdict
from liteflow.work import Outcome, RunInfo, Work

_GATHER_S = 0.004  # outcomes are held back at most for so long while more attempts are queued


class _Running:
    """An attempt that was submitted: it runs in its worker, or is queued for one."""

    __slots__ = ("packet", "started_at", "stopped", "timer", "work", "worker")

    def __init__(self, work: Work, packet: bytes) -> None:
        self.work = work
        self.packet = packet
        self.worker: _Worker | None = None
        self.started_at = 0.0
        self.timer: Timer | None = None
        self.stopped: tuple[Verdict, str] | None = None  # why the attempt is being ended


class _Worker:
    """A worker process, as the orchestrator sees it."""

    __slots__ = ("attempt", "retired", "socket", "ticket")

    def __init__(self, socket: WorkerSocket) -> None:
        self.socket = socket
        self.attempt: _Running | None = None
        self.retired = False  # takes no more attempts
        self.ticket: Ticket


class ProcessLane(Lane):
    """At most `slots` workers; attempts beyond that are queued.

    While attempts are queued, outcomes are gathered for some milliseconds: the caller then commits many of them at
    once, and workers get their next attempt before that.
    """

    queues = True

    def __init__(self, inbox: Inbox, info: RunInfo, hub: Hub, slots: int) -> None:
        self._inbox = inbox
        self._info = info
        self._hub = hub
        self._slots = slots
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._running: dict[int, _Running] = {}  # by node: all that were submitted
        self._queue: deque[_Running] = deque()  # of these the ones that have no worker yet
        self._gathered: list[Outcome] = []
        self._gathering: Timer | None = None

    def submit(self, work: Work) -> None:
        try:
            entry = _Running(work, pack(work_to_wire(work)))
        except ValueError as error:  # something that is not plain data
            self._inbox.post(failure(work, "FAILED", one_line(str(error))))
            return
        self._running[work.node] = entry
        self._queue.append(entry)
        self._start_queued()

    # -- which worker --------------------------------------------------------------------------------------

    def _start_queued(self) -> None:
        """Give queued attempts to workers as long as there are slots."""
        while self._queue and len(self._running) - len(self._queue) < self._slots:
            entry = self._queue.popleft()
            try:
                self._start(entry, self._idle.pop() if self._idle else self._new_worker())
            except (LiteflowError, OSError) as error:
                self._remove(entry)
                self._inbox.post(failure(entry.work, "FAILED", one_line(str(error))))
        if not self._queue:
            self._post_gathered()

    def _start(self, entry: _Running, worker: _Worker) -> None:
        if not worker.socket.post(entry.packet):
            self._idle.append(worker)
            raise OSError(errno.ENOBUFS, "the socket to its worker takes no more")
        worker.attempt, entry.worker = entry, worker
        entry.started_at = time.time()
        work = entry.work
        if work.timeout_s is not None:
            late = partial(self._stop, entry, "TIMED_OUT", timeout_message(work), work.grace_s)
            entry.timer = self._inbox.at(time.monotonic() + work.timeout_s, late)

    def _new_worker(self) -> _Worker:
        socket = WorkerSocket()
        close_in_forks(socket.ours)
        close_in_forks(socket.theirs)
        worker = _Worker(socket)
        keeps_logs = self._info.log_dir is not None
        try:
            worker.ticket = self._hub.start_worker(partial(self._ended, worker), socket.theirs, keeps_logs=keeps_logs)
        except LiteflowError:
            socket.close()
            raise
        self._workers.add(worker)
        self._inbox.watch(socket.fileno(), partial(self._read, worker))
        return worker

    # -- how attempts end ----------------------------------------------------------------------------------

    def _remove(self, entry: _Running) -> None:
        """Forget an attempt that has ended or was never started."""
        del self._running[entry.work.node]
        if entry.timer is not None:
            entry.timer.cancel()

    def _read(self, worker: _Worker) -> None:
        for clean, wire in worker.socket.take():
            worker.retired = worker.retired or not clean
            entry = worker.attempt
            if entry is None or entry.stopped is not None:
                continue  # it is being killed: its Outcome comes when it is gone
            worker.attempt = None
            self._remove(entry)
            if not worker.retired:
                self._idle.append(worker)
            self._gathered.append(outcome_from_wire(wire))
            self._start_queued()
        if self._gathered and self._gathering is None:
            self._gathering = self._inbox.at(time.monotonic() + _GATHER_S, self._post_gathered)
        if worker.socket.problem is not None and not worker.retired:
            worker.retired = True
            self._hub.stop(worker.ticket, 0.0)

    def _post_gathered(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        for outcome in self._gathered:
            self._inbox.post(outcome)
        self._gathered.clear()

    def _stop(self, entry: _Running, verdict: Verdict, message: str, grace_s: float) -> None:
        """End an attempt; its Outcome comes when its worker is gone."""
        worker = entry.worker
        if worker is not None:
            self._read(worker)  # the attempt may have ended already
        if self._running.get(entry.work.node) is not entry:
            return
        if worker is None:
            self._queue.remove(entry)
            self._remove(entry)
            self._inbox.post(cancelled_in_queue(entry.work))
            return
        if entry.stopped is None:
            entry.stopped = (verdict, message)
        worker.retired = True
        self._hub.stop(worker.ticket, grace_s)

    def cancel(self, node: int, grace_s: float) -> None:
        entry = self._running.get(node)
        if entry is not None:
            self._stop(entry, "CANCELLED", "cancelled", grace_s)

    def _ended(self, worker: _Worker, event: Exited | None) -> None:
        """Handle the end of a worker's process, by which all that it started is gone, too."""
        worker.retired = True
        self._read(worker)  # its last outcome may still be on the way
        self._let_go(worker)
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if (entry := worker.attempt) is not None:
            self._remove(entry)
            self._report(entry, event, worker.socket.problem)
        self._start_queued()

    def _let_go(self, worker: _Worker) -> None:
        self._inbox.unwatch(worker.socket.fileno())
        keep_open_in_forks(worker.socket.ours)
        keep_open_in_forks(worker.socket.theirs)
        worker.socket.close()

    def _report(self, entry: _Running, event: Exited | None, problem: str | None) -> None:
        verdict: Verdict = "FAILED"
        if entry.stopped is not None:
            verdict, message = entry.stopped
            message += left_text(() if event is None else event.left)
        elif event is None:
            verdict, message = "LOST", LOST_MESSAGE
        elif problem is not None:
            message = problem
        elif event.error is not None:
            message = one_line(event.error)
        else:
            message = how_it_died("worker", event.code)
        path = output_path(self._info, entry.work)
        if path is not None:
            discard(path)
        self._inbox.post(
            failure(
                entry.work,
                verdict,
                message,
                exit_code=event.code if event is not None and event.error is None else None,
                started_at=entry.started_at,
                ended_at=event.ended_at if event is not None else None,
                log_path=_log_of(entry.work, event),
                log_lost=None if event is None else event.lost,
            )
        )

    @property
    def busy(self) -> bool:
        """Whether any attempt runs."""
        return bool(self._running)

    def pids(self) -> dict[int, int]:
        """Return the process ids of running attempts by node."""
        return {
            worker.attempt.work.node: worker.ticket.pid
            for worker in self._workers
            if worker.attempt is not None and worker.ticket.pid is not None
        }

    def close(self, grace_s: float) -> None:
        """Drop queued attempts and stop the others; idle workers end with the guardian."""
        for entry in self._queue:
            self._remove(entry)
        self._queue.clear()
        for worker in self._workers:
            if worker.attempt is not None:
                self._hub.stop(worker.ticket, grace_s)

    def release(self) -> None:
        """Close the sockets, once the guardian is gone."""
        for worker in self._workers:
            self._let_go(worker)
        self._workers.clear()
        self._idle.clear()
        self._running.clear()
        self._queue.clear()


def _log_of(work: Work, event: Exited | None) -> str | None:
    """Return the log of an attempt whose worker has died, if the attempt has printed anything."""
    if work.log_path is None or (event is not None and event.output_bytes):
        return work.log_path
    return work.log_path if os.path.exists(work.log_path) else None
