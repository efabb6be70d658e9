"""The placer of a cluster, as the owner of a run sees it: a program that starts agents and says what becomes of them.

Lines that it reads:  the ticket (see `ticket`), without the part of an agent · {"want": count, "busy": {agent: count},
                      "number": number}: how many slots the run can use now, all together, and how many of them agents
                      use; it may be fewer than before. Each such line has a higher number · {"lost": agent}: nothing
                      was heard of this agent for longer than its lease, so its slots are to be had elsewhere
Lines that it writes: {"gone": agent}: the agent has ended, and nothing that it started lives · {"failed": reason,
                      "final": true or false, "host": name}: a machine cannot be reached, or none can now; it tries
                      again. The name is that of the machine, where it is known · {"slots": count, "held": count,
                      "number": number, "missing": reason}: how many slots there are, also those that are on their way
                      back, and how many of them machines have given, after the line with this number; and why they have
                      not given the others, where it is known. A placer must write it where slots can take resources,
                      because its slots are shared with those of other placers then

When its standard input is closed the run has ended, or its owner is dead: it ends all agents, then itself.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from liteflow.errors import ResourceError
from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.processes import tree
from liteflow.processes.forks import close_in_forks, keep_open_in_forks
from liteflow.remote.ticket import Ticket, ticket_line

_CLOSE_S: Final = 5.0  # how long a placer may take to end its agents
_LONGEST_LINE: Final = 1 << 20


class Placement:
    """A running placer."""

    def __init__(
        self,
        argv: Sequence[str],
        ticket: Ticket,
        outcomes: OutcomeQueue,
        on_line: Callable[[Mapping[str, Any]], None],
        on_end: Callable[[], None],
    ) -> None:
        """Start a placer. Raises ResourceError when it cannot be started."""
        self._outcomes = outcomes
        self._on_line = on_line
        self._on_end = on_end
        self._data = b""
        self._unsent = bytearray()
        self.number = 0  # of the last line about wanted slots
        self._socket, placer_end = socket.socketpair()
        close_in_forks(self._socket)
        try:
            with placer_end, tree.untagged():  # it ends by itself, and its agents belong to no job
                self._process: subprocess.Popen[bytes] = subprocess.Popen(
                    list(argv), stdin=placer_end.fileno(), stdout=placer_end.fileno(), start_new_session=True
                )
        except OSError as error:
            self._socket.close()
            raise ResourceError(f"the placer {argv[0]!r} cannot be started: {error.strerror}") from None
        self._socket.setblocking(False)
        outcomes.watch(self._socket.fileno(), self._advance)
        self._write(ticket_line(ticket))

    def want(self, count: int, busy: Mapping[str, int]) -> None:
        """Say how many slots the run can use, and how many of them each agent uses."""
        self.number += 1
        self._write(json.dumps({"want": count, "busy": busy, "number": self.number}).encode() + b"\n")

    def lost(self, agent_id: str) -> None:
        """Say that nothing was heard of an agent for longer than its lease."""
        self._write(json.dumps({"lost": agent_id}).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        self._unsent += line
        self._flush()

    def _flush(self) -> None:
        """Send the lines that wait, the rest when the placer has read some: it may be stopped, or just start."""
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:  # it has ended, which its output says
            self._unsent.clear()
        self._outcomes.watch_writing(self._socket.fileno(), on=bool(self._unsent))

    def _advance(self) -> None:
        self._flush()
        self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._data = (self._data + data).split(b"\n")
        for line in lines:
            with suppress(ValueError):  # a line that a library has printed
                message = json.loads(line)
                if isinstance(message, dict):
                    self._on_line(message)
        if not data or len(self._data) > _LONGEST_LINE:
            self._outcomes.unwatch(self._socket.fileno())
            self._on_end()

    def close(self) -> int:
        """Have the placer end its agents, and wait for its end; kill one that does not end. Return its exit code."""
        if self._socket.fileno() >= 0:
            self._outcomes.unwatch(self._socket.fileno())
            keep_open_in_forks(self._socket)
            self._socket.close()
        try:
            return self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
