"""The loop: it takes what may start from the plan, stores it, starts it, waits for outcomes, and stores those.

It is the only writer of its run and the only place where plan, store and executor meet. One turn is one transaction:
nothing is started, and nobody is told, before the commit that says so has returned.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from math import inf
from types import FrameType
from typing import Any, Final, NamedTuple, cast

from liteflow.definition.compiled import CompiledDag
from liteflow.errors import InputError
from liteflow.executors import Executor, open_executor
from liteflow.outputs import create_folder, outputs_dir, remove_folder
from liteflow.planning.plan import StopCause
from liteflow.planning.ready_queue import DEFAULT_QUEUE
from liteflow.planning.task_table import Transition, instance_name
from liteflow.running.gates import Gates, decisions, judged
from liteflow.running.hooks import Hooks
from liteflow.running.host_signals import Gate
from liteflow.running.inputs import Inputs
from liteflow.running.lists import Listed
from liteflow.running.observers import Change, ListChange, Observers, RunConfig, run_start
from liteflow.running.owning import Owned, make, planned, set_up_again, take_over
from liteflow.running.pace import Pace
from liteflow.running.prefetch import Prefetch
from liteflow.running.signals import handled
from liteflow.state.locks import LockFile
from liteflow.state.records import PreviousInstance
from liteflow.state.store import Store
from liteflow.state.write_batch import SlotRequest
from liteflow.states import TASK_ENDED, RunStatus, TaskStatus
from liteflow.values.payload import spill_dir
from liteflow.work import ErrorInfo, Outcome, RunInfo, Work

_TICK_S: Final = 0.25  # how soon a request of another process is seen
_CLOSED: Final = contextlib.nullcontext()  # handlers of the program are not called
_NO_ERROR: Final = ErrorInfo("")


class Result(NamedTuple):
    """How a run ended; `signal` is the number of the one that interrupted it."""

    status: RunStatus
    reason: str | None
    signal: int | None
    timed_out: bool = False


def run(program: CompiledDag, options: RunConfig, *, resume: bool = False, gate: Gate | None = None) -> Result:
    """Run a program to its end, or with `resume` go on with the run `options.run_id`.

    The `gate` is opened while the loop waits, so that handlers of the program are called only then.

    Raises:
        DefinitionError: a task cannot run in the mode asked for; nothing ran.
        RunNotFound, RunOwned: there is no such run to resume, or a live process owns it.
        StoreError, ResourceError: the state file; what ran was ended, what was stored is true.
    """
    values_dir, outputs = spill_dir(options.db_path, options.run_id), outputs_dir(options.db_path, options.run_id)
    info = RunInfo(
        options.run_id,
        program.dag_id,
        options.db_path,
        options.log_dir,
        options.params,
        values_dir,
        outputs_dir=outputs,
        logical_date=options.logical_date,
        secrets=options.secrets,
    )
    with contextlib.ExitStack() as stack:
        locks = LockFile(options.db_path)
        stack.callback(locks.close)
        # The guardian is forked in here: before SQLite is open (a connection must not be forked) and before threads.
        executor = open_executor(
            program.bodies(),
            info,
            mode=options.mode,
            slots=options.max_workers,
            task_modes=program.modes(),
            timeouts=program.with_timeout(),
            close_in_workers=(locks.fd,),
            claim_children=options.claim_children,
            backends=options.backends,
        )
        stack.callback(executor.close, 0.0)
        store = Store(options.db_path, locks, options.durability)
        stack.callback(store.close)
        gate = gate or Gate()
        loop = _Loop(program, options, store, executor, info, gate)
        try:
            loop.own(resume)
            with handled(loop.on_signal):
                return loop.run()
        except BaseException:
            executor.close(0.0)  # now that nobody writes there any more
            remove_folder(outputs)
            raise


class _Loop:
    def __init__(
        self, program: CompiledDag, options: RunConfig, store: Store, executor: Executor, info: RunInfo, gate: Gate
    ) -> None:
        self._program = program
        self._gate = gate
        self._ids = program.graph.ids
        self._options = options
        self._info = info
        self._outputs_dir = info.outputs_dir or ""
        self._store = store
        self._executor = executor
        self._observers = Observers(options.observers)
        # What a run does not have costs its tasks nothing but a look at these.
        self._told, self._hooked = bool(options.observers), program.has_hooks()
        self._mapped = program.mapped()
        self._handing_on = bool(self._mapped) or any(task.inputs for task in program.tasks)
        self._ordered = any(settings.queue is not DEFAULT_QUEUE for _, settings in program.special())
        self._modes = program.modes()
        self._repeating = bool(program.control.setups or program.control.teardowns)
        self._kept: Mapping[str, Mapping[int, PreviousInstance]] = {}  # of a resumed run: instances of mapped tasks
        self._labels: dict[int, str] = {}  # for observers: what people can tell an instance by
        self._ending: set[int] = set()  # running tasks that were told to stop
        self._signals: list[int] = []
        self._seen_signals = 0
        self._seen_request = 0
        self._told_stopping = False
        self._looked_at = 0.0
        self._stamp = (0, "")  # a second and how log files write it
        self._pace = Pace(options.timeout_s)
        # No task with a priority or a pool waits behind queued ones; with fail_fast none starts after a failure.
        prefetches = executor.queues and not self._ordered and not options.fail_fast
        self._prefetch = Prefetch(options.max_workers, enabled=prefetches)
        self._asking: list[tuple[int, str | None]] = []  # tasks that need slots, with their logs; see `_admitted`
        self._refused = False  # was anybody who asked?
        self._granted = False  # has anybody got slots just now? Then the next one may ask at once

    def own(self, resume: bool) -> None:
        """Make the run, or take it over; then there is a plan."""
        owned = (take_over if resume else make)(self._program, self._options, self._store, self._executor.session)
        self._batch = self._store.batch
        create_folder(self._outputs_dir)  # now that the run is ours
        self._refused = self._store.queue_reason is not None
        if not self._refused:
            self._pace.begin(time.monotonic())
        self._begin(owned, resume)
        if self._refused:
            self._observers.tell("waiting", self._store.queue_reason)

    def _begin(self, owned: Owned, again: bool) -> None:
        """Plan what is left to do; `again`: some of it was tried before."""
        program, options = self._program, self._options
        if again and program.control.teardowns:
            owned = set_up_again(program, owned, self._store)
        self._kept, self._labels = owned.instances, {}
        done = owned.done(program.graph)
        skips = decisions(program, done, self._store) if again else None
        self.plan = planned(program, options, owned, done, skips)
        self._ids, self._indexes = self.plan.table.task_ids, self.plan.table.map_indexes
        self._inputs = Inputs(program, self.plan, self._store, self._info, self._kept)
        self._hooks = Hooks(program, self.plan, self._batch)
        self._gates = Gates(program, self.plan, self._inputs, self._hooks, self._info)
        self._observers.tell("run_began", run_start(program, options, done))
        if again and self._told and self._mapped:
            self._compare_lists(done)
        self._hooks.open(self._store.hooks() if again else (), time.time())
        self._store_moves(self.plan.opening, time.time())

    # -- the loop ------------------------------------------------------------------------------------------

    def run(self) -> Result:
        store, executor = self._store, self._executor
        while True:
            if self.plan.finished and not self.plan.halted:
                self._wind_up()
            starting = self._take_ready()  # 1. what may start
            plan = self.plan
            over = plan.finished
            if over:
                remove_folder(self._outputs_dir)  # before the verdict: nobody takes over a run that has one
                self._batch.verdict = (plan.result(), plan.stopped and plan.stopped.reason, time.time())
            if self._batch:
                store.commit()  # 2. one transaction: verdicts of the last turn, intents of this one
                if self._asking:
                    starting += self._admitted()
                self._observers.publish()
            for node, log_path in starting:  # 3. only now they start, with what is stored of their upstreams
                work = self._work(node, log_path)
                with self._gate if self._is_inline(work.task_id) else _CLOSED:
                    executor.submit(work)
            if over:
                reason, cause = plan.stopped or (None, None)
                signal_number = self._signals[0] if self._signals else None
                result = Result(plan.result(), reason, signal_number, cause == "timed_out")
                self._observers.tell("run_ended", result.status, result.reason)
                return result
            asked = self._answer()  # 4. what tasks want to know before they start, now that it is stored
            patience = 0.0 if asked else self._patience()
            with self._gate:  # here handlers of the program are called, and while a task runs in this thread
                outcomes = executor.wait(patience)  # 5. reap what has finished
            for outcome in outcomes:
                self._finish(outcome)
            self._tick()  # 6. signals, requests

    def _is_inline(self, task_id: str) -> bool:
        """Whether the task runs in this thread, within `submit`."""
        return self._modes.get(task_id, self._options.mode) == "inline"

    def _wind_up(self) -> None:
        """All tasks have ended: the run is tried again, or else its own hooks come last."""
        if not self._try_again() and self._program.run_hooks:
            self._hooks.close(self.plan.result(), self.plan.stopped and self.plan.stopped.reason, time.time())

    def _answer(self) -> bool:
        """Answer the tasks that ask: their gates, the lists that they are mapped over. Were there any?"""
        now, asked = time.time(), False
        if not self._pace.open:
            return False
        if self._program.control.gated:
            asked, moves = self._gates.resolve(now)
            self._store_moves(moves, now)
            if self.plan.stopped is not None:
                self._end_running(None)
        for node in self.plan.due_lists():
            asked = True
            self._expand(node)
        return asked

    def _take_ready(self) -> list[tuple[int, str | None]]:
        """Tasks that may start now, each with its log file; the intent to start them is buffered."""
        plan, starting = self.plan, list[tuple[int, str | None]]()
        if not self._pace.open:
            return starting
        now, wall = time.monotonic(), time.time()
        for queued, log_path in self._prefetch.promote(len(plan.running)):
            attempt = plan.table.attempts[queued]
            self._batch.start_attempt(self._ids[queued], self._indexes[queued], attempt, "QUEUED", log_path, wall)
            if self._told:
                self._change(queued, attempt, "QUEUED", "RUNNING", None, wall, log_path)
        for _ in range(self._prefetch.room(len(plan.running))):
            node = plan.take(now)
            if node is None:
                break
            task_id, index, attempt = self._ids[node], self._indexes[node], plan.table.attempts[node]
            log_path = self._log_path(task_id, index, wall)
            previous = self._before(node)
            if self._ordered and (needs := plan.slot_needs(node)):
                self._batch.asked.append(SlotRequest(task_id, index, needs, attempt, previous, log_path, wall))
                self._asking.append((node, log_path))
                continue
            status: TaskStatus = "RUNNING"
            if not self._prefetch.has_slot(len(plan.running) - 1):
                status, self._prefetch.queued[node] = "QUEUED", log_path
            self._batch.start_attempt(task_id, index, attempt, previous, log_path, wall, status)
            if self._told:
                self._change(node, attempt, previous, status, None, wall, log_path)
            starting.append((node, log_path))
        return starting

    def _dequeue(self, outcome: Outcome) -> bool:
        """Record the start of an attempt that is still queued in the state file; return whether there was none."""
        node, attempt, started_at = outcome.node, outcome.attempt, outcome.started_at
        log_path = self._prefetch.queued.pop(node)
        if started_at is None:
            return True
        self._batch.started(self._ids[node], self._indexes[node], attempt, started_at)
        if self._told:
            self._change(node, attempt, "QUEUED", "RUNNING", None, started_at, log_path)
        return False

    def _admitted(self) -> list[tuple[int, str | None]]:
        """Those of the tasks that asked for slots that have got them; the others wait."""
        plan, asking, starting = self.plan, self._asking, list[tuple[int, str | None]]()
        self._asking, self._granted = [], any(self._batch.granted)
        for (node, log_path), granted in zip(asking, self._batch.granted, strict=True):
            if not granted:
                plan.put_back(node)
                self._refused = True
                continue
            plan.slots_granted(node)
            starting.append((node, log_path))
            if self._told:
                previous = self._before(node)
                self._change(node, plan.table.attempts[node], previous, "RUNNING", None, time.time(), log_path)
        return starting

    def _free(self, node: int) -> None:
        """The task gives back the slots it holds; whoever waits for some may ask again."""
        self._batch.released_slots.append((self._ids[node], self._indexes[node]))
        self.plan.slots_freed()

    def _try_again(self) -> bool:
        """The run is over. Has it failed, and is it tried again by itself?"""
        policy, used = self._options.retry, 0
        if policy.retries and self.plan.result() == "FAILED" and self._pace.timed_out is None and not self._signals:
            used = self._store.retry_count() + 1
        if not 0 < used <= policy.retries:
            return False
        if self._batch:
            self._store.commit()
            self._observers.publish()
        wait = policy.wait_s(used, self._options.run_id)
        reason = f"it failed; try {used + 1} of {policy.retries + 1} begins in {wait:.3g} s"
        owned = Owned(*self._store.retry_run(reason))
        self._observers.tell("waiting", reason)
        self._told_stopping = False
        self._pace.rest(time.monotonic(), wait)
        self._begin(owned, again=True)
        return True

    def _before(self, node: int) -> TaskStatus:
        """The stored state of a task that is about to start."""
        return "UP_FOR_RETRY" if self.plan.is_retry(node) else "PENDING"

    def _work(self, node: int, log_path: str | None) -> Work:
        index = self._indexes[node]
        if self._hooked and self.plan.table.is_hook(node):
            return self._hooks.work(node, log_path, self._inputs, self._options.grace_s)
        settings = self._program.tasks[node if index < 0 else self.plan.table.owner(node)].settings
        return Work(
            node,
            self._ids[node],
            index,
            self.plan.table.attempts[node],
            self._inputs.of(node),
            settings.timeout_s,
            self._grace_of(node),
            log_path,
        )

    def _expand(self, node: int) -> None:
        """A mapped task may start: its list is read and becomes instances."""
        plan, task_id, now = self.plan, self._ids[node], time.time()
        try:
            listed = self._inputs.listed(node)
        except InputError as error:
            self._store_moves(plan.reject_list(node, f"{error}{self._no_list(node)}"), now)
            return
        labels = [self._masked(row.label) for row in listed.rows]
        timeout_s = self._program.tasks[node].settings.timeout_s
        self._batch.unfolded(task_id, zip(listed.indexes, labels, listed.digests, strict=True), timeout_s, now)
        kept, note = self._kept.get(task_id, {}), ""
        if listed.gone:
            self._batch.remove_instances(
                task_id, {index: kept[index] for index in listed.gone}, "its item is not in the list any more", now
            )
        if listed.new or listed.gone:
            change = self._list_change(task_id, listed)
            note = f"its list has changed: {change}"
            self._observers.tell("list_changed", task_id, change)
            gone = set(listed.gone)
            kept = {index: one for index, one in kept.items() if index not in gone}
            self._kept = {**self._kept, task_id: kept}
        before = {index: (cast(TaskStatus, one.status), one.attempts) for index, one in kept.items()}
        moves = plan.expand(node, listed.indexes, before, note)
        if self._told and node in plan.table.mapped:
            numbered = zip(plan.table.mapped[node].nodes, labels, strict=True)
            self._labels.update((instance, label) for instance, label in numbered if label is not None)
        self._store_moves(moves, now)

    def _no_list(self, node: int) -> str:
        """Which of the tasks that a list is read of have not made one, for the end of a message."""
        index, status = self._program.graph.index, self.plan.table.status
        states = {ref.task_id: status[index[ref.task_id]] for ref in self._mapped[node].reads}
        absent = [f"task {task_id!r} is {state}" for task_id, state in states.items() if state != "SUCCESS"]
        return f"; {', '.join(absent)}, so it has no list" if absent else ""

    def _list_change(self, task_id: str, listed: Listed, *, kept: bool = False) -> ListChange:
        """What has changed in the list of a mapped task since an earlier part of the run, in names of items."""
        labels = [listed.rows[place].label or f"item {place}" for place in listed.new]
        before = self._kept[task_id]
        gone = [before[index].label or instance_name(task_id, index) for index in listed.gone]
        return ListChange(tuple(str(self._masked(label)) for label in labels), tuple(gone), kept)

    def _compare_lists(self, done: Mapping[int, TaskStatus]) -> None:
        """Tell of mapped tasks that have succeeded, whose lists are others by now: they stay as they are."""
        for node in self._mapped:
            if node in done and self._ids[node] in self._kept:
                try:
                    listed = self._inputs.listed(node)
                except InputError:
                    continue
                if listed.new or listed.gone:
                    change = self._list_change(self._ids[node], listed, kept=True)
                    self._observers.tell("list_changed", self._ids[node], change)

    def _leave(self, task_id: str, status: TaskStatus, reason: str | None, now: float) -> None:
        """A mapped task has ended without a list: so have the instances that an earlier part of the run has left."""
        for index, one in self._kept[task_id].items():
            if one.status == "PENDING":
                self._batch.change_status(task_id, index, one.attempts, "PENDING", status, reason, now)

    def _finish(self, outcome: Outcome) -> None:
        if outcome.error is not None and self._options.secrets is not None:
            outcome = outcome._replace(error=outcome.error.masked(self._options.secrets.masker))
        node, plan, program = outcome.node, self.plan, self._program
        skips: Mapping[int, str] | None = None
        if node < len(program.tasks) and program.tasks[node].settings.decider is not None:
            outcome, skips = judged(program, outcome)
        error = outcome.error or _NO_ERROR
        self._ending.discard(node)
        self._prefetch.observe(outcome)
        unstarted = node in self._prefetch.queued and self._dequeue(outcome)
        hook = self._hooked and plan.table.is_hook(node)
        repeats = hook or (self._repeating and program.control.repeats(plan.table.owner(node)))
        self._batch.ended(self._ids[node], self._indexes[node], outcome, repeats=repeats)
        if self._handing_on:
            self._inputs.keep(outcome)
        moves = plan.finish(
            node,
            outcome.verdict,
            time.monotonic(),
            reason=error.message or None,
            error_types=error.types,
            exit_code=outcome.exit_code,
            skips=skips,
        )
        if self._ordered and plan.slot_needs(node):
            self._free(node)  # now that it does not count among the instances at work any more
        self._store_moves(moves, outcome.ended_at, outcome, unstarted=unstarted)
        if hook:
            self._hook_ended(node, outcome)
        if self._handing_on:
            self._inputs.release(moves)
        for doomed in plan.to_cancel():
            self._end(doomed, None)
        if plan.stopped is not None:
            self._end_running(None)

    def _hook_ended(self, node: int, outcome: Outcome) -> None:
        self._hooks.ended(node, outcome.ended_at)
        self._store_moves(self._gates.heard(node, outcome), outcome.ended_at)

    def _store_moves(
        self, moves: Sequence[Transition], now: float, outcome: Outcome | None = None, *, unstarted: bool = False
    ) -> None:
        """Buffer changes of state; the first one is of the task whose attempt ended, `unstarted` without a start."""
        if self._options.secrets is not None:
            moves = [one._replace(reason=self._masked(one.reason)) for one in moves]
        for node, before, status, attempt, reason, _ in moves:
            previous: TaskStatus = "PENDING" if before == "QUEUED" else before  # QUEUED is the plan's own, not stored
            ended = outcome if outcome is not None and node == outcome.node else None
            if ended is not None and unstarted:
                previous = "QUEUED"
            task_id, index = self._ids[node], self._indexes[node]
            self._batch.change_status(task_id, index, attempt, previous, status, reason, now, ended)
            if task_id in self._kept and status in TASK_ENDED and index < 0 and node not in self.plan.table.mapped:
                self._leave(task_id, status, reason, now)
            if self._told:
                path = None if ended is None else ended.log_path
                unfolded = self.plan.table.mapped[node] if status == "RUNNING" else None  # of a task: its instances run
                counts = None if unfolded is None else (unfolded.count, unfolded.remaining)
                self._change(node, attempt, previous, status, reason, now, path, ended, counts)
        if self._hooked:
            self._hooks.follow(moves, now, outcome)

    def _patience(self) -> float:
        if self._granted:
            self._granted = False
            return 0.0
        wakeup = self.plan.next_retry_at()
        if wakeup is None and self._pace.due == inf:
            return _TICK_S
        return min(_TICK_S, max(0.0, min(wakeup or inf, self._pace.due) - time.monotonic()))

    # -- stopping ------------------------------------------------------------------------------------------

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Runs between two bytecodes of anything: it only takes note and wakes the loop."""
        self._signals.append(number)
        self._executor.wake()

    def _tick(self) -> None:
        """The first signal ends tasks gracefully, the second one at once; another process may ask for a cancel."""
        if len(self._signals) > self._seen_signals:
            self._seen_signals = len(self._signals)
            reason = f"interrupted by {signal.Signals(self._signals[0]).name}"
            if self.plan.stopped is None:
                self.plan.pause(reason)
            else:
                self._stop(reason)
            self._end_running(None if self._seen_signals == 1 else 0.0)
        now = time.monotonic()
        if now >= self._pace.due:
            self._due(now)
        if now - self._looked_at >= _TICK_S:
            self._looked_at = now
            self._store.check_file()
            self._store.renew_lock()
            self._store.rest()
            for request in self._store.requests():
                if request.action == "cancel" and request.request_no > self._seen_request:
                    self._seen_request = request.request_no
                    self._stop(request.detail or "cancelled")
            if self._refused and self._store.slots_changed():
                self._ask_again(now)

    def _stop(self, reason: str, cause: StopCause = "cancelled") -> None:
        """End the run, for good; said once more, what a stopped run still does (teardowns, hooks) ends too."""
        moves = self.plan.stop(reason, cause) if self.plan.stopped is None else self.plan.halt(reason)
        self._store_moves(moves, time.time())
        self._end_running(None)

    def _due(self, now: float) -> None:
        """The run has used up its time, or has rested long enough."""
        if self._pace.is_over(now):
            self._stop(str(self._pace.timed_out), "timed_out")
        else:
            self._store.end_backoff()

    def _ask_again(self, now: float) -> None:
        """Slots, or the run's turn in its group, may be had now."""
        if self._store.queue_reason is None:
            self._refused = False
            self.plan.slots_freed()
        elif self.plan.stopped is None and self._store.enter_group():
            self._refused = False
            self._pace.begin(now)

    def _end_running(self, grace_s: float | None) -> None:
        """Tell running tasks to stop: each after its own grace, or all after `grace_s`."""
        if not self._told_stopping and self.plan.stopped is not None:
            self._told_stopping = True
            self._observers.tell("stopping", self.plan.stopped.reason)
        for node in self.plan.running:
            if not self.plan.goes_on(node):
                self._end(node, grace_s)

    def _end(self, node: int, grace_s: float | None) -> None:
        """Tell a running task to stop, once; or again, when it has less time than it was given."""
        if grace_s is not None or node not in self._ending:
            self._ending.add(node)
            self._executor.cancel(node, self._grace_of(node) if grace_s is None else grace_s)

    def _grace_of(self, node: int) -> float:
        """Return the seconds between the polite and the hard signal."""
        owner, tasks = self.plan.table.owner(node), self._program.tasks
        grace_s = tasks[owner].settings.grace_s if owner < len(tasks) else None
        return self._options.grace_s if grace_s is None else grace_s

    # -- small things --------------------------------------------------------------------------------------

    def _log_path(self, task_id: str, index: int, now: float) -> str | None:
        if self._options.log_dir is None:
            return None
        if int(now) != self._stamp[0]:  # made once a second: it takes longer than all else here
            self._stamp = int(now), time.strftime("%Y%m%d_%H%M%S", time.localtime(now))
        which = task_id if index < 0 else f"{task_id}.{index}"
        name = f"task_{which}_{self._stamp[1]}_{int(now % 1 * 1e6):06d}.log"
        return os.path.join(self._options.log_dir, name)

    def _masked(self, text: str | None) -> str | None:
        """What is stored of tasks holds no secret."""
        secrets = self._options.secrets
        return text if secrets is None or text is None else secrets.masker.text(text)

    def _change(self, node: int, *rest: Any) -> None:
        """Observers are told of a change once it is stored."""
        change = Change(self._ids[node], self._indexes[node], *rest)
        if self.plan.table.is_hook(node):
            change = change._replace(hook=self._hooks.event(node))
        elif node in self._labels:
            change = change._replace(map_key=self._labels[node])
        self._observers.changes.append(change)
