"""Execute a workflow for `run` and `resume`: show how the run proceeds and how it ended, and return the exit code."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TextIO

from lightflow.cli import summary
from lightflow.cli.error_boundary import complain, freeze_objects
from lightflow.cli.options import with_db
from lightflow.cli.output import is_terminal, paint, say, say_json, state
from lightflow.cli.run_arguments import RunArguments
from lightflow.engine.logger import Display, LogDisplay, enable_debug_log
from lightflow.service.parameters import OPTION, ParamArguments
from lightflow.service.runs import RunOptions, captured_streams, missing_capabilities
from lightflow.text import printable
from liteflow import DagRun, LiteflowError, ResourceError

TIMED_OUT: Final = 124

Notify = Callable[[str], None]
#: Start or resume the run with these options. The function gets a function that prints a note.
Start = Callable[[RunOptions, Notify], DagRun]


def execute(target: str, arguments: RunArguments, start: Start) -> int:
    """Run or resume a workflow, show how it proceeds and how it ended, and return the exit code."""
    stream = sys.stderr if arguments.as_json else sys.stdout
    view = _open_view(stream, arguments)
    if arguments.debug:
        enable_debug_log()
    options = RunOptions(
        db=arguments.db,
        mode=arguments.mode,
        cluster=arguments.cluster,
        max_workers=arguments.max_workers,
        log_dir=arguments.log_dir,
        fail_fast=arguments.fail_fast,
        dag=arguments.dag,
        observers=(view,),
        params=ParamArguments(words=arguments.params, file=arguments.params_file, place=OPTION),
        date=arguments.day(),
        resume_hint=lambda: _resume_line(target, arguments.db),
        claim_children=True,  # this program exists for the run alone
        park=arguments.park,
    )
    freeze_objects()
    if missing := missing_capabilities():
        _print_note(f"not available here: {', '.join(missing)}; `lightflow doctor` explains the consequences")
    since = time.time()
    folder = os.open(".", os.O_PATH | os.O_DIRECTORY)
    shortage: ResourceError | None = None
    try:
        with captured_streams():
            ended = start(options, _drop_note if arguments.quiet else _print_note)
    except ResourceError as error:
        shortage = error
    finally:
        view.close()
        os.fchdir(folder)  # a task in a thread may have changed it, and typed paths are relative to this folder
        os.close(folder)
    if shortage is not None:
        ended = _interrupted(arguments.db, view.run_id, shortage)
    if ended.status == "SKIPPED":
        return _show_skipped(ended.dag_id, ended.reason, as_json=arguments.as_json)
    resume_line = "" if ended.status == "SUCCESS" else _resume_line(target, arguments.db)
    report = summary.read_report(arguments.db, ended.run_id, since, resume_line)
    if view.run_id:
        brief = arguments.quiet or arguments.as_json
        summary.show(report, stream, table=_is_live(stream, arguments), brief=brief)
    if arguments.as_json:
        from lightflow.service.json_shapes import view_shape

        say_json(view_shape(report.view))
    elif (shortage or (arguments.quiet and resume_line)) and not _is_same_file(sys.stdout, sys.stderr):
        complain(summary.last_line(report, sys.stderr))  # also for a user who discards standard output
    return _exit_code(ended) if shortage is None else shortage.exit_code


def _interrupted(db: str, run_id: str, shortage: ResourceError) -> DagRun:
    """Return the run that the lack of a resource has interrupted. Raises the error: the run does not say so."""
    if run_id:
        with suppress(LiteflowError):
            run = DagRun.load(db, run_id)
            if run.reason == str(shortage):
                return run
    raise shortage


def _exit_code(ended: DagRun) -> int:
    if ended.status == "SUCCESS":
        return 0
    if ended.signal is not None:
        return 128 + int(ended.signal)
    if ended.status == "INTERRUPTED":
        return 0  # it is parked
    return TIMED_OUT if ended.timed_out else 1


def _show_skipped(workflow: str, reason: str | None, *, as_json: bool) -> int:
    """Print that the run was not started because of other runs of its group. It is not in the state file."""
    if as_json:
        from lightflow.service.json_shapes import skipped_run_shape

        say_json(skipped_run_shape(workflow, reason))
    else:
        say(f"{state('SKIPPED')}  {printable(workflow)}: {printable(reason or '')}")
    return 0


def _open_view(stream: TextIO, arguments: RunArguments) -> Display:
    """Return the observer that shows the run: live on a terminal, else a line for each task that ends."""
    brief = arguments.quiet or arguments.as_json
    github = os.environ.get("GITHUB_ACTIONS") == "true"
    output = arguments.output or ("quiet" if brief else "group" if github else "prefix")  # GitHub folds groups
    if _is_live(stream, arguments):
        from lightflow.cli.progress import ProgressDisplay

        return ProgressDisplay(stream, output=output)
    return LogDisplay(
        stream,
        quiet=brief,
        detail=arguments.debug,
        tracebacks=arguments.debug and not arguments.as_json,  # JSON has them
        output=output,
        github=github,
    )


def _is_live(stream: TextIO, arguments: RunArguments) -> bool:
    """Return whether the run is shown live, in place, on a terminal."""
    return is_terminal(stream) and not arguments.quiet and not arguments.debug


def _resume_line(target: str, db: str) -> str:
    """Return the command line that resumes the run."""
    import shlex

    return with_db(f"lightflow resume {shlex.quote(printable(target))}", db)


def _print_note(text: str) -> None:
    complain(f"{paint('note:', 'yellow', sys.stderr)} {printable(text)}")


def _drop_note(text: str) -> None:
    """Print nothing: `--quiet` is for failures only."""


def _is_same_file(stream: TextIO, other: TextIO) -> bool:
    """Return whether two streams go to the same place."""
    try:
        return os.path.sameopenfile(stream.fileno(), other.fileno())
    except (OSError, ValueError):
        return True
