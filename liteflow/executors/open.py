"""Opening an executor: which backend runs which task, and what the backends of a run share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from liteflow.errors import DefinitionError, LiteflowError, ResourceError
from liteflow.executors.attempt import failure, is_coroutine_function
from liteflow.executors.guardian_client import CHECK_EVERY_S, GuardianClient
from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.executors.protocol import (
    Backend,
    BackendContext,
    BackendFactory,
    Executor,
    PlaceState,
    UndoRegister,
)
from liteflow.processes.client import ImportableWorker
from liteflow.processes.guardian import WorkerMain
from liteflow.record import EMPTY_MAPPING, Record, replace
from liteflow.work import Body, Call, Command, HostId, Outcome, RunInfo, Work, runs_child, stays_here

#: How many file descriptors a run needs besides those of its tasks.
_MIN_FREE_DESCRIPTORS: Final = 12
#: The backend of commands; the other names are modes.
COMMAND: Final = "command"
#: The mode in which tasks run in the thread of the loop.
INLINE: Final = "inline"
#: The backend of tasks that execute child runs.
CHILD_RUN: Final = "child_run"
#: How many works of polls run at once; they take no slot of the run.
_POLL_SLOTS: Final = 4


# Each backend is imported when a run uses it: that takes 0.5 ms, and few runs use all of them.


def _thread(context: BackendContext) -> Backend:
    from liteflow.executors.thread import ThreadBackend

    return ThreadBackend(context)


def _async(context: BackendContext) -> Backend:
    from liteflow.executors.aio import AsyncBackend

    return AsyncBackend(context)


def _inline(context: BackendContext) -> Backend:
    from liteflow.executors.inline import InlineBackend

    return InlineBackend(context)


def _process(context: BackendContext) -> Backend:
    from liteflow.executors.process import ProcessBackend

    return ProcessBackend(context)


def _command(context: BackendContext) -> Backend:
    from liteflow.executors.command import CommandBackend

    return CommandBackend(context)


def _child_run(context: BackendContext) -> Backend:
    from liteflow.executors.child_run import ChildRunBackend

    return ChildRunBackend(context)


#: The backends of the engine by name.
BACKENDS: Final[Mapping[str, BackendFactory]] = {
    "process": _process,
    "thread": _thread,
    "async": _async,
    "inline": _inline,
    COMMAND: _command,
    CHILD_RUN: _child_run,
}
#: The backends that are no mode: the body of a task decides about them.
_NO_MODE: Final = frozenset({COMMAND, CHILD_RUN})
#: Backends whose attempts are processes that the guardian starts.
_GUARDED: Final = frozenset({"process", COMMAND, CHILD_RUN})


class HostProgram(Record):
    """The facts about the program that opens an executor."""

    close_in_workers: Sequence[int] = ()  #: descriptors that the guardian holds and tasks do not, such as a lock
    #: it belongs to the run alone, so all that it starts, also from threads, ends with the run
    claim_children: bool = False


def backend_name(
    body: Body,
    mode: str,
    *,
    has_timeout: bool,
    backends: Mapping[str, BackendFactory] = BACKENDS,
    lanes: Mapping[str, BackendFactory] = EMPTY_MAPPING,
) -> str:
    """Return the name of the backend that runs a task in this mode.

    A lane runs commands and functions. A task that waits stays here: its wait outlives its attempt.

    Raises:
        DefinitionError: there is no such mode.
    """
    if mode in lanes:
        if not stays_here(body):
            return mode
        mode = "process"
    if mode in _NO_MODE or mode not in backends:
        modes = ", ".join(name for name in (*backends, *lanes) if name not in _NO_MODE)
        hint = "" if mode in _NO_MODE else "; a cluster is declared under `clusters`"
        raise DefinitionError(f"there is no mode {mode!r}; there are {modes}{hint}")
    if isinstance(body, Command):
        return COMMAND
    if runs_child(body):
        return CHILD_RUN
    if body.undo is not None:
        return "process"  # only the guardian can undo an attempt of a dead process
    if mode not in ("thread", "async"):
        return mode
    if has_timeout or body.lane is not None or body.cwd is not None or body.env or body.secrets:
        return "process"  # a thread cannot be killed, and has no folder or environment of its own
    if mode == "async" and not is_coroutine_function(body.func):
        return "thread"  # it would block the event loop
    return mode


class _Executor:
    """The Executor: it passes each attempt to the backend of its task, and owns what the backends share."""

    def __init__(self, names: Mapping[Any, str], outcomes: OutcomeQueue, guardian: GuardianClient | None) -> None:
        self._names = names  # of backends, by task id or `Work.body`
        self._outcomes = outcomes
        self._guardian = guardian
        self._backends: dict[str, Backend] = {}
        self._polls: Backend | None = None  # runs the polls of waiting tasks
        self._undos: UndoRegister | None = None
        self._routes: dict[int, Backend] = {}  # by node, for cancel
        self._polled: set[int] = set()  # the nodes of polls, which take no slot
        self._cleanup = ExitStack()
        self._is_closed = False
        self._slots = 0
        self.queues = False

    def open_backends(
        self,
        backends: Mapping[str, BackendFactory],
        bodies: Mapping[str, Body],
        info: RunInfo,
        slots: int,
        *,
        process_belongs_to_run: bool,
    ) -> None:
        """Open the backends of this run's tasks."""
        different = dict.fromkeys(self._names.values())
        by_name: dict[str, Mapping[str, Body]] = {
            name: bodies
            if len(different) == 1
            else {task_id: bodies[task_id] for task_id, each in self._names.items() if each == name}
            for name in different
        }
        self._open_undos(bodies)
        polled = {task_id: bodies[task_id] for task_id in polled_tasks(bodies, self._names)}
        if polled:
            self._polls = _process(
                BackendContext(
                    outcomes=self._outcomes, bodies=polled, info=info, slots=_POLL_SLOTS, guardian=self._guardian
                )
            )
        self.open_each(backends, by_name, info, slots)
        if any(backend.in_this_process for backend in self._backends.values()):
            self._isolate_in_process_tasks(info, process_belongs_to_run=process_belongs_to_run)

    def _open_undos(self, bodies: Mapping[str, Body]) -> None:
        with_undo = {task_id for task_id, body in bodies.items() if body.undo is not None}
        if with_undo:
            self.open_undos(lambda work: work if work.task_id in with_undo else None)

    def open_undos(self, undo_of: Callable[[Work], Work | None]) -> None:
        """Have the undos of attempts done; for `undo_of` see `AttemptUndos`. To be called before `open_each`."""
        from liteflow.executors.undo import AttemptUndos  # with `worker`, which few runs of commands need

        assert self._guardian is not None
        self._undos = AttemptUndos(self._guardian, self._outcomes, undo_of)

    def open_each(
        self,
        backends: Mapping[str, BackendFactory],
        by_name: Mapping[str, Mapping[str, Body]],
        info: RunInfo,
        slots: int,
    ) -> None:
        """Open backends, each with the bodies that it runs."""
        self._cleanup.callback(self._outcomes.close)
        self._slots = slots
        if self._guardian is not None:
            self._guardian.attach(self._outcomes)
        for name, of_backend in by_name.items():
            context = BackendContext(
                outcomes=self._outcomes,
                bodies=of_backend,
                info=info,
                slots=slots,
                guardian=self._guardian,
                undos=self._undos,
            )
            self._backends[name] = backends[name](context)
        # Each backend counts its own slots: where several backends share them, the caller has to count.
        self.queues = len(self._backends) == 1 and self._polls is None and next(iter(self._backends.values())).queues

    def _isolate_in_process_tasks(self, info: RunInfo, *, process_belongs_to_run: bool) -> None:
        """Redirect output, block input and intercept exits of tasks that run in this process."""
        from liteflow.executors import host_guards, stdout_capture

        if info.log_dir is not None:
            stdout_capture.install(info.masker)
            self._cleanup.callback(stdout_capture.uninstall, info.masker)
        host_guards.install(process_belongs_to_run=process_belongs_to_run)
        self._cleanup.callback(host_guards.remove, process_belongs_to_run=process_belongs_to_run)

    def submit(self, work: Work) -> None:
        name = self._names.get(work.body or work.task_id)
        if name is None:
            self._outcomes.post(failure(work, "FAILED", f"task {work.task_id!r} has no body in this run"))
            return
        backend = self._routes[work.node] = self._backends[name]
        backend.submit(work)

    @property
    def _far(self) -> list[Backend]:
        """The backends of other machines."""
        return [backend for backend in self._backends.values() if backend.is_far]

    def flush(self) -> None:
        for backend in self._far:
            backend.flush()

    def room(self) -> Mapping[str, int]:
        here, places = self._slots - len(self._routes) + len(self._polled), dict[str, int]()
        for backend in self._far:
            here += backend.attempt_count
            places |= backend.room()
        return {**places, "": max(0, here)}

    def want(self, place: str, count: int) -> None:
        for backend in self._far:  # the slots of this machine are those that the run was given
            backend.want(place, count)

    def place_states(self) -> Mapping[str, PlaceState]:
        states: dict[str, PlaceState] = {}
        for backend in self._far:
            states |= backend.place_states()
        return states

    def poll(self, works: Sequence[Work]) -> None:
        self._polled.update(work.node for work in works)
        if self._names[works[0].task_id] == CHILD_RUN:
            self.submit(works[0])  # shares no work with others
            return
        polls = self._polls
        assert polls is not None, "the tasks have no poll"
        for work in works:
            self._routes[work.node] = polls
        polls.submit_all(works)

    def wait(self, timeout_s: float | None = None) -> list[Outcome]:
        self.flush()
        if self._guardian is not None:
            self._guardian.continue_stopped()
        outcomes = self._outcomes.wait(timeout_s)
        for outcome in outcomes:
            self._routes.pop(outcome.node, None)
        if self._polled:
            self._polled.difference_update(outcome.node for outcome in outcomes)
        return outcomes

    def cancel(self, node: int, grace_s: float) -> None:
        backend = self._routes.get(node)
        if backend is not None:
            backend.cancel(node, grace_s)

    def interrupt(self, node: int) -> None:
        backend = self._routes.get(node)
        if backend is not None:
            backend.interrupt(node)

    def end_wait(self, work: Work, outcome: Outcome) -> None:
        if self._undos is None:
            self._outcomes.post(outcome)
            return
        try:
            self._undos.register(work)
        except (LiteflowError, ValueError) as error:
            self._outcomes.post(outcome._replace(undo_error=str(error)))
            return
        self._undos.post(outcome)

    def undo(self, works: Sequence[Work]) -> list[str | None]:
        problems: dict[int, str | None] = {}
        groups: dict[Backend | None, list[int]] = {}
        for place, work in enumerate(works):
            groups.setdefault(self._undoing_backend(work), []).append(place)
        for backend, places in groups.items():
            undo = self._undo_here if backend is None else backend.undo
            problems.update(zip(places, undo([works[place] for place in places]), strict=True))
        return [problems[place] for place in range(len(works))]

    def _undoing_backend(self, work: Work) -> Backend | None:
        """Return the backend that undoes an attempt of another machine; None: it ran on this one."""
        return None if work.ran_on is None else self._backends[self._names[work.task_id]]

    def _undo_here(self, works: Sequence[Work]) -> list[str | None]:
        return [None] * len(works) if self._undos is None else self._undos.undo(works)

    def undo_hosts(self) -> Sequence[tuple[int, HostId]]:
        return [each for backend in self._far for each in backend.undo_hosts()]

    def wake(self) -> None:
        self._outcomes.wake()

    @property
    def session(self) -> int | None:
        return None if self._guardian is None else self._guardian.session

    @property
    def guardian_pid(self) -> int | None:
        """The guardian's process id; None when there is no guardian."""
        return None if self._guardian is None else self._guardian.pid

    def close(self, grace_s: float = 0.0) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        with self._cleanup:
            for name, backend in self._backends.items():
                if grace_s > 0 or name not in _GUARDED:  # without a grace the guardian's sweep is enough
                    backend.close(grace_s)
            if self._polls is not None:
                self._polls.close(0.0)
            self._end_processes(grace_s)

    def _end_processes(self, grace_s: float) -> None:
        end = time.monotonic() + grace_s
        while any(backend.is_busy for backend in self._backends.values()) and (pause := end - time.monotonic()) > 0:
            self._outcomes.wait(min(pause, CHECK_EVERY_S))
            if self._guardian is not None:
                self._guardian.continue_stopped()
        if self._guardian is not None:
            self._guardian.close()
        for backend in self._backends.values():
            backend.release()
        if self._polls is not None:
            self._polls.release()


