"""A clock, an executor and a store in memory, which drive the loop without waiting, processes or files.

The fake executor ends attempts as a script says, and moves the fake clock to the time of the next end. The fake store
keeps rows and events as the real one does, and refuses what the real one refuses. See `driving` for running a dag.
"""

from __future__ import annotations

import heapq
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from liteflow.executors.protocol import PlaceState
from liteflow.planning.ready_queue import SlotNeeds
from liteflow.record import EMPTY_MAPPING
from liteflow.state.pools import SlotChange
from liteflow.state.records import (
    NO_SHARED_LIMITS,
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
    TaskEvent,
)
from liteflow.state.resets import RESUME, ResetRules
from liteflow.state.transitions import InstanceEvent, WaitRow
from liteflow.state.undo_rows import UndoRows
from liteflow.state.write_batch import SlotRequest
from liteflow.states import RunStatus, TaskStatus, Verdict
from liteflow.values.payload import Payload, encode
from liteflow.work import ErrorInfo, HostId, Outcome, Waiting, Work

Key = tuple[str, int]  # task id, map index
_EPOCH_S = 1_700_000_000.0
_LIMIT_S = 10_000.0


class Crashed(BaseException):
    """The process of the run has died."""


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def time(self) -> float:
        return _EPOCH_S + self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """How an attempt ends."""

    verdict: Verdict = "SUCCESS"
    after_s: float = 1.0
    value: Any = None
    exit_code: int | None = None
    errors: tuple[str, ...] = ("ValueError", "Exception")
    ignores_cancel: bool = False  # it ends in its own time although it was cancelled
    codes: tuple[str, ...] = ()
    waiting: Waiting | None = None  # it has not ended, and waits


Script = Callable[[Work], Ends]


