"""What a run looks like while it goes on: observers that show it on a terminal, or write it line by line.

Neither may slow the loop. On a terminal a thread of its own paints ten times a second; it also imports what it paints
with, so that a run that is over at once never waits for that. Elsewhere a thread of its own writes what tasks print,
and what happens to them in its place between that.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TextIO

from lightflow.engine.following import How, Output
from lightflow.engine.naming import shown_name, took_text
from lightflow.errors import harmless, printable
from liteflow.pictures.picture import duration_text, look_of, shorten, tally_text
from liteflow.program import Program
from liteflow.running.observing import Change, ListChange, Observer, Options
from liteflow.states import TASK_ENDED, RunStatus, TaskStatus

_PAINT_EVERY_S: Final = 0.1
_NEWS: Final = 3  # the latest failures and retries stay in sight
_CLOSING_S: Final = 5.0
_NAMES: Final = 5  # so many items of a list are named
_MANY: Final = 100  # instances of a task: of more, those that succeed have no line each
_WRITE_EVERY_S: Final = 0.05
_WRITE_SELDOM_S: Final = 0.2  # while nothing is printed
_BATCH: Final = 1000  # lines written at a time


class View(Observer):
    """An observer that shows. `began` tells whether there was anything to show."""

    began = False

    def close(self) -> None:
        """Leave the terminal as it was, also where the run ended by an exception."""


class Running(NamedTuple):
    """An attempt at work."""

    name: str
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
        self._news: dict[tuple[str, int], tuple[str, str, str]] = {}  # what went wrong last: state, name, reason
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
        self.mapped, self.instances, self.instances_ended = set(), 0, 0
        self.running, self._news = {}, {}
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
                key = (change.task_id, change.map_index)
                name = shown_name(change.task_id, change.map_index, change.map_key)
                if change.status == "RUNNING":
                    self.running[key] = Running(name, change.attempt, change.at)
                elif change.previous == "RUNNING":
                    self.running.pop(key, None)
                self._news.pop(key, None)  # that it will be tried again is over
                if change.status == "UP_FOR_RETRY" or is_failure(change):
                    self._news[key] = (change.status, name, printable(change.reason or ""))
                    if len(self._news) > _NEWS:
                        del self._news[next(iter(self._news))]

    def _unfold(self, task_id: str, instances: int, waiting: int) -> None:
        """A mapped task has begun. After a resume some of its instances have ended before."""
        self.mapped.add(task_id)
        self.instances += instances
        self.instances_ended += instances - waiting
        self.counts["PENDING"] = self.counts.get("PENDING", 0) + waiting - 1

    @property
    def news(self) -> list[tuple[str, str, str]]:
        """The latest failures, and retries that are to come: state, name, reason."""
        return list(self._news.values())

    @property
    def ended(self) -> int:
        return sum(number for status, number in self.counts.items() if status in TASK_ENDED)

    @property
    def words(self) -> str:
        """How many tasks have ended, and how many instances of mapped ones."""
        tasks = f"{self.tasks_ended}/{self.total} tasks"
        return f"{tasks}, {self.instances_ended:,}/{self.instances:,} instances" if self.mapped else tasks


def is_failure(change: Change) -> bool:
    """Whether something went wrong: that the answer to a precondition is no is no failure."""
    return change.status == "FAILED" and change.hook != "precondition"


def _light(change: Change) -> Change:
    """Without the values of tasks: whoever waits for a slow reader holds none of them."""
    outcome = change.outcome
    if outcome is None or (outcome.value is None and outcome.pushed is None):
        return change
    return change._replace(outcome=outcome._replace(value=None, pushed=None))


class PlainView(View):
    """A line for each task that ends, with its time, and what tasks print as `output` says.

    `detail` also tells of starts and settings; `quiet` tells only of failures.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        quiet: bool = False,
        detail: bool = False,
        tracebacks: bool = False,
        output: How = "quiet",
        github: bool = False,
    ) -> None:
        self._stream, self._quiet, self._detail, self._tracebacks = stream, quiet, detail, tracebacks
        self._deaf = False  # nobody reads any more; the run goes on
        self._many: dict[str, Counter[str]] = {}  # tasks with many instances, and how many are in each state
        self._output = None if output == "quiet" else Output(output, github=github)
        self._waiting: deque[str | Change] = deque()  # what the writer is to write, and what it is to follow
        self._over = threading.Event()
        self._writer: threading.Thread | None = None

    def run_began(self, program: Program, options: Options, kept: Mapping[int, TaskStatus]) -> None:
        self.began = True
        if self._output is not None:
            self._output.begin(program)
            if self._writer is None:
                # Only now: the engine forks before this, which it could not do safely with another thread about.
                self._writer = threading.Thread(target=self._follow, name="lightflow-output", daemon=True)
                self._writer.start()
        if self._quiet:
            return
        known = f", {len(kept)} of them done before" if kept else ""
        tasks = len(program.graph.ids)
        self._write(
            f"{_clock(time.time())} {program.dag_id}: run {options.run_id}, {tasks:,} task{'' if tasks == 1 else 's'}"
            f"{known}, {options.max_workers} at once, mode {options.mode}"
        )
        if self._detail:
            self._write(f"         state in {printable(options.db_path)}")
            self._write(f"         logs in {printable(options.log_dir or '-')}")

    def changed(self, changes: Sequence[Change]) -> None:
        if self._writer is not None:
            self._waiting.extend(map(_light, changes))
        else:
            self._put(line for change in changes for line in self._lines(change))

    def stopping(self, reason: str) -> None:
        self._write(f"{_clock(time.time())} stopping: {printable(reason)}; a second signal ends tasks at once")

    def waiting(self, reason: str) -> None:
        self._write(f"{_clock(time.time())} {printable(reason)}")

    def close(self) -> None:
        self._over.set()
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _follow(self) -> None:
        """The writer: what tasks print, and what happens to them, in the order of their coming."""
        assert self._output is not None
        pause = _WRITE_EVERY_S
        while not self._over.wait(pause):
            began = time.monotonic()
            busy = self._catch_up(self._output)
            # Where very many tasks run, looking at their logs takes a while: it may take a tenth of the time.
            took = min(0.1, time.monotonic() - began)
            pause = max(_WRITE_EVERY_S if busy else min(_WRITE_SELDOM_S, pause * 1.5), 10 * took)
        self._catch_up(self._output)
        self._put(self._output.rest())

    def _catch_up(self, output: Output) -> bool:
        """Write what there is. Returns whether there was anything."""
        busy = bool(self._waiting)
        self._put(self._told(output))
        return self._put(output.come()) or busy

    def _told(self, output: Output) -> Iterator[str]:
        while self._waiting:
            one = self._waiting.popleft()
            if isinstance(one, str):
                yield one
            else:
                yield from output.told(one)
                yield from self._lines(one)

    def list_changed(self, task_id: str, change: ListChange) -> None:
        if not self._quiet:
            self._write(f"note: {_list_note(task_id, change)}")

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
            if self._tracebacks and change.outcome is not None and change.outcome.error is not None:
                yield from (f"         {line}" for line in harmless(change.outcome.error.traceback).splitlines())
        if tally is not None and change.map_index >= 0:
            tally[change.previous] -= 1
            tally[change.status] += 1
            if change.status in TASK_ENDED and not self._quiet and _is_tenth(tally):
                yield f"{_clock(change.at)} {change.task_id} {tally_text(tally)}"

    def _matters(self, change: Change, *, one_of_many: bool = False) -> bool:
        if self._quiet:
            return is_failure(change)
        if change.hook == "precondition" and change.status == "FAILED":
            return self._detail  # the task itself is told of, and why
        if one_of_many and change.status in ("SUCCESS", "SKIPPED", "CANCELLED"):
            return self._detail
        return self._detail or change.status in TASK_ENDED or change.status == "UP_FOR_RETRY"

    def _line(self, change: Change) -> str:
        name = shown_name(change.task_id, change.map_index, change.map_key)
        parts = [_clock(change.at), name, change.status]
        if change.outcome is not None:
            ended_at, started_at = change.outcome.ended_at, change.outcome.started_at
            parts.append(took_text(ended_at - (started_at or ended_at)))
        if change.attempt > 1 or change.status == "UP_FOR_RETRY" or (self._detail and change.attempt):
            parts.append(f"(attempt {change.attempt})")
        if change.reason:
            parts.append(f"- {printable(change.reason)}")
        if self._detail and change.status != "RUNNING" and change.log_path:
            parts.append(f"[{printable(change.log_path)}]")
        return " ".join(parts)

    def _write(self, line: str) -> None:
        """Write a line of the loop's own, in its turn."""
        if self._writer is not None:
            self._waiting.append(line)
        else:
            self._put([line])

    def _put(self, lines: Iterable[str]) -> bool:
        """Write lines, some at a time. Returns whether there were any."""
        some = False
        for batch in _batches(lines):
            some = True
            if self._deaf:
                continue  # and read on: what is not written is not kept either
            try:
                self._stream.write(batch)
                self._stream.flush()
            except (OSError, ValueError):
                self._deaf = True
        return some


