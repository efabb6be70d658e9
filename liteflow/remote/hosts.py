"""The placer of named hosts: it starts an agent on each by a command line, such as one of ssh.

    python -m liteflow.remote.hosts '[{"name": "node1", "slots": 4, "argv": ["ssh", "node1", "…"]}]' '{"255": "ADVICE"}'

The command line starts `liteflow.remote.agent`; its standard input is that of the agent. In its words `{address}` and
`{port}` are those of the owner, and `{socket}` is a new path, for a socket on the host that leads to the owner.
The second argument, which is optional, says what to do when a command line has started no agent, by its exit code: in
it `{name}` is the host.
See `liteflow.remote.placing` for the lines that a placer reads and writes.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from liteflow.errors import LiteflowError
from liteflow.record import EMPTY_MAPPING, Record, replace
from liteflow.remote.keeper import CLEAN, failure_in
from liteflow.remote.sockets import socket_path
from liteflow.remote.ticket import Ticket, ticket_from, ticket_line

_END_S: Final = 4.0  # how long the agents may take to end
_EXIT_S: Final = 5.0  # how long a program may take to end when its output is closed
_WORKED_S: Final = 3.0  # an agent that lived longer has worked
_FIRST_DELAY_S: Final = 0.2
_LONGEST_DELAY_S: Final = 30.0
_LONGEST_REASON: Final = 300  # characters
_LONGEST_LINE: Final = 1 << 20  # bytes of the output of a program


class Host(Record):
    """A machine, and the command line that starts an agent there."""

    name: str
    slots: int  #: at most
    argv: tuple[str, ...]


class _Running:
    """An agent that was started."""

    __slots__ = ("agent_id", "failure", "last_words", "output", "process", "slots", "started_at")

    def __init__(self, process: subprocess.Popen[bytes], agent_id: str, slots: int) -> None:
        self.process = process
        self.agent_id = agent_id
        self.slots = slots
        self.started_at = time.monotonic()
        self.failure = ""  # why it could not work, as it said itself
        self.last_words = ""  # of its standard error
        self.output = b""  # the line of its standard output of which a part has arrived

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # it has ended, which its output says
            self.process.stdin.write(line)


class HostState:
    """A host, its agent, and when the next is started."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.running: _Running | None = None
        self.share = 0  # of the slots that are wanted
        self.failures = 0  # in a row
        self.due = 0.0  # monotonic

    @property
    def is_trusted(self) -> bool:
        """Whether the last agent could be started here, or this one has worked for a while."""
        has_worked = self.running is not None and time.monotonic() - self.running.started_at >= _WORKED_S
        return not self.failures or has_worked

    @property
    def delay_s(self) -> float:
        return float(min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2**self.failures))


