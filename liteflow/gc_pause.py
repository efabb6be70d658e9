"""Python's cyclic garbage collector, paused while much is built."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_users = 0  # threads in `gc_paused`
_was_on = False  # whether to enable the collector after the last of them


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the collector while something large is built: its searches would take half of the time and find nothing.

    The collector belongs to the whole process: the last of several users enables it again, and a fork in the child.
    """
    global _users, _was_on
    with _lock:
        if _users == 0:
            _was_on = gc.isenabled()
        _users += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _users = max(0, _users - 1)  # already 0 in a fork that was made in this context
            if _users == 0 and _was_on:
                gc.enable()


def _after_fork() -> None:
    global _lock, _users
    _lock = threading.Lock()
    if _users and _was_on:
        gc.enable()
    _users = 0


os.register_at_fork(after_in_child=_after_fork)
