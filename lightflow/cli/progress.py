"""The progress of a run on a terminal: counters, running tasks and the last failures, repainted in place.

The loop only updates counters. A thread of its own paints ten times a second; it also imports rich, so that a short run
does not wait for that import.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TextIO

from lightflow.engine.formatting import display_name
from lightflow.engine.logger import Display, batches, is_failure, list_note, undo_warning, without_values
from lightflow.engine.task_output import OutputFollower, OutputMode
from lightflow.text import printable
from liteflow import Change, ListChange, RunStart
from liteflow.api import TASK_ENDED, RunStatus, duration_text, shorten, status_style

_PAINT_EVERY_S: Final = 0.1
_MAX_EVENTS: Final = 3  # the last failures and retries that are shown
_CLOSE_TIMEOUT_S: Final = 5.0


class RunningAttempt(NamedTuple):
    """An attempt that runs."""

    name: str
    attempt: int
    since: float  #: epoch seconds


class FailureEvent(NamedTuple):
    """A failure, or a retry that is due later."""

    status: str
    name: str
    reason: str


class Notice(NamedTuple):
    """Why the run starts no tasks."""

    text: str
    is_stopping: bool  #: whether the run ends; otherwise it waits


class Progress:
    """The counters of a run. Written by the loop, read by the painter."""

    def __init__(self) -> None:
        self.title, self.total = "", 0
        self.counts: dict[str, int] = {}  # by status: of tasks, and of instances in place of their mapped task
        self.tasks_ended = 0
        self.mapped: set[str] = set()  # mapped tasks whose instances are known
        self.instances = self.instances_ended = 0
        self.running: dict[tuple[str, int], RunningAttempt] = {}
        self._events: dict[tuple[str, int], FailureEvent] = {}
        self.began_at = time.time()
        self.notice: Notice | None = None
        self.lock = threading.Lock()

    def begin(self, run: RunStart) -> None:
        """Start to count a run, or its next try."""
        self.title, self.total = run.dag_id, len(run.task_ids)
        self.counts = {"PENDING": self.total - len(run.finished)}
        for status in run.finished.values():
            self.counts[status] = self.counts.get(status, 0) + 1
        self.tasks_ended = len(run.finished)
        self.mapped, self.instances, self.instances_ended = set(), 0, 0
        self.running, self._events = {}, {}
        self.began_at = time.time()

    def apply(self, changes: Sequence[Change]) -> None:
        """Count changes of state."""
        with self.lock:
            if self.notice is not None and not self.notice.is_stopping:
                self.notice = None  # the run has waited
            for change in changes:
                if change.instances is not None:
                    self._add_instances(change.task_id, *change.instances)
                elif change.hook or (not change.gate and self._count(change)):
                    self._track(change)

    def _count(self, change: Change) -> bool:
        """Count the change of a task. Returns False for a mapped task, whose instances are counted instead."""
        if change.map_index >= 0:
            self.instances_ended += change.status in TASK_ENDED
        else:
            self.tasks_ended += change.status in TASK_ENDED
            if change.task_id in self.mapped:
                return False
        self.counts[change.previous] = self.counts.get(change.previous, 0) - 1
        self.counts[change.status] = self.counts.get(change.status, 0) + 1
        return True

    def _track(self, change: Change) -> None:
        """Update the running attempts and the last failures."""
        key = (change.task_id, change.map_index)
        name = display_name(change.task_id, change.map_index, change.map_key)
        if change.status == "RUNNING":
            self.running[key] = RunningAttempt(name, change.attempt, change.at)
        elif change.previous == "RUNNING":
            self.running.pop(key, None)
        self._events.pop(key, None)  # a retry that was due has started
        if change.status == "UP_FOR_RETRY" or is_failure(change):
            self._events[key] = FailureEvent(change.status, name, printable(change.reason or ""))
            if len(self._events) > _MAX_EVENTS:
                del self._events[next(iter(self._events))]

    def _add_instances(self, task_id: str, instances: int, remaining: int) -> None:
        """Count the instances of a mapped task that starts. After a resume some of them have ended before."""
        self.mapped.add(task_id)
        self.instances += instances
        self.instances_ended += instances - remaining
        self.counts["PENDING"] = self.counts.get("PENDING", 0) + remaining - 1

    @property
    def events(self) -> list[FailureEvent]:
        """Return the last failures and retries."""
        return list(self._events.values())

    @property
    def ended(self) -> int:
        """Return how many tasks and instances have ended."""
        return sum(number for status, number in self.counts.items() if status in TASK_ENDED)

    @property
    def words(self) -> str:
        """Return how many tasks have ended, and how many instances of mapped tasks."""
        tasks = f"{self.tasks_ended}/{self.total} tasks"
        return f"{tasks}, {self.instances_ended:,}/{self.instances:,} instances" if self.mapped else tasks


class ProgressDisplay(Display):
    """Paints the state of a run in the same place until the run is over. The output of tasks scrolls above it."""

    def __init__(self, stream: TextIO, *, output: OutputMode = "quiet") -> None:
        self.progress = Progress()
        self._screen = Screen(stream)
        self._output = None if output == "quiet" else OutputFollower(output, mark=_mark)
        self._queue: deque[Change | str] = deque()
        self._closed = threading.Event()
        self._painter: threading.Thread | None = None

    def run_began(self, run: RunStart) -> None:
        self.run_id = run.run_id
        self.progress.begin(run)
        if self._output is not None:
            self._output.begin(run)
        if self._painter is not None:
            return  # the run is retried
        # Only now: the engine forks before, which is not safe while another thread runs.
        self._painter = threading.Thread(target=self._paint, name="lightflow-progress", daemon=True)
        self._painter.start()

    def changed(self, changes: Sequence[Change]) -> None:
        self.progress.apply(changes)
        if self._output is not None:
            self._queue.extend(map(without_values, changes))

    def stopping(self, reason: str) -> None:
        text = f"stopping: {printable(reason)}; Ctrl-C again ends tasks at once"
        self.progress.notice = Notice(text, is_stopping=True)

    def waiting(self, reason: str) -> None:
        notice = self.progress.notice
        if notice is None or not notice.is_stopping:
            self.progress.notice = Notice(printable(reason), is_stopping=False)

    def undo_failed(self, task_id: str, map_index: int, problem: str) -> None:
        self._queue.append(f"warning: {undo_warning(task_id, map_index, problem)}")

    def list_changed(self, task_id: str, change: ListChange) -> None:
        self._queue.append(f"note: {list_note(task_id, change)}")

    def run_ended(self, status: RunStatus, reason: str | None) -> None:
        self._closed.set()

    def close(self) -> None:
        self._closed.set()
        if self._painter is not None:
            self._painter.join(_CLOSE_TIMEOUT_S)  # a terminal that is stopped (Ctrl-S) must not block the end

    def _paint(self) -> None:
        try:
            if not self._closed.wait(_PAINT_EVERY_S):
                paint = Painter(self.progress, self._screen)
                while not self._closed.is_set():
                    for batch in batches(self._printed()):
                        self._screen.write(batch)
                    paint()
                    self._closed.wait(_PAINT_EVERY_S)
            for batch in batches(self._printed(last=True)):
                self._screen.write(batch)
            self._screen.clear()
        except (OSError, ValueError):
            return  # the terminal is gone; the run continues

    def _printed(self, *, last: bool = False) -> Iterator[str]:
        """Yield the lines that tasks have printed since the last call; with `last` also those without a line end."""
        while self._queue:
            entry = self._queue.popleft()
            if isinstance(entry, str):
                yield entry
            elif self._output is not None:
                yield from self._output.apply(entry)
        if self._output is not None:
            yield from self._output.new_lines()
            if last:
                yield from self._output.finish()


def _mark(name: str) -> str:
    """Return the name of a task in colour."""
    return name if os.environ.get("NO_COLOR") else f"\x1b[36m{name}\x1b[0m"


class Screen:
    """A terminal with lines that stay, and below them a frame that is painted over.

    Between two paintings the cursor is at the start of the frame. It stays there when the terminal is resized, wherever
    that moves the lines: everything below is erased then, and nothing above.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._shown = False

    def write(self, text: str) -> None:
        """Write lines that stay; the frame is erased until it is painted again."""
        self.stream.write(f"\r\x1b[J{text}" if self._shown else text)
        self.stream.flush()

    def paint(self, lines: Sequence[str]) -> None:
        """Paint a frame. Each line is shorter than the width of the terminal."""
        body = "\n".join(f"\x1b[2K{line}" for line in lines)
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        hide = "" if self._shown else "\x1b[?25l"
        self._shown = True
        self.stream.write(f"{hide}\r{body}\x1b[J\r{up}")
        self.stream.flush()

    def clear(self) -> None:
        """Erase the frame and show the cursor."""
        if self._shown:
            self._shown = False
            self.stream.write("\r\x1b[J\x1b[?25h")
            self.stream.flush()


