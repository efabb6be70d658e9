"""`lightflow logs`: what a task printed."""

from __future__ import annotations

import codecs
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from lightflow.cli.border import complain
from lightflow.cli.declare import Misuse, Whole, argument, command, option
from lightflow.cli.options import chosen_run, db_option, json_option, run_ids, task_ids
from lightflow.cli.output import is_terminal, near_path, paint, say_json
from lightflow.cli.shapes import attempt_shape
from lightflow.engine.naming import took_text
from lightflow.errors import printable, tame
from liteflow.planning.nodes import instance_name
from liteflow.processes.output import read_log
from liteflow.state.history import AttemptRecord
from liteflow.states import RUN_ENDED, TASK_ENDED

_CHUNK: Final = 65_536
_LOOK_EVERY_S: Final = 0.1
_UNFINISHED: Final = re.compile(r"\x1b(\[[0-9;:]*)?\Z")  # a control sequence of which the rest is still to come


@command(
    epilog="""\b
Examples:
  lightflow logs --task train_model
  lightflow logs --task train_model --follow
  lightflow logs --task 'resize[3]'
  lightflow logs --task train_model --run 20260102T030405 --attempt 1 > train.log

\b
In a pipe the bytes come as the task printed them. On a terminal, control characters are shown instead of
obeyed. --json prints {run_id, task, status, attempts}; an attempt's log is the path of its file."""
)
@argument("name", metavar="[TASK]", required=False, shell_complete=task_ids)
@option("-t", "--task", help="The task.", shell_complete=task_ids)
@option("--run", metavar="RUN", help="The run; the latest that has the task by default.", shell_complete=run_ids)
@option("--attempt", type=Whole(), metavar="N", help="Only this attempt.")
@option("-f", "--follow", is_flag=True, help="Go on until the task has ended.")
@db_option
@json_option
def logs(
    name: str | None, task: str | None, run: str | None, attempt: int | None, follow: bool, db: str, as_json: bool
) -> None:
    """Show what a task printed.

    All its attempts in the latest run that has the task, unless you say which. Of a task that is mapped over a list
    those of the instances that failed, or else of all; one instance has its index in brackets.
    """
    from lightflow.service import inspecting

    if (name is None) == (task is None):
        raise Misuse("which task? lightflow logs --task NAME")
    wanted = task or name or ""
    run_id = inspecting.latest(db).run_id if run is not None and chosen_run(run) is None else run
    if run_id is None:
        run_id = inspecting.run_of_task(db, wanted)
    attempts = inspecting.attempts_of(db, wanted, run_id, attempt)
    record, one = inspecting.instance(db, run_id, wanted)
    if as_json:
        shapes = [_shape(each) for each in attempts]
        say_json({"run_id": record.run_id, "task": wanted, "status": one.status, "attempts": shapes})
        return
    printer = Printer(headings=attempt is None and (follow or len(attempts) > 1))
    if follow:
        _follow(db, record.run_id, wanted, attempt, printer)
        return
    for each in _worth_reading(attempts):
        printer.attempt(each)
    if not attempts:
        complain(f"task {printable(wanted)} of run {record.run_id} has not started: it is {one.status}")
    elif not printer.wrote:
        complain(f"task {printable(wanted)} of run {record.run_id} printed nothing: it is {one.status}")


def _shape(one: AttemptRecord) -> dict[str, Any]:
    """An attempt as JSON; of an instance with its index."""
    return attempt_shape(one) if one.map_index < 0 else {"map_index": one.map_index, **attempt_shape(one)}


def _worth_reading(attempts: Sequence[AttemptRecord]) -> Sequence[AttemptRecord]:
    """Of several instances those whose last attempt has failed, if there are any."""
    last = {one.map_index: one.status for one in attempts}
    failed = {index for index, status in last.items() if status in ("FAILED", "TIMED_OUT")}
    return [one for one in attempts if one.map_index in failed] if failed and len(last) > 1 else attempts


def _follow(db: str, run_id: str, task: str, only: int | None, printer: Printer) -> None:
    """Print what comes until the task, or the run, has ended."""
    from lightflow.service import inspecting

    waiting = False
    while True:
        # The order matters: what was printed before the end that is seen here is in the file by now.
        record, one = inspecting.instance(db, run_id, task)
        over = one.status in TASK_ENDED or record.status in RUN_ENDED
        attempts = [each for each in inspecting.attempts_of(db, task, run_id) if only in (None, each.attempt)]
        for each in attempts:
            printer.attempt(each)
        if over or (only is not None and any(each.ended_at is not None for each in attempts)):
            break
        if not attempts and not waiting:
            waiting = True
            complain(f"waiting for {printable(task)} to start")
        time.sleep(_LOOK_EVERY_S)
    if not printer.wrote:
        complain(f"task {printable(task)} of run {run_id} printed nothing: it is {one.status}")


class Printer:
    """Copies logs to stdout, each from where it stopped last time."""

    def __init__(self, *, headings: bool) -> None:
        self.wrote = False
        self._headings = headings
        self._terminal = is_terminal(sys.stdout)
        self._read: dict[tuple[int, int], int] = {}  # instance and attempt: bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def attempt(self, one: AttemptRecord) -> None:
        """Print what is new of an attempt."""
        if one.log_path is None:
            return
        key = (one.map_index, one.attempt)
        try:
            with read_log(one.log_path) as file:
                if not os.fstat(file.fileno()).st_size and key not in self._read:
                    return
                if key not in self._read:
                    self._read[key] = 0
                    self._heading(one)
                file.seek(self._read[key])
                while chunk := file.read(_CHUNK):
                    self._read[key] += len(chunk)
                    self._write(chunk)
        except FileNotFoundError:
            if one.ended_at is not None and key not in self._read:
                self._read[key] = 0
                self.wrote = True
                complain(f"the log of attempt {one.attempt} is not there any more: {near_path(one.log_path)}")
        sys.stdout.flush()

    def _heading(self, one: AttemptRecord) -> None:
        if not self._headings:
            return
        took = "" if one.ended_at is None else f" after {took_text(one.ended_at - one.started_at)}"
        which = "" if one.map_index < 0 else f"{instance_name(one.task_id, one.map_index)}, "
        text = f"==> {which}attempt {one.attempt}: {one.status}{took}, {near_path(one.log_path or '')} <=="
        # Not into the pipe: there, the bytes are the task's alone.
        complain(paint(text, "dim", sys.stderr))

    def _write(self, chunk: bytes) -> None:
        self.wrote = True
        if not self._terminal:
            sys.stdout.flush()
            sys.stdout.buffer.write(chunk)
            return
        text = self._held + self._decoder.decode(chunk)
        unfinished = _UNFINISHED.search(text)
        self._held = unfinished.group() if unfinished else ""
        sys.stdout.write(tame(text[: len(text) - len(self._held)]))
