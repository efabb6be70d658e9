"""Jobs: the commands and workers that the guardian has started, each with everything that it starts itself.

A job has a pipe for its output, which the guardian reads and writes into logs.
"""

from __future__ import annotations

import os
import select
import time

from liteflow.masking import Masker
from liteflow.processes.frames import close_quietly
from liteflow.processes.log_file import LogFile
from liteflow.processes.log_switch import LogSwitch, Written
from liteflow.record import Record

_READ_BYTES = 256 * 1024
_MOST_READS = 64  # of a pipe whose job has ended: it holds at most 1 MiB, unless another process still writes


class Job:
    """A command or a worker."""

    __slots__ = (
        "deadline",
        "log",
        "number",
        "pid",
        "pipe",
        "started_at",
        "started_ticks",
        "stopped",
        "switch",
        "task_number",
    )

    def __init__(
        self,
        number: int,
        pid: int,
        started_at: float,
        *,
        pipe: int = -1,
        log: LogFile | None = None,
        switch: LogSwitch | None = None,
        started_ticks: int = 0,
    ) -> None:
        self.number = number
        self.pid = pid  # of its main process
        self.started_at = started_at
        self.pipe = pipe  # read end of its output, or -1
        self.log = log
        self.switch = switch  # of a worker, which has a log for each task
        self.task_number = 0  # of the task to which the log of a worker belongs
        self.started_ticks = started_ticks  # of a command, since boot: it starts no process that is older
        self.stopped = False  # its stop was requested while it ran
        self.deadline: float | None = None  # monotonic; when a job whose stop was requested is killed


class EndedJob(Record):
    """A job whose main process was reaped."""

    job: Job
    status: int  # as of waitpid
    ended_at: float  # epoch seconds


class JobTable:
    """The jobs that have not been reported as ended."""

    def __init__(self) -> None:
        self.by_number: dict[int, Job] = {}
        self.running: dict[int, Job] = {}  # by pid: those whose main process has not been reaped
        self._stopping: dict[int, Job] = {}  # by number: those with a deadline

    def add(self, job: Job) -> None:
        self.by_number[job.number] = job
        self.running[job.pid] = job

    def clear(self) -> None:
        """Forget all jobs, once no process of them is left."""
        for jobs in (self.by_number, self.running, self._stopping):
            jobs.clear()

    def find_running(self, number: int) -> Job | None:
        """Return the job with this number, unless its main process has ended."""
        job = self.by_number.get(number)
        return job if job is not None and self.running.get(job.pid) is job else None

    def take_reaped(self, pid: int) -> Job | None:
        """Return the job whose main process was reaped; None: the process was none of a job."""
        job = self.running.pop(pid, None)
        if job is not None:
            self._stopping.pop(job.number, None)
        return job

    def stop_by(self, job: Job, deadline: float | None) -> None:
        """Set the deadline of a job that stops, if it has no earlier one; None: remove its deadline."""
        if deadline is None:
            self._stopping.pop(job.number, None)
            return
        job.deadline = deadline if job.deadline is None else min(job.deadline, deadline)
        self._stopping[job.number] = job

    def next_deadline(self) -> float | None:
        return min((job.deadline for job in self._stopping.values() if job.deadline is not None), default=None)

    def take_late(self) -> set[int]:
        """Return the numbers of jobs whose deadline is over, which they lose."""
        if not self._stopping:
            return set()
        now = time.monotonic()
        late = {number for number, job in self._stopping.items() if job.deadline is not None and job.deadline <= now}
        for number in late:
            del self._stopping[number]
        return late


class JobOutput:
    """Reads what jobs print, bounds it, and masks it in a run with secrets."""

    def __init__(self, epoll: select.epoll, masker: Masker | None) -> None:
        self._epoll = epoll
        self._masker = masker
        self._pipes: dict[int, Job] = {}
        self._switches: dict[int, Job] = {}

    def new_log(self, path: str | None) -> LogFile | None:
        return None if path is None else LogFile(path, masker=self._masker)

    def add(self, job: Job) -> None:
        """Watch the pipe of a job, and the switch of a worker."""
        if job.pipe >= 0:
            self._pipes[job.pipe] = job
            self._epoll.register(job.pipe, select.EPOLLIN)
        if job.switch is not None:
            self._switches[job.switch.fileno()] = job
            self._epoll.register(job.switch.fileno(), select.EPOLLIN)

    def handle(self, fd: int) -> None:
        """Handle a descriptor that has become readable, if it belongs to a job."""
        if (job := self._pipes.get(fd)) is not None:
            self._read(job)
        elif (job := self._switches.get(fd)) is not None:
            self._end_log(job)

    def _read(self, job: Job) -> bool:
        """Read once from a pipe, so that a loud job does not starve the others; return whether there was anything."""
        if job.switch is not None:
            job.switch.note_arrival()
        try:
            data = os.read(job.pipe, _READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            if job.switch is not None:
                self._open_log(job, job.switch)
            if job.log is not None:
                job.log.write(data)
        else:
            self._close_pipe(job)
        return bool(data)

    def _open_log(self, job: Job, switch: LogSwitch) -> None:
        """Open the log of the task that a worker runs."""
        task_number, path = switch.current()
        if task_number != job.task_number:
            if job.log is not None:
                job.log.close()
            job.task_number = task_number
            job.log = self.new_log(path)

    def _drain(self, job: Job) -> None:
        for _ in range(_MOST_READS):
            if job.pipe < 0 or not self._read(job):
                return

    def _end_log(self, job: Job) -> None:
        """Write the rest of a task's output when its worker requests that; or note that the worker has ended."""
        switch = job.switch
        if switch is None or not switch.is_asked():
            self._close_switch(job)
            return
        self._drain(job)
        written = Written()
        if job.log is not None:
            job.log.close()
            written = Written(job.log.written, job.log.lost)
        job.log, job.task_number = None, 0
        switch.answer(written)

    def end(self, job: Job) -> None:
        """Read the rest of the output of a job that has ended, and close its log."""
        self._drain(job)
        self._close_pipe(job)
        self._close_switch(job)
        if job.log is not None:
            job.log.close()

    def end_all(self) -> None:
        """Write what all pipes hold."""
        for job in list(self._pipes.values()):
            self._drain(job)
            if job.log is not None:
                job.log.close()

    def _close_switch(self, job: Job) -> None:
        if job.switch is not None:
            self._epoll.unregister(job.switch.fileno())
            del self._switches[job.switch.fileno()]
            job.switch.close()
            job.switch = None

    def _close_pipe(self, job: Job) -> None:
        if job.pipe >= 0:
            self._epoll.unregister(job.pipe)
            del self._pipes[job.pipe]
            os.close(job.pipe)
            job.pipe = -1

    def close_in_worker(self) -> None:
        """Close the descriptors in a fork of the guardian that becomes a worker."""
        for fd in self._pipes:
            close_quietly(fd)
        for job in self._switches.values():
            if job.switch is not None:
                job.switch.close()
