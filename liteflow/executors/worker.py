"""A Python worker: a forked process that runs one task at a time until its socket closes.

It cleans up after each task. After a change that it cannot undo (processes left running, changed signal handlers, a
closed output) it retires: it sends the outcome and ends, and a new worker takes its place.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import time
from _thread import start_new_thread
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from liteflow.errors import LiteflowError
from liteflow.executors.attempt import Attempt, Terminated, with_outputs
from liteflow.executors.command import run_environment, task_environment
from liteflow.executors.process_state import ProcessState, set_variables
from liteflow.executors.worker_output import WorkerOutput
from liteflow.processes.forks import close_in_forks, forking, use_handlers_in_forks
from liteflow.processes.log_switch import LogSwitch, Written
from liteflow.processes.packets import pack, receive, send
from liteflow.values.payload import Payload
from liteflow.work import Body, Call, ErrorInfo, HookEvent, Outcome, RunInfo, Waiting, Work

#: The calls of a run's tasks by task id, or as `Work.body` names them, with the commands that have an undo; and what is
#: the same for all of them.
RunCalls = tuple[Mapping[Any, Body], RunInfo]


def work_to_wire(work: Work, body: str | bytes | None = None) -> tuple[Any, ...]:
    """Return a Work as plain values; for another machine with the body that is shipped, and without the log here."""
    return (
        (work.node, work.task_id, work.map_index, work.attempt, work.is_undo),
        _to_tuples(work.inputs),
        _to_tuples(work.items),
        (work.timeout_s, work.grace_s, work.log_path if body is None else None),
        None if work.hook is None else tuple(work.hook),
        work.handle,
        (work.iteration, _to_tuples(work.previous)),
        work.body if body is None else body,
    )


def work_from_wire(wire: tuple[Any, ...], log_dir: str | None = None) -> Work:
    """Return a Work from plain values; that of another machine gets a log in a folder."""
    (
        (node, task_id, map_index, attempt, is_undo),
        inputs,
        items,
        (timeout_s, grace_s, log_path),
        hook,
        handle,
        (iteration, previous),
        body,
    ) = wire
    if log_dir is not None:
        log_path = f"{log_dir}/{node}-{attempt}.log"
    return Work(
        node=node,
        task_id=task_id,
        map_index=map_index,
        attempt=attempt,
        inputs=_to_payloads(inputs),
        items=_to_payloads(items),
        timeout_s=timeout_s,
        grace_s=grace_s,
        log_path=log_path,
        hook=None if hook is None else HookEvent._make(hook),
        handle=handle,
        iteration=iteration,
        previous=_to_payloads(previous),
        is_undo=is_undo,
        body=body,
    )


def outcome_to_wire(outcome: Outcome) -> tuple[Any, ...]:
    """Return an Outcome as plain values."""
    value, error, waiting = outcome.value, outcome.error, outcome.waiting
    return (
        *outcome[:3],
        None if value is None else tuple(value),
        _to_tuples(outcome.pushed),
        None if error is None else tuple(error),
        *outcome[6:-1],
        None if waiting is None else tuple(waiting),
    )


def outcome_from_wire(wire: tuple[Any, ...]) -> Outcome:
    value, pushed, error, waiting = *wire[3:6], wire[-1]
    return Outcome._make(
        (
            *wire[:3],
            None if value is None else Payload._make(value),
            _to_payloads(pushed),
            None if error is None else ErrorInfo._make(error),
            *wire[6:-1],
            None if waiting is None else Waiting._make(waiting),
        )
    )


def _to_tuples(payloads: Mapping[str, Payload] | None) -> dict[str, tuple[Any, ...]] | None:
    return None if payloads is None else {key: tuple(payload) for key, payload in payloads.items()}


def _to_payloads(wire: dict[str, tuple[Any, ...]] | None) -> dict[str, Payload] | None:
    return None if wire is None else {key: Payload._make(parts) for key, parts in wire.items()}


#: The exit code of a worker whose undo has failed: the guardian does not read outcomes.
_UNDO_FAILED: Final = 1


class _Worker:
    def __init__(self, run_calls: RunCalls, sock: socket.socket, switch: LogSwitch | None) -> None:
        self._calls, self._info = run_calls
        sock.setblocking(True)
        self._sock = sock
        close_in_forks(sock)
        use_handlers_in_forks({signal.SIGTERM: signal.SIG_DFL})
        self._terminated = False
        self.undo_failed = False
        _close_input()
        set_variables(run_environment(self._info))
        signal.signal(signal.SIGTERM, self._on_term)
        self._output = WorkerOutput(switch, self._info.masker)
        self._state = ProcessState()

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True
        if forking():  # an exception would be lost
            start_new_thread(_terminate_soon, ())
            return
        raise Terminated(128 + number)

    def run(self) -> None:
        """Run tasks until EOFError or Terminated, or until a task has changed this process for good."""
        try:
            while self._serve():
                continue
        except Terminated:
            self._output.flush()  # half a line may still be in Python's buffers
            raise

    def _serve(self) -> bool:
        """Run the works of a packet, usually one; return False when this process has to end after the last of them."""
        works, outcomes, is_clean = [work_from_wire(wire) for wire in receive(self._sock)], list[Outcome](), True
        for work in works:
            outcome, is_clean = self._serve_one(work)
            outcomes.append(outcome)
            if not is_clean:
                break
        try:
            send(self._sock, pack((is_clean, list(map(outcome_to_wire, outcomes)))))
        except ConnectionError:
            raise
        except OSError as error:  # no memory or file for a large value
            wires = [outcome_to_wire(Attempt(work, self._info).raised(error)) for work in works[: len(outcomes)]]
            send(self._sock, pack((is_clean, wires)))
        return is_clean

    def _serve_one(self, work: Work) -> tuple[Outcome, bool]:
        """Run one task. Return its outcome, and whether this process is as it was before."""
        variables = task_environment(self._info, work)
        outcome, value_from = self._run_task(work, variables)
        if self._terminated:  # the task has caught the exception
            raise Terminated
        is_clean = self._state.restore()  # first: it ends processes that still write, and resets the umask
        written, output_is_unchanged = self._output.end()
        is_clean = is_clean and output_is_unchanged
        if written != (0, None):
            outcome = outcome._replace(log_path=work.log_path if written.size_bytes else None, log_lost=written.lost)
        if work.is_undo:
            self.undo_failed = outcome.error is not None
        else:
            outcome = self._with_outputs(outcome, value_from, variables.get("LIGHTFLOW_OUTPUT"), written)
        return outcome, is_clean

    def _with_outputs(self, outcome: Outcome, value_from: str | None, path: str | None, written: Written) -> Outcome:
        """Return the outcome with the values of the output file, and with the printed one."""
        masked = tuple(self._info.secrets or ())  # the guardian, which masks, does not say which it has found
        return with_outputs(outcome, path, self._info, value_from, masked=masked, size_bytes=written.size_bytes)

    def _run_task(self, work: Work, variables: Mapping[str, str]) -> tuple[Outcome, str | None]:
        """Return the outcome of a task, and where its body says that its value is printed."""
        self._output.begin(work.log_path)
        attempt, value_from = Attempt(work, self._info), None
        try:
            whole = self._calls[work.body or work.task_id]
            is_whole = not work.is_undo or work.body is not None  # the body of an undo that was shipped is the undo
            body, value_from = whole if is_whole else whole.undo, whole.output
            assert isinstance(body, Call)
            body = attempt.complete_body(body)
            self._state.prepare(body.cwd, self._info.environment(body), variables)
        except (OSError, ValueError, LiteflowError) as error:
            return attempt.raised(error), value_from
        return attempt.run(body), value_from


def _close_input() -> None:
    """Replace standard input by the null device: tasks, and programs that they start, find its end, as commands do."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)
    else:  # descriptor 0 was closed
        os.set_inheritable(0, True)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")


def _terminate_soon() -> None:
    time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)


def die_of_term() -> None:
    """End this process by SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def serve(run_calls: RunCalls, sock: socket.socket, switch: LogSwitch | None) -> None:
    """Run tasks until the orchestrator closes the socket; this process has no other purpose.

    Raises:
        SystemExit: an undo has failed.
    """
    worker = _Worker(run_calls, sock, switch)
    try:
        with suppress(EOFError, ConnectionError):
            worker.run()
    except Terminated:
        die_of_term()
    if worker.undo_failed:
        sys.exit(_UNDO_FAILED)