class AgentExecutor(_Executor):
    """The executor of an agent, which also undoes attempts that an earlier agent of its machine has left."""

    def start_undo(self, undo: Work, on_end: Callable[[str | None], None]) -> None:
        """Start the undo of an attempt of a dead process. `on_end` gets why it has failed; None: it has not."""
        assert self._undos is not None
        self._undos.start(undo, on_end)


_HOST: Final = HostProgram()


def polled_tasks(bodies: Mapping[str, Body], names: Mapping[str, str]) -> list[str]:
    """Return the ids of the tasks whose polls run in workers; in mode `inline` they run in this thread."""
    return [
        task_id
        for task_id, body in bodies.items()
        if isinstance(body, Call) and body.poll is not None and names[task_id] not in (INLINE, CHILD_RUN)
    ]


def _worker_main(calls: Mapping[str, Body], info: RunInfo) -> WorkerMain:
    """Return the main function of workers, imported before the guardian forks them. Commands need no workers."""
    return _serving(calls, info) if calls else _no_worker


def _serving(calls: Mapping[str, Body], info: RunInfo) -> WorkerMain:
    from liteflow.executors.worker import serve

    return partial(serve, (calls, info))


def _no_worker(*_: object) -> None:
    raise AssertionError("a worker was started for a run without Python tasks")


