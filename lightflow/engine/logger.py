"""What a run looks like while it goes on: observers that show it on a terminal, or write it line by line.

Neither may slow the loop: `changed` only counts. On a terminal a thread of its own paints ten times a second; it also
imports what it paints with, so that a run that is over at once never waits for that.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TextIO

from lightflow.errors import printable
from liteflow.pictures.picture import duration_text, look_of, shorten, tally_text
from liteflow.planning.nodes import instance_name
from liteflow.program import Program
from liteflow.running.observing import Change, ListChange, Observer, Options
from liteflow.states import TASK_ENDED, RunStatus, TaskStatus

_PAINT_EVERY_S: Final = 0.1
_NEWS: Final = 3  # the latest failures and retries stay in sight
_CLOSING_S: Final = 5.0
_NAMES: Final = 5  # so many items of a list are named
_MANY: Final = 100  # instances of a task: of more, those that succeed have no line each


class View(Observer):
    """An observer that shows. `began` tells whether there was anything to show."""

    began = False

    def close(self) -> None:
        """Leave the terminal as it was, also where the run ended by an exception."""


class Running(NamedTuple):
    """An attempt at work."""

    task_id: str
    attempt: int
    since: float  # epoch seconds


class Progress:
    """How far a run is: the counters behind every view. Written by the loop, read by the painter."""

    def __init__(self) -> None:
        self.title, self.total, self.kept, self.workers = "", 0, 0, 1
        self.counts: dict[str, int] = {}  # of tasks, and of the instances of those that are known to have some
        self.tasks_ended = 0
        self.mapped: set[str] = set()  # tasks that have instances
        self.instances = self.instances_ended = 0
        self.running: dict[tuple[str, int], Running] = {}
        self.news: list[tuple[str, str, str]] = []  # state, task, reason
        self.began_at = time.time()
        self.stopping: str | None = None
        self.waiting: str | None = None
        self.lock = threading.Lock()

    def begin(self, program: Program, options: Options, kept: Mapping[int, TaskStatus]) -> None:
        self.title, self.total, self.kept = program.dag_id, len(program.graph.ids), len(kept)
        self.workers = options.max_workers
        self.counts = {"PENDING": self.total - len(kept)}
        for status in kept.values():
            self.counts[status] = self.counts.get(status, 0) + 1
        self.tasks_ended = len(kept)
        self.began_at = time.time()

    def apply(self, changes: Sequence[Change]) -> None:
        with self.lock:
            self.waiting = None
            for change in changes:
                if change.instances is not None:
                    self._unfold(change.task_id, *change.instances)
                    continue
                if not change.hook:
                    if change.map_index >= 0:
                        self.instances_ended += change.status in TASK_ENDED
                    else:
                        self.tasks_ended += change.status in TASK_ENDED
                        if change.task_id in self.mapped:
                            continue  # its instances are counted and told of
                    self.counts[change.previous] = self.counts.get(change.previous, 0) - 1
                    self.counts[change.status] = self.counts.get(change.status, 0) + 1
                key, name = (change.task_id, change.map_index), instance_name(change.task_id, change.map_index)
                if change.status == "RUNNING":
                    self.running[key] = Running(name, change.attempt, change.at)
                elif change.previous == "RUNNING":
                    self.running.pop(key, None)
                if change.status in ("FAILED", "UP_FOR_RETRY"):
                    self.news.append((change.status, name, printable(change.reason or "")))
                    del self.news[:-_NEWS]

    def _unfold(self, task_id: str, instances: int, waiting: int) -> None:
        """A mapped task has begun. After a resume some of its instances have ended before."""
        self.mapped.add(task_id)
        self.instances += instances
        self.instances_ended += instances - waiting
        self.counts["PENDING"] = self.counts.get("PENDING", 0) + waiting - 1

    @property
    def ended(self) -> int:
        return sum(number for status, number in self.counts.items() if status in TASK_ENDED)

    @property
    def words(self) -> str:
        """How many tasks have ended, and how many instances of mapped ones."""
        tasks = f"{self.tasks_ended}/{self.total} tasks"
        return f"{tasks}, {self.instances_ended:,}/{self.instances:,} instances" if self.mapped else tasks


class PlainView(View):
    """A line for each task that ends, with its time. `detail` also tells of starts and settings; `quiet` only of
    failures.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False, detail: bool = False) -> None:
        self._stream, self._quiet, self._detail = stream, quiet, detail
        self._deaf = False  # nobody reads any more; the run goes on
        self._many: dict[str, Counter[str]] = {}  # tasks with many instances, and how many are in each state

    def run_began(self, program: Program, options: Options, kept: Mapping[int, TaskStatus]) -> None:
        self.began = True
        if self._quiet:
            return
        known = f", {len(kept)} of them done before" if kept else ""
        self._write(
            [
                f"{_clock(time.time())} {program.dag_id}: run {options.run_id}, {len(program.graph.ids)} tasks{known}, "
                f"{options.max_workers} at once, mode {options.mode}"
            ]
        )
        if self._detail:
            self._write([f"         state in {options.db_path}", f"         logs in {options.log_dir}"])

    def changed(self, changes: Sequence[Change]) -> None:
        self._write([line for change in changes for line in self._lines(change)])

    def stopping(self, reason: str) -> None:
        self._write([f"{_clock(time.time())} stopping: {printable(reason)}; a second signal ends tasks at once"])

    def waiting(self, reason: str) -> None:
        self._write([f"{_clock(time.time())} {printable(reason)}"])

    def list_changed(self, task_id: str, change: ListChange) -> None:
        if not self._quiet:
            self._write([f"note: {_list_note(task_id, change)}"])

    def _lines(self, change: Change) -> Iterator[str]:
        tally = self._many.get(change.task_id)
        if change.instances is not None:
            count, waiting = change.instances
            if count > _MANY:
                self._many[change.task_id] = Counter(PENDING=waiting, SUCCESS=count - waiting)
            if not self._quiet:
                yield f"{_clock(change.at)} {change.task_id} has {count:,} instance{'' if count == 1 else 's'}"
            return
        if self._matters(change, one_of_many=tally is not None and change.map_index >= 0):
            yield self._line(change)
        if tally is not None and change.map_index >= 0:
            tally[change.previous] -= 1
            tally[change.status] += 1
            if change.status in TASK_ENDED and not self._quiet and _is_tenth(tally):
                yield f"{_clock(change.at)} {change.task_id} {tally_text(tally)}"

    def _matters(self, change: Change, *, one_of_many: bool = False) -> bool:
        if self._quiet:
            return change.status == "FAILED"
        if one_of_many and change.status in ("SUCCESS", "SKIPPED", "CANCELLED"):
            return self._detail
        return self._detail or change.status in TASK_ENDED or change.status == "UP_FOR_RETRY"

    def _line(self, change: Change) -> str:
        parts = [_clock(change.at), instance_name(change.task_id, change.map_index), change.status]
        if change.outcome is not None:
            parts.append(duration_text(change.outcome.ended_at - change.outcome.started_at))
        if change.attempt > 1 or change.status == "UP_FOR_RETRY" or (self._detail and change.attempt):
            parts.append(f"(attempt {change.attempt})")
        if change.reason:
            parts.append(f"- {printable(change.reason)}")
        if self._detail and change.status != "RUNNING" and change.log_path:
            parts.append(f"[{printable(change.log_path)}]")
        return " ".join(parts)

    def _write(self, lines: Sequence[str]) -> None:
        if self._deaf:
            return
        try:
            self._stream.writelines(f"{line}\n" for line in lines)
            self._stream.flush()
        except (OSError, ValueError):
            self._deaf = True


