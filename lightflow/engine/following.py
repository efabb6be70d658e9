"""What tasks print, while they run: their logs are read as they grow.

The logs are masked and bounded by whoever writes them. Reading needs no place in the engine: what a view is told of
says which attempts run and where their logs are. One thread does it, the view's own.

Of a flood lines are left out, so that neither the run waits for a terminal nor memory grows with what is printed.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, NamedTuple

from lightflow.engine.naming import shown_name
from lightflow.errors import printable, tame
from liteflow.processes.output import HEAD_BYTES, TAIL_BYTES, open_regular
from liteflow.running.observing import Change, RunStart

How = Literal["prefix", "group", "quiet"]

MOST_LINES: Final = 10_000  # of an attempt in one go; more are shown at the pace below
LAST_LINES: Final = 10  # of those that are left out, the last ones follow at the end
_PER_SECOND: Final = 100.0
_AGAIN: Final = 1000.0  # so many lines may be shown again before any is
_LINE: Final = 2000  # characters of a line
_LINE_BYTES: Final = 65_536  # of a line without end: more of it is not shown
_CHUNK: Final = 1 << 20
_PROGRESS_S: Final = 2.0  # how often a line that is painted over and over (a progress bar) is shown


class Tail:
    """The log of one attempt, of which each line is given once."""

    def __init__(self, path: str, now: float) -> None:
        self.path = path
        self._at = 0  # bytes that were read
        self._rest = b""  # the beginning of a line
        self._budget = float(MOST_LINES)
        self._looked_at = self._shown_at = now
        self._left_out = 0
        self._beyond = False  # is the log longer than what is followed of it?
        self._more = False  # are there lines that were left out and not counted?
        self._full = False  # are lines left out now?
        self._last: deque[bytes] = deque(maxlen=LAST_LINES)  # of those that are left out

    def come(self, now: float, *, over: bool) -> Iterator[str]:
        """The lines that have come since the last time; with `over` the last ones, with or without their end."""
        self._refill(now)
        if over or self._grown():
            try:
                with open_regular(self.path) as file:
                    yield from self._read(file.fileno(), over=over)
            except OSError:
                pass  # it was removed: nothing more comes
        if over:
            if self._rest:
                yield from self._take([self._rest])
            yield from self._closing()
        elif b"\r" in self._rest and now - self._shown_at >= _PROGRESS_S:
            self._shown_at = now
            state = self._rest.rstrip(b"\r").rpartition(b"\r")[2]
            if state:
                yield _readable(state)

    @property
    def begun(self) -> bool:
        """Whether anything was read of it."""
        return self._at > 0

    def _refill(self, now: float) -> None:
        self._budget = min(MOST_LINES, self._budget + _PER_SECOND * max(0.0, now - self._looked_at))
        self._looked_at = now

    def _grown(self) -> bool:
        try:
            return os.stat(self.path).st_size > self._at
        except OSError:
            return False

    def _read(self, fd: int, *, over: bool) -> Iterator[str]:
        # What is beyond the head of a long log moves while it grows, so it is looked at when it does not any more.
        size = os.fstat(fd).st_size
        while self._at < min(size, HEAD_BYTES):
            chunk = os.pread(fd, min(_CHUNK, size - self._at, HEAD_BYTES - self._at), self._at)
            if not chunk:
                break
            self._at += len(chunk)
            yield from self._feed(chunk)
        if self._at < HEAD_BYTES or size <= self._at:
            return
        self._beyond = self._full = True
        if over:
            self._more = size > HEAD_BYTES + TAIL_BYTES  # it was cut: nobody knows how many lines are gone
            while self._at < size and (chunk := os.pread(fd, min(_CHUNK, size - self._at), self._at)):
                self._at += len(chunk)
                yield from self._feed(chunk)

    def _feed(self, chunk: bytes) -> Iterator[str]:
        lines = (self._rest + chunk).split(b"\n")
        rest = lines.pop()
        if len(rest) > _LINE_BYTES:  # of a line that is painted over and over the end counts, else the beginning
            rest = rest[-_LINE_BYTES:].partition(b"\r")[2] if b"\r" in rest[-_LINE_BYTES:] else rest[:_LINE_BYTES]
        self._rest = rest
        yield from self._take(lines)

    def _take(self, lines: list[bytes]) -> Iterator[str]:
        if self._full and self._budget >= _AGAIN and not self._beyond:
            yield from self._note()
            self._full = False
        shown = 0 if self._full else min(len(lines), int(self._budget))
        for line in lines[:shown]:
            yield _readable(line)
        self._budget -= shown
        if shown < len(lines):
            self._full = True
            self._left_out += len(lines) - shown
            self._last.extend(lines[max(shown, len(lines) - LAST_LINES) :])

    def _note(self) -> Iterator[str]:
        if self._left_out or self._more:
            number = f"{'more than ' if self._more else ''}{self._left_out:,}"
            lines = "line" if number == "1" else "lines"
            yield f"… {number} {lines} not shown, see {printable(_near(self.path))}"
        self._left_out = 0
        self._last.clear()

    def _closing(self) -> Iterator[str]:
        last = list(self._last)
        self._left_out = max(0, self._left_out - len(last))
        yield from self._note()
        for line in last:
            yield _readable(line)


def _readable(raw: bytes) -> str:
    """A line as it stands when it is complete: what was painted over is gone, as on a terminal."""
    text = tame(raw.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace"))
    return text if len(text) <= _LINE else f"{text[: _LINE - 1]}…"


def _near(path: str) -> str:
    try:
        near = os.path.relpath(path)
    except (OSError, ValueError):
        return path  # the current folder is gone
    return path if near.startswith("..") else near


class _Followed(NamedTuple):
    tail: Tail
    name: str
    attempt: int


class Output:
    """What the tasks of a run print, as lines for people. Used by one thread.

    `prefix`: each line as it comes, behind its task's name; alone where the run is one task. `group`: all that a task
    has printed, when it ends, under its name. `mark` makes the name stand out.
    """

    def __init__(self, how: How, *, mark: Callable[[str], str] = str, github: bool = False) -> None:
        self.how = how
        self._mark = mark
        self._github = github
        self._alone = False
        self._followed: dict[tuple[str, int], _Followed] = {}

    def begin(self, run: RunStart) -> None:
        """Start to follow a run, or its next try."""
        self._alone = len(run.task_ids) == 1 and not run.mapped_tasks and not run.has_hooks

    def told(self, change: Change) -> Iterator[str]:
        """What is printed because a task has begun or ended: of one that has ended the rest."""
        key = (change.task_id, change.map_index)
        if change.status == "RUNNING" and change.log_path is not None and change.instances is None:
            name = shown_name(change.task_id, change.map_index, change.map_key)
            self._followed[key] = _Followed(Tail(change.log_path, time.monotonic()), name, change.attempt)
        elif change.previous == "RUNNING":
            followed = self._followed.pop(key, None)
            if followed is not None and (change.log_path is not None or followed.tail.begun):
                yield from self._last_of(followed)

    def come(self) -> Iterator[str]:
        """What running tasks have printed since the last time."""
        if self.how == "prefix":
            now = time.monotonic()
            for followed in self._followed.values():
                yield from self._named(followed, followed.tail.come(now, over=False))

    def rest(self) -> Iterator[str]:
        """What is left of tasks of which nobody has told that they have ended."""
        while self._followed:
            yield from self._last_of(self._followed.pop(next(iter(self._followed))))

    def _last_of(self, followed: _Followed) -> Iterator[str]:
        lines = followed.tail.come(time.monotonic(), over=True)
        yield from self._named(followed, lines) if self.how == "prefix" else self._grouped(followed, lines)

    def _named(self, followed: _Followed, lines: Iterable[str]) -> Iterator[str]:
        head = "" if self._alone else self._mark(f"{followed.name} |") + " "
        for line in lines:
            yield f"{head}{line}"

    def _grouped(self, followed: _Followed, lines: Iterator[str]) -> Iterator[str]:
        again = f" (attempt {followed.attempt})" if followed.attempt > 1 else ""
        first = next(lines, None)
        if first is None:
            return
        if not self._github:
            yield self._mark(f"==> {followed.name}{again} <==")
            yield first
            yield from lines
            return
        import secrets

        # What a task prints is no command to the runner: https://github.com/actions/toolkit/blob/main/docs/commands.md
        token = secrets.token_hex(8)
        yield f"::group::{followed.name}{again}"
        yield f"::stop-commands::{token}"
        yield first
        yield from lines
        yield f"::{token}::"
        yield "::endgroup::"
