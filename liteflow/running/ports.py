"""What the loop needs from its surroundings: a store and a clock. (Executors: see `executors`.)

The store of a run is `state.store.Store`; tests drive the loop with a store in memory and with a clock that they set.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from liteflow.planning.ready import Needs
from liteflow.state.records import Bounds, Kept, KeptHook, KeptInstance, NewInstance, NewRun, Request
from liteflow.state.turn import Intent
from liteflow.states import RunStatus, TaskStatus
from liteflow.values.payload import Payload
from liteflow.work import Outcome

__all__ = ["Batch", "Clock", "Needs", "RunStore", "SystemClock"]


class Clock(Protocol):
    """The time as a run reads it."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""

    def time(self) -> float:
        """Return epoch seconds."""


class SystemClock:
    """The time of this machine."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


class Batch(Protocol):
    """What happened in a turn of the loop, until the store writes it as one transaction. See `state.turn.Turn`."""

    asked: list[Intent]
    granted: list[bool]
    freed: list[tuple[str, int]]
    verdict: tuple[RunStatus, str | None, float] | None

    def __bool__(self) -> bool: ...

    def began(
        self,
        task_id: str,
        map_index: int,
        attempt: int,
        previous: str,
        log_path: str | None,
        now: float,
        status: TaskStatus = "RUNNING",
    ) -> None: ...

    def started(self, task_id: str, map_index: int, attempt: int, started_at: float) -> None: ...

    def ended(self, task_id: str, map_index: int, outcome: Outcome, *, repeats: bool = False) -> None: ...

    def moved(
        self,
        task_id: str,
        map_index: int,
        attempt: int,
        previous: str,
        status: str,
        reason: str | None,
        now: float,
        outcome: Outcome | None = None,
    ) -> None: ...

    def unfolded(
        self, task_id: str, instances: Iterable[tuple[int, str | None, str]], timeout_s: float | None, now: float
    ) -> None: ...

    def vanished(self, task_id: str, gone: Mapping[int, KeptInstance], reason: str, now: float) -> None: ...

    def told(self, task_id: str, map_index: int, owner: str, told: str, now: float) -> None: ...

    def again(self, task_id: str, map_index: int, attempt: int, previous: str, now: float) -> None: ...


class RunStore(Protocol):
    """The state of one run, of which this process is the only writer. See `state.store.Store`."""

    waits: str | None

    @property
    def turn(self) -> Batch: ...

    def create(self, run: NewRun, session: int | None = None, bounds: Bounds = ...) -> None: ...

    def claim(
        self,
        run_id: str,
        instances: Iterable[NewInstance],
        graph: tuple[str, str],
        session: int | None = None,
        bounds: Bounds = ...,
    ) -> tuple[dict[str, Kept], dict[str, dict[int, KeptInstance]], int | None]: ...

    def commit(self) -> None: ...

    def enter(self) -> bool: ...

    def slots_changed(self) -> bool: ...

    def tries(self) -> int: ...

    def try_again(self, reason: str) -> tuple[dict[str, Kept], dict[str, dict[int, KeptInstance]]]: ...

    def undo(self, reasons: Mapping[str, str]) -> None: ...

    def go_on(self) -> None: ...

    def rest(self) -> None: ...

    def check_file(self) -> None: ...

    def keep_lock(self) -> None: ...

    def requests(self) -> Sequence[Request]: ...

    def hooks(self) -> Sequence[KeptHook]: ...

    def stories(self) -> Iterator[tuple[str, int, str | None, str]]: ...

    def value(self, task_id: str, map_index: int = -1, key: str = "return_value") -> Payload | None: ...

    def values(self, task_id: str, key: str) -> list[Payload]: ...

    def free_index(self, task_id: str) -> int: ...
