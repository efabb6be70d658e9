"""Runs a dag with the fakes, and checks at each step what must always hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fakes import Crashed, Ends, FakeClock, FakeExecutor, FakeFile, FakeStore, Script

from liteflow import Change, Dag, Observer
from liteflow.definition.compiled import CompiledDag
from liteflow.planning.trigger_rules import UpstreamCounts, decide
from liteflow.running.config import RunConfig
from liteflow.running.host_signals import SignalGate
from liteflow.running.places import far_tasks
from liteflow.running.ports import RunStore
from liteflow.running.run import Result, Runner
from liteflow.running.stopping import StopSignals
from liteflow.state.records import Request
from liteflow.states import TASK_ENDED
from liteflow.work import RunInfo, Work

_WORST_FIRST = ("FAILED", "CANCELLED", "UPSTREAM_FAILED", "SUCCESS", "SKIPPED")
_POSITION = {"SUCCESS": 0, "FAILED": 1, "CANCELLED": 1, "SKIPPED": 2, "UPSTREAM_FAILED": 3}


def succeed(work: Work) -> Ends:
    """Let every attempt succeed after a second."""
    return Ends()


def scripted(ends: Mapping[str, Ends | Sequence[Ends]]) -> Script:
    """Return a script: how the attempts of each task end, one after the other; the last one repeats."""

    def script(work: Work) -> Ends:
        each = ends.get(work.task_id, Ends())
        return each if isinstance(each, Ends) else each[min(work.attempt, len(each)) - 1]

    return script


@dataclass
class Drive(Observer):
    """A dag and what is stored of its run; `run` runs it, and `resume` runs what is left."""

    dag: Dag
    workers: int = 2
    script: Script = succeed
    config: Mapping[str, Any] = field(default_factory=dict)
    file: FakeFile = field(default_factory=FakeFile)
    clock: FakeClock = field(default_factory=FakeClock)
    actions: Sequence[tuple[float, Callable[[Drive], None]]] = ()
    queues: bool = False
    path: str = "/nowhere/state.db"
    waits_for: str | None = None  # why the run has no place in its group yet
    submitted: list[tuple[str, int, int]] = field(default_factory=list)
    starts: list[tuple[float, str]] = field(default_factory=list)
    polls: list[tuple[float, str, str]] = field(default_factory=list)  # when, of which task, with which handle
    changes: list[Change] = field(default_factory=list)
    told: list[tuple[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    acted: set[int] = field(default_factory=set)
    stopping_since: int | None = None  # how many attempts had been submitted when the run was stopped
    failed: Counter[tuple[str, int]] = field(default_factory=Counter)  # attempts since the run was started or resumed
    due: dict[tuple[str, int], float] = field(default_factory=dict)  # when the back-off of an instance is over
    waited: set[tuple[str, int]] = field(default_factory=set)  # the instances whose waits a resume continues

    def __post_init__(self) -> None:
        self.compiled: CompiledDag = self.dag.compile()
        self.file.pools.update({name: pool.slots or 1 for name, pool in self.compiled.pools.items()})
        self.executor: FakeExecutor
        self.signals: StopSignals
        ids = self.compiled.graph.ids
        self._hook_ids = {hook.task_id for hook in self.compiled.hooks()}
        self._teardowns = {ids[node] for node in self.compiled.control.teardowns}

    # -- running -------------------------------------------------------------------------------------------

    def run(self, *, crash_at: int | None = None, after: bool = False) -> Result:
        """Run the dag to its end, or to a crash at a commit."""
        return self._run(resume=False, crash_at=crash_at, after=after)

    def resume(self, *, crash_at: int | None = None, after: bool = False) -> Result:
        """Run what is left."""
        return self._run(resume=True, crash_at=crash_at, after=after)

    def _run(self, *, resume: bool, crash_at: int | None, after: bool) -> Result:
        config = RunConfig(
            db_path=self.path,
            run_id="r",
            max_workers=self.workers,
            observers=[self],
            clusters=self.dag.limits.clusters,
            max_lost=self.dag.limits.max_lost,
            **self.config,
        )
        self.waited = {key for key, row in self.file.rows.items() if row.status == "WAITING"}
        store = self.open_store(resume=resume, crash_at=crash_at, after=after)
        self.executor = FakeExecutor(
            self.clock, self.script, self.workers, self.check_start, queues=self.queues, clusters=self.slots()
        )
        self.signals = StopSignals(self.executor.wake)
        for number, (seconds, action) in enumerate(self.actions):
            self.executor.at(seconds, lambda number=number, action=action: self._act(number, action))  # type: ignore[misc]
        runner = Runner(
            compiled=self.compiled,
            config=config,
            far=far_tasks(self.compiled, config),
            info=RunInfo(run_id="r", dag_id=self.compiled.dag_id, db_path=config.db_path, log_dir=None),
            store=store,
            executor=self.executor,
            clock=self.clock,
            signals=self.signals,
            signal_gate=SignalGate(),
        )
        try:
            result = runner.run(runner.acquire(resume=resume), resumed=resume)
        except Crashed:
            self.check_story()
            raise
        self.check_story()
        return result

    def slots(self) -> dict[str, int]:
        """Return the slots of each cluster."""
        return {name: cluster.slots for name, cluster in self.dag.limits.clusters.items()}

    def open_store(self, *, resume: bool, crash_at: int | None, after: bool) -> RunStore:
        """Open the store of the run."""
        self.store = FakeStore(self.file, crash_at=crash_at, after=after)
        self.store.queue_reason = None if resume else self.waits_for
        return self.store

    def _act(self, number: int, action: Callable[[Drive], None]) -> None:
        """Perform an action, once."""
        if number not in self.acted:
            self.acted.add(number)
            action(self)

    def cancel(self, reason: str = "cancelled by a test") -> None:
        """Request a cancel, as another process does."""
        self.file.requests.append(Request(len(self.file.requests) + 1, "cancel", reason))

    def interrupt(self, number: int = 2) -> None:
        """Send a signal to the process of the run."""
        self.signals.receive(number, None)

    # -- what must always hold -------------------------------------------------------------------------------

    def check_start(self, work: Work) -> None:
        """Check an attempt that is handed to the executor."""
        key = (work.task_id, work.map_index)
        assert key in self.file.rows, f"{key} is submitted, and has no row"
        row = self.file.rows[key]
        if work.handle is not None:
            self._check_poll(work)
            return
        assert row.status in ("RUNNING", "QUEUED"), f"{key} is submitted, and stored as {row.status}"
        assert row.attempt == work.attempt, f"{key}: attempt {work.attempt} is submitted, {row.attempt} is stored"
        assert (*key, work.attempt) not in self.submitted, f"{key}: attempt {work.attempt} is submitted twice"
        self.submitted.append((*key, work.attempt))
        self.starts.append((round(self.clock.seconds, 6), work.task_id))
        if work.task_id not in self._hook_ids:
            assert self.stopping_since is None or work.task_id in self._teardowns, f"{key} starts in a stopped run"
            assert self.clock.time() >= self.due.get(key, 0.0), f"{key} starts before its back-off is over"
            if key not in self.waited:  # its rule was met when its wait began, and the upstream tasks may run again
                self._check_upstream(work.task_id)
            self._check_limits(work)

    def _check_poll(self, work: Work) -> None:
        """Check a poll: what it asks for is stored, and the run has not ended."""
        row = self.file.rows[work.task_id, work.map_index]
        assert (row.status, row.attempt) == ("WAITING", work.attempt), f"{work} is polled, and stored as {row}"
        assert row.handle is not None
        assert self.file.run_status == "RUNNING"
        self.polls.append((round(self.clock.seconds, 6), work.task_id, work.handle))

    def _check_upstream(self, task_id: str) -> None:
        graph, node = self.compiled.graph, self.compiled.graph.index[task_id]
        entries = self.compiled.control.entries
        upstream = [above for above in graph.upstream[node] if above not in entries]
        assert all(self._states(graph.ids[entry]) == ["SUCCESS"] for entry in entries if node in entries[entry])
        states = [state for above in upstream for state in self._states(graph.ids[above])]
        tally = Counter(_POSITION[state] for state in states if state in _POSITION)
        counts = UpstreamCounts(len(states), *(tally[position] for position in range(4)))
        rule = self.compiled.tasks[node].settings.trigger_rule
        if rule != "all_done_setup_success":
            assert decide(rule, counts) == "run", f"{task_id} starts by {rule} after {states}"

    def _states(self, task_id: str) -> list[str]:
        """Return the stored states that downstream tasks see: of the instances, where a task is mapped."""
        mapped = [row for (name, index), row in self.file.rows.items() if name == task_id and index >= 0]
        rows = mapped or [self.file.rows[task_id, -1]]
        node = self.compiled.graph.index[task_id]
        tolerant = node in self.compiled.control.tolerances
        tolerated = [tolerant and (row.reason or "").endswith("(continue_on_error)") for row in rows]
        return ["SUCCESS" if counts else row.status for row, counts in zip(rows, tolerated, strict=True)]

    def _check_limits(self, work: Work) -> None:
        settings = self.compiled.tasks[self.compiled.graph.index[work.task_id]].settings
        running = [each for each, _ in self.executor.running.values() if each.handle is None]
        if not self.queues:
            slots = self.executor.clusters.get(work.place, 0) if work.place else self.workers
            there = sum(each.place == work.place for each in running)
            assert there < slots, f"more attempts run than {work.place or 'this machine'} has slots"
        limit = settings.queue.max_parallel
        if limit is not None:
            same = sum(each.task_id == work.task_id for each in running)
            assert same < limit, f"{same + 1} instances of {work.task_id} run"
        for pool, size in self.file.pools.items():
            assert self.file.held(pool) <= size, f"pool {pool} has {size} slots"
        holds = self.file.holders.get((work.task_id, work.map_index), ())
        assert holds == settings.queue.needs, f"{work.task_id} holds {holds}"

    def check_story(self) -> None:
        """Check that each event follows from the one before, and that the last ones are the rows."""
        assert not self.failures, self.failures[0]
        folded: dict[tuple[str, int], str] = {}
        for event in self.file.events:
            key = (event.task_id, event.map_index)
            before = folded.get(key, None if not event.task_id else "PENDING")
            assert event.previous == before, f"{event} follows {before}"
            folded[key] = event.status
            if event.status == "REMOVED":
                del folded[key]
        assert folded.pop(("", -1)) == self.file.run_status
        rows = {key: row.status for key, row in self.file.rows.items()}
        assert {key: folded.get(key, "PENDING") for key in rows} == rows

    def check_end(self, result: Result) -> None:
        """Check a run that has ended: nothing is open, unless it was interrupted."""
        assert self.file.run_status == result.status
        assert not self.file.holders, "slots are held after the end"
        assert all(work.handle is not None for work, _ in self.executor.running.values()), "an attempt still runs"
        assert result.status == "INTERRUPTED" or not self.executor.running, "a poll still runs"
        if self.file.requests and result.status != "FAILED":
            assert any(word == "stopping" for word, _ in self.told), "the run was asked to end, and did not"
        if result.status != "INTERRUPTED":
            still = {
                key: row.status
                for key, row in self.file.rows.items()
                # A hook that was halted with a run that did not succeed is left to a resume.
                if row.status not in TASK_ENDED and (row.hook_events is None or result.status == "SUCCESS")
            }
            assert not still, f"{still} in a run that is {result.status}"
            self._check_teardowns()
            self._check_groups()

    def _check_groups(self) -> None:
        """Check that the state of each group is the worst of its members'."""
        control, graph = self.compiled.control, self.compiled.graph
        quiet = {node for node, teardown in control.teardowns.items() if not teardown.fails_run}
        for join in control.joins:
            states = []
            for node in set(graph.upstream[join]) - quiet:
                row = self.file.rows[graph.ids[node], -1]
                tolerated = node in control.tolerances and (row.reason or "").endswith("(continue_on_error)")
                status = "SUCCESS" if tolerated else row.status
                states += [] if node in control.entries and status == "SUCCESS" else [status]
            worst = min(states, key=_WORST_FIRST.index) if states else "SUCCESS"
            assert self.file.rows[graph.ids[join], -1].status == worst, f"{graph.ids[join]} of {states}"

    def _check_teardowns(self) -> None:
        """Check that what was set up is torn down, unless the run may have been stopped twice."""
        ids, config = self.compiled.graph.ids, self.config
        stops = len(self.file.requests) + bool(config.get("fail_fast")) + ("timeout_s" in config)
        if stops > 1 or self.signals.numbers:
            return
        for node, teardown in self.compiled.control.teardowns.items():
            if any(self.file.rows[ids[setup], -1].status == "SUCCESS" for setup in teardown.setups):
                status = self.file.rows[ids[node], -1].status
                assert status in ("SUCCESS", "FAILED", "SKIPPED"), f"{ids[node]} is {status}: it is not torn down"

    # -- queries -------------------------------------------------------------------------------------------

    def states(self) -> dict[str, str]:
        """Return the stored states by name: `a`, or `a[0]` for an instance of a mapped task."""
        return {
            (task_id if index < 0 else f"{task_id}[{index}]"): row.status
            for (task_id, index), row in self.file.rows.items()
        }

    def changed(self, changes: Sequence[Change]) -> None:
        """Check that observers are shown only what is stored. The engine drops an observer that raises: see below."""
        try:
            self._check_changes(changes)
        except AssertionError as failure:
            self.failures.append(str(failure))

    def _check_changes(self, changes: Sequence[Change]) -> None:
        for change in changes:
            key = (change.task_id, change.map_index, change.attempt, change.previous, change.status, change.reason)
            assert key in self.file.events, f"{change} is shown and not stored"
            if change.outcome is not None and change.outcome.verdict == "REPEATED":
                self.failed.pop((change.task_id, change.map_index), None)  # retries count within an iteration
            if change.status in ("UP_FOR_RETRY", "FAILED") and change.outcome is not None and not change.hook:
                self._count_failure(change)
        self.changes += changes

    def _count_failure(self, change: Change) -> None:
        """Count a failed attempt, and compute when the next one may start."""
        outcome, key = change.outcome, (change.task_id, change.map_index)
        if outcome is None or outcome.verdict == "LOST":
            return
        policy = self.compiled.tasks[self.compiled.graph.index[change.task_id]].settings.retry
        self.failed[key] += 1
        if change.status == "UP_FOR_RETRY":
            assert self.failed[key] <= policy.retries, f"{key} has more retries than {policy.retries}"
            self.due[key] = outcome.ended_at + policy.wait_s(self.failed[key], "")

    def run_began(self, run: object) -> None:
        self.failed.clear()
        self.due.clear()
        self.stopping_since = None

    def waiting(self, reason: str) -> None:
        self.told.append(("waiting", reason))

    def stopping(self, reason: str) -> None:
        self.told.append(("stopping", reason))
        self.stopping_since = len(self.submitted)

    def list_changed(self, task_id: str, change: object) -> None:
        self.told.append(("list_changed", (task_id, str(change))))
