"""Records what happens in a run: each change goes into the write batch, and to the observers once it is committed.

Stored and shown texts hold no secret. A change may trigger hooks: they are recorded in the same batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from liteflow.definition.compiled import Gate
from liteflow.masking import Masker
from liteflow.planning.plan import Stop
from liteflow.planning.ready_queue import SlotNeeds
from liteflow.planning.task_table import TaskTable, Transition
from liteflow.record import EMPTY_MAPPING
from liteflow.running.hooks import Hooks
from liteflow.running.observers import Change, Observers
from liteflow.running.ports import RunStore
from liteflow.running.run_outputs import RunOutputs
from liteflow.state.pools import SlotChange
from liteflow.state.records import AttemptKey, DueUndo, PreviousInstance
from liteflow.state.transitions import InstanceEvent, WaitRow
from liteflow.state.write_batch import SlotRequest
from liteflow.states import TASK_ENDED, RunStatus, TaskStatus
from liteflow.work import ErrorInfo, HostId, Outcome


class Recorder:
    """Writes the changes of one plan."""

    def __init__(
        self,
        *,
        table: TaskTable,
        store: RunStore,
        observers: Observers,
        hooks: Hooks,
        masker: Masker | None,
        previous: Mapping[str, Mapping[int, PreviousInstance]],
        gates: Mapping[int, Gate] = EMPTY_MAPPING,
    ) -> None:
        self._table = table
        self._store = store
        self._batch = store.batch
        self._observers = observers
        self._watched = observers.any
        self._stop_is_shown = False
        self._hooks = hooks if hooks.any else None
        self._masker = masker
        self._previous = dict(previous)  # instances of mapped tasks of the previous part of the run, by index
        self._labels: dict[int, str] = {}  # for observers: the labels of instances
        self._gates = gates

    def round_of(self, task_id: str, map_index: int) -> int:
        """Return the number of reruns that have reset an instance."""
        rounds = self._batch.rounds
        return rounds.get((task_id, map_index), 0) if rounds else 0

    # -- attempts ------------------------------------------------------------------------------------------

    def start(
        self, node: int, previous: TaskStatus, log_path: str | None, now: float, status: TaskStatus = "RUNNING"
    ) -> None:
        """Record the intent to start an attempt, which may start once this is committed."""
        table = self._table
        task_id, index, attempt = table.task_ids[node], table.map_indexes[node], table.attempts[node]
        self._batch.start_attempt(task_id, index, attempt, previous, log_path, now, status)
        if self._watched:
            self._show(node, attempt, previous, status, None, now, log_path=log_path)

    def note_host(self, node: int, host: str, now: float) -> None:
        """Record the machine that runs an attempt, which is RUNNING."""
        table = self._table
        self._batch.note_host(table.task_ids[node], table.map_indexes[node], table.attempts[node], host, now)

    def note_places(self, places: str) -> None:
        """Record what is known of the machines of the clusters (JSON)."""
        self._batch.note_places(places)

    def queued_start(self, node: int, started_at: float, log_path: str | None) -> None:
        """Record that the executor started an attempt that is queued in the state file."""
        table = self._table
        attempt = table.attempts[node]
        self._batch.record_start(table.task_ids[node], table.map_indexes[node], attempt, started_at)
        if self._watched:
            self._show(node, attempt, "QUEUED", "RUNNING", None, started_at, log_path=log_path)

    def show_start(self, node: int, previous: TaskStatus, log_path: str | None, now: float) -> None:
        """Show observers the start of an attempt that the store has recorded, because it got its slots."""
        if self._watched:
            self._show(node, self._table.attempts[node], previous, "RUNNING", None, now, log_path=log_path)

    def end(self, outcome: Outcome, *, repeats: bool) -> None:
        """Record the end of an attempt; `repeats`: of a task that may succeed more than once."""
        table, node = self._table, outcome.node
        self._batch.finish_attempt(table.task_ids[node], table.map_indexes[node], outcome, repeats=repeats)

    def place_undo(self, node: int, host_id: HostId) -> None:
        """Record on which machine of a cluster an attempt with an undo is about to start."""
        table = self._table
        attempt = AttemptKey(table.task_ids[node], table.map_indexes[node], table.attempts[node])
        self._batch.undos.place(attempt, host_id)

    def undone(self, undo: DueUndo, problem: str | None, now: float) -> None:
        """Record the end of the undo of an attempt that a dead owner has left."""
        self._batch.undos.end(undo.attempt, problem)
        if problem is not None:
            self.note_failed_undo(undo, problem, now)

    def note_failed_undo(self, undo: DueUndo, problem: str, now: float) -> None:
        """Record why an undo has failed; the state of its instance does not change."""
        problem = self.mask(problem) or ""
        task_id, index, attempt = undo.attempt
        if undo.status is not None:
            reason = f"the undo of attempt {attempt} failed: {problem}"
            self._batch.note(task_id, index, undo.last_attempt, undo.status, reason, now)
        self._observers.failed_undos.append((task_id, index, problem))

    # -- states --------------------------------------------------------------------------------------------

    def record(
        self,
        transitions: Sequence[Transition],
        now: float,
        outcome: Outcome | None = None,
        *,
        previous: TaskStatus = "RUNNING",
        wait: WaitRow | None = None,
    ) -> None:
        """Record changes of states. The first is that of the attempt with this outcome, if there is one.

        `previous` is the stored state of that attempt: RUNNING, WAITING, or QUEUED if it never started. `wait` is what
        the instance waits for whose state is the first change.
        """
        if self._masker is not None:
            mask = self._masker.text
            transitions = [each._replace(reason=each.reason and mask(each.reason)) for each in transitions]
        table, change_status = self._table, self._batch.change_status
        for node, before, status, attempt, reason, tolerated in transitions:
            ended = outcome if outcome is not None and node == outcome.node else None
            if ended is not None:
                before = previous
            elif before == "QUEUED":
                before = "PENDING"  # QUEUED is a state of the plan: the state file has it for queued attempts alone
            if wait is not None:
                event = InstanceEvent(attempt, before, status, reason, now)
                self._batch.wait(table.task_ids[node], table.map_indexes[node], event, wait)
                if not wait.is_event:
                    return
                wait = None
            else:
                change_status(
                    table.task_ids[node], table.map_indexes[node], attempt, before, status, reason, now, ended
                )
            if tolerated:
                self._batch.mark_tolerated(table.task_ids[node], table.map_indexes[node])
            if self._previous:
                self._end_previous(node, status, reason, now)
            if self._watched:
                self._show(node, attempt, before, status, reason, now, ended)
        if self._hooks is not None:
            self._hooks.follow(transitions, now, outcome)

    def _end_previous(self, node: int, status: TaskStatus, reason: str | None, now: float) -> None:
        """End the instances that the previous part of the run left of a mapped task that ends without a list."""
        task_id = self._table.task_ids[node]
        if task_id not in self._previous or status not in TASK_ENDED or self._table.map_indexes[node] >= 0:
            return
        if node not in self._table.mapped:
            for index, instance in self._previous[task_id].items():
                if instance.status == "WAITING":
                    self._batch.abandon_wait(task_id, index, now)
                if instance.status in ("PENDING", "WAITING"):
                    previous = instance.status
                    self._batch.change_status(task_id, index, instance.attempts, previous, status, reason, now)

    def abandon(self, task_id: str, map_index: int, attempt: int, reason: str, now: float) -> None:
        """Cancel an instance that waits, and that the run no longer has."""
        self._batch.abandon_wait(task_id, map_index, now)
        self._batch.change_status(task_id, map_index, attempt, "WAITING", "CANCELLED", reason, now)

    def cancel_child_runs(self, node: int, now: float) -> None:
        """Record, with the end of an attempt that was cancelled, the end of its child runs that have not ended."""
        table = self._table
        self._batch.cancel_child_runs(table.task_ids[node], table.map_indexes[node], "cancelled by the parent run", now)

    def add_instances(
        self,
        node: int,
        instances: Iterable[tuple[int, str | None, str]],
        timeout_s: float | None,
        removed: Mapping[int, PreviousInstance],
        now: float,
    ) -> None:
        """Record the instances of a mapped task (index, label, digest of the item), and the removed ones."""
        task_id = self._table.task_ids[node]
        self._batch.add_instances(task_id, instances, timeout_s, now)
        if removed:
            for index, instance in removed.items():
                if instance.status == "WAITING":
                    self._batch.abandon_wait(task_id, index, now)
            self._batch.remove_instances(task_id, removed, "its item is no longer in the list", now)
            instances_left = self._previous[task_id].items() - removed.items()
            self._previous[task_id] = dict(instances_left)

    def add_labels(self, node: int, labels: Sequence[str | None]) -> None:
        """Take the labels of the instances of a mapped task, for observers."""
        if self._watched and node in self._table.mapped:
            numbered = zip(self._table.mapped[node].nodes, labels, strict=True)
            self._labels.update((instance, label) for instance, label in numbered if label is not None)

    def handle_request(self, request_no: int) -> None:
        """Record that a request of another process was acted on."""
        self._batch.handle_request(request_no)

    # -- slots ---------------------------------------------------------------------------------------------

    def request_slots(
        self, node: int, needs: SlotNeeds, previous: TaskStatus, log_path: str | None, now: float
    ) -> None:
        """Let the store decide, when this is committed, whether an attempt gets its slots and starts."""
        table = self._table
        task_id, index, attempt = table.task_ids[node], table.map_indexes[node], table.attempts[node]
        self._batch.slot_requests.append(
            SlotRequest(
                task_id=task_id,
                map_index=index,
                needs=needs,
                attempt=attempt,
                previous=previous,
                log_path=log_path,
                at=now,
            )
        )

    def granted(self) -> list[bool]:
        """Return the answers to the requests of the last commit, in their order."""
        return self._batch.granted_slots

    def hold_slots(self, node: int, needs: SlotNeeds) -> None:
        """Record the slots that an attempt holds from now on, whether free or not; none: it gives them back."""
        self._batch.slot_changes.append(SlotChange(self._table.task_ids[node], self._table.map_indexes[node], needs))

    # -- secrets -------------------------------------------------------------------------------------------

    def masked(self, error: ErrorInfo) -> ErrorInfo:
        """Return the error without secrets."""
        return error if self._masker is None else error.masked(self._masker)

    def mask(self, text: str | None) -> str | None:
        """Return the text without secrets."""
        return text if self._masker is None or text is None else self._masker.text(text)

    # -- the transaction -----------------------------------------------------------------------------------

    def end_run(self, status: RunStatus, stop: Stop | None, now: float, outputs: RunOutputs) -> None:
        """Record the state of the run that has ended; `stop`: why it was stopped."""
        if stop is not None or status != "SUCCESS":
            reason, timed_out = (stop.reason, stop.cause == "timed_out") if stop else (None, False)
            self._batch.end_run(status, reason, now, timed_out=timed_out)
            return
        if outputs.any and self.commit():  # the values of the last tasks, from which the outputs are computed
            self.publish()
        text, problem = outputs.stored()
        self._batch.end_run(status, self.mask(problem), now, outputs=text)

    def park(self, wake_at: float | None) -> None:
        """Record that another process is to resume the run, at an epoch second or after a decision."""
        self._batch.park(wake_at)

    def commit(self) -> bool:
        """Write what was recorded as one transaction. Return whether there was anything."""
        if not self._batch:
            return False
        self._store.commit()
        return True

    def show_stop(self, reason: str) -> None:
        """Show observers, once, that the run is stopped."""
        if not self._stop_is_shown:
            self._stop_is_shown = True
            self._observers.notify("stopping", reason)

    def publish(self) -> None:
        """Show observers what was committed."""
        self._observers.publish()

    def _show(
        self,
        node: int,
        attempt: int,
        previous: TaskStatus,
        status: TaskStatus,
        reason: str | None,
        now: float,
        outcome: Outcome | None = None,
        log_path: str | None = None,
    ) -> None:
        """Add a change for the observers, who see it once it is stored."""
        table = self._table
        instances = None
        if status == "RUNNING" and node in table.mapped:
            mapped = table.mapped[node]
            instances = (mapped.count, mapped.remaining)
        self._observers.changes.append(
            Change(
                task_id=table.task_ids[node],
                map_index=table.map_indexes[node],
                attempt=attempt,
                previous=previous,
                status=status,
                reason=reason,
                at=now,
                log_path=log_path if outcome is None else outcome.log_path,
                outcome=outcome,
                instances=instances,
                hook=self._hooks.event(node) if self._hooks is not None and node in table.hooks else "",
                map_key=self._labels.get(node),
                gate=self._gates.get(node, ""),
            )
        )
