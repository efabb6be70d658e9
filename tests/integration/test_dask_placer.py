"""The placer of a Dask cluster: what it says to an owner that the test plays, when agents fail or messages are late."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from dask_kit import dask_cluster, need_dask
from sql_servers import free_port

from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.record import replace
from liteflow.remote.cluster import Cluster
from liteflow.remote.lane import facts_of
from liteflow.remote.link import Link
from liteflow.remote.listener import Listener
from liteflow.remote.placing import Placement
from liteflow.remote.ticket import ticket_to
from liteflow.work import RunInfo

need_dask()

from distributed import Client  # noqa: E402

LIMIT_S = 120.0


class Owner:
    """The owner of a run that starts no attempt: it has a placer, and lets agents in and out."""

    def __init__(self, scheduler: str, port: int | None = None) -> None:
        """Start a placer; agents try another `port` than that of this owner, if there is one."""
        self.lines: list[Mapping[str, Any]] = []
        self.links: list[Link] = []
        self._outcomes = OutcomeQueue()
        argv = (sys.executable, "-m", "lightflow.clusters.dask", scheduler)
        cluster = Cluster(argv=argv, slots=2, lease_s=1000.0)
        self._listener = Listener(cluster, self._outcomes, self.links.append, print)
        ticket = replace(ticket_to(cluster, self._listener.port, self._listener.key), host="owner")
        ticket = ticket if port is None else replace(ticket, port=port)
        self.placement = Placement(argv, ticket, self._outcomes, self.lines.append, lambda: None)

    def until(self, condition: Callable[[], object]) -> None:
        """Answer the placer and the agents until something is so."""
        give_up = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < give_up, self.lines
            self._outcomes.wait(0.02)
            for link in self.links:
                for message in link.take():
                    self._answer(link, message[0], message)

    @staticmethod
    def _answer(link: Link, kind: str, message: Any) -> None:
        if kind == "hello":
            link.send(("open", facts_of(RunInfo(run_id="r", dag_id="d", db_path=""))))
        elif kind == "beat":
            link.send_urgent(("beat", message[1], time.time()))
        elif kind == "leaving":
            link.send(("leave",))

    @property
    def failures(self) -> list[str]:
        return [line["failed"] for line in self.lines if "failed" in line]

    @property
    def missing(self) -> str:
        """What the placer has said last about slots that no worker has taken."""
        return next((str(line["missing"]) for line in reversed(self.lines) if "slots" in line), "")

    def close(self) -> None:
        for link in self.links:
            link.close()
        self._listener.close()
        self.placement.close()
        self._outcomes.close()


class Relay:
    """The way to a scheduler: what the scheduler sends can be held up."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("tcp://").partition(":")
        self._target = host, int(port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self.passes, self._always = threading.Event(), threading.Event()
        self._always.set()
        self.passes.set()
        self._sockets = [self._listening]
        self._threads: list[threading.Thread] = []
        self._start(self._serve)

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments))
        self._threads[-1].start()

    def _serve(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                client = self._listening.accept()[0]
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                self._start(self._pass_on, client, server, self._always)
                self._start(self._pass_on, server, client, self.passes)

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket, passes: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                passes.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.passes.set()
        for each in self._sockets:
            with suppress(OSError):  # the other side has closed it
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_slot_whose_worker_could_not_start_an_agent_is_requested_again(tmp_path: Path) -> None:
    port = free_port()
    with (
        dask_cluster(tmp_path, workers=1, threads=1) as cluster,
        closing(Owner(cluster.address, port)) as owner,
    ):
        owner.placement.want(1, {})
        owner.until(lambda: owner.failures)
        assert f"w1 cannot reach the owner of the run at 127.0.0.1:{port}" in owner.failures[0]
        with socket.create_server(("127.0.0.1", port)) as server:
            server.settimeout(LIMIT_S)
            server.accept()[0].close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_slot_that_a_worker_takes_while_it_is_dropped_is_given_back(tmp_path: Path) -> None:
    """The placer hears late that the worker has the slot: it has dropped it meanwhile."""

    def slots_count(dask_scheduler: Any) -> int:
        return sum(str(key).startswith("lightflow-slot-") for key in dask_scheduler.tasks)

    with (
        dask_cluster(tmp_path, workers=1, threads=1) as cluster,
        Client(cluster.address, set_as_default=False) as client,
        closing(Relay(cluster.address)) as relay,
        closing(Owner(relay.address)) as owner,
    ):
        owner.placement.want(0, {})
        owner.until(lambda: owner.lines)  # the placer is connected
        relay.passes.clear()
        owner.placement.want(1, {})
        owner.until(lambda: owner.links)
        owner.placement.want(0, {})
        owner.until(lambda: client.run_on_scheduler(slots_count) == 0)
        assert not owner.links[0].eof, "the worker still has the slot"
        relay.passes.set()
        owner.until(lambda: owner.links[0].eof)
        assert client.submit(os.getpid).result(LIMIT_S) in cluster.workers(), "its thread is free"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_scheduler_that_does_not_answer_is_the_reason_while_that_lasts(tmp_path: Path) -> None:
    with (
        dask_cluster(tmp_path, workers=1, threads=1) as cluster,
        closing(Relay(cluster.address)) as relay,
        closing(Owner(relay.address)) as owner,
    ):
        owner.placement.want(2, {})
        owner.until(lambda: owner.missing == "the worker of Dask is busy with other tasks")
        relay.passes.clear()
        owner.until(lambda: owner.missing == "the scheduler of Dask does not answer")
        relay.passes.set()
        owner.until(lambda: owner.missing == "the worker of Dask is busy with other tasks")
