"""The files of the dashboard: read once, with a compressed copy and an ETag for each.

They hold no data, so they need no token. Their paths are a fixed table: a request can name nothing else.
"""

from __future__ import annotations

import functools
import gzip
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from lightflow.server.routing import Answer
from liteflow.api import ALL_STYLES, Record, StatusStyle, sha256_hex

_FOLDER: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pages")
_PREFIX: Final = "/ui/"
_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_SMALLEST_COMPRESSED: Final = 400  # bytes; below, the header costs what compression saves


class StaticFile(Record):
    """A file of the dashboard."""

    content: bytes
    compressed: bytes | None
    etag: str
    media_type: str


@functools.cache
def static_paths() -> frozenset[str]:
    """Return the paths of the requests for files of the dashboard."""
    return frozenset(_files())


def answer_static(path: str, headers: Sequence[tuple[bytes, bytes]]) -> Answer:
    """Return the answer to a request for a file of the dashboard: 304 where the browser has it."""
    file = _files()[path]
    sent = {name: value.decode("latin-1") for name, value in headers}
    answer_headers = {"ETag": file.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if file.etag in [each.strip() for each in sent.get(b"if-none-match", "").split(",")]:
        return Answer(body=b"", status=304, media_type=file.media_type, headers=answer_headers)
    encodings = [each.partition(";")[0].strip() for each in sent.get(b"accept-encoding", "").split(",")]
    if file.compressed is not None and "gzip" in encodings:
        compressed_headers = {**answer_headers, "Content-Encoding": "gzip"}
        return Answer(body=file.compressed, media_type=file.media_type, headers=compressed_headers)
    return Answer(body=file.content, media_type=file.media_type, headers=answer_headers)


@functools.cache
def _files() -> Mapping[str, StaticFile]:
    """Return all files by the path of their requests."""
    files = {}
    for folder, _, names in os.walk(_FOLDER):
        for name in names:
            media_type = _MEDIA_TYPES.get(os.path.splitext(name)[1])
            if media_type is None:
                continue
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                content = file.read()
            relative = os.path.relpath(path, _FOLDER)
            for ending in _ENDS.get(relative, ()):
                content += ending().encode()
            files["/" if relative == "index.html" else _PREFIX + relative] = _static_file(content, media_type)
    return files


def _static_file(content: bytes, media_type: str) -> StaticFile:
    is_small = len(content) < _SMALLEST_COMPRESSED
    return StaticFile(
        content=content,
        compressed=None if is_small else gzip.compress(content, 9, mtime=0),
        etag=f'"{sha256_hex(content)[:32]}"',
        media_type=media_type,
    )


def _state_css() -> str:
    """Return the colours of all states, for light and dark pages."""
    light = "\n".join(_rule(state, style, dark=False) for state, style in ALL_STYLES.items())
    dark = "\n".join(_rule(state, style, dark=True) for state, style in ALL_STYLES.items())
    return (
        f"\n{light}\n@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{\n{dark}\n}} }}\n"
        f":root[data-theme=dark] {{\n{dark}\n}}\n"
    )


def _rule(state: str, style: StatusStyle, *, dark: bool) -> str:
    colours = style.dark if dark else style.light
    border = "dashed" if style.dashed else "solid"
    return (
        f'[data-state="{state}"] {{ --fill: {colours.fill}; --stroke: {colours.stroke}; --ink: {colours.ink}; '
        f"--border: {border} }}"
    )


def _state_script() -> str:
    """Return the signs and words of all states, which pages show with the colours."""
    looks = {state: [style.sign, style.word] for state, style in ALL_STYLES.items()}
    return f"\nexport const LOOKS = {json.dumps(looks, ensure_ascii=False)};\n"


def _view_css() -> str:
    """Return the style of the graph, the grid, the Gantt chart and the log."""
    with open(os.path.join(_FOLDER, "views.css"), encoding="utf-8") as file:
        return file.read()


#: The ends of files: pictures and pages have the looks of states from one table, and a page reads one stylesheet.
_ENDS: Final[Mapping[str, tuple[Callable[[], str], ...]]] = {
    "ui.css": (_view_css, _state_css),
    "kit.js": (_state_script,),
}
