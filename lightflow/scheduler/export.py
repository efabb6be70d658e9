"""Write schedules for other programs: lines of a crontab, and a unit of systemd that runs the server."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence

from lightflow.instants import clock_of, expression_of, local_zone
from lightflow.scheduler.workflow_files import WorkflowFile, WorkflowFiles
from liteflow import DefinitionError, Schedule
from liteflow.api import DeclaredTrigger

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def crontab(paths: Sequence[str], folder: str, db: str) -> tuple[list[str], list[str]]:
    """Return lines for a crontab that starts the runs without a server, and sentences about what cron cannot do."""
    lines: list[str] = []
    refusals: list[str] = []
    for file in _files(paths):
        for workflow in file.workflows:
            for declared in workflow.triggers:
                if declared.kind == "manual":
                    continue
                command = _command(workflow.reference, workflow.name, folder, db, declared)
                try:
                    lines += [f"{times} {command}" for times in _times(declared)]
                except DefinitionError as error:
                    refusals.append(f"{declared.trigger_id}: {error}")
    return lines, refusals


def _files(paths: Sequence[str]) -> list[WorkflowFile]:
    """Return the workflow files. Raises DefinitionError where one has a mistake."""
    files = WorkflowFiles(paths)
    files.scan()
    problems = files.problems()
    if problems:
        raise DefinitionError(next(iter(problems.values())))
    return [files.files[path] for path in sorted(files.files)]


def _command(path: str, name: str, folder: str, db: str, declared: DeclaredTrigger) -> str:
    words = [sys.argv[0] if sys.argv[0].endswith("lightflow") else "lightflow", "run", path]
    if path.endswith(".py"):
        words += ["--dag", name]
    words += ["--db", db, "--logical-date", "now", "--quiet"]
    params = declared.trigger.params if isinstance(declared.trigger, Schedule) else {}
    for key, value in params.items():
        words += ["-p", f"{key}={value}"]
    text = f"cd {shlex.quote(folder)} && {shlex.join(words)}"
    return text.replace("%", "\\%")  # cron ends the command at a percent sign


def _times(declared: DeclaredTrigger) -> Iterator[str]:
    """Yield the five fields of a crontab. Raises DefinitionError with the reason why cron cannot do it."""
    schedule = declared.trigger
    if not isinstance(schedule, Schedule):
        raise DefinitionError(f"cron has no triggers of kind {declared.kind}")
    clock = clock_of(schedule)
    if schedule.timezone is not None and schedule.timezone != local_zone()[1]:
        raise DefinitionError(f"cron uses the time zone of the machine, not {schedule.timezone}")
    for key in ("start", "end", "jitter"):
        if getattr(schedule, key):
            raise DefinitionError(f"cron has no {key}")
    if schedule.every is None:
        expression = expression_of(schedule)
        if "L" in expression.upper().split()[2] or "#" in expression or "L" in expression.upper().split()[4]:
            raise DefinitionError("cron has no L and no #")
        yield expression
        return
    every = float(schedule.every)
    assert clock.schedule is schedule
    if every >= _MINUTE and every % _MINUTE == 0 and _HOUR % every == 0:
        yield "* * * * *" if every == _MINUTE else f"*/{every / _MINUTE:g} * * * *" if every < _HOUR else "0 * * * *"
    elif every % _HOUR == 0 and _DAY % every == 0:
        yield f"0 */{every / _HOUR:g} * * *" if every < _DAY else "0 0 * * *"
    else:
        raise DefinitionError(f"cron cannot divide an hour or a day into intervals of {every:g} s")


_UNIT = """\
[Unit]
Description=Lightflow scheduler of {folder}
Documentation=man:systemd.service(5)
After=network.target

[Service]
Type=exec
WorkingDirectory={folder}
ExecStart={command}
Restart=on-failure
RestartSec=2
# A stop or a restart of the server must not end its runs.
KillMode=process
# A task that takes all memory must not stop the server.
OOMPolicy=continue
TimeoutStopSec=10

[Install]
WantedBy=default.target
"""


def systemd_unit(paths: Sequence[str], folder: str, db: str, program: str, *, with_ui: bool) -> str:
    """Return a unit for the systemd of a user that runs `lightflow serve`; without the web part it schedules only."""
    words = [program, "serve", *([] if with_ui else ["--no-ui"]), "--db", db, *paths]
    return _UNIT.format(folder=_escaped(folder), command=" ".join(_quoted(word) for word in words))


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """Return a word as systemd reads it."""
    word = _escaped(word).replace("$", "$$")
    plain = word and all(char.isalnum() or char in "@%_+=:,./-$" for char in word)
    return word if plain else '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
