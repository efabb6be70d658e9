"""Modules that lie beside a workflow file: its folder is on the module path while they are imported."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.machinery import PathFinder
from types import ModuleType

from liteflow.values.payload import unpickling

_importing = threading.RLock()  # `sys.path` belongs to the whole process


def import_beside(name: str, *folders: str) -> ModuleType:
    """Import a module, from one of these folders if it lies there.

    Raises:
        ImportError: another module of that name is loaded already; or the module calls `sys.exit`.
    """
    with importing_from(*folders):
        try:
            module = importlib.import_module(name)
        except SystemExit as error:
            if type(error) is not SystemExit:  # it ends a worker
                raise
            raise ImportError(f"module {name!r} calls sys.exit({error.code!r}) while it is imported") from None
        _check_is_beside(name.partition(".")[0], folders)
    return module


def _check_is_beside(name: str, folders: Sequence[str]) -> None:
    spec, loaded = PathFinder.find_spec(name, folders), sys.modules.get(name)
    beside = None if spec is None else spec.origin
    if beside is None or loaded is None or not os.path.isfile(beside):
        return
    origin = getattr(loaded, "__file__", None)
    if origin is None or os.path.realpath(origin) != os.path.realpath(beside):
        where = f"from {origin}" if origin else "as a part of Python"
        raise ImportError(f"{beside}: a module named {name!r} is loaded already, {where}; give the file another name")


@contextmanager
def values_from(*folders: str) -> Iterator[None]:
    """Let the classes of pickled values be found in these folders."""
    token = unpickling.set(partial(importing_from, *folders))
    try:
        yield
    finally:
        unpickling.reset(token)


def _after_fork() -> None:
    """Nobody else imports in a fork: the lock may be held by a thread that is not there."""
    global _importing
    _importing = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def importing_from(*folders: str) -> Iterator[None]:
    """Put folders at the front of `sys.path`; one importer at a time."""
    with _importing:
        added = [folder for folder in folders if folder not in sys.path]
        # Never changed in place: a thread that imports something meanwhile walks along the list.
        sys.path = [*added, *sys.path]
        importlib.invalidate_caches()
        try:
            yield
        finally:
            path = list(sys.path)
            for folder in added:
                if folder in path:
                    path.remove(folder)
            sys.path = path
