"""R33: a secret of a task on a machine of a cluster is in no process of Dask, and of ssh only in those that pass it on.

Proved: while a task has its secret, and after it, the whole memory of the scheduler, the nannies and the workers of
Dask is searched: it holds no copy. The same search finds it in the process of the task and in its agent. With ssh the
memory of the placer, of the keepers and of the server that listens holds none; the client of ssh and the server of its
connection have what they pass on in their buffers, and end with the run. The owner, the agent and its guardian have
the secrets of a run as long as it lasts, because they mask them; a task that is not to have them does not.
"""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from crashkit import HERE, command_line, descendants
from dask_kit import dask_cluster
from sql_servers import missing
from ssh_kit import ssh_server

READY_S = 240.0
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


def copies_in(pids: Iterable[int], secret: str) -> int:
    return sum(copies(pid, secret.encode()) for pid in pids)


@contextmanager
def started(folder: Path, secret: str, kind: str, machines: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the run of `secret_run.py`."""
    words = [sys.executable, str(HERE / "secret_run.py"), str(folder), kind, machines]
    run = subprocess.Popen(words, env={**os.environ, "R33_SECRET": secret}, cwd=folder)
    try:
        yield run
    finally:
        run.kill()
        run.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_r33_a_secret_is_not_in_the_memory_of_dask(tmp_path: Path, figure: Callable[..., str]) -> None:
    secret = os.urandom(16).hex()
    with dask_cluster(tmp_path, threads=2) as cluster, started(tmp_path, secret, "dask", cluster.address) as run:
        await_file(tmp_path / "first", run)
        dask = [cluster.scheduler, *cluster.nannies, *cluster.workers()]
        ours = [pid for nanny in cluster.nannies for pid in descendants(nanny) if pid not in dask]
        during, control = copies_in(dask, secret), copies_in(ours, secret)
        for name in ("end-first", "end-second"):
            (tmp_path / name).touch()
        assert run.wait(READY_S) == 0
        after = copies_in(dask, secret)
    figure("R33", processes=len(dask), copies=during + after, copies_in_agents_and_tasks=control)
    assert (during, after) == (0, 0)
    assert control > 0, "the search works"


def parts_of(run: int, server: int) -> dict[str, list[int]]:
    """Return the processes of a run whose machine ssh reaches, by what they are."""
    here, there = descendants(run), descendants(server)
    agents = [pid for pid in there if "python" in there[pid].name and "liteflow.remote.agent" in command_line(pid)]
    keepers = [pid for pid in agents if there[pid].parent not in agents]
    placers = [pid for pid in here if here[pid].parent == run and "liteflow.remote.hosts" in command_line(pid)]
    rows = {**here, **there}
    return {
        "without": [*placers, *keepers, server],
        "passing": [pid for pid, row in rows.items() if row.name.startswith("ssh")],
        "agents": [pid for pid in agents if pid not in keepers],
        "tasks": [pid for pid, row in there.items() if row.parent in agents and pid not in agents],
    }


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_r33_a_secret_is_in_agents_and_tasks_and_not_in_what_starts_them_by_ssh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Callable[..., str]
) -> None:
    if os.getuid():
        missing("the rights of root, for the memory of a server of ssh")
    secret = os.urandom(16).hex()
    (tmp_path / "ssh").mkdir()
    counts: dict[str, dict[str, int]] = {}
    with ssh_server(tmp_path / "ssh") as server:
        server.use(monkeypatch)
        (listening,) = server.pids
        with started(tmp_path, secret, "ssh", f"{getpass.getuser()}@w1:1") as run:
            for name in ("first", "second"):
                await_file(tmp_path / name, run)
                parts = parts_of(run.pid, listening)
                assert all(parts.values()), parts
                counts[name] = {part: copies_in(pids, secret) for part, pids in parts.items()}
                (tmp_path / f"end-{name}").touch()
            assert run.wait(READY_S) == 0
        left = copies_in([listening, *descendants(listening)], secret)
    figure(
        "R33",
        copies_in_placer_keeper_and_server=sum(each["without"] for each in counts.values()),
        copies_in_client_and_connection=max(each["passing"] for each in counts.values()),
        copies_in_agent_and_guardian=counts["second"]["agents"],
        left_after_the_run=left,
    )
    assert [each["without"] for each in counts.values()] == [0, 0]
    assert left == 0
    assert counts["first"]["tasks"] > 0, "the search works"
    assert counts["second"]["tasks"] == 0, "this task does not have the secret"
