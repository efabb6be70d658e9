"""Check a cluster: whether each of its machines can run tasks that are started in this folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lightflow.clusters import cluster_of
from lightflow.parser.workflow_loader import load_workflow
from lightflow.service.doctor import LOW_DISK_BYTES, Finding
from lightflow.text import did_you_mean
from liteflow import DefinitionError, LiteflowError
from liteflow.remote.survey import Machine, survey

_LIMIT_S: Final = 20.0  # for the answers of all machines
_LARGE_OFFSET_S: Final = 1.0
_MANY: Final = 10  # processes that a message names


def check_cluster(name: str, path: str | None) -> list[Finding]:
    """Start an agent on each machine of a cluster, and return what it finds there.

    Args:
        name: of a cluster in the workflow file; without a file the machines or the scheduler, as `--cluster` of `run`.
        path: the workflow file; None: there is none.

    Raises:
        WorkflowError: the file has mistakes.
        DefinitionError: there is no such cluster, or a name of a machine is not valid.
    """
    cluster = _declared(name, path) if path is not None else cluster_of(_kind(name), name)
    try:
        machines = survey(cluster, _LIMIT_S)
    except LiteflowError as error:
        return [Finding(name, "missing", str(error))]
    sends_code = cluster.shipping is not None and cluster.shipping.by_value
    return [finding for machine in machines for finding in _findings(machine, name, sends_code=sends_code)]


def _declared(name: str, path: str) -> Any:
    clusters = load_workflow(path).limits.clusters
    if name not in clusters:
        names = f"; it has {', '.join(clusters)}" if clusters else "; it declares none"
        raise DefinitionError(f"{path}: there is no cluster {name!r}{did_you_mean(name, clusters) or names}")
    return clusters[name]


def _kind(machines: str) -> str:
    return "dask" if "://" in machines or machines.endswith(".json") else "ssh"


def _findings(machine: Machine, cluster: str, *, sends_code: bool) -> Iterator[Finding]:
    host, hello, facts = machine.host or cluster, machine.hello, machine.facts
    if hello is None or facts is None:
        yield Finding(host, "missing", machine.failure.removeprefix(f"{host}: "))
        return
    python = ".".join(map(str, hello["python"]))
    yield Finding(
        host,
        "fine",
        f"{hello['machine']} has Lightflow {hello['version']} on Python {python}, {hello['slots']} tasks at once, and "
        f"answers in {machine.way_s * 1000:.0f} ms",
    )
    if sends_code and tuple(hello["python"][:2]) != sys.version_info[:2]:
        yield _python(host, python)
    yield _clock(host, machine.offset_s, machine.way_s)
    yield Finding(f"{host} folder", "fine", f"{facts['cwd']} exists there")
    disks = {facts["free"]: facts["cwd"], facts["temporary_free"]: facts["temporary"]}  # often the same disk
    for free, folder in disks.items():
        low = free < LOW_DISK_BYTES
        size = f"{free / 1024**3:,.1f} GiB free in {folder}"
        yield Finding(f"{host} disk", "warning" if low else "fine", size, "free some space there" if low else None)
    yield _left(host, facts)


def _python(host: str, python: str) -> Finding:
    version = ".".join(map(str, sys.version_info[:2]))
    text = f"runs whose tasks there are all commands work with Python {python}; functions, containers and SQL do not"
    hint = f"they go there with code that needs Python {version}: install it there, and name it by `python`"
    return Finding(f"{host} python", "warning", text, hint)


def _clock(host: str, offset_s: float, way_s: float) -> Finding:
    direction = "ahead of" if offset_s > 0 else "behind"
    text = f"its clock is {abs(offset_s):.3f} s {direction} this one, to within {way_s / 2:.3f} s"
    if abs(offset_s) - way_s / 2 < _LARGE_OFFSET_S:
        return Finding(f"{host} clock", "fine", text)
    hint = "times of attempts are corrected; what tasks print is not: set the clock there"
    return Finding(f"{host} clock", "note", text, hint)


def _left(host: str, facts: Mapping[str, Any]) -> Finding:
    agents, left = facts["agents"], facts["left"]
    other_agents = f"agents of other runs there: {agents}" if agents else "no other agent works there"
    if not left:
        return Finding(f"{host} processes", "fine", f"{other_agents}, and no task has left a process")
    pids = " ".join(map(str, left[:_MANY]))
    return Finding(
        f"{host} processes",
        "warning",
        f"{other_agents}; {len(left)} processes of tasks are left, whose guardian is dead: {pids}",
        f"end them: ssh {host} kill -9 {pids}",
    )
