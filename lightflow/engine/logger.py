"""The log of a run: a line for each task that ends, and what tasks print, on a stream for people.

A display must not slow the loop down: where it shows the output of tasks, a thread of its own writes, and the loop only
queues the changes. `enable_debug_log` shows the log records of both packages.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TextIO

from lightflow.engine.formatting import display_name
from lightflow.engine.task_output import OutputFollower, OutputMode
from lightflow.text import escape_controls, listed, printable
from liteflow import Change, ListChange, Observer, RunStart
from liteflow.api import TASK_ENDED, duration_text, replace, tally_text

_MAX_NAMED: Final = 5  # named items of a changed list
_MANY_INSTANCES: Final = 100  # of a task with more instances, a successful instance has no line
_WRITE_EVERY_S: Final = 0.05
_WRITE_IDLE_S: Final = 0.2  # while tasks print nothing
_BATCH_LINES: Final = 1000  # written at a time


class Display(Observer):
    """An observer that shows a run to people. `run_id` is empty until the run has started."""

    run_id = ""

    def close(self) -> None:
        """Write what is left and release the stream, also after a run that ended with an exception."""


class LogDisplay(Display):
    """Writes a line for each task that ends, and what tasks print as `output` says.

    With `detail` also starts and settings have lines; with `quiet` only failures have.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        quiet: bool = False,
        detail: bool = False,
        tracebacks: bool = False,
        output: OutputMode = "quiet",
        github: bool = False,
    ) -> None:
        self._stream, self._quiet, self._detail, self._tracebacks = stream, quiet, detail, tracebacks
        self._stream_broken = False  # the reader of the stream is gone; the run continues
        self._tallies: dict[str, Counter[str]] = {}  # tasks with many instances: the number of instances by status
        self._output = None if output == "quiet" else OutputFollower(output, github=github)
        self._queue: deque[str | Change] = deque()  # lines to write, and changes to follow and to write
        self._closed = threading.Event()
        self._writer: threading.Thread | None = None

    # -- called by the loop --------------------------------------------------------------------------------------

    def run_began(self, run: RunStart) -> None:
        self.run_id = run.run_id
        if self._output is not None:
            self._output.begin(run)
            if self._writer is None:
                # Only now: the engine forks before, which is not safe while another thread runs.
                self._writer = threading.Thread(target=self._write_output, name="lightflow-output", daemon=True)
                self._writer.start()
        if self._quiet:
            return
        tasks = len(run.task_ids)
        done = f", {len(run.finished)} of them done before" if run.finished else ""
        self._write(
            f"{_clock(time.time())} {run.dag_id}: run {run.run_id}, {tasks:,} task{'' if tasks == 1 else 's'}"
            f"{done}, {run.max_workers} at once, mode {run.mode}"
        )
        if self._detail:
            self._write(f"         state in {printable(run.db_path)}")
            self._write(f"         logs in {printable(run.log_dir or '-')}")

    def changed(self, changes: Sequence[Change]) -> None:
        if self._writer is not None:
            self._queue.extend(map(without_values, changes))
        else:
            self._put(line for change in changes for line in self._lines(change))

    def stopping(self, reason: str) -> None:
        self._write(f"{_clock(time.time())} stopping: {printable(reason)}; a second signal ends tasks at once")

    def waiting(self, reason: str) -> None:
        self._write(f"{_clock(time.time())} {printable(reason)}")

    def undo_failed(self, task_id: str, map_index: int, problem: str) -> None:
        self._write(f"warning: {undo_warning(task_id, map_index, problem)}")

    def list_changed(self, task_id: str, change: ListChange) -> None:
        if not self._quiet:
            self._write(f"note: {list_note(task_id, change)}")

    def close(self) -> None:
        self._closed.set()
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _write(self, line: str) -> None:
        """Write a line of the loop, behind everything that happened before."""
        if self._writer is not None:
            self._queue.append(line)
        else:
            self._put([line])

    # -- the thread of the writer --------------------------------------------------------------------------------

    def _write_output(self) -> None:
        """Write the output of tasks, and the lines about changes, in the order in which they arrive."""
        assert self._output is not None
        pause = _WRITE_EVERY_S
        while not self._closed.wait(pause):
            started = time.monotonic()
            busy = self._catch_up(self._output)
            # With very many running tasks a look at all logs takes long: it takes at most a tenth of the time.
            took = min(0.1, time.monotonic() - started)
            pause = max(_WRITE_EVERY_S if busy else min(_WRITE_IDLE_S, pause * 1.5), 10 * took)
        self._catch_up(self._output)
        self._put(self._output.finish())

    def _catch_up(self, output: OutputFollower) -> bool:
        """Write everything that has arrived. Returns whether there was anything."""
        busy = bool(self._queue)
        self._put(self._queued_lines(output))
        return self._put(output.new_lines()) or busy

    def _queued_lines(self, output: OutputFollower) -> Iterator[str]:
        while self._queue:
            entry = self._queue.popleft()
            if isinstance(entry, str):
                yield entry
            else:
                yield from output.apply(entry)
                yield from self._lines(entry)

    # -- lines -------------------------------------------------------------------------------------------------

    def _lines(self, change: Change) -> Iterator[str]:
        tally = self._tallies.get(change.task_id)
        if change.instances is not None:
            count, waiting = change.instances
            if count > _MANY_INSTANCES:
                self._tallies[change.task_id] = Counter(PENDING=waiting, SUCCESS=count - waiting)
            if not self._quiet:
                yield f"{_clock(change.at)} {change.task_id} has {count:,} instance{'' if count == 1 else 's'}"
            return
        if self._has_line(change, one_of_many=tally is not None and change.map_index >= 0):
            yield self._line(change)
            if self._tracebacks and change.outcome is not None and change.outcome.error is not None:
                yield from (f"         {line}" for line in escape_controls(change.outcome.error.traceback).splitlines())
        if tally is not None and change.map_index >= 0:
            tally[change.previous] -= 1
            tally[change.status] += 1
            if change.status in TASK_ENDED and not self._quiet and _completes_a_tenth(tally):
                yield f"{_clock(change.at)} {change.task_id} {tally_text(tally)}"

    def _has_line(self, change: Change, *, one_of_many: bool) -> bool:
        if self._quiet:
            return is_failure(change)
        if change.gate == "entry":
            return self._detail
        if change.hook == "precondition" and change.status == "FAILED":
            return self._detail  # the line of the task has the reason
        if one_of_many and change.status in ("SUCCESS", "SKIPPED", "CANCELLED", "WAITING"):
            return self._detail
        return self._detail or change.status in TASK_ENDED or change.status in ("UP_FOR_RETRY", "WAITING")

    def _line(self, change: Change) -> str:
        name = display_name(change.task_id, change.map_index, change.map_key)
        parts = [_clock(change.at), f"group {name}" if change.gate == "group" else name, change.status]
        if change.outcome is not None:
            ended_at, started_at = change.outcome.ended_at, change.outcome.started_at
            parts.append(duration_text(ended_at - (started_at or ended_at)))
        if change.attempt > 1 or change.status == "UP_FOR_RETRY" or (self._detail and change.attempt):
            parts.append(f"(attempt {change.attempt})")
        if change.reason:
            parts.append(f"- {printable(change.reason)}")
        if self._detail and change.status != "RUNNING" and change.log_path:
            parts.append(f"[{printable(change.log_path)}]")
        return " ".join(parts)

    def _put(self, lines: Iterable[str]) -> bool:
        """Write lines to the stream in batches. Returns whether there were any."""
        wrote = False
        for batch in batches(lines):
            wrote = True
            if self._stream_broken:
                continue  # consume the lines, so that they do not use memory
            try:
                self._stream.write(batch)
                self._stream.flush()
            except (OSError, ValueError):
                self._stream_broken = True
        return wrote


