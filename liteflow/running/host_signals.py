"""The signal handlers of a host program, while a run of ours is at work in its main thread.

A handler may raise, between any two instructions: the soft time limit of a task queue, an alarm. An exception that
strikes the engine while it starts or ends processes would leave something that nobody ends. So the handlers are called
only while the loop waits; at other times a signal is noted, and its handler is called at the next wait, or when all is
over.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

_NUMBERS: Final = tuple(number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP))


class Gate:
    """Whether handlers of the program may be called just now."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._open = False
        self._noted: list[int] = []
        self._before: dict[int, Any] = {}  # the program's own handlers, by signal

    def __enter__(self) -> None:
        """Let handlers be called from now on, those of noted signals first."""
        self._open = True
        while self._noted and self._open:
            signal.raise_signal(self._noted.pop(0))

    def __exit__(self, *_: object) -> None:
        """Note signals from now on."""
        self._open = False

    def install(self) -> None:
        """Take the place of all handlers that are Python functions."""
        for number in _NUMBERS:
            handler = signal.getsignal(number)
            if callable(handler):
                self._before[number] = handler
                signal.signal(number, self._on_signal)

    def remove(self) -> None:
        """Put the handlers back, whatever they raise meanwhile, and call those of noted signals.

        Raises what the first of them raises, when all are back.
        """
        raised: BaseException | None = None
        while self._before or self._noted:
            try:
                while self._before:
                    number, handler = next(iter(self._before.items()))
                    signal.signal(number, handler)
                    self._before.pop(number, None)
                if self._noted:
                    signal.raise_signal(self._noted.pop(0))
            except BaseException as error:  # noqa: BLE001 - a handler of the program; it is raised again
                raised = raised or error
        if raised is not None:
            raise raised

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        handler = self._before.get(number)
        if handler is None:
            return  # it has just been put back, and is called with the signals that follow
        if os.getpid() != self._pid:
            handler(number, frame)  # in a fork of this process there is nothing of ours to end
        elif self._open:
            self._open = False  # where it raises, it stays so until all is ended
            handler(number, frame)
            self._open = True
        else:
            self._noted.append(number)


@contextlib.contextmanager
def deferring() -> Iterator[Gate]:
    """Keep exceptions of the program's signal handlers away, save while the gate is open.

    Python calls handlers in the main thread alone: in others there is nothing to do.
    """
    gate = Gate()
    if threading.current_thread() is not threading.main_thread():
        yield gate
        return
    try:
        gate.install()
        yield gate
    finally:
        gate.remove()
