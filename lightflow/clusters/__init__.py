"""Clusters: other machines on which the tasks of a run are executed.

    Dag("flow", clusters={"lab": ssh("node1", "node2:8")}).run(mode="lab")

A cluster is data: the command line of the program that starts agents there, and limits. Nothing of it is loaded in the
process of the run.
"""

from __future__ import annotations

import json
import re
import socket
import sys
from typing import Final

from lightflow.clusters.shipping import shipping
from lightflow.spec.cluster_limits import HOST_PATTERN, LEAST_LEASE_S, MOST_LEASE_S
from liteflow import DefinitionError
from liteflow.api import DEFAULT_LEASE_S, DEFAULT_WORKERS, Cluster

#: Options of ssh: no questions, and an end when the forwarding fails or the link is silent.
_SSH: Final = (
    *("-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "StreamLocalBindUnlink=yes"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=2", "-R", "{socket}:{address}:{port}"),
)


def ssh(*hosts: str, python: str = "python3", lease: float = DEFAULT_LEASE_S) -> Cluster:
    """Return a cluster of machines that ssh reaches without a password, where Lightflow is installed.

    Args:
        hosts: names of machines as ssh takes them, `user@` before and `:SLOTS` behind are optional: "node2:8" runs 8
            tasks at once, "node1" 4.
        python: the Python there that has Lightflow: a name or a path.
        lease: seconds after which a machine that has lost its connection ends what it runs.

    Raises:
        DefinitionError: a value is not valid.
    """
    if not hosts:
        raise DefinitionError("a cluster of ssh needs a host: ssh('node1', 'node2:8')")
    placed = [_host(text, python) for text in hosts]
    argv = (sys.executable, "-m", "liteflow.remote.hosts", json.dumps([host for host, _ in placed]))
    slots = sum(slots for _, slots in placed)
    return Cluster(argv=argv, slots=slots, lease_s=_lease(lease), shipping=shipping())


def dask(
    scheduler: str,
    *,
    slots: int,
    address: str | None = None,
    resource: str = "",
    lease: float = DEFAULT_LEASE_S,
    plain_secrets: bool = False,
) -> Cluster:
    """Return a cluster whose machines are the workers of a Dask cluster, which have Lightflow.

    Args:
        scheduler: the address of the scheduler, such as "tcp://192.0.2.5:8786".
        slots: how many tasks run there at once, at most. Each holds a thread of a worker until the run ends.
        address: the address of this machine at which the workers reach it; None: that of the way to the scheduler.
        resource: a resource of Dask of which each slot takes one.
        lease: seconds after which a worker that has lost its connection ends what it runs.
        plain_secrets: whether secrets may pass over this connection, which is not encrypted.

    Raises:
        DefinitionError: a value is not valid.
    """
    match = re.fullmatch(r"tcp://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})", scheduler)
    if match is None:
        raise DefinitionError(f"the scheduler {scheduler!r} must be an address such as tcp://192.0.2.5:8786")
    argv = (sys.executable, "-m", "lightflow.clusters.dask", scheduler, *([resource] if resource else []))
    return Cluster(
        argv=argv,
        slots=slots,
        lease_s=_lease(lease),
        address=address or _own_address(match[1].strip("[]"), int(match[2])),
        plain_secrets=plain_secrets,
        shipping=shipping(),
    )


def _own_address(host: str, port: int) -> str:
    """Return the address of this machine on the way to another one; nothing is sent."""
    try:
        family, kind, *_, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise DefinitionError(f"the machine {host!r} of the scheduler cannot be found: {error.strerror}") from None


def cluster_of(kind: str, machines: str) -> Cluster:
    """Return the cluster that a command line means: of `--mode ssh` the machines, with commas between them.

    Raises:
        DefinitionError: there is no such kind, or a name is not valid.
    """
    if kind != "ssh":
        raise DefinitionError(f"the mode of a cluster of the command line is ssh, not {kind!r}: --mode ssh --cluster …")
    return ssh(*(name.strip() for name in machines.split(",") if name.strip()))


def _host(text: str, python: str) -> tuple[dict[str, object], int]:
    """Return a host as its placer takes it, and its slots."""
    match = re.fullmatch(HOST_PATTERN, text)
    if match is None:
        raise DefinitionError(f"host {text!r}: write a name that ssh knows, and the slots: 'node1' or 'ann@node2:8'")
    name, slots = match[1], int(match[2] or DEFAULT_WORKERS)
    argv = ["ssh", *_SSH, name, python, "-m", "liteflow.remote.agent"]
    return {"name": name, "slots": slots, "argv": argv}, slots


def _lease(seconds: float) -> float:
    if not LEAST_LEASE_S <= seconds <= MOST_LEASE_S:
        raise DefinitionError(f"lease={seconds!r} must be {LEAST_LEASE_S:g} to {MOST_LEASE_S:g} seconds")
    return float(seconds)
