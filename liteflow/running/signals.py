"""The signals that stop a program, while a run is at work."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from liteflow.processes.forks import forget_handlers_in_forks, use_handlers_in_forks

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `handler` have the signals that stop a program; processes that are forked meanwhile have the old handlers.

    Only a main thread may; others leave signals alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # nohup has its reasons to ignore one; and None means a handler that is not Python's, which could not be put back
    handlers = {int(number): signal.getsignal(number) for number in _STOP_SIGNALS}
    before = {number: previous for number, previous in handlers.items() if previous not in (signal.SIG_IGN, None)}
    added = use_handlers_in_forks(before)
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
        forget_handlers_in_forks(added)
