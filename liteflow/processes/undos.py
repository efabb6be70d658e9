"""The undos of attempts: what ends the things that an attempt has started outside the process tree.

The orchestrator registers the undo of an attempt before the attempt starts, and takes it back after a success. It
requests the undo of an attempt that ends otherwise; when the orchestrator is dead, all that are registered are due. A
worker does each undo, as a job with the number of the undo: the registered packet is the work that it gets. See
docs/adr/0049.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from liteflow.errors import ResourceError
from liteflow.processes.packets import WorkerSocket

UNDOS_LEFT: Final = 4  #: the exit code of a guardian that has not done all the undos that were registered at its end
UNDO_S: Final = 8.0  # an undo that takes longer is ended
ALL_UNDOS_S: Final = 20.0  # the time of a guardian whose orchestrator is dead; a resume waits for it
_AT_ONCE: Final = 4
_TOO_LONG: Final = f"it did not end within {UNDO_S:g} s"

#: Starts the worker with this number that ends at the deadline, with its end of a socket; returns an error or "".
StartWorker = Callable[[int, socket.socket, float], str]
#: Reports the end of an undo: its number, the value that its worker has sent (None: none), and an error or "".
Report = Callable[[int, Any, str], None]


class Undos:
    """The registered undos of a guardian, by their numbers."""

    def __init__(self, start_worker: StartWorker, report: Report) -> None:
        self._start_worker = start_worker
        self._report = report
        self._packets: dict[int, bytes] = {}
        self._due: deque[int] = deque()
        self._running: dict[int, tuple[WorkerSocket, float]] = {}  # each with its deadline
        self._has_failed: bool | None = None  # one of those that `request_all` has requested; None: it was not called

    def register(self, number: int, packet: bytes) -> None:
        """Register an undo."""
        self._packets[number] = packet

    def take_back(self, number: int) -> None:
        """Forget the undo of an attempt that has succeeded."""
        self._packets.pop(number, None)

    def request(self, number: int) -> None:
        """Start an undo, or queue it while as many run as may run at once."""
        self._due.append(number)
        self.start_queued()

    def request_all(self) -> None:
        """Request every registered undo, also those that a sweep has just ended."""
        for worker_socket, _ in self._running.values():
            worker_socket.close()
        self._running.clear()
        self._due = deque(self._packets)
        self._has_failed = False
        self.start_queued()

    def start_queued(self) -> None:
        """Start queued undos as long as fewer run than may run at once."""
        while self._due and len(self._running) < _AT_ONCE:
            number = self._due.popleft()
            packet = self._packets.get(number)
            error = "it is not registered" if packet is None else self._start(number, packet)
            if error:
                self._packets.pop(number, None)
                self._note_end(is_done=False)
                self._report(number, None, error)

    def _start(self, number: int, packet: bytes) -> str:
        try:
            worker_socket = WorkerSocket()
        except ResourceError as error:
            return str(error)
        try:
            worker_socket.post(packet)
            worker_socket.parent_end.shutdown(socket.SHUT_WR)  # the worker ends after this work
        except OSError as error:
            worker_socket.close()
            return f"its worker cannot be reached: {error.strerror}"
        deadline = time.monotonic() + UNDO_S
        error_text = self._start_worker(number, worker_socket.worker_end, deadline)
        if error_text:
            worker_socket.close()
        else:
            self._running[number] = worker_socket, deadline
        return error_text

    def ended(self, number: int, code: int) -> bool:
        """Handle the end of a job; return whether it was the worker of an undo."""
        if number not in self._running:
            return False
        worker_socket, deadline = self._running.pop(number)
        value = worker_socket.take()
        worker_socket.close()
        self._packets.pop(number, None)
        self._note_end(is_done=value is not None and code == 0)
        error = "" if value is not None else f"its worker ended with code {code}"
        self._report(number, value, _TOO_LONG if error and time.monotonic() >= deadline else error)
        self.start_queued()
        return True

    def _note_end(self, *, is_done: bool) -> None:
        if self._has_failed is not None and not is_done:
            self._has_failed = True

    @property
    def are_left(self) -> bool:
        """Whether one of those that `request_all` has requested was not done, or has failed."""
        return self._has_failed is not None and (self._has_failed or bool(self._packets))

    def descriptors(self) -> list[int]:
        """Return the descriptors that workers close."""
        sockets = [worker_socket for worker_socket, _ in self._running.values()]
        return [end.fileno() for each in sockets for end in (each.parent_end, each.worker_end)]

    def __bool__(self) -> bool:
        """Whether an undo is registered that has not ended."""
        return bool(self._packets)
