"""Python tasks in worker processes: forked by the guardian as needed, reused, one task at a time.

A worker that dies costs its own task and no other: what waited in its mailbox goes to another worker.
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from functools import partial

from liteflow.errors import LiteflowError
from liteflow.executors.base import Lane, failure, how_it_died, left_text, one_line, timeout_message
from liteflow.executors.hub import LOST_MESSAGE, Hub, Ticket
from liteflow.executors.inbox import Inbox, Timer
from liteflow.executors.line import CANCELLED, PATIENCE_S, RECALL_S, Pace
from liteflow.executors.worker import outcome_from_wire, work_to_wire
from liteflow.outputs import discard, output_path
from liteflow.processes.client import Exited
from liteflow.processes.forks import keep_to_ourselves, let_go
from liteflow.processes.packets import Mailbox, pack
from liteflow.states import Verdict
from liteflow.work import RunInfo, Work

_MAILBOX = 16  # how many a worker may have, the one that runs included
_SMALL = 2048  # bytes of one that may wait in a mailbox: together they fit into the socket's buffer


class _Running:
    """An attempt that was submitted; it runs, waits in its worker's mailbox, or waits for a worker."""

    __slots__ = ("packet", "started_at", "stopped", "timer", "work", "worker")

    def __init__(self, work: Work, packet: bytes) -> None:
        self.work = work
        self.packet = packet
        self.worker: _Worker | None = None
        self.started_at = time.time()
        self.timer: Timer | None = None
        self.stopped: tuple[Verdict, str] | None = None  # why it was told to stop


class _Worker:
    """The orchestrator's side of one worker."""

    __slots__ = ("attempts", "began", "mailbox", "retired", "served", "ticket")

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.attempts: dict[int, _Running] = {}  # by node: the first runs, the others wait
        self.began = 0.0  # monotonic: when the first was sent, or the one before it ended
        self.served = False  # has answered once
        self.retired = False  # takes no more work
        self.ticket: Ticket


