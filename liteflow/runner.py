"""The loop: it takes what may start from the plan, stores it, starts it, waits for outcomes, and stores those.

It is the only writer of its run and the only place where plan, store and executor meet. One turn is one transaction:
nothing is started, and nobody is told, before the commit that says so has returned.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, Final, NamedTuple, cast

from liteflow.errors import InputError, OwnerDied
from liteflow.executors import Executor, open_executor
from liteflow.inputs import Inputs
from liteflow.locks import LockFile
from liteflow.outputs import make_folder, outputs_dir, remove_folder
from liteflow.payload import spill_dir
from liteflow.plan import Move, Plan
from liteflow.processes.tree import sweep_session
from liteflow.program import Program
from liteflow.states import RunStatus, TaskStatus
from liteflow.store import Kept, NewInstance, NewRun, Store
from liteflow.turn import NOT_BEGUN
from liteflow.work import ErrorInfo, Outcome, RunInfo, Work

_TICK_S: Final = 0.25  # how soon a request of another process is seen
_SWEEP_S: Final = 25.0  # how long a dead owner's guardian may take to end what it had started
_NO_ERROR: Final = ErrorInfo("")
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Options(NamedTuple):
    """How to run it. `db_path` and `log_dir` are absolute; `log_dir` None leaves output on the terminal."""

    db_path: str
    run_id: str
    mode: str = "process"
    max_workers: int = 4
    log_dir: str | None = None
    durability: str = "process"
    fail_fast: bool = False
    grace_s: float = 10.0
    params: Mapping[str, Any] = {}
    logical_date: float | None = None
    observers: Sequence[Observer] = ()
    claim_children: bool = False
    done: Mapping[str, float] = {}  # for a new run: tasks that succeeded elsewhere, with the seconds they took


class Change(NamedTuple):
    """A task instance changed its state, and that is committed. `outcome` is there when an attempt ended."""

    task_id: str
    map_index: int
    attempt: int
    previous: TaskStatus
    status: TaskStatus
    reason: str | None
    at: float  # epoch seconds
    log_path: str | None = None
    outcome: Outcome | None = None
    instances: tuple[int, int] | None = None  # of a mapped task that begins: how many, and how many have not ended


class Observer:
    """Is told what happens, after it was stored, in the loop's thread: override what is of interest.

    An observer that raises is dropped; it cannot fail a run.
    """

    def run_began(self, program: Program, options: Options, kept: Mapping[int, TaskStatus]) -> None:
        """The run is stored; `kept` are the tasks that ended in an earlier part of it, with their state."""

    def changed(self, changes: Sequence[Change]) -> None:
        """Task instances have changed their states."""

    def stopping(self, reason: str) -> None:
        """Nothing more starts, and what runs is being ended."""

    def run_ended(self, status: RunStatus, reason: str | None) -> None:
        """The run's verdict is stored."""


class Result(NamedTuple):
    """How a run ended; `signal` is the number of the one that interrupted it."""

    status: RunStatus
    reason: str | None
    signal: int | None


