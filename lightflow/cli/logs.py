"""`lightflow logs`: what tasks printed."""

from __future__ import annotations

import codecs
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Final

import click

from lightflow.cli.error_boundary import complain
from lightflow.cli.options import COUNT, command, db_option, json_option, run_ids, run_or_latest, task_ids
from lightflow.cli.output import is_terminal, near_path, paint, say, say_json
from lightflow.text import plain_text, printable
from liteflow.api import RUN_ENDED, TASK_ENDED, AttemptRecord, RunRecord, duration_text, instance_name, open_log

_CHUNK: Final = 65_536
_POLL_S: Final = 0.1
_EARLIER: Final = "only the last attempts are shown; --attempt N shows an earlier one"
_PARTIAL_SEQUENCE: Final = re.compile(r"\x1b(\[[0-9;:]*)?\Z")  # a control sequence whose rest is not read yet


@command(
    epilog="""\b
Examples:
  lightflow logs
  lightflow logs --task train_model
  lightflow logs --task train_model --follow
  lightflow logs --task 'resize[3]'
  lightflow logs --task 'resize[cover.png]'
  lightflow logs --task train_model --run 20260102T030405 --attempt 1 > train.log

\b
In a pipe, the bytes are those that the task printed, followed by the traceback of a failed Python
task. On a terminal, control characters are shown as escapes.
--json prints {run_id, task, status, attempts, earlier_attempts}; the log of an attempt is the path of
its file. Without a task, task is null, status is that of the run, and attempts have a task."""
)
@click.argument("name", metavar="[TASK]", required=False, shell_complete=task_ids)
@click.option("-t", "--task", help="The task.", shell_complete=task_ids)
@click.option("--run", metavar="RUN", help="The run; by default the latest that has the task.", shell_complete=run_ids)
@click.option("--attempt", type=COUNT, metavar="N", help="Only this attempt.")
@click.option("-f", "--follow", is_flag=True, help="Continue until the task has ended.")
@db_option
@json_option
def logs(
    name: str | None, task: str | None, run: str | None, attempt: int | None, follow: bool, db: str, as_json: bool
) -> None:
    """Show what a task printed, or all tasks of a run.

    By default these are the attempts of the task, at most the last 1,000, in the latest run that has it. For a task
    that is mapped over a list, these are the logs of the instances that failed, or of all if none failed; an instance
    has its index or its label in brackets.
    Without a task, the logs of all tasks of the latest run are printed in the order in which the tasks started.
    """
    from lightflow.service import queries

    if name is not None and task is not None:
        raise click.UsageError("give the task once")
    task_name = name if task is None else task
    run_id = queries.latest_run(db).run_id if run is not None and run_or_latest(run) is None else run
    if task_name is None:
        _show_run(db, run_id, attempt, follow=follow, as_json=as_json)
        return
    if run_id is None:
        run_id = queries.latest_run_id(db, task_name)
    attempts, earlier = queries.task_attempts(db, task_name, run_id, attempt)
    record, instance = queries.instance(db, run_id, task_name)
    if as_json:
        from lightflow.service.json_shapes import task_logs_shape

        say_json(task_logs_shape(record.run_id, instance, attempts, earlier=earlier))
        return
    if earlier:
        complain(_EARLIER)
    printer = LogPrinter(headings=attempt is None and (follow or len(attempts) > 1))
    if follow:
        _follow(db, record.run_id, task_name, attempt, printer)
        return
    for each in _failed_or_all(attempts):
        printer.print(each)
    if not attempts:
        complain(f"task {printable(task_name)} of run {record.run_id} has not started: it is {instance.status}")
    else:
        _explain_missing_output(printer, attempts, task_name, record, instance.status)


def _show_run(db: str, run_id: str | None, attempt: int | None, *, follow: bool, as_json: bool) -> None:
    """Print the logs of all tasks of a run, by default the latest."""
    from lightflow.service import queries

    printer = LogPrinter(headings=True, of_run=True)
    while True:
        record, (attempts, earlier) = queries.run_attempts(db, run_id, attempt)
        if as_json:
            from lightflow.service.json_shapes import run_logs_shape

            say_json(run_logs_shape(record, attempts, earlier=earlier))
            return
        if earlier and not printer.wrote:
            complain(_EARLIER)
        for each in attempts:
            printer.print(each)
        if not follow or record.status in RUN_ENDED:
            break
        run_id = record.run_id
        time.sleep(_POLL_S)
    if not printer.wrote:
        complain(f"no task of run {printable(record.run_id)} has printed anything: it is {record.status}")


def _failed_or_all(attempts: Sequence[AttemptRecord]) -> Sequence[AttemptRecord]:
    """Return the attempts of the failed instances, if there are several instances and some failed; else all."""
    last_status = {attempt.map_index: attempt.status for attempt in attempts}
    failed = {index for index, status in last_status.items() if status in ("FAILED", "TIMED_OUT")}
    if not failed or len(last_status) == 1:
        return attempts
    return [attempt for attempt in attempts if attempt.map_index in failed]


