"""Where in the user's code a Python task failed, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TextIO

from lightflow.cli.output import many, near_path, paint
from lightflow.text import printable
from liteflow.api import TracedException, TraceFrame, read_trace

_MAX_EXCEPTIONS: Final = 4
_MAX_FRAMES: Final = 5  # of an exception: the outermost, and those nearest to where it was raised
_RELATIONS: Final = {"cause": "caused by", "context": "while handling", "member": "one of them:"}


def trace_lines(trace: str | None, stream: TextIO | None = None) -> Iterator[str]:
    """Yield the frames of the user's code for an exception and its causes, few enough to be read at a glance.

    `trace` is the JSON of an attempt; there is none if it did not fail in Python.
    """
    exceptions = read_trace(trace)
    for raised in exceptions[:_MAX_EXCEPTIONS]:
        if raised.relation:
            yield f"{_RELATIONS.get(raised.relation, raised.relation)} {printable(raised.error)}"
        for note in raised.notes:
            yield f"note: {printable(note)}"
        yield from _exception_lines(raised, stream)
    left_out = len(exceptions) - _MAX_EXCEPTIONS
    if left_out > 0:
        yield f"… and {many(left_out, 'more exception')}"


def _exception_lines(raised: TracedException, stream: TextIO | None) -> Iterator[str]:
    frames = list(raised.frames)
    innermost = frames[-(_MAX_FRAMES - 1) :] if len(frames) > _MAX_FRAMES else frames[1:]
    left_out = raised.left_out + len(frames) - 1 - len(innermost)
    for number, frame in enumerate([*frames[:1], *innermost]):
        if number == 1 and left_out > 0:
            yield paint(f"… {many(left_out, 'frame')} …", "dim", stream)
        yield from _frame_lines(frame, stream)


def _frame_lines(frame: TraceFrame, stream: TextIO | None) -> Iterator[str]:
    where = f"{near_path(frame.file)}:{frame.line}"
    function = f" in {printable(frame.function)}" if frame.function else ""
    repeats = f", {frame.repeats:,} more times in a row" if frame.repeats else ""
    yield f"{paint(where, 'bold', stream)}{function}{repeats}"
    if frame.source:
        yield f"    {printable(frame.source)}"
