"""The keeper: the parent of an agent, which ends what is left when the agent was killed.

The agent is a fork of it. All orphans of the agent, its guardian among them, become children of the keeper. When the
agent has ended, for any reason, the keeper lets the guardian do the undos of the attempts, kills what is left, removes
the folder of the agent, and ends. So the end of the keeper with exit code 0 says that nothing of the agent lives.

The keeper has the lease of the agent, too, and kills an agent that has not ended by itself when it is over: agent and
guardian may both be stopped.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from liteflow.processes import tree
from liteflow.processes.forks import close_in_forks
from liteflow.processes.guardian import boot_time
from liteflow.processes.undos import ALL_UNDOS_S, UNDOS_LEFT

#: Exit codes of a keeper: nothing is left, some processes cannot be killed. `UNDOS_LEFT`: not all undos were done.
CLEAN, SURVIVORS = 0, 3
#: How long an agent may take to end when its lease is over, before it is killed. The owner waits for a second.
_END_S: Final = 0.3
_GUARDIAN_CHECK_S: Final = 0.25  # a task may have stopped it
_LEASE_CHECK_S: Final = 1.0  # a pause does not count the time in which the machine sleeps; the lease does
_IGNORED: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


class Notes:
    """The notes of an agent for its keeper: the sessions of its guardians, its folder, and why it has failed."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        close_in_forks(sock)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the keeper has ended."""
        return self._socket.fileno()

    def session(self, number: int, guardian: int) -> None:
        """Note a session, and the process id of its guardian, before the guardian starts anything."""
        self._note({"session": number, "guardian": guardian})

    def undos(self, *, exist: bool) -> None:
        """Note whether the guardian has undos that it must do when the agent has ended."""
        self._note({"undos": exist})

    def folder(self, path: str) -> None:
        self._note({"folder": path})

    def lease(self, deadline: float) -> None:
        """Note the moment of the boot-time clock at which the lease ends."""
        self._note({"lease": deadline})

    def failed(self, text: str) -> None:
        """Note in words why the agent cannot work."""
        self._note({"failed": text})

    def _note(self, fact: dict[str, Any]) -> None:
        with suppress(OSError):  # the keeper has been killed, which its descriptor says
            self._socket.sendall(json.dumps(fact).encode() + b"\n")


def failure_in(line: bytes) -> str:
    """Return why an agent has failed, if a line of its output says so; shells and libraries print others."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    return str(message["failed"]) if isinstance(message, dict) and "failed" in message else ""


def run_guarded_agent(agent: Callable[[Notes], None]) -> int:
    """Run an agent in a fork, and return the exit code of this process when all of it has ended."""
    own_end, agent_end = socket.socketpair()
    tree.set_subreaper(on=True)
    pid = os.fork()
    if pid == 0:
        own_end.close()
        _be_agent(agent, agent_end)
    agent_end.close()
    for number in _IGNORED:  # only the end of the agent ends its keeper
        signal.signal(number, signal.SIG_IGN)
    facts = _Facts(own_end)
    _await_end(pid, facts)
    facts.read()
    undone = not facts.undos or _await_guardian(facts.guardian)
    swept = tree.sweep(lambda tag: tree.session_of(tag) in facts.sessions, roots=tree.own_root(), spare=(os.getpid(),))
    if facts.folder and os.path.exists(facts.folder):
        import shutil  # it loads compression formats

        shutil.rmtree(facts.folder, ignore_errors=True)
    if facts.failure:
        print(json.dumps({"failed": facts.failure}), flush=True)
    if swept.left:
        return SURVIVORS
    return CLEAN if undone else UNDOS_LEFT


def _be_agent(agent: Callable[[Notes], None], agent_end: socket.socket) -> None:
    """Be the agent, in the fork. Does not return."""
    code = 1
    try:
        agent(Notes(agent_end))
        code = 0
    except BaseException:  # noqa: BLE001 - a bug: print it, then end the process
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


class _Facts:
    """The notes of an agent that have arrived."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._data = b""
        self.sessions: set[int] = set()
        self.folder = ""
        self.failure = ""
        self.guardian = 0  # its process id; 0: there is none
        self.undos = False  # whether the guardian has some to do
        self.lease: float | None = None  # the end of the lease, as boot time; None: there is none yet

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bool:
        """Read what has arrived. Return whether more may arrive."""
        try:
            while chunk := self._socket.recv(65536):
                self._data += chunk
        except BlockingIOError:
            may_continue = True
        else:
            may_continue = False
        *lines, self._data = self._data.split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        return may_continue

    def _take(self, fact: dict[str, Any]) -> None:
        if "session" in fact:
            self.sessions.add(fact["session"])
        self.guardian = fact.get("guardian", self.guardian)
        self.undos = fact.get("undos", self.undos)
        self.folder = fact.get("folder", self.folder)
        self.failure = fact.get("failed", self.failure)
        self.lease = fact.get("lease", self.lease)


def _await_end(pid: int, facts: _Facts) -> None:
    """Wait for the end of the agent, and kill it when it has outlived its lease."""
    end = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(end, select.POLLIN)
    poll.register(facts, select.POLLIN)
    while True:
        left_s = None if facts.lease is None else facts.lease + _END_S - boot_time()
        if left_s is not None and left_s <= 0:
            os.kill(pid, signal.SIGKILL)
            left_s = None
        ready = poll.poll(None if left_s is None else min(left_s, _LEASE_CHECK_S) * 1000)
        if any(fd == end for fd, _ in ready):
            break
        if ready and not facts.read():
            poll.unregister(facts)
    os.close(end)


def _await_guardian(pid: int) -> bool:
    """Let the guardian of an agent that has ended do the undos that it has. Return whether it has done all."""
    give_up = time.monotonic() + ALL_UNDOS_S
    try:
        end = os.pidfd_open(pid)
    except OSError:  # there is none
        return False
    poll = select.poll()
    poll.register(end, select.POLLIN)
    ended, status = 0, 0
    with suppress(ChildProcessError):  # it had ended before the agent
        while time.monotonic() < give_up:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            os.kill(pid, signal.SIGCONT)
            poll.poll(_GUARDIAN_CHECK_S * 1000)
    os.close(end)
    return bool(ended) and status == 0
