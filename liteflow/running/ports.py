"""Interfaces of the loop to its surroundings: a store and a clock. (Executors: see `executors`.)

The store of a run is `state.store.Store`; tests drive the loop with a store in memory and with a clock that they set.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from liteflow.planning.ready_queue import SlotNeeds
from liteflow.record import EMPTY_MAPPING
from liteflow.state.pools import SlotChange
from liteflow.state.records import (
    ChooseResets,
    DueUndo,
    NewInstance,
    NewRun,
    Previous,
    PreviousHook,
    PreviousInstance,
    PreviousState,
    PreviousWait,
    Request,
    SharedLimits,
)
from liteflow.state.resets import RESUME, ResetRules
from liteflow.state.transitions import InstanceEvent, WaitRow
from liteflow.state.undo_rows import UndoRows
from liteflow.state.write_batch import SlotRequest
from liteflow.states import RunStatus, TaskStatus
from liteflow.values.payload import Payload
from liteflow.work import Outcome

__all__ = ["Batch", "Clock", "RunStore", "SlotNeeds", "SystemClock"]


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
    """The changes of a turn of the loop, until the store writes them. See `state.write_batch.WriteBatch`."""

    slot_requests: list[SlotRequest]
    granted_slots: list[bool]
    slot_changes: list[SlotChange]
    undos: UndoRows
    rounds: dict[tuple[str, int], int]

    def __bool__(self) -> bool: ...

    def start_attempt(
        self,
        task_id: str,
        map_index: int,
        attempt: int,
        previous: str,
        log_path: str | None,
        now: float,
        status: TaskStatus = "RUNNING",
    ) -> None: ...

    def note(self, task_id: str, map_index: int, attempt: int, status: str, reason: str, now: float) -> None: ...

    def note_host(self, task_id: str, map_index: int, attempt: int, host: str, now: float) -> None: ...

    def note_places(self, places: str) -> None: ...

    def record_start(self, task_id: str, map_index: int, attempt: int, started_at: float) -> None: ...

    def finish_attempt(self, task_id: str, map_index: int, outcome: Outcome, *, repeats: bool = False) -> None: ...

    def change_status(
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

    def wait(self, task_id: str, map_index: int, event: InstanceEvent, wait: WaitRow) -> None: ...

    def abandon_wait(self, task_id: str, map_index: int, now: float) -> None: ...

    def handle_request(self, request_no: int) -> None: ...

    def cancel_child_runs(self, task_id: str, map_index: int, reason: str, now: float) -> None: ...

    def add_instances(
        self, task_id: str, instances: Iterable[tuple[int, str | None, str]], timeout_s: float | None, now: float
    ) -> None: ...

    def remove_instances(
        self, task_id: str, removed: Mapping[int, PreviousInstance], reason: str, now: float
    ) -> None: ...

    def trigger_hook(
        self, task_id: str, map_index: int, owner: str, events: str, now: float, kind: str = "hook"
    ) -> None: ...

    def mark_tolerated(self, task_id: str, map_index: int) -> None: ...

    def end_run(
        self,
        status: RunStatus,
        reason: str | None,
        now: float,
        *,
        timed_out: bool = False,
        outputs: str | None = None,
    ) -> None: ...

    def park(self, wake_at: float | None) -> None: ...

    def retrigger_hook(self, task_id: str, map_index: int, attempt: int, previous: str, now: float) -> None: ...


class RunStore(Protocol):
    """The state of one run, of which this process is the only writer. See `state.store.Store`."""

    queue_reason: str | None

    @property
    def batch(self) -> Batch: ...

    def create(
        self, run: NewRun, session: int | None = None, limits: SharedLimits = ...
    ) -> Mapping[str, Mapping[int, PreviousInstance]]: ...

    def claim(
        self,
        run_id: str,
        instances: Iterable[NewInstance],
        graph: tuple[str, str],
        session: int | None = None,
        limits: SharedLimits = ...,
        rules: ResetRules = RESUME,
        settings: Mapping[str, Any] = EMPTY_MAPPING,
        dead_s: float = 0.0,
    ) -> tuple[dict[str, PreviousState], dict[str, dict[int, PreviousInstance]], int | None]: ...

    def commit(self) -> None: ...

    def enter_group(self) -> bool: ...

    def slots_changed(self) -> bool: ...

    def retry_count(self) -> int: ...

    def retry_run(self, reason: str, choose: ChooseResets | None = None) -> Previous: ...

    def end_backoff(self) -> None: ...

    def interrupt(self, reason: str) -> None: ...

    def sync_if_idle(self) -> None: ...

    def check_file(self) -> None: ...

    def renew_lock(self) -> None: ...

    def requests(self) -> Sequence[Request]: ...

    def hooks(self) -> Sequence[PreviousHook]: ...

    def waits(self) -> Sequence[PreviousWait]: ...

    def is_family_busy(self) -> bool: ...

    def due_child_runs(self, run_ids: Collection[str]) -> Collection[str]: ...

    def instance_values(self, task_id: str, map_index: int) -> Mapping[str, Payload]: ...

    def iterations(self, task_id: str, map_index: int) -> tuple[int, float | None]: ...
    def due_undos(self) -> Sequence[DueUndo]: ...

    def value(self, task_id: str, map_index: int = -1, key: str = "return_value") -> Payload | None: ...

    def values(self, task_id: str, key: str) -> list[Payload]: ...

    def next_free_index(self, task_id: str) -> int: ...
