"""`lightflow doctor`: check whether this machine and this state file are fit to run workflows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from lightflow.cli.options import PATH, command, db_option, json_option
from lightflow.cli.output import paint, say, say_json
from lightflow.service.doctor import Finding, exit_code, run_checks
from lightflow.text import printable

_SIGNS: Final = {
    "fine": ("✓", "green"),
    "note": ("·", "dim"),
    "warning": ("!", "yellow"),
    "missing": ("✗", "red"),
    "problem": ("✗", "red"),
}


@command(
    epilog="""\b
Examples:
  lightflow doctor
  lightflow doctor --db /srv/etl/lightflow.db --json
  lightflow doctor nightly.yaml --cluster lab
  lightflow doctor --cluster node1,ann@node2:8

\b
Exit codes: 0 no problem (there may be warnings), 1 this machine lacks something that runs need,
3 the state file has a problem.
--json prints {ok, db, findings}; a finding has check, verdict (fine, note, warning, missing, problem),
message and hint."""
)
@click.argument("file", required=False, type=PATH)
@click.option(
    "--cluster",
    metavar="NAME",
    help="Check the machines of a cluster instead: its name in FILE; without a FILE machines of ssh, such as "
    "node1,ann@node2:8, or a scheduler of Dask.",
)
@db_option
@json_option
def doctor(file: str | None, cluster: str | None, db: str, as_json: bool) -> int:
    """Check this machine and the state file, or the machines of a cluster.

    Checks SQLite, locks, the file system, how all processes of a task are ended, free space, the integrity of the state
    file, and runs whose owner has died. Nothing is changed or repaired.

    With --cluster an agent is started on each machine, as for a run that begins in this folder. It says which versions
    it has, how exact its clock is, whether the folder exists there, what space is free, and what tasks have left.
    """
    if cluster is not None:
        from lightflow.service.cluster_checks import check_cluster  # few users have clusters

        return say_findings(db, check_cluster(cluster, file), as_json=as_json)
    if file is not None:
        raise click.UsageError("a FILE is for --cluster NAME: the cluster of this name in it is checked")
    return say_findings(db, run_checks(db), as_json=as_json)


def say_findings(db: str, findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print the results of checks, and return the exit code."""
    code = exit_code(findings)
    if as_json:
        from lightflow.service.json_shapes import finding_shape

        say_json({"ok": code == 0, "db": db, "findings": [finding_shape(finding) for finding in findings]})
        return code
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        sign, style = _SIGNS[finding.severity]
        say(f"{paint(sign, style)} {finding.check.ljust(width)}  {printable(finding.message)}")
        if finding.hint is not None:
            say(f"  {' ' * width}  {paint(f'→ {printable(finding.hint)}', 'dim')}")
    return code
