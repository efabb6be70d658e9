"""A Dask cluster for tests: a scheduler and workers with their nannies, on loopback."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sql_servers import free_port, missing

_LIMIT_S = 120.0  # the library takes seconds to load on a busy machine


class DaskCluster(NamedTuple):
    """A cluster that runs."""

    address: str
    scheduler: int  # process ids
    nannies: tuple[int, ...]


@contextmanager
def dask_cluster(folder: Path, workers: int = 2, threads: int = 8) -> Iterator[DaskCluster]:
    """Run a cluster; it skips the test where Dask is not installed."""
    if importlib.util.find_spec("distributed") is None:
        missing("distributed")
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    started: list[subprocess.Popen[bytes]] = []
    try:
        words = ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
        started.append(_start(folder / "scheduler.log", words))
        _await(folder / "scheduler.log", "Scheduler at", started[0])
        for number in range(workers):
            name = f"w{number + 1}"
            words = ["worker", address, "--host", "127.0.0.1", "--nthreads", str(threads), "--no-dashboard"]
            words += ["--name", name, "--local-directory", str(folder / name)]
            started.append(_start(folder / f"{name}.log", words))
        for number in range(workers):
            _await(folder / f"w{number + 1}.log", "Registered to", started[number + 1])
        yield DaskCluster(address, started[0].pid, tuple(process.pid for process in started[1:]))
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            try:
                process.wait(20.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(log: Path, words: list[str]) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *words], stderr=file, stdout=file, start_new_session=True
        )


def _await(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + _LIMIT_S
    while words not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up, log.read_text()
        time.sleep(0.05)
