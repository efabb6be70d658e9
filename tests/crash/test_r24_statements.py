"""R24: no statement of a killed run stays on a server, and no connection.

Proved, with PostgreSQL and MariaDB: `kill -9` of the orchestrator, of the workers, of the guardian, and of orchestrator
and guardian at the same instant, at moments from the start of a run until its four statements (two that sleep, two that
compute) have run for a while: afterwards neither server has a statement or a connection of the run; in the last case
from the next resume on, which ends the workers, too. Not proved: a pooler between us and the server.

    CI=true pytest tests/crash/test_r24_statements.py --crash-scale 10      # 20 moments each
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import sql_servers
from crashkit import ROOT
from sql_servers import SqlServer
from test_r21_containers import _await_end, _children, _guardian_of

VICTIMS = ("orchestrator", "client", "guardian", "both")
MOMENTS = 2  # for each victim
FLOW = """
workflow_name: killed
secrets: {PG: {from: env}, MY: {from: env}}
x-sql: &sql {type: sql, params: {first: "${{ 1 if task.attempt == 1 else 0 }}"}}
tasks:
  sleeps: {<<: *sql, connection: "${{ secrets.PG }}", sql: "SELECT pg_sleep(600 * :first::int)"}
  computes:
    <<: *sql
    connection: ${{ secrets.PG }}
    sql: >-
      SELECT count(*) FROM pg_attribute a, pg_attribute b, pg_attribute c, pg_attribute d
      WHERE :first = 1 AND a.attnum * b.attnum * c.attnum * d.attnum % 7 = 9
  sleeps_too: {<<: *sql, connection: "${{ secrets.MY }}", sql: "SELECT SLEEP(600 * :first)"}
  computes_too: {<<: *sql, connection: "${{ secrets.MY }}", sql: "SELECT BENCHMARK(100000000000 * :first, md5('a'))"}
"""
#: A program without undos, which shows that the test sees what is left.
WITHOUT_UNDO = """
from lightflow.plugins.base import TaskType
from lightflow.plugins.sql_task import SqlTask
SqlTask.undo_call = TaskType.undo_call
SqlTask.undo = TaskType.undo
from lightflow.start import main
main()
"""
LIMIT_S = 120.0
#: How long a statement may be on the server after the end of its processes; the figure has the longest time measured.
LEFT_S = 10.0


class Servers:
    """Both servers, and what runs on them for a run of ours."""

    def __init__(self, postgresql: SqlServer, mariadb: SqlServer) -> None:
        self.urls = {"PG": postgresql.url, "MY": mariadb.url}
        self._postgresql = sql_servers.connected(postgresql)
        self._mariadb = sql_servers.connected(mariadb)

    def in_postgresql(self) -> int:
        text = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lf-%'"
        return int(self._postgresql.execute(text).fetchone()[0])

    def in_mariadb(self) -> list[int]:
        with self._mariadb.cursor() as cursor:
            cursor.execute(
                "SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND user = 'tester'"
            )
            return [int(row[0]) for row in cursor.fetchall()]

    def count(self) -> int:
        return self.in_postgresql() + len(self.in_mariadb())

    def clean(self) -> None:
        text = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'lf-%'"
        self._postgresql.execute(text)
        for number in self.in_mariadb():
            with self._mariadb.cursor() as cursor, suppress(Exception):
                cursor.execute(f"KILL {number}")
        assert _seconds_until(lambda: self.count() == 0) is not None

    def close(self) -> None:
        self._postgresql.close()
        self._mariadb.close()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with sql_servers.postgresql() as postgresql, sql_servers.mariadb() as mariadb:
        both = Servers(postgresql, mariadb)
        yield both
        both.close()


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r24_no_statement_is_left(
    servers: Servers, tmp_path: Path, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    moments, left, running, worst_s = scaled(MOMENTS), 0, 0, 0.0
    trial = Trial(servers, tmp_path)
    ready_s = trial.measure()
    for victim in VICTIMS:
        for number in range(moments):
            before, after, took_s = trial.run(victim, ready_s * (number + 0.5) / moments * 1.2)
            running += before
            left += after
            worst_s = max(worst_s, took_s)
    trials = moments * len(VICTIMS)
    line = figure("R24", trials=trials, statements=running, left=left, worst_ms=round(worst_s * 1000))
    assert left == 0, line
    assert running, f"no statement ran at any of the moments: {line}"


@pytest.mark.timeout(600)
def test_r24_control(servers: Servers, tmp_path: Path, figure: Callable[..., str]) -> None:
    """Without the undo, a statement is left."""
    trial = Trial(servers, tmp_path, program=[sys.executable, "-c", WITHOUT_UNDO])
    trial.limit_s = 3.0
    _, left, _ = trial.run("orchestrator", None)
    figure("R24-control", left=left)
    assert left > 0


class Trial:
    """Runs the workflow again and again, each time in a folder of its own, and kills."""

    def __init__(self, servers: Servers, folder: Path, program: list[str] | None = None) -> None:
        self._servers = servers
        self._folder = folder
        self._program = program or [sys.executable, "-m", "lightflow"]
        self._count = 0
        self._place = folder
        self.limit_s = LEFT_S

    def measure(self) -> float:
        """Return the seconds until all statements run."""
        process = self._start()
        began = time.monotonic()
        self._await_statements(process)
        ready_s = time.monotonic() - began
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT_S)
        assert _seconds_until(lambda: self._servers.count() == 0) is not None
        return ready_s

    def run(self, victim: str, delay_s: float | None) -> tuple[int, int, float]:
        """Kill after a delay (None: when all statements run).

        Return the number of connections at that moment and at the end, and the seconds until there were none.
        """
        process = self._start()
        if delay_s is None:
            self._await_statements(process)
        else:
            time.sleep(delay_s)
        guardian = _guardian_of(process.pid)
        workers = _children(guardian) if guardian else []
        victims = {
            "orchestrator": [process.pid],
            "client": workers,
            "guardian": [guardian],
            "both": [guardian, process.pid],
        }[victim]
        before = self._servers.count()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in victims:
                with suppress(ProcessLookupError):
                    if pid:
                        os.kill(pid, number)
        if victim in ("client", "guardian"):  # attempts that have started since end with the run
            process.send_signal(signal.SIGTERM)
        process.wait(LIMIT_S)
        _await_end(guardian)
        if victim == "both" and (self._place / "lightflow.db").exists():
            command = [*self._program, "resume", "flow.yaml"]
            subprocess.run(command, cwd=self._place, env=self._env(), capture_output=True, timeout=LIMIT_S, check=False)
        ended_s = _seconds_until(lambda: self._servers.count() == 0, self.limit_s)
        left = self._servers.count() if ended_s is None else 0
        self._servers.clean()
        return before, left, self.limit_s if ended_s is None else ended_s

    def _start(self) -> subprocess.Popen[bytes]:
        self._count += 1
        self._place = self._folder / str(self._count)
        self._place.mkdir()
        (self._place / "flow.yaml").write_text(FLOW)
        return subprocess.Popen(
            [*self._program, "run", "flow.yaml"],
            cwd=self._place,
            env=self._env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _env(self) -> dict[str, str]:
        return {**os.environ, **self._servers.urls, "PYTHONPATH": str(ROOT)}

    def _await_statements(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + LIMIT_S
        while self._servers.count() < 4:
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.02)


def _seconds_until(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> float | None:
    """Return the seconds until a condition holds; None: it does not within the limit."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + limit_s:
            return None
        time.sleep(0.02)
    return time.monotonic() - began
