"""Python's cyclic garbage collector, paused while much is built."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Building something large makes no garbage, yet would be searched for it again and again (half of the time).

    It is a switch of the whole process: overlapping uses may turn it on early, which costs only time. Do not fork in
    here: the child would never collect.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
