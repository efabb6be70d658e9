"""The attempts that an agent has: those that run, and those that are queued until a slot is free.

While tasks are very short the owner sends some in advance, so that no slot waits for a message. An attempt that was
queued for too long goes back to the owner, which may have a free slot elsewhere.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from liteflow.executors.attempt import cancelled_in_queue
from liteflow.executors.open import COMMAND, AgentExecutor, ShippedTasks
from liteflow.executors.worker import work_from_wire
from liteflow.remote.courier import Courier
from liteflow.remote.ferry import ValueReceiver, moved_work
from liteflow.remote.files import FolderCopy
from liteflow.remote.keeper import Notes
from liteflow.remote.link import Message
from liteflow.work import Command, Outcome, Work

#: How long the queue may not move before the attempts in it go back.
_PATIENCE_S: Final = 0.05


class Folder:
    """The folder of an agent: bodies, values, logs and output files of its attempts, and files that they need."""

    def __init__(self, original: str | None, host: str) -> None:
        """Make it, with a copy of a folder of the owner's machine (None: there is none). `host` names this machine."""
        self.host = host
        parent = os.environ.get("TMPDIR") or "/tmp"  # `tempfile` takes 10 ms to load
        self.path = os.path.join(parent, f"lightflow-agent-{os.urandom(8).hex()}")
        os.mkdir(self.path, 0o700)
        self.bodies = self._make("bodies")
        self.values = self._make("values")  # from the owner
        self.results = self._make("results")  # large values of tasks, until the owner has them
        self.logs = self._make("logs")
        self.outputs = self._make("outputs")
        self.files = FolderCopy(original, os.path.join(self.path, "files"))
        self.problem: str | None = None  # why a body could not be stored

    def remove(self) -> None:
        import shutil  # it loads compression formats

        shutil.rmtree(self.path, ignore_errors=True)

    def _make(self, name: str) -> str:
        path = os.path.join(self.path, name)
        os.mkdir(path, 0o700)
        return path

    def store_body(self, digest: str, data: bytes) -> None:
        """Store a body for the workers. A failure is noted in `problem`."""
        try:
            with open(os.path.join(self.bodies, os.path.basename(digest)), "wb") as file:
                file.write(data)
        except OSError as error:
            self.problem = f"a function cannot be written into {self.bodies}: {error.strerror}"


