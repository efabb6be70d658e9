"""Clusters: other machines on which the tasks of a run are executed.

    Dag("flow", clusters={"lab": ssh("node1", "node2:8")}).run(mode="lab")

A cluster is data: the command line of the program that starts agents there, and limits. Nothing of it is loaded in the
process of the run.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict, Unpack

from lightflow.clusters.dask_worker import declared_certificates
from lightflow.clusters.scheduler import scheduler_of
from lightflow.clusters.shipping import shipping
from lightflow.spec.cluster_limits import (
    DEFAULT_DASK_SLOTS,
    HOST_PATTERN,
    KINDS,
    LEAST_LEASE_S,
    MOST_LEASE_S,
    ONCE,
    is_below,
    repeated_hosts,
)
from liteflow import DefinitionError, __version__
from liteflow.api import DEFAULT_LEASE_S, DEFAULT_WORKERS, EMPTY_MAPPING, Cluster, replace

#: Options of ssh: no questions, and an end when the forwarding fails or the link is silent.
_SSH: Final = (
    *("-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "StreamLocalBindUnlink=yes"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=2", "-R", "{socket}:{address}:{port}"),
)

#: Runs the words behind it on the host, and removes the socket: a server of ssh leaves it there, also without an agent.
_REMOVING_SOCKET: Final = ("sh", "-c", shlex.quote('"$@"; code=$?; rm -f {socket}; exit $code'), "lightflow")

#: The exit codes of ssh when it has no connection, and of a shell and of Python there that start no agent.
_NOT_CONNECTED: Final = "255"
_NOT_STARTED: Final = ("1", "126", "127")


class Times(TypedDict, total=False):
    """How long a cluster may be silent, in seconds."""

    lease: float  #: a machine that has lost its connection for so long ends what it runs; 15 by default
    patience: float  #: the run waits for a machine so long while its cluster, which had one, has none; 600 by default


def ssh(
    *hosts: str,
    python: str = "python3",
    files: Sequence[str] = (),
    folder: str = "",
    **times: Unpack[Times],
) -> Cluster:
    """Return a cluster of machines that ssh reaches without a password, where Lightflow is installed.

    Args:
        hosts: names of machines as ssh takes them, `user@` before and `:SLOTS` behind are optional: "node2:8" runs 8
            tasks at once, "node1" 4.
        python: the Python there that has Lightflow: a name or a path.
        files: files and folders that each machine gets; paths in `folder` lead to their copies there.
        folder: where relative paths start; by default the current folder.
        times: see `Times`.

    Raises:
        DefinitionError: a value is not valid.
    """
    if not hosts:
        raise DefinitionError("a cluster of ssh needs a host: ssh('node1', 'node2:8')")
    placed = [_host(text, python) for text in hosts]
    if repeated := repeated_hosts(hosts):
        raise DefinitionError(f"host {hosts[repeated[0]]!r}: {ONCE}")
    listed = json.dumps([host for host, _ in placed])
    argv = (sys.executable, "-m", "liteflow.remote.hosts", listed, json.dumps(_advice(python)))
    slots = sum(slots for _, slots in placed)
    names = tuple(str(host["name"]) for host, _ in placed)
    return Cluster(
        argv=argv,
        slots=slots,
        hosts=names,
        files=_below(files),
        folder=os.path.abspath(folder) if files else "",
        shipping=shipping(),
        **_seconds(**times),
    )


def dask(
    scheduler: str,
    *,
    slots: int = DEFAULT_DASK_SLOTS,
    files: Sequence[str] = (),
    folder: str = "",
    address: str | None = None,
    tls: Mapping[str, str] = EMPTY_MAPPING,
    plain_secrets: bool = False,
    **times: Unpack[Times],
) -> Cluster:
    """Return a cluster whose machines are the workers of a Dask cluster, which have Lightflow.

    The scheduler is looked up when a run starts. A task that needs slots of a pool with a `resource` takes as many of
    this resource of its worker.

    Args:
        scheduler: the address of the scheduler, such as "tcp://192.0.2.5:8786", or the path of its scheduler file.
        slots: how many tasks run there at once, at most. Each holds a thread of a worker while the run uses it.
        files: files and folders that each machine gets; paths in `folder` lead to their copies there.
        folder: where relative paths start; by default the current folder.
        address: the address of this machine at which the workers reach it; None: that of the way to the scheduler.
        tls: the paths of files (PEM) for a scheduler at tls://…: `ca_file`, `cert` and `key`, which may be in the file
            of `cert`; by default those in the configuration of Dask.
        plain_secrets: whether secrets may pass over this connection, which is not encrypted.
        times: see `Times`.

    Raises:
        DefinitionError: a value is not valid.
    """
    return Cluster(
        argv=(sys.executable, "-m", "lightflow.clusters.dask"),
        slots=slots,
        files=_below(files),
        folder=os.path.abspath(folder) if files else "",
        address=address or "",
        certificates=declared_certificates(folder, tls) if tls else None,
        plain_secrets=plain_secrets,
        shipping=shipping(),
        takes_resources=True,
        at_start=scheduler_of(scheduler, folder),
        **_seconds(**times),
    )


def cluster_of(kind: str, machines: str) -> Cluster:
    """Return the cluster that a command line means, with its `machines`: a scheduler file by its absolute path.

    Args:
        kind: one of `KINDS`, which is the mode.
        machines: for ssh the machines, with commas between them; for dask the scheduler.

    Raises:
        DefinitionError: there is no such kind, or a name is not valid.
    """
    if kind == "dask":
        return replace(dask(machines), machines=scheduler_of(machines).written)
    if kind == "ssh":
        names = [name.strip() for name in machines.split(",") if name.strip()]
        return replace(ssh(*names), machines=",".join(names))
    raise DefinitionError(f"the mode of a cluster of the command line is {' or '.join(KINDS)}, not {kind!r}")


_WITHOUT_BRACKETS: Final = str.maketrans("", "", "[]")  # ssh takes addresses of IPv6 as they are


def _host(text: str, python: str) -> tuple[dict[str, object], int]:
    """Return a host as its placer takes it, and its slots."""
    match = re.fullmatch(HOST_PATTERN, text)
    if match is None:
        raise DefinitionError(f"host {text!r}: write a name that ssh knows, and the slots: 'node1' or 'ann@node2:8'")
    name, slots = match[1], int(match[2] or DEFAULT_WORKERS)
    argv = ["ssh", *_SSH, name.translate(_WITHOUT_BRACKETS), *_REMOVING_SOCKET, python, "-m", "liteflow.remote.agent"]
    return {"name": name, "slots": slots, "argv": argv}, slots


def _advice(python: str) -> dict[str, str]:
    """Return what to do about a machine without an agent, by the exit code of ssh."""
    no_agent = (
        f"{python!r} there must have Lightflow {__version__}: install it there, or name another Python in the "
        "declaration, such as `python: /opt/lightflow/bin/python`"
    )
    return {_NOT_CONNECTED: "`ssh {name} true` must succeed and ask nothing", **dict.fromkeys(_NOT_STARTED, no_agent)}


def _below(files: Sequence[str]) -> tuple[str, ...]:
    """Return paths that are relative to a folder, and in it."""
    for path in files:
        if not is_below(path):
            raise DefinitionError(f"files: {path!r} must be a path below the folder, such as 'src'")
    return tuple(files)


def _seconds(*, lease: float = DEFAULT_LEASE_S, patience: float | None = None) -> dict[str, Any]:
    """Return the times of a cluster that are given, by field, and its lease."""
    if not LEAST_LEASE_S <= lease <= MOST_LEASE_S:
        raise DefinitionError(f"lease={lease!r} must be {LEAST_LEASE_S:g} to {MOST_LEASE_S:g} seconds")
    if patience is not None and not 0 <= patience < math.inf:
        raise DefinitionError(f"patience={patience!r} must be a number of seconds, 0 or more")
    return {"lease_s": float(lease), **({} if patience is None else {"patience_s": float(patience)})}
