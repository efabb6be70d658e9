"""Runs a compiled dag: opens executor and store, creates or resumes the run, and runs its plans to the end."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from liteflow.definition.compiled import CompiledDag
from liteflow.errors import ResourceError, StoreError
from liteflow.executors import BackendFactory, Executor, HostProgram, open_executor
from liteflow.outputs import create_folder, outputs_dir, remove_folder
from liteflow.planning.plan import Plan
from liteflow.planning.task_table import TaskTable
from liteflow.processes.log_file import check_log_folder
from liteflow.record import EMPTY_MAPPING, Record
from liteflow.running.config import RunConfig
from liteflow.running.decisions import previous_decisions
from liteflow.running.expansion import TaskExpander
from liteflow.running.hooks import Hooks
from liteflow.running.host_signals import SignalGate
from liteflow.running.inputs import Inputs
from liteflow.running.iterations import Iterations
from liteflow.running.loop import Loop, Parts
from liteflow.running.machines import Machines
from liteflow.running.observers import Observers, RunStart
from liteflow.running.outcomes import Ends, OutcomeHandler
from liteflow.running.places import FarTasks, Places, far_tasks, modes_of
from liteflow.running.ports import Clock, RunStore, SystemClock
from liteflow.running.recorder import Recorder
from liteflow.running.resume import PreviousRun, claim_run, create_run, make_plan, reset_rules
from liteflow.running.run_limits import RunLimits
from liteflow.running.run_outputs import RunOutputs
from liteflow.running.start_checks import StartChecks
from liteflow.running.starting import Starter
from liteflow.running.stopping import Stopping, StopSignals, stop_signals_handled
from liteflow.running.undoing import undo_lost
from liteflow.running.waits import Waits
from liteflow.state.locks import LockFile
from liteflow.state.records import PreviousInstance
from liteflow.state.reruns import await_owner
from liteflow.state.store import Store
from liteflow.states import RunStatus, TaskStatus
from liteflow.values.payload import spill_dir
from liteflow.work import Call, RunInfo


class Result(Record):
    """How a run ended; `signal` is the number of the signal that interrupted it."""

    status: RunStatus
    reason: str | None
    signal: int | None
    timed_out: bool = False


def run(
    compiled: CompiledDag, config: RunConfig, *, resume: bool = False, signal_gate: SignalGate | None = None
) -> Result:
    """Run a compiled dag to its end, or with `resume` resume the run `config.run_id`.

    The `signal_gate` is opened while the loop waits, so that signal handlers of the host program are called only then.

    Raises:
        DefinitionError: a task cannot run in the requested mode, or no log can be created; nothing ran.
        RunNotFound, RunOwned: the run to resume does not exist, or a live process owns it.
        StoreError, ResourceError: the state file failed, or no attempt can be started. Running tasks were ended;
            everything already stored is correct, and a resume continues the run.
    """
    info = _info_of(compiled, config)
    if resume:
        await_owner(config.db_path, config.run_id)
    with contextlib.ExitStack() as stack:
        locks = LockFile(config.db_path)
        stack.callback(locks.close)
        if config.log_dir is not None:
            check_log_folder(config.log_dir)
        far = far_tasks(compiled, config)
        # The guardian is forked here: before SQLite is open (a connection must not be forked) and before threads start.
        executor = _open_executor(compiled, config, far, info, locks)
        stack.callback(executor.close, 0.0)
        store = Store(config.db_path, locks, config.durability)
        stack.callback(store.close)
        signals = StopSignals(executor.wake)
        runner = Runner(
            compiled=compiled,
            config=config,
            far=far,
            info=info,
            store=store,
            executor=executor,
            clock=SystemClock(),
            signals=signals,
            signal_gate=signal_gate or SignalGate(),
        )
        try:
            previous = runner.acquire(resume=resume)
            with stop_signals_handled(signals.receive, of_child_run=config.parent is not None):
                return runner.run(previous, resumed=resume)
        except BaseException as error:
            executor.close(0.0)  # so that no task writes into the folder
            remove_folder(info.outputs_dir or "")
            if isinstance(error, ResourceError) and store.run_id:
                with contextlib.suppress(StoreError, ResourceError):  # it may be the state file that has no room
                    store.interrupt(str(error))
            raise


def _open_executor(compiled: CompiledDag, config: RunConfig, far: FarTasks, info: RunInfo, locks: LockFile) -> Executor:
    bodies = compiled.bodies()
    if any(isinstance(body, Call) and body.preload for body in bodies.values()):
        from liteflow.executors.preload import preload  # few workflows need it

        preload(bodies.values())
    return open_executor(
        bodies,
        info,
        mode=modes_of(compiled, config, far),
        slots=config.max_workers,
        timeouts=compiled.with_timeout(),
        host=HostProgram(close_in_workers=(locks.fd,), claim_children=config.claim_children),
        backends=config.backends,
        lanes=_lanes(far),
    )


def _info_of(compiled: CompiledDag, config: RunConfig) -> RunInfo:
    """Return the facts that all work of a run shares."""
    return RunInfo(
        run_id=config.run_id,
        dag_id=compiled.dag_id,
        db_path=config.db_path,
        log_dir=config.log_dir,
        params=config.params,
        values_dir=spill_dir(config.db_path, config.run_id),
        outputs_dir=outputs_dir(config.db_path, config.run_id),
        logical_date=config.logical_date,
        secrets=config.secrets,
        parks=config.parks,
    )


def _lanes(far: FarTasks) -> Mapping[str, BackendFactory]:
    """Return the lanes of the clusters of a run by place."""
    if not far.clusters:
        return EMPTY_MAPPING
    from liteflow.remote.lane import lane_of  # few runs have clusters
    from liteflow.remote.slots import ClusterSlots

    slots = {far.far_places[place].cluster: ClusterSlots(cluster.slots) for place, cluster in far.clusters.items()}
    return {
        place: lane_of(place, cluster, slots[far.far_places[place].cluster]) for place, cluster in far.clusters.items()
    }


class Runner(Record):
    """Runs the plans of one run: the first, and one for each retry of the run."""

    compiled: CompiledDag
    config: RunConfig
    far: FarTasks
    info: RunInfo
    store: RunStore
    executor: Executor
    clock: Clock
    signals: StopSignals
    signal_gate: SignalGate

    def acquire(self, *, resume: bool) -> PreviousRun:
        """Create the run, or take it over. Return what it has already done."""
        take = claim_run if resume else create_run
        previous = take(self.compiled, self.config, self.store, self.executor.session)
        self.store.batch.undos.tasks = self.compiled.with_undo()
        create_folder(self.info.outputs_dir or "")  # the run is owned by this process from here on
        return previous

    def run(self, previous: PreviousRun, *, resumed: bool) -> Result:
        """Run plans until the run has ended."""
        config, store, clock = self.config, self.store, self.clock
        observers = Observers(config.observers)
        limits = RunLimits(store, config.retry, config.timeout_s, config.run_id)
        limits.open(clock.monotonic())
        queue_reason = store.queue_reason
        while True:
            parts = self._parts(previous, limits, observers, resumed=resumed)
            if queue_reason is not None:
                observers.notify("waiting", queue_reason)
                queue_reason = None
            if self._loop(parts).run():
                break
            number = limits.retries_left(parts.plan)
            reason = limits.retry_reason(number)
            previous, resumed = PreviousRun(*store.retry_run(reason, reset_rules(self.compiled).choose)), True
            observers.notify("waiting", reason)
            limits.back_off(number, clock.monotonic())
        status = parts.plan.result()
        stop = parts.plan.stopped
        stop_reason, timed_out = (stop.reason, stop.cause == "timed_out") if stop else (None, False)
        observers.notify("run_ended", status, stop_reason)
        return Result(status=status, reason=stop_reason, signal=self.signals.first, timed_out=timed_out)

    def _loop(self, parts: Parts) -> Loop:
        config, modes = self.config, self.compiled.modes()
        bodies = self.compiled.bodies() if config.mode == "inline" or "inline" in modes.values() else {}
        return Loop(
            parts,
            store=self.store,
            executor=self.executor,
            clock=self.clock,
            signal_gate=self.signal_gate,
            inline_tasks=frozenset(name for name in bodies if modes.get(name, config.mode) == "inline"),
            outputs_dir=self.info.outputs_dir or "",
            parks=config.parks,
        )

    def _parts(self, previous: PreviousRun, limits: RunLimits, observers: Observers, *, resumed: bool) -> Parts:
        """Plan what is left to do, and make the parts of a loop for the plan."""
        compiled, store, now = self.compiled, self.store, self.clock.time()
        done = previous.done(compiled.graph)
        skips = previous_decisions(compiled, done, store.value) if resumed else {}
        plan = make_plan(compiled, self.config, self.far, previous, done, skips)
        parts = self._assemble(plan, previous.instances, limits, observers)
        observers.notify("run_began", self._run_start(done))
        if resumed and observers.any:
            parts.expansion.report_changed_lists(done)
        if resumed:
            undo_lost(compiled, store, self.executor, parts.inputs, parts.recorder, now)
        parts.hooks.open(store.hooks() if resumed else (), now)
        parts.waits.open(store.waits() if resumed else ())
        parts.recorder.record(plan.initial_transitions, now)
        return parts

    def _assemble(
        self,
        plan: Plan,
        previous: Mapping[str, Mapping[int, PreviousInstance]],
        limits: RunLimits,
        observers: Observers,
    ) -> Parts:
        """Make the parts of a loop; `previous` are the instances of mapped tasks of the previous part of the run."""
        compiled, config, store, table = self.compiled, self.config, self.store, plan.table
        hooks = Hooks(compiled, plan, store.batch)
        recorder = self._recorder(table, observers, hooks, previous)
        inputs = Inputs(compiled=compiled, table=table, store=store, info=self.info, previous=previous)
        checks = StartChecks(compiled=compiled, plan=plan, inputs=inputs, hooks=hooks, info=self.info)
        waits = Waits(
            compiled=compiled, plan=plan, recorder=recorder, executor=self.executor, clock=self.clock, info=self.info
        )
        stopping = Stopping(
            waits=waits,
            compiled=compiled,
            grace_s=config.grace_s,
            plan=plan,
            executor=self.executor,
            recorder=recorder,
            signals=self.signals,
            clock=self.clock,
        )
        places = self._places(plan)
        starter = Starter(compiled=compiled, config=config, plan=plan, recorder=recorder, limits=limits, places=places)
        expansion = TaskExpander(
            compiled=compiled, plan=plan, inputs=inputs, recorder=recorder, observers=observers, previous=previous
        )
        iterations = Iterations.of(compiled, table, store, inputs, self.info)
        outcomes = OutcomeHandler(
            compiled=compiled,
            plan=plan,
            recorder=recorder,
            inputs=inputs,
            checks=checks,
            stopping=stopping,
            places=places,
            ends=Ends(waits=waits, iterations=iterations),
        )
        return Parts(
            plan=plan,
            recorder=recorder,
            starter=starter,
            inputs=inputs,
            hooks=hooks,
            checks=checks,
            expansion=expansion,
            outcomes=outcomes,
            limits=limits,
            stopping=stopping,
            waits=waits,
            iterations=iterations,
            machines=self._machines(plan, places, recorder),
            outputs=RunOutputs(compute=config.outputs, masker=self.info.masker),
        )

    def _places(self, plan: Plan) -> Places:
        """Return the places of the tasks.

        Attempts are not handed out beyond the slots where they would delay others: no task with a priority or a pool
        waits behind queued attempts, and none starts after a failure that ends all.
        """
        prefetches = not plan.has_queue_options and not self.config.fail_fast
        return Places(plan, self.executor, self.config.max_workers, prefetches=prefetches)

    def _machines(self, plan: Plan, places: Places, recorder: Recorder) -> Machines:
        clusters = self.far.far_places
        return Machines(plan=plan, places=places, clusters=clusters, executor=self.executor, recorder=recorder)

    def _recorder(
        self,
        table: TaskTable,
        observers: Observers,
        hooks: Hooks,
        previous: Mapping[str, Mapping[int, PreviousInstance]],
    ) -> Recorder:
        return Recorder(
            table=table,
            store=self.store,
            observers=observers,
            hooks=hooks,
            masker=self.info.masker,
            previous=previous,
            gates=self.compiled.gates(),
        )

    def _run_start(self, done: Mapping[int, TaskStatus]) -> RunStart:
        """Return what observers learn when the run starts."""
        compiled, config, ids = self.compiled, self.config, self.compiled.graph.ids
        gates = compiled.gates()
        cluster = config.clusters.get(config.mode)
        return RunStart(
            run_id=config.run_id,
            dag_id=compiled.dag_id,
            db_path=config.db_path,
            log_dir=config.log_dir,
            mode=config.mode,
            max_workers=config.max_workers if cluster is None else cluster.slots,
            task_ids=[name for node, name in enumerate(ids) if node not in gates] if gates else ids,
            mapped_tasks=frozenset(ids[node] for node in compiled.mapped()),
            has_hooks=compiled.has_hooks(),
            finished={ids[node]: status for node, status in done.items() if node not in gates},
        )