def _batches(lines: Iterable[str]) -> Iterator[str]:
    """The lines as text, in pieces that fit into memory however many there are."""
    batch: list[str] = []
    for line in lines:
        batch.append(line)
        if len(batch) >= _BATCH:
            yield "\n".join([*batch, ""])
            batch.clear()
    if batch:
        yield "\n".join([*batch, ""])


def _is_tenth(tally: Counter[str]) -> bool:
    """Has just another tenth of the instances ended, and not the last?"""
    total = tally.total()
    ended = sum(tally[status] for status in TASK_ENDED)
    return ended < total and ended * 10 // total > (ended - 1) * 10 // total


class LiveView(View):
    """The state of the run, painted over and over in the same place, and gone when the run is over. What tasks print
    stands above it.
    """

    def __init__(self, stream: TextIO, *, output: How = "quiet") -> None:
        self.progress = Progress()
        self._screen = Screen(stream)
        self._output = None if output == "quiet" else Output(output, mark=_mark)
        self._waiting: deque[Change | str] = deque()
        self._over = threading.Event()
        self._painter: threading.Thread | None = None

    def run_began(self, program: Program, options: Options, kept: Mapping[int, TaskStatus]) -> None:
        self.began = True
        self.progress.begin(program, options, kept)
        if self._output is not None:
            self._output.begin(program)
        if self._painter is not None:
            return  # the run is tried again
        # Only now: the engine forks before this, which it could not do safely with another thread about.
        self._painter = threading.Thread(target=self._paint, name="lightflow-view", daemon=True)
        self._painter.start()

    def changed(self, changes: Sequence[Change]) -> None:
        self.progress.apply(changes)
        if self._output is not None:
            self._waiting.extend(map(_light, changes))

    def stopping(self, reason: str) -> None:
        self.progress.stopping = reason

    def waiting(self, reason: str) -> None:
        self.progress.waiting = reason

    def list_changed(self, task_id: str, change: ListChange) -> None:
        self._waiting.append(f"note: {_list_note(task_id, change)}")

    def run_ended(self, status: RunStatus, reason: str | None) -> None:
        self._over.set()

    def close(self) -> None:
        self._over.set()
        if self._painter is not None:
            self._painter.join(_CLOSING_S)  # a terminal that is stopped (Ctrl-S) must not hold us for ever

    def _paint(self) -> None:
        try:
            if not self._over.wait(_PAINT_EVERY_S):
                paint = Painter(self.progress, self._screen)
                while not self._over.is_set():
                    for batch in _batches(self._printed()):
                        self._screen.write(batch)
                    paint()
                    self._over.wait(_PAINT_EVERY_S)
            for batch in _batches(self._rest()):
                self._screen.write(batch)
            self._screen.clear()
        except (OSError, ValueError):
            return  # the terminal is gone; the run goes on

    def _printed(self) -> Iterator[str]:
        """What tasks have printed since the last time."""
        while self._waiting:
            one = self._waiting.popleft()
            if isinstance(one, str):
                yield one
            elif self._output is not None:
                yield from self._output.told(one)
        if self._output is not None:
            yield from self._output.come()

    def _rest(self) -> Iterator[str]:
        yield from self._printed()
        if self._output is not None:
            yield from self._output.rest()