class HostPlacer:
    """Has as many agents as slots are wanted."""

    def __init__(self, hosts: Sequence[Host], advice: Mapping[str, str] = EMPTY_MAPPING) -> None:
        self._advice = advice
        self._states = [HostState(host) for host in hosts]
        self._selector = selectors.DefaultSelector()
        self._ticket: Ticket | None = None
        self._wanted = 0
        self._busy: Mapping[str, int] = {}  # how many attempts each agent has, by its id
        self._input = b""
        self._is_over = False

    def run(self) -> None:
        """Serve until the standard input is closed."""
        self._selector.register(0, selectors.EVENT_READ, self._read_input)
        while not self._is_over:
            now = time.monotonic()
            for state in self._states:
                if state.share and state.running is None and state.due <= now:
                    self._start(state)
            dues = [state.due for state in self._states if state.share and state.running is None]
            pause_s = max(0.0, min(dues) - time.monotonic()) if dues else None
            for key, _ in self._selector.select(pause_s):
                if key.fd in self._selector.get_map():  # the end of a program closes all its streams
                    key.data()
        self._end_all()

    # -- lines of the owner --------------------------------------------------------------------------------

    def _read_input(self) -> None:
        try:
            data = os.read(0, 65536)
        except OSError:  # the owner is dead
            data = b""
        if not data:
            self._is_over = True
            return
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            if self._ticket is None:
                self._ticket = ticket_from(line)
            else:
                self._obey(json.loads(line))

    def _obey(self, message: dict[str, Any]) -> None:
        """Do what a line of the owner says."""
        if "want" in message:
            self._wanted = int(message["want"])
            self._busy = message.get("busy", {})
            self._share()
        for state in self._states:
            if state.running is not None and state.running.agent_id == message.get("lost"):
                state.running.failure = f"{state.host.name}: its connection is lost"
                state.running.process.kill()  # which is handled like its end

    def _share(self) -> None:
        """Give each host its share of the slots; those that have failed last get what the others do not have.

        The attempts of agents have their slots first.
        """
        left = self._wanted
        for state in self._states:
            used = 0 if state.running is None else self._busy.get(state.running.agent_id, 0)
            state.share = min(used, left, state.host.slots)
            left -= state.share
        left = _deal([state for state in self._states if state.is_trusted], left)
        _deal([state for state in self._states if not state.is_trusted], left)
        for state in self._states:
            running = state.running
            if running is not None and running.slots != state.share:
                running.slots = state.share
                line = {"slots": state.share} if state.share else {"leaving": True}
                running.write(json.dumps(line).encode() + b"\n")

    # -- agents --------------------------------------------------------------------------------------------

    def _start(self, state: HostState) -> None:
        assert self._ticket is not None
        host, agent_id = state.host, os.urandom(6).hex()
        path = socket_path(agent_id)
        words = {"{address}": self._ticket.address, "{port}": str(self._ticket.port), "{socket}": path}
        argv = [_filled(word, words) for word in host.argv]
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            self._failed(state, f"{host.name}: {argv[0]!r} cannot be started: {error.strerror}")
            return
        state.running = running = _Running(process, agent_id, state.share)
        assert process.stdout is not None
        assert process.stderr is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, partial(self._read_output, state, running))
        self._selector.register(process.stderr, selectors.EVENT_READ, partial(self._read_errors, running))
        uses_socket = any("{socket}" in word for word in host.argv)
        ticket = replace(
            self._ticket,
            agent=agent_id,
            host=host.name,
            slots=state.share,
            socket_path=path if uses_socket else "",
        )
        running.write(ticket_line(ticket))

    def _read_output(self, state: HostState, running: _Running) -> None:
        assert running.process.stdout is not None
        data = os.read(running.process.stdout.fileno(), 65536)
        *lines, running.output = (running.output + data).split(b"\n")
        for line in lines:
            running.failure = failure_in(line) or running.failure
        running.output = running.output[:_LONGEST_LINE]
        if not data:
            self._ended(state, running)

    def _read_errors(self, running: _Running) -> None:
        assert running.process.stderr is not None
        data = os.read(running.process.stderr.fileno(), 65536)
        lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
        if lines:
            running.last_words = lines[-1].strip()[:_LONGEST_REASON]
        if not data:
            self._selector.unregister(running.process.stderr)

    def _ended(self, state: HostState, running: _Running) -> None:
        """Handle the end of an agent. Only its keeper knows that nothing is left, and says so by its exit code."""
        process = running.process
        assert process.stdout is not None
        self._selector.unregister(process.stdout)
        try:
            code = process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        while process.stderr in self._selector.get_map():
            self._read_errors(running)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        state.running = None
        if code == CLEAN:
            _say({"gone": running.agent_id})
        if running.failure or (code != CLEAN and time.monotonic() - running.started_at < _WORKED_S):
            self._failed(state, running.failure or self._reason(state.host.name, code, running.last_words))
            return
        state.failures, state.due = 0, time.monotonic() + _FIRST_DELAY_S

    def _reason(self, name: str, code: int, last_words: str) -> str:
        """Return why a command line has started no agent, and what to do."""
        advice = self._advice.get(str(code))
        reason = f"{name}: {last_words or f'exit code {code}'}"
        return reason if advice is None else f"{reason}; {_filled(advice, {'{name}': name})}"

    def _failed(self, state: HostState, reason: str) -> None:
        """Report why a host has no agent; it is final when no other has one, or may still have one."""
        state.failures += 1
        state.due = time.monotonic() + state.delay_s
        self._share()
        others_may_work = any(
            other.running is not None or (other.share and not other.failures) for other in self._states
        )
        _say({"failed": reason, "host": state.host.name, "final": not others_may_work})

    def _end_all(self) -> None:
        """End the agents: their standard inputs are closed."""
        processes = [state.running.process for state in self._states if state.running is not None]
        for process in processes:
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.close()
        end = time.monotonic() + _END_S
        for process in processes:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _deal(states: Sequence[HostState], slots: int) -> int:
    """Give hosts slots, one after the other, so that all have work. Return how many slots are left."""
    while slots and any(state.share < state.host.slots for state in states):
        for state in states:
            if slots and state.share < state.host.slots:
                state.share += 1
                slots -= 1
    return slots


def _filled(word: str, words: dict[str, str]) -> str:
    for name, value in words.items():
        word = word.replace(name, value)
    return word


def _say(message: dict[str, Any]) -> None:
    with suppress(OSError):  # the owner is dead
        os.write(1, json.dumps(message).encode() + b"\n")


def hosts_from(text: str) -> list[Host]:
    """Return the hosts in a text of JSON. Raises LiteflowError."""
    try:
        entries = [Host(**{**entry, "argv": tuple(entry["argv"])}) for entry in json.loads(text)]
    except (ValueError, TypeError, KeyError) as error:
        raise LiteflowError(f"the hosts are a JSON list of objects with name, slots and argv: {error}") from None
    if not entries:
        raise LiteflowError("there are no hosts")
    return entries


def main(arguments: Sequence[str]) -> None:
    """Place agents on the hosts that the first argument names."""
    try:
        advice = json.loads(arguments[1]) if len(arguments) > 1 else EMPTY_MAPPING
        HostPlacer(hosts_from(arguments[0] if arguments else "[]"), advice).run()
    except LiteflowError as error:
        _say({"failed": str(error), "final": True})
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
