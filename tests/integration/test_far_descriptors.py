"""Too many open files: at an agent, at the owner of a run, and at what tasks of an agent connect to."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from far_kit import Far, opened_executors

from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.remote.cluster import Cluster
from liteflow.remote.handshake import greet
from liteflow.remote.link import Link
from liteflow.remote.listener import Listener
from liteflow.work import Command


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Far]]:
    with opened_executors(tmp_path, monkeypatch) as make:
        yield make


@contextmanager
def no_more_files(pid: int = 0) -> Iterator[None]:
    """Let a process (0: this one) open no more files."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_a_log_that_an_agent_cannot_open_is_lost_and_nothing_else(far: Callable[..., Far], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    made = far({"t": Command(("/bin/sh", "-c", f"echo a; while [ ! -e {gate} ]; do sleep 0.01; done; echo b"))})
    node = made.submit("t")
    log = made.logs / f"t-{node}.log"
    made.until(lambda: log.exists() and log.read_text() == "a\n")
    ((_, agent),) = made.agents()
    with no_more_files(agent):
        gate.touch()
        (outcome,) = made.collect()
    assert (outcome.verdict, outcome.log_lost) == (
        "SUCCESS",
        "it could not be read where the task ran: Too many open files",
    )
    assert log.read_text() == "a\n"
    again = made.submit("t")
    (outcome,) = made.collect()
    assert (outcome.verdict, outcome.log_lost) == ("SUCCESS", None)
    assert (made.logs / f"t-{again}.log").read_text() == "a\nb\n"
    assert [pid for _, pid in made.agents()] == [agent]


def test_a_listener_without_descriptors_says_so_rests_and_lets_in_later() -> None:
    links: list[Link] = []
    failures: list[str] = []
    outcomes = OutcomeQueue()
    listener = Listener(Cluster(argv=(), slots=1), outcomes, links.append, failures.append)
    with socket.create_connection(("127.0.0.1", listener.port)) as agent, ThreadPoolExecutor(1) as threads:
        with no_more_files():
            while not failures:
                outcomes.wait(0.01)
            for _ in range(100):
                outcomes.wait(0.0)
        assert len(failures) < 10, "it rests"
        reason = "this machine can open no more files, so agents cannot connect: Too many open files (see ulimit -n)"
        assert set(failures) == {reason}
        greeting = threads.submit(greet, agent, listener.key)
        while not links:
            outcomes.wait(0.01)
        greeting.result()
    links[0].close()
    listener.close()
    outcomes.close()
