"""`lightflow run` and `lightflow resume`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from lightflow.cli.border import complain, settle
from lightflow.cli.declare import PATH, Choice, Misuse, Whole, argument, command, option
from lightflow.cli.options import WORKFLOW, Decorated, db_option, files_and_runs, json_option, param_names, with_db
from lightflow.cli.output import is_terminal, paint, say, say_json, state
from lightflow.errors import printable

_EXITS = """\b
Exit codes: 0 all well, 1 a task failed or the run was cancelled, 2 bad input (nothing ran),
3 state file, 4 the run is owned by a live process, or its group is full; 5 resources,
124 the run's timeout is over, 129/130/143 interrupted by HUP/INT/TERM.

\b
--json prints one object when the run is over: run_id, workflow, status, reason, started_at,
ended_at, duration_s, counts and tasks (each with its attempts, their exit_code and log)."""


TIMED_OUT: Final = 124


class How(NamedTuple):
    """The options of a run as they were typed."""

    db: str
    mode: str | None
    max_workers: int | None
    log_dir: str | None
    fail_fast: bool | None
    dag: str | None
    params: tuple[str, ...]
    params_file: str | None
    date: str | None
    dry_run: bool
    output: str | None
    quiet: bool
    debug: bool
    as_json: bool


def _execution_options(function: Decorated) -> Decorated:
    options = [
        option(
            "-p",
            "--param",
            "params",
            many=True,
            metavar="NAME=VALUE",
            shell_complete=param_names,
            help="A parameter of the run; may be given several times.",
        ),
        option("--params-file", type=PATH, metavar="FILE", help="Parameters in YAML or JSON; -p goes before them."),
        option(
            "--date",
            metavar="DAY",
            help="The day that the run is for: 2026-01-31, today or yesterday; else the one on which it starts.",
        ),
        option("--mode", type=Choice("thread", "process", "async"), help="Where Python tasks run."),
        option("-j", "--max-workers", type=Whole(), metavar="N", help="Tasks at once at most."),
        option("-n", "--dry-run", is_flag=True, help="Show what would run, in which order; run nothing."),
        option("--fail-fast/--no-fail-fast", default=None, help="Stop at the first failure, or do not."),
        option("--log-dir", type=PATH, help="The folder for the output of tasks."),
        option("--dag", metavar="ID", help="Which dag of a Python file that defines several."),
        db_option,
        option(
            "--output",
            type=Choice("prefix", "group", "quiet"),
            help="What tasks print: each line as it comes, all of a task when it ends, or nothing.",
        ),
        option("-q", "--quiet", is_flag=True, help="Only failures and the last line."),
        option("--debug", is_flag=True, help="Every step, with its reasons."),
        json_option,
    ]
    for add in reversed(options):
        function = add(function)
    return function


@command(
    epilog=f"""\b
Examples:
  lightflow run pipeline.yaml
  lightflow run pipeline.yaml --max-workers 8 --mode process
  lightflow run pipeline.yaml -p day=2026-01-31 -p rows=100
  lightflow run pipeline.yaml --date yesterday
  lightflow run pipeline.yaml --dry-run
  lightflow run pipeline.yaml --resume

{_EXITS}"""
)
@argument("file", type=WORKFLOW)
@option("--resume", "go_on", is_flag=True, help="Go on with the last run, if it did not finish.")
@option("--run-id", metavar="ID", help="A name of your own for the run.")
@_execution_options
def run(file: str, *, go_on: bool, run_id: str | None, **options: Any) -> int:
    """Run a workflow.

    FILE is a workflow in YAML or JSON, or a Python script that defines a dag.
    """
    from dataclasses import replace

    from lightflow.service import running

    how = How(**options)
    if how.dry_run:
        return _dry_run(file, how, go_on=go_on)
    return _execute(
        how,
        lambda choices, notify: running.run(file, replace(choices, run_id=run_id), resume=go_on, notify=notify),
        file,
    )


@command(
    epilog=f"""\b
Examples:
  lightflow resume pipeline.yaml
  lightflow resume 20260102T030405-1a2b3c4d
  lightflow resume pipeline.yaml --from-checkpoint saved.lightflow-checkpoint.json