class ProcessLane(Lane):
    """At most `slots` workers, each with a mailbox in which attempts wait while tasks are very short (see `line`)."""

    def __init__(self, inbox: Inbox, info: RunInfo, hub: Hub, slots: int) -> None:
        self._inbox = inbox
        self._info = info
        self._hub = hub
        self._slots = slots
        self._pace = Pace()
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._running: dict[int, _Running] = {}  # by node: all that were submitted
        self._line: deque[_Running] = deque()  # those that no worker has in its mailbox
        self._watching = False

    @property
    def ahead(self) -> int:
        return self._pace.ahead

    def submit(self, work: Work) -> None:
        try:
            entry = _Running(work, pack(work_to_wire(work)))
        except ValueError as error:  # something that is not plain data
            self._inbox.post(failure(work, "FAILED", one_line(str(error))))
            return
        self._running[work.node] = entry
        if work.timeout_s is not None:
            late = partial(self._stop, entry, "TIMED_OUT", timeout_message(work), work.grace_s)
            entry.timer = self._inbox.at(time.monotonic() + work.timeout_s, late)
        self._place(entry)

    # -- which worker --------------------------------------------------------------------------------------

    def _place(self, entry: _Running) -> None:
        """Give an attempt to a worker: an idle one, a new one, or one that is at another."""
        try:
            worker = self._idle.pop() if self._idle else self._another(entry)
            if worker is None or not worker.mailbox.post(entry.packet):
                if worker is not None and not worker.attempts:
                    self._idle.append(worker)
                    raise OSError(errno.ENOBUFS, "the socket to its worker takes no more")
                self._line.append(entry)
                return
        except (LiteflowError, OSError) as error:
            self._drop(entry)
            self._inbox.post(failure(entry.work, "FAILED", one_line(str(error))))
            return
        entry.worker = worker
        if not worker.attempts:
            worker.began = time.monotonic()
            entry.started_at = time.time()
        elif not self._watching:
            self._watch_after(PATIENCE_S)
        worker.attempts[entry.work.node] = entry

    def _another(self, entry: _Running) -> _Worker | None:
        """A worker for an attempt when none is idle; None: it waits."""
        at_work = [worker for worker in self._workers if not worker.retired]
        if len(at_work) < self._slots:
            return self._new_worker()
        least = min(at_work, key=lambda worker: len(worker.attempts))
        return least if len(least.attempts) < _MAILBOX and len(entry.packet) <= _SMALL else None

    def _new_worker(self) -> _Worker:
        mailbox = Mailbox()
        keep_to_ourselves(mailbox.ours)
        keep_to_ourselves(mailbox.theirs)
        worker = _Worker(mailbox)
        keeps_logs = self._info.log_dir is not None
        try:
            worker.ticket = self._hub.start_worker(partial(self._ended, worker), mailbox.theirs, keeps_logs=keeps_logs)
        except LiteflowError:
            mailbox.close()
            raise
        self._workers.add(worker)
        self._inbox.watch(mailbox.fileno(), partial(self._read, worker))
        return worker

    def _rest(self, worker: _Worker) -> None:
        """A worker has nothing left to do."""
        if not worker.retired:
            self._idle.append(worker)
            if self._line and self._idle:
                self._place(self._line.popleft())

    def _withdraw(self, worker: _Worker) -> list[_Running]:
        """Take back what a worker has not read; what it then still has, runs."""
        waiting = [worker.attempts.pop(wire[0]) for wire in worker.mailbox.take_back()]
        for entry in waiting:
            entry.worker = None
        return waiting

    def _watch_after(self, pause_s: float) -> None:
        self._watching = True
        self._inbox.at(time.monotonic() + pause_s, self._watch)

    def _watch(self) -> None:
        """Let idle workers help those that are held up."""
        self._watching = False
        now = time.monotonic()
        for worker in list(self._workers):
            if self._idle and len(worker.attempts) > 1 and now - worker.began > PATIENCE_S:
                for entry in self._withdraw(worker):
                    self._place(entry)
        if not self._watching and any(len(worker.attempts) > 1 for worker in self._workers):
            self._watch_after(4 * PATIENCE_S)

    def recall(self) -> list[int]:
        late = time.monotonic() - RECALL_S
        waiting = list(self._line) if all(worker.began < late for worker in self._workers) else []
        for worker in self._workers:
            if len(worker.attempts) > 1 and worker.began < late:
                waiting += self._withdraw(worker)
        if waiting:
            self._pace.forget()
        for entry in waiting:
            self._drop(entry)
        return [entry.work.node for entry in waiting]

    # -- how attempts end ----------------------------------------------------------------------------------

    def _drop(self, entry: _Running) -> None:
        """An attempt is over, or there was none."""
        del self._running[entry.work.node]
        if entry in self._line:
            self._line.remove(entry)
        if entry.timer is not None:
            entry.timer.cancel()

    def _read(self, worker: _Worker) -> None:
        for clean, wire in worker.mailbox.take():
            worker.served, worker.retired = True, worker.retired or not clean
            entry = worker.attempts.get(wire[0])
            if entry is None or entry.stopped is not None:
                continue  # it is being killed: its Outcome comes when it is gone
            outcome = outcome_from_wire(wire)
            del worker.attempts[outcome.node]
            self._drop(entry)
            self._pace.took(outcome.ended_at - outcome.started_at)
            self._inbox.post(outcome)
            worker.began = time.monotonic()
            if worker.attempts:
                next(iter(worker.attempts.values())).started_at = outcome.ended_at
            else:
                self._rest(worker)
        if worker.mailbox.problem is not None and not worker.retired:
            worker.retired = True
            self._hub.stop(worker.ticket, 0.0)

    def _stop(self, entry: _Running, verdict: Verdict, message: str, grace_s: float) -> None:
        """End an attempt; when its worker is gone there is an Outcome."""
        node, worker = entry.work.node, entry.worker
        if worker is not None:
            self._read(worker)  # perhaps it has ended already
        if self._running.get(node) is not entry:
            return
        waiting = [entry] if worker is None else self._withdraw(worker)
        if entry in waiting:
            waiting.remove(entry)
            self._drop(entry)
            late = verdict == "TIMED_OUT"
            self._inbox.post(failure(entry.work, verdict, message if late else CANCELLED, started_at=entry.started_at))
            if worker is not None and not worker.attempts:
                self._rest(worker)
        elif worker is not None:
            if entry.stopped is None:
                entry.stopped = (verdict, message)
            worker.retired = True
            self._hub.stop(worker.ticket, grace_s)
        for other in waiting:
            self._place(other)

    def cancel(self, node: int, grace_s: float) -> None:
        entry = self._running.get(node)
        if entry is not None:
            self._stop(entry, "CANCELLED", "cancelled", grace_s)

    def _ended(self, worker: _Worker, event: Exited | None) -> None:
        """The worker's process is gone, and so is all it had started."""
        worker.retired = True
        self._read(worker)  # its last outcome may still be on the way
        waiting = self._withdraw(worker)
        ran = list(worker.attempts.values())
        if waiting and not ran and not worker.served:
            ran.append(waiting.pop(0))  # the worker did not get as far as that; another one might not either
        self._let_go(worker)
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        for entry in ran:
            self._drop(entry)
            self._report(entry, event, worker.mailbox.problem)
        for entry in waiting:
            self._place(entry)
        while self._line and (self._idle or len(self._workers) < self._slots):
            self._place(self._line.popleft())

    def _let_go(self, worker: _Worker) -> None:
        self._inbox.unwatch(worker.mailbox.fileno())
        let_go(worker.mailbox.ours)
        let_go(worker.mailbox.theirs)
        worker.mailbox.close()

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
        """Does any attempt run?"""
        return bool(self._running)

    def pids(self) -> dict[int, int]:
        """Process ids by node, of those that run."""
        return {
            next(iter(worker.attempts)): worker.ticket.pid
            for worker in self._workers
            if worker.attempts and worker.ticket.pid is not None
        }

    def close(self, grace_s: float) -> None:
        """Let idle workers go and ask the others to stop; the guardian's end will see to it."""
        for worker in self._workers:
            self._line += self._withdraw(worker)
            if worker.attempts:
                self._hub.stop(worker.ticket, grace_s)
        for entry in list(self._line):
            self._drop(entry)

    def release(self) -> None:
        """Close the sockets, once the guardian is gone."""
        for worker in self._workers:
            self._let_go(worker)
        self._workers.clear()
        self._idle.clear()
        self._running.clear()
        self._line.clear()


def _log_of(work: Work, event: Exited | None) -> str | None:
    """The log of an attempt whose worker has died, if it has printed anything."""
    if work.log_path is None or (event is not None and event.output_bytes):
        return work.log_path
    return work.log_path if os.path.exists(work.log_path) else None