class Painter:
    """Paints the progress of a run on a screen of any size."""

    def __init__(self, progress: Progress, screen: Screen) -> None:
        from rich.console import Console

        self._progress, self._screen = progress, screen
        self._console = Console(file=screen.stream, highlight=False, markup=False, emoji=False)

    def __call__(self) -> None:
        width, height = self._console.size
        with self._console.capture() as captured:
            self._console.print(render(self._progress, max(2, width - 1), height), width=max(2, width - 1))
        self._screen.paint(captured.get().rstrip("\n").split("\n"))


def render(progress: Progress, width: int, height: int, now: float | None = None) -> Any:
    """Return a frame that fits on the screen: a frame that scrolls would leave copies of its lines behind."""
    from rich.console import Group
    from rich.text import Text

    now = time.time() if now is None else now
    with progress.lock:
        counts, running, events = dict(progress.counts), list(progress.running.values()), progress.events
        ended, total, words = progress.ended, sum(counts.values()), progress.words
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(progress.title, "bold").append(f"  {words}  {_elapsed(now - progress.began_at)}", "dim")
    length = max(10, min(width - 1, 60))
    filled = length * ended // max(1, total)
    bar = Text("━" * filled, "green").append("─" * (length - filled), "bright_black")
    rows: list[Any] = [head, bar, _counts(counts, len(running), Text)]
    if progress.notice is not None:
        rows.append(Text(progress.notice.text, "yellow", no_wrap=True, overflow="ellipsis"))
    rows += _running_rows(running, max(1, height - len(rows) - len(events) - 2), width, now, Text)
    for status, name, reason in events:
        style = "red" if status == "FAILED" else "yellow"
        verb = {"FAILED": "failed", "UP_FOR_RETRY": "will be tried again"}[status]
        text = Text(f"{status_style(status).sign} {name} {verb}", style, no_wrap=True, overflow="ellipsis")
        rows.append(text.append(f"  {reason}", "dim"))
    return Group(*rows[: max(1, height - 1)])


