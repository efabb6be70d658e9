"""The errors of the application.

LightflowError          root: every error that the application raises itself
├─ WorkflowError        a workflow file, a parameter file or an option cannot be used
├─ CheckpointError      a checkpoint file cannot be used
└─ VisualError          a picture cannot be drawn or written

Errors of the engine have a tree of their own, `liteflow.errors`. Every error of both trees has an `exit_code`, the code
with which the command line ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")  # also bold and dim
SHOWN = 50  # problems printed; the rest is counted


class LightflowError(Exception):
    """The root of the tree. The message is text for the user."""

    exit_code: ClassVar[int] = 70


class Problem(NamedTuple):
    """A mistake in a file, and its place."""

    file: str
    line: int  #: from 1; 0: the problem concerns the whole file
    column: int  #: from 1
    path: str  #: the key, such as `tasks.train.timeout`
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        parts = (place, self.path, self.message) if self.path else (place, self.message)
        return printable(": ".join(parts))


class WorkflowError(LightflowError):
    """A workflow file cannot be used. `problems` has all problems of the file, sorted by position, each once."""

    exit_code: ClassVar[int] = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: list[Problem] = sorted(
            dict.fromkeys(problems), key=lambda problem: (problem.file, problem.line, problem.column)
        )
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        more = len(self.problems) - SHOWN
        if more > 0:
            lines.append(f"… and {more} more")
        return "\n".join(lines)


class CheckpointError(LightflowError):
    """A checkpoint file cannot be used. The message names the file."""

    exit_code: ClassVar[int] = 3


class VisualError(LightflowError):
    """A picture cannot be drawn or written. The message is one sentence."""

    exit_code: ClassVar[int] = 2


def printable(text: str) -> str:
    """Return the text on one line, with each character that a terminal could obey as an escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def escape_controls(text: str) -> str:
    """Return the text with its line ends and tabs, and each other character that a terminal could obey as an escape."""
    if all(line.isprintable() for line in text.split("\n")):
        return text
    return "\n".join("\t".join(printable(part) for part in line.split("\t")) for line in text.split("\n"))


def plain_text(text: str) -> str:
    """Return the output of a task without colours, with `\\n` at each line end, else as `escape_controls`."""
    return escape_controls(_COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def quoted(value: object, limit: int = 60) -> str:
    """Return a name or value of a file in quotes, short enough for a message."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return f'"{text}"'


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `, did you mean "…"?` with the most similar known word, or empty text."""
    names: Sequence[str] = list(known)[:5000]  # comparing is slow; the first 5,000 are enough
    if len(word) > 200:
        return ""
    import difflib  # only needed after a typing mistake

    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not near:
        folded = [name for name in names if name.casefold() == word.casefold()]
        near = folded[:1]
    return f', did you mean "{near[0]}"?' if near else ""
