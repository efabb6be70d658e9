"""The errors of the application.

LightflowError          root: every error that the application raises itself
├─ WorkflowError        a workflow file, a parameter file or an option cannot be used
├─ CheckpointError      a checkpoint file cannot be used
└─ VisualError          a picture cannot be drawn or written

Errors of the engine have a tree of their own, `liteflow.errors`. Every error of both trees has an `exit_code`, the code
with which the command line ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from lightflow.text import printable
from liteflow.api import Record

SHOWN = 50  # problems printed; the rest is counted


class LightflowError(Exception):
    """The root of the tree. The message is text for the user."""

    exit_code: ClassVar[int] = 70


class Location(Record, kw_only=False):
    """A place in a file."""

    file: str
    line: int  #: from 1; 0: the whole file
    column: int  #: from 1
    path: str  #: the key, such as `tasks.train.timeout`

    def problem(self, message: str) -> Problem:
        """Return a problem at this place."""
        return Problem(self.file, self.line, self.column, self.path, message)


class Problem(Record, kw_only=False):
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
        hidden = len(self.problems) - SHOWN
        if hidden > 0:
            lines.append(f"… and {hidden} more")
        return "\n".join(lines)


class CheckpointError(LightflowError):
    """A checkpoint file cannot be used. The message names the file."""

    exit_code: ClassVar[int] = 3


class VisualError(LightflowError):
    """A picture cannot be drawn or written. The message is one sentence."""

    exit_code: ClassVar[int] = 2
