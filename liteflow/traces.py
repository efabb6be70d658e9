"""The places in user code from which an exception came, as plain data that is stored with its message.

The full traceback is text. Only the exception itself shows which frames are user code, from which file the lines of
inline code come, and which exception caused which.
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
_ENGINE: Final = ("liteflow", "lightflow", "importlib")  # packages that contain no user code


class Frame(NamedTuple):
    """A place in user code. `function` is empty at the top level, `source` if the line cannot be read."""

    file: str
    line: int
    function: str
    source: str
    repeats: int = 0  # how often the frame follows itself in a recursion


class TracedException(NamedTuple):
    """An exception. `relation` is its relation to the previous exception: its `cause`, its `context` (that was being
    handled) or a `member` of the group; it is empty for the first exception.
    """

    error: str
    relation: str = ""
    frames: Sequence[Frame] = ()
    left_out: int = 0  # frames after the first three
    notes: Sequence[str] = ()


def to_json(trace: Sequence[TracedException]) -> str:
    """Return the stored form."""
    shapes = [
        [*raised[:2], [list(frame) for frame in raised.frames], raised.left_out, list(raised.notes)] for raised in trace
    ]
    return json.dumps(shapes, separators=(",", ":"))


def from_json(text: str | None) -> list[TracedException]:
    """Return the stored exceptions; entries of an altered file that are not valid are left out."""
    try:
        shapes = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []
    return [_raised(shape) for shape in shapes if _is_raised(shape)] if isinstance(shapes, list) else []


def _raised(shape: list[Any]) -> TracedException:
    error, relation, frames, left_out, notes = shape
    return TracedException(
        error, relation, tuple(Frame(*frame) for frame in frames if _is_frame(frame)), left_out, tuple(notes)
    )


def _is_raised(shape: object) -> bool:
    return (
        isinstance(shape, list)
        and [*map(type, shape)] == [str, str, list, int, list]
        and all(isinstance(note, str) for note in shape[4])
    )


def _is_frame(shape: object) -> bool:
    return isinstance(shape, list) and [*map(type, shape)] == [str, int, str, str, int]


# -- tracing -------------------------------------------------------------------------------------------------------


def trace_of(
    error: BaseException, masked: Callable[[str], str], words: Callable[[BaseException], str]
) -> list[TracedException]:
    """Return the exception and the exceptions that it came from, the last one first.

    It never raises, even if their methods do. `masked` removes secrets from a text; `words` returns the message of an
    exception without secrets.
    """
    trace: list[TracedException] = []
    try:
        for related, relation in _related(error):
            if len(trace) == _EXCEPTIONS:
                break
            trace.append(_traced(related, relation, masked, words))
    except BaseException:  # noqa: BLE001 - attributes of an exception may be user code
        return trace
    return trace


def _related(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """Yield an exception, the members of a group, and their causes and contexts; each once."""
    seen: set[int] = set()
    stack = [(error, "")]
    while stack:
        related, relation = stack.pop()
        if id(related) in seen:
            continue
        seen.add(id(related))
        yield related, relation
        if related.__cause__ is not None:
            stack.append((related.__cause__, "cause"))
        elif related.__context__ is not None and not related.__suppress_context__:
            stack.append((related.__context__, "context"))
        if isinstance(related, BaseExceptionGroup):
            stack += [(member, "member") for member in reversed(related.exceptions[:_EXCEPTIONS])]


def _traced(
    error: BaseException, relation: str, masked: Callable[[str], str], words: Callable[[BaseException], str]
) -> TracedException:
    frames = _frames(_user_frames(error.__traceback__), masked)
    if isinstance(error, SyntaxError) and isinstance(error.filename, str):
        source = error.text.strip() if isinstance(error.text, str) else _source(error.filename, error.lineno or 0, None)
        frames.append(Frame(_cut(masked(_file(error.filename)), _PATH), error.lineno or 0, "", _cut(masked(source))))
    left_out = max(0, len(frames) - _FIRST - _LAST)
    if left_out:
        del frames[_FIRST : _FIRST + left_out]
    notes = getattr(error, "__notes__", None)
    shown = [_cut(masked(note)) for note in notes[:_NOTES] if isinstance(note, str)] if isinstance(notes, list) else []
    return TracedException(_cut(words(error)), relation, tuple(frames), left_out, tuple(shown))


def _user_frames(trace: TracebackType | None) -> list[tuple[FrameType, int]]:
    """Return the frames of user code; where there are none, those of libraries."""
    frames = []
    while trace is not None:
        frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    foreign = [place for place in frames if not is_engine_frame(place[0])]
    return [place for place in foreign if not _is_library(place[0].f_code.co_filename)] or foreign


def is_engine_frame(frame: FrameType) -> bool:
    """Return whether a frame belongs to the engine, the application, or the import of a module for them."""
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and name.partition(".")[0] in _ENGINE


def _is_library(path: str) -> bool:
    home = os.path.dirname(getattr(os, "__file__", None) or "")
    parts = path.split(os.sep)
    return "site-packages" in parts or "dist-packages" in parts or bool(home and path.startswith(home + os.sep))


def _frames(frames: Sequence[tuple[FrameType, int]], masked: Callable[[str], str]) -> list[Frame]:
    """Return the frames: a recursion as one frame, and of many frames the middle ones without their source."""
    places = [(frame, line, frame.f_code.co_filename, frame.f_code.co_name) for frame, line in frames]
    distinct: list[tuple[int, int]] = []  # number of the frame, how often it follows itself
    for number, (_, *place) in enumerate(places):
        if distinct and places[distinct[-1][0]][1:] == tuple(place):
            distinct[-1] = (distinct[-1][0], distinct[-1][1] + 1)
        else:
            distinct.append((number, 0))
    traced = []
    for count, (number, repeats) in enumerate(distinct):
        frame, line, file, function = places[number]
        is_shown = count < _FIRST or count >= len(distinct) - _LAST
        source = _source(file, line, frame) if is_shown else ""
        name = "" if function == "<module>" else function
        path = _cut(masked(_file(file)), _PATH) if is_shown else ""
        traced.append(Frame(path, line, _cut(masked(name)), _cut(masked(source)), repeats))
    return traced


def _file(name: str) -> str:
    """Return the file of a code object's lines; inline code has registered its file with `linecache`."""
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
