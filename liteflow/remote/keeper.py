"""The keeper: the parent of an agent, which ends what is left when the agent was killed.

The agent is a fork of it. All orphans of the agent, its guardian among them, become children of the keeper. When the
agent has ended, for any reason, the keeper kills what is left, removes the folder of the agent, and ends. So the end of
the keeper with exit code 0 says that nothing of the agent lives.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

from liteflow.processes import tree
from liteflow.processes.forks import close_in_forks

#: Exit codes of a keeper: nothing is left, and some processes cannot be killed.
CLEAN, SURVIVORS = 0, 3
_IGNORED: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


class Notes:
    """The notes of an agent for its keeper: the sessions of its guardians, its folder, and why it has failed."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        close_in_forks(sock)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the keeper has ended."""
        return self._socket.fileno()

    def session(self, number: int) -> None:
        """Note a session before its guardian starts anything."""
        self._note({"session": number})

    def folder(self, path: str) -> None:
        self._note({"folder": path})

    def failed(self, text: str) -> None:
        """Note in words why the agent cannot work."""
        self._note({"failed": text})

    def _note(self, fact: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(fact).encode() + b"\n")


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
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    facts = _facts(own_end)
    sessions = {fact["session"] for fact in facts if "session" in fact}
    swept = tree.sweep(lambda tag: tree.session_of(tag) in sessions, roots=tree.own_root(), spare=(os.getpid(),))
    for fact in facts:
        if "folder" in fact and os.path.exists(fact["folder"]):
            import shutil  # it loads compression formats

            shutil.rmtree(fact["folder"], ignore_errors=True)
        if "failed" in fact:
            print(json.dumps({"failed": fact["failed"]}), flush=True)
    return SURVIVORS if swept.left else CLEAN


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


def _facts(sock: socket.socket) -> list[dict[str, Any]]:
    """Return what the agent has noted: it has ended, so all of it has arrived."""
    sock.setblocking(False)
    data = b""
    try:
        while chunk := sock.recv(65536):
            data += chunk
    except BlockingIOError:
        pass  # a fork of the agent holds the other end
    return [json.loads(line) for line in data.split(b"\n") if line]