def is_failure(change: Change) -> bool:
    """Return whether a task or hook has failed; a precondition that does not hold and a group are no failure."""
    return change.status == "FAILED" and change.hook != "precondition" and change.gate != "group"


def without_values(change: Change) -> Change:
    """Return the change without the values of its task, so that a queue for a slow reader does not hold them."""
    outcome = change.outcome
    if outcome is None or (outcome.value is None and outcome.pushed is None):
        return change
    return replace(change, outcome=outcome._replace(value=None, pushed=None))


def batches(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines as text, a bounded number of lines at a time."""
    batch: list[str] = []
    for line in lines:
        batch.append(line)
        if len(batch) >= _BATCH_LINES:
            yield "\n".join([*batch, ""])
            batch.clear()
    if batch:
        yield "\n".join([*batch, ""])


def undo_warning(task_id: str, map_index: int, problem: str) -> str:
    """Return the sentence about an undo that has failed."""
    return (
        f"{display_name(task_id, map_index, None)}: its undo failed: {printable(problem)}; what it started may still "
        "run: see `lightflow doctor`"
    )


def list_note(task_id: str, change: ListChange) -> str:
    """Return in one sentence how the list of a mapped task has changed."""
    parts = [f"new: {printable(listed(change.new, _MAX_NAMED))}"] if change.new else []
    parts += [f"removed: {printable(listed(change.gone, _MAX_NAMED))}"] if change.gone else []
    then = (
        "it had succeeded and does not run again"
        if change.kept
        else "items that succeeded and are still in it keep their results"
    )
    return f"{task_id}: its list has changed ({'; '.join(parts)}); {then}"


def _completes_a_tenth(tally: Counter[str]) -> bool:
    """Return whether the last instance that ended completes a tenth of all instances, and not the last tenth."""
    total = tally.total()
    ended = sum(tally[status] for status in TASK_ENDED)
    return ended < total and ended * 10 // total > (ended - 1) * 10 // total


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


# -- log records -----------------------------------------------------------------------------------------------------


class _StandardError:
    """Writes to `sys.stderr` as it is at that moment: a run replaces it to mask secrets, a task with its log."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def enable_debug_log() -> None:
    """Show all log records of this process on standard error."""
    import logging  # 18 ms, only needed with --debug

    logging.basicConfig(
        level=logging.DEBUG, stream=_StandardError(), format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
