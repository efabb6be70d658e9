"""Commands: a process for each attempt, started and watched by the guardian."""

from __future__ import annotations

import time
from functools import partial

from liteflow.context import idempotency_key
from liteflow.errors import LiteflowError
from liteflow.executors.attempt import death_text, failure, one_line, survivors_text, timeout_message, with_outputs
from liteflow.executors.guardian_client import LOST_MESSAGE, ProcessHandle
from liteflow.executors.outcome_queue import Timer
from liteflow.executors.protocol import Backend, BackendContext
from liteflow.outputs import output_path
from liteflow.processes.client import Exited
from liteflow.processes.spawn import sayable
from liteflow.states import Verdict
from liteflow.values.dates import shown
from liteflow.work import Command, ErrorInfo, Outcome, RunInfo, Work, complete_body


def run_environment(info: RunInfo) -> dict[str, str]:
    """Return the environment variables that are the same for all tasks of a run."""
    environ = {
        "LIGHTFLOW_RUN_ID": info.run_id,
        "LIGHTFLOW_WORKFLOW": info.dag_id,
    }
    if info.agent is None:
        environ["LIGHTFLOW_DB"] = info.db_path
    if info.logical_date is not None:
        environ["LIGHTFLOW_LOGICAL_DATE"] = shown(info.logical_date)
    return environ


def task_environment(info: RunInfo, work: Work) -> dict[str, str]:
    """Return the environment variables of one attempt."""
    variables = {
        "LIGHTFLOW_TASK": work.task_id,
        "LIGHTFLOW_ATTEMPT": str(work.attempt),
        "LIGHTFLOW_IDEMPOTENCY_KEY": idempotency_key(info.run_id, work.task_id, work.map_index),
    }
    if work.hook is not None:
        variables.update((name, sayable(text)) for name, text in work.hook.variables().items())
    if work.map_index >= 0:
        variables["LIGHTFLOW_MAP_INDEX"] = str(work.map_index)
    path = output_path(info, work)
    if path is not None:
        variables["LIGHTFLOW_OUTPUT"] = variables["GITHUB_OUTPUT"] = path
    return variables


class _Submission:
    """A command that was started."""

    __slots__ = ("handle", "output_path", "started_at", "stopped", "timer", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.output_path: str | None = None
        self.started_at = time.time()
        self.handle: ProcessHandle | None = None
        self.timer: Timer | None = None
        self.stopped: tuple[Verdict, str] | None = None  # why the attempt is being ended


class CommandBackend(Backend):
    """Has the guardian start a process for each attempt."""

    def __init__(self, context: BackendContext) -> None:
        assert context.guardian is not None
        self._outcomes = context.outcomes
        self._bodies = context.bodies
        self._info = context.info
        self._guardian = context.guardian
        self._undos = context.undos
        self._post = context.post
        self._run_environment = run_environment(context.info)
        self._submissions: dict[int, _Submission] = {}  # by node

    def _command(self, work: Work) -> Command:
        body = self._bodies[str(work.body or work.task_id)]
        assert isinstance(body, Command)
        return body

    def submit(self, work: Work) -> None:
        body = self._command(work)
        try:
            body = complete_body(body, self._info, work)
        except LiteflowError as error:
            self._outcomes.post(failure(work, "FAILED", one_line(self._info.masked(str(error)))))
            return
        environ = {**self._info.environment(body), **self._run_environment, **task_environment(self._info, work)}
        submission = self._submissions[work.node] = _Submission(work)
        submission.output_path = environ.get("LIGHTFLOW_OUTPUT") if self._info.outputs_dir is not None else None
        try:
            if self._undos is not None:
                self._undos.register(work)
            submission.handle = self._guardian.start_command(
                partial(self._on_exit, submission), body.argv, body.cwd, environ, work.log_path
            )
        except (LiteflowError, ValueError) as error:
            del self._submissions[work.node]
            message = one_line(self._info.masked(f"cannot start {body.argv[0]!r}: {error}"))
            self._post(failure(work, "FAILED", message))
            return
        if work.timeout_s is not None:
            on_timeout = partial(self._stop, submission, "TIMED_OUT", timeout_message(work), work.grace_s)
            submission.timer = self._outcomes.at(time.monotonic() + work.timeout_s, on_timeout)

    def _stop(self, submission: _Submission, verdict: Verdict, message: str, grace_s: float) -> None:
        if submission.stopped is None:
            submission.stopped = verdict, message
        assert submission.handle is not None
        self._guardian.stop(submission.handle, grace_s)

    def cancel(self, node: int, grace_s: float) -> None:
        submission = self._submissions.get(node)
        if submission is not None:
            self._stop(submission, "CANCELLED", "cancelled", grace_s)

    def _on_exit(self, submission: _Submission, event: Exited | None) -> None:
        work = submission.work
        self._submissions.pop(work.node, None)
        if submission.timer is not None:
            submission.timer.cancel()
        if event is None:
            verdict, message = submission.stopped or ("LOST", LOST_MESSAGE)
            outcome = failure(work, verdict, message, started_at=submission.started_at)
        else:
            outcome = self._outcome(submission, event)
        # The last process of the task has ended, so the output file no longer changes.
        value_from = self._command(work).output
        masked, size = ((), 0) if event is None else (event.masked, event.output_bytes)
        path = submission.output_path
        self._post(with_outputs(outcome, path, self._info, value_from, masked=masked, size_bytes=size))

    def _outcome(self, submission: _Submission, event: Exited) -> Outcome:
        work, body = submission.work, self._command(submission.work)
        verdict: Verdict
        message: str | None
        if event.error is not None:
            verdict, message = "FAILED", one_line(self._info.masked(event.error))
        elif submission.stopped is not None and event.stopped:  # otherwise it had ended before
            verdict, message = submission.stopped[0], submission.stopped[1] + survivors_text(event.survivors)
        elif event.code == 0:
            verdict, message = "SUCCESS", None
        elif event.code in body.skip_on_exit_codes:
            verdict, message = "SKIPPED", f"exit code {event.code}"
        elif event.code > 0:
            verdict, message = "FAILED", f"exit code {event.code}"
        else:
            verdict, message = "FAILED", death_text("", event.code).strip()
        return Outcome(
            node=work.node,
            attempt=work.attempt,
            verdict=verdict,
            value=None,
            pushed=None,
            error=None if message is None else ErrorInfo(message),
            exit_code=event.code,
            started_at=event.started_at,
            ended_at=event.ended_at,
            log_path=work.log_path if event.output_bytes else None,
            log_lost=event.lost,
        )

    @property
    def is_busy(self) -> bool:
        return bool(self._submissions)

    def close(self, grace_s: float) -> None:
        """Stop all commands; those that are left end with the guardian."""
        for submission in list(self._submissions.values()):
            if submission.handle is not None:
                self._guardian.stop(submission.handle, grace_s)