def _follow(db: str, run_id: str, task: str, number: int | None, printer: LogPrinter) -> None:
    """Print the log while it grows, until the task, the attempt of that number or the run has ended."""
    from lightflow.service import queries

    waiting = False
    while True:
        # In this order: output that was printed before the end that is read here is in the file by now.
        record, instance = queries.instance(db, run_id, task)
        over = instance.status in TASK_ENDED or record.status in RUN_ENDED
        attempts, _ = queries.task_attempts(db, task, run_id, number)
        for attempt in attempts:
            printer.print(attempt)
        if over or (number is not None and any(attempt.ended_at is not None for attempt in attempts)):
            break
        if not attempts and not waiting:
            waiting = True
            complain(f"waiting for {printable(task)} to start")
        time.sleep(_POLL_S)
    _explain_missing_output(printer, attempts, task, record, instance.status)


def _explain_missing_output(
    printer: LogPrinter, attempts: Sequence[AttemptRecord], task: str, run: RunRecord, status: str
) -> None:
    """Print why there is no output, or why a part of it is missing."""
    lost = next((attempt for attempt in reversed(attempts) if attempt.log_lost is not None), None)
    if lost is not None:
        complain(f"not all output of attempt {lost.attempt} could be stored: {printable(lost.log_lost or '')}")
    elif not printer.wrote:
        message = f"task {printable(task)} of run {run.run_id} printed nothing: it is {status}"
        in_this_process = run.settings.get("mode") in ("thread", "async")
        if in_this_process and all(attempt.exit_code is None for attempt in attempts):
            message += "; the output of threads and programs that a Python task starts in a thread is on the terminal"
        complain(message)


class LogPrinter:
    """Copies logs to stdout, each from where it stopped last time, then the traceback of a failed Python task.

    The headings of the logs of a single task go to stderr, because in a pipe the bytes must be those of the task; with
    `of_run` they go to stdout.
    """

    def __init__(self, *, headings: bool, of_run: bool = False) -> None:
        self.wrote = False
        self._headings, self._of_run = headings, of_run
        self._terminal = is_terminal(sys.stdout)
        self._positions: dict[tuple[str, int, int], int] = {}  # bytes that were read, by instance and attempt
        self._traced: set[tuple[str, int, int]] = set()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # the beginning of a control sequence
        self._line_is_open = False

    def print(self, attempt: AttemptRecord) -> None:
        """Print the new output of an attempt."""
        key = (attempt.task_id, attempt.map_index, attempt.attempt)
        if attempt.log_path is not None:
            self._copy(attempt, attempt.log_path, key)
        if attempt.trace is not None and attempt.error is not None and key not in self._traced:
            self._traced.add(key)
            if key not in self._positions:
                self._positions[key] = 0
                self._print_heading(attempt)
            self._write(f"{attempt.error}\n".encode("utf-8", "backslashreplace"), new_line=True)
        sys.stdout.flush()

    def _copy(self, attempt: AttemptRecord, path: str, key: tuple[str, int, int]) -> None:
        try:
            with open_log(path) as file:
                if not os.fstat(file.fileno()).st_size and key not in self._positions:
                    return
                if key not in self._positions:
                    self._positions[key] = 0
                    self._print_heading(attempt)
                file.seek(self._positions[key])
                while chunk := file.read(_CHUNK):
                    self._positions[key] += len(chunk)
                    self._write(chunk)
        except FileNotFoundError:
            if attempt.ended_at is not None and key not in self._positions:
                self._positions[key] = 0
                self.wrote = True
                if attempt.status == "LOST":  # the file is created with the first byte of output
                    complain(f"attempt {attempt.attempt} was lost, and has no log: {near_path(path)}")
                else:
                    complain(f"the log of attempt {attempt.attempt} was deleted: {near_path(path)}")

    def _print_heading(self, attempt: AttemptRecord) -> None:
        if not self._headings:
            return
        took = "" if attempt.ended_at is None else f" after {duration_text(attempt.ended_at - attempt.started_at)}"
        status = attempt.status if attempt.host is None else f"{attempt.status} on {attempt.host}"
        named = attempt.map_index >= 0 or self._of_run
        name = f"{instance_name(attempt.task_id, attempt.map_index)}, " if named else ""
        path = "" if attempt.log_path is None else f", {near_path(attempt.log_path)}"
        text = f"==> {printable(name)}attempt {attempt.attempt}: {printable(status)}{took}{path} <=="
        if self._of_run:
            self._write(b"", new_line=True)
            say(paint(text, "dim"))
        else:
            complain(paint(text, "dim", sys.stderr))

    def _write(self, chunk: bytes, *, new_line: bool = False) -> None:
        """Write output of a task; with `new_line` it begins on a new line."""
        if new_line and self._line_is_open:
            chunk = b"\n" + chunk
        if not chunk:
            return
        self._line_is_open = not chunk.endswith(b"\n")
        self.wrote = True
        if not self._terminal:
            sys.stdout.flush()
            sys.stdout.buffer.write(chunk)
            return
        text = self._held + self._decoder.decode(chunk)
        partial = _PARTIAL_SEQUENCE.search(text)
        self._held = partial.group() if partial else ""
        sys.stdout.write(plain_text(text[: len(text) - len(self._held)]))
