"""Bodies that were shipped to this machine: pickled, in files named by their digest.

Only a worker unpickles: the code of a user runs nowhere else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from liteflow.errors import InputError
from liteflow.work import Body, Call

_MOST_LOADED: Final = 256


class CallArguments(NamedTuple):
    """A call whose function other tasks share."""

    digest: str  # of the call without arguments
    kwargs: Mapping[str, Any]


class StoredBodies(Mapping[Any, Body]):
    """The bodies in a folder by digest. Each process unpickles a body once, as long as there are few.

    A key of bytes is the pickle of a body itself. It may hold the digest of a function, and its arguments.
    """

    def __init__(self, folder: str, code_folders: Sequence[str], host: str, place: Callable[[str], str]) -> None:
        """Take the folder, those in which the code of the run is, as far as they exist here, and a name for people.

        `place` returns the path that a folder of the run's machine has here.
        """
        self._folder = folder
        self._code_folders = list(map(place, code_folders))
        self._place = place
        self._host = host
        self._bodies: dict[str | bytes, Body] = {}
        self._finds_code = False

    def __getitem__(self, key: str | bytes) -> Body:
        """Return a body. Raises InputError: its code cannot be imported here."""
        body = self._bodies.get(key)
        if body is None:
            loaded = self._load(key)
            if isinstance(loaded, CallArguments):
                call = self[loaded.digest]
                assert isinstance(call, Call)
                return call._replace(kwargs=loaded.kwargs)
            body = loaded if loaded.cwd is None else loaded._replace(cwd=self._place(loaded.cwd))
            if len(self._bodies) >= _MOST_LOADED:  # each task has a body of its own
                self._bodies.clear()
            self._bodies[key] = body
        return body

    def _load(self, key: str | bytes) -> Body | CallArguments:
        import pickle  # in workers only

        if not self._finds_code:
            self._finds_code = True
            sys.path[:0] = [path for path in self._code_folders if os.path.isdir(path)]
        data = key if isinstance(key, bytes) else self._read(key)
        try:
            body: Body | CallArguments = pickle.loads(data)
        except ImportError as error:
            raise InputError(
                f"the function cannot be loaded on {self._host}: {error}: install the module there, or have the task "
                "run where it is"
            ) from None
        except Exception as error:  # noqa: BLE001 - unpickling runs the user's code
            raise InputError(
                f"the function cannot be loaded on {self._host}: {type(error).__name__}: {error}"
            ) from None
        return body

    def _read(self, digest: str) -> bytes:
        with open(os.path.join(self._folder, digest), "rb") as file:
            return file.read()

    def __iter__(self) -> Iterator[str | bytes]:
        return iter(self._bodies)

    def __len__(self) -> int:
        return len(self._bodies)