def _running_rows(running: list[RunningAttempt], room: int, width: int, now: float, text: Any) -> list[Any]:
    """Return a row for each running attempt, the oldest first; the last row counts those without room."""
    running.sort(key=lambda attempt: attempt.since)
    shown = running if len(running) <= room else running[: room - 1]
    rows = []
    for attempt in shown:
        number = f" (attempt {attempt.attempt})" if attempt.attempt > 1 else ""
        took = _elapsed(now - attempt.since)
        name = shorten(attempt.name, max(8, min(60, width - len(number) - len(took) - 7)))
        line = text("▶ ", "blue", no_wrap=True, overflow="ellipsis").append(f"{name}{number}  ", "default")
        rows.append(line.append(took, "dim"))
    if len(shown) < len(running):
        rows.append(text(f"… and {len(running) - len(shown)} more", "dim", no_wrap=True))
    return rows


def _counts(counts: Mapping[str, int], running: int, text: Any) -> Any:
    """Return the line `✓ 3 done  ✗ 1 failed  » 2 skipped  ▶ 4 running  ○ 5 pending`."""
    failed = counts.get("FAILED", 0) + counts.get("UPSTREAM_FAILED", 0)
    pending = counts.get("PENDING", 0) + counts.get("QUEUED", 0) + counts.get("UP_FOR_RETRY", 0)
    parts = [
        (f"✓ {counts.get('SUCCESS', 0)} done", "green", True),
        (f"✗ {failed} failed", "red", failed),
        (f"» {counts.get('SKIPPED', 0)} skipped", "dim", counts.get("SKIPPED", 0)),
        (f"■ {counts.get('CANCELLED', 0)} cancelled", "yellow", counts.get("CANCELLED", 0)),
        (f"▶ {running} running", "blue", True),
        (f"◷ {counts.get('WAITING', 0)} waiting", "cyan", counts.get("WAITING", 0)),
        (f"○ {pending} pending", "dim", True),
    ]
    line = text(no_wrap=True, overflow="ellipsis")
    for words, style, shown in parts:
        if shown:
            line.append(f"{words}  ", style)
    return line


def _elapsed(seconds: float) -> str:
    """Return a growing duration in tenths of a second; hundredths would flicker."""
    return f"{max(0.0, seconds):.1f} s" if seconds < 60 else duration_text(seconds)
