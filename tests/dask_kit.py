"""A Dask cluster for tests: a scheduler and workers with their nannies, on loopback or in network namespaces."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from netns_kit import Network
from sql_servers import free_port, missing

from liteflow.processes import tree

_LIMIT_S = 120.0  # the library takes seconds to load on a busy machine


class DaskCluster:
    """A cluster that runs; parts that were killed are started again by `revive`."""

    def __init__(
        self,
        folder: Path,
        workers: int,
        threads: int,
        network: Network | None,
        tls: Sequence[str] = (),
        of_worker: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._threads = threads
        self._network = network
        self._port = free_port()
        self._host = "127.0.0.1" if network is None else network.address
        self._tls = tls
        self._of_worker = of_worker
        self.address = f"{'tls' if tls else 'tcp'}://{self._host}:{self._port}"
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes] | None] = [None] * workers

    @property
    def scheduler(self) -> int:
        """The process of the scheduler."""
        assert self._scheduler is not None
        return self._scheduler.pid

    @property
    def nannies(self) -> tuple[int, ...]:
        """The parents of the workers."""
        return tuple(nanny.pid for nanny in self._workers if nanny is not None)

    def workers(self) -> list[int]:
        """Return the processes below the nannies that run agents."""
        below = [row.pid for row in tree.processes().values() if row.parent in self.nannies]
        return [pid for pid in below if b"spawn_main" in _command_line(pid)]

    def revive(self) -> None:
        """Start what does not run."""
        if self._scheduler is None or self._scheduler.poll() is not None:
            host = f"tls://{self._host}" if self._tls else self._host
            words = ["scheduler", "--host", host, "--port", str(self._port), "--no-dashboard", *self._tls]
            self._scheduler = self._start("scheduler", [], words)
            self._await("scheduler", "Scheduler at", self._scheduler)
        for number, nanny in enumerate(self._workers):
            if nanny is None or nanny.poll() is not None:
                self._workers[number] = self._start_worker(number)

    def add_worker(self, resources: str) -> None:
        """Start another worker with resources, and wait until the scheduler knows it."""
        self._of_worker = _option("--resources", resources)
        self._workers.append(self._start_worker(len(self._workers)))
        self.await_workers()

    def _start_worker(self, number: int) -> subprocess.Popen[bytes]:
        name = f"w{number + 1}"
        prefix, host = ([], "127.0.0.1") if self._network is None else self._network.place(number)
        words = ["worker", self.address, "--host", host, "--nthreads", str(self._threads), "--no-dashboard", *self._tls]
        words += self._of_worker
        return self._start(name, prefix, [*words, "--name", name, "--local-directory", str(self._folder / name)])

    def _start(self, name: str, prefix: list[str], words: list[str]) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("wb") as file:
            command = [*prefix, sys.executable, "-m", "dask", *words]
            return subprocess.Popen(command, stderr=file, stdout=file, start_new_session=True)

    def await_workers(self) -> None:
        """Wait until the scheduler knows all workers."""
        for number, nanny in enumerate(self._workers):
            assert nanny is not None
            self._await(f"w{number + 1}", "Registered to", nanny)

    def _await(self, name: str, words: str, process: subprocess.Popen[bytes]) -> None:
        log, give_up = self._folder / f"{name}.log", time.monotonic() + _LIMIT_S
        while words not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.05)

    def await_end_of_workers(self) -> None:
        """Wait until all workers and their nannies have ended by themselves."""
        for nanny in self._workers:
            assert nanny is not None
            nanny.wait(_LIMIT_S)

    def end(self) -> None:
        processes = [process for process in (*self._workers, self._scheduler) if process is not None]
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(20.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _option(name: str, value: str) -> list[str]:
    """Return an option of a command line; nothing when its value is empty."""
    return [name, value] if value else []


def _command_line(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def need_dask() -> None:
    """Skip the test where Dask is not installed; in CI it fails."""
    if importlib.util.find_spec("distributed") is None:
        missing("distributed")


@contextmanager
def dask_cluster(
    folder: Path,
    workers: int = 2,
    threads: int = 8,
    network: Network | None = None,
    tls: Sequence[str] = (),
    resources: str = "",
    memory: str = "",
) -> Iterator[DaskCluster]:
    """Run a cluster; it skips the test where Dask is not installed.

    Args:
        folder: for its files and logs.
        workers: how many.
        threads: of each worker.
        network: the machines of the workers; None: this one.
        tls: the options of its programs for TLS.
        resources: those of each worker, as its command line has them: "GPU=2".
        memory: how much a worker may have before its nanny restarts it: "300MiB"; empty: the default of Dask.
    """
    need_dask()
    of_worker = [*_option("--resources", resources), *_option("--memory-limit", memory)]
    cluster = DaskCluster(folder, workers, threads, network, tls, of_worker)
    try:
        cluster.revive()
        cluster.await_workers()
        yield cluster
    finally:
        cluster.end()
