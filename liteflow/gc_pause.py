"""Python's cyclic garbage collector, paused while much is built."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_users = 0  # threads in `gc_paused`
_was_on = False  # whether to turn the collector on behind the last of them


@contextmanager
def gc_paused() -> Iterator[None]:
    """Building something large makes no garbage, yet would be searched for it again and again (half of the time).

    It is a switch of the whole process: the last of several uses turns it on again, and so does a fork, in the child.
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
            _users = max(0, _users - 1)  # 0 already in a fork that was made in here
            if _users == 0 and _was_on:
                gc.enable()


def _after_fork() -> None:
    global _lock, _users
    _lock = threading.Lock()
    if _users and _was_on:
        gc.enable()
    _users = 0


os.register_at_fork(after_in_child=_after_fork)
