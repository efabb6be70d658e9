"""What connects to the owner of a run and is no agent: it costs a connection, and nothing else."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from far_kit import LIMIT_S
from tls_kit import certificates

from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.remote.cluster import Cluster
from liteflow.remote.link import Link
from liteflow.remote.listener import Listener
from liteflow.remote.placing import Placement
from liteflow.remote.ticket import ticket_to

RESET = struct.pack("ii", 1, 0)  # closing sends a reset


@pytest.fixture
def outcomes() -> Iterator[OutcomeQueue]:
    queue = OutcomeQueue()
    yield queue
    queue.close()


def until(outcomes: OutcomeQueue, condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < give_up
        outcomes.wait(0.01)


@pytest.mark.parametrize("data", [b"", b"x", b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("is_tls", [False, True])
def test_what_has_gone_before_it_is_accepted_ends_nothing(
    outcomes: OutcomeQueue, tmp_path: Path, data: bytes, *, is_tls: bool
) -> None:
    links: list[Link] = []
    failures: list[str] = []
    files = certificates(tmp_path, trustme.CA()) if is_tls else None
    cluster = Cluster(argv=(), slots=1, certificates=files)
    listener = Listener(cluster, outcomes, links.append, failures.append)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", listener.port)) as scanner:
            scanner.sendall(data)
            scanner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with socket.create_connection(("127.0.0.1", listener.port)) as patient:
        until(outcomes, lambda: len(listener._visitors) == 1)
        assert not links
        patient.close()
        until(outcomes, lambda: not listener._visitors)
    listener.close()


def test_a_placer_that_reads_late_gets_every_line_whole(outcomes: OutcomeQueue, tmp_path: Path) -> None:
    script = 'while [ ! -e "$0/go" ]; do sleep 0.01; done; cat > "$0/new"; mv "$0/new" "$0/lines"'
    ticket = ticket_to(Cluster(argv=(), slots=1), 1, b"k")
    argv = ("/bin/sh", "-c", script, str(tmp_path))
    placement = Placement(argv, ticket, outcomes, lambda line: None, lambda: None)
    for count in range(20_000):
        placement.want(count, {"agent": count})
    (tmp_path / "go").touch()
    until(outcomes, lambda: not placement._unsent)
    assert placement.close() == 0
    _, *lines = (tmp_path / "lines").read_text().splitlines()
    assert [json.loads(line)["want"] for line in lines] == list(range(20_000))
