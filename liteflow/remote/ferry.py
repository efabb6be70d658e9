"""Values between machines: payloads pass unopened, and a payload that is a file passes in pieces.

Both sides know such a value by its SHA-256. The receiver computes it again, and gives the file its name only when it is
complete.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from typing import Any, BinaryIO, Final

from liteflow.digest import sha256
from liteflow.errors import PayloadError
from liteflow.remote.link import Link, Message
from liteflow.values.payload import SPILLED_NAME, Payload

#: Bytes of a piece of a value or a log.
PIECE_BYTES: Final = 256 * 1024
#: Bytes that wait in a link before less urgent messages wait outside of it.
_BACKLOG_BYTES: Final = 4 * 1024 * 1024


class Outbox:
    """Messages that are made as the link takes them, so that a large value is never in memory as a whole."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sources: deque[Iterator[Message]] = deque()

    def add(self, messages: Iterator[Message]) -> None:
        """Send messages after all that were added before."""
        self._sources.append(messages)
        self.pump()

    @property
    def has_room(self) -> bool:
        """Whether the link takes more without a long backlog."""
        return self._link.backlog_bytes < _BACKLOG_BYTES and not self._link.eof

    def put(self, message: Message) -> None:
        """Put a message into the link, which is flushed when that makes its backlog long."""
        self._link.put(message)
        if self._link.backlog_bytes >= _BACKLOG_BYTES:
            self._link.flush()

    def pump(self) -> None:
        """Put messages into the link as long as it takes them; the caller flushes the link."""
        while self._sources and self.has_room:
            source = self._sources[0]
            message = next(source, None)
            if message is not None:
                self.put(message)
            elif self._sources and self._sources[0] is source:
                self._sources.popleft()

    def close(self) -> None:
        """Drop what waits, and close the files that it reads."""
        sources, self._sources = self._sources, deque()
        for source in sources:
            if isinstance(source, Generator):
                source.close()

    def __bool__(self) -> bool:
        """Whether messages wait."""
        return bool(self._sources)


def files_of(payloads: Mapping[str, Payload] | None) -> Iterator[Payload]:
    """Yield the payloads that are files, also those inside of lists."""
    for payload in (payloads or {}).values():
        yield from _files_in(payload)


def _files_in(payload: Payload) -> Iterator[Payload]:
    if isinstance(payload.data, tuple):
        for part in payload.data:
            yield from _files_in(Payload._make(part))
    elif payload.file is not None:
        yield payload


def moved(payloads: Mapping[str, Payload] | None, folder: str | None) -> dict[str, Payload] | None:
    """Return payloads with the paths that their files have in another folder."""
    return None if payloads is None else {name: moved_payload(payload, folder) for name, payload in payloads.items()}


def moved_payload(payload: Payload, folder: str | None) -> Payload:
    """Return a payload with the path that its file has in another folder. Raises PayloadError: there is no folder."""
    if isinstance(payload.data, tuple):
        return payload._replace(data=tuple(tuple(moved_payload(Payload._make(part), folder)) for part in payload.data))
    if payload.file is None:
        return payload
    if folder is None:
        raise PayloadError("a value is a file, and the run has no folder for such values")
    return payload._replace(file=os.path.join(folder, os.path.basename(payload.file)))


def value_messages(payload: Payload) -> Iterator[Message]:
    """Yield the messages that bring the file of a payload to the other side.

    Raises:
        PayloadError: the file cannot be read.
    """
    assert payload.file is not None
    name = os.path.basename(payload.file)
    try:
        with open(payload.file, "rb") as file:
            while data := file.read(PIECE_BYTES):
                yield ("value", name, data)
    except OSError as error:
        raise PayloadError(f"{payload.file}: a stored value cannot be read: {error.strerror}") from None
    yield ("value_end", name)


class _Arriving:
    """A value of which a part has arrived."""

    __slots__ = ("digest", "file", "path")

    def __init__(self, folder: str, name: str) -> None:
        self.path = os.path.join(folder, f".writing-{name.partition('.')[0]}_{os.getpid()}")
        self.file: BinaryIO = open(self.path, "wb", opener=_private)  # noqa: SIM115 - closed when it is complete
        self.digest: Any = sha256()


class ValueReceiver:
    """Writes the values that arrive into a folder."""

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._arriving: dict[str, _Arriving] = {}
        self.problem: str | None = None  # why the first value could not be written that was not

    def receive(self, name: str, data: bytes) -> None:
        """Take the next piece of a value. A failure is noted in `problem`."""
        try:
            arriving = self._arriving.get(name) or self._begin(name)
            arriving.file.write(data)
            arriving.digest.update(data)
        except OSError as error:
            self._note(error)

    def _begin(self, name: str) -> _Arriving:
        if self._folder is None or not re.match(SPILLED_NAME, name) or name.startswith("."):
            raise OSError(0, "it has no valid name")
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        arriving = self._arriving[name] = _Arriving(self._folder, name)
        return arriving

    def complete(self, name: str) -> None:
        """Give a value its name, once all of it has arrived."""
        arriving = self._arriving.pop(name, None)
        if arriving is None or self._folder is None:
            return
        try:
            arriving.file.close()
            if arriving.digest.hexdigest() != name.partition(".")[0]:
                raise OSError(0, "it has changed on the way")
            os.replace(arriving.path, os.path.join(self._folder, name))
        except OSError as error:
            self._note(error)
            _remove(arriving.path)

    def _note(self, error: OSError) -> None:
        self.problem = self.problem or f"a value cannot be written into {self._folder}: {error.strerror}"

    def close(self) -> None:
        """Remove what is not complete."""
        for arriving in self._arriving.values():
            arriving.file.close()
            _remove(arriving.path)
        self._arriving.clear()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
