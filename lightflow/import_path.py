"""Import modules from the folder of a workflow file, which is on the module path meanwhile."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.machinery import PathFinder
from types import ModuleType

from liteflow.api import unpickling

_importing = threading.RLock()  # `sys.path` belongs to the whole process
_counting = threading.Lock()
_needed: Counter[str] = Counter()  # how many tasks need each folder at the end of `sys.path`


def import_from_folders(name: str, *folders: str) -> ModuleType:
    """Import a module, from one of these folders if it is there.

    Raises:
        ImportError: another module of that name is loaded already, or the module calls `sys.exit`.
    """
    with importing_from(*folders):
        try:
            module = importlib.import_module(name)
        except SystemExit as error:
            if type(error) is not SystemExit:  # an exception that ends a worker
                raise
            raise ImportError(f"module {name!r} calls sys.exit({error.code!r}) while it is imported") from None
        _check_origin(name.partition(".")[0], folders)
    return module


def _check_origin(name: str, folders: Sequence[str]) -> None:
    spec, loaded = PathFinder.find_spec(name, folders), sys.modules.get(name)
    path = None if spec is None else spec.origin
    if path is None or loaded is None or not os.path.isfile(path):
        return
    origin = getattr(loaded, "__file__", None)
    if origin is None or os.path.realpath(origin) != os.path.realpath(path):
        where = f"from {origin}" if origin else "as a part of Python"
        raise ImportError(f"{path}: a module named {name!r} is loaded already, {where}; give the file another name")


@contextmanager
def unpickling_from(*folders: str) -> Iterator[None]:
    """Find the classes of pickled values in these folders.

    The folders are also at the end of `sys.path`: a process that the task starts with the method "spawn" gets a copy of
    it, and a Pool whose processes cannot import a function waits for ever.
    """
    token = unpickling.set(partial(importing_from, *folders))
    _change_path(+1, folders)
    try:
        yield
    finally:
        _change_path(-1, folders)
        unpickling.reset(token)


def _change_path(by: int, folders: Sequence[str]) -> None:
    """Change how many tasks need the folders; a needed folder is at the end of `sys.path`."""
    with _counting:
        path = list(sys.path)  # never changed in place, see `importing_from`
        for folder in dict.fromkeys(folders):
            before, after = _needed[folder], _needed[folder] + by
            _needed[folder] = after
            if not before and after:
                path.append(folder)
            elif before and not after:
                del _needed[folder]
                path.reverse()
                if folder in path:
                    path.remove(folder)  # the last entry is ours
                path.reverse()
        sys.path = path


def _after_fork() -> None:
    """Replace the locks in a fork: threads that do not exist there may hold them."""
    global _importing, _counting
    _importing, _counting = threading.RLock(), threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def importing_from(*folders: str) -> Iterator[None]:
    """Put folders at the front of `sys.path`; one importer at a time."""
    with _importing:
        added = list(dict.fromkeys(folders))
        # Never changed in place: another thread may iterate over the list in an import.
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
