"""Python tasks in worker processes: forked by the guardian as needed, reused, one task at a time.

A worker that dies costs its own task and no other; the next task gets another worker.
"""

from __future__ import annotations

import os
import time
from functools import partial
from socket import socket

from liteflow.errors import LiteflowError
from liteflow.executors.base import failure, how_it_died, one_line, timeout_message
from liteflow.executors.hub import LOST_MESSAGE, Hub, Ticket
from liteflow.executors.inbox import Inbox, Timer
from liteflow.executors.worker import outcome_from_wire, work_to_wire
from liteflow.processes.client import Exited, let_go
from liteflow.processes.frames import Channel
from liteflow.states import Verdict
from liteflow.work import RunInfo, Work


class _Running:
    __slots__ = ("started_at", "stopped", "timer", "work", "worker")

    def __init__(self, work: Work, worker: _Worker) -> None:
        self.work = work
        self.worker = worker
        self.started_at = time.time()
        self.timer: Timer | None = None
        self.stopped: tuple[Verdict, str] | None = None  # why it was told to stop


class _Worker:
    """The orchestrator's side of one worker."""

    __slots__ = ("channel", "entry", "sock", "spool", "ticket")

    def __init__(self) -> None:
        self.ticket: Ticket
        self.sock: socket
        self.channel: Channel
        self.spool: str | None = None
        self.entry: _Running | None = None


class ProcessLane:
    def __init__(self, inbox: Inbox, info: RunInfo, hub: Hub) -> None:
        self._inbox = inbox
        self._info = info
        self._hub = hub
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._running: dict[int, _Running] = {}

    def submit(self, work: Work) -> None:
        message = work_to_wire(work)
        try:
            worker = self._hand_over(message)
        except (LiteflowError, ValueError) as error:  # ValueError: something that is not plain data
            self._inbox.post(failure(work, "FAILED", one_line(str(error))))
            return
        entry = worker.entry = self._running[work.node] = _Running(work, worker)
        if worker.channel.backlog:
            self._inbox.watch(worker.channel.fileno(), partial(self._flush, worker), writable=True)
        if work.timeout_s is not None:
            late = partial(self._stop, entry, "TIMED_OUT", timeout_message(work), work.grace_s)
            entry.timer = self._inbox.at(time.monotonic() + work.timeout_s, late)

    def _hand_over(self, message: tuple[object, ...]) -> _Worker:
        """Send work to an idle worker or to a new one; passes over idle ones that have died."""
        while self._idle:
            worker = self._idle.pop()
            worker.channel.send(message)
            if not worker.channel.eof:
                return worker
        worker = self._new_worker()
        worker.channel.send(message)
        return worker

    def _new_worker(self) -> _Worker:
        worker = _Worker()

        def spool(number: int) -> str | None:
            if self._info.log_dir is not None:
                worker.spool = os.path.join(self._info.log_dir, f".spool-{self._hub.guardian.session:x}-{number}")
            return worker.spool

        worker.ticket, worker.sock = self._hub.start_worker(partial(self._ended, worker), spool)
        worker.channel = Channel(worker.sock)
        self._workers.add(worker)
        self._inbox.watch(worker.channel.fileno(), partial(self._read, worker))
        return worker

    def _flush(self, worker: _Worker) -> None:
        """Go on sending a large work."""
        worker.channel.flush()
        if not worker.channel.backlog or worker.channel.eof:
            self._inbox.watch(worker.channel.fileno(), partial(self._read, worker))
        self._read(worker)

    def _read(self, worker: _Worker) -> None:
        for clean, wire in worker.channel.take():
            entry = worker.entry
            if entry is None or entry.stopped is not None:
                continue  # it is being killed: its Outcome comes when it is gone
            worker.entry = None
            del self._running[entry.work.node]
            if entry.timer is not None:
                entry.timer.cancel()
            self._inbox.post(outcome_from_wire(wire))
            if clean:
                self._idle.append(worker)
        if worker.channel.eof:
            self._inbox.unwatch(worker.channel.fileno())
            if worker in self._idle:
                self._idle.remove(worker)

    def _stop(self, entry: _Running, verdict: Verdict, message: str, grace_s: float) -> None:
        self._read(entry.worker)  # perhaps it has ended already
        if self._running.get(entry.work.node) is not entry:
            return
        if entry.stopped is None:
            entry.stopped = (verdict, message)
        self._hub.stop(entry.worker.ticket, grace_s)

    def cancel(self, node: int, grace_s: float) -> None:
        entry = self._running.get(node)
        if entry is not None:
            self._stop(entry, "CANCELLED", "cancelled", grace_s)

    def _ended(self, worker: _Worker, event: Exited | None) -> None:
        """The worker's process is gone, and so is all it had started."""
        if not worker.channel.eof:
            self._read(worker)  # its last outcome may still be on the way
        self._inbox.unwatch(worker.channel.fileno())
        let_go(worker.sock)
        worker.channel.close()
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        entry, worker.entry = worker.entry, None
        if entry is None:
            return
        del self._running[entry.work.node]
        if entry.timer is not None:
            entry.timer.cancel()
        self._report(entry, event)

    def _report(self, entry: _Running, event: Exited | None) -> None:
        verdict: Verdict = "FAILED"
        if event is None:
            verdict, message = "LOST", LOST_MESSAGE
        elif entry.stopped is not None:
            verdict, message = entry.stopped
        elif event.error is not None:
            message = one_line(event.error)
        else:
            message = how_it_died("worker", event.code)
        self._inbox.post(
            failure(
                entry.work,
                verdict,
                message,
                exit_code=event.code if event is not None and event.error is None else None,
                started_at=entry.started_at,
                ended_at=event.ended_at if event is not None else None,
                log_path=_rescue_output(entry.worker.spool, entry.work.log_path),
            )
        )

    @property
    def busy(self) -> bool:
        """Does any attempt run?"""
        return bool(self._running)

    def pids(self) -> dict[int, int]:
        """Process ids by node."""
        return {
            node: entry.worker.ticket.pid
            for node, entry in self._running.items()
            if entry.worker.ticket.pid is not None
        }

    def close(self, grace_s: float) -> None:
        """Let idle workers go and ask the others to stop; the guardian's end will see to it."""
        for worker in list(self._workers):
            if worker.entry is not None:
                self._hub.stop(worker.ticket, grace_s)

    def release(self) -> None:
        """Close the sockets, once the guardian is gone."""
        for worker in self._workers:
            self._inbox.unwatch(worker.channel.fileno())
            let_go(worker.sock)
            worker.channel.close()
            if worker.entry is not None:
                _rescue_output(worker.spool, worker.entry.work.log_path)
        self._workers.clear()
        self._idle.clear()
        self._running.clear()


def _rescue_output(spool: str | None, log_path: str | None) -> str | None:
    """Give a dead worker's output its name. Returns the log's path when there is one."""
    if spool is None or log_path is None:
        return None
    if os.path.exists(log_path):
        return log_path
    try:
        if os.stat(spool).st_size > 0:
            os.makedirs(os.path.dirname(log_path), mode=0o700, exist_ok=True)
            os.rename(spool, log_path)
            return log_path
        os.unlink(spool)
    except OSError:
        return None
    return None
