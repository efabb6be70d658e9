"""What is said when a run is over: each task, what failed and why, how long it took, how to go on."""

from __future__ import annotations

import os
import time
from typing import Any, Final, NamedTuple, TextIO

from lightflow.cli.options import with_db
from lightflow.cli.output import as_lines, counted, near_path, paint, say, sign, state, table, tame
from lightflow.cli.output import cut as shortened
from lightflow.errors import printable
from lightflow.service import inspecting
from lightflow.service.inspecting import RunView
from liteflow.history import AttemptRecord, InstanceRecord
from liteflow.picture import duration_text
from liteflow.processes.output import open_regular

MOST_ROWS: Final = 40  # of larger runs only what is worth a look is listed
_SLOWEST: Final = 10
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
    failed = [one for one in view.instances if one.status == "FAILED"]
    latest = {attempt.task_id: attempt for attempt in view.attempts}
    for one in failed[:_FAILURES]:
        _show_failure(one, latest.get(one.task_id), stream)
    for one in [hook for hook in view.hooks if hook.status == "FAILED" and not _is_question(hook)][:_FAILURES]:
        _show_failure(one, latest.get(one.task_id), stream, warning=True)
    if len(failed) > _FAILURES:
        listing = with_db(f"lightflow status {view.run.run_id} --json", report.db)
        say(f"… and {len(failed) - _FAILURES} more failed tasks: {listing}", stream)
    if table or failed:
        say("", stream)
    say(_verdict(report, stream), stream)
    if not brief:
        say(_pointers(report, failed, stream), stream)


def tasks_table(view: RunView, stream: TextIO | None = None) -> str:
    """A row for each task; of a large run the failures, the running ones and the slowest, and how many there are."""
    chosen, left_out = [*view.instances, *view.hooks], ""
    if len(chosen) > MOST_ROWS:
        chosen = [*_worth_a_look(view.instances), *(one for one in view.hooks if one.status == "FAILED")]
        left_out = f"\n… {len(view.instances) - len(chosen)} more tasks are not listed ({counted(_counts(view))})"
    tries: dict[str, int] = {}
    for attempt in view.attempts:
        tries[attempt.task_id] = tries.get(attempt.task_id, 0) + 1
    rows = [
        (
            one.task_id if one.map_index < 0 else f"{one.task_id}[{one.map_index}]",
            state(one.status, stream),
            str(tries.get(one.task_id, 0)) if tries.get(one.task_id) else "-",
            duration_text(_took(one)) or "-",
            printable(one.reason or ""),
        )
        for one in chosen
    ]
    heads = ("TASK", "STATE", "ATTEMPTS", "DURATION", "WHY")
    shown = len(heads) if any(row[-1] for row in rows) else len(heads) - 1
    return table(heads[:shown], [row[:shown] for row in rows], "ATTEMPTS DURATION", stream) + left_out


def _worth_a_look(instances: list[InstanceRecord]) -> list[InstanceRecord]:
    urgent = [one for one in instances if one.status in ("FAILED", "RUNNING", "UP_FOR_RETRY")][: MOST_ROWS - _SLOWEST]
    slowest = sorted(instances, key=lambda one: _took(one) or 0.0, reverse=True)[:_SLOWEST]
    return urgent + [one for one in slowest if one not in urgent and one.started_at is not None]


def _took(one: InstanceRecord) -> float | None:
    return None if one.started_at is None or one.ended_at is None else one.ended_at - one.started_at


def _counts(view: RunView) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in view.instances:
        found[one.status] = found.get(one.status, 0) + 1
    return found


def _is_question(hook: InstanceRecord) -> bool:
    """Is it a precondition? That its answer was no is no failure."""
    return ".precondition_" in hook.task_id


def _show_failure(one: InstanceRecord, last: AttemptRecord | None, stream: TextIO, *, warning: bool = False) -> None:
    say("", stream)
    reason = printable(one.reason or (last.status.lower() if last else "failed"))
    kind = "warning: the hook " if warning else ""
    more = ", which changes nothing for the run" if warning else ""
    say(f"{sign('FAILED', stream)} {kind}{paint(one.task_id, 'bold', stream)} failed: {reason}{more}", stream)
    lines, path = log_tail(last)
    bar = paint("│", "dim", stream)
    for line in lines:
        say(f"  {bar} {shortened(line, 500)}", stream)
    if path is not None:
        say(f"  {paint(near_path(path), 'dim', stream)}", stream)
    elif last is not None:
        say(f"  {paint('it printed nothing', 'dim', stream)}", stream)


def log_tail(attempt: AttemptRecord | None, lines: int = _TAIL_LINES) -> tuple[list[str], str | None]:
    """The last lines an attempt printed, harmless to a terminal, and the file they are in."""
    if attempt is None or attempt.log_path is None:
        return [], None
    try:
        with open_regular(attempt.log_path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return [], None
    return tame(text.rstrip()).split("\n")[-lines:] if text.strip() else [], attempt.log_path


def _verdict(report: Report, stream: TextIO) -> str:
    run = report.view.run
    style = {"SUCCESS": "bold green", "FAILED": "bold red"}.get(run.status, "bold yellow")
    said = f"{sign(run.status, stream)} {paint(f'{run.dag_id} {run.status}', style, stream)}"
    why = f": {printable(run.reason)}" if run.reason and run.status not in ("SUCCESS", "FAILED") else ""
    return f"{said} in {duration_text(report.until - report.since)} · {counted(_counts(report.view))}{why}"


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
    task = failed[0].task_id if failed else "TASK"
    return as_lines(
        [
            ("work", f"{duration_text(worked)} in tasks, {worked / wall:.1f} at once" if worked > wall else None),
            ("go on", report.again if run.status != "SUCCESS" else None),
            ("standing", _standing(report.view)),
            ("why", with_db(f"lightflow why {waiting[0].task_id}", report.db) if waiting else None),
            ("output", with_db(f"lightflow logs --task {task}", report.db)),
            ("run", f"{run.run_id} in {near_path(report.db)}"),
        ],
        stream,
    )
