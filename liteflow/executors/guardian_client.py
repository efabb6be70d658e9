"""The guardian as backends see it: handles of processes, and a new guardian when the old one was killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from socket import socket

from liteflow.errors import LiteflowError, ResourceError
from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.masking import Masker
from liteflow.processes import tree
from liteflow.processes.client import (
    CLOSE_S,
    Exited,
    GuardianConnection,
    ImportableWorker,
    NotImportable,
    Started,
    Undone,
    is_single_threaded,
)
from liteflow.processes.guardian import WorkerMain
from liteflow.processes.undos import ALL_UNDOS_S

LOST_MESSAGE = "the guardian process was killed"
CHECK_EVERY_S = 0.25  #: seconds between looks whether a task has stopped the guardian
_ANSWER_S = 2.0  # a guardian that has not answered within this time is killed


class ProcessHandle:
    """A command or a worker as long as it lives."""

    __slots__ = ("number", "on_exit", "pid")

    def __init__(self, number: int, on_exit: Callable[[Exited | None], None]) -> None:
        self.number = number
        self.on_exit = on_exit  # called once, with None when the guardian was killed and these processes with it
        self.pid: int | None = None


class GuardianClient:
    """Starts the guardian when opened, and again when it was killed."""

    def __init__(
        self,
        worker_main: WorkerMain,
        importable: Callable[[], ImportableWorker],
        close_in_workers: Sequence[int],
        *,
        claim_children: bool = False,
        masker: Masker | None = None,
        on_session: Callable[[int, int], None] | None = None,
    ) -> None:
        """Start the first guardian.

        `on_session` is called with the session and the process id of each, before it starts anything.
        """
        self._start_guardian = partial(_start_guardian, worker_main, importable, tuple(close_in_workers), masker)
        self._tagger = tree.Tagger() if claim_children else None
        self._outcomes: OutcomeQueue | None = None
        self._handles: dict[int, ProcessHandle] = {}
        self._undos: dict[int, bytes] = {}  # the registered undos, for a guardian that replaces this
        self._undoing: dict[int, Callable[[Undone], None]] = {}  # those that were requested
        self._last_number = 0
        self._on_session = on_session
        self._lease: float | None = None
        self.undos_left = False  # whether an undo was not done at the end, or has failed then
        self._guardian = self._start()

    @property
    def session(self) -> int:
        """The number of the guardian, which the tags of its processes hold."""
        return self._guardian.session

    @property
    def pid(self) -> int:
        """The process id of the guardian."""
        return self._guardian.pid

    def _start(self) -> GuardianConnection:
        """Start a guardian; with `claim_children`, tag this process so that the guardian ends what it starts, too."""
        if self._tagger is not None:
            self._tagger.take_off()  # the guardian itself belongs to no task
        guardian = self._start_guardian()
        if self._tagger is not None:
            self._tagger.put_on(tree.make_tag(guardian.session, tree.OWNER))
        if self._on_session is not None:
            self._on_session(guardian.session, guardian.pid)
        if self._lease is not None:
            guardian.set_lease(self._lease)
        return guardian

    def set_lease(self, deadline: float) -> None:
        """Have this guardian, and each that replaces it, end everything at a moment of the boot-time clock."""
        self._lease = deadline
        if not self._guardian.is_dead():
            self._guardian.set_lease(deadline)
            self._handle_pending()

    def attach(self, outcomes: OutcomeQueue) -> None:
        """Handle the guardian's messages while the queue waits."""
        self._outcomes = outcomes
        outcomes.watch(self._guardian.fileno(), self._handle_messages)

    def continue_stopped(self) -> None:
        """Continue a guardian that a task has stopped. To be called again and again."""
        self._guardian.continue_stopped()

    def _living(self) -> GuardianConnection:
        """Return a guardian that is not known to be dead. Raises LiteflowError when none can be started."""
        if self._guardian.is_dead():
            self._guardian = self._start()
            if self._outcomes is not None:
                self._outcomes.watch(self._guardian.fileno(), self._handle_messages)
            for number, packet in self._undos.items():
                self._guardian.register_undo(number, packet)
            for number in self._undoing:
                self._guardian.undo(number)
        return self._guardian

    # -- processes -----------------------------------------------------------------------------------------

    def start_command(
        self,
        on_exit: Callable[[Exited | None], None],
        argv: Sequence[str],
        cwd: str | None,
        environ: Mapping[str, str],
        log_path: str | None,
    ) -> ProcessHandle:
        """Start a command. Raises LiteflowError when there is no guardian to do it."""
        guardian = self._living()
        handle = self._new_handle(on_exit)
        guardian.start_command(handle.number, argv, cwd, environ, log_path)
        self._handle_pending()
        return handle

    def start_worker(
        self, on_exit: Callable[[Exited | None], None], sock: socket, *, keeps_logs: bool
    ) -> ProcessHandle:
        """Fork a worker; `keeps_logs`: see `GuardianConnection.start_worker`.

        Raises LiteflowError when there is no guardian to do it.
        """
        guardian = self._living()
        handle = self._new_handle(on_exit)
        guardian.start_worker(handle.number, sock, keeps_logs=keeps_logs)
        self._handle_pending()
        return handle

    def stop(self, handle: ProcessHandle, grace_s: float) -> None:
        """Send SIGTERM now, and kill the whole tree after the grace; `on_exit` is called when the tree is gone."""
        if handle.number in self._handles:
            self._guardian.stop(handle.number, grace_s)
            self._handle_pending()
            if self._outcomes is not None:
                ping = partial(self._ping, self._guardian, handle)
                self._outcomes.at(time.monotonic() + grace_s + _ANSWER_S, ping)

    def signal(self, handle: ProcessHandle, number: int) -> None:
        """Send a signal to the process itself, and to nothing that it has started."""
        if handle.number in self._handles:
            self._guardian.signal(handle.number, number)
            self._handle_pending()

    def _ping(self, guardian: GuardianConnection, handle: ProcessHandle) -> None:
        """Ask the guardian for an answer if a process that should have ended has not."""
        if guardian is self._guardian and not guardian.is_dead() and handle.number in self._handles:
            guardian.ping()
            self._handle_pending()
            if self._outcomes is not None:
                kill = partial(self._kill_silent, guardian, guardian.message_count)
                self._outcomes.at(time.monotonic() + _ANSWER_S, kill)

    def _kill_silent(self, guardian: GuardianConnection, message_count: int) -> None:
        """Kill a guardian that has not answered; its end is then handled like any other."""
        if guardian is self._guardian and not guardian.is_dead() and guardian.message_count == message_count:
            guardian.kill()

    # -- undos ---------------------------------------------------------------------------------------------

    def register_undo(self, packet: bytes) -> int:
        """Register the undo of an attempt that is about to start, and return its number.

        The guardian does it if this process dies. `packet` is the work that a worker gets for it.

        Raises LiteflowError when there is no guardian to do it.
        """
        guardian = self._living()
        self._last_number += 1
        self._undos[self._last_number] = packet
        guardian.register_undo(self._last_number, packet)
        self._handle_pending()
        return self._last_number

    def take_back_undo(self, number: int) -> None:
        """Forget the undo of an attempt that has succeeded."""
        del self._undos[number]
        self._guardian.take_back_undo(number)
        self._handle_pending()

    def undo(self, number: int, on_end: Callable[[Undone], None]) -> None:
        """Do a registered undo; `on_end` is called when it has ended."""
        try:
            guardian = self._living()
        except LiteflowError as error:
            del self._undos[number]
            on_end(Undone(number, None, str(error)))
            return
        self._undoing[number] = on_end
        guardian.undo(number)
        self._handle_pending()

    def _end_undo(self, event: Undone) -> None:
        self._undos.pop(event.number, None)
        on_end = self._undoing.pop(event.number, None)
        if on_end is not None:
            on_end(event)

    def _new_handle(self, on_exit: Callable[[Exited | None], None]) -> ProcessHandle:
        self._last_number += 1
        handle = self._handles[self._last_number] = ProcessHandle(self._last_number, on_exit)
        return handle

    # -- messages ------------------------------------------------------------------------------------------

    def _handle_pending(self) -> None:
        """Handle messages that were read while others were sent: no descriptor becomes readable for them again."""
        if self._guardian.pending and self._outcomes is not None:
            self._outcomes.at(0.0, self._handle_messages)

    def _handle_messages(self) -> None:
        guardian = self._guardian
        if guardian.is_dead():
            return
        events = guardian.read()
        if guardian.is_dead() and self._outcomes is not None:
            self._outcomes.unwatch(guardian.fileno())
        for event in events:
            if isinstance(event, Started):
                started = self._handles.get(event.job)
                if started is not None:
                    started.pid = event.pid
            elif isinstance(event, Undone):
                self._end_undo(event)
            else:
                handle = self._handles.pop(event.job, None)
                if handle is not None:
                    handle.on_exit(event)
        if guardian.is_dead():
            guardian.close()
            if guardian.failure is not None:
                raise ResourceError(
                    f"the guardian process cannot continue: {guardian.failure} (see ulimit -n, ulimit -u)"
                )
            lost, self._handles = list(self._handles.values()), {}
            for handle in lost:
                handle.on_exit(None)
            if self._undoing:
                self._living()  # continues them

    def close(self) -> None:
        """End the guardian and everything that it started; with `claim_children`, what this process started, too."""
        if self._tagger is not None:
            self._tagger.take_off()
        if self._outcomes is not None and not self._guardian.is_dead():
            self._outcomes.unwatch(self._guardian.fileno())
        in_order = self._guardian.close(CLOSE_S + ALL_UNDOS_S if self._undos else CLOSE_S)
        self.undos_left = bool(self._undos) and not in_order
        self._handles.clear()


def _start_guardian(
    worker_main: WorkerMain,
    importable: Callable[[], ImportableWorker],
    close_in_workers: Sequence[int],
    masker: Masker | None,
) -> GuardianConnection:
    """Fork a guardian; where this process has threads, prefer a fresh interpreter (see docs/adr/0013).

    A fresh interpreter cannot find closures, lambdas and the functions of a notebook. For them this process is forked
    nevertheless: a lock that another thread holds at that instant stays locked in the workers, as it would in those
    of `multiprocessing`.
    """
    if not is_single_threaded():
        try:
            return GuardianConnection.execute(importable(), close_in_workers=close_in_workers)
        except NotImportable:
            pass
    return GuardianConnection.fork(worker_main, close_in_workers=close_in_workers, masker=masker)
