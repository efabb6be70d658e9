"""The courier of an agent: it brings the logs, the values and the outcomes of attempts to the owner of the run.

A log is sent while it grows, at its offsets. Only its head is: the middle of a long one is cut out, so the rest is sent
when the attempt has ended. The outcome follows the last byte, so that a stored verdict has a whole log.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from liteflow.errors import PayloadError
from liteflow.executors.worker import outcome_to_wire
from liteflow.processes.log_file import HEAD_BYTES
from liteflow.remote.ferry import PIECE_BYTES, Outbox, files_of, moved, moved_payload, value_messages
from liteflow.remote.link import Link, Message
from liteflow.work import ErrorInfo, Outcome


class Courier:
    """Puts what becomes of attempts into the link, which its owner flushes."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._outbox = Outbox(link)
        self._logs: dict[int, _SentLog] = {}  # of running attempts, by node
        self._sent_values: set[str] = set()  # by path, which has the digest
        self.clock_offset_s = 0.0  # the clock of the owner minus that of this machine

    def follow(self, node: int, log_path: str) -> None:
        """Send the log of an attempt while it grows."""
        self._logs[node] = _SentLog(node, log_path)

    def pump(self) -> None:
        """Send what the link takes: outcomes that wait, then what has been added to logs."""
        self._outbox.pump()
        if not self._outbox:
            for log in self._logs.values():
                if not self._outbox.has_room:
                    return
                for message in log.grown(HEAD_BYTES):
                    self._outbox.put(message)

    def finish(self, outcome: Outcome) -> None:
        """Send the outcome of an attempt, after its values and the rest of its log."""
        self._outbox.add(self._messages(outcome, self._logs.pop(outcome.node, None)))

    def send_logs(self) -> None:
        """Send the rest of the logs of attempts that have no outcome."""
        for log in self._logs.values():
            self._outbox.add(log.rest())
        self._logs.clear()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._outbox and not self._link.backlog

    def _messages(self, outcome: Outcome, log: _SentLog | None) -> Iterator[Message]:
        has_log = outcome.log_path is not None
        if log is not None and has_log:
            yield from log.rest()
            log.remove()
        outcome = self._as_sent(outcome)
        if outcome.value is None and not outcome.pushed:
            yield ("outcome", outcome_to_wire(outcome), has_log)
            return
        values = {} if outcome.value is None else {"": outcome.value}
        try:
            for payload in files_of({**values, **(outcome.pushed or {})}):
                if payload.file is not None and payload.file not in self._sent_values:
                    yield from value_messages(payload)
                    self._sent_values.add(payload.file)
            value = None if outcome.value is None else moved_payload(outcome.value, "")
            outcome = outcome._replace(value=value, pushed=moved(outcome.pushed, ""))
        except PayloadError as error:
            outcome = outcome._replace(verdict="FAILED", value=None, pushed=None, error=ErrorInfo(str(error)))
        yield ("outcome", outcome_to_wire(outcome), has_log)

    def _as_sent(self, outcome: Outcome) -> Outcome:
        """Return an outcome with times of the owner's clock, and without a path of this machine."""
        started_at = None if outcome.started_at is None else outcome.started_at + self.clock_offset_s
        return outcome._replace(log_path=None, started_at=started_at, ended_at=outcome.ended_at + self.clock_offset_s)


class _SentLog:
    """The log of an attempt, and how much of it is sent."""

    __slots__ = ("node", "offset", "path")

    def __init__(self, node: int, path: str) -> None:
        self.node = node
        self.path = path
        self.offset = 0

    def grown(self, most: int | None = None) -> Iterator[Message]:
        """Yield what was added since the last call, up to an offset."""
        try:
            size = os.stat(self.path).st_size
        except OSError:
            return  # nothing was printed yet
        end = size if most is None else min(size, most)
        if end <= self.offset:
            return
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            while self.offset < end and (data := file.read(min(PIECE_BYTES, end - self.offset))):
                yield ("log", self.node, self.offset, data)
                self.offset += len(data)

    def rest(self) -> Iterator[Message]:
        """Yield the rest of a log that no longer grows."""
        yield from self.grown()

    def remove(self) -> None:
        try:
            os.unlink(self.path)
        except OSError:
            return
