"""The guardian as the lanes see it: tickets, whose they are, and a new guardian when the old one was killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from socket import socket

from liteflow.errors import ResourceError
from liteflow.executors.inbox import Inbox
from liteflow.masking import Masker
from liteflow.processes import tree
from liteflow.processes.client import (
    Exited,
    Guardian,
    NotImportable,
    Program,
    Started,
    is_single_threaded,
)
from liteflow.processes.guardian import WorkerMain

LOST_MESSAGE = "the guardian process was killed"
_LOOK_EVERY_S = 0.25
_WORD_S = 2.0  # a guardian that says nothing for so long, when asked, is not going to


class Ticket:
    """A command or a worker as long as it lives. The lane sets what happens when it has started and ended."""

    __slots__ = ("ended", "number", "pid")

    def __init__(self, number: int, ended: Callable[[Exited | None], None]) -> None:
        self.number = number
        self.ended = ended  # called once, with None when the guardian was killed and the ticket's processes with it
        self.pid: int | None = None


class Hub:
    """Starts the guardian when opened and again when one was killed."""

    def __init__(
        self,
        worker_main: WorkerMain,
        program: Callable[[], Program],
        close_in_workers: Sequence[int],
        *,
        claim_children: bool = False,
        masker: Masker | None = None,
    ) -> None:
        self._masker = masker
        self._worker_main = worker_main
        self._program = program
        self._close_in_workers = tuple(close_in_workers)
        self._tagger = tree.Tagger() if claim_children else None
        self._inbox: Inbox | None = None
        self._tickets: dict[int, Ticket] = {}
        self._last_number = 0
        self.guardian = self._start()

    def _start(self) -> Guardian:
        """Start a guardian, and mark what this process itself starts as the guardian's to end, if that is wanted."""
        if self._tagger is None:
            return self._new_guardian()
        self._tagger.take_off()  # the guardian itself is nobody's task
        guardian = self._new_guardian()
        self._tagger.put_on(tree.make_tag(guardian.session, tree.OWNER))
        return guardian

    def _new_guardian(self) -> Guardian:
        """Fork a guardian; where this process has threads, prefer a fresh interpreter (see docs/adr/0013).

        Closures, lambdas and what a notebook defines cannot be found by a fresh interpreter. They are forked all the
        same: a lock that another thread holds at that instant stays locked in the workers, as it would in those
        of `multiprocessing`.
        """
        if not is_single_threaded():
            try:
                return Guardian.execute(self._program(), close_in_workers=self._close_in_workers)
            except NotImportable:
                pass
        return Guardian.fork(self._worker_main, close_in_workers=self._close_in_workers, masker=self._masker)

    def attach(self, inbox: Inbox) -> None:
        """Have the guardian's messages handled while the inbox waits."""
        self._inbox = inbox
        inbox.watch(self.guardian.fileno(), self._handle)
        self._look()

    def _look(self) -> None:
        """Continue a guardian that a task has stopped, now and every quarter of a second."""
        self.guardian.go_on()
        if self._inbox is not None:
            self._inbox.at(time.monotonic() + _LOOK_EVERY_S, self._look)

    def _alive(self) -> Guardian:
        """A guardian that lives as far as is known. Raises LiteflowError when none can be started."""
        if self.guardian.is_dead():
            self.guardian = self._start()
            if self._inbox is not None:
                self._inbox.watch(self.guardian.fileno(), self._handle)
        return self.guardian

    def start_command(
        self,
        ended: Callable[[Exited | None], None],
        argv: Sequence[str],
        cwd: str | None,
        environ: Mapping[str, str],
        log_path: str | None,
    ) -> Ticket:
        """Start a command. Raises LiteflowError when there is no guardian to do it."""
        guardian = self._alive()
        ticket = self._new_ticket(ended)
        guardian.start_command(ticket.number, argv, cwd, environ, log_path)
        self._catch_up()
        return ticket

    def start_worker(self, ended: Callable[[Exited | None], None], sock: socket, *, keeps_logs: bool) -> Ticket:
        """Fork a worker; `keeps_logs`: see `Guardian.start_worker`.

        Raises LiteflowError when there is no guardian to do it.
        """
        guardian = self._alive()
        ticket = self._new_ticket(ended)
        guardian.start_worker(ticket.number, sock, keeps_logs=keeps_logs)
        self._catch_up()
        return ticket

    def stop(self, ticket: Ticket, grace_s: float) -> None:
        """SIGTERM now, the whole tree killed after the grace; `ended` tells when it is gone."""
        if ticket.number in self._tickets:
            self.guardian.stop(ticket.number, grace_s)
            self._catch_up()
            if self._inbox is not None:
                late = partial(self._ask, self.guardian, ticket)
                self._inbox.at(time.monotonic() + grace_s + _WORD_S, late)

    def _ask(self, guardian: Guardian, ticket: Ticket) -> None:
        """A ticket should have ended by now. Does the guardian still work?"""
        if guardian is self.guardian and not guardian.is_dead() and ticket.number in self._tickets:
            guardian.ping()
            self._catch_up()
            if self._inbox is not None:
                late = partial(self._give_up, guardian, guardian.heard)
                self._inbox.at(time.monotonic() + _WORD_S, late)

    def _give_up(self, guardian: Guardian, heard: int) -> None:
        """Kill a guardian that has not answered; that it is gone is then noticed as ever."""
        if guardian is self.guardian and not guardian.is_dead() and guardian.heard == heard:
            guardian.kill()

    def _new_ticket(self, ended: Callable[[Exited | None], None]) -> Ticket:
        self._last_number += 1
        ticket = self._tickets[self._last_number] = Ticket(self._last_number, ended)
        return ticket

    def _catch_up(self) -> None:
        """Messages that came in while we were sending make no descriptor readable any more."""
        if self.guardian.pending and self._inbox is not None:
            self._inbox.at(0.0, self._handle)

    def _handle(self) -> None:
        guardian = self.guardian
        if guardian.is_dead():
            return
        events = guardian.read()
        if guardian.is_dead() and self._inbox is not None:
            self._inbox.unwatch(guardian.fileno())
        for event in events:
            if isinstance(event, Started):
                started = self._tickets.get(event.ticket)
                if started is not None:
                    started.pid = event.pid
            else:
                ticket = self._tickets.pop(event.ticket, None)
                if ticket is not None:
                    ticket.ended(event)
        if guardian.is_dead():
            guardian.close()
            if guardian.failed is not None:
                raise ResourceError(f"the guardian process cannot go on: {guardian.failed} (see ulimit -n, ulimit -u)")
            lost, self._tickets = list(self._tickets.values()), {}
            for ticket in lost:
                ticket.ended(None)

    def close(self) -> None:
        """End the guardian and everything it has started, and what threads of ours have, where that was claimed."""
        if self._tagger is not None:
            self._tagger.take_off()
        if self._inbox is not None and not self.guardian.is_dead():
            self._inbox.unwatch(self.guardian.fileno())
        self.guardian.close()
        self._tickets.clear()
