"""Shipping: how the functions of a run get to other machines.

The engine sends a function by its name, so the module that has it must be there. The application can send it by value.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any, Final, Protocol

from liteflow.digest import sha256_hex
from liteflow.errors import PayloadError
from liteflow.executors.importable import by_name, import_problem
from liteflow.work import Call

#: Stands for an empty mapping in a key, because a mapping has no hash.
_NONE: Final[Any] = None


class Shipping(Protocol):
    """Makes bytes of functions; workers on other machines unpickle them."""

    @property
    def by_value(self) -> bool:
        """Whether the bytes have code in them, which only the same version of Python runs."""

    def dump(self, call: Call) -> bytes:
        """Return a call as a pickle. Raises PayloadError: it cannot be sent."""


class ByName:
    """Sends the names of functions."""

    by_value = False

    def dump(self, call: Call) -> bytes:
        call = by_name(call)
        problem = import_problem(call)
        if problem is not None:
            raise PayloadError(f"{problem}, so another machine cannot find it: put it into a module that is there")
        return pickle.dumps(call)


class Bodies:
    """The functions of a run as bytes by digest; each is made when it is sent first."""

    def __init__(self, shipping: Shipping) -> None:
        self._shipping = shipping
        self._digests: dict[str, str] = {}  # by task id
        self._shared: dict[Call, str] = {}  # of calls that tasks may share: a pickle takes longer than a short task
        self._data: dict[str, bytes] = {}

    def digest(self, task_id: str, call: Call) -> str:
        """Return the digest of the function of a task. Raises PayloadError: it cannot be sent."""
        digest = self._digests.get(task_id)
        if digest is None:
            digest = self._digests[task_id] = self._shared_digest(call)
        return digest

    def _shared_digest(self, call: Call) -> str:
        """Return the digest of a call. Equal calls without arguments are made once."""
        if call.kwargs or call.env:
            return self._pickled(call)
        key = call._replace(kwargs=_NONE, env=_NONE)
        try:
            digest = self._shared.get(key)
        except TypeError:  # its function, or a part of it, has no hash
            return self._pickled(call)
        if digest is None:
            digest = self._shared[key] = self._pickled(call)
        return digest

    def _pickled(self, call: Call) -> str:
        data = self._shipping.dump(call)
        digest = sha256_hex(data)
        self._data[digest] = data
        return digest

    def data(self, digest: str) -> bytes:
        """Return the bytes of a function."""
        return self._data[digest]


def code_folders() -> list[str]:
    """Return the folders of the module path that hold code of the user, not that of Python and its packages."""
    installed = tuple({os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix)})
    paths = (os.path.realpath(path) for path in sys.path)
    return [path for path in dict.fromkeys(paths) if os.path.isdir(path) and not path.startswith(installed)]
