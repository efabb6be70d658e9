"""Start the child process that lays out a graph with Graphviz, and turn each of its failures into a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lightflow.errors import VisualError
from lightflow.visuals import render
from liteflow.api import Record


class LayoutWords(Record):
    """The words for the messages of a failure."""

    drawing: str  #: what could not be drawn: "a .svg picture"
    advice: str  #: what to do instead: "write .html instead"


def lay_out(dot: str, kind: str, timeout_s: int, *, words: LayoutWords, dpi: str = "96") -> bytes:
    """Return a picture in a format of Graphviz, or the `geometry` of one.

    Raises:
        VisualError: Graphviz is missing, fails, crashes or takes too long.
    """
    command = [sys.executable, "-P", str(Path(render.__file__)), kind, str(timeout_s + 5), dpi]
    try:
        done = subprocess.run(command, input=dot.encode(), capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise VisualError(
            f"the layout of {words.drawing} took more than {timeout_s} s and was stopped; {words.advice}"
        ) from None
    except OSError as error:
        raise VisualError(f"cannot start {sys.executable} to draw: {error.strerror or error}") from error
    # Warnings of fontconfig and Graphviz are not shown: they are about looks, not about success.
    errors = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode == render.NOT_INSTALLED:
        raise VisualError(
            f"{words.drawing} needs pygraphviz: install it with `pip install 'lightflow-workflows[pictures]'`; "
            f"{words.advice}"
        )
    if done.returncode < 0:
        raise VisualError(f"Graphviz was stopped by signal {-done.returncode} while drawing; {words.advice}")
    if done.returncode != 0 or not done.stdout:
        reason = errors[-1][:300] if errors else f"exit code {done.returncode}"
        raise VisualError(f"Graphviz could not draw {words.drawing} ({reason}); {words.advice}")
    return done.stdout
