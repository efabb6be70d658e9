"""The scheduler of a state file: the loop that stores what fires, and has its runs started.

    turn:  look for changed files  →  decide what is due  →  store it, in one transaction  →  order the starts

All facts are in the state file. A scheduler that was killed is replaced by another, which orders again what was claimed
and has not started; the transaction that creates a run lets only one process through.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

import liteflow
from lightflow.clock import read_clock
from lightflow.instants import clock_of, in_words, instant_key
from lightflow.scheduler.decisions import GRACE_S, decide, run_id_of
from lightflow.scheduler.failures import Failures
from lightflow.scheduler.file_watch import FileWatch, ReadyFile, file_keys, joined_key
from lightflow.scheduler.parked_runs import ParkedRuns, is_source, why_due
from lightflow.scheduler.served_triggers import NEVER, ServedTrigger, ServedTriggers
from lightflow.scheduler.starter import FORESTALLED, Order, ProcessEnd, RerunOrder, RunStarter, StartOrder
from lightflow.scheduler.workflow_files import WatchedWorkflow, WorkflowChanges, WorkflowFile, WorkflowFiles
from liteflow import DefinitionError, LiteflowError, Schedule, WorkflowTrigger
from liteflow.api import (
    FireRecord,
    NewFire,
    Record,
    TriggerRecord,
    TriggerStore,
    WorkflowTriggers,
    replace,
)

_TURN_S: Final = 1.0
_STARTING_TURN_S: Final = 0.02  # while processes are between their fork and their first commit
_SCAN_S: Final = 2.0  # between two looks for changed files, unless they would take more than this share of a core
_SCAN_SHARE: Final = 0.002
_CLOCK_STEP_S: Final = 2.0
_FORGET_EVERY_S: Final = 86_400.0
_MAX_QUEUED: Final = 16  # runs of a workflow that wait because of `overlap: queue`
_RESTART_S: Final = 1.0
_FAILED_S: Final = 60.0  # until a schedule that has failed is looked at again

Report = Callable[[str], None]


class SchedulerOptions(Record):
    """The options of a scheduler. Relative paths start from the current folder, in which the runs start too."""

    db: str
    paths: Sequence[str] = (".",)
    max_runs: int = 8 * (os.cpu_count() or 1)  #: so many of its runs execute at once; further runs wait
    takes_over: bool = True  #: whether it may become the active scheduler; otherwise it only continues runs by request
    grace_s: float = GRACE_S
    report: Report = print  #: is called with a line about each change


class ServedFiles(NamedTuple):
    """The workflows that are served, by name, and what is wrong with files, by path."""

    workflows: Mapping[str, WatchedWorkflow]
    problems: Mapping[str, str]


class Scheduler:
    """Schedules the workflows of some files and folders. For one thread, which calls `run`."""

    def __init__(self, options: SchedulerOptions) -> None:
        self.options = options
        self.failures = Failures(options.report)
        self.files = WorkflowFiles(options.paths, self.failures)
        self._starts = _Starts(options)
        self._store = TriggerStore(options.db)
        self._is_open = True  # whether the store can be used
        self._active = False
        self._triggers = ServedTriggers()
        self._timers = _Timers(options.db)
        self._folder = os.getcwd()
        self._stopped = False
        #: replaced as a whole, so that other threads may read it
        self.view = ServedFiles({}, {})

    # -- the loop ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Schedule until `stop` is called from a signal handler or another thread."""
        try:
            while not self._stopped:
                try:
                    self.turn()
                except Exception as error:  # noqa: BLE001 - the boundary: a turn that fails does not end the server
                    self._recover(error)
                else:
                    self.failures.clear("scheduler")
                self._starts.wait(0 if self._stopped else self._pause())
        finally:
            self._starts.close()
            self._store.close()

    def stop(self) -> None:
        """End `run` soon. The runs continue."""
        self._stopped = True
        self._starts.wake()

    def notice(self) -> None:
        """Look for requests at once. It may be called by another thread."""
        self._starts.has_news = True
        self._starts.wake()

    def request(self, order: RerunOrder) -> SimpleQueue[ProcessEnd]:
        """Have a run continued or forked; the queue gets the end of its process. It may be called by another thread.

        Also a standby does it: nothing about it is decided by time.
        """
        requested = self._starts.request(order)
        self._starts.wake()
        return requested

    @property
    def is_active(self) -> bool:
        """Whether this scheduler works; otherwise it is the standby of another."""
        return self._active

    def _recover(self, error: Exception) -> None:
        """Begin again from the state file, which may be locked, full or replaced; nothing counts as decided."""
        self.failures.note("scheduler", error)
        self._starts.wait(_TURN_S)
        self._store.close()
        self._is_open, self._active, self._triggers = False, False, ServedTriggers()
        self._timers = _Timers(self.options.db)

    def turn(self) -> None:
        """Do once what is to do now."""
        now = time.time()
        if not self._is_open:
            self._store, self._is_open = TriggerStore(self.options.db), True
        if (step := self._timers.clock_step()) is not None:
            self.options.report(f"the clock was set {'forward' if step > 0 else 'back'} by {abs(step):.0f} s")
            self._triggers.look_again()
        if self._timers.is_due("scan", max(_SCAN_S, self.files.looking_s / _SCAN_SHARE)):
            self._take_changes(self.files.scan())
        if not self._active and not self._take_over():
            self._starts.ends()
            return
        if self._timers.is_due("reload", _TURN_S):
            self._store.check()
            if self._store.version() != self._timers.version:
                self._reload()
            self._starts.renew()
        fires = [*self._due_instants(now), *self._ready_files(), *self._ended_runs()]
        if fires:
            self._decide(fires)
        self._follow_starts()
        if self._timers.is_due("parked", _TURN_S):
            self._wake_parked(now)
        if self._timers.is_due("forget", _FORGET_EVERY_S):
            self._store.see(self._triggers.ids())
            self._store.forget_triggers()

    def _pause(self) -> float:
        if self._active and (self._starts.starting or self._starts.has_news):
            return _STARTING_TURN_S
        return max(0.0, min(_TURN_S, self._triggers.agenda.soonest() - time.time()))

    def _take_over(self) -> bool:
        """Become the active scheduler, if no other process is it."""
        if not self.options.takes_over:
            return False
        if not self._store.acquire():
            if self._timers.is_due("standby", 3600):
                self.options.report("standby: another process schedules this state file")
            return False
        self._active = True
        self._declare(list(self.files.workflows().values()))
        self._rest_unserved()
        self._reload()
        return True

    # -- files ---------------------------------------------------------------------------------------------

    def _take_changes(self, changes: WorkflowChanges) -> None:
        if not changes.read and not changes.removed:
            return
        self.view = ServedFiles(self.files.workflows(), self.files.problems())
        for file in changes.read:
            if file.problem is not None:
                self.options.report(f"problem: {file.problem}")
        for path in changes.removed:
            self.options.report(f"{path}: was removed; its triggers rest")
        if self._active:
            names = {workflow.name for file in changes.read for workflow in file.workflows}
            served = self.files.workflows()
            self._declare([served[name] for name in sorted(names)])
            for file in changes.read:
                if file.problem is not None:
                    self._store.set_problem(file.path, file.problem)
            self._rest_unserved()
            self._reload()

    def _declare(self, workflows: Sequence[WatchedWorkflow]) -> None:
        """Store the triggers of workflows. A new or changed one begins now."""
        circles = self._circles()
        self._store.declare(
            [
                WorkflowTriggers(
                    dag_id=workflow.name,
                    source=workflow.path,
                    triggers=workflow.triggers,
                    watermarks=[self._first_watermark(declared.trigger) for declared in workflow.triggers],
                )
                for workflow in workflows
            ]
        )
        for workflow in workflows:
            if workflow.name in circles:
                problem = f"the workflows {', '.join(circles)} would start each other without end"
                self._store.set_problem(workflow.path, problem)
                self.options.report(f"problem: {workflow.path}: {problem}")

    def _rest_unserved(self) -> None:
        """Record why the triggers of stored workflows rest that no file has any longer."""
        served, broken = self.files.workflows(), self.files.problems()
        rows = [row for row in self._store.triggers() if row.dag_id not in served and row.source not in broken]
        problems = {row.dag_id: _why_unserved(row, self.files.files) for row in rows}
        stored = {row.dag_id: row.problem for row in rows}
        if changed := {name: problem for name, problem in problems.items() if stored[name] != problem}:
            self._store.rest(changed)

    def _first_watermark(self, trigger: Any) -> str:
        if isinstance(trigger, Schedule):
            return instant_key(time.time())
        return str(self._store.last_seq()) if isinstance(trigger, WorkflowTrigger) else ""

    def _circles(self) -> list[str]:
        """Return the workflows that start each other in a circle."""
        import graphlib

        after = {
            name: {source for declared in workflow.triggers for source in getattr(declared.trigger, "name", ())}
            for name, workflow in self.files.workflows().items()
        }
        try:
            graphlib.TopologicalSorter(after).prepare()
        except graphlib.CycleError as error:
            return sorted(set(error.args[1]))
        return []

    def _reload(self) -> None:
        """Read the triggers again: files have changed, or another process has paused or fired some."""
        self._timers.version = self._store.version()  # which the changes of this process leave as it is
        served, triggers = self.files.workflows(), dict[str, ServedTrigger]()
        problems, subjects = self.files.problems(), {"scheduler", *self.files.files}
        for row in self._store.triggers():
            workflow = served.get(row.dag_id) or self._broken(row, problems)
            if workflow is None:
                continue
            subjects.add(row.trigger_id)
            before = self._triggers.get(row.trigger_id)
            if before is not None and before.row == row:
                triggers[row.trigger_id] = before
                continue
            try:
                trigger = row.trigger
                clock = clock_of(trigger) if isinstance(trigger, Schedule) else None
            except ValueError as error:
                self.failures.note(row.trigger_id, DefinitionError(f"{row.trigger_id}: {error}"))
                continue
            if before is None:  # it is new, or could not be read
                self.failures.clear(row.trigger_id)
            triggers[row.trigger_id] = ServedTrigger(row=row, workflow=workflow, trigger=trigger, clock=clock)
        self._triggers.replace(triggers)
        self.failures.retain(subjects)
        self._starts.has_news = True

    def _broken(self, row: TriggerRecord, problems: Mapping[str, str]) -> WatchedWorkflow | None:
        """Return the workflow of a file that cannot be read now; its triggers report what they miss."""
        if row.source not in problems:
            return None
        source = row.source or ""
        return WatchedWorkflow(name=row.dag_id, path=source, reference=source, triggers=[], has_concurrency=False)

    # -- what fires ----------------------------------------------------------------------------------------

    def _due_instants(self, now: float) -> Iterator[NewFire]:
        watermarks: dict[str, str] = {}
        next_at: dict[str, float | None] = {}
        for trigger_id in self._triggers.agenda.take(now):
            served = self._triggers[trigger_id]
            assert served.clock is not None
            self._triggers.agenda.set(trigger_id, now + _FAILED_S)
            with self.failures.contained(trigger_id):
                decision = decide(served.row, served.clock, now, self.options.grace_s)
                self._triggers.agenda.set(trigger_id, NEVER if decision.next_at is None else decision.next_at)
                if decision.watermark != served.row.watermark or decision.next_at != served.row.next_at:
                    watermarks[trigger_id], next_at[trigger_id] = decision.watermark, decision.next_at
                    self._triggers.remember(trigger_id, watermark=decision.watermark, next_at=decision.next_at)
                yield from decision.fires
        self._timers.watermarks.update(watermarks)
        self._timers.next_at.update(next_at)
        if watermarks:
            self._starts.has_news = True

    def _ready_files(self) -> Iterator[NewFire]:
        if not self._triggers.of_files or not self._timers.is_due("files", _TURN_S):
            return
        for trigger_id in self._triggers.of_files:
            with self.failures.contained(trigger_id):
                yield from self._fires_of_files(trigger_id, self._triggers[trigger_id])

    def _fires_of_files(self, trigger_id: str, served: ServedTrigger) -> Iterator[NewFire]:
        watch = self._triggers.watches.get(trigger_id)
        if watch is None:
            watch = FileWatch(served.trigger, file_keys(self._store.keys(trigger_id)))
            self._triggers.watches[trigger_id] = watch
        if served.row.watermark == "":
            self._timers.watermarks[trigger_id] = instant_key(time.time())
            self._triggers.remember(trigger_id, watermark=self._timers.watermarks[trigger_id])
            existing = [] if served.trigger.initial else watch.existing()
            if existing:
                watch.decided |= {file.key for file in existing}
                yield self._file_fire(trigger_id, served, existing, "SKIPPED", "existed when the trigger was new")
        ready = watch.ready()
        watch.decided |= {file.key for file in ready}
        status, reason = "CLAIMED", None
        if served.row.problem is not None:
            status, reason = "MISSED", served.row.problem
        elif served.row.paused_at is not None:
            status, reason = "SKIPPED", "the trigger was paused"
        for files in [[file] for file in ready] if served.trigger.each else [ready] if ready else []:
            yield self._file_fire(trigger_id, served, files, status, reason)

    def _file_fire(
        self, trigger_id: str, served: ServedTrigger, files: Sequence[ReadyFile], status: str, reason: str | None
    ) -> NewFire:
        now, key, trigger = time.time(), joined_key(files), served.trigger
        value = files[0].path if trigger.each else [file.path for file in files]
        return NewFire(
            trigger_id=trigger_id,
            key=key,
            at=now,
            due_at=now,
            status=status,
            run_id=run_id_of(trigger_id, key, now) if status == "CLAIMED" else None,
            params={trigger.param: value} if trigger.param is not None and status == "CLAIMED" else {},
            reason=reason,
        )

    def _ended_runs(self) -> Iterator[NewFire]:
        """Yield the fires of triggers that follow other workflows."""
        if not self._triggers.of_workflows or not self._timers.is_due("ends", _TURN_S / 4):
            return
        version = self._store.version()
        if version == self._timers.ends_version:
            return
        self._timers.ends_version = version
        for trigger_id in self._triggers.of_workflows:
            with self.failures.contained(trigger_id):
                yield from self._fires_of_ends(trigger_id, self._triggers[trigger_id])

    def _fires_of_ends(self, trigger_id: str, served: ServedTrigger) -> Iterator[NewFire]:
        trigger, mark = served.trigger, str(served.row.watermark or "0")
        last = seen = int(mark) if mark.isdecimal() else 0
        ended: set[str] = set()
        for seq, run_id, dag_id, status, logical_date in self._store.run_ends(last):
            seen = seq
            if dag_id not in trigger.name or status not in trigger.status:
                continue
            ended.add(dag_id)
            if trigger.all and ended != set(trigger.name):
                continue
            ended, last, now = set(), seq, time.time()
            if served.row.paused_at is not None:
                continue
            problem = served.row.problem
            yield NewFire(
                trigger_id=trigger_id,
                key=run_id,
                at=logical_date or now,
                due_at=now,
                status="CLAIMED" if problem is None else "MISSED",
                run_id=run_id_of(trigger_id, run_id, now) if problem is None else None,
                reason=problem,
            )
        watermark = str(last if trigger.all else seen)
        if watermark != mark:
            self._timers.watermarks[trigger_id] = watermark
            self._triggers.remember(trigger_id, watermark=watermark)
            self._starts.has_news = True

    # -- starts --------------------------------------------------------------------------------------------

    def _decide(self, fires: Sequence[NewFire]) -> None:
        """Store fires; those that may start at once are claimed in the same transaction."""
        waiting = {fire.trigger_id for fire in self._starts.waiting}
        waiting |= {fire.trigger_id for fire in fires if fire.status == "WAITING"}
        room = self._starts.room()
        decided = []
        for fire in fires:
            if fire.status == "CLAIMED":
                room -= 1
                if room < 0 or fire.trigger_id in waiting:
                    fire = replace(fire, status="WAITING")
            elif fire.status in ("MISSED", "SKIPPED"):
                key = fire.key.partition("\n")[0]
                self.options.report(f"{fire.trigger_id}: {fire.status.lower()} {key}: {fire.reason}")
            decided.append(fire)
        timers = self._timers
        for claimed in self._store.decide(decided, timers.watermarks, timers.next_at):
            self._order(claimed)
        timers.watermarks, timers.next_at = {}, {}
        self._starts.has_news = True

    def _follow_starts(self) -> None:
        """Take the ends of processes, see which runs have started, and start what waits."""
        starts = self._starts
        ends = starts.ends()
        if self._timers.watermarks:
            self._store.decide([], self._timers.watermarks, self._timers.next_at)
            self._timers.watermarks, self._timers.next_at = {}, {}
        if not (starts.starting or starts.has_news or starts.waiting or ends):
            return
        starts.has_news = False
        claimed = {str(fire.run_id): fire for fire in self._store.claimed_fires()}
        for end in ends:
            if (problem := self._timers.parked.end(end)) is not None:
                self.options.report(problem)
            if end.key in claimed and end.code != FORESTALLED:
                del claimed[end.key]
                self._store.end(end.key, "FAILED", end.failure)
                self.options.report(f"run {end.key} did not start: {end.failure}")
        starts.starting &= claimed.keys()
        for run_id, fire in claimed.items():
            if run_id not in starts.ordered:
                self._order_again(fire)
        starts.waiting = self._store.first_waiting_fires()
        self._start_waiting()

    def _wake_parked(self, now: float) -> None:
        """Have the parked runs of the served workflows resumed that are due, as far as there is room."""
        parked = self._timers.parked
        for run in parked.due(self._store.version(), now):
            workflow = self.view.workflows.get(run.dag_id)
            if workflow is not None and is_source(workflow, run.source, run.cwd) and self._starts.room() > 0:
                self._starts.order(parked.order(run, now))
                self.options.report(f"{run.dag_id}: resumes run {run.run_id} ({why_due(run)})")

    def _start_waiting(self) -> None:
        """Start the oldest waiting fire of each trigger whose last run has ended, as far as there is room."""
        waiting = self._starts.waiting
        if not waiting or not self._starts.room():
            return
        busy = self._store.busy_triggers([fire.trigger_id for fire in waiting])
        busy |= {fire.trigger_id for fire in self._store.claimed_fires()}
        for fire in waiting:
            if self._starts.room() > 0 and fire.trigger_id not in busy and self._store.claim(fire.fire_no):
                self._order(fire)

    def _order_again(self, fire: FireRecord) -> None:
        """Order the start of a fire that was claimed before this scheduler worked, unless it is too old."""
        served = self._triggers.get(fire.trigger_id)
        late = time.time() - (fire.due_at or fire.at)
        catchup = served.trigger.catchup if served is not None and isinstance(served.trigger, Schedule) else True
        if late > self.options.grace_s and catchup is False:
            self._store.end(str(fire.run_id), "MISSED", "the scheduler ended before the run was started")
        else:
            self._order(fire)

    def _order(self, fire: FireRecord) -> None:
        """Have the run of a claimed fire started."""
        try:
            self._order_start(fire)
        except LiteflowError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: a fire that cannot be started hurts no other
            self._store.end(str(fire.run_id), "FAILED", self.failures.report(fire.trigger_id, error))

    def _order_start(self, fire: FireRecord) -> None:
        served = self._triggers.get(fire.trigger_id)
        if served is None or not served.workflow.path:
            self._store.end(str(fire.run_id), "FAILED", "its workflow is not served here")
            return
        schedule = served.trigger if isinstance(served.trigger, Schedule) else None
        queues = schedule is not None and schedule.overlap == "queue"
        if queues and self._store.waiting_runs(served.workflow.name) >= _MAX_QUEUED:
            self._store.end(str(fire.run_id), "SKIPPED", f"{_MAX_QUEUED} runs of the workflow wait already")
            return
        day, path = None, served.workflow.path
        if served.clock is not None:
            try:
                date = served.clock.local(fire.at)
            except (ValueError, OverflowError):
                self._store.end(str(fire.run_id), "FAILED", "its moment is in no year that can be written")
                return
            day = float((date.toordinal() - _EPOCH_ORDINAL) * 86_400)
        self._starts.order(
            StartOrder(
                key=str(fire.run_id),
                run_id=str(fire.run_id),
                source=path if path.endswith(".py") else f"{path}#{served.workflow.name}",  # the file may have changed
                dag=served.workflow.name if path.endswith(".py") else None,
                db=os.path.abspath(self.options.db),
                folder=self._folder,
                params=fire.values,
                selection=fire.selected,
                date=fire.at if isinstance(served.trigger, Schedule | WorkflowTrigger) else None,
                day=day,
                scheduled_at=instant_key(fire.at) if schedule is not None else None,
                overlap=schedule.overlap if schedule is not None else None,
            )
        )
        self.options.report(f"{served.workflow.name}: starts run {fire.run_id} ({in_words(served.trigger)})")


