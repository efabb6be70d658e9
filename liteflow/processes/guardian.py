"""The guardian: a single-threaded process that starts commands, forks workers, reaps and kills.

A command or a worker, with everything that it starts, is a *job*. The guardian is a child subreaper: orphans of a job
become its children. When its control socket closes, the orchestrator is dead; the guardian then ends everything that it
has started, and itself.

Messages in:  ("command", job, argv, cwd, environ, log_path) · ("worker", job, keeps_logs) with a socket ·
              ("stop", job, grace_s) · ("signal", job, number) · ("register", undo, packet) · ("take_back", undo)
              · ("undo", undo) · ("ping",) · ("lease", deadline) · ("goodbye",)
Messages out: ("started", job, pid) · ("exited", fields) with the fields of `client.Exited` ·
              ("undone", undo, value, error) · ("pong",) · ("unable", reason): no more files or processes are allowed

When the control socket closes, the guardian also does the undos that are registered (`undos`).

The guardian of an agent on another machine has a lease: a moment of the boot-time clock, after which the owner of the
run counts the attempts as lost. When it has passed, the guardian ends everything, as if its control socket had closed,
even if the agent is stopped. Each answer of the owner moves it.

The guardian never waits for a process: a sweep, which may have to, is done by a fork. So a process that cannot be
killed delays its own job only, and a guardian that is killed during a sweep leaves no process stopped.

Output of commands, and of programs that workers start, passes through the guardian, is bounded, and in a run with
secrets is masked. The worker writes the output of its Python tasks to the log (`executors.worker_output`).
"""

from __future__ import annotations

import contextlib
import errno
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

from liteflow.masking import Masker
from liteflow.processes import tree
from liteflow.processes.frames import Channel, close_quietly, inherited, pack
from liteflow.processes.jobs import Job, JobOutput, JobTable
from liteflow.processes.log_switch import LogSwitch
from liteflow.processes.reaper import Reaper
from liteflow.processes.spawn import Spawner, SpawnError, forget_own_task
from liteflow.processes.undos import ALL_UNDOS_S, UNDOS_LEFT, Undos

WorkerMain = Callable[[socket.socket, LogSwitch | None], None]

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP,
            signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)  # fmt: skip
_STARTED_DELAY_S = 0.01  # "started" is sent with the next message, or after this time: it wakes the orchestrator
_NO_MORE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
_TOO_MANY_FILES = os.strerror(errno.EMFILE)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LEASE_CHECK_S = 1.0  # a pause does not count the time in which the machine sleeps; the lease does


class Events:
    """The events that the guardian waits for: messages from its control socket, ends of children, output of jobs."""

    def __init__(self, control: Channel) -> None:
        self._control = control
        self._mask = select.EPOLLIN  # 0: the control socket is no longer watched
        self.lease: float | None = None  # the end of the lease, as boot time; None: there is none
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        self.epoll = select.epoll()
        self.epoll.register(control.fileno(), self._mask)
        self.epoll.register(self._wake_read, select.EPOLLIN)

    def wait(self, pause_s: float | None) -> tuple[bool, bool, list[int]]:
        """Return whether there are messages, whether a child has ended, and the other descriptors that are ready."""
        has_messages = child_ended = False
        output_descriptors: list[int] = []
        if self.lease is not None:
            left_s = max(0.0, self.lease - boot_time())
            if not left_s:
                self.lease, self._control.eof = None, True  # as if the orchestrator were dead
            pause_s = min(left_s, _LEASE_CHECK_S, _LEASE_CHECK_S if pause_s is None else pause_s)
        for fd, _ in self.epoll.poll(pause_s):
            if fd == self._control.fileno():
                has_messages = True
            elif fd == self._wake_read:
                os.read(fd, 4096)
                child_ended = True
            else:
                output_descriptors.append(fd)
        return has_messages, child_ended, output_descriptors

    def flush(self) -> None:
        """Send messages, and wait for the control socket to take more while there are any left."""
        if not self._mask:
            return
        self._control.flush()
        mask = select.EPOLLIN | select.EPOLLOUT if self._control.backlog else select.EPOLLIN
        if mask != self._mask:
            self._mask = mask
            self.epoll.modify(self._control.fileno(), mask)

    def ignore_control(self) -> None:
        """Stop watching the control socket, whose other end is closed."""
        self._mask = 0
        self.epoll.unregister(self._control.fileno())

    def descriptors(self) -> list[int]:
        return [self._control.fileno(), self.epoll.fileno(), self._wake_read, self._wake_write]