def _importable(calls: Mapping[str, Body], info: RunInfo) -> ImportableWorker:
    from liteflow.executors.importable import importable_worker  # only where this process cannot be forked

    return importable_worker(calls, info)


def _check_descriptors() -> None:
    """Check that a run has the open files that it needs besides those of its tasks. Raises ResourceError."""
    fds: list[int] = []
    try:
        while len(fds) < _MIN_FREE_DESCRIPTORS:
            fds.append(os.open("/", os.O_PATH | os.O_CLOEXEC))
    except OSError as error:
        raise ResourceError(
            f"a run needs {_MIN_FREE_DESCRIPTORS} more open files than this program has: {error.strerror} "
            "(see ulimit -n)"
        ) from None
    finally:
        for fd in fds:
            os.close(fd)


def _check_logs(bodies: Mapping[str, Body], info: RunInfo) -> None:
    """Check that there are log files where a run needs them. Raises DefinitionError."""
    if info.log_dir is not None:
        return
    if info.masker is not None:
        raise DefinitionError("a run with secrets needs a log_dir: secrets are masked in logs, not on the terminal")
    for task_id, body in bodies.items():
        if isinstance(body, Command) and body.output is not None:
            raise DefinitionError(
                f"the value of task {task_id!r} is its printed output, which is not stored: give the run a log_dir"
            )