_EPOCH_ORDINAL: Final = 719_163  # of 1970-01-01


def _why_unserved(row: TriggerRecord, files: Mapping[str, WorkflowFile]) -> str:
    """Return why no file that is served has the workflow of a trigger."""
    if row.source is None or not os.path.exists(row.source):
        return f"its file {row.source} does not exist; its triggers rest"
    if row.source in files:
        return f"{row.source} no longer has workflow {row.dag_id!r}; its triggers rest"
    return f"{row.source} is not served; its triggers rest"


class _Timers:
    """When something was done last, and the changes that wait for the next transaction."""

    def __init__(self, db: str) -> None:
        self.parked = ParkedRuns(db)
        self._last: dict[str, float] = {}
        self._offset = read_clock().offset_s
        self.version = self.ends_version = -1
        self.watermarks: dict[str, str] = {}
        self.next_at: dict[str, float | None] = {}

    def is_due(self, name: str, every_s: float) -> bool:
        """Return whether the time has come to do something again; then it counts as done."""
        now = time.monotonic()
        if name in self._last and now - self._last[name] < every_s:
            return False
        self._last[name] = now
        return True

    def clock_step(self) -> float | None:
        """Return by how much the clock was set since the last call, if it was set."""
        before, self._offset = self._offset, read_clock().offset_s
        step = self._offset - before
        return step if abs(step) > _CLOCK_STEP_S else None