def _is_tenth(tally: Counter[str]) -> bool:
    """Has just another tenth of the instances ended, and not the last?"""
    total = tally.total()
    ended = sum(tally[status] for status in TASK_ENDED)
    return ended < total and ended * 10 // total > (ended - 1) * 10 // total


class LiveView(View):
    """The state of the run, painted over and over in the same place, and gone when the run is over."""

    def __init__(self, stream: TextIO) -> None:
        self.progress = Progress()
        self._stream = stream
        self._notes: list[str] = []  # written when the painter has ended: in between, they would tear its picture
        self._over = threading.Event()
        self._painter: threading.Thread | None = None

    def run_began(self, program: Program, options: Options, kept: Mapping[int, TaskStatus]) -> None:
        self.began = True
        self.progress.begin(program, options, kept)
        if self._painter is not None:
            return  # the run is tried again
        # Only now: the engine forks before this, which it could not do safely with another thread about.
        self._painter = threading.Thread(target=self._paint, name="lightflow-view", daemon=True)
        self._painter.start()

    def changed(self, changes: Sequence[Change]) -> None:
        self.progress.apply(changes)

    def stopping(self, reason: str) -> None:
        self.progress.stopping = reason

    def waiting(self, reason: str) -> None:
        self.progress.waiting = reason

    def list_changed(self, task_id: str, change: ListChange) -> None:
        self._notes.append(_list_note(task_id, change))

    def run_ended(self, status: RunStatus, reason: str | None) -> None:
        self._over.set()

    def close(self) -> None:
        self._over.set()
        if self._painter is not None:
            self._painter.join(_CLOSING_S)  # a terminal that is stopped (Ctrl-S) must not hold us for ever
        notes, self._notes = self._notes, []
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            self._stream.writelines(f"note: {note}\n" for note in notes)

    def _paint(self) -> None:
        if self._over.wait(_PAINT_EVERY_S):
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._stream, highlight=False, markup=False, emoji=False)
        try:
            # No redirection: sys.stdout and sys.stderr belong to the tasks in threads, whose output goes to their logs.
            with Live(
                console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            ) as live:
                while not self._over.is_set():
                    live.update(render(self.progress, console.size.width, console.size.height), refresh=True)
                    self._over.wait(_PAINT_EVERY_S)
        except (OSError, ValueError):
            return  # the terminal is gone; the run goes on