{_EXITS}"""
)
@argument("target", metavar="FILE|RUN", type=WORKFLOW, shell_complete=files_and_runs)
@option("--from-checkpoint", metavar="PATH", type=WORKFLOW, help="Begin from a checkpoint file instead.")
@_execution_options
def resume(target: str, *, from_checkpoint: str | None, **options: Any) -> int:
    """Go on where a run stopped; what succeeded is kept.

    A FILE means the latest run of its workflow. A RUN is named by its id, the beginning of it, or "latest".
    """
    from lightflow.service import inspecting, running

    how = How(**options)
    if target == "latest" and not os.path.exists(target):
        target = inspecting.latest(how.db).run_id
    if how.dry_run:
        return _dry_run(target, how, go_on=True)
    return _execute(
        how,
        lambda choices, notify: running.resume(target, choices, from_checkpoint=from_checkpoint, notify=notify),
        target,
    )


def _dry_run(target: str, how: How, *, go_on: bool) -> int:
    from lightflow.cli import plan
    from lightflow.service import inspecting, parameters, running, workflows
    from liteflow.values.dates import this_day

    date = _day(how)
    file, kept = target, frozenset[str]()
    last = None
    if go_on and not os.path.exists(target) and not target.endswith((".yaml", ".yml", ".json", ".py")):
        last = inspecting.status(how.db, target)
        file = last.run.source or target
    given = parameters.Given(how.params, how.params_file)
    outline = workflows.outline(file, how.dag)
    if go_on and last is None and os.path.exists(how.db):
        newest = inspecting.newest(how.db, outline.name)
        if newest and newest[0].resumable:
            last = inspecting.status(how.db, newest[0].run_id)
    if last is not None:
        kept = frozenset(one.task_id for one in last.tasks if one.status in ("SUCCESS", "SKIPPED"))
    run = last.run if last is not None else None
    if run is None:
        outline = outline.for_run(parameters.complete(outline.params, given, file, date or this_day()))
    else:
        day = running.day_kept(date, run)
        outline = outline.for_run(parameters.kept(outline.params, given, run.run_id, run.params, day))
    settings = outline.settings
    at_once, mode = how.max_workers or settings.max_parallel_tasks, how.mode or settings.mode
    if how.as_json:
        say_json(plan.shape(outline, kept, at_once, mode))
    else:
        plan.show(outline, kept, at_once, mode)
    return 0


def _execute(how: How, call: Callable[[Any, Callable[[str], None]], Any], target: str) -> int:
    from lightflow.cli import summary
    from lightflow.cli.progress import ProgressDisplay
    from lightflow.engine.logger import Display, LogDisplay, enable_debug_log
    from lightflow.service.parameters import Given
    from lightflow.service.running import RunOptions
    from liteflow.executors.streams import install, uninstall
    from liteflow.processes.abilities import lacking

    stream = sys.stderr if how.as_json else sys.stdout
    github = os.environ.get("GITHUB_ACTIONS") == "true"
    output = _output(how, github)
    view: Display
    if is_terminal(stream) and not how.quiet and not how.debug:
        view = ProgressDisplay(stream, output=output)
    else:
        brief = how.quiet or how.as_json
        tracebacks = how.debug and not how.as_json  # which has them
        view = LogDisplay(stream, quiet=brief, detail=how.debug, tracebacks=tracebacks, output=output, github=github)
    if how.debug:
        enable_debug_log()
    choices = RunOptions(
        db=how.db,
        mode=how.mode,
        max_workers=how.max_workers,
        log_dir=how.log_dir,
        fail_fast=how.fail_fast,
        dag=how.dag,
        observers=(view,),
        params=Given(how.params, how.params_file),
        date=_day(how),
        resume_hint=lambda: _again(target, how.db),
        claim_children=True,  # this program exists for the run alone
    )
    settle()
    if missing := lacking():
        _notify(f"not available here: {', '.join(missing)}; `lightflow doctor` tells what that means")
    since = time.time()
    folder = os.open(".", os.O_PATH | os.O_DIRECTORY)
    install()  # before code of the user's is imported, which may keep a stream for what it logs
    try:
        ended = call(choices, _ignore if how.quiet else _notify)
    finally:
        uninstall()
        view.close()
        os.fchdir(folder)  # a task in a thread may have changed it, and paths that were typed start here
        os.close(folder)
    if ended.status == "SKIPPED":  # because of other runs of its group: there is nothing of it in the state file
        if how.as_json:
            facts = {"run_id": None, "workflow": ended.dag_id, "status": "SKIPPED", "reason": ended.reason}
            say_json({**facts, "counts": {}, "tasks": []})
        else:
            say(f"{state('SKIPPED')}  {printable(ended.dag_id)}: {printable(ended.reason or '')}")
        return 0
    again = "" if ended.status == "SUCCESS" else _again(target, how.db)
    report = summary.gather(how.db, ended.run_id, since, again)
    if view.began:
        summary.show(report, stream, table=isinstance(view, ProgressDisplay), brief=how.quiet or how.as_json)
        _hint(report)
    if how.as_json:
        say_json(summary.shape(report))
    elif how.quiet and ended.status != "SUCCESS" and not _is_same(sys.stdout, sys.stderr):
        complain(summary.verdict(report, sys.stderr))  # where standard output is thrown away this is all that is read
    if ended.signal is not None and ended.status != "SUCCESS":
        return 128 + int(ended.signal)
    if ended.timed_out:
        return TIMED_OUT
    return 0 if ended.status == "SUCCESS" else 1


def _output(how: How, github: bool) -> Any:
    """How what tasks print is shown: see `following.OutputFollower`."""
    if how.output is not None:
        return how.output
    if how.quiet or how.as_json:
        return "quiet"
    return "group" if github else "prefix"  # GitHub folds groups


def _hint(report: Any) -> None:
    """Say where files lie that failed tasks did not find."""
    failed = [one.task_id for one in report.view.tasks if one.status == "FAILED"]
    if failed:
        from lightflow.service import beside

        for text in beside.hints(report.view.run, failed):
            complain(f"{paint('hint:', 'yellow', sys.stderr)} {printable(text)}")


def _day(how: How) -> float | None:
    """The day that `--date` names."""
    if how.date is None:
        return None
    from liteflow.values.dates import day_of

    try:
        return day_of(how.date)
    except ValueError as error:
        raise Misuse(f"--date {error}") from None


def _again(target: str, db: str) -> str:
    import shlex

    return with_db(f"lightflow resume {shlex.quote(printable(target))}", db)


def _notify(text: str) -> None:
    complain(f"{paint('note:', 'yellow', sys.stderr)} {printable(text)}")


def _is_same(one: Any, other: Any) -> bool:
    """Whether two streams go to the same place."""
    try:
        return os.path.sameopenfile(one.fileno(), other.fileno())
    except (OSError, ValueError):
        return True


def _ignore(text: str) -> None:
    """What is worth a note is none to whoever wants to hear of failures alone."""
