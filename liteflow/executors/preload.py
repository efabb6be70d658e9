"""Imports that all workers share: a module that is loaded before the guardian is forked costs each worker nothing."""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Iterable
from typing import Final

from liteflow.errors import DefinitionError
from liteflow.processes.client import is_single_threaded
from liteflow.work import Body, Call

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)


def preload(bodies: Iterable[Body]) -> None:
    """Import the modules that bodies name, while this process has one thread.

    Signal handlers that a module replaces are restored.
    After a module that has started a thread, the guardian starts as a new interpreter, as in any program with threads.

    Raises:
        DefinitionError: a module cannot be imported; nothing ran.
    """
    if not is_single_threaded():
        return
    modules = dict.fromkeys(module for body in bodies if isinstance(body, Call) for module in body.preload)
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # the code of a module may raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DefinitionError(f"the module {module!r}, which a task needs, cannot be imported: {reason}") from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
