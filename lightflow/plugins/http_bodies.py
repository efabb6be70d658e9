"""The bodies of HTTP requests: JSON, forms, text, files, and several parts. Files are sent without being in memory."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Final, NamedTuple

from liteflow import TaskFailed

#: The keys that are a body.
BODIES: Final = ("json", "form", "body", "file", "multipart")


class Body(NamedTuple):
    """A body that can be opened several times, as for several servers."""

    open: Callable[[], bytes | BinaryIO] | None = None  # None: the request has no body
    size: int | None = None  # in bytes
    media_type: str = ""


def body_of(config: Mapping[str, Any]) -> Body:
    """Return the body of a request. Raises TaskFailed: a file cannot be read."""
    if "json" in config:
        data, media_type = json.dumps(config["json"], ensure_ascii=False, default=str).encode(), "application/json"
    elif "form" in config:
        from urllib.parse import urlencode

        data = urlencode(list(pairs_of(config["form"]))).encode()
        media_type = "application/x-www-form-urlencoded"
    elif "body" in config:
        data, media_type = scalar(config["body"]).encode(), "text/plain; charset=utf-8"
    elif "multipart" in config:
        return _multipart(config["multipart"])
    elif "file" in config:
        path = config["file"]
        return Body(lambda: _opened(path), _size(path), "application/octet-stream")
    else:
        return Body()
    return Body(lambda: data, len(data), media_type)


def pairs_of(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names and values of a form or a query; a list means its name several times."""
    for name, value in values.items():
        for item in value if isinstance(value, list) else [value]:
            yield name, scalar(item)


def scalar(value: Any) -> str:
    """Return a value of a query, a form or a header as text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _multipart(parts: Mapping[str, Any]) -> Body:
    """Return a body of several parts, as `multipart/form-data` has them."""
    from urllib3.fields import RequestField
    from urllib3.filepost import choose_boundary

    boundary = choose_boundary()
    pieces: list[bytes | str] = []  # a text is the path of a file
    for name, part in parts.items():
        is_file = isinstance(part, dict)
        filename = os.path.basename(part["file"]) if is_file else None
        field = RequestField(name, b"", filename=filename)
        field.make_multipart(content_type=part.get("type", "application/octet-stream") if is_file else None)
        head = f"--{boundary}\r\n{field.render_headers()}".encode()
        pieces += [head, part["file"] if is_file else scalar(part).encode(), b"\r\n"]
    pieces.append(f"--{boundary}--\r\n".encode())
    size = sum(_size(piece) if isinstance(piece, str) else len(piece) for piece in pieces)
    return Body(lambda: io.BufferedReader(_Pieces(pieces)), size, f"multipart/form-data; boundary={boundary}")


class _Pieces(io.RawIOBase):
    """A stream of texts and of files, which are opened one after the other."""

    def __init__(self, pieces: Sequence[bytes | str]) -> None:
        self._pieces = iter(pieces)
        self._piece: BinaryIO = io.BytesIO()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not (count := self._piece.readinto(buffer)):  # type: ignore[attr-defined]  # of every binary file
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._piece.close()
            self._piece = _opened(piece) if isinstance(piece, str) else io.BytesIO(piece)
        return int(count)

    def close(self) -> None:
        self._piece.close()
        super().close()


def _size(path: str) -> int:
    with _opened(path) as file:
        return os.fstat(file.fileno()).st_size


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        text = f"the file {path} cannot be read: {error.strerror}"
        raise TaskFailed(text, codes=("http:file",), final=True) from None
