"""Values between machines: payloads pass unopened, and a payload that is a file passes in pieces.

Both sides know such a value by its SHA-256. The receiver computes it again, and gives the file its name only when it is
complete.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO, Final

from liteflow.digest import sha256
from liteflow.errors import PayloadError
from liteflow.record import replace
from liteflow.remote.link import Link, Message
from liteflow.values.payload import SPILLED_NAME, Payload
from liteflow.work import Outcome, Work

#: Bytes of a piece of a value or a log.
PIECE_BYTES: Final = 256 * 1024
#: Bytes that wait in a link before less urgent messages wait outside of it.
_BACKLOG_BYTES: Final = 256 * 1024


class Outbox:
    """Messages that are made as the link takes them, so that a large value is never in memory as a whole."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sources: deque[Iterator[Message]] = deque()

    def add(self, messages: Iterator[Message]) -> None:
        """Send messages after all that were added before."""
        self._sources.append(messages)
        self.pump()

    def add_first(self, messages: Iterator[Message]) -> None:
        """Send messages before those that wait: there are few, and they belong to none of the others."""
        self._sources.appendleft(messages)
        self.pump()

    def has_room(self) -> bool:
        """Return whether the link takes more without a long backlog."""
        return self._link.backlog_bytes < _BACKLOG_BYTES and not self._link.eof

    def put(self, message: Message) -> None:
        """Put a message into the link, which is flushed when that makes its backlog long."""
        self._link.put(message)
        if self._link.backlog_bytes >= _BACKLOG_BYTES:
            self._link.flush()

    def pump(self) -> None:
        """Put messages into the link as long as it takes them; the caller flushes the link."""
        while self._sources and self.has_room():
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


def values_of(outcome: Outcome) -> dict[str, Payload]:
    """Return all values of an outcome; the returned one has the empty name."""
    return {**({} if outcome.value is None else {"": outcome.value}), **(outcome.pushed or {})}


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


def payloads_of(work: Work) -> list[Mapping[str, Payload]]:
    """Return the values that a work has."""
    return [payloads for payloads in (work.inputs, work.items, work.previous) if payloads]


def moved_work(work: Work, folder: str) -> Work:
    """Return a work with the paths that the files of its values have in another folder; most works have none."""
    if not any(any(files_of(payloads)) for payloads in payloads_of(work)):
        return work
    inputs, items, previous = moved(work.inputs, folder), moved(work.items, folder), moved(work.previous, folder)
    return replace(work, inputs=inputs, items=items, previous=previous)


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

    def __init__(self, folder: str | None, name: str) -> None:
        self._folder = folder
        self._name = name
        self._path = os.path.join(folder or "", f".writing-{name.partition('.')[0]}_{os.urandom(8).hex()}")
        self._file: BinaryIO | None = None
        self._digest: Any = sha256()
        self.problem: str | None = None  # why it cannot be stored

    def write(self, data: bytes) -> None:
        if self.problem is None:
            try:
                self._opened().write(data)
                self._digest.update(data)
            except OSError as error:
                self._fail(error)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            if self._folder is None or not re.match(SPILLED_NAME, self._name) or self._name.startswith("."):
                raise OSError(0, "it has no valid name")
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._file = open(self._path, "wb", opener=_private)  # noqa: SIM115 - closed when it is complete
        return self._file

    def complete(self) -> None:
        """Give it its name, unless there is a problem."""
        if self.problem is not None:
            return
        try:
            self._opened().close()
            if self._digest.hexdigest() != self._name.partition(".")[0]:
                raise OSError(0, "it has changed on the way")
            os.replace(self._path, os.path.join(self._folder or "", self._name))
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.problem = f"a value cannot be written into {self._folder}: {error.strerror}"
        self.remove()

    def remove(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # what it holds back does not fit on the disk
                self._file.close()
            _remove(self._path)


class ValueReceiver:
    """Writes the values that arrive from one side of a link into a folder.

    Attributes:
        problems: by name, why values could not be stored that have arrived and did not arrive again since.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._arriving: dict[str, _Arriving] = {}
        self.problems: dict[str, str] = {}

    def receive(self, name: str, data: bytes) -> None:
        """Take the next piece of a value."""
        arriving = self._arriving.get(name)
        if arriving is None:
            arriving = self._arriving[name] = _Arriving(self._folder, name)
        arriving.write(data)

    def complete(self, name: str) -> bool:
        """Give a value its name, once all of it has arrived. Return whether it is stored; else see `problems`."""
        arriving = self._arriving.pop(name, None) or _Arriving(self._folder, name)
        arriving.complete()
        if arriving.problem is not None:
            self.problems[name] = arriving.problem
            return False
        self.problems.pop(name, None)
        return True

    def problem_of(self, payloads: Mapping[str, Payload]) -> str | None:
        """Return why one of these values is not in the folder; None: all are."""
        names = (os.path.basename(payload.file or "") for payload in files_of(payloads))
        return next(filter(None, map(self._problem_with, names)), None)

    def _problem_with(self, name: str) -> str | None:
        problem = self.problems.get(name)
        if problem is None and not os.path.exists(os.path.join(self._folder or "", name)):
            problem = f"the value {name} has not arrived"
        return problem

    def drop(self, names: Iterable[str]) -> None:
        """Remove values that nothing needs now."""
        for name in names:
            _remove(os.path.join(self._folder or "", os.path.basename(name)))

    def close(self) -> None:
        """Remove what is not complete."""
        for arriving in self._arriving.values():
            arriving.remove()
        self._arriving.clear()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
