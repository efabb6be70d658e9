"""R24: no statement of a killed run stays on a server, and no connection, also where an agent of a cluster ran it.

Proved, with PostgreSQL and MariaDB: `kill -9` of the orchestrator, of the workers, of the guardian, and of orchestrator
and guardian at the same instant, at moments from the start of a run until its four statements (two that sleep, two that
compute) have run for a while: afterwards neither server has a statement or a connection of the run; in the last case
from the next resume on, which ends the workers, too. The same where a worker of Dask executes them, and the parts of
its agent are killed: the guardian there ends the statements, and the next agent there if the guardian was killed, too.
Not proved: a pooler between us and the server. The controls, here and there, take the undo away.

    CI=true pytest tests/crash/test_r24_statements.py --crash-scale 10      # 20 moments each
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sql_servers
from far_machines import VICTIMS, FarMachine, worker_of_dask
from outside import Outside, Trial, check_nothing_left, seconds_until
from sql_servers import SqlServer

FLOW = """
workflow_name: killed
secrets: {PG: {from: env}, MY: {from: env}}
x-sql: &sql {type: sql, params: {first: "${{ LASTS if task.attempt == 1 else 0 }}"}}
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
#: Who is killed in the quick form on a machine of a cluster.
FEW_VICTIMS = ("worker", "agent", "agent and guardian")
#: A program without undos, which shows that the test sees what is left.
WITHOUT_UNDO = """
from lightflow.plugins.base import TaskType
from lightflow.plugins.sql_task import SqlTask
SqlTask.undo_call = TaskType.undo_call
SqlTask.undo = TaskType.undo
from lightflow.start import main
main()
"""


class Servers(Outside):
    """The statements of a run on both servers."""

    flow = FLOW
    complete = 4

    def __init__(self, postgresql: SqlServer, mariadb: SqlServer) -> None:
        self.env = {"PG": postgresql.url, "MY": mariadb.url}
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
        assert seconds_until(lambda: self.count() == 0) is not None

    def close(self) -> None:
        self._postgresql.close()
        self._mariadb.close()


class FarServers(Servers):
    """The statements of a run whose tasks are executed on the machine of a cluster."""

    stays_s = 40.0  # an undo waits so long for a machine
    victims = VICTIMS
    resumed = ("all",)

    def __init__(self, postgresql: SqlServer, mariadb: SqlServer, machine: FarMachine) -> None:
        super().__init__(postgresql, mariadb)
        self._machine = machine
        self.flow += machine.settings
        self.env = {**self.env, **machine.env}

    def pids(self, victim: str, orchestrator: int, guardian: int) -> list[int]:
        return self._machine.pids(victim, orchestrator)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[SqlServer, SqlServer]]:
    with sql_servers.postgresql() as postgresql, sql_servers.mariadb() as mariadb:
        yield postgresql, mariadb


@pytest.fixture
def servers(running: tuple[SqlServer, SqlServer]) -> Iterator[Servers]:
    with closing(Servers(*running)) as both:
        yield both


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r24_no_statement_is_left(
    servers: Servers, tmp_path: Path, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    check_nothing_left("R24", servers, tmp_path, figure, scaled)


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r24_no_statement_of_an_agent_of_dask_is_left(
    running: tuple[SqlServer, SqlServer],
    tmp_path: Path,
    figure: Callable[..., str],
    scaled: Callable[[int], int],
    *,
    long_form: bool,
) -> None:
    with (
        worker_of_dask(tmp_path / "dask", {}) as machine,
        closing(FarServers(*running, machine)) as servers,
    ):
        servers.victims = VICTIMS if long_form else FEW_VICTIMS
        figures = Trial(servers, tmp_path).all_moments(scaled(1))
    line = figure("R24-dask", **figures)
    assert figures["left"] == 0, line


@pytest.mark.timeout(600)
def test_r24_control(servers: Servers, tmp_path: Path, figure: Callable[..., str]) -> None:
    """Without the undo, a statement is left."""
    trial = Trial(servers, tmp_path, program=[sys.executable, "-c", WITHOUT_UNDO])
    left = trial.run("orchestrator", 1.0, stays_s=3.0).left
    figure("R24-control", left=left)
    assert left > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_r24_control_of_an_agent_of_dask(
    running: tuple[SqlServer, SqlServer], tmp_path: Path, figure: Callable[..., str]
) -> None:
    """Without the undo, a statement of an agent that is killed is left."""
    with (
        worker_of_dask(tmp_path / "dask", {}) as machine,
        closing(FarServers(*running, machine)) as servers,
    ):
        trial = Trial(servers, tmp_path, program=[sys.executable, "-c", WITHOUT_UNDO])
        left = trial.run("agent", 1.0, stays_s=3.0).left
    figure("R24-dask-control", left=left)
    assert left > 0