def open_executor(
    bodies: Mapping[str, Body],
    info: RunInfo,
    *,
    mode: str | Mapping[str, str] = "process",
    slots: int,
    timeouts: Collection[str] = (),
    host: HostProgram = _HOST,
    backends: Mapping[str, BackendFactory] = EMPTY_MAPPING,
    lanes: Mapping[str, BackendFactory] = EMPTY_MAPPING,
) -> Executor:
    """Open what runs the tasks of one run.

    Call it before the run's database is opened: where a task needs a process, the guardian is forked here (or started
    as a fresh interpreter, when this process has threads). A run of threads alone starts no process.

    Args:
        bodies: the body of each task, by task id.
        info: what is the same for all tasks of the run.
        mode: where tasks run: a name in `BACKENDS`, `backends` or `lanes`, or one for each task id.
        slots: how many attempts run at once.
        timeouts: ids of tasks that have a timeout: in a thread they could not be ended, so they get a process.
        host: the program that calls this.
        backends: more backends by name; a name of the engine overrides its backend.
        lanes: far backends by name; they run commands, too. They are opened after the guardian is forked.

    Raises:
        DefinitionError: an unknown mode; a value comes from output that is not stored; secrets without a log_dir.
        ResourceError: no more processes or files are allowed.
    """
    factories = {**BACKENDS, **backends}
    modes = dict.fromkeys(bodies, mode) if isinstance(mode, str) else mode
    names = {
        task_id: backend_name(body, modes[task_id], has_timeout=task_id in timeouts, backends=factories, lanes=lanes)
        for task_id, body in bodies.items()
    }
    _check_descriptors()
    _check_logs(bodies, info)
    guardian = None
    polled = set(polled_tasks(bodies, names))
    has_undos = any(body.undo is not None for body in bodies.values())
    if host.claim_children or polled or has_undos or not _GUARDED.isdisjoint(names.values()):
        calls = {
            task_id: body
            for task_id, body in bodies.items()
            if names[task_id] in ("process", CHILD_RUN) or body.undo is not None or task_id in polled
        }
        guardian = GuardianClient(
            _worker_main(calls, info),
            partial(_importable, calls, info),
            host.close_in_workers,
            claim_children=host.claim_children,
            masker=info.masker,
        )
    executor = _Executor(names, OutcomeQueue(), guardian)
    try:
        executor.open_backends({**factories, **lanes}, bodies, info, slots, process_belongs_to_run=host.claim_children)
    except BaseException:
        executor.close()
        raise
    return executor