def render(progress: Progress, width: int, height: int, now: float | None = None) -> Any:
    """One frame, never higher than the screen: anything that scrolls would be painted again and again."""
    from rich.console import Group
    from rich.text import Text

    now = time.time() if now is None else now
    with progress.lock:
        counts, running, news = dict(progress.counts), list(progress.running.values()), list(progress.news)
        ended, whole, words = progress.ended, sum(counts.values()), progress.words
    elapsed = _ticking(now - progress.began_at)
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(progress.title, "bold").append(f"  {words}  {elapsed}", "dim")
    length = max(10, min(width - 1, 60))
    filled = length * ended // max(1, whole)
    bar = Text("━" * filled, "green").append("─" * (length - filled), "bright_black")
    rows: list[Any] = [head, bar, _counts(counts, len(running), Text)]
    if progress.stopping is not None:
        words = f"stopping: {printable(progress.stopping)}; Ctrl-C again ends tasks at once"
        rows.append(Text(words, "yellow", no_wrap=True, overflow="ellipsis"))
    elif progress.waiting is not None:
        rows.append(Text(printable(progress.waiting), "yellow", no_wrap=True, overflow="ellipsis"))
    room = max(1, height - len(rows) - len(news) - 2)
    running.sort(key=lambda one: one.since)
    shown = running if len(running) <= room else running[: room - 1]
    for one in shown:
        again = f" (attempt {one.attempt})" if one.attempt > 1 else ""
        took = _ticking(now - one.since)
        name = shorten(one.task_id, max(8, min(60, width - len(again) - len(took) - 7)))
        line = Text("▶ ", "blue", no_wrap=True, overflow="ellipsis").append(f"{name}{again}  ", "default")
        rows.append(line.append(took, "dim"))
    if len(shown) < len(running):
        rows.append(Text(f"… and {len(running) - len(shown)} more", "dim", no_wrap=True))
    for status, task_id, reason in news:
        style = "red" if status == "FAILED" else "yellow"
        said = {"FAILED": "failed", "UP_FOR_RETRY": "will be tried again"}[status]
        text = Text(f"{look_of(status).sign} {task_id} {said}", style, no_wrap=True, overflow="ellipsis")
        rows.append(text.append(f"  {reason}", "dim"))
    return Group(*rows[: max(1, height - 1)])


def _counts(counts: Mapping[str, int], running: int, text: Any) -> Any:
    """`✓ 3 done  ✗ 1 failed  » 2 skipped  ▶ 4 running  ○ 5 waiting`."""
    failed = counts.get("FAILED", 0) + counts.get("UPSTREAM_FAILED", 0)
    waiting = counts.get("PENDING", 0) + counts.get("QUEUED", 0) + counts.get("UP_FOR_RETRY", 0)
    parts = [
        (f"✓ {counts.get('SUCCESS', 0)} done", "green", True),
        (f"✗ {failed} failed", "red", failed),
        (f"» {counts.get('SKIPPED', 0)} skipped", "dim", counts.get("SKIPPED", 0)),
        (f"■ {counts.get('CANCELLED', 0)} cancelled", "yellow", counts.get("CANCELLED", 0)),
        (f"▶ {running} running", "blue", True),
        (f"○ {waiting} waiting", "dim", True),
    ]
    line = text(no_wrap=True, overflow="ellipsis")
    for words, style, wanted in parts:
        if wanted:
            line.append(f"{words}  ", style)
    return line


def _ticking(seconds: float) -> str:
    """A duration that grows while one looks at it: hundredths would only flicker."""
    return f"{max(0.0, seconds):.1f} s" if seconds < 60 else duration_text(seconds)


def _list_note(task_id: str, change: ListChange) -> str:
    """Say in one sentence what has changed in the list of a mapped task."""
    parts = [f"new: {_few(change.new)}"] if change.new else []
    parts += [f"gone: {_few(change.gone)}"] if change.gone else []
    then = "it had succeeded and is kept as it was" if change.kept else "what succeeded and is still in it is kept"
    return f"{task_id}: its list has changed ({'; '.join(parts)}); {then}"


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(map(printable, names[:_NAMES]))
    return shown if len(names) <= _NAMES else f"{shown} and {len(names) - _NAMES:,} more"


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
