"""What is wrong with a workflow file, in one line each.

`Problem` is one mistake with its place; `WorkflowError` carries all of them at once, so that a
person mends a file in one go. Text that comes from the file is made printable before it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")  # and weights: noise where they are not obeyed
SHOWN = 50  # problems printed; the rest is counted


class Problem(NamedTuple):
    """One mistake. `line` and `column` count from 1 (0: the whole file); `path` is like `tasks.train.timeout`."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        parts = (place, self.path, self.message) if self.path else (place, self.message)
        return printable(": ".join(parts))


class WorkflowError(Exception):
    """A workflow file cannot be used. `problems` are sorted by position, without repetitions."""

    exit_code = 2

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


def printable(text: str) -> str:
    """`text` on one line, with everything a terminal might obey shown as an escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def harmless(text: str) -> str:
    """`text` with its line ends and tabs; everything else that a terminal might obey is shown as an escape."""
    if all(line.isprintable() for line in text.split("\n")):
        return text
    return "\n".join("\t".join(printable(part) for part in line.split("\t")) for line in text.split("\n"))


def tame(text: str) -> str:
    """Text of a task for people: line ends and tabs work, colours go, all else that a terminal might obey is shown."""
    return harmless(_COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def quoted(value: object, limit: int = 60) -> str:
    """A name or value from the file, short enough for a message."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return f'"{text}"'


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean "…"?` for the nearest known word, or nothing."""
    names: Sequence[str] = list(known)[:5000]  # comparing is slow: the nearest of the first 5,000 will do
    if len(word) > 200:
        return ""
    import difflib  # only who has mistyped something needs it

    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not near:
        folded = [name for name in names if name.casefold() == word.casefold()]
        near = folded[:1]
    return f', did you mean "{near[0]}"?' if near else ""
