"""The files of the dashboard: read once, with a compressed copy and an ETag for each.

They hold no data, so they need no token. Their paths are a fixed table: a request can name nothing else.
"""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from lightflow.server.routing import Answer
from lightflow.server.script import joined_script, packed_style
from liteflow.api import ALL_STYLES, Record, StatusStyle, sha256_hex

_FOLDER: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pages")
_STYLES: Final = ("ui.css", "views.css")
_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_GZIP: Final = 31  # the format, for zlib
_BLOCK_MEMORY: Final = 7  # a little less than usual: more blocks, each with codes for what it has
_SMALLEST_COMPRESSED: Final = 400  # bytes; below, the header costs what compression saves


class StaticFile(Record):
    """A file of the dashboard."""

    content: bytes
    compressed: bytes | None
    etag: str
    media_type: str


#: The paths of the requests for files of the dashboard.
STATIC_PATHS: Final = frozenset({"/", "/ui/ui.css", "/ui/app.js"})


def static_file(path: str) -> StaticFile:
    """Return a file by the path of its requests."""
    return _files()[path]


def answer_static(path: str, headers: Sequence[tuple[bytes, bytes]]) -> Answer[bytes]:
    """Return the answer to a request for a file of the dashboard: 304 where the browser has it."""
    file = static_file(path)
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
    styles = "".join(map(_read, _STYLES)) + _state_css()
    texts = {
        "/": _read("index.html"),
        "/ui/ui.css": packed_style(styles),
        "/ui/app.js": joined_script(module_text, "app.js"),
    }
    return {path: _static_file(text.encode(), _media_type(path)) for path, text in texts.items()}


def _read(name: str) -> str:
    with open(os.path.join(_FOLDER, name), encoding="utf-8") as file:
        return file.read()


def module_text(name: str) -> str:
    """Return the text of a module; that of `kit.js` has the looks of states, which pictures and pages share."""
    return _read(name) + (_state_script() if name == "kit.js" else "")


def _media_type(path: str) -> str:
    return _MEDIA_TYPES[os.path.splitext(path)[1] or ".html"]


def _static_file(content: bytes, media_type: str) -> StaticFile:
    is_small = len(content) < _SMALLEST_COMPRESSED
    return StaticFile(
        content=content,
        compressed=None if is_small else _compressed(content),
        etag=f'"{sha256_hex(content)[:32]}"',
        media_type=media_type,
    )


def _compressed(content: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, _GZIP, _BLOCK_MEMORY)
    return compressor.compress(content) + compressor.flush()


def _state_css() -> str:
    """Return the colours of all states, for light and dark pages."""
    return "\n".join(_rule(state, style) for state, style in ALL_STYLES.items()) + "\n"


def _rule(state: str, style: StatusStyle) -> str:
    light, dark = style.light, style.dark
    colours = "".join(
        f"--{name}:light-dark({on_light},{on_dark});"
        for name, on_light, on_dark in (
            ("fill", light.fill, dark.fill),
            ("stroke", light.stroke, dark.stroke),
            ("ink", light.ink, dark.ink),
        )
    )
    return f"[data-state={state}]{{{colours}--border:{'dashed' if style.dashed else 'solid'}}}"


def _state_script() -> str:
    """Return the signs and words of all states, which pages show with the colours."""
    looks = {state: [style.sign, style.word] for state, style in ALL_STYLES.items()}
    return f"\nexport const LOOKS = {json.dumps(looks, ensure_ascii=False)};\n"