class Reports:
    """Messages to the orchestrator about jobs."""

    def __init__(self, control: Channel) -> None:
        self._control = control
        self._started: list[tuple[object, ...]] = []
        self._due = 0.0  # monotonic; when `_started` is sent

    def started(self, job: Job) -> None:
        if not self._started:
            self._due = time.monotonic() + _STARTED_DELAY_S
        self._started.append(("started", job.number, job.pid))

    def exited(self, fields: dict[str, Any]) -> None:
        self._send_started()
        self._control.put(("exited", fields))

    def not_started(self, number: int, code: int, started_at: float, error: str) -> None:
        fields = {"job": number, "code": code, "started_at": started_at, "ended_at": time.time(), "error": error}
        self._control.put(("exited", fields))

    def undone(self, number: int, value: Any, error: str) -> None:
        self._control.put(("undone", number, value, error))

    def next_deadline(self) -> float | None:
        return self._due if self._started else None

    def send_due(self) -> None:
        """Send "started" messages if their time has come, or if other messages are waiting anyway."""
        if self._started and (self._control.backlog or time.monotonic() >= self._due):
            self._send_started()

    def _send_started(self) -> None:
        for message in self._started:
            self._control.put(message)
        self._started.clear()


class Guardian:
    """The state and the loop of the guardian. `run` returns when everything that it has started has ended."""

    def __init__(
        self,
        control: socket.socket,
        session: int,
        worker_main: WorkerMain,
        close_in_workers: Sequence[int] = (),
        masker: Masker | None = None,
    ) -> None:
        self._control = Channel(control)
        self._session = session
        self._worker_main = worker_main
        self._close_in_workers = tuple(close_in_workers)
        self._tagger = tree.Tagger()
        forget_own_task()
        self._spawner = Spawner()
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        tree.set_subreaper(on=True)
        self._jobs = JobTable()
        self._reports = Reports(self._control)
        for fd in inherited():  # commands do not inherit the descriptors of the program
            with contextlib.suppress(OSError):  # it was closed since, as the descriptor of the listing itself was
                os.set_inheritable(fd, False)
        self._events = Events(self._control)
        self._output = JobOutput(self._events.epoll, masker)
        self._undos = Undos(self._start_undo, self._reports.undone)
        self._reaper = Reaper(session, self._jobs, self._output, self._close_in_workers, self._on_end)

    def run(self) -> None:
        """Serve until the orchestrator says goodbye or is dead; no job lives after that."""
        try:
            while not self._control.eof:
                self._turn()
        finally:
            self._reaper.sweep_all()
            if self._undos:
                self._undo_all()

    def _undo_all(self) -> None:
        """Do the registered undos: no orchestrator can request them."""
        self._events.ignore_control()
        self._undos.request_all()
        end = time.monotonic() + ALL_UNDOS_S
        while self._undos and (pause := end - time.monotonic()) > 0:
            self._turn(pause)
        self._reaper.sweep_all()

    @property
    def exit_code(self) -> int:
        """The exit code of the process, when `run` has returned."""
        return UNDOS_LEFT if self._undos.are_left else 0

    def _on_end(self, fields: dict[str, Any]) -> None:
        """Handle the end of a job: an undo has a report of its own."""
        if not self._undos.ended(fields["job"], fields["code"]):
            self._reports.exited(fields)

    def _turn(self, longest_s: float | None = None) -> None:
        has_messages, child_ended, output_descriptors = self._events.wait(self._pause(longest_s))
        if has_messages:
            self._control.flush()
            self._serve()
        for fd in output_descriptors:
            self._output.handle(fd)
        if child_ended:
            self._reaper.reap()
        if late := self._jobs.take_late():
            self._reaper.end_trees(late)
        self._reports.send_due()
        self._events.flush()

    def _pause(self, longest_s: float | None) -> float | None:
        deadlines = [self._jobs.next_deadline(), self._reports.next_deadline()]
        now = time.monotonic()
        pauses = [longest_s, *(max(0.0, due - now) for due in deadlines if due is not None)]
        return min((pause for pause in pauses if pause is not None), default=None)

    # -- messages ------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        for message in self._control.take_with_descriptors():
            kind = message[0]
            if kind == "command":
                self._start_command(*message[1:])
            elif kind == "worker":
                self._start_worker(*message[1:])
            elif kind == "stop":
                self._stop(*message[1:])
            elif kind == "signal":
                self._signal(*message[1:])
            elif kind == "register":
                self._undos.register(*message[1:])
            elif kind == "take_back":
                self._undos.take_back(*message[1:])
            elif kind == "undo":
                self._undos.request(*message[1:])
            elif kind == "lease":
                self._events.lease = message[1]
            elif kind == "ping":
                self._control.put(("pong",))
            else:  # goodbye
                self._control.eof = True

    def _start_command(
        self, number: int, argv: list[str], cwd: str | None, environ: dict[str, str], log_path: str | None
    ) -> None:
        started_at = time.time()
        pipe = write_end = -1
        try:
            if log_path is not None:
                pipe, write_end = _pipe()
            started_ticks, tag = _ticks(), tree.make_tag(self._session, number)
            environ[tree.TAG_VARIABLE] = str(tag)
            self._tagger.put_on(tag)
            try:
                pid = self._spawner.spawn(argv, cwd, environ, write_end if log_path is not None else None)
            finally:
                self._tagger.take_off()
        except (SpawnError, OSError) as error:
            close_quietly(pipe)
            code = error.exit_code if isinstance(error, SpawnError) else 126
            text = str(error) if isinstance(error, SpawnError) else f"cannot start {argv[0]!r}: {error.strerror}"
            self._reports.not_started(number, code, started_at, text)
            return
        finally:
            close_quietly(write_end)
        job = Job(number, pid, started_at, pipe=pipe, log=self._output.new_log(log_path), started_ticks=started_ticks)
        self._add(job)
        self._reports.started(job)

    def _start_worker(self, number: int, keeps_logs: bool) -> None:
        end = self._control.descriptors.pop(0)
        started_at = time.time()
        if end < 0:
            error = f"a worker process cannot be started: {_TOO_MANY_FILES}"
        else:
            error = self._fork_worker(number, end, keeps_logs)
            os.close(end)
        if error:
            self._reports.not_started(number, 126, started_at, error)
        else:
            self._reports.started(self._jobs.by_number[number])

    def _start_undo(self, number: int, end: socket.socket, deadline: float) -> str:
        """Start the worker of an undo, which ends at the deadline. Return why it cannot be started."""
        error = self._fork_worker(number, end.fileno(), keeps_logs=True)
        if not error:
            self._jobs.stop_by(self._jobs.by_number[number], deadline)
        return error

    def _fork_worker(self, number: int, end: int, keeps_logs: bool) -> str:
        """Fork a worker that has this end of a socket. Return why it cannot be started, or nothing."""
        started_at, guardian = time.time(), os.getpid()
        pipe = write_end = -1
        switch: LogSwitch | None = None
        self._tagger.put_on(tree.make_tag(self._session, number))
        try:
            if keeps_logs:
                pipe, write_end = _pipe()
                switch = LogSwitch()
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))  # it waits until the fork does not ignore it
            pid = os.fork()
            if pid == 0:  # the tag stays on: everything that the worker starts inherits it
                self._be_worker(guardian, end, pipe, write_end, switch)
        except OSError as error:
            self._tagger.take_off()
            for fd in (pipe, write_end):
                close_quietly(fd)
            if switch is not None:
                switch.close()
            return f"a worker process cannot be started: {error.strerror}"
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        self._tagger.take_off()
        close_quietly(write_end)
        if switch is not None:
            switch.be_guardian()
        self._add(Job(number, pid, started_at, pipe=pipe, switch=switch))
        return ""

    def _be_worker(self, guardian: int, end: int, pipe: int, write_end: int, switch: LogSwitch | None) -> None:
        """Become a worker, in the fork of the process `guardian`: close what belongs to it, then work.

        Does not return.
        """
        code = 70
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (*_IGNORED, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as in every Python program
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
            for fd in (*self._events.descriptors(), *self._reaper.reserve, *self._control.descriptors,
                       *self._close_in_workers, *self._undos.descriptors()):  # fmt: skip
                close_quietly(fd)
            self._output.close_in_worker()
            if switch is not None:
                os.dup2(write_end, 1)
                os.dup2(write_end, 2)
                os.close(write_end)
                os.close(pipe)
                switch.be_worker()
            tree.set_subreaper(on=True)
            tree.die_with_parent(guardian)
            self._worker_main(socket.socket(fileno=end), switch)
            code = 0
        finally:
            os._exit(code)

    def _add(self, job: Job) -> None:
        self._jobs.add(job)
        self._output.add(job)

    def _stop(self, number: int, grace_s: float) -> None:
        self._reaper.reap()  # a job that has ended by itself was not stopped
        job = self._jobs.find_running(number)
        if job is None:
            return
        job.stopped = True
        if self._reaper.is_swept(job):
            return
        if grace_s <= 0:
            self._jobs.stop_by(job, None)
            self._reaper.end_trees({number})
            return
        self._jobs.stop_by(job, time.monotonic() + grace_s)
        for signal_number in (signal.SIGTERM, signal.SIGCONT):  # a stopped process must run to get the first
            try:
                os.killpg(job.pid, signal_number)  # not reaped yet, so the number is still its own
            except ProcessLookupError:  # a fork that has no process group yet
                os.kill(job.pid, signal_number)
            except OSError:
                continue

    def _signal(self, number: int, signal_number: int) -> None:
        """Send a signal to the first process of a job, and to nothing that it has started."""
        self._reaper.reap()
        job = self._jobs.find_running(number)
        if job is not None and not self._reaper.is_swept(job):
            with contextlib.suppress(OSError):
                os.kill(job.pid, signal_number)  # not reaped yet, so the number is still its own


def boot_time() -> float:
    """Return the seconds since this machine was booted, with those in which it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _ticks() -> int:
    """Return the current time in clock ticks since boot."""
    return int(boot_time() * _TICKS_PER_S)


def _pipe() -> tuple[int, int]:
    """Return a pipe whose reader never waits."""
    pipe, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(write_end, True)
    return pipe, write_end


def _nothing(number: int, frame: object) -> None:
    """Do nothing: the wake-up descriptor is written to only if there is a handler."""


def serve(
    control: socket.socket,
    session: int,
    worker_main: WorkerMain,
    close_in_workers: Sequence[int],
    masker: Masker | None = None,
) -> NoReturn:
    """Run the guardian in a forked child; never returns to the caller."""
    code = 70
    try:
        os.setsid()
        gc.freeze()  # a collection would copy the program's pages
        guardian = Guardian(control, session, worker_main, close_in_workers, masker)
        guardian.run()  # as long as the name exists, its descriptors are not collected with warnings
        code = guardian.exit_code
    except OSError as error:
        if error.errno not in _NO_MORE:
            sys.excepthook(*sys.exc_info())
        with contextlib.suppress(OSError):
            control.setblocking(False)
            control.send(pack(("unable", error.strerror)))
    except BaseException:  # noqa: BLE001 - a bug: print it, then end the process
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def main() -> NoReturn:
    """Run the guardian in a new interpreter whose standard input is the control socket.

    The first message is ("init", session, module, function, pickled_argument, secrets) with the descriptors to hold;
    the answer is ("ready",), or ("failed", text) when the worker cannot be imported.
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
    held = [fd for fd in channel.descriptors if fd >= 0]
    serve(control, session, worker_main, held, None if secrets is None else Masker(secrets))
