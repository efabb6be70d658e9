"""Write a picture to a file; the suffix says what kind of file.

.dot, .mmd and .html are written with the standard library alone. .svg, .png and .pdf are laid out by Graphviz in a
child process (see render.py): a crash or a hang of the child becomes one sentence.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from lightflow.errors import VisualError
from lightflow.visuals.dot import to_dot
from lightflow.visuals.layout import LayoutWords, lay_out
from lightflow.visuals.svg import finish
from liteflow.api import Picture, to_html, to_mermaid

FORMATS: Final = ("svg", "png", "pdf", "html", "mmd", "dot")
#: 2,000 tasks take 2 s as .svg and 7 s as .png, 5,000 take 8 s and 27 s, 10,000 more than half a minute. Larger
#: pictures are not readable: another format is better.
MOST_NODES: Final = 5_000
MOST_EDGES: Final = 20_000
TIMEOUT_S: Final = 120


def write_picture(picture: Picture, output: Path, format: str | None = None) -> None:  # noqa: A002 - its name
    """Draw into a file, completely or not at all. `format` overrides the suffix of `output`.

    Raises:
        VisualError: the picture cannot be drawn or written.
    """
    chosen = _format(output, format)
    if not output.parent.is_dir():
        raise VisualError(f"cannot write {output}: there is no folder {output.parent}")
    if output.is_dir():
        raise VisualError(f"cannot write {output}: it is a folder")
    content = draw(picture, chosen)
    try:
        _replace(output, content)
    except OSError as error:
        raise VisualError(f"cannot write {output}: {error.strerror or error}") from error


def draw(picture: Picture, kind: str, timeout_s: int = TIMEOUT_S) -> bytes:
    """Return the content of a file in one of `FORMATS`. Raises VisualError."""
    if kind == "dot":
        return to_dot(picture).encode()
    if kind == "mmd":
        return to_mermaid(picture).encode()
    if kind == "html":
        return to_html(picture).encode()
    if kind not in FORMATS:
        raise VisualError(_unknown(kind))
    nodes, edges = len(picture.nodes), len(picture.edges)
    if nodes > MOST_NODES or edges > MOST_EDGES:
        raise VisualError(
            f"{nodes:,} tasks with {edges:,} dependencies are too many for a .{kind} picture "
            f"(up to {MOST_NODES:,} and {MOST_EDGES:,}); draw fewer boxes with --fold, write .html for a table of all "
            "tasks, or .dot for a viewer made for large graphs"
        )
    drawn = lay_out(
        to_dot(picture),
        kind,
        timeout_s,
        dpi="144" if nodes <= 150 else "96",
        words=LayoutWords(drawing=f"a .{kind} picture", advice="write .html, .mmd or .dot instead"),
    )
    return finish(drawn, picture) if kind == "svg" else drawn


def _format(output: Path, wanted: str | None) -> str:
    chosen = (wanted if wanted is not None else output.suffix).lower().removeprefix(".")
    if chosen not in FORMATS:
        raise VisualError(_unknown(chosen, output))
    return chosen


def _unknown(chosen: str, output: Path | None = None) -> str:
    formats = ", ".join(f".{name}" for name in FORMATS)
    if not chosen:
        return f"the format of {output} is not known: give the file one of these suffixes: {formats}"
    return f"cannot draw a .{chosen} file; the formats are {formats}"


def _replace(output: Path, content: bytes) -> None:
    """Write a temporary file next to the target and rename it, so that a reader never sees half a picture."""
    target = output.resolve()  # a symbolic link stays one
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        with target.open("wb") as device:  # /dev/stdout and pipes cannot be replaced
            device.write(content)
        return
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(content)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
