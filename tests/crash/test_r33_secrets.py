"""R33: a secret of a task on a worker of Dask is in no process of Dask.

Proved: while a task has its secret, and after it, the whole memory of the scheduler, the nannies and the workers is
searched: it holds no copy. The same search finds it in the process of the task and in its agent.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from crashkit import HERE, descendants
from dask_kit import dask_cluster

READY_S = 60.0
_CHUNK = 1 << 24


def copies(pid: int, secret: bytes) -> int:
    """Return how often a text is in the memory of a process; 0 when the process has ended."""
    count = 0
    with (
        suppress(FileNotFoundError),
        open(f"/proc/{pid}/maps") as maps,
        open(f"/proc/{pid}/mem", "rb", buffering=0) as memory,
    ):
        for line in maps:
            area, rights = line.split()[:2]
            if not rights.startswith("r") or "[v" in line:  # those of the kernel cannot be read
                continue
            begin, end = (int(word, 16) for word in area.split("-"))
            count += _copies_in(memory.fileno(), begin, end, secret)
    return count


def _copies_in(memory: int, begin: int, end: int, secret: bytes) -> int:
    count, rest = 0, b""
    for at in range(begin, end, _CHUNK):
        try:
            data = os.pread(memory, min(_CHUNK, end - at), at)
        except OSError:
            return count  # an area that cannot be read
        count += (rest + data).count(secret)
        rest = data[-len(secret) + 1 :]
    return count


def await_file(path: Path, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + READY_S
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_r33_a_secret_is_not_in_the_memory_of_dask(tmp_path: Path, figure: Callable[..., str]) -> None:
    secret = os.urandom(16).hex()
    with dask_cluster(tmp_path, threads=2) as cluster:
        words = [sys.executable, str(HERE / "secret_run.py"), str(tmp_path), cluster.address]
        run = subprocess.Popen(words, env={**os.environ, "R33_SECRET": secret}, cwd=tmp_path)
        try:
            await_file(tmp_path / "ready", run)
            dask = [cluster.scheduler, *cluster.nannies, *cluster.workers()]
            ours = [pid for nanny in cluster.nannies for pid in descendants(nanny) if pid not in dask]
            during = sum(copies(pid, secret.encode()) for pid in dask)
            control = sum(copies(pid, secret.encode()) for pid in ours)
            (tmp_path / "gate").touch()
            assert run.wait(READY_S) == 0
            after = sum(copies(pid, secret.encode()) for pid in dask)
        finally:
            run.kill()
            run.wait()
    figure("R33", processes=len(dask), copies=during + after, copies_in_agents_and_tasks=control)
    assert (during, after) == (0, 0)
    assert control > 0, "the search works"
