"""Commands: one process each, started and watched by the guardian."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from liteflow.context import idempotency_key
from liteflow.errors import LiteflowError
from liteflow.executors.base import Lane, failure, how_it_died, left_text, one_line, timeout_message, with_outputs
from liteflow.executors.hub import LOST_MESSAGE, Hub, Ticket
from liteflow.executors.inbox import Inbox, Timer
from liteflow.outputs import output_path
from liteflow.processes.client import Exited
from liteflow.processes.spawn import sayable
from liteflow.states import Verdict
from liteflow.values.dates import shown
from liteflow.work import Command, ErrorInfo, Outcome, RunInfo, Work, complete_body


def run_environment(info: RunInfo) -> dict[str, str]:
    """The environment variables that are the same for all tasks of a run."""
    environ = {
        "LIGHTFLOW_RUN_ID": info.run_id,
        "LIGHTFLOW_WORKFLOW": info.dag_id,
        "LIGHTFLOW_DB": info.db_path,
    }
    if info.logical_date is not None:
        environ["LIGHTFLOW_LOGICAL_DATE"] = shown(info.logical_date)
    return environ


def task_environment(info: RunInfo, work: Work) -> dict[str, str]:
    """The environment variables of one attempt."""
    told = {
        "LIGHTFLOW_TASK": work.task_id,
        "LIGHTFLOW_ATTEMPT": str(work.attempt),
        "LIGHTFLOW_IDEMPOTENCY_KEY": idempotency_key(info.run_id, work.task_id, work.map_index),
    }
    told.update((name, sayable(text)) for name, text in work.told)
    if work.map_index >= 0:
        told["LIGHTFLOW_MAP_INDEX"] = str(work.map_index)
    path = output_path(info, work)
    if path is not None:
        told["LIGHTFLOW_OUTPUT"] = told["GITHUB_OUTPUT"] = path
    return told


class _Running:
    __slots__ = ("output", "started_at", "stopped", "ticket", "timer", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.output: str | None = None  # its output file
        self.started_at = time.time()
        self.ticket: Ticket | None = None
        self.timer: Timer | None = None
        self.stopped: tuple[Verdict, str] | None = None  # why it was told to stop


class CommandLane(Lane):
    def __init__(self, inbox: Inbox, commands: Mapping[str, Command], info: RunInfo, hub: Hub) -> None:
        self._inbox = inbox
        self._commands = commands
        self._info = info
        self._hub = hub
        self._run_environment = run_environment(info)
        self._running: dict[int, _Running] = {}

    def submit(self, work: Work) -> None:
        body = self._commands[work.task_id]
        try:
            body = complete_body(body, self._info, work)
        except LiteflowError as error:
            self._inbox.post(failure(work, "FAILED", one_line(self._info.masked(str(error)))))
            return
        environ = {**self._info.environment(body), **self._run_environment, **task_environment(self._info, work)}
        entry = self._running[work.node] = _Running(work)
        entry.output = environ.get("LIGHTFLOW_OUTPUT") if self._info.outputs_dir is not None else None
        try:
            entry.ticket = self._hub.start_command(
                partial(self._ended, entry), body.argv, body.cwd, environ, work.log_path
            )
        except (LiteflowError, ValueError) as error:
            del self._running[work.node]
            self._inbox.post(
                failure(work, "FAILED", one_line(self._info.masked(f"cannot start {body.argv[0]!r}: {error}")))
            )
            return
        if work.timeout_s is not None:
            late = partial(self._stop, entry, "TIMED_OUT", timeout_message(work), work.grace_s)
            entry.timer = self._inbox.at(time.monotonic() + work.timeout_s, late)

    def _stop(self, entry: _Running, verdict: Verdict, message: str, grace_s: float) -> None:
        if entry.stopped is None:
            entry.stopped = verdict, message
        assert entry.ticket is not None
        self._hub.stop(entry.ticket, grace_s)

    def cancel(self, node: int, grace_s: float) -> None:
        entry = self._running.get(node)
        if entry is not None:
            self._stop(entry, "CANCELLED", "cancelled", grace_s)

    def _ended(self, entry: _Running, event: Exited | None) -> None:
        self._running.pop(entry.work.node, None)
        if entry.timer is not None:
            entry.timer.cancel()
        if event is None:
            verdict, message = entry.stopped or ("LOST", LOST_MESSAGE)
            outcome = failure(entry.work, verdict, message, started_at=entry.started_at)
        else:
            outcome = self._outcome(entry, event)
        # By now the last process of the task is gone, so nobody writes any more.
        how = self._commands[entry.work.task_id].output
        masked, size = ((), 0) if event is None else (event.masked, event.output_bytes)
        self._inbox.post(with_outputs(outcome, entry.output, self._info, how, masked=masked, size_bytes=size))

    def _outcome(self, entry: _Running, event: Exited) -> Outcome:
        work, body = entry.work, self._commands[entry.work.task_id]
        verdict: Verdict
        message: str | None
        if event.error is not None:
            verdict, message = "FAILED", one_line(self._info.masked(event.error))
        elif entry.stopped is not None and event.told:  # else it was over before
            verdict, message = entry.stopped[0], entry.stopped[1] + left_text(event.left)
        elif event.code == 0:
            verdict, message = "SUCCESS", None
        elif event.code in body.skip_on_exit_codes:
            verdict, message = "SKIPPED", f"exit code {event.code}"
        elif event.code > 0:
            verdict, message = "FAILED", f"exit code {event.code}"
        else:
            verdict, message = "FAILED", how_it_died("", event.code).strip()
        return Outcome(
            work.node,
            work.attempt,
            verdict,
            None,
            None,
            None if message is None else ErrorInfo(message),
            event.code,
            event.started_at,
            event.ended_at,
            work.log_path if event.output_bytes else None,
            event.lost,
        )

    @property
    def busy(self) -> bool:
        """Does any attempt run?"""
        return bool(self._running)

    def pids(self) -> dict[int, int]:
        """Process ids by node."""
        return {
            node: entry.ticket.pid
            for node, entry in self._running.items()
            if entry.ticket is not None and entry.ticket.pid is not None
        }

    def close(self, grace_s: float) -> None:
        """Ask all to stop; the guardian's end will see to it."""
        for entry in list(self._running.values()):
            if entry.ticket is not None:
                self._hub.stop(entry.ticket, grace_s)
