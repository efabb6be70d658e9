"""Where in the user's code a Python task failed, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TextIO

from lightflow.cli.output import near_path, paint
from lightflow.errors import printable
from liteflow.state.history import AttemptRecord
from liteflow.traces import Frame, Raised, from_json

_EXCEPTIONS: Final = 4
_FRAMES: Final = 5  # of an exception: the first, and those nearest to where it arose
_LEADS: Final = {"cause": "caused by", "context": "while handling", "member": "one of them:"}


def trace_of(attempt: AttemptRecord | None) -> list[Raised]:
    """Where an attempt failed; empty where that was not in Python, or an older version stored it."""
    return [] if attempt is None else from_json(attempt.trace)


def trace_lines(trace: Sequence[Raised], stream: TextIO | None = None) -> Iterator[str]:
    """The user's frames of an exception and of what it came from; few enough to be read at a glance."""
    shown = trace[:_EXCEPTIONS]
    for one in shown:
        if one.relation:
            yield f"{_LEADS.get(one.relation, one.relation)} {printable(one.error)}"
        for note in one.notes:
            yield f"note: {printable(note)}"
        yield from _frames(one, stream)
    if len(trace) > len(shown):
        more = len(trace) - len(shown)
        yield f"… and {more} more exception{'' if more == 1 else 's'}"


def _frames(one: Raised, stream: TextIO | None) -> Iterator[str]:
    frames = list(one.frames)
    last = frames[-(_FRAMES - 1) :] if len(frames) > _FRAMES else frames[1:]
    left_out = one.left_out + len(frames) - 1 - len(last)
    for number, frame in enumerate([*frames[:1], *last]):
        if number == 1 and left_out > 0:
            yield paint(f"… {left_out:,} frame{'' if left_out == 1 else 's'} …", "dim", stream)
        yield from _frame(frame, stream)


def _frame(frame: Frame, stream: TextIO | None) -> Iterator[str]:
    where = f"{near_path(frame.file)}:{frame.line}"
    function = f" in {printable(frame.function)}" if frame.function else ""
    times = f", {frame.repeats:,} more times in a row" if frame.repeats else ""
    yield f"{paint(where, 'bold', stream)}{function}{times}"
    if frame.source:
        yield f"    {printable(frame.source)}"
