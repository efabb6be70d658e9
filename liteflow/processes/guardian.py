"""The guardian: a single-threaded process that starts commands, forks workers, reaps and kills.

It is a child subreaper: whatever a task leaves behind comes back to it. The closing of its control socket is how
it learns that the orchestrator is dead; it then ends everything it ever started, and itself.

Messages in:  ("command", ticket, argv, cwd, environ, log_path) · ("worker", ticket, spool_path, log_path) with a
              socket · ("stop", ticket, grace_s) · ("goodbye",)
Messages out: ("started", ticket, pid) · ("exited", ticket, code, started_at, ended_at, output_bytes, error, masked);
              `code` is -N for signal N, times are epoch seconds, `error` tells why a command could not start,
              `masked` whether a secret was in the output.

In a run with secrets everything that tasks write passes through here and is masked; a worker has one task then, and a
pipe to the task's log instead of a file of its own.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from liteflow.processes import tree
from liteflow.processes.frames import Channel, close_quietly
from liteflow.processes.output import Log
from liteflow.processes.spawn import Spawner, SpawnError, forget_own_task
from liteflow.values.masking import Masker

WorkerMain = Callable[[socket.socket, str | None], None]

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP,
            signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)  # fmt: skip
_PR_SET_CHILD_SUBREAPER = 36
_PIPE_READ_BYTES = 256 * 1024
_RESERVE = 4  # descriptors kept for a sweep: to read the process table, and to hold a process
_TELL_S = 0.01  # that something has started is told with the next news, or so much later: it wakes the orchestrator
_DRAIN_READS = 64  # a pipe holds at most 1 MiB unless someone keeps writing


def become_subreaper() -> None:
    """Orphaned descendants of this process become its children, not init's."""
    from _ctypes import call_function, dlopen, dlsym  # without the Python around it, 3 ms in every guardian

    this_program = dlopen(None)  # type: ignore[arg-type]  # as in C, and in ctypes
    call_function(dlsym(this_program, "prctl"), (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


class _Main:
    """The main process of a ticket: a command or a worker."""

    __slots__ = ("deadline", "log", "pid", "pipe", "spool", "started_at", "ticket")

    def __init__(
        self,
        ticket: int,
        pid: int,
        started_at: float,
        *,
        pipe: int = -1,
        log: Log | None = None,
        spool: str | None = None,
    ) -> None:
        self.ticket = ticket
        self.pid = pid
        self.started_at = started_at
        self.pipe = pipe  # read end of its output, or -1
        self.log = log
        self.spool = spool  # a worker's own output file, deleted if it is empty in the end
        self.deadline: float | None = None  # monotonic; when patience with a stop ends


class Guardian:
    """The guardian's own state and loop. `run` returns when everything is over."""

    def __init__(
        self,
        control: socket.socket,
        session: int,
        worker_main: WorkerMain,
        close_in_workers: Sequence[int] = (),
        masker: Masker | None = None,
    ) -> None:
        self._masker = masker
        self._control = Channel(control)
        self._session = session
        self._worker_main = worker_main
        self._close_in_workers = tuple(close_in_workers)
        self._tagger = tree.Tagger()
        forget_own_task()
        self._spawner = Spawner()
        self._mains: dict[int, _Main] = {}  # by pid
        self._tickets: dict[int, _Main] = {}
        self._pipes: dict[int, _Main] = {}
        self._stopping: dict[int, _Main] = {}  # by ticket: those with a deadline
        self._control_mask = select.EPOLLIN
        self._started: list[tuple[object, ...]] = []  # messages that are in no hurry
        self._tell_at = 0.0  # monotonic
        self._leaving = False
        self._reserve: list[int] = []

    def run(self) -> None:
        """Serve until the orchestrator says goodbye or is gone; nothing started here lives after that."""
        self._set_up()
        try:
            while not self._leaving:
                self._turn()
        finally:
            self._sweep_all()

    def _set_up(self) -> None:
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        become_subreaper()
        self._keep_reserve()
        for name in os.listdir("/proc/self/fd"):  # what the program inherited is not for commands either
            if int(name) > 2:
                try:
                    os.set_inheritable(int(name), False)
                except OSError:  # the descriptor of this listing
                    continue
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wake = (wake_read, wake_write)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        self._epoll = select.epoll()
        self._epoll.register(self._control.fileno(), self._control_mask)
        self._epoll.register(wake_read, select.EPOLLIN)

    def _turn(self) -> None:
        child_ended = False
        for fd, _ in self._epoll.poll(self._pause()):
            if fd == self._control.fileno():
                self._control.flush()
                self._serve()
            elif fd == self._wake[0]:
                os.read(fd, 4096)
                child_ended = True
            elif (main := self._pipes.get(fd)) is not None:
                self._read(main)
        if child_ended:
            self._reap()
        self._run_out_of_patience()
        if self._started and (self._control.backlog or time.monotonic() >= self._tell_at):
            self._tell_started()
        self._control.flush()
        mask = select.EPOLLIN | select.EPOLLOUT if self._control.backlog else select.EPOLLIN
        if mask != self._control_mask:
            self._control_mask = mask
            self._epoll.modify(self._control.fileno(), mask)

    def _pause(self) -> float | None:
        deadlines = [main.deadline for main in self._stopping.values() if main.deadline is not None]
        if self._started:
            deadlines.append(self._tell_at)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _tell_started(self) -> None:
        for message in self._started:
            self._control.put(message)
        self._started.clear()

    # Messages

    def _serve(self) -> None:
        for message in self._control.take_with_descriptors():
            kind = message[0]
            if kind == "command":
                self._start_command(*message[1:])
            elif kind == "worker":
                self._start_worker(*message[1:])
            elif kind == "stop":
                self._stop(*message[1:])
            else:
                self._leaving = True
        if self._control.eof:
            self._leaving = True

    def _start_command(
        self, ticket: int, argv: list[str], cwd: str | None, environ: dict[str, str], log_path: str | None
    ) -> None:
        started_at = time.time()
        pipe = write_end = -1
        try:
            if log_path is not None:
                pipe, write_end = _pipe()
            self._tagger.put_on(tree.make_tag(self._session, ticket))
            try:
                pid = self._spawner.spawn(argv, cwd, environ, write_end if log_path is not None else None)
            finally:
                self._tagger.take_off()
        except (SpawnError, OSError) as error:
            close_quietly(pipe)
            code = error.exit_code if isinstance(error, SpawnError) else 126
            text = str(error) if isinstance(error, SpawnError) else f"cannot start {argv[0]!r}: {error.strerror}"
            self._control.put(("exited", ticket, code, started_at, time.time(), 0, text, False))
            return
        finally:
            close_quietly(write_end)
        log = Log(log_path, masker=self._masker) if log_path is not None else None
        self._add(_Main(ticket, pid, started_at, pipe=pipe, log=log))

    def _start_worker(self, ticket: int, spool_path: str | None, log_path: str | None) -> None:
        end = self._control.descriptors.pop(0)
        started_at = time.time()
        pipe = write_end = -1
        self._tagger.put_on(tree.make_tag(self._session, ticket))
        try:
            if log_path is not None:
                pipe, write_end = _pipe()
            pid = os.fork()
        except OSError as error:
            self._tagger.take_off()
            text = f"a worker process cannot be started: {error.strerror}"
            self._control.put(("exited", ticket, 126, started_at, time.time(), 0, text, False))
            for fd in (end, pipe, write_end):
                close_quietly(fd)
            return
        if pid == 0:  # the tag stays on: whatever the worker starts inherits it
            if log_path is not None:
                os.dup2(write_end, 1)
                os.dup2(write_end, 2)
                os.close(write_end)
                os.close(pipe)
            self._be_worker(end, spool_path)
        self._tagger.take_off()
        os.close(end)
        close_quietly(write_end)
        log = Log(log_path, masker=self._masker) if log_path is not None else None
        self._add(_Main(ticket, pid, started_at, pipe=pipe, log=log, spool=spool_path))

    def _be_worker(self, end: int, spool_path: str | None) -> None:
        """In the fresh fork: let go of everything that is the guardian's, then work. Does not return."""
        code = 70
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (*_IGNORED, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python starts everywhere
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for fd in (self._control.fileno(), self._epoll.fileno(), *self._wake, *self._pipes, *self._reserve,
                       *self._control.descriptors, *self._close_in_workers):  # fmt: skip
                close_quietly(fd)
            become_subreaper()
            self._worker_main(socket.socket(fileno=end), spool_path)
            code = 0
        finally:
            os._exit(code)

    def _add(self, main: _Main) -> None:
        self._mains[main.pid] = main
        self._tickets[main.ticket] = main
        if main.pipe >= 0:
            self._pipes[main.pipe] = main
            self._epoll.register(main.pipe, select.EPOLLIN)
        if not self._started:
            self._tell_at = time.monotonic() + _TELL_S
        self._started.append(("started", main.ticket, main.pid))

    def _stop(self, ticket: int, grace_s: float) -> None:
        main = self._tickets.get(ticket)
        if main is None:
            return
        if grace_s <= 0:
            self._end_tree({ticket})
            return
        deadline = time.monotonic() + grace_s
        main.deadline = deadline if main.deadline is None else min(main.deadline, deadline)
        self._stopping[ticket] = main
        for number in (signal.SIGTERM, signal.SIGCONT):  # a stopped process must run to see the first
            try:
                os.killpg(main.pid, number)  # not reaped yet, so the number is still its own
            except OSError:
                continue

    def _run_out_of_patience(self) -> None:
        if self._stopping:
            now = time.monotonic()
            late = {t for t, main in self._stopping.items() if main.deadline is not None and main.deadline <= now}
            if late:
                self._end_tree(late)
                for ticket in late:
                    self._stopping.pop(ticket, None)

    # Output

    def _read(self, main: _Main) -> bool:
        """Read what one pipe holds now; one turn, so that a loud task does not starve the others. Was there any?"""
        try:
            data = os.read(main.pipe, _PIPE_READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            assert main.log is not None
            main.log.write(data)
        else:
            self._close_pipe(main)
        return bool(data)

    def _close_pipe(self, main: _Main) -> None:
        if main.pipe >= 0:
            self._epoll.unregister(main.pipe)
            del self._pipes[main.pipe]
            os.close(main.pipe)
            main.pipe = -1

    # The end of tasks

    def _reap(self) -> None:
        ended = self._reap_zombies()
        if not ended:
            return
        self._sweep_leftovers()
        ended += self._reap_zombies()
        for main, status in ended:
            self._report(main, status)

    def _reap_zombies(self) -> list[tuple[_Main, int]]:
        ended: list[tuple[_Main, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            main = self._mains.pop(pid, None)  # None: an orphan that a task left behind
            if main is not None:
                del self._tickets[main.ticket]
                self._stopping.pop(main.ticket, None)
                ended.append((main, status))

    def _sweep_leftovers(self) -> None:
        """Kill whatever belongs to this session but to no ticket that still runs.

        Such a process is an orphan, or the child of one, and orphans become our own children: so the process
        table is read only when there is a child that is no main process.
        """
        if not self._mains and tree.is_childless():
            return
        direct = tree.children()
        orphans = [] if direct is None else [pid for pid in direct if pid not in self._mains]
        if direct is not None and not orphans:
            return
        running = {tree.make_tag(self._session, ticket) for ticket in (tree.OWNER, *self._tickets)}

        def is_left(tag: int) -> bool:
            return tag not in running and tree.session_of(tag) == self._session

        if direct is None or any(is_left(tree.tag_of(pid)) for pid in orphans):
            self._sweep(is_left)

    def _keep_reserve(self) -> None:
        """Hold descriptors back, so that a program which has used up all others can still be ended."""
        while len(self._reserve) < _RESERVE:
            try:
                self._reserve.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                return

    def _sweep(self, belongs: Callable[[int], bool], **which: Any) -> None:
        """`tree.sweep`, with the reserve set free for it."""
        while self._reserve:
            os.close(self._reserve.pop())
        try:
            tree.sweep(belongs, **which)
        finally:
            self._keep_reserve()

    def _end_tree(self, tickets: set[int]) -> None:
        """Kill all processes of these tickets; the loop then finds that their mains have ended."""
        tags = {tree.make_tag(self._session, ticket) for ticket in tickets}
        self._sweep(tags.__contains__)
        for ticket in tickets:
            main = self._tickets.get(ticket)
            if main is not None:  # where no tag could be set: its group at least
                try:
                    os.killpg(main.pid, signal.SIGKILL)
                except OSError:
                    continue

    def _report(self, main: _Main, status: int) -> None:
        ended_at = time.time()
        for _ in range(_DRAIN_READS):
            if main.pipe < 0 or not self._read(main):
                break
        self._close_pipe(main)
        written, masked = 0, False
        if main.log is not None:
            main.log.close()
            written, masked = main.log.written, main.log.masked
        _delete_if_empty(main.spool)
        self._tell_started()
        code = os.waitstatus_to_exitcode(status)
        self._control.put(("exited", main.ticket, code, main.started_at, ended_at, written, None, masked))

    def _sweep_all(self) -> None:
        """End every process of this session and every descendant, tagged or not; reap them."""
        me = os.getpid()
        self._sweep(lambda tag: tree.session_of(tag) == self._session, root=me, spare=(me,))
        for main, _ in self._reap_zombies():
            _delete_if_empty(main.spool)
        for main in list(self._pipes.values()):
            for _ in range(_DRAIN_READS):
                if main.pipe >= 0:
                    self._read(main)
            if main.log is not None:
                main.log.close()


def _pipe() -> tuple[int, int]:
    """A pipe whose reader never waits."""
    pipe, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(write_end, True)
    return pipe, write_end


def _delete_if_empty(path: str | None) -> None:
    if path is not None:
        try:
            if os.stat(path).st_size == 0:
                os.unlink(path)
        except OSError:
            return


def _nothing(number: int, frame: object) -> None:
    """A handler must be there for the wake-up descriptor to be written to."""


def serve(
    control: socket.socket,
    session: int,
    worker_main: WorkerMain,
    close_in_workers: Sequence[int],
    masker: Masker | None = None,
) -> NoReturn:
    """Be the guardian in a freshly forked process; nothing of the program it was forked from runs again."""
    code = 70
    try:
        os.setsid()
        gc.freeze()  # a collection would only copy the program's pages
        Guardian(control, session, worker_main, close_in_workers, masker).run()
        code = 0
    except BaseException:  # noqa: BLE001 - a bug of ours: said on stderr, then the process ends whatever it was
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def main() -> NoReturn:
    """Be the guardian in a fresh interpreter whose standard input is the control socket.

    The first message is ("init", session, module, function, pickled_argument, secrets) with the descriptors to hold;
    the answer is ("ready",), or ("failed", text) when the program cannot be imported.
    """
    control = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    channel = Channel(control)
    messages: list[Any] = []
    while not messages and not channel.eof:
        select.select([channel], [], [])
        messages = channel.take_with_descriptors()
    if not messages:
        os._exit(0)
    _, session, module, function, argument, secrets = messages[0]
    import pickle

    try:
        entry = getattr(importlib.import_module(module), function)
        worker_main = functools.partial(entry, pickle.loads(argument))
    except BaseException as error:  # noqa: BLE001 - importing runs the user's code
        channel.send(("failed", f"{type(error).__name__}: {error}"))
        os._exit(1)
    channel.send(("ready",))
    serve(control, session, worker_main, channel.descriptors, None if secrets is None else Masker(secrets))
