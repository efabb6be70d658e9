"""Which work goes which way: lanes behind one Executor."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from liteflow.errors import DefinitionError, ResourceError
from liteflow.executors.base import Executor, Lane, failure
from liteflow.executors.command import CommandLane
from liteflow.executors.hub import Hub
from liteflow.executors.inbox import Inbox
from liteflow.executors.process import ProcessLane
from liteflow.executors.worker import serve
from liteflow.processes.client import Program
from liteflow.work import Body, Call, Command, Outcome, RunInfo, Work

_FEWEST_FILES = 12
MODES = ("thread", "process", "async", "inline")


def lane_of(body: Body, mode: str, *, has_timeout: bool) -> str:
    """The lane of a task: "command", "process", "thread", "async" or "inline".

    Raises:
        DefinitionError: there is no such mode.
    """
    if mode not in MODES:
        raise DefinitionError(f"there is no mode {mode!r}; there are {', '.join(MODES)}")
    if isinstance(body, Command):
        return "command"
    if mode != "inline" and (has_timeout or body.cwd is not None or body.env or body.secrets):
        return "process"  # a thread cannot be killed, and has no folder or environment of its own
    return mode


def _lanes(
    bodies: Mapping[str, Body], mode: str, task_modes: Mapping[str, str] | None, timeouts: Collection[str]
) -> dict[str, str]:
    modes = task_modes or {}
    return {
        task_id: lane_of(body, modes.get(task_id, mode), has_timeout=task_id in timeouts)
        for task_id, body in bodies.items()
    }


class _Dispatcher:
    """The Executor: it knows each task's lane and owns what the lanes share."""

    def __init__(
        self,
        lane_names: Mapping[str, str],
        bodies: Mapping[str, Body],
        info: RunInfo,
        hub: Hub | None,
        slots: int,
        *,
        alone: bool,
    ) -> None:
        self._hub = hub
        self._alone = alone
        self._masker = info.masker
        self._inbox = inbox = Inbox()
        self._lane_names = lane_names
        self._lanes: dict[str, Lane] = {}
        self._pid_lanes: list[CommandLane | ProcessLane] = []
        self._closed = False
        calls = {task_id: body for task_id, body in bodies.items() if isinstance(body, Call)}
        if hub is not None:
            hub.attach(inbox)
            commands = {task_id: body for task_id, body in bodies.items() if isinstance(body, Command)}
            self._process_lane = ProcessLane(inbox, info, hub, slots)
            command_lane = CommandLane(inbox, commands, info, hub)
            self._lanes |= {"process": self._process_lane, "command": command_lane}
            self._pid_lanes = [self._process_lane, command_lane]
        used = set(lane_names.values())
        used_here = used & {"thread", "async", "inline"}
        self._routes_streams = bool(used_here) and info.log_dir is not None
        if used & {"thread", "async"}:  # lanes are imported when they are used: each takes 0.5 ms, and few runs use all
            from liteflow.executors.thread import ThreadLane

            thread_lane = ThreadLane(inbox, calls, info, slots)
            self._lanes["thread"] = thread_lane
            if "async" in used:
                from liteflow.executors.aio import AsyncLane

                self._lanes["async"] = AsyncLane(inbox, calls, info, thread_lane)
        if "inline" in used:
            from liteflow.executors.inline import InlineLane

            self._lanes["inline"] = InlineLane(inbox, calls, info)
        # Each lane counts its own slots: where several lanes share them, the caller has to count.
        self.queues = len(used) == 1 and self._lanes[used.pop()].queues
        self._is_host = bool(used_here)
        if self._is_host:  # import both modules before either changes this process
            from liteflow.executors.host import enter
            from liteflow.executors.stdout_capture import install

            if self._routes_streams:
                install(info.masker)
            enter(alone=alone)
        self._route: dict[int, Lane] = {}  # by node, for cancel

    def submit(self, work: Work) -> None:
        name = self._lane_names.get(work.task_id)
        if name is None:
            self._inbox.post(failure(work, "FAILED", f"task {work.task_id!r} has no body in this run"))
            return
        lane = self._route[work.node] = self._lanes[name]
        lane.submit(work)

    def wait(self, timeout_s: float | None = None) -> list[Outcome]:
        outcomes = self._inbox.wait(timeout_s)
        for outcome in outcomes:
            self._route.pop(outcome.node, None)
        return outcomes

    def cancel(self, node: int, grace_s: float) -> None:
        lane = self._route.get(node)
        if lane is not None:
            lane.cancel(node, grace_s)

    def wake(self) -> None:
        self._inbox.wake()

    def pids(self) -> Mapping[int, int]:
        return {node: pid for lane in self._pid_lanes for node, pid in lane.pids().items()}

    @property
    def session(self) -> int | None:
        return None if self._hub is None else self._hub.guardian.session

    @property
    def guardian_pid(self) -> int | None:
        """The guardian's process id; None when there is no guardian."""
        return None if self._hub is None else self._hub.guardian.pid

    def close(self, grace_s: float = 0.0) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            for name, lane in self._lanes.items():
                if grace_s > 0 or name not in ("process", "command"):  # else the guardian's sweep is enough
                    lane.close(grace_s)
            if self._hub is not None:
                self._end_processes(self._hub, grace_s)
        finally:
            if self._is_host:
                from liteflow.executors.host import leave

                leave(alone=self._alone)
            if self._routes_streams:
                from liteflow.executors.stdout_capture import uninstall

                uninstall(self._masker)
            self._inbox.close()

    def _end_processes(self, hub: Hub, grace_s: float) -> None:
        deadline = time.monotonic() + grace_s
        while any(lane.busy for lane in self._pid_lanes) and (pause := deadline - time.monotonic()) > 0:
            self._inbox.wait(pause)
        hub.close()
        self._process_lane.release()


