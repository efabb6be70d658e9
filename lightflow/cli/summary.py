"""The summary that `run` prints at the end: each task, what failed and why, how long it took, how to resume."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import compress
from typing import Final, TextIO

from lightflow.cli.error_boundary import complain
from lightflow.cli.options import with_db
from lightflow.cli.output import as_lines, columns_of, counted, many, near_path, paint, say, sign, state, table
from lightflow.cli.output import cut as shortened
from lightflow.service import queries
from lightflow.service.child_views import child_approvals
from lightflow.service.groups import groups_around
from lightflow.service.mapped_instances import MAX_LISTED, display_name_of, instance_name_of, status_note, tally_by_task
from lightflow.service.queries import RunView
from lightflow.service.tolerated_failures import summary_text
from lightflow.text import plain_text, printable
from liteflow.api import AttemptRecord, InstanceRecord, Record, duration_text, instance_name, open_log, shorten

MAX_ROWS: Final = 40  # of a larger run only the failed, running and slowest tasks are listed
_SLOWEST: Final = 10
_LISTED: Final = f"listed are the failed and running tasks, then the {_SLOWEST} that took longest"
_URGENT: Final = ("FAILED", "RUNNING", "WAITING", "UP_FOR_RETRY")
_MIN_NAME_COLUMNS: Final = 8  # on a narrow terminal
_OTHER_COLUMNS: Final = 31  # of the states and durations next to the name
_MAX_FAILURES: Final = 10
_TAIL_LINES: Final = 10
_TAIL_BYTES: Final = 16_384


class Report(Record):
    """A run that has ended in this process."""

    view: RunView
    db: str
    since: float  # when this process started or resumed it
    until: float
    work_s: float  # of its attempts since then, together
    resume: str  # the command line that resumes it; empty if it succeeded


def read_report(db: str, run_id: str, since: float, resume: str) -> Report:
    """Read the run from the state file."""
    view, until, work_s = queries.ended_view(db, run_id, since)
    return Report(view=view, db=db, since=since, until=until, work_s=work_s, resume=resume)


def show(report: Report, stream: TextIO, *, table: bool, brief: bool) -> None:
    """Print the summary: with `table` a row for each task, with `brief` only the failures and the last line."""
    view = report.view
    if table:
        say(tasks_table(view, stream), stream)
    failed = _failed_instances(view)
    failed_hooks = [hook for hook in view.hooks if hook.status == "FAILED" and hook.kind == "hook"]
    last = _last_attempts(view.attempts)
    for record in failed[:_MAX_FAILURES]:
        _show_failure(record, last.get((record.task_id, record.map_index)), stream)
    for record in failed_hooks[:_MAX_FAILURES]:
        _show_failure(record, last.get((record.task_id, record.map_index)), stream, is_hook=True)
    if len(failed) > _MAX_FAILURES:
        listing = with_db(f"lightflow status {view.run.run_id} --json", report.db)
        say(f"… and {len(failed) - _MAX_FAILURES} more failed tasks: {listing}", stream)
    if table or failed:
        say("", stream)
    _warn_of_lost_output(view.attempts, stream)
    say(last_line(report, stream), stream)
    if not brief:
        say(as_lines(_facts(report, failed), stream), stream)
    _show_path_hints(view)


def _failed_instances(view: RunView) -> list[InstanceRecord]:
    """Return the failed tasks, and for mapped tasks their failed instances instead; those that are tolerated last."""
    failed = [record for record in view.instances if record.status == "FAILED"]
    mapped = {record.task_id for record in failed if record.map_index >= 0}
    listed = [record for record in failed if record.map_index >= 0 or record.task_id not in mapped]
    return sorted(listed, key=lambda record: record.tolerated)


def _show_path_hints(view: RunView) -> None:
    """Print where the files are that failed tasks did not find."""
    failed = [task.task_id for task in view.tasks if task.status == "FAILED"]
    if failed:
        from lightflow.service.failure_hints import path_hints

        for hint in path_hints(view.run, failed):
            complain(f"{paint('hint:', 'yellow', sys.stderr)} {printable(hint)}")


def children_table(view: RunView) -> str:
    """Return a table of the child runs, those below each other indented; of many only those that did not succeed."""
    rows = [row for child in view.children for row in child.tree()]
    left_out = 0
    if len(rows) > MAX_ROWS:
        shown = [(depth, child) for depth, child in rows if child.run.status != "SUCCESS"][:MAX_ROWS]
        left_out, rows = len(rows) - len(shown), shown
    lines = [
        (
            "  " * depth + printable(child.task),
            printable(child.run.dag_id),
            state(child.run.status),
            duration_text(queries.elapsed_s(child.run)) or "-",
            counted(child.counts, child.instances),
            printable(child.run.run_id),
        )
        for depth, child in rows
    ]
    note = f"\n… and {left_out} more: lightflow runs --all" if left_out else ""
    return table(("CHILD RUN OF", "WORKFLOW", "STATE", "DURATION", "TASKS", "RUN"), lines, "DURATION") + note


# -- the table of tasks -----------------------------------------------------------------------------------------


def tasks_table(view: RunView, stream: TextIO | None = None, *, every: bool = False) -> str:
    """Return a table with a row for each task and hook, and for the instances of tasks that have few.

    For a large run or task these are only the failed, running and slowest ones, unless `every` is set.
    """
    stream = stream or sys.stdout
    instance_counts = tally_by_task(view.instances)
    records, left_out = [*view.instances, *view.hooks], ""
    if view.groups and (every or len(view.instances) + len(view.groups) <= MAX_ROWS):
        records = [*_with_groups(view, fold=not every), *view.hooks]
    elif not every:
        records, left_out = _rows_worth_listing(view, instance_counts)
    last = _last_attempts(view.attempts)
    hosts = {place: attempt.host for place, attempt in last.items()}
    columns = columns_of(stream)
    name_columns = None if columns is None else max(_MIN_NAME_COLUMNS, columns - _OTHER_COLUMNS)
    rows = [
        (
            display_name_of(record) if name_columns is None else shorten(display_name_of(record), name_columns),
            state(record.status, stream),
            duration_text(_duration(record)) or "-",
            _attempt_number(last.get((record.task_id, record.map_index))),
            printable(hosts.get((record.task_id, record.map_index)) or "-"),
            printable(_note(view, record, instance_counts)),
        )
        for record in records
    ]
    heads = ("TASK", "STATE", "DURATION", "ATTEMPTS", "HOST", "WHY")
    shown = [True] * 4 + [any(hosts.values()), any(row[-1] for row in rows)]
    lines = [list(compress(row, shown)) for row in rows]
    return table(list(compress(heads, shown)), lines, "DURATION ATTEMPTS", stream) + left_out


def _last_attempts(attempts: Iterable[AttemptRecord]) -> dict[tuple[str, int], AttemptRecord]:
    """Return the last attempt of each instance."""
    return {(attempt.task_id, attempt.map_index): attempt for attempt in attempts}


def _attempt_number(attempt: AttemptRecord | None) -> str:
    return "-" if attempt is None else str(attempt.attempt)


def _with_groups(view: RunView, *, fold: bool) -> Iterator[InstanceRecord]:
    """Yield the tasks, each group before its tasks; with `fold` a group that succeeded stands for its tasks."""
    groups = {group.task_id: group for group in view.groups}
    closed = {name for name, group in groups.items() if fold and group.status == "SUCCESS"}
    sizes = Counter(name for task in view.tasks for name in groups_around(task.task_id, view.parents))
    listed = set[str]()
    for instance in view.instances:
        around = [name for name in groups_around(instance.task_id, view.parents) if name in groups]
        for name in reversed(around):
            inside_closed = not closed.isdisjoint(groups_around(name, view.parents))
            if name not in listed and not inside_closed:
                note = many(sizes[name], "task") if name in closed else groups[name].reason
                yield groups[name]._replace(reason=note)
            listed.add(name)
        if closed.isdisjoint(around):
            yield instance
    yield from (group for name, group in groups.items() if name not in listed and name not in view.parents)


def _note(view: RunView, record: InstanceRecord, instance_counts: Mapping[str, Counter[str]]) -> str:
    """Return what to show of a task besides its state, and whether it is stale."""
    note = status_note(record, instance_counts.get(record.task_id) if record.map_index < 0 else None)
    stale = view.stale.get((record.task_id, record.map_index))
    return note if stale is None else "; ".join(part for part in (note, f"stale: {stale}") if part)


def _rows_worth_listing(view: RunView, instance_counts: Mapping[str, Counter[str]]) -> tuple[list[InstanceRecord], str]:
    """Return the tasks, instances and hooks to list, and a line about those that are left out."""
    large = {task_id for task_id, counts in instance_counts.items() if counts.total() > MAX_LISTED}
    records = [
        record
        for record in view.instances
        if record.map_index < 0 or record.task_id not in large or record.status in _URGENT
    ]
    if len(records) + len(view.hooks) <= MAX_ROWS:
        return [*records, *view.hooks], ""
    urgent = [record for record in records if record.status in _URGENT][: MAX_ROWS - _SLOWEST]
    slowest = sorted(records, key=lambda record: _duration(record) or 0.0, reverse=True)[:_SLOWEST]
    listed = urgent + [record for record in slowest if record not in urgent and record.started_at is not None]
    left_out = len(view.tasks) - sum(record.map_index < 0 for record in listed)
    note = f"\n… {many(left_out, 'more task')} not listed ({counted(*view.tally())}); {_LISTED}"
    return [*listed, *(hook for hook in view.hooks if hook.status == "FAILED")], note


def _duration(record: InstanceRecord) -> float | None:
    return None if record.started_at is None or record.ended_at is None else record.ended_at - record.started_at


# -- failures ---------------------------------------------------------------------------------------------------


def _show_failure(record: InstanceRecord, last: AttemptRecord | None, stream: TextIO, *, is_hook: bool = False) -> None:
    """Print why a task or hook failed: the reason, the traceback, the end of its log and a hint."""
    say("", stream)
    reason = printable(record.reason or (last.status.lower() if last else "failed"))
    lead, end = ("warning: the hook ", ", which does not change the state of the run") if is_hook else ("", "")
    from lightflow.cli.traces import trace_lines  # only for failures

    name = paint(display_name_of(record), "bold", stream)
    host = "" if last is None or last.host is None else f" on {printable(last.host)}"
    say(f"{sign('FAILED', stream)} {lead}{name} failed{host}: {reason}{end}", stream)
    for line in trace_lines(last.trace if last else None, stream):
        say(f"  {shortened(line, 500)}", stream)
    lines, path = _log_tail(last)
    bar = paint("│", "dim", stream)
    for line in lines:
        say(f"  {bar} {shortened(line, 500)}", stream)
    if path is not None:
        say(f"  {paint(near_path(path), 'dim', stream)}", stream)
    elif last is not None and last.log_lost is None:
        say(f"  {paint('it printed nothing', 'dim', stream)}", stream)
    if last is not None:
        from lightflow.service.failure_hints import output_hint

        hint = output_hint(last.exit_code, lines)
        if hint:
            say(f"  hint: {hint}", stream)


def _warn_of_lost_output(attempts: list[AttemptRecord], stream: TextIO) -> None:
    lost = [attempt for attempt in attempts if attempt.log_lost is not None]
    if lost:
        names = list(dict.fromkeys(instance_name(attempt.task_id, attempt.map_index) for attempt in lost))
        rest = f" and {len(names) - _MAX_FAILURES} more" if len(names) > _MAX_FAILURES else ""
        reason = printable(lost[-1].log_lost or "")
        warning = f"not all output of {', '.join(names[:_MAX_FAILURES])}{rest} could be stored: {reason}"
        say(f"{paint('warning:', 'yellow', stream)} {warning}", stream)


def _log_tail(attempt: AttemptRecord | None) -> tuple[list[str], str | None]:
    """Return the last lines of the log of an attempt, without control characters, and the path of the log."""
    if attempt is None or attempt.log_path is None:
        return [], None
    try:
        with open_log(attempt.log_path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return [], None
    return plain_text(text.rstrip()).split("\n")[-_TAIL_LINES:] if text.strip() else [], attempt.log_path


# -- the end ----------------------------------------------------------------------------------------------------


def last_line(report: Report, stream: TextIO) -> str:
    """Return how the run ended, in a line; a second line names failures that do not count."""
    run = report.view.run
    style = {"SUCCESS": "bold green", "FAILED": "bold red"}.get(run.status, "bold yellow")
    name = f"{sign(run.status, stream)} {paint(f'{run.dag_id} {run.status}', style, stream)}"
    reason = f": {printable(run.reason)}" if run.reason and run.status != "FAILED" else ""
    tolerated = summary_text(report.view.overlooked)
    second = f"\n  {paint(tolerated, 'yellow', stream)}" if tolerated else ""
    return f"{name} in {duration_text(report.until - report.since)} · {counted(*report.view.tally())}{reason}{second}"


def _open_setups(view: RunView) -> str | None:
    """Return the setups of an unfinished run that are not torn down: a resume of the run uses them."""
    if not view.standing or view.run.status == "SUCCESS":
        return None
    rest = f" and {len(view.standing) - 3} more" if len(view.standing) > 3 else ""
    return f"{', '.join(view.standing[:3])}{rest}: set up and not torn down"


def approve_text(view: RunView, db: str) -> str | None:
    """Return the command that approves what waits for a decision; None: nothing does."""
    approvals = [(view.run.run_id, name) for name in view.approvals] + child_approvals(view.children)
    if not approvals:
        return None
    rest = f" (and {len(approvals) - 1} more)" if len(approvals) > 1 else ""
    run_id, name = approvals[0]
    command = f"lightflow approve {printable(run_id)} {_quoted(name)}"
    return with_db(command, db) + rest


def _quoted(name: str) -> str:
    """Return the name of an instance for a shell, where brackets are a pattern."""
    return f"'{name}'" if "[" in name else name


def _facts(report: Report, failed: list[InstanceRecord]) -> list[tuple[str, str | None]]:
    """Return what to type next, and where things are."""
    run, wall, work = report.view.run, report.until - report.since, report.work_s
    blocked = [record for record in report.view.instances if record.status == "UPSTREAM_FAILED"]
    task = _quoted(instance_name_of(failed[0])) if failed else ""
    return [
        ("work", f"{duration_text(work)} in tasks, {work / wall:.1f} at once" if work > wall else None),
        ("approve", approve_text(report.view, report.db)),
        ("resume", report.resume if run.status != "SUCCESS" else None),
        ("set up", _open_setups(report.view)),
        ("why", with_db(f"lightflow why {blocked[0].task_id}", report.db) if blocked else None),
        ("output", with_db(f"lightflow logs {task}", report.db) if failed else None),
        ("run", f"{run.run_id} in {near_path(report.db)}"),
    ]