class ShippedTasks(Record):
    """The tasks of an agent: they arrive one after the other, after its executor was opened."""

    functions: Mapping[Any, Body]  #: bodies of Python tasks, as their work names them; for workers only
    commands: dict[str, Body]  #: by the key that their work has as `body`
    backends: dict[Any, str]  #: the name of the backend, while a work is submitted
    undos: dict[int, bytes]  #: the undos of attempts, by node

    def undo_of(self, work: Work) -> Work | None:
        """Return the work of the undo of an attempt; None: it has none."""
        undo = self.undos.get(work.node)
        return None if undo is None else replace(work, body=undo)


def open_agent_executor(
    tasks: ShippedTasks, info: RunInfo, *, slots: int, outcomes: OutcomeQueue, on_session: Callable[[int, int], None]
) -> tuple[AgentExecutor, GuardianClient]:
    """Open what runs attempts of another machine's run on this one, and return it with its guardian.

    Args:
        tasks: the bodies, which the caller adds before it submits a work that names them.
        info: what is the same for all tasks of the run.
        slots: how many Python tasks run at once; the caller counts the commands.
        outcomes: the queue in which the caller waits for its own descriptors, too.
        on_session: is called with the session and process id of each guardian, before it starts anything.

    Raises:
        ResourceError: no more processes or files are allowed.
    """
    _check_descriptors()
    guardian = GuardianClient(
        _serving(tasks.functions, info),
        partial(_importable, tasks.functions, info),
        (),
        masker=info.masker,
        on_session=on_session,
    )
    executor = AgentExecutor(tasks.backends, outcomes, guardian)
    executor.open_undos(tasks.undo_of)
    executor.open_each(BACKENDS, {"process": tasks.functions, COMMAND: tasks.commands}, info, slots)
    return executor, guardian