def run(program: Program, options: Options, *, resume: bool = False) -> Result:
    """Run a program to its end, or with `resume` go on with the run `options.run_id`.

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
    )
    with contextlib.ExitStack() as stack:
        locks = LockFile(options.db_path)
        stack.callback(locks.close)
        # The guardian is forked in here: before SQLite is open (a connection must not be forked) and before threads.
        executor = open_executor(
            program.bodies,
            info,
            mode=options.mode,
            slots=options.max_workers,
            task_modes=program.modes,
            timeouts=[program.graph.ids[node] for node in program.timeouts],
            close_in_workers=(locks.fd,),
            claim_children=options.claim_children,
        )
        stack.callback(executor.close, 0.0)
        store = Store(options.db_path, locks, options.durability)
        stack.callback(store.close)
        loop = _Loop(program, options, store, executor, info)
        loop.own(resume)
        try:
            with _signals(loop):
                return loop.run()
        except BaseException:
            executor.close(0.0)  # now that nobody writes there any more
            remove_folder(outputs)
            raise


class _Loop:
    def __init__(self, program: Program, options: Options, store: Store, executor: Executor, info: RunInfo) -> None:
        self._program = program
        self._ids = program.graph.ids
        self._options = options
        self._info = info
        self._outputs_dir = info.outputs_dir or ""
        self._store = store
        self._executor = executor
        self._observers = list(options.observers)
        self._changes: list[Change] = []
        self._kept: Mapping[str, Mapping[int, Kept]] = {}  # of a resumed run: instances of mapped tasks, by index
        self._ending: set[int] = set()  # running tasks that were told to stop
        self._signals: list[int] = []
        self._seen_signals = 0
        self._told_stopping = False
        self._looked_at = 0.0
        self._stamp = (0, "")  # a second and how log files write it

    def own(self, resume: bool) -> None:
        """Make the run, or take it over; then there is a plan."""
        program, options, graph = self._program, self._options, self._program.graph
        instances = (  # made one by one as they are stored
            NewInstance(task_id, [self._ids[above] for above in graph.upstream[node]], program.timeouts.get(node))
            for node, task_id in enumerate(self._ids)
        )
        done: dict[int, TaskStatus] = {}
        attempts: dict[int, int] = {}
        if resume:
            snapshot = (program.digest, program.snapshot)
            kept, self._kept, before = self._claim(instances, snapshot)
            if before is not None:
                # Had the last owner and its guardian been killed at the same instant, its tasks might still be alive.
                sweep_session(before)
            for task_id, (status, tries) in kept.items():
                node = graph.index.get(task_id)
                if node is None:
                    continue  # the task was removed from the definition; its history stays
                attempts[node] = tries
                if status in ("SUCCESS", "SKIPPED"):
                    done[node] = "SUCCESS" if status == "SUCCESS" else "SKIPPED"
        else:
            settings = {"mode": options.mode, "max_workers": options.max_workers, "log_dir": options.log_dir}
            new = NewRun(
                options.run_id,
                program.dag_id,
                program.description,
                program.digest,
                program.snapshot,
                instances,
                options.params,
                options.logical_date,
                source=program.source,
                settings=settings,
                done=options.done,
            )
            self._store.create(new, self._executor.session)
            for task_id in options.done:
                done[graph.index[task_id]], attempts[graph.index[task_id]] = "SUCCESS", 1
        self.plan = Plan(
            graph,
            retries=program.retries,
            rules=program.rules,
            done=done,
            attempts=attempts,
            fail_fast=options.fail_fast,
            seed=options.run_id,
            mapped=program.fail_fast,
            instances={
                graph.index[task_id]: [cast(TaskStatus, one.status) for _, one in sorted(indexes.items())]
                for task_id, indexes in self._kept.items()
                if graph.index.get(task_id) in done
            },
        )
        self._ids, self._indexes = self.plan.task_ids, self.plan.map_indexes
        self._inputs = Inputs(program, self.plan, self._store, self._info)
        self._turn = self._store.turn
        make_folder(self._outputs_dir)  # now that the run is ours
        self._tell("run_began", program, options, done)
        self._store_moves(self.plan.opening, time.time())

    def _claim(
        self, instances: Iterable[NewInstance], snapshot: tuple[str, str]
    ) -> tuple[dict[str, Kept], dict[str, dict[int, Kept]], int | None]:
        """Take the run over; where its owner is dead and its guardian still at the killing, wait for that."""
        give_up = time.monotonic() + _SWEEP_S
        while True:
            try:
                return self._store.claim(self._options.run_id, instances, snapshot, self._executor.session)
            except OwnerDied:
                if time.monotonic() >= give_up:
                    raise
                time.sleep(0.01)

    # -- the loop ------------------------------------------------------------------------------------------

    def run(self) -> Result:
        plan, store, executor = self.plan, self._store, self._executor
        while True:
            starting = self._take_ready()  # 1. what may start
            over = plan.finished
            if over:
                remove_folder(self._outputs_dir)  # before the verdict: nobody takes over a run that has one
                self._turn.verdict = (plan.result(), plan.stopped, time.time())
            if self._turn:
                store.commit()  # 2. one transaction: verdicts of the last turn, intents of this one
                self._publish()
            for node, log_path in starting:  # 3. only now they start, with what is stored of their upstreams
                executor.submit(self._work(node, log_path))
            asking = plan.asking()
            for node in asking:
                self._expand(node)
            if over:
                result = Result(plan.result(), plan.stopped, self._signals[0] if self._signals else None)
                self._tell("run_ended", result.status, result.reason)
                return result
            for outcome in executor.wait(0.0 if asking else self._patience()):  # 4. reap what has finished
                self._finish(outcome)
            self._tick()  # 5. signals, requests

    def _take_ready(self) -> list[tuple[int, str | None]]:
        """Tasks that may start now, each with its log file; the intent to start them is buffered."""
        plan, starting = self.plan, list[tuple[int, str | None]]()
        now, wall = time.monotonic(), time.time()
        room = self._options.max_workers + self._ahead() - len(plan.running)
        for _ in range(room):
            node = plan.take(now)
            if node is None:
                break
            task_id, index, attempt = self._ids[node], self._indexes[node], plan.attempts[node]
            log_path = self._log_path(task_id, index, wall)
            previous = self._before(node)
            self._turn.began(task_id, index, attempt, previous, log_path, wall)
            if self._observers:
                self._changes.append(Change(task_id, index, attempt, previous, "RUNNING", None, wall, log_path))
            starting.append((node, log_path))
        return starting

    def _before(self, node: int) -> TaskStatus:
        """The stored state of a task that is about to start."""
        return "UP_FOR_RETRY" if self.plan.is_retry(node) else "PENDING"

    def _ahead(self) -> int:
        """How many tasks may be started beyond the slots: none where a failure shall keep others from starting."""
        return 0 if self._options.fail_fast else self._executor.ahead

    def _work(self, node: int, log_path: str | None) -> Work:
        program, index = self._program, self._indexes[node]
        task = node if index < 0 else self.plan.owner(node)
        return Work(
            node,
            self._ids[node],
            index,
            self.plan.attempts[node],
            self._inputs.of(node),
            program.timeouts.get(task),
            program.graces.get(task, self._options.grace_s),
            log_path,
        )

    def _expand(self, node: int) -> None:
        """A mapped task may start: its list is read and becomes instances."""
        plan, task_id, now = self.plan, self._ids[node], time.time()
        try:
            rows = self._inputs.rows(node)
        except InputError as error:
            self._store_moves(plan.refuse(node, str(error)), now)
            return
        kept = self._kept.get(task_id, {})
        self._turn.unfolded(task_id, [row.label for row in rows], self._program.timeouts.get(node), now)
        before = {
            index: (cast(TaskStatus, one.status), one.attempts) for index, one in kept.items() if index < len(rows)
        }
        for index in kept.keys() - before.keys():
            if kept[index].status == "PENDING":
                gone = "the list that its task is mapped over has become shorter"
                self._turn.moved(task_id, index, kept[index].attempts, "PENDING", "SKIPPED", gone, now)
        self._store_moves(plan.expand(node, len(rows), before), now)

    def _finish(self, outcome: Outcome) -> None:
        node, plan = outcome.node, self.plan
        error = outcome.error or _NO_ERROR
        self._ending.discard(node)
        self._turn.ended(self._ids[node], self._indexes[node], outcome)
        self._inputs.keep(outcome)
        moves = plan.finish(
            node,
            outcome.verdict,
            time.monotonic(),
            reason=error.message or None,
            error_types=error.types,
            exit_code=outcome.exit_code,
        )
        self._store_moves(moves, outcome.ended_at, outcome)
        self._inputs.release(moves)
        while plan.doomed:
            self._end(plan.doomed.pop(), None)
        if plan.stopped is not None:
            self._end_running(None)

    def _store_moves(self, moves: Sequence[Move], now: float, outcome: Outcome | None = None) -> None:
        """Buffer changes of state; the first one is of the task whose attempt ended."""
        for node, before, status, attempt, reason in moves:
            previous: TaskStatus = "PENDING" if before == "QUEUED" else before  # QUEUED is the plan's own, not stored
            ended = outcome if outcome is not None and node == outcome.node else None
            task_id, index = self._ids[node], self._indexes[node]
            self._turn.moved(task_id, index, attempt, previous, status, reason, now, ended)
            if self._observers:
                path = None if ended is None else ended.log_path
                change = Change(task_id, index, attempt, previous, status, reason, now, path, ended)
                if status == "RUNNING":  # of a task: its instances run
                    unfolded = self.plan.unfolded[node]
                    change = change._replace(instances=(unfolded.count, unfolded.unended))
                self._changes.append(change)

    def _patience(self) -> float:
        wakeup = self.plan.wakeup()
        return _TICK_S if wakeup is None else min(_TICK_S, max(0.0, wakeup - time.monotonic()))

    # -- stopping ------------------------------------------------------------------------------------------

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Runs between two bytecodes of anything: it only takes note and wakes the loop."""
        self._signals.append(number)
        self._executor.wake()

    def _tick(self) -> None:
        """The first signal ends tasks gracefully, the second one at once; another process may ask for a cancel."""
        if len(self._signals) > self._seen_signals:
            self._seen_signals = len(self._signals)
            self.plan.pause(f"interrupted by {signal.Signals(self._signals[0]).name}")
            self._end_running(None if self._seen_signals == 1 else 0.0)
        now = time.monotonic()
        if now - self._looked_at >= _TICK_S:
            self._looked_at = now
            self._store.check_file()
            self._store.rest()
            if self.plan.stopped is None:
                self._take_back(self._executor.recall())
            for request in self._store.requests():
                if request.action == "cancel" and self.plan.stopped is None:
                    moves: list[Move] = []
                    self.plan.stop(request.detail or "cancelled", moves)
                    self._store_moves(moves, time.time())
                    self._end_running(None)

    def _take_back(self, nodes: Sequence[int]) -> None:
        """Attempts that stood in line have not begun after all: what runs before them has turned out to be long."""
        now = time.time()
        for node in reversed(nodes):
            task_id, index, attempt = self._ids[node], self._indexes[node], self.plan.attempts[node]
            self.plan.put_back(node)
            status = self._before(node)
            self._turn.put_back(task_id, index, attempt, status, now)
            if self._observers:
                self._changes.append(Change(task_id, index, attempt, "RUNNING", status, NOT_BEGUN, now))

    def _end_running(self, grace_s: float | None) -> None:
        """Tell running tasks to stop: each after its own grace, or all after `grace_s`."""
        if not self._told_stopping and self.plan.stopped is not None:
            self._told_stopping = True
            self._tell("stopping", self.plan.stopped)
        for node in self.plan.running:
            self._end(node, grace_s)

    def _end(self, node: int, grace_s: float | None) -> None:
        """Tell a running task to stop, once; or again, when it has less time than it was given."""
        if grace_s is not None or node not in self._ending:
            self._ending.add(node)
            own = self._program.graces.get(self.plan.owner(node), self._options.grace_s)
            self._executor.cancel(node, own if grace_s is None else grace_s)

    # -- small things --------------------------------------------------------------------------------------

    def _log_path(self, task_id: str, index: int, now: float) -> str | None:
        if self._options.log_dir is None:
            return None
        if int(now) != self._stamp[0]:  # made once a second: it takes longer than all else here
            self._stamp = int(now), time.strftime("%Y%m%d_%H%M%S", time.localtime(now))
        which = task_id if index < 0 else f"{task_id}.{index}"
        name = f"task_{which}_{self._stamp[1]}_{int(now % 1 * 1e6):06d}.log"
        return os.path.join(self._options.log_dir, name)

    def _publish(self) -> None:
        if self._changes:
            changes, self._changes = self._changes, []
            self._tell("changed", changes)

    def _tell(self, what: str, *arguments: object) -> None:
        for observer in list(self._observers):
            try:
                getattr(observer, what)(*arguments)
            except Exception as error:
                import logging  # 18 ms that a run without a fault need not pay

                log = logging.getLogger(__name__)
                log.warning("%s failed and is told nothing more: %s", type(observer).__name__, error)
                log.debug("this is how it failed", exc_info=True)
                self._observers.remove(observer)


@contextlib.contextmanager
def _signals(loop: _Loop) -> Iterator[None]:
    """Let the loop handle the signals that stop a program. Only a main thread may; others leave them alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for number in _STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup has its reasons
            before[number] = signal.signal(number, loop.on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