def _program(calls: Mapping[str, Call], info: RunInfo) -> Program:
    from liteflow.executors.program import make_program  # only where this process cannot be forked

    return make_program(calls, info)


def _ensure_descriptors() -> None:
    """See that a run has the open files that it needs at least, beside those of its tasks. Raises ResourceError."""
    fds: list[int] = []
    try:
        while len(fds) < _FEWEST_FILES:
            fds.append(os.open("/", os.O_PATH | os.O_CLOEXEC))
    except OSError as error:
        raise ResourceError(
            f"a run needs {_FEWEST_FILES} more open files than this program has: {error.strerror} (see ulimit -n)"
        ) from None
    finally:
        for fd in fds:
            os.close(fd)


def open_executor(
    bodies: Mapping[str, Body],
    info: RunInfo,
    *,
    mode: str = "process",
    slots: int = 4,
    task_modes: Mapping[str, str] | None = None,
    timeouts: Collection[str] = (),
    close_in_workers: Sequence[int] = (),
    claim_children: bool = False,
) -> Executor:
    """Make ready to run the tasks of one run.

    Call it before the run's database is opened: where a task needs a process, the guardian is forked here (or
    started afresh, when this process has threads). A run of threads alone starts nothing.

    Args:
        bodies: what to run, by task id.
        info: what is the same for all of them.
        mode: where Python functions run: "thread", "process", "async", or "inline" for the calling thread.
        slots: how many attempts run at once.
        task_modes: the modes of tasks that differ.
        timeouts: ids of tasks that have a timeout: only a process can be made to end, so they get one.
        close_in_workers: descriptors that the guardian shall hold and tasks shall not, such as the run's lock.
        claim_children: this process is the run's alone, so whatever it starts, from a thread too, ends with the run.

    Raises:
        DefinitionError: an unknown mode; a value is to come from output that is not kept; secrets without a log_dir.
        ResourceError: no more processes or files are allowed.
    """
    lane_names = _lanes(bodies, mode, task_modes, timeouts)
    _ensure_descriptors()
    if info.log_dir is None and info.masker is not None:
        raise DefinitionError(
            "a run with secrets needs a log_dir: they are masked in logs, and cannot be on the terminal"
        )
    if info.log_dir is None:
        for task_id, body in bodies.items():
            if isinstance(body, Command) and body.output is not None:
                raise DefinitionError(
                    f"task {task_id!r} takes its value from what it prints, which is not kept: give the run a log_dir"
                )
    hub = None
    if claim_children or not {"command", "process"}.isdisjoint(lane_names.values()):
        calls = {
            task_id: body
            for task_id, body in bodies.items()
            if isinstance(body, Call) and lane_names[task_id] == "process"
        }
        hub = Hub(
            partial(serve, (calls, info)),
            partial(_program, calls, info),
            close_in_workers,
            claim_children=claim_children,
            masker=info.masker,
        )
    try:
        return _Dispatcher(lane_names, bodies, info, hub, slots, alone=claim_children)
    except BaseException:
        if hub is not None:  # a guardian that is not closed kills this process, whose children it owns
            hub.close()
        raise


__all__ = ["MODES", "Executor", "lane_of", "open_executor"]
