"""Machines behind a slow link: large logs and values pass it, beats and cancels pass them, and nothing is lost.

A machine is a network namespace, whose link passes so many bytes in a second, in each direction. A channel of ssh takes
two megabytes that no beat passes, so its link is less slow.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from far_kit import AGENT, cluster_of, opened_executors
from netns_kit import network
from ssh_kit import ssh_server

from lightflow.clusters import ssh
from liteflow.remote.cluster import Cluster
from liteflow.values.payload import encode
from liteflow.work import Call, Command, Ref, input_name

BYTES_S = {"plain": 200_000, "ssh": 1_000_000}
INPUT = Ref("x")
LEASE_S = 10.0
LEASES = 1.5  # for so many the data passes, in both directions


@contextmanager
def cluster_behind(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Have a cluster of one machine behind a slow link."""
    with network(1) as machine:
        machine.slow_down(0, BYTES_S[kind])
        if kind == "plain":
            words, _ = machine.place(0)
            yield cluster_of({"w1": 3}, (*words, *AGENT), address=machine.address, lease_s=LEASE_S)
            return
        folder.mkdir()
        with ssh_server(folder, machine) as server:
            server.use(monkeypatch)
            yield ssh("w1:3", python=sys.executable, lease=LEASE_S)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BYTES_S)
def test_nothing_is_lost_while_a_large_log_and_a_large_value_pass_a_slow_link(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, size = tmp_path / "pid", int(LEASES * LEASE_S * BYTES_S[kind])
    endless = f"setsid sleep 1000 & echo $! >{path}.new; mv {path}.new {path}; wait"
    bodies = {
        "loud": Command(("/bin/sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x")),
        "large": Call(lambda value: len(value), {"value": INPUT}),
        "long": Command(("/bin/sh", "-c", endless)),
    }
    with (
        cluster_behind(kind, tmp_path / "ssh", monkeypatch) as cluster,
        opened_executors(tmp_path, monkeypatch) as make,
    ):
        made = make(bodies, cluster=cluster)
        made.ready(3)
        long = made.submit("long")
        made.awaited(path)
        loud = made.submit("loud")
        large = made.submit("large", inputs={input_name(INPUT): encode("x" * size)})
        log = made.logs / f"loud-{loud}.log"
        made.until(lambda: log.exists() and log.stat().st_size > size // 3)
        made.executor.cancel(long, 1.0)
        outcomes = made.collect()
        assert outcomes[0].node == long, outcomes
        outcomes += made.collect(3 - len(outcomes)) if len(outcomes) < 3 else []
        verdicts = {outcome.node: outcome.verdict for outcome in outcomes}
        assert verdicts == {long: "CANCELLED", loud: "SUCCESS", large: "SUCCESS"}, outcomes
        assert log.stat().st_size == size
