"""Start a program in an empty folder, measure it from outside, and end all its processes."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
_PR_SET_CHILD_SUBREAPER: Final = 36
_LOOK_S: Final = 0.003

#: Disable the telemetry of all engines.
QUIET: Final = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PARSL_TRACKING": "false",
}


class Sample(NamedTuple):
    """One run of one contestant."""

    seconds: float
    """Its own measurement, or `wall` if it has none."""
    wall: float
    """Time from its start to its end, with the interpreter, imports and shutdown."""
    cpu: float
    """Processor time of all its processes."""
    work_cpu: float
    """The same from the start of its own measurement on, or all of it if it has none."""
    peak_mb: float | None
    """Peak memory of all its processes together (proportional set size); None if it was not measured."""
    said: dict[str, Any]
    """Other numbers that it reported."""


class Bystanders:
    """Measure the share of the processors that other programs used, since this object was created."""

    def __init__(self) -> None:
        self._before = self._times()

    @staticmethod
    def _times() -> tuple[float, float]:
        """Return processor seconds since boot: those of other programs, and the sum."""
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = [int(word) for word in stat.readline().split()[1:9]]
        hertz, idle = os.sysconf("SC_CLK_TCK"), ticks[3] + ticks[4]
        who = [resource.getrusage(one) for one in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        ours = sum(one.ru_utime + one.ru_stime for one in who)
        return (sum(ticks) - idle) / hertz - ours, sum(ticks) / hertz

    def share(self) -> float:
        """Return the share, between 0 and 1."""
        (busy, there), (busy_then, there_then) = self._times(), self._before
        return min(1.0, max(0.0, (busy - busy_then) / max(there - there_then, 0.01)))


class NotRun(Exception):
    """A contestant could not be started, failed, took too long, or did not do the work."""


def adopt_orphans() -> None:
    """Become the parent of all processes that a contestant leaves, to count and end them."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Return all descendants of a process."""
    below: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                    parent = int(stat.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has ended
            below.setdefault(parent, []).append(int(entry))
    found = list(below.get(pid, ()))
    for one in found:
        found += below.get(one, ())
    return found


def memory_mb(pids: Sequence[int]) -> float:
    """Return the memory of processes together: a page that n processes share counts as 1/n for each."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
                total += next((int(line.split()[1]) for line in rollup if line.startswith("Pss:")), 0)
        except OSError:
            continue
    return total / 1024


def run(
    argv: Sequence[str],
    prepare: Callable[[Path], None] | None = None,
    *,
    environ: dict[str, str] | None = None,
    timeout_s: float = 120,
    look: bool = False,
) -> Sample:
    """Run a program in a temporary folder.

    With `look` its memory is looked at, many times a second: that costs time, so do it in a round of its own.

    Raises:
        NotRun: see there.
    """
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        (folder / "home").mkdir()
        (folder / "work").mkdir()
        if prepare:
            prepare(folder / "work")
        return _run(argv, folder, {**QUIET, **(environ or {})}, timeout_s, look)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(argv: Sequence[str], folder: Path, environ: dict[str, str], timeout_s: float, look: bool) -> Sample:
    env = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = None
    with open(folder / "out", "w+b") as out, open(folder / "err", "w+b") as err:
        began = time.perf_counter()
        try:
            process = subprocess.Popen(
                argv, cwd=folder / "work", env={**env, **environ}, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        except OSError as error:
            raise NotRun(str(error)) from None
        in_time = False
        try:
            with open(os.pidfd_open(process.pid), "rb") as ended:
                pause = _LOOK_S if look else timeout_s
                while not (in_time := bool(select.select([ended], [], [], pause)[0])):
                    if (elapsed := time.perf_counter() - began) > timeout_s:
                        raise NotRun(f"took more than {timeout_s:.0f} s")
                    if look:
                        peak = max(peak or 0, memory_mb(descendants(os.getpid())))
                        pause = _LOOK_S + elapsed / 50  # reading the memory of large processes is slow
            wall = time.perf_counter() - began
        finally:
            _end(process, in_time)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise NotRun(_last_line(err.read() or out.read()) or f"exit code {process.returncode}")
        said = _said(out.read())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if look and "peak_kb" in said:
        peak = max(peak or 0, said["peak_kb"] / 1024)
    return Sample(said.pop("seconds", wall), wall, cpu, cpu - said.pop("cpu_before", 0.0), peak, said)


def _end(process: subprocess.Popen[bytes], ended: bool) -> None:
    """Reap a program, and end and reap all processes it left; they are descendants of this process."""
    if not ended:
        process.kill()
    process.wait()
    while left := descendants(os.getpid()):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            break
        time.sleep(0.001)


def _said(output: bytes) -> dict[str, Any]:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    if lines and lines[-1].startswith('{"seconds"'):
        said: dict[str, Any] = json.loads(lines[-1])
        return said
    return {}


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else ""
