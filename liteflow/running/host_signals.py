"""The signal handlers of the host program while a run is active in its main thread.

A handler may raise between any two instructions: the soft time limit of a task queue, an alarm. An exception that
strikes the engine while it starts or ends processes would leave processes that nothing ends. So handlers are called
only while the loop waits; at other times a signal is noted, and its handler is called at the next wait or after the
run.
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


class SignalGate:
    """Whether handlers of the host program may be called now."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._open = False
        self._noted: list[int] = []
        self._handlers: dict[int, Any] = {}  # of the host program, by signal

    def __enter__(self) -> None:
        """Let handlers be called from now on, first those of noted signals."""
        self._open = True
        while self._noted and self._open:
            signal.raise_signal(self._noted.pop(0))

    def __exit__(self, *_: object) -> None:
        """Note signals from now on."""
        self._open = False

    def install(self) -> None:
        """Replace all handlers that are Python functions."""
        for number in _NUMBERS:
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._on_signal)

    def remove(self) -> None:
        """Restore the handlers, even if they raise meanwhile, and call those of noted signals.

        Raises the first exception that one of them raises, when all are restored.
        """
        raised: BaseException | None = None
        while self._handlers or self._noted:
            try:
                while self._handlers:
                    number, handler = next(iter(self._handlers.items()))
                    signal.signal(number, handler)
                    self._handlers.pop(number, None)
                if self._noted:
                    signal.raise_signal(self._noted.pop(0))
            except BaseException as error:  # noqa: BLE001 - a handler of the host program; it is raised again
                raised = raised or error
        if raised is not None:
            raise raised

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        handler = self._handlers.get(number)
        if handler is None:
            return  # it was restored in this moment, and is called with the signals that follow
        if os.getpid() != self._pid:
            handler(number, frame)  # a fork of this process has no processes of the engine to end
        elif self._open:
            self._open = False  # if the handler raises, the gate stays closed until all processes are ended
            handler(number, frame)
            self._open = True
        else:
            self._noted.append(number)


@contextlib.contextmanager
def deferred_host_signals() -> Iterator[SignalGate]:
    """Defer the signal handlers of the host program, except while the gate is open.

    Python calls handlers in the main thread alone: in other threads there is nothing to do.
    """
    gate = SignalGate()
    if threading.current_thread() is not threading.main_thread():
        yield gate
        return
    try:
        gate.install()
        yield gate
    finally:
        gate.remove()
