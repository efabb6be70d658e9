"""What is said when a run is over: each task, what failed and why, how long it took, how to go on."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Final, NamedTuple, TextIO

from lightflow.cli.failing import trace_lines, trace_of
from lightflow.cli.options import with_db
from lightflow.cli.output import as_lines, columns_of, counted, near_path, paint, say, sign, state, table
from lightflow.cli.output import cut as shortened
from lightflow.engine.naming import took_text
from lightflow.errors import printable, tame
from lightflow.service import inspecting
from lightflow.service.inspecting import RunView
from lightflow.service.instances import FEW, called, name_of, tallies, told_of
from lightflow.service.verdicts import in_words
from liteflow.pictures.picture import shorten
from liteflow.planning.nodes import instance_name
from liteflow.processes.output import read_log
from liteflow.state.history import AttemptRecord, InstanceRecord

MOST_ROWS: Final = 40  # of larger runs only what is worth a look is listed
_SLOWEST: Final = 10
_LISTED: Final = f"above are those that failed or are running, then the {_SLOWEST} that took longest"
_URGENT: Final = ("FAILED", "RUNNING", "UP_FOR_RETRY")
_NAME: Final = 8  # columns that are left to a name on a narrow terminal
_BESIDE: Final = 31  # columns of the states and durations beside it
_FAILURES: Final = 10
_TAIL_LINES: Final = 10
_TAIL_BYTES: Final = 16_384


class Report(NamedTuple):
    """A run that is over, as this process saw it."""

    view: RunView
    db: str
    since: float  # when this process began with it: a resumed run is older
    until: float
    again: str  # the command line that goes on with it


def gather(db: str, run_id: str, since: float, again: str) -> Report:
    """Read what there is to say."""
    return Report(inspecting.status(db, run_id), db, since, time.time(), again)


def shape(report: Report) -> dict[str, Any]:
    """The run as JSON."""
    from lightflow.cli.shapes import view_shape

    return view_shape(*report.view)


def show(report: Report, stream: TextIO, *, table: bool, brief: bool) -> None:
    """Print it: with a table on a terminal (elsewhere each task had its line), `brief` with failures and one line."""
    view = report.view
    if table:
        say(tasks_table(view, stream), stream)
    failed = _failed(view)
    latest = {(attempt.task_id, attempt.map_index): attempt for attempt in view.attempts}
    for one in failed[:_FAILURES]:
        _show_failure(one, latest.get((one.task_id, one.map_index)), stream)
    for one in [hook for hook in view.hooks if hook.status == "FAILED" and hook.event != "precondition"][:_FAILURES]:
        _show_failure(one, latest.get((one.task_id, one.map_index)), stream, warning=True)
    if len(failed) > _FAILURES:
        listing = with_db(f"lightflow status {view.run.run_id} --json", report.db)
        say(f"… and {len(failed) - _FAILURES} more failed tasks: {listing}", stream)
    if table or failed:
        say("", stream)
    _warn_of_lost_output(view.attempts, stream)
    say(verdict(report, stream), stream)
    if not brief:
        say(_pointers(report, failed, stream), stream)


def _failed(view: RunView) -> list[InstanceRecord]:
    """What failed: of mapped tasks the instances."""
    failed = [one for one in view.instances if one.status == "FAILED"]
    mapped = {one.task_id for one in failed if one.map_index >= 0}
    return [one for one in failed if one.map_index >= 0 or one.task_id not in mapped]


def tasks_table(view: RunView, stream: TextIO | None = None, *, every: bool = False) -> str:
    """A row for each task and hook, and one for each instance of those that have few.

    Of a large run or task there are the failures, the running ones and the slowest; with `every`, all.
    """
    told = tallies(view.instances)
    chosen, hooks, left_out = view.instances, view.hooks, ""
    if not every:
        many = {task_id for task_id, tally in told.items() if tally.total() > FEW}
        chosen = [one for one in chosen if one.map_index < 0 or one.task_id not in many or one.status in _URGENT]
        if len(chosen) + len(hooks) > MOST_ROWS:
            tasks = len(view.tasks)
            chosen, hooks = _worth_a_look(chosen), [one for one in hooks if one.status == "FAILED"]
            listed = sum(one.map_index < 0 for one in chosen)
            left_out = f"\n… {tasks - listed:,} more tasks are not listed ({counted(*view.tally())}); {_LISTED}"
    chosen = [*chosen, *hooks]
    tries: dict[tuple[str, int], int] = {}
    for attempt in view.attempts:
        key = (attempt.task_id, attempt.map_index)
        tries[key] = tries.get(key, 0) + 1
    screen = columns_of(stream or sys.stdout)
    longest = None if screen is None else max(_NAME, screen - _BESIDE)  # so that state and duration are seen
    rows = [
        (
            called(one) if longest is None else shorten(called(one), longest),
            state(one.status, stream),
            took_text(_took(one)) or "-",
            str(tries.get((one.task_id, one.map_index)) or "-"),
            printable(told_of(one, told.get(one.task_id) if one.map_index < 0 else None)),
        )
        for one in chosen
    ]
    heads = ("TASK", "STATE", "DURATION", "ATTEMPTS", "WHY")
    shown = len(heads) if any(row[-1] for row in rows) else len(heads) - 1
    return table(heads[:shown], [row[:shown] for row in rows], "DURATION ATTEMPTS", stream) + left_out


def _worth_a_look(instances: list[InstanceRecord]) -> list[InstanceRecord]:
    urgent = [one for one in instances if one.status in _URGENT][: MOST_ROWS - _SLOWEST]
    slowest = sorted(instances, key=lambda one: _took(one) or 0.0, reverse=True)[:_SLOWEST]
    return urgent + [one for one in slowest if one not in urgent and one.started_at is not None]


def _took(one: InstanceRecord) -> float | None:
    return None if one.started_at is None or one.ended_at is None else one.ended_at - one.started_at


def _show_failure(one: InstanceRecord, last: AttemptRecord | None, stream: TextIO, *, warning: bool = False) -> None:
    say("", stream)
    reason = printable(one.reason or (last.status.lower() if last else "failed"))
    kind = "warning: the hook " if warning else ""
    more = ", which changes nothing for the run" if warning else ""
    say(f"{sign('FAILED', stream)} {kind}{paint(called(one), 'bold', stream)} failed: {reason}{more}", stream)
    for line in trace_lines(trace_of(last), stream):
        say(f"  {shortened(line, 500)}", stream)
    lines, path = log_tail(last)
    bar = paint("│", "dim", stream)
    for line in lines:
        say(f"  {bar} {shortened(line, 500)}", stream)
    if path is not None:
        say(f"  {paint(near_path(path), 'dim', stream)}", stream)
    elif last is not None and last.log_lost is None:
        say(f"  {paint('it printed nothing', 'dim', stream)}", stream)
    if last is not None:
        from lightflow.bash_words import hint_about_failure  # its patterns are only needed here

        hint = hint_about_failure(last.exit_code, lines)
        if hint:
            say(f"  hint: {hint}", stream)


def _warn_of_lost_output(attempts: list[AttemptRecord], stream: TextIO) -> None:
    lost = [each for each in attempts if each.log_lost is not None]
    if lost:
        tasks = list(dict.fromkeys(instance_name(each.task_id, each.map_index) for each in lost))
        named = ", ".join(tasks[:_FAILURES]) + (f" and {len(tasks) - _FAILURES} more" if tasks[_FAILURES:] else "")
        reason = printable(lost[-1].log_lost or "")
        say(f"{paint('warning:', 'yellow', stream)} not all output of {named} could be kept: {reason}", stream)


def log_tail(attempt: AttemptRecord | None, lines: int = _TAIL_LINES) -> tuple[list[str], str | None]:
    """The last lines an attempt printed, harmless to a terminal, and the file they are in."""
    if attempt is None or attempt.log_path is None:
        return [], None
    try:
        with read_log(attempt.log_path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return [], None
    return tame(text.rstrip()).split("\n")[-lines:] if text.strip() else [], attempt.log_path


def verdict(report: Report, stream: TextIO) -> str:
    run = report.view.run
    style = {"SUCCESS": "bold green", "FAILED": "bold red"}.get(run.status, "bold yellow")
    said = f"{sign(run.status, stream)} {paint(f'{run.dag_id} {run.status}', style, stream)}"
    why = f": {printable(run.reason)}" if run.reason and run.status not in ("SUCCESS", "FAILED") else ""
    although = in_words(report.view.overlooked)
    more = f"\n  {paint(although, 'yellow', stream)}" if although else ""
    return f"{said} in {took_text(report.until - report.since)} · {counted(*report.view.tally())}{why}{more}"


def _standing(view: RunView) -> str | None:
    """What an interrupted run has set up and not taken down: whoever resumes it stands on that."""
    if not view.standing or view.run.status == "SUCCESS":
        return None
    names = ", ".join(view.standing[:3]) + (f" and {len(view.standing) - 3} more" if len(view.standing) > 3 else "")
    return f"{names}: set up and not taken down"


def _pointers(report: Report, failed: list[InstanceRecord], stream: TextIO) -> str:
    """What to type next, and where things are."""
    run, wall = report.view.run, report.until - report.since
    worked = sum(
        (attempt.ended_at or report.until) - attempt.started_at
        for attempt in report.view.attempts
        if attempt.started_at >= report.since
    )
    waiting = [one for one in report.view.instances if one.status == "UPSTREAM_FAILED"]
    task = name_of(failed[0]) if failed else ""
    task = f"'{task}'" if "[" in task else task  # a shell might take it for a pattern
    output = with_db(f"lightflow logs {task}", report.db) if failed else None
    return as_lines(
        [
            ("work", f"{took_text(worked)} in tasks, {worked / wall:.1f} at once" if worked > wall else None),
            ("go on", report.again if run.status != "SUCCESS" else None),
            ("standing", _standing(report.view)),
            ("why", with_db(f"lightflow why {waiting[0].task_id}", report.db) if waiting else None),
            ("output", output),
            ("run", f"{run.run_id} in {near_path(report.db)}"),
        ],
        stream,
    )
