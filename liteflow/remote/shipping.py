"""Shipping: how the functions of a run get to other machines.

The engine sends a function by its name, so the module that has it must be there. The application can send it by value.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterable
from typing import Any, Final, Protocol

from liteflow.digest import sha256_hex
from liteflow.errors import PayloadError
from liteflow.executors.importable import by_name, import_problem
from liteflow.executors.stored_bodies import CallArguments
from liteflow.record import EMPTY_MAPPING
from liteflow.work import Body, Call, Item, Ref

_PLAIN: Final = frozenset({str, int, float, bool, bytes, type(None), Ref})


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
    """The functions of a run as bytes.

    Tasks share a function, which is made once and goes by its digest: its pickle takes longer than a short task. The
    arguments of each task go with its work.
    """

    def __init__(self, shipping: Shipping) -> None:
        self._shipping = shipping
        self._digests: dict[Any, str] = {}  # by the fields of calls
        self._data: dict[str, bytes] = {}  # by digest
        self._undos: dict[int, tuple[Call, bytes]] = {}  # by identity: all instances of a task share one

    def undo(self, call: Call) -> bytes:
        """Return an undo as it goes with a work. Raises PayloadError: it cannot be sent."""
        pickled = self._undos.get(id(call))
        if pickled is None:
            pickled = self._undos[id(call)] = call, self._shipping.dump(call)
        return pickled[1]

    def shipped(self, call: Call) -> tuple[str | bytes, str | None]:
        """Return a call as it goes with a work, and the digest of the function that the other machine needs for it.

        Raises:
            PayloadError: it cannot be sent.
        """
        if call.env or call.params:
            return self._shipping.dump(call), None
        key = (call.func, call.cwd, call.late, call.secrets, call.preload, call.output)
        try:
            digest = self._digests.get(key)
        except TypeError:  # its function, or a part of it, has no hash
            return self._shipping.dump(call), None
        if digest is None:
            data = self._shipping.dump(call._replace(kwargs=EMPTY_MAPPING))
            digest = self._digests[key] = sha256_hex(data)
            self._data[digest] = data
        if not call.kwargs:
            return digest, digest
        if all(map(_is_plain, call.kwargs.values())):
            return pickle.dumps(CallArguments(digest, call.kwargs)), digest
        return self._shipping.dump(call), None

    def data(self, digest: str) -> bytes:
        """Return the pickle of a call without arguments."""
        return self._data[digest]


def needs_same_python(shipping: Shipping, bodies: Iterable[Body]) -> bool:
    """Return whether bytes of functions, or of undos, have code in them, which only the same version of Python runs."""
    return shipping.by_value and any(isinstance(body, Call) or body.undo is not None for body in bodies)


def _is_plain(value: Any) -> bool:
    """Return whether a value holds no object of the user, whose class another machine may not have."""
    kind = type(value)
    if kind is dict:
        return all(type(name) is str and _is_plain(part) for name, part in value.items())
    if kind is Item:
        return not value.maps
    return kind in _PLAIN or (kind in (list, tuple) and all(map(_is_plain, value)))


def code_folders() -> list[str]:
    """Return the folders of the module path that hold code of the user, not that of Python and its packages."""
    installed = tuple({os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix)})
    paths = (os.path.realpath(path) for path in sys.path)
    return [path for path in dict.fromkeys(paths) if os.path.isdir(path) and not path.startswith(installed)]