class FakeExecutor:
    """Ends attempts at times of the fake clock. Like a real one it returns exactly one outcome for each attempt.

    Args:
        clock: is moved to the next end, timed action, or timeout when the loop waits.
        script: says how an attempt ends.
        slots: how many attempts run at once; with `queues` further ones start when a slot is free.
        on_submit: is called with each attempt that is handed over.
        clusters: the slots of each cluster; they may change.
    """

    session: int | None = None

    def __init__(
        self,
        clock: FakeClock,
        script: Script,
        slots: int,
        on_submit: Callable[[Work], None],
        *,
        queues: bool = False,
        clusters: Mapping[str, int] | None = None,
    ) -> None:
        self.queues = queues
        self.clusters = dict(clusters or {})
        self.wanted: list[tuple[str, int]] = []
        self.running: dict[int, tuple[Work, float]] = {}  # by node: the work, and when it started
        self.queued: list[Work] = []
        self._clock = clock
        self._script = script
        self._slots = slots
        self._on_submit = on_submit
        self._ends: list[tuple[float, int, int, Ends]] = []  # a heap: when, order, node, how
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._woken = False
        self.works_of_polls: list[list[int]] = []  # the nodes of polls that were submitted together
        self.waits = 0  # how often the loop has waited
        self._idle_waits = 0  # … in succession without letting time pass

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Call a function when the clock reaches this time."""
        self._order += 1
        heapq.heappush(self._actions, (seconds, self._order, action))

    def submit(self, work: Work) -> None:
        self._on_submit(work)
        assert work.node not in self.running, "an attempt of this instance runs already"
        if work.handle is not None:  # a poll takes no slot
            self._start(work)
            return
        if work.place:
            assert self.room()[work.place] > 0, f"{work.place} has no free slot"
            self._start(work)
            return
        self.queued.append(work)
        self._start_queued()

    def flush(self) -> None:
        """Do nothing: an attempt starts when it is submitted."""

    def room(self) -> Mapping[str, int]:
        clusters = {name: max(0, slots - self._attempts(name)) for name, slots in self.clusters.items()}
        return {"": max(0, self._slots - len(self.queued) - self._attempts()), **clusters}

    def want(self, place: str, count: int) -> None:
        self.wanted.append((place, count))

    def place_states(self) -> Mapping[str, PlaceState]:
        return {name: self._place(name) for name in self.clusters}

    def _place(self, name: str) -> PlaceState:
        hosts = {node: f"{name}1" for node, (work, _) in self.running.items() if work.place == name}
        return PlaceState(slots=self.clusters[name], wanted=len(hosts), hosts=hosts)

    def poll(self, works: Sequence[Work]) -> None:
        self.works_of_polls.append([work.node for work in works])
        for work in works:
            self.submit(work)

    def _start_queued(self) -> None:
        while self.queued and self._attempts() < self._slots:
            self._start(self.queued.pop(0))

    def _attempts(self, place: str = "") -> int:
        return sum(work.handle is None and work.place == place for work, _ in self.running.values())

    def _start(self, work: Work) -> None:
        ends = self._script(work)
        self.running[work.node] = (work, self._clock.seconds)
        self._push(work.node, ends)

    def _push(self, node: int, ends: Ends) -> None:
        self._order += 1
        heapq.heappush(self._ends, (self._clock.seconds + ends.after_s, self._order, node, ends))

    def wait(self, timeout_s: float | None = None) -> list[Outcome]:
        assert timeout_s is not None
        self.waits += 1
        self._idle_waits = 0 if timeout_s else self._idle_waits + 1
        assert self._idle_waits < 500, "the loop is busy and does nothing"
        assert self._clock.seconds < _LIMIT_S, "the run does not end"
        give_up = self._clock.seconds + timeout_s
        if timeout_s > 0:  # time goes on, however short the wait
            give_up = max(give_up, math.nextafter(self._clock.seconds, math.inf))
        outcomes: list[Outcome] = []
        while not outcomes and not self._woken:
            next_at = min(self._ends[0][0] if self._ends else give_up, give_up)
            if self._actions and self._actions[0][0] <= next_at:
                seconds, _, action = heapq.heappop(self._actions)
                self._clock.seconds = max(self._clock.seconds, seconds)
                action()
                continue
            self._clock.seconds = max(self._clock.seconds, next_at)
            while self._ends and self._ends[0][0] <= self._clock.seconds:
                _, _, node, ends = heapq.heappop(self._ends)
                if node in self.running:
                    outcomes.append(self._outcome(node, ends))
            self._start_queued()
            if self._clock.seconds >= give_up:
                break
        self._woken = False
        return outcomes

    def _outcome(self, node: int, ends: Ends) -> Outcome:
        work, started = self.running.pop(node)
        if ends.waiting is not None:
            waiting = ends.waiting._replace(handle=json.dumps(ends.waiting.handle))
            ends = replace(ends, verdict="LOST", errors=())
        else:
            waiting = None
        failed = ends.verdict not in ("SUCCESS",)
        error = ErrorInfo(f"it ended as {ends.verdict}", "", ends.errors, codes=ends.codes) if failed else None
        value = None if ends.value is None or failed else encode(ends.value)
        started_at, ended_at = _EPOCH_S + started, self._clock.time()
        ended = (value, None, error, ends.exit_code, started_at, ended_at, None)
        return Outcome(node, work.attempt, ends.verdict, *ended, waiting=waiting)

    def interrupt(self, node: int) -> None:
        """Do nothing: no node executes a child run."""

    def cancel(self, node: int, grace_s: float) -> None:
        for place, work in enumerate(self.queued):
            if work.node == node:
                del self.queued[place]
                self.running[node] = (work, self._clock.seconds)
                self._push(node, Ends(verdict="CANCELLED", after_s=0.0))
                return
        if node in self.running and not self._script(self.running[node][0]).ignores_cancel:
            self._push(node, Ends(verdict="CANCELLED", after_s=min(grace_s, 0.1)))

    def end_wait(self, work: Work, outcome: Outcome) -> None:
        raise AssertionError("no task has an undo")

    def undo_hosts(self) -> Sequence[tuple[int, HostId]]:
        return ()

    def wake(self) -> None:
        self._woken = True

    def pids(self) -> Mapping[int, int]:
        return {}

    def close(self, grace_s: float = 0.0) -> None:
        self.running.clear()


class Event(NamedTuple):
    """A stored change of state; the run itself has an empty task id."""

    task_id: str
    map_index: int
    attempt: int
    previous: str | None
    status: str
    reason: str | None


@dataclass(slots=True)
class Row:
    """The stored state of a task instance."""

    status: str = "PENDING"
    attempt: int = 0
    reason: str | None = None
    hook_events: str | None = None  # of a hook
    item: str | None = None
    label: str | None = None
    position: int | None = None
    handle: str | None = None
    wake_at: float | None = None
    started_at: float | None = None
    host: str | None = None  # that runs its attempt


@dataclass(slots=True)
class FakeFile:
    """What is stored: it outlives the process of the run."""

    pools: dict[str, int] = field(default_factory=dict)
    rows: dict[Key, Row] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    attempts: dict[tuple[str, int, int], str] = field(default_factory=dict)  # verdicts by task, index and attempt
    successes: Counter[Key] = field(default_factory=Counter)
    values: dict[tuple[str, int, str], Payload] = field(default_factory=dict)
    holders: dict[Key, SlotNeeds] = field(default_factory=dict)  # who holds slots
    taken_elsewhere: Counter[str] = field(default_factory=Counter)  # slots that other runs hold
    requests: list[Request] = field(default_factory=list)
    handled: set[int] = field(default_factory=set)  # requests by number
    run_status: str = "RUNNING"
    places: list[dict[str, Any]] = field(default_factory=list)  # what is known of the machines of clusters

    def change(self, key: Key, attempt: int, previous: str | None, status: str, reason: str | None) -> None:
        """Change a state, and write its event."""
        row = self.rows.setdefault(key, Row())
        row.status, row.attempt, row.reason, row.host = status, attempt, reason, None
        self.events.append(Event(*key, attempt, previous, status, reason))

    def held(self, pool: str) -> int:
        """Return how many slots of a pool this run holds."""
        return sum(slots for needs in self.holders.values() for name, slots in needs if name == pool)


class FakeBatch:
    """The changes since the last commit, as functions that apply them."""

    def __init__(self, file: FakeFile) -> None:
        self._file = file
        self.pending: list[Callable[[], None]] = []
        self.slot_requests: list[SlotRequest] = []
        self.granted_slots: list[bool] = []
        self.slot_changes: list[SlotChange] = []
        self.undos = UndoRows("")
        self.rounds: dict[Key, int] = {}
        self.verdict: tuple[RunStatus, str | None] | None = None
        self.parked_until: float | None = None

    def __bool__(self) -> bool:
        return bool(self.pending or self.slot_requests or self.slot_changes or self.verdict)

    def start_attempt(
        self,
        task_id: str,
        map_index: int,
        attempt: int,
        previous: str,
        log_path: str | None,
        now: float,
        status: TaskStatus = "RUNNING",
    ) -> None:
        self.pending.append(lambda: self._file.change((task_id, map_index), attempt, previous, status, None))

    def note(self, task_id: str, map_index: int, attempt: int, status: str, reason: str, now: float) -> None:
        self.change_status(task_id, map_index, attempt, status, status, reason, now)

    def note_host(self, task_id: str, map_index: int, attempt: int, host: str, now: float) -> None:
        self.pending.append(lambda: self._note_host((task_id, map_index), attempt, host))

    def _note_host(self, key: Key, attempt: int, host: str) -> None:
        row = self._file.rows[key]
        assert (row.status, row.attempt) == ("RUNNING", attempt), f"{key} has a machine, and is {row}"
        self._file.change(key, attempt, "RUNNING", "RUNNING", None)
        row.host = host

    def note_places(self, places: str) -> None:
        self.pending.append(lambda: setattr(self._file, "places", json.loads(places)))

    def record_start(self, task_id: str, map_index: int, attempt: int, started_at: float) -> None:
        self.pending.append(lambda: self._file.change((task_id, map_index), attempt, "QUEUED", "RUNNING", None))

    def finish_attempt(self, task_id: str, map_index: int, outcome: Outcome, *, repeats: bool = False) -> None:
        self.pending.append(lambda: self._end(task_id, map_index, outcome, repeats))

    def _end(self, task_id: str, map_index: int, outcome: Outcome, repeats: bool) -> None:
        file, key = self._file, (task_id, map_index)
        assert (*key, outcome.attempt) not in file.attempts, "an attempt ends once"
        file.attempts[*key, outcome.attempt] = outcome.verdict
        if outcome.verdict == "SUCCESS":
            file.successes[key] += 1
            assert repeats or file.successes[key] == 1, f"{key} succeeds twice"
        if outcome.value is not None:
            file.values[*key, "return_value"] = outcome.value

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
    ) -> None:
        self.pending.append(lambda: self._file.change((task_id, map_index), attempt, previous, status, reason))

    def wait(self, task_id: str, map_index: int, event: InstanceEvent, wait: WaitRow) -> None:
        self.pending.append(lambda: self._wait((task_id, map_index), event, wait))

    def _wait(self, key: Key, event: InstanceEvent, wait: WaitRow) -> None:
        if wait.is_event:
            self._file.change(key, event.attempt, event.previous, event.status, event.reason)
        row = self._file.rows[key]
        assert row.status == "WAITING"
        row.handle, row.wake_at, row.started_at = wait.handle, wait.wake_at, wait.started_at

    def abandon_wait(self, task_id: str, map_index: int, now: float) -> None:
        self.pending.append(lambda: self._abandon((task_id, map_index)))

    def _abandon(self, key: Key) -> None:
        row = self._file.rows[key]
        if row.status == "WAITING" and row.handle is not None:
            self._file.attempts[*key, row.attempt] = "CANCELLED"

    def cancel_child_runs(self, task_id: str, map_index: int, reason: str, now: float) -> None:
        """The store of tests has no child runs."""

    def handle_request(self, request_no: int) -> None:
        self.pending.append(lambda: self._file.handled.add(request_no))

    def add_instances(
        self, task_id: str, instances: Iterable[tuple[int, str | None, str]], timeout_s: float | None, now: float
    ) -> None:
        for position, (index, label, item) in enumerate(list(instances)):
            self.pending.append(lambda row=(index, label, item, position): self._add_instance(task_id, *row))  # type: ignore[misc]

    def _add_instance(self, task_id: str, index: int, label: str | None, item: str, position: int) -> None:
        row = self._file.rows.setdefault((task_id, index), Row())
        row.label, row.item, row.position = label, item, position

    def remove_instances(self, task_id: str, removed: Mapping[int, PreviousInstance], reason: str, now: float) -> None:
        for index in removed:
            self.pending.append(lambda index=index: self._remove(task_id, index))  # type: ignore[misc]

    def _remove(self, task_id: str, index: int) -> None:
        row = self._file.rows.pop((task_id, index))
        self._file.events.append(Event(task_id, index, row.attempt, row.status, "REMOVED", None))

    def mark_tolerated(self, task_id: str, map_index: int) -> None:
        pass

    def end_run(
        self,
        status: RunStatus,
        reason: str | None,
        now: float,
        *,
        timed_out: bool = False,
        outputs: str | None = None,
    ) -> None:
        self.verdict = (status, reason)

    def park(self, wake_at: float | None) -> None:
        self.parked_until = wake_at

    def trigger_hook(
        self, task_id: str, map_index: int, owner: str, events: str, now: float, kind: str = "hook"
    ) -> None:
        self.pending.append(lambda: self._trigger(task_id, map_index, events))

    def _trigger(self, task_id: str, map_index: int, events: str) -> None:
        self._file.rows.setdefault((task_id, map_index), Row()).hook_events = events

    def retrigger_hook(self, task_id: str, map_index: int, attempt: int, previous: str, now: float) -> None:
        self.change_status(task_id, map_index, attempt, previous, "PENDING", "triggered again", now)


class FakeStore:
    """The store of one run in memory.

    Args:
        file: what is stored, perhaps by an earlier owner of the run.
        crash_at: the number of the commit at which the process dies; None: it does not.
        after: whether it dies after that commit rather than before.
    """

    def __init__(self, file: FakeFile, *, crash_at: int | None = None, after: bool = False) -> None:
        self.file = file
        self.turn_batch = FakeBatch(file)
        self.queue_reason: str | None = None
        self.commits = 0
        self.group_is_free = False
        self._crash_at = crash_at
        self._crash_after = after

    @property
    def batch(self) -> FakeBatch:
        return self.turn_batch

    def create(
        self, run: NewRun, session: int | None = None, limits: SharedLimits = NO_SHARED_LIMITS
    ) -> dict[str, dict[int, PreviousInstance]]:
        for instance in run.instances:
            self.file.rows[instance.task_id, -1] = Row()
        self.file.events.append(Event("", -1, 0, None, "RUNNING", None))
        return {}

    def claim(
        self,
        run_id: str,
        instances: Iterable[NewInstance],
        graph: tuple[str, str],
        session: int | None = None,
        limits: SharedLimits = NO_SHARED_LIMITS,
        rules: ResetRules = RESUME,
        settings: Mapping[str, Any] = EMPTY_MAPPING,
        dead_s: float = 0.0,
    ) -> tuple[dict[str, PreviousState], dict[str, dict[int, PreviousInstance]], int | None]:
        file = self.file
        file.holders.clear()
        if file.run_status == "RUNNING":
            self._change_run("INTERRUPTED", "its owner died")
        self._change_run("RUNNING", "resumed")
        for key, row in file.rows.items():
            if row.status in ("RUNNING", "QUEUED") and row.attempt:
                file.attempts[*key, row.attempt] = "LOST"
                file.change(key, row.attempt, row.status, "LOST", "its owner died")
        return (*self._reset(rules.choose), None)

    def _reset(self, choose: ChooseResets | None) -> Previous:
        file = self.file
        events = list(self._task_events())
        for key, row in file.rows.items():
            skipped_itself = row.status == "SKIPPED" and file.attempts.get((*key, row.attempt)) == "SKIPPED"
            open_hook = row.status in ("LOST", "RUNNING", "QUEUED", "UP_FOR_RETRY")
            resets = (
                open_hook
                if row.hook_events is not None
                else row.status not in ("SUCCESS", "WAITING") and not skipped_itself
            )
            if resets and row.status != "PENDING":
                file.change(key, row.attempt, row.status, "PENDING", "reset")
        chosen = {} if choose is None else choose(*self._previous(), events).reasons
        for key, row in file.rows.items():
            if key in chosen and row.status != "PENDING":
                file.change(key, row.attempt, row.status, "PENDING", chosen[key])
        return self._previous()

    def _previous(self) -> Previous:
        file = self.file
        tasks = {
            task_id: PreviousState(row.status, row.attempt)
            for (task_id, index), row in file.rows.items()
            if index < 0 and row.hook_events is None
        }
        mapped: dict[str, dict[int, PreviousInstance]] = {}
        for (task_id, index), row in file.rows.items():
            if index >= 0 and row.hook_events is None:
                instance = PreviousInstance(
                    status=row.status, attempts=row.attempt, item=row.item, label=row.label, position=row.position
                )
                mapped.setdefault(task_id, {})[index] = instance
        return tasks, mapped

    def _change_run(self, status: str, reason: str | None) -> None:
        self.file.events.append(Event("", -1, 0, self.file.run_status, status, reason))
        self.file.run_status = status

    def commit(self) -> None:
        self.commits += 1
        if self.commits == self._crash_at and not self._crash_after:
            raise Crashed
        batch, file = self.turn_batch, self.file
        for apply in batch.pending:
            apply()
        batch.pending.clear()
        for task_id, map_index, needs in batch.slot_changes:
            file.holders.pop((task_id, map_index), None)
            if needs:
                file.holders[task_id, map_index] = needs
        batch.slot_changes.clear()
        self._grant(batch)
        if batch.verdict is not None:
            self._change_run(*batch.verdict)
            file.handled |= {request.request_no for request in file.requests if request.action == "cancel"}
            batch.verdict = None
        if self.commits == self._crash_at:
            raise Crashed

    def _grant(self, batch: FakeBatch) -> None:
        file, batch.granted_slots = self.file, []
        for request in batch.slot_requests:
            free = all(
                file.held(pool) + file.taken_elsewhere[pool] + slots <= file.pools[pool]
                for pool, slots in request.needs
            )
            batch.granted_slots.append(free)
            if free:
                key = (request.task_id, request.map_index)
                file.holders[key] = request.needs
                file.change(key, request.attempt, request.previous, "RUNNING", None)
        batch.slot_requests = []

    def waits(self) -> list[PreviousWait]:
        return [
            PreviousWait(
                task_id=task_id,
                map_index=index,
                attempt=row.attempt,
                handle=row.handle,
                wake_at=row.wake_at,
                started_at=row.started_at,
                reason=row.reason,
                log_path=None,
            )
            for (task_id, index), row in self.file.rows.items()
            if row.status == "WAITING"
        ]

    def instance_values(self, task_id: str, map_index: int) -> dict[str, Payload]:
        return {
            key: value
            for (name, index, key), value in self.file.values.items()
            if (name, index) == (task_id, map_index)
        }

    def iterations(self, task_id: str, map_index: int) -> tuple[int, float | None]:
        ended = [
            number
            for (name, index, number), verdict in self.file.attempts.items()
            if (name, index, verdict) == (task_id, map_index, "REPEATED")
        ]
        return len(ended), _EPOCH_S if ended else None

    def slots_changed(self) -> bool:
        return True

    def enter_group(self) -> bool:
        if self.group_is_free:
            self.queue_reason = None
        return self.group_is_free

    def retry_count(self) -> int:
        return sum(event.status == "UP_FOR_RETRY" for event in self.file.events if not event.task_id)

    def retry_run(self, reason: str, choose: ChooseResets | None = None) -> Previous:
        self._change_run("UP_FOR_RETRY", reason)
        self.file.holders.clear()
        return self._reset(choose)

    def end_backoff(self) -> None:
        self._change_run("RUNNING", "tried again")

    def interrupt(self, reason: str) -> None:
        self._change_run("INTERRUPTED", reason)

    def sync_if_idle(self) -> None:
        pass

    def check_file(self) -> None:
        pass

    def renew_lock(self) -> None:
        pass

    def requests(self) -> Sequence[Request]:
        return [request for request in self.file.requests if request.request_no not in self.file.handled]

    def hooks(self) -> Sequence[PreviousHook]:
        return [
            PreviousHook(*key, row.status, row.attempt, row.hook_events)
            for key, row in self.file.rows.items()
            if row.hook_events is not None
        ]

    def is_family_busy(self) -> bool:
        return False

    def due_child_runs(self, run_ids: Collection[str]) -> Collection[str]:
        return ()

    def due_undos(self) -> Sequence[DueUndo]:
        return []

    def _task_events(self) -> Iterator[TaskEvent]:
        for task_id, index, _, previous, status, _ in self.file.events:
            if task_id and (index < 0 or status == "SUCCESS"):
                yield TaskEvent(task_id, index, previous, status)

    def value(self, task_id: str, map_index: int = -1, key: str = "return_value") -> Payload | None:
        return self.file.values.get((task_id, map_index, key))

    def values(self, task_id: str, key: str) -> list[Payload]:
        instances = sorted(
            (index for name, index in self.file.rows if name == task_id and index >= 0), key=self._position(task_id)
        )
        values = (self.file.values.get((task_id, index, key)) for index in instances)
        return [value for value in values if value is not None]

    def _position(self, task_id: str) -> Callable[[int], int]:
        return lambda index: self.file.rows[task_id, index].position or 0

    def next_free_index(self, task_id: str) -> int:
        return max((index + 1 for name, index, _ in self.file.attempts if name == task_id), default=0)