def _mark(name: str) -> str:
    """The name of the task before what it prints."""
    return name if os.environ.get("NO_COLOR") else f"\x1b[36m{name}\x1b[0m"


class Screen:
    """Lines that stay, and below them a frame that is painted over and over.

    Between two paintings the cursor stands where the frame begins. There it stays when the terminal is resized, however
    that moves the lines: all that is below is erased then, and nothing above.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._shown = False

    def write(self, text: str) -> None:
        """Write lines that stay; the frame is gone until it is painted again."""
        self.stream.write(f"\r\x1b[J{text}" if self._shown else text)
        self.stream.flush()

    def paint(self, lines: Sequence[str]) -> None:
        """Paint a frame, each line shorter than the terminal is wide."""
        body = "\n".join(f"\x1b[2K{line}" for line in lines)
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        hide = "" if self._shown else "\x1b[?25l"
        self._shown = True
        self.stream.write(f"{hide}\r{body}\x1b[J\r{up}")
        self.stream.flush()

    def clear(self) -> None:
        """Take the frame away and leave the terminal as it was."""
        if self._shown:
            self._shown = False
            self.stream.write("\r\x1b[J\x1b[?25h")
            self.stream.flush()


class Painter:
    """Paints the state of a run on a screen, as wide and high as that is."""

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
    """One frame, never higher than the screen: anything that scrolls would be painted again and again."""
    from rich.console import Group
    from rich.text import Text

    now = time.time() if now is None else now
    with progress.lock:
        counts, running, news = dict(progress.counts), list(progress.running.values()), progress.news
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
        name = shorten(one.name, max(8, min(60, width - len(again) - len(took) - 7)))
        line = Text("▶ ", "blue", no_wrap=True, overflow="ellipsis").append(f"{name}{again}  ", "default")
        rows.append(line.append(took, "dim"))
    if len(shown) < len(running):
        rows.append(Text(f"… and {len(running) - len(shown)} more", "dim", no_wrap=True))
    for status, name, reason in news:
        style = "red" if status == "FAILED" else "yellow"
        said = {"FAILED": "failed", "UP_FOR_RETRY": "will be tried again"}[status]
        text = Text(f"{look_of(status).sign} {name} {said}", style, no_wrap=True, overflow="ellipsis")
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
