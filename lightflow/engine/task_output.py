"""Follow what tasks print while they run: read their logs as they grow.

The writer of a log has masked and bounded it. Following needs nothing of the engine but the events of observers, which
name the running attempts and their logs. One thread does it, that of the display.

Of very much output some lines are left out, so that the run does not wait for a terminal and memory does not grow with
the output.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

from lightflow.engine.formatting import display_name
from lightflow.text import plain_text, printable
from liteflow import Change, RunStart
from liteflow.api import Record
from liteflow.processes.log_file import HEAD_BYTES, TAIL_BYTES, open_regular

OutputMode = Literal["prefix", "group", "quiet"]

MOST_LINES: Final = 10_000  # of an attempt that are shown at once; further lines are shown at the rate below
LAST_LINES: Final = 10  # of the lines that are left out, the last ones are shown at the end
_LINES_PER_SECOND: Final = 100.0
_RESUME_LINES: Final = 1000.0  # once lines are left out, none is shown until so many can be shown
_LINE_CHARACTERS: Final = 2000  # longer lines are cut
_LINE_BYTES: Final = 65_536  # of a line without end that are stored
_CHUNK_BYTES: Final = 1 << 20
_WAITING_S: Final = 5.0  # the interval between looks at the logs of tasks that wait
_PROGRESS_S: Final = 2.0  # the interval for a line that is overwritten again and again (a progress bar)


class LogTail:
    """The log of one attempt. Yields each of its lines once."""

    def __init__(self, path: str, now: float) -> None:
        self.path = path
        self._offset = 0  # bytes that were read
        self._rest = b""  # the start of a line whose end is not read yet
        self._budget = float(MOST_LINES)  # lines that can be shown now
        self._refilled_at = self._shown_at = now
        self._left_out = 0  # lines
        self._past_head = False  # whether the log is longer than the part that is followed
        self._uncounted = False  # whether more lines than `_left_out` are missing
        self._skipping = False  # whether lines are left out now
        self._last: deque[bytes] = deque(maxlen=LAST_LINES)  # of the lines that are left out

    def new_lines(self, now: float, *, ended: bool) -> Iterator[str]:
        """Yield the lines since the last call; with `ended` all that are left, the last one also without its end."""
        self._refill(now)
        if ended or self._has_grown():
            try:
                with open_regular(self.path) as file:
                    yield from self._read(file.fileno(), ended=ended)
            except OSError:
                pass  # the log was removed
        if ended:
            if self._rest:
                yield from self._take([self._rest])
            yield from self._closing_lines()
        elif b"\r" in self._rest and now - self._shown_at >= _PROGRESS_S:
            self._shown_at = now
            state = self._rest.rstrip(b"\r").rpartition(b"\r")[2]
            if state:
                yield _readable(state)

    @property
    def has_output(self) -> bool:
        """Return whether any output was read."""
        return self._offset > 0

    def _refill(self, now: float) -> None:
        elapsed = max(0.0, now - self._refilled_at)
        self._budget = min(MOST_LINES, self._budget + _LINES_PER_SECOND * elapsed)
        self._refilled_at = now

    def _has_grown(self) -> bool:
        try:
            return os.stat(self.path).st_size > self._offset
        except OSError:
            return False

    def _read(self, fd: int, *, ended: bool) -> Iterator[str]:
        # Past its head a long log is rewritten while it grows, so that part is only read when the attempt has ended.
        size = os.fstat(fd).st_size
        while self._offset < min(size, HEAD_BYTES):
            chunk = os.pread(fd, min(_CHUNK_BYTES, size - self._offset, HEAD_BYTES - self._offset), self._offset)
            if not chunk:
                break
            self._offset += len(chunk)
            yield from self._feed(chunk)
        if self._offset < HEAD_BYTES or size <= self._offset:
            return
        self._past_head = self._skipping = True
        if ended:
            self._uncounted = size > HEAD_BYTES + TAIL_BYTES  # the log was cut: the number of lines is unknown
            while self._offset < size and (chunk := os.pread(fd, min(_CHUNK_BYTES, size - self._offset), self._offset)):
                self._offset += len(chunk)
                yield from self._feed(chunk)

    def _feed(self, chunk: bytes) -> Iterator[str]:
        lines = (self._rest + chunk).split(b"\n")
        rest = lines.pop()
        if len(rest) > _LINE_BYTES:  # store the last state of a progress bar, the start of another line
            rest = rest[-_LINE_BYTES:].partition(b"\r")[2] if b"\r" in rest[-_LINE_BYTES:] else rest[:_LINE_BYTES]
        self._rest = rest
        yield from self._take(lines)

    def _take(self, lines: list[bytes]) -> Iterator[str]:
        """Yield the lines that can be shown now, and count the others."""
        if self._skipping and self._budget >= _RESUME_LINES and not self._past_head:
            yield from self._note()
            self._skipping = False
        shown = 0 if self._skipping else min(len(lines), int(self._budget))
        for line in lines[:shown]:
            yield _readable(line)
        self._budget -= shown
        if shown < len(lines):
            self._skipping = True
            self._left_out += len(lines) - shown
            self._last.extend(lines[max(shown, len(lines) - LAST_LINES) :])

    def _note(self) -> Iterator[str]:
        """Yield a line that says how many lines are left out."""
        if self._left_out or self._uncounted:
            number = f"{'more than ' if self._uncounted else ''}{self._left_out:,}"
            lines = "line" if number == "1" else "lines"
            yield f"… {number} {lines} not shown, see {printable(_short_path(self.path))}"
        self._left_out = 0
        self._last.clear()

    def _closing_lines(self) -> Iterator[str]:
        last = list(self._last)
        self._left_out = max(0, self._left_out - len(last))
        yield from self._note()
        for line in last:
            yield _readable(line)


def _readable(raw: bytes) -> str:
    """Return a line as a terminal shows it in the end: without the text that was overwritten."""
    text = plain_text(raw.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace"))
    return text if len(text) <= _LINE_CHARACTERS else f"{text[: _LINE_CHARACTERS - 1]}…"


def _short_path(path: str) -> str:
    """Return the path relative to the current folder if it is inside it."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):
        return path  # the current folder no longer exists
    return path if relative.startswith("..") else relative