class _Starts:
    """The starter, and the starts that were ordered."""

    def __init__(self, options: SchedulerOptions) -> None:
        self._options = options
        self._starter = RunStarter()  # before the database is open
        self._started_at, self._version = time.monotonic(), _version()
        self._wake_reader, self._wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.ordered: set[str] = set()  # the keys of orders whose processes have not ended
        self.starting: set[str] = set()  # those of them that start a run whose first commit is to come
        self._requests: SimpleQueue[RerunOrder] = SimpleQueue()  # of other threads
        self._requested: dict[str, SimpleQueue[ProcessEnd]] = {}  # by the key of the order
        self.waiting: list[FireRecord] = []  # the oldest of each trigger
        self.has_news = True  # whether fires may have to be started

    def room(self) -> int:
        """Return how many runs may be started now."""
        starting = 2 * (os.cpu_count() or 1) - len(self.starting)
        return max(0, min(starting, self._options.max_runs - len(self.ordered)))

    def request(self, order: RerunOrder) -> SimpleQueue[ProcessEnd]:
        """Order later what another thread requests."""
        requested: SimpleQueue[ProcessEnd] = SimpleQueue()
        self._requested[order.key] = requested
        self._requests.put(order)
        return requested

    def order(self, order: Order) -> None:
        """Have a process started."""
        self.ordered.add(order.key)
        if isinstance(order, StartOrder):
            self.starting.add(order.key)
        self._starter.start(order)

    def ends(self) -> list[ProcessEnd]:
        """Order what was requested, and return the processes that have ended. A starter that has ended is replaced."""
        while not self._requests.empty():
            self.order(self._requests.get())
        ends = self._starter.ended()
        if ends is None:
            self._options.report("the starter has ended and is replaced; the runs continue")
            self._replace()
            return []
        for end in ends:
            self.ordered.discard(end.key)
            self.starting.discard(end.key)
            if (requested := self._requested.pop(end.key, None)) is not None:
                requested.put(end)
        return ends

    def renew(self) -> None:
        """Replace the starter when the program was upgraded: it has the old code."""
        if self._version != _version() and not self.starting:
            self._options.report("the program has changed: the starter is replaced")
            self._replace()

    def _replace(self) -> None:
        self._starter.close()
        time.sleep(max(0.0, _RESTART_S - (time.monotonic() - self._started_at)))
        self._starter, self._started_at, self._version = RunStarter(), time.monotonic(), _version()
        for key in self.ordered & self._requested.keys():
            self._requested.pop(key).put(ProcessEnd(key, -signal.SIGKILL, "the starter was replaced; look at the run"))
        self.ordered, self.starting, self.has_news = set(), set(), True

    def wait(self, seconds: float) -> None:
        """Wait for the end of a process, or for `wake`."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._starter.fileno(), selectors.EVENT_READ)
            selector.register(self._wake_reader, selectors.EVENT_READ)
            selector.select(seconds)

    def wake(self) -> None:
        """End the waiting, from a signal handler or another thread."""
        os.write(self._wake_writer, b"w")

    def close(self) -> None:
        """End the starter; the runs continue."""
        self._starter.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)


def _version() -> int:
    """Return the time of the file that an upgrade of the program replaces."""
    try:
        return os.stat(liteflow.__file__).st_mtime_ns
    except OSError:
        return 0
