"""The courier of an agent: it brings the logs, the values and the outcomes of attempts to the owner of the run.

A log is sent while it grows, at its offsets. Only its head is: the middle of a long one is cut out, so the rest is sent
when the attempt has ended. The outcome follows the last byte, so that a stored verdict has a whole log.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from liteflow.errors import PayloadError
from liteflow.executors.worker import outcome_to_wire
from liteflow.processes.log_file import HEAD_BYTES
from liteflow.remote.ferry import PIECE_BYTES, Outbox, files_of, moved, moved_payload, value_messages, values_of
from liteflow.remote.link import Link, Message
from liteflow.values.payload import Payload
from liteflow.work import ErrorInfo, Outcome


class Courier:
    """Puts what becomes of attempts into the link, which its owner flushes."""

    def __init__(self, link: Link, results: str) -> None:
        """Take the link to the owner, and the folder into which tasks write large values."""
        self._link = link
        self._results = results
        self._outbox = Outbox(link)
        self._logs: dict[int, _SentLog] = {}  # of running attempts, by node
        self._sent_values: set[str] = set()  # by name, which has the digest
        self.clock_offset_s = 0.0  # the clock of the owner minus that of this machine

    def follow(self, node: int, log_path: str) -> None:
        """Send the log of an attempt while it grows."""
        self._logs[node] = _SentLog(node, log_path)

    def pump(self) -> None:
        """Send what the link takes: outcomes that wait, then what has been added to logs."""
        self._outbox.pump()
        if not self._outbox and self._outbox.has_room():
            for log in list(self._logs.values()):
                for message in log.grown(HEAD_BYTES):
                    self._outbox.put(message)
                    if not self._outbox.has_room():
                        self._logs[log.node] = self._logs.pop(log.node)  # the others are next
                        return

    def finish(self, outcome: Outcome) -> None:
        """Send the outcome of an attempt, after its values and the rest of its log.

        One with little to send does not wait for the values and logs of others.
        """
        log = self._logs.pop(outcome.node, None)
        if outcome.log_path is None:  # it has printed nothing
            log = None
        messages = self._messages(outcome, log)
        if any(self._unsent(outcome)) or (log is not None and log.size - log.offset > PIECE_BYTES):
            self._outbox.add(messages)
        else:
            self._outbox.add_first(messages)

    def send_again(self, name: str) -> None:
        """Send a value again with the next outcome that has it: the owner could not store it."""
        self._sent_values.discard(name)

    def send_logs(self) -> None:
        """Send the rest of the logs of attempts that have no outcome."""
        for log in self._logs.values():
            self._outbox.add(log.grown(None))
        self._logs.clear()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._outbox and not self._link.backlog

    def _messages(self, outcome: Outcome, log: _SentLog | None) -> Iterator[Message]:
        has_log = outcome.log_path is not None
        if log is not None:
            yield from log.grown(None)
            log.remove()
            if log.lost is not None and outcome.log_lost is None:
                outcome = outcome._replace(log_lost=log.lost)
        outcome = self._as_sent(outcome)
        if not any(files_of(values_of(outcome))):
            yield ("outcome", outcome_to_wire(outcome), has_log)
            return
        try:
            for payload in self._unsent(outcome):
                yield from value_messages(payload)
                self._sent_values.add(os.path.basename(payload.file or ""))
            self._remove_results(outcome)
            value = None if outcome.value is None else moved_payload(outcome.value, "")
            outcome = outcome._replace(value=value, pushed=moved(outcome.pushed, ""))
        except PayloadError as error:
            outcome = outcome._replace(verdict="FAILED", value=None, pushed=None, error=ErrorInfo(str(error)))
        yield ("outcome", outcome_to_wire(outcome), has_log)

    def _unsent(self, outcome: Outcome) -> Iterator[Payload]:
        """Yield the values of an outcome that are files and that the owner does not have."""
        for payload in files_of(values_of(outcome)):
            if os.path.basename(payload.file or "") not in self._sent_values:
                yield payload

    def _remove_results(self, outcome: Outcome) -> None:
        """Remove values that the owner has: it sends them to those that need them."""
        for payload in files_of(values_of(outcome)):
            if payload.file is not None and os.path.dirname(payload.file) == self._results:
                with suppress(OSError):
                    os.unlink(payload.file)

    def _as_sent(self, outcome: Outcome) -> Outcome:
        """Return an outcome with times of the owner's clock, and without a path of this machine."""
        started_at = None if outcome.started_at is None else outcome.started_at + self.clock_offset_s
        return outcome._replace(log_path=None, started_at=started_at, ended_at=outcome.ended_at + self.clock_offset_s)


class _SentLog:
    """The log of an attempt, and how much of it is sent."""

    __slots__ = ("lost", "node", "offset", "path")

    def __init__(self, node: int, path: str) -> None:
        self.node = node
        self.path = path
        self.offset = 0
        self.lost: str | None = None  # why the last part could not be read; None: it could

    @property
    def size(self) -> int:
        """The size of the file; 0: nothing was printed yet."""
        try:
            return os.stat(self.path).st_size
        except OSError:
            return 0

    def grown(self, most: int | None) -> Iterator[Message]:
        """Yield what was added since the last call, up to an offset (None: up to the end)."""
        self.lost = None
        end = self.size if most is None else min(self.size, most)
        if end <= self.offset:
            return
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                while self.offset < end and (data := file.read(min(PIECE_BYTES, end - self.offset))):
                    offset = self.offset
                    self.offset += len(data)
                    yield ("log", self.node, offset, data)
        except OSError as error:
            self.lost = f"it could not be read where the task ran: {error.strerror}"

    def remove(self) -> None:
        try:
            os.unlink(self.path)
        except OSError:
            return
