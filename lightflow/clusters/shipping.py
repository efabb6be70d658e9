"""Functions with their code: so a script, and the modules of a workflow, need not be on other machines."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

from liteflow import PayloadError

_PACKAGES: Final = ("liteflow", "lightflow")  # both sides have the same version


class ByValue:
    """Sends the code of functions of the script and of the user's modules, and the names of installed ones."""

    by_value = True

    def __init__(self) -> None:
        self._visited: set[str] = set()  # the names of modules that were looked at
        self._names: set[str] = set()  # those of the user
        self._lock = threading.Lock()

    def dump(self, call: Any) -> bytes:
        """Return a call as a pickle. Raises PayloadError: it cannot be pickled."""
        import cloudpickle  # with the first function that is sent

        with self._lock, self._by_value():
            try:
                data: bytes = cloudpickle.dumps(call)
            except Exception as error:  # noqa: BLE001 - __reduce__ is the user's code
                raise PayloadError(
                    f"its function or its arguments cannot be sent to another machine ({type(error).__name__}: {error})"
                ) from None
        return data

    @contextmanager
    def _by_value(self) -> Iterator[None]:
        """Have modules of the user go with their code meanwhile: the program may use cloudpickle, too."""
        import cloudpickle

        for name, module in list(sys.modules.items()):
            if name in self._visited:
                continue
            self._visited.add(name)
            if name != "__main__" and isinstance(module, ModuleType) and _is_of_user(name, module):
                self._names.add(module.__name__)
        modules = [ModuleType(name) for name in self._names - cloudpickle.list_registry_pickle_by_value()]
        modules = [module for module in modules if module.__name__ in sys.modules]
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in modules:
                cloudpickle.unregister_pickle_by_value(module)


_BY_VALUE: Final = ByValue()


def shipping() -> ByValue | None:
    """Return what sends functions with their code; None: cloudpickle is not installed, so they go by name."""
    return None if importlib.util.find_spec("cloudpickle") is None else _BY_VALUE


def _is_of_user(name: str, module: ModuleType) -> bool:
    """Return whether a module is neither installed nor a part of Python or of Lightflow."""
    path = getattr(module, "__file__", None)
    if not isinstance(path, str) or name.partition(".")[0] in _PACKAGES:
        return False
    installed = tuple(os.path.realpath(folder) + os.sep for folder in (sys.prefix, sys.base_prefix))
    return not os.path.realpath(path).startswith(installed)
