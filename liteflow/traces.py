"""Where in the user's own code an exception came from: plain data, small enough to be stored beside the message.

The full traceback is a text for people. What tells its frames apart is known when the exception is at hand, and only
then: which of them are the user's, from which file the lines of inline code come, which exception caused which.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any, Final, NamedTuple

_EXCEPTIONS: Final = 10
_FIRST, _LAST = 3, 5  # frames of an exception
_TEXT: Final = 500  # characters of a message, a line of code, a note
_PATH: Final = 4096
_NOTES: Final = 5
_OURS: Final = ("liteflow", "lightflow", "importlib")  # packages that no task is written in


class Frame(NamedTuple):
    """A place in the user's code. `function` is empty at the top level, `source` where the line cannot be read."""

    file: str
    line: int
    function: str
    source: str
    repeats: int = 0  # how often it follows itself: recursion


class TracedException(NamedTuple):
    """An exception. `relation` is how it belongs to the one before it: it is its `cause`, its `context` (that was being
    handled), or one of the `members` of a group; empty: it is the first.
    """

    error: str
    relation: str = ""
    frames: Sequence[Frame] = ()
    left_out: int = 0  # frames behind the first three
    notes: Sequence[str] = ()


def to_json(trace: Sequence[TracedException]) -> str:
    """The stored form."""
    shapes = [[*one[:2], [list(frame) for frame in one.frames], one.left_out, list(one.notes)] for one in trace]
    return json.dumps(shapes, separators=(",", ":"))


def from_json(text: str | None) -> list[TracedException]:
    """What was stored; of an altered file what makes sense of it."""
    try:
        shapes = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []
    return [_raised(one) for one in shapes if _is_raised(one)] if isinstance(shapes, list) else []


def _raised(shape: list[Any]) -> TracedException:
    error, relation, frames, left_out, notes = shape
    return TracedException(
        error, relation, tuple(Frame(*one) for one in frames if _is_frame(one)), left_out, tuple(notes)
    )


def _is_raised(one: object) -> bool:
    return (
        isinstance(one, list)
        and [*map(type, one)] == [str, str, list, int, list]
        and all(isinstance(note, str) for note in one[4])
    )


def _is_frame(one: object) -> bool:
    return isinstance(one, list) and [*map(type, one)] == [str, int, str, str, int]


# -- making one ----------------------------------------------------------------------------------------------------


def trace_of(
    error: BaseException, masked: Callable[[str], str], words: Callable[[BaseException], str]
) -> list[TracedException]:
    """The exception and those that it came from, the last one first. Never raises, whatever their methods do.

    `masked` takes secrets out of a text, `words` says what an exception says of itself, without secrets.
    """
    found: list[TracedException] = []
    try:
        for one, relation in _family(error):
            if len(found) == _EXCEPTIONS:
                break
            found.append(_one(one, relation, masked, words))
    except BaseException:  # noqa: BLE001 - attributes of an exception may be the user's code
        return found
    return found


def _family(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """An exception, the members of a group, and what caused it or was handled meanwhile; each once."""
    seen: set[int] = set()
    stack = [(error, "")]
    while stack:
        one, relation = stack.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one, relation
        if one.__cause__ is not None:
            stack.append((one.__cause__, "cause"))
        elif one.__context__ is not None and not one.__suppress_context__:
            stack.append((one.__context__, "context"))
        if isinstance(one, BaseExceptionGroup):
            stack += [(member, "member") for member in reversed(one.exceptions[:_EXCEPTIONS])]


def _one(
    error: BaseException, relation: str, masked: Callable[[str], str], words: Callable[[BaseException], str]
) -> TracedException:
    frames = _folded(_users(error.__traceback__), masked)
    if isinstance(error, SyntaxError) and isinstance(error.filename, str):
        source = error.text.strip() if isinstance(error.text, str) else _source(error.filename, error.lineno or 0, None)
        frames.append(Frame(_cut(masked(_file(error.filename)), _PATH), error.lineno or 0, "", _cut(masked(source))))
    left_out = max(0, len(frames) - _FIRST - _LAST)
    if left_out:
        del frames[_FIRST : _FIRST + left_out]
    notes = getattr(error, "__notes__", None)
    shown = [_cut(masked(note)) for note in notes[:_NOTES] if isinstance(note, str)] if isinstance(notes, list) else []
    return TracedException(_cut(words(error)), relation, tuple(frames), left_out, tuple(shown))


def _users(trace: TracebackType | None) -> list[tuple[FrameType, int]]:
    """The frames of the user's own code; where there are none, those of libraries."""
    frames = []
    while trace is not None:
        frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    theirs = [one for one in frames if not is_ours(one[0])]
    return [one for one in theirs if not _is_library(one[0].f_code.co_filename)] or theirs


def is_ours(frame: FrameType) -> bool:
    """Whether it is one of the engine or of the application, or of what imports a module for them."""
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and name.partition(".")[0] in _OURS


def _is_library(path: str) -> bool:
    home = os.path.dirname(getattr(os, "__file__", None) or "")
    parts = path.split(os.sep)
    return "site-packages" in parts or "dist-packages" in parts or bool(home and path.startswith(home + os.sep))


def _folded(frames: Sequence[tuple[FrameType, int]], masked: Callable[[str], str]) -> list[Frame]:
    """The frames; what calls itself is there once, and what lies in the middle of many is not looked up."""
    places = [(frame, line, frame.f_code.co_filename, frame.f_code.co_name) for frame, line in frames]
    kept: list[tuple[int, int]] = []  # number of the frame, how often it follows itself
    for number, (_, *place) in enumerate(places):
        if kept and places[kept[-1][0]][1:] == tuple(place):
            kept[-1] = (kept[-1][0], kept[-1][1] + 1)
        else:
            kept.append((number, 0))
    found = []
    for count, (number, repeats) in enumerate(kept):
        frame, line, file, function = places[number]
        shown = count < _FIRST or count >= len(kept) - _LAST
        source = _source(file, line, frame) if shown else ""
        name = "" if function == "<module>" else function
        path = _cut(masked(_file(file)), _PATH) if shown else ""
        found.append(Frame(path, line, _cut(masked(name)), _cut(masked(source)), repeats))
    return found


def _file(name: str) -> str:
    """The file that the lines of a code object come from: inline code has put its own there."""
    import linecache

    entry = linecache.cache.get(name)
    return entry[3] if name.startswith("<") and entry is not None and len(entry) == 4 else name


def _source(name: str, line: int, frame: FrameType | None) -> str:
    import linecache

    if not name.startswith("<"):
        linecache.checkcache(name)
    return linecache.getline(name, line, None if frame is None else frame.f_globals).strip()


def _cut(text: str, limit: int = _TEXT) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
