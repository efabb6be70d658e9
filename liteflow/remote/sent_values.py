"""The values that an agent has from the owner of the run: which attempts need them, and which it can drop."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Final

from liteflow.remote.ferry import files_of
from liteflow.values.payload import Payload

#: Bytes of values that no attempt needs now and that stay, because the next one may.
MOST_UNUSED_BYTES: Final = 128 * 1024 * 1024

#: The user of values: the node of an attempt, or the negative number of an undo.
User = int


class SentValues:
    """The large values of one agent, as its owner has them.

    Only the owner decides what the agent drops, by a message before those that rely on it: so none is missing there.
    """

    def __init__(self, most_unused_bytes: int = MOST_UNUSED_BYTES) -> None:
        self._most_unused_bytes = most_unused_bytes
        self._names: dict[User, tuple[str, ...]] = {}  # what each needs
        self._users: dict[str, int] = {}  # how many need each
        self._used: dict[str, int] = {}  # the sizes of those that are there and needed
        self._unused: dict[str, int] = {}  # the sizes of the others; the first was needed longest ago
        self._unused_bytes = 0

    def need(self, user: User, payloads: Mapping[str, Payload] | None) -> None:
        """Note that something needs the values that are files, from now on until its `end`."""
        names = tuple({_name(payload) for payload in files_of(payloads)})
        for name in names:
            self._users[name] = self._users.get(name, 0) + 1
            if name in self._unused:
                self._used[name] = self._unused.pop(name)
                self._unused_bytes -= self._used[name]
        if names:
            self._names[user] = self._names.get(user, ()) + names

    def missing(self, payloads: Mapping[str, Payload] | None) -> Iterator[Payload]:
        """Yield the values that are files and that the agent does not have."""
        for payload in files_of(payloads):
            name = _name(payload)
            if name not in self._used and name not in self._unused:
                yield payload

    def note_sent(self, payload: Payload) -> None:
        """Note that the agent has a value."""
        name = _name(payload)
        if name in self._users:
            self._used[name] = payload.size
        else:  # what needed it has ended meanwhile
            self._retire(name, payload.size)

    def end(self, user: User) -> list[str]:
        """Note that something has ended, and needs no values. Return the names of those that the agent is to drop."""
        for name in self._names.pop(user, ()):
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]
                if name in self._used:
                    self._retire(name, self._used.pop(name))
        dropped = []
        while self._unused_bytes > self._most_unused_bytes and len(self._unused) > 1:
            name = next(iter(self._unused))
            self._unused_bytes -= self._unused.pop(name)
            dropped.append(name)
        return dropped

    def _retire(self, name: str, size: int) -> None:
        self._unused[name] = size
        self._unused_bytes += size


def _name(payload: Payload) -> str:
    return os.path.basename(payload.file or "")