class _FollowedAttempt(Record):
    log: LogTail
    name: str
    attempt: int


class OutputFollower:
    """Prints the output of the tasks of a run as lines for people. Used by one thread.

    Mode "prefix": each line as it is printed, behind the name of its task (without the name if the run has one task).
    Mode "group": the output of a task when it ends, under its name. `mark` highlights a name.
    """

    def __init__(self, mode: OutputMode, *, mark: Callable[[str], str] = str, github: bool = False) -> None:
        self.mode = mode
        self._mark = mark
        self._github = github
        self._single_task = False
        self._followed: dict[tuple[str, int], _FollowedAttempt] = {}
        self._waiting: dict[tuple[str, int], _FollowedAttempt] = {}  # polls rarely print, and there can be thousands
        self._looked_at = 0.0  # monotonic; when their logs were last looked at

    def begin(self, run: RunStart) -> None:
        """Start to follow a run, or its next try."""
        self._single_task = len(run.task_ids) == 1 and not run.mapped_tasks and not run.has_hooks

    def apply(self, change: Change) -> Iterator[str]:
        """Follow an attempt that starts; of one that ends, yield the output that is left."""
        key = (change.task_id, change.map_index)
        if change.status == "RUNNING" and change.log_path is not None and change.instances is None:
            name = display_name(change.task_id, change.map_index, change.map_key)
            self._followed[key] = _FollowedAttempt(
                log=LogTail(change.log_path, time.monotonic()), name=name, attempt=change.attempt
            )
        elif change.status == "WAITING":
            if (followed := self._followed.pop(key, None)) is not None:
                self._waiting[key] = followed
        elif change.previous in ("RUNNING", "WAITING"):
            followed = self._followed.pop(key, None) or self._waiting.pop(key, None)
            if followed is not None and (change.log_path is not None or followed.log.has_output):
                yield from self._remaining(followed)

    def new_lines(self) -> Iterator[str]:
        """Yield what running tasks have printed since the last call."""
        if self.mode == "prefix":
            now = time.monotonic()
            for followed in self._followed.values():
                yield from self._prefixed(followed, followed.log.new_lines(now, ended=False))
            if now - self._looked_at >= _WAITING_S:
                self._looked_at = now
                for followed in self._waiting.values():
                    yield from self._prefixed(followed, followed.log.new_lines(now, ended=False))

    def finish(self) -> Iterator[str]:
        """Yield the output that is left of attempts whose end was not reported."""
        for followed in (*self._followed.values(), *self._waiting.values()):
            yield from self._remaining(followed)
        self._followed.clear()
        self._waiting.clear()

    def _remaining(self, followed: _FollowedAttempt) -> Iterator[str]:
        lines = followed.log.new_lines(time.monotonic(), ended=True)
        yield from self._prefixed(followed, lines) if self.mode == "prefix" else self._grouped(followed, lines)

    def _prefixed(self, followed: _FollowedAttempt, lines: Iterable[str]) -> Iterator[str]:
        head = "" if self._single_task else self._mark(f"{followed.name} |") + " "
        for line in lines:
            yield f"{head}{line}"

    def _grouped(self, followed: _FollowedAttempt, lines: Iterator[str]) -> Iterator[str]:
        number = f" (attempt {followed.attempt})" if followed.attempt > 1 else ""
        first = next(lines, None)
        if first is None:
            return
        if not self._github:
            yield self._mark(f"==> {followed.name}{number} <==")
            yield first
            yield from lines
            return
        import secrets

        # The output of a task must not be read as commands of the GitHub runner:
        # https://github.com/actions/toolkit/blob/main/docs/commands.md
        token = secrets.token_hex(8)
        yield f"::group::{followed.name}{number}"
        yield f"::stop-commands::{token}"
        yield first
        yield from lines
        yield f"::{token}::"
        yield "::endgroup::"