class AgentAttempts:
    """Starts attempts, each when a slot is free, and brings their outcomes to the courier."""

    def __init__(
        self, executor: AgentExecutor, tasks: ShippedTasks, folder: Folder, courier: Courier, notes: Notes
    ) -> None:
        self._executor = executor
        self._notes = notes
        self._undo_failed = False  # one of an attempt that has ended
        self._tasks = tasks
        self._folder = folder
        self._courier = courier
        self.values = ValueReceiver(folder.values)
        self._running: dict[int, Work] = {}  # by node
        self._cancelled: set[tuple[int, int]] = set()  # nodes and attempts whose work has not arrived, or has ended
        self._queue: deque[Work] = deque()
        self._moved_at = 0.0  # monotonic; when the queue moved last
        self.slots = 0

    @property
    def problem(self) -> str | None:
        """Why nothing starts here: what attempts need cannot be stored; None: it can."""
        problem = self._folder.problem or next(iter(self.values.problems.values()), None)
        return None if problem is None else f"{self._folder.host}: {problem}"

    @property
    def has_attempts(self) -> bool:
        """Whether there is an attempt."""
        return bool(self._running or self._queue)

    @property
    def has_queued(self) -> bool:
        """Whether attempts are queued."""
        return bool(self._queue)

    def receive(self, message: Message) -> bool:
        """Take a message about an attempt, or what attempts need. Return whether it was one."""
        kind = message[0]
        if kind == "work":
            self.add(*message[1:])
        elif kind == "body":
            self._folder.store_body(*message[1:])
        elif kind == "value":
            self.values.receive(*message[1:])
        elif kind == "value_end":
            self.values.complete(message[1])
        elif kind == "drop":
            self.values.drop(message[1])
        elif kind == "undo_of":
            self._tasks.undos[message[1]] = message[2]
        elif kind == "cancel":
            self.cancel(*message[1:])
        else:
            return False
        return True

    def add(self, wire: tuple[Any, ...], command: tuple[Any, ...] | None) -> None:
        """Start an attempt, or queue it; None: its body is a function."""
        work = self._received(wire)
        if command is not None:
            assert isinstance(work.body, str)
            self._tasks.commands[work.body] = self._placed(Command(*command))
        if (work.node, work.attempt) in self._cancelled:
            self._forget(work)
            self._courier.finish(cancelled_in_queue(work))
            return
        if not self._queue:
            self._moved_at = time.monotonic()
        self._queue.append(work)
        self.advance()

    def _received(self, wire: tuple[Any, ...]) -> Work:
        """Return a work with the paths of this machine."""
        return moved_work(work_from_wire(wire, self._folder.logs), self._folder.values)

    def _placed(self, command: Command) -> Command:
        """Return a command with its folder as it is on this machine."""
        return command if command.cwd is None else command._replace(cwd=self._folder.files.place(command.cwd))

    def advance(self) -> None:
        """Start queued attempts as long as slots are free."""
        while self._queue and len(self._running) < self.slots and self.problem is None:
            self._moved_at = time.monotonic()
            self._start(self._queue.popleft())

    def _start(self, work: Work) -> None:
        self._running[work.node] = work
        assert work.log_path is not None
        self._courier.follow(work.node, work.log_path)
        assert work.body is not None
        if work.node in self._tasks.undos:
            self._notes.undos(exist=True)
        self._tasks.backends[work.body] = COMMAND if work.body in self._tasks.commands else "process"
        self._executor.submit(work)
        del self._tasks.backends[work.body]

    def end(self, outcome: Outcome) -> None:
        """Take the outcome of an attempt, and give its slot to the next."""
        self._undo_failed = self._undo_failed or outcome.undo_error is not None
        work = self._running.pop(outcome.node, None)
        if work is not None:
            self._forget(work)
            self.advance()
        self._courier.finish(outcome)

    def cancel(self, node: int, attempt: int, grace_s: float) -> None:
        """End an attempt within some seconds. A cancel is urgent, so it may arrive before its work."""
        work = next((work for work in self._queue if work.node == node), None)
        if work is None:
            if node in self._running:
                self._executor.cancel(node, grace_s)
            else:
                self._cancelled.add((node, attempt))
            return
        self._queue.remove(work)
        self._forget(work)
        self._courier.finish(cancelled_in_queue(work))

    def take_back(self, *, at_once: bool = False) -> list[int]:
        """Return the nodes of the attempts that go back to the owner, and forget them."""
        if not self._queue or (not at_once and time.monotonic() - self._moved_at < _PATIENCE_S):
            return []
        works = list(self._queue)
        self._queue.clear()
        for work in works:
            self._forget(work)
        return [work.node for work in works]

    def _forget(self, work: Work) -> None:
        """Drop the command and the undo of an attempt."""
        if isinstance(work.body, str):
            self._tasks.commands.pop(work.body, None)
        if self._tasks.undos.pop(work.node, None) is not None and not self._tasks.undos:
            self.note_undone()

    # -- undos ---------------------------------------------------------------------------------------------

    def undo(self, wire: tuple[Any, ...], on_end: Callable[[str | None], None]) -> None:
        """Undo an attempt of an agent that is lost. `on_end` gets why its undo has failed; None: it has not."""
        self._executor.start_undo(self._received(wire), on_end)

    def note_undone(self) -> None:
        """Note that no undo is left for the time after this process; a failed one may be, until its owner knows."""
        if not self._undo_failed:
            self._notes.undos(exist=False)
