"""The end of jobs: main processes are reaped, processes that a job has left behind are killed, then it is reported.

The guardian is a child subreaper, so orphans of jobs are its children. A sweep may have to wait for processes that do
not end when they are killed. The guardian must not wait. So each sweep is done by a fork, the sweeper; see
docs/adr/0026.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from liteflow.processes import tree
from liteflow.processes.jobs import EndedJob, Job, JobOutput, JobTable
from liteflow.processes.tree import Swept

_GAVE_UP = 3  # exit code of a sweeper: some processes live on although they were killed
_TRIES = 3  # a sweeper may be killed
_MOST_DESCRIPTORS = 1 << 30
_RESERVE = 4  # descriptors reserved for a sweep: to read the process table, and to hold a process


class _Sweep:
    """Jobs whose processes a sweeper ends."""

    __slots__ = ("ended", "numbers", "roots", "tries")

    def __init__(self, numbers: set[int], roots: dict[int, int], ended: Sequence[EndedJob] = ()) -> None:
        self.numbers = numbers  # of the jobs
        self.roots = roots  # processes that belong to the jobs and may not have the tag
        self.ended = list(ended)  # to be reported when the sweep is over
        self.tries = 0


class Reaper:
    """Reaps, sweeps and reports the jobs of a guardian."""

    def __init__(
        self,
        session: int,
        jobs: JobTable,
        output: JobOutput,
        held: Sequence[int],
        report: Callable[[dict[str, Any]], None],
    ) -> None:
        self._session = session
        self._jobs = jobs
        self._output = output
        self._held = held  # descriptors that sweepers keep
        self._report_fields = report
        self._sweeps: dict[int, _Sweep] = {}  # by the sweeper's pid
        self._unkillable: set[int] = set()  # children that live on although they were killed
        self._reserve: list[int] = []
        self._keep_reserve()

    # -- reaping -------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Reap what has ended; report each job once no process of it is left."""
        ended, swept = self._reap_zombies()
        for sweep, status in swept:
            self._on_sweeper_exit(sweep, status)
        if not ended:
            return
        roots = self._left_behind(ended)
        if roots is None:
            for ended_job in ended:
                self._report(ended_job)
        else:
            self._start(_Sweep({ended_job.job.number for ended_job in ended}, roots, ended))

    def _reap_zombies(self) -> tuple[list[EndedJob], list[tuple[_Sweep, int]]]:
        """Return the jobs that have ended and that no sweep has, and the sweeps whose sweeper has ended."""
        ended, swept = list[EndedJob](), list[tuple[_Sweep, int]]()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended, swept
            if pid == 0:
                return ended, swept
            self._unkillable.discard(pid)
            if (sweep := self._sweeps.pop(pid, None)) is not None:
                swept.append((sweep, status))
            job = self._jobs.take_reaped(pid)  # None: an orphan that a job has left behind
            if job is None:
                continue
            ended_job = EndedJob(job=job, status=status, ended_at=time.time())
            sweeps = [*self._sweeps.values(), *(sweep for sweep, _ in swept)]
            of_sweep = next((sweep for sweep in sweeps if job.number in sweep.numbers), None)
            (ended if of_sweep is None else of_sweep.ended).append(ended_job)

    def _left_behind(self, ended: Sequence[EndedJob]) -> dict[int, int] | None:
        """Return the orphans of jobs that have ended, each with its start; None when there are none.

        Processes that such jobs have left running are orphans, or descendants of one, and orphans become children of
        the guardian: so the process table is read only when a child is not a main process.
        """
        if not self._jobs.running and not self._sweeps and tree.is_childless():
            return None
        children = tree.children()
        if children is None:  # the kernel does not list them: look for tags
            return {}
        accounted = self._unkillable | self._jobs.running.keys() | self._sweeps.keys()
        accounted.update(pid for sweep in self._sweeps.values() for pid in sweep.roots)
        orphans = [pid for pid in children if pid not in accounted]
        if not orphans:
            return None
        alive = {tree.OWNER, *(job.number for job in self._jobs.running.values())}
        alive.update(number for sweep in self._sweeps.values() for number in sweep.numbers)
        tags = {tree.make_tag(self._session, number) for number in alive}
        ended_pids = {ended_job.job.pid for ended_job in ended}
        rows = [tree.process(pid) for pid in orphans if self._is_left(pid, tags, ended_pids)]
        return {row.pid: row.started for row in rows if row is not None and row.state not in "ZX"} or None

    def _is_left(self, pid: int, alive: set[int], ended_pids: set[int]) -> bool:
        """Return whether an orphan belongs to a job that has ended.

        `alive` are the tags of jobs that run or are swept, `ended_pids` the main processes that have just ended. The
        orphan's tag decides. Programs that reset all limits (`su`), and nested runs, have removed the tag; then the
        kernel's session decides, which is that of the main process unless the orphan has made its own; then its
        environment. If nothing decides, the orphan is a child of a command that ran when it was started: so it is left
        behind when none of these commands still runs.
        """
        for tag in (tree.tag_of(pid), tree.environment_tag_of(pid)):
            if tree.session_of(tag) == self._session:
                return tag not in alive
        try:
            leader = os.getsid(pid)
        except OSError:
            return False
        if leader in self._jobs.running or leader in ended_pids:
            return leader in ended_pids
        row = tree.process(pid)
        commands = [job for job in self._jobs.running.values() if job.started_ticks]
        return row is not None and not any(job.started_ticks <= row.started for job in commands)

    # -- sweeps --------------------------------------------------------------------------------------------

    def is_swept(self, job: Job) -> bool:
        """Return whether a sweeper ends the processes of a job."""
        return any(job.number in sweep.numbers for sweep in self._sweeps.values())

    def end_trees(self, numbers: set[int]) -> None:
        """Kill all processes of these jobs, including the main processes."""
        roots = {}
        for number in numbers:
            job = self._jobs.by_number.get(number)
            row = None if job is None else tree.process(job.pid)
            if row is not None:
                roots[row.pid] = row.started
        self._start(_Sweep(numbers, roots))

    def _start(self, sweep: _Sweep) -> None:
        """Start a sweeper that ends the processes of some jobs."""
        tags = {tree.make_tag(self._session, number) for number in sweep.numbers}
        sweep.tries += 1
        work = functools.partial(tree.sweep, tags.__contains__, roots=sweep.roots)
        pid = _fork_sweeper(work, self._held)
        if pid is not None:
            self._sweeps[pid] = sweep
            return
        while self._reserve:  # no more processes: a fork bomb. To delay the other jobs is better than to let it live
            os.close(self._reserve.pop())
        try:
            left = work().left
        finally:
            self._keep_reserve()
        self._sweeps[0] = sweep  # the main processes that are reaped now belong to it
        ended, swept = self._reap_zombies()
        del self._sweeps[0]
        self._finish(sweep, given_up=bool(left))
        for other, status in swept:
            self._on_sweeper_exit(other, status)
        for ended_job in ended:
            self._report(ended_job)

    def _on_sweeper_exit(self, sweep: _Sweep, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, _GAVE_UP) and sweep.tries < _TRIES:  # the sweeper was killed
            self._start(sweep)
        elif code == 0 and sweep.ended and (roots := self._left_behind(sweep.ended)):
            sweep.roots, sweep.tries = roots, 0  # orphans without a tag: recognised now that the main process is gone
            self._start(sweep)
        else:
            self._finish(sweep, given_up=code != 0)

    def _finish(self, sweep: _Sweep, *, given_up: bool) -> None:
        """Report the jobs of a sweep, including those whose main process cannot be killed."""
        survivors: tuple[int, ...] = ()
        if given_up:
            tags = {tree.make_tag(self._session, number) for number in sweep.numbers}
            survivors = tuple(sorted(tree.members(tags.__contains__, roots=sweep.roots, spare=(os.getpid(),))))
            self._unkillable.update(survivors)
        for number in sweep.numbers - {ended_job.job.number for ended_job in sweep.ended}:
            job = self._jobs.by_number.get(number)
            if job is None:
                continue
            if not given_up and _kill_group(job.pid):  # where no tag could be set; it will be reaped
                continue
            del self._jobs.running[job.pid]
            self._unkillable.add(job.pid)
            survivors = (*survivors, job.pid) if job.pid not in survivors else survivors
            sweep.ended.append(EndedJob(job=job, status=int(signal.SIGKILL), ended_at=time.time()))
        for ended_job in sweep.ended:
            self._report(ended_job, survivors)

    def _report(self, ended: EndedJob, survivors: tuple[int, ...] = ()) -> None:
        job = ended.job
        del self._jobs.by_number[job.number]
        self._output.end(job)
        fields: dict[str, Any] = {
            "job": job.number,
            "code": os.waitstatus_to_exitcode(ended.status),
            "started_at": job.started_at,
            "ended_at": ended.ended_at,
            "stopped": job.stopped,
            "survivors": survivors,
        }
        if job.log is not None:
            fields |= {"output_bytes": job.log.written, "masked": job.log.masked, "lost": job.log.lost}
        self._report_fields(fields)

    # -- the end of the guardian ---------------------------------------------------------------------------

    def sweep_all(self) -> None:
        """Kill every process of this session and every descendant, with or without a tag; reap them."""
        roots, spare = tree.own_root(), (os.getpid(), *self._unkillable)

        def belongs(tag: int) -> bool:
            return tree.session_of(tag) == self._session

        while self._reserve:
            os.close(self._reserve.pop())
        for _ in range(_TRIES):
            members = tree.members(belongs, roots=roots, spare=(*spare, *self._sweeps))
            if not members:
                break
            work = functools.partial(tree.sweep, belongs, roots=roots, spare=spare, first=members)
            sweeper = _fork_sweeper(work, self._held)
            if sweeper is None:
                work()
                break
            if _reap_until(sweeper) in (0, _GAVE_UP):
                break
        self._reap_zombies()
        self._output.end_all()
        self._sweeps.clear()
        self._jobs.clear()

    def _keep_reserve(self) -> None:
        """Hold descriptors back, so that a job that has used up all others can still be ended."""
        while len(self._reserve) < _RESERVE:
            try:
                self._reserve.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                return

    @property
    def reserve(self) -> Sequence[int]:
        """The descriptors that are held back."""
        return self._reserve


def _kill_group(pid: int) -> bool:
    """Kill a process group by its leader, which has not been reaped; return False when that is not allowed."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        return False
    return True


def _fork_sweeper(work: Callable[[], Swept], held: Sequence[int]) -> int | None:
    """Fork a process that does a sweep, and return its pid; None when it cannot be forked.

    The sweeper keeps the descriptors in `held`: the run's lock, so that the run cannot be resumed before the sweep is
    done. Its exit code is _GAVE_UP if some processes live on.
    """
    try:
        pid = os.fork()
    except OSError:
        return None
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _close_all_but(held)
        code = _GAVE_UP if work().left else 0
    finally:
        os._exit(code)


def _reap_until(pid: int) -> int:
    """Reap children until this one has ended; return its exit code, -N for signal N."""
    while True:
        try:
            ended, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return 0
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _close_all_but(held: Sequence[int]) -> None:
    """Close all descriptors above standard error except these."""
    first = 3
    for fd in sorted(held):
        os.closerange(first, fd)
        first = max(first, fd + 1)
    os.closerange(first, _MOST_DESCRIPTORS)
