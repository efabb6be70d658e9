"""Keep a state file small and sound: prune runs, check the file and the files around it, copy it, vacuum it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Final

from lightflow.plugins.python_environment import environments_folder, remove_unused
from lightflow.service.doctor import Finding, state_file_findings
from lightflow.service.shape_types import PruneShape
from lightflow.spec.durations import PATTERN, seconds
from lightflow.text import listed
from liteflow import DefinitionError, LiteflowError, Retention, RunNotFound
from liteflow.api import (
    MAX_DAYS,
    Backup,
    History,
    Leftovers,
    Pruned,
    Record,
    back_up,
    find_leftovers,
    prune_runs,
    remove_leftovers,
    vacuum,
)

__all__ = ["PruneReport", "backup", "check", "days_of", "prune", "prune_shape", "vacuum"]

_DAY_S: Final = 86_400.0
_UNUSED_DAYS: Final = 30  # after which an environment of tasks is removed; the next task builds it again
_NAMED: Final = 3  # paths that a message names


class PruneReport(Record):
    """The runs that were deleted, the paths of what else was removed, and the size of the file."""

    pruned: Pruned
    leftovers: list[str]
    environments: list[str]  # Python environments of tasks that were not used for 30 days
    containers: list[str]  # containers that the deleted runs have left
    containers_left: dict[str, str]  # those that the engine did not remove, with why
    size_before: int
    size_after: int


def days_of(age: str, name: str = "--older-than") -> float:
    """Return an age such as `90d`, `12h` or `0` in days; `name` is that of the option. Raises DefinitionError."""
    import re

    if not age or not (re.match(PATTERN, age) or re.fullmatch(r"[0-9]+(\.[0-9]+)?", age)):
        raise DefinitionError(f'{name} {age!r}: must be a time such as "90d", "12h" or "1d12h"')
    days = (seconds(age) if age[-1].isalpha() else float(age)) / _DAY_S
    if days > MAX_DAYS:
        raise DefinitionError(f"{name} {age!r}: must be at most {MAX_DAYS}d")
    return days


def prune(db: str, retention: Retention, workflow: str | None = None, *, dry_run: bool = False, orphans: bool = False,
          limit_s: float = math.inf) -> PruneReport:  # fmt: skip
    """Delete the runs that the retention does not preserve, and with `orphans` the files that belong to no run.

    No further run is deleted after `limit_s`. Containers that a deleted run has left are removed too, and Python
    environments that no task has used for 30 days.

    Raises:
        RunNotFound: there is no such workflow.
        RunOwned: another process prunes the file.
    """
    with History(db) as history:  # a file that does not exist is not created
        if workflow is not None and history.dag(workflow) is None and not history.run_count(workflow):
            raise RunNotFound(f"{db}: there is no workflow {workflow!r}")
    size = os.path.getsize(db)
    pruned = prune_runs(db, retention, workflow, dry_run=dry_run, limit_s=limit_s)
    leftovers: list[str] = []
    if orphans:
        leftovers = remove_leftovers(db) if not dry_run else _removable(find_leftovers(db))
    folder = environments_folder(os.path.realpath(db))
    environments = remove_unused(folder, _UNUSED_DAYS * _DAY_S, dry_run=dry_run) if os.path.isdir(folder) else []
    removed, left = _remove_containers(db, pruned, dry_run=dry_run)
    return PruneReport(
        pruned=pruned,
        containers=removed,
        containers_left=left,
        leftovers=leftovers,
        environments=environments,
        size_before=size,
        size_after=os.path.getsize(db),
    )


def prune_shape(db: str, report: PruneReport, *, dry_run: bool) -> PruneShape:
    """Return what was deleted, or would be, as JSON."""
    return {
        "db": db,
        "dry_run": dry_run,
        "complete": report.pruned.complete,
        "deleted": sum(map(len, report.pruned.runs.values())),
        "workflows": report.pruned.runs,
        "preserved": report.pruned.preserved,
        "leftovers": report.leftovers,
        "environments": report.environments,
        "containers": report.containers,
        "containers_left": report.containers_left,
        "size_before": report.size_before,
        "size_after": report.size_after,
    }


def _remove_containers(db: str, pruned: Pruned, *, dry_run: bool) -> tuple[list[str], dict[str, str]]:
    """Remove the containers of deleted runs. Return the names of those, and why others were not removed."""
    run_ids = {run_id for ids in pruned.runs.values() for run_id in ids}
    if not run_ids:
        return [], {}
    from lightflow.plugins.containers import remove_of_runs  # only where runs are deleted

    containers = remove_of_runs(os.path.realpath(db), run_ids, dry_run=dry_run)
    return containers.removed, containers.left


def _removable(leftovers: Leftovers) -> list[str]:
    return [*leftovers.values, *leftovers.outputs]


def check(db: str) -> list[Finding]:
    """Check the integrity of a state file, and compare it with its files. Nothing is changed. Raises nothing."""
    findings: list[Finding] = []
    try:
        findings += state_file_findings(db, every_row=True)
        if os.path.isfile(db) and os.path.getsize(db) and all(each.severity != "problem" for each in findings):
            findings += _leftover_findings(db, find_leftovers(db))
            findings += _space_findings(db)
    except (LiteflowError, OSError) as error:
        findings.append(Finding("state file", "problem", str(error)))
    return findings


def _leftover_findings(db: str, leftovers: Leftovers) -> Iterator[Finding]:
    prune_command = f"lightflow prune --db {db}"
    if leftovers.deletions or leftovers.requested_files:
        runs, files = _many(leftovers.deletions, "run"), f"{leftovers.requested_files:,} files"
        message = f"the deletion of {runs} and of {files} was cut off"
        yield Finding("deletions", "warning", message, prune_command)
    else:
        yield Finding("deletions", "fine", "no deletion was cut off")
    if orphans := _removable(leftovers):
        message = f"{_many(orphans, 'file or folder', 'files or folders')} of no run: {_examples(orphans)}"
        yield Finding("files", "warning", message, f"{prune_command} --orphans")
    else:
        yield Finding("files", "fine", "each value and each folder of output files belongs to a run")
    if leftovers.logs:
        message = f"{_many(leftovers.logs, 'log')} in the folders of logs that no run of this file names"
        hint = "delete them if no other state file has runs with logs there"
        yield Finding("logs", "note", f"{message}: {_examples(leftovers.logs)}", hint)
    if leftovers.missing_logs:
        message = f"{_many(leftovers.missing_logs, 'log')} missing: {_examples(leftovers.missing_logs)}"
        yield Finding("logs", "warning", message, "the runs are complete without them")
    if leftovers.missing_values:
        message = f"{_many(leftovers.missing_values, 'large value')} missing: {_examples(leftovers.missing_values)}"
        yield Finding("values", "problem", message, "put the files back, or run their tasks again in a new run")


def _space_findings(db: str) -> Iterator[Finding]:
    from liteflow.state.backup import free_space

    free_bytes, gives_back = free_space(db)
    megabytes = f"{free_bytes / 1024**2:,.1f} MiB"
    if gives_back:
        yield Finding("space", "fine", f"{megabytes} free in the file, which gets smaller when runs are deleted")
    else:
        message = f"{megabytes} free in the file, which an earlier version created: it does not get smaller by itself"
        yield Finding("space", "note", message, f"lightflow db vacuum --db {db}")


def _many(items: Sequence[str], singular: str, plural: str | None = None) -> str:
    return f"{len(items):,} {singular if len(items) == 1 else plural or f'{singular}s'}"


def _examples(paths: Sequence[str]) -> str:
    return listed(list(paths), _NAMED)


def backup(db: str, target: str) -> Backup:
    """Copy the state file with its large values: see `liteflow.api.back_up`."""
    return back_up(db, target)
