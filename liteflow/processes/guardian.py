"""The guardian: a single-threaded process that starts commands, forks workers, reaps and kills.

It is a child subreaper: whatever a task leaves behind comes back to it. The closing of its control socket is how
it learns that the orchestrator is dead; it then ends everything it ever started, and itself.

Messages in:  ("command", ticket, argv, cwd, environ, log_path) · ("worker", ticket, keeps_logs) with a
              socket · ("stop", ticket, grace_s) · ("ping",) · ("goodbye",)
Messages out: ("started", ticket, pid) · ("exited", fields) with those of `client.Exited` · ("pong",) ·
              ("unable", reason): there are no more files or processes

It never waits for a process: a sweep, which may have to, is made by a fork of the guardian, the *sweeper*. So a
process that cannot be killed holds up its own task only. And a guardian that is killed in the middle of a sweep leaves
nothing stopped behind, because the sweeper goes on.

Everything that tasks write passes through here, is bounded, and in a run with secrets masked.
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
from liteflow.processes.log_file import LogFile
from liteflow.processes.spawn import Spawner, SpawnError, forget_own_task
from liteflow.processes.sweeper import GAVE_UP, TRIES, Ended, Main, Sweep, fork_sweeper, reap_until
from liteflow.processes.switch import Switch, Written

WorkerMain = Callable[[socket.socket, Switch | None], None]

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP,
            signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)  # fmt: skip
_PIPE_READ_BYTES = 256 * 1024
_RESERVE = 4  # descriptors kept for a sweep: to read the process table, and to hold a process
_TELL_S = 0.01  # that something has started is told with the next news, or so much later: it wakes the orchestrator
_NO_MORE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
_TOO_MANY_FILES = os.strerror(errno.EMFILE)
_DRAIN_READS = 64  # a pipe holds at most 1 MiB unless someone keeps writing
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


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
        self._mains: dict[int, Main] = {}  # by pid
        self._tickets: dict[int, Main] = {}
        self._pipes: dict[int, Main] = {}
        self._switches: dict[int, Main] = {}
        self._stopping: dict[int, Main] = {}  # by ticket: those with a deadline
        self._control_mask = select.EPOLLIN
        self._started: list[tuple[object, ...]] = []  # messages that are in no hurry
        self._tell_at = 0.0  # monotonic
        self._leaving = False
        self._reserve: list[int] = []
        self._sweeps: dict[int, Sweep] = {}  # by the sweeper's pid
        self._beyond: set[int] = set()  # children that live on although they were killed

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
        tree.set_subreaper(on=True)
        self._keep_reserve()
        for fd in inherited():  # what the program inherited is not for commands either
            try:
                os.set_inheritable(fd, False)
            except OSError:  # it is not open, such as that of the listing
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
            elif (main := self._switches.get(fd)) is not None:
                self._end_log(main)
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
            elif kind == "ping":
                self._control.put(("pong",))
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
            born, tag = _ticks(), tree.make_tag(self._session, ticket)
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
            self._tell_not_started(ticket, code, started_at, text)
            return
        finally:
            close_quietly(write_end)
        log = LogFile(log_path, masker=self._masker) if log_path is not None else None
        main = Main(ticket, pid, started_at, pipe=pipe, log=log)
        main.born = born
        self._add(main)

    def _tell_not_started(self, ticket: int, code: int, started_at: float, error: str) -> None:
        fields = {"job": ticket, "code": code, "started_at": started_at, "ended_at": time.time(), "error": error}
        self._control.put(("exited", fields))

    def _start_worker(self, ticket: int, keeps_logs: bool) -> None:
        end = self._control.descriptors.pop(0)
        started_at = time.time()
        if end < 0:
            self._tell_not_started(ticket, 126, started_at, f"a worker process cannot be started: {_TOO_MANY_FILES}")
            return
        pipe = write_end = -1
        switch: Switch | None = None
        self._tagger.put_on(tree.make_tag(self._session, ticket))
        try:
            if keeps_logs:
                pipe, write_end = _pipe()
                switch = Switch()
            pid = os.fork()
        except OSError as error:
            self._tagger.take_off()
            self._tell_not_started(ticket, 126, started_at, f"a worker process cannot be started: {error.strerror}")
            for fd in (end, pipe, write_end):
                close_quietly(fd)
            if switch is not None:
                switch.close()
            return
        if pid == 0:  # the tag stays on: whatever the worker starts inherits it
            self._be_worker(end, pipe, write_end, switch)
        self._tagger.take_off()
        os.close(end)
        close_quietly(write_end)
        if switch is not None:
            switch.be_guardian()
        self._add(Main(ticket, pid, started_at, pipe=pipe, switch=switch))

    def _be_worker(self, end: int, pipe: int, write_end: int, switch: Switch | None) -> None:
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
            for main in self._switches.values():
                if main.switch is not None:
                    main.switch.close()
            if switch is not None:
                os.dup2(write_end, 1)
                os.dup2(write_end, 2)
                os.close(write_end)
                os.close(pipe)
                switch.be_worker()
            tree.set_subreaper(on=True)
            self._worker_main(socket.socket(fileno=end), switch)
            code = 0
        finally:
            os._exit(code)

    def _add(self, main: Main) -> None:
        self._mains[main.pid] = main
        self._tickets[main.ticket] = main
        if main.pipe >= 0:
            self._pipes[main.pipe] = main
            self._epoll.register(main.pipe, select.EPOLLIN)
        if main.switch is not None:
            self._switches[main.switch.fileno()] = main
            self._epoll.register(main.switch.fileno(), select.EPOLLIN)
        if not self._started:
            self._tell_at = time.monotonic() + _TELL_S
        self._started.append(("started", main.ticket, main.pid))

    def _stop(self, ticket: int, grace_s: float) -> None:
        self._reap()  # one that has ended by itself was not told
        main = self._tickets.get(ticket)
        if main is None or self._mains.get(main.pid) is not main:
            return
        main.told = True
        if any(ticket in sweep.tickets for sweep in self._sweeps.values()):
            return
        if grace_s <= 0:
            self._stopping.pop(ticket, None)
            self._end_trees({ticket})
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
                for ticket in late:
                    self._stopping.pop(ticket, None)
                self._end_trees(late)

    # Output

    def _read(self, main: Main) -> bool:
        """Read what one pipe holds now; one turn, so that a loud task does not starve the others. Was there any?"""
        if main.switch is not None:
            main.switch.note_arrival()
        try:
            data = os.read(main.pipe, _PIPE_READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            if main.switch is not None:
                self._look_whose(main, main.switch)
            if main.log is not None:
                main.log.write(data)
        else:
            self._close_pipe(main)
        return bool(data)

    def _look_whose(self, main: Main, switch: Switch) -> None:
        """Open the log of the task that a worker is at."""
        task, path = switch.current()
        if task != main.task:
            if main.log is not None:
                main.log.close()
            main.task = task
            main.log = None if path is None else LogFile(path, masker=self._masker)

    def _drain(self, main: Main) -> None:
        for _ in range(_DRAIN_READS):
            if main.pipe < 0 or not self._read(main):
                return

    def _end_log(self, main: Main) -> None:
        """A worker is done with a task: write the rest of its output. Or the worker has ended."""
        switch = main.switch
        if switch is None or not switch.is_asked():
            self._close_switch(main)
            return
        self._drain(main)
        written = Written()
        if main.log is not None:
            main.log.close()
            written = Written(main.log.written, main.log.lost)
        main.log, main.task = None, 0
        switch.answer(written)

    def _close_switch(self, main: Main) -> None:
        if main.switch is not None:
            self._epoll.unregister(main.switch.fileno())
            del self._switches[main.switch.fileno()]
            main.switch.close()
            main.switch = None

    def _close_pipe(self, main: Main) -> None:
        if main.pipe >= 0:
            self._epoll.unregister(main.pipe)
            del self._pipes[main.pipe]
            os.close(main.pipe)
            main.pipe = -1

    # The end of tasks

    def _reap(self) -> None:
        """Reap what has ended; report each main process once nothing of its task is left."""
        ended, swept = self._reap_zombies()
        for sweep, status in swept:
            self._sweep_ended(sweep, status)
        if not ended:
            return
        roots = self._left_behind(ended)
        if roots is None:
            for one in ended:
                self._report(one)
        else:
            self._sweep_aside(Sweep({one.main.ticket for one in ended}, roots, ended))

    def _reap_zombies(self) -> tuple[list[Ended], list[tuple[Sweep, int]]]:
        """Mains that have ended and are to be looked after, and sweeps whose sweeper has ended."""
        ended, swept = list[Ended](), list[tuple[Sweep, int]]()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended, swept
            if pid == 0:
                return ended, swept
            self._beyond.discard(pid)
            if (sweep := self._sweeps.pop(pid, None)) is not None:
                swept.append((sweep, status))
            main = self._mains.pop(pid, None)  # None: an orphan that a task left behind
            if main is None:
                continue
            one = Ended(main, status, time.time())
            self._stopping.pop(main.ticket, None)
            sweeps = [*self._sweeps.values(), *(sweep for sweep, _ in swept)]
            of_sweep = next((sweep for sweep in sweeps if main.ticket in sweep.tickets), None)
            (ended if of_sweep is None else of_sweep.ended).append(one)

    def _left_behind(self, ended: Sequence[Ended]) -> dict[int, int] | None:
        """Orphans of tasks that have ended; None: there are none.

        What such tasks have left running are orphans or descendants of one, and orphans become our own children: so
        the process table is read only when there is a child that is no main process.
        """
        if not self._mains and not self._sweeps and tree.is_childless():
            return None
        direct = tree.children()
        if direct is None:  # the kernel does not tell: look for tags
            return {}
        busy = self._beyond | self._mains.keys() | self._sweeps.keys()
        busy.update(pid for sweep in self._sweeps.values() for pid in sweep.roots)
        orphans = [pid for pid in direct if pid not in busy]
        if not orphans:
            return None
        at_work = {tree.OWNER, *(main.ticket for main in self._mains.values())}
        at_work.update(ticket for sweep in self._sweeps.values() for ticket in sweep.tickets)
        tags = {tree.make_tag(self._session, ticket) for ticket in at_work}
        gone = {one.main.pid for one in ended}
        rows = [tree.process(pid) for pid in orphans if self._is_left(pid, tags, gone)]
        return {row.pid: row.started for row in rows if row is not None and row.state not in "ZX"} or None

    def _is_left(self, pid: int, at_work: set[int], gone: set[int]) -> bool:
        """Whether an orphan belongs to a task that has ended. `gone`: the main processes that ended just now.

        It tells by its tag. Programs that set all limits anew (`su`), and a nested run, have taken that off; then by
        the kernel's session, which is its main process's unless it made one of its own; then by its environment. Of
        an orphan that tells nothing this is known: it is a child of a command that ran when it was started. So it
        has been left when none of these runs any more.
        """
        for tag in (tree.tag_of(pid), tree.environment_tag_of(pid)):
            if tree.session_of(tag) == self._session:
                return tag not in at_work
        try:
            leader = os.getsid(pid)
        except OSError:
            return False
        if leader in self._mains or leader in gone:
            return leader in gone
        row = tree.process(pid)
        commands = [main for main in self._mains.values() if main.born]
        return row is not None and not any(main.born <= row.started for main in commands)

    def _end_trees(self, tickets: set[int]) -> None:
        """Kill all processes of these tickets, the mains included."""
        roots = {}
        for ticket in tickets:
            main = self._tickets.get(ticket)
            row = None if main is None else tree.process(main.pid)
            if row is not None:
                roots[row.pid] = row.started
        self._sweep_aside(Sweep(tickets, roots))

    def _sweep_aside(self, sweep: Sweep) -> None:
        """Have a sweeper end the processes of some tickets."""
        tags = {tree.make_tag(self._session, ticket) for ticket in sweep.tickets}
        sweep.tries += 1
        work = functools.partial(tree.sweep, tags.__contains__, roots=sweep.roots)
        pid = fork_sweeper(work, self._close_in_workers)
        if pid is not None:
            self._sweeps[pid] = sweep
            return
        while self._reserve:  # no more processes: a fork bomb. Better to hold up the others than to let it live
            os.close(self._reserve.pop())
        try:
            left = work().left
        finally:
            self._keep_reserve()
        self._sweeps[0] = sweep  # the mains that are reaped now belong to it
        ended, swept = self._reap_zombies()
        del self._sweeps[0]
        self._sweep_over(sweep, given_up=bool(left))
        for other, status in swept:
            self._sweep_ended(other, status)
        for one in ended:
            self._report(one)

    def _sweep_ended(self, sweep: Sweep, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, GAVE_UP) and sweep.tries < TRIES:  # it was killed
            self._sweep_aside(sweep)
        elif code == 0 and sweep.ended and (roots := self._left_behind(sweep.ended)):
            sweep.roots, sweep.tries = roots, 0  # orphans without a tag: known as such now that the main is gone
            self._sweep_aside(sweep)
        else:
            self._sweep_over(sweep, given_up=code != 0)

    def _sweep_over(self, sweep: Sweep, *, given_up: bool) -> None:
        """Report the tickets of a sweep; also those whose main process nobody can end."""
        left: tuple[int, ...] = ()
        if given_up:
            tags = {tree.make_tag(self._session, ticket) for ticket in sweep.tickets}
            left = tuple(sorted(tree.members(tags.__contains__, roots=sweep.roots, spare=(os.getpid(),))))
            self._beyond.update(left)
        for ticket in sweep.tickets - {one.main.ticket for one in sweep.ended}:
            main = self._tickets.get(ticket)
            if main is None:
                continue
            if not given_up and _kill_group(main.pid):  # where no tag could be set; it will be reaped
                continue
            del self._mains[main.pid]
            self._beyond.add(main.pid)
            left = (*left, main.pid) if main.pid not in left else left
            sweep.ended.append(Ended(main, int(signal.SIGKILL), time.time()))
        for one in sweep.ended:
            self._report(one, left)

    def _keep_reserve(self) -> None:
        """Hold descriptors back, so that a program which has used up all others can still be ended."""
        while len(self._reserve) < _RESERVE:
            try:
                self._reserve.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                return

    def _report(self, one: Ended, left: tuple[int, ...] = ()) -> None:
        main = one.main
        del self._tickets[main.ticket]
        self._drain(main)
        self._close_pipe(main)
        self._close_switch(main)
        fields: dict[str, object] = {
            "job": main.ticket,
            "code": os.waitstatus_to_exitcode(one.status),
            "started_at": main.started_at,
            "ended_at": one.ended_at,
            "stopped": main.told,
            "survivors": left,
        }
        if main.log is not None:
            main.log.close()
            fields |= {"output_bytes": main.log.written, "masked": main.log.masked, "lost": main.log.lost}
        self._tell_started()
        self._control.put(("exited", fields))

    def _sweep_all(self) -> None:
        """End every process of this session and every descendant, tagged or not; reap them."""
        roots, spare = tree.own_root(), (os.getpid(), *self._beyond)

        def belongs(tag: int) -> bool:
            return tree.session_of(tag) == self._session

        while self._reserve:
            os.close(self._reserve.pop())
        for _ in range(TRIES):
            found = tree.members(belongs, roots=roots, spare=(*spare, *self._sweeps))
            if not found:
                break
            work = functools.partial(tree.sweep, belongs, roots=roots, spare=spare, first=found)
            sweeper = fork_sweeper(work, self._close_in_workers)
            if sweeper is None:
                work()
                break
            if reap_until(sweeper) in (0, GAVE_UP):
                break
        self._reap_zombies()
        for main in list(self._pipes.values()):
            self._drain(main)
            if main.log is not None:
                main.log.close()


def _kill_group(pid: int) -> bool:
    """Kill a process group by its leader, who has not been reaped; False when that is not allowed."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        return False
    return True


def _ticks() -> int:
    """The present in the unit of `tree.Process.started`."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_S)


def _pipe() -> tuple[int, int]:
    """A pipe whose reader never waits."""
    pipe, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(write_end, True)
    return pipe, write_end


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
        guardian = Guardian(control, session, worker_main, close_in_workers, masker)
        guardian.run()  # a name keeps its descriptors from being collected, with a warning each, before the exit
        code = 0
    except OSError as error:
        if error.errno not in _NO_MORE:
            sys.excepthook(*sys.exc_info())
        with contextlib.suppress(OSError):
            control.setblocking(False)
            control.send(pack(("unable", error.strerror)))
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
    held = [fd for fd in channel.descriptors if fd >= 0]
    serve(control, session, worker_main, held, None if secrets is None else Masker(secrets))
