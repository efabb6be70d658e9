"""Bodies that were shipped to this machine: pickled, in files named by their digest.

Only a worker unpickles: the code of a user runs nowhere else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence

from liteflow.errors import InputError
from liteflow.work import Body


class StoredBodies(Mapping[str, Body]):
    """The bodies in a folder by digest. Each process unpickles a body once."""

    def __init__(self, folder: str, code_folders: Sequence[str], host: str) -> None:
        """Take the folder, those in which the code of the run is, as far as they exist here, and a name for people."""
        self._folder = folder
        self._code_folders = [path for path in code_folders if os.path.isdir(path)]
        self._host = host
        self._bodies: dict[str, Body] = {}
        self._finds_code = False

    def __getitem__(self, digest: str) -> Body:
        """Return a body. Raises InputError: its code cannot be imported here."""
        body = self._bodies.get(digest)
        if body is None:
            body = self._bodies[digest] = self._load(digest)
        return body

    def _load(self, digest: str) -> Body:
        import pickle  # in workers only

        if not self._finds_code:
            self._finds_code = True
            sys.path[:0] = self._code_folders
        with open(os.path.join(self._folder, digest), "rb") as file:
            data = file.read()
        try:
            body: Body = pickle.loads(data)
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

    def __iter__(self) -> Iterator[str]:
        return iter(self._bodies)

    def __len__(self) -> int:
        return len(self._bodies)
