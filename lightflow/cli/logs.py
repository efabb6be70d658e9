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
from lightflow.cli.output import is_terminal, near_path, paint, say, say_json
from lightflow.cli.shapes import attempt_shape
from lightflow.engine.naming import took_text
from lightflow.errors import printable, tame
from liteflow.planning.nodes import instance_name
from liteflow.processes.output import read_log
from liteflow.state.history import AttemptRecord, RunRecord
from liteflow.states import RUN_ENDED, TASK_ENDED

_CHUNK: Final = 65_536
_LOOK_EVERY_S: Final = 0.1
_UNFINISHED: Final = re.compile(r"\x1b(\[[0-9;:]*)?\Z")  # a control sequence of which the rest is still to come


@command(
    epilog="""\b
Examples:
  lightflow logs
  lightflow logs --task train_model
  lightflow logs --task train_model --follow
  lightflow logs --task 'resize[3]'
  lightflow logs --task train_model --run 20260102T030405 --attempt 1 > train.log

\b
In a pipe the bytes come as the task printed them; behind them stands the traceback of a Python task that failed.
On a terminal, control characters are shown instead of obeyed. --json prints {run_id, task, status, attempts}; an
attempt's log is the path of its file. Without a task, task is null, status is the run's, and attempts have a task."""
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
    """Show what a task printed, or all tasks of a run.

    All its attempts in the latest run that has the task, unless you say which. Of a task that is mapped over a list
    those of the instances that failed, or else of all; one instance has its index in brackets. Without a task: those of
    the latest run, in the order in which they began.
    """
    from lightflow.service import inspecting

    if name is not None and task is not None:
        raise Misuse("give the task once")
    wanted = name if task is None else task
    run_id = inspecting.latest(db).run_id if run is not None and chosen_run(run) is None else run
    if wanted is None:
        _of_run(db, run_id, attempt, follow=follow, as_json=as_json)
        return
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
    else:
        _complain_of_silence(printer, attempts, wanted, record, one.status)


def _of_run(db: str, run_id: str | None, attempt: int | None, *, follow: bool, as_json: bool) -> None:
    """The logs of all tasks of a run, the latest by default."""
    from lightflow.service import inspecting

    printer = Printer(headings=True, of_run=True)
    while True:
        record, found = inspecting.attempts_of_run(db, run_id)
        attempts = [one for one in found if attempt in (None, one.attempt)]
        if as_json:
            shapes = [{"task": one.task_id, **_shape(one)} for one in attempts]
            say_json({"run_id": record.run_id, "task": None, "status": record.status, "attempts": shapes})
            return
        for one in attempts:
            printer.attempt(one)
        if not follow or record.status in RUN_ENDED:
            break
        run_id = record.run_id
        time.sleep(_LOOK_EVERY_S)
    if not printer.wrote:
        complain(f"no task of run {printable(record.run_id)} has printed anything: it is {record.status}")


def _nothing(task: str, record: RunRecord, status: str, attempts: Sequence[AttemptRecord]) -> str:
    """Say that a task has no output, and where the output of what it has started may be."""
    said = f"task {printable(task)} of run {record.run_id} printed nothing: it is {status}"
    if record.settings.get("mode") not in ("thread", "async") or any(each.exit_code is not None for each in attempts):
        return said  # it is a command, or ran in a worker
    return f"{said}; what a thread or a program prints that a Python task in a thread starts is on the terminal instead"


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
    _complain_of_silence(printer, attempts, task, record, one.status)


def _complain_of_silence(
    printer: Printer, attempts: Sequence[AttemptRecord], task: str, record: RunRecord, status: str
) -> None:
    """Say why there is nothing to read, or not all."""
    lost = next((each for each in reversed(attempts) if each.log_lost is not None), None)
    if lost is not None:
        complain(f"not all output of attempt {lost.attempt} could be kept: {printable(lost.log_lost or '')}")
    elif not printer.wrote:
        complain(_nothing(task, record, status, attempts))


class Printer:
    """Copies logs to stdout, each from where it stopped last time; behind that of a Python task its traceback.

    Of one task the headings go to stderr, since in a pipe the bytes are the task's alone; with `of_run` they go along.
    """

    def __init__(self, *, headings: bool, of_run: bool = False) -> None:
        self.wrote = False
        self._headings, self._of_run = headings, of_run
        self._terminal = is_terminal(sys.stdout)
        self._read: dict[tuple[str, int, int], int] = {}  # attempt of an instance: bytes
        self._traced: set[tuple[str, int, int]] = set()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._line_is_open = False

    def attempt(self, one: AttemptRecord) -> None:
        """Print what is new of an attempt."""
        key = (one.task_id, one.map_index, one.attempt)
        if one.log_path is not None:
            self._copy(one, one.log_path, key)
        if one.trace is not None and one.error is not None and key not in self._traced:
            self._traced.add(key)
            if key not in self._read:
                self._read[key] = 0
                self._heading(one)
            self._write(f"{one.error}\n".encode("utf-8", "backslashreplace"), whole=True)
        sys.stdout.flush()

    def _copy(self, one: AttemptRecord, path: str, key: tuple[str, int, int]) -> None:
        try:
            with read_log(path) as file:
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
                if one.status == "LOST":  # a log is made when the first byte arrives
                    complain(f"attempt {one.attempt} was lost, and has no log: {near_path(path)}")
                else:
                    complain(f"the log of attempt {one.attempt} is not there any more: {near_path(path)}")

    def _heading(self, one: AttemptRecord) -> None:
        if not self._headings:
            return
        took = "" if one.ended_at is None else f" after {took_text(one.ended_at - one.started_at)}"
        which = "" if one.map_index < 0 and not self._of_run else f"{instance_name(one.task_id, one.map_index)}, "
        path = "" if one.log_path is None else f", {near_path(one.log_path)}"
        text = f"==> {printable(which)}attempt {one.attempt}: {printable(one.status)}{took}{path} <=="
        if self._of_run:
            self._write(b"", whole=True)
            say(paint(text, "dim"))
        else:
            complain(paint(text, "dim", sys.stderr))

    def _write(self, chunk: bytes, *, whole: bool = False) -> None:
        """Write bytes of a task; those that are `whole` begin on a line of their own."""
        if whole and self._line_is_open:
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
        unfinished = _UNFINISHED.search(text)
        self._held = unfinished.group() if unfinished else ""
        sys.stdout.write(tame(text[: len(text) - len(self._held)]))
