"""Clusters for tests: agents on this machine, started by the placer of hosts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import cloudpickle

from liteflow.executors.protocol import BackendFactory
from liteflow.remote.cluster import Cluster
from liteflow.remote.lane import lane_of
from liteflow.work import Call

#: The command line of an agent on this machine.
AGENT = (sys.executable, "-m", "liteflow.remote.agent")


class ByValue:
    """Sends functions with their code."""

    by_value = True

    def dump(self, call: Call) -> bytes:
        data: bytes = cloudpickle.dumps(call)
        return data


def cluster_of(
    hosts: Mapping[str, int],
    argv: tuple[str, ...] = AGENT,
    others: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    before: tuple[str, ...] = (),
    **options: Any,
) -> Cluster:
    """Return a cluster whose hosts are this machine, each with so many slots; `others` have other command lines.

    The words `before` are those before the command line of the placer.
    """
    listed = [{"name": name, "slots": slots, "argv": others.get(name, argv)} for name, slots in hosts.items()]
    placer = (*before, sys.executable, "-m", "liteflow.remote.hosts", json.dumps(listed))
    return Cluster(argv=placer, **{"slots": sum(hosts.values()), "shipping": ByValue(), **options})


def far_lane(slots: int = 4, **options: Any) -> Mapping[str, BackendFactory]:
    """Return the lane `far`, whose one host `w1` is this machine."""
    return {"far": lane_of("far", cluster_of({"w1": slots}, **options))}
