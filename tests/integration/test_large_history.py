"""What is looked at, started or deleted costs the same, however long the history is.

Not time is measured but the steps of SQLite's virtual machine: they are the same on every machine and at any load.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import liteflow.state.admin
import liteflow.state.deletion
import liteflow.state.history
import liteflow.state.store
import liteflow.state.triggers
from lightflow.cli.main import main
from lightflow.server.metrics import Metrics
from lightflow.service import explanations, queries, runs
from liteflow import Dag, RunNotFound, init_schema
from liteflow.state.admin import cancel_interrupted, exclude_from_resume, request
from liteflow.state.deletion import delete_runs
from liteflow.state.history import History
from liteflow.state.locks import LockFile
from liteflow.state.records import NewInstance, NewRun, RunEnd
from liteflow.state.store import Store
from liteflow.state.triggers import NewFire, TriggerStore

TASKS = [f"t{number:02}" for number in range(20)]
RUN = "r00050x"
SHORT, LONG = 110, 1100  # runs; nothing may grow with their number


def fill(path: Path, runs: int) -> str:
    """A state file with a history: every second run is of the dag "often", the others of eight more."""
    db = str(path)
    init_schema(db)
    connection = sqlite3.connect(db, isolation_level=None)
    many = connection.executemany
    connection.execute("BEGIN")
    graph = '{"tasks":[' + ",".join(f'{{"id":"{task}","kind":"shell"}}' for task in TASKS) + "]}"
    connection.execute("INSERT INTO liteflow_graphs VALUES ('graph', ?)", (graph,))
    for number in range(runs):
        run, dag = f"r{number:05}x", "often" if number % 2 else f"rare{number // 2 % 8}"
        connection.execute("INSERT OR REPLACE INTO liteflow_dags VALUES (?,'','x.yaml',0.0,?)", (dag, float(number)))
        connection.execute(
            "INSERT INTO liteflow_dag_runs (run_id, dag_id, status, created_at, started_at, ended_at, graph_digest, "
            "epoch) VALUES (?,?,'FAILED',0.0,0.0,1.0,'graph',1)",
            (run, dag),
        )
        many(
            "INSERT INTO liteflow_task_instances (run_id, task_id, status, try_number, reason, started_at, ended_at, "
            "updated_at) VALUES (?,?,'FAILED',1,'no',0.0,1.0,1.0)",
            named(run),
        )
        many(
            "INSERT INTO liteflow_attempts (run_id, task_id, map_index, attempt, status, epoch, started_at, ended_at, "
            "exit_code) VALUES (?,?,-1,1,'FAILED',1,0.0,1.0,1)",
            named(run),
        )
        many("INSERT INTO liteflow_events VALUES (NULL,?,?,-1,1,'RUNNING','FAILED',NULL,1.0)", named(run))
        many("INSERT INTO liteflow_xcom VALUES (?,?,-1,'return_value','json','1',1,NULL,NULL,1.0)", named(run))
        many(
            "INSERT INTO liteflow_requests (run_id, action, created_at, handled_at) VALUES (?,'cancel',0.0,?)",
            [(run, 1.0)],
        )
        fire = (f"{dag}:schedule", number, number, "WAITING" if number < 9 else "STARTED", run)
        many("INSERT INTO liteflow_fires (trigger_id, key, at, status, run_id) VALUES (?,?,?,?,?)", [fire])
    connection.execute("COMMIT")
    connection.close()
    return db


def named(run: str) -> list[tuple[str, str]]:
    return [(run, task) for task in TASKS]


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch, watch: Callable[[sqlite3.Connection], None]) -> Iterator[None]:
    """Call a function with each connection that the package opens meanwhile."""

    def watching(connect: Callable[[str], sqlite3.Connection]) -> Callable[[str], sqlite3.Connection]:
        def connected(path: str) -> sqlite3.Connection:
            connection = connect(path)
            watch(connection)
            return connection

        return connected

    with monkeypatch.context() as patch:
        for module, name in (
            (liteflow.state.history, "connect_read_only"),
            (liteflow.state.admin, "connect"),
            (liteflow.state.deletion, "connect"),
            (liteflow.state.store, "connect"),
            (liteflow.state.triggers, "connect"),
        ):
            patch.setattr(module, name, watching(getattr(module, name)))
        yield


@contextmanager
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count, in a list of one, the steps of all statements of all connections that the package opens meanwhile."""
    counted = [0]

    def step() -> None:
        counted[0] += 1

    with watched(monkeypatch, lambda connection: connection.set_progress_handler(step, 1)):
        yield counted


def start(db: str) -> None:
    store = Store(db, LockFile(db))
    try:
        store.create(
            NewRun(
                run_id="fresh",
                dag_id="often",
                graph_digest="other",
                graph_snapshot="{}",
                instances=[NewInstance(task, []) for task in TASKS],
            )
        )
        assert store.requests() == []
        store.batch.transitions.run_end = RunEnd(status="FAILED", reason=None, at=1.0)
        store.commit()
    finally:
        store.close()
        store._locks.close()


def go_on(db: str) -> None:
    store = Store(db, LockFile(db))
    try:
        store.claim(RUN, [], ("graph", "{}"))
        store.batch.transitions.run_end = RunEnd(status="FAILED", reason=None, at=1.0)
        store.commit()
    finally:
        store.close()
        store._locks.close()


def schedule(db: str) -> None:
    """What a scheduler does when an instant is due and others wait."""
    store = TriggerStore(db)
    try:
        fire = NewFire(trigger_id="new:schedule", key="1", at=1.0, due_at=1.0, status="CLAIMED", run_id="fresh")
        assert [claimed.run_id for claimed in store.decide([fire], {}, {})] == ["fresh"]
        assert [claimed.run_id for claimed in store.claimed_fires()] == ["fresh"]
        assert [waiting.at for waiting in store.first_waiting_fires()] == [0.0, 1.0, 2.0, 4.0, 6.0, 8.0]
        assert store.busy_triggers(["often:schedule", "rare1:schedule", "nosuch"]) == set()
        assert store.end("fresh", "FAILED", "it was a test")
    finally:
        store.close()


def events(db: str) -> None:
    with History(db) as history:
        assert len(history.events(RUN)) == len(TASKS)
        assert len(history.values(RUN)) == len(TASKS)


def missing(db: str) -> None:
    with pytest.raises(RunNotFound, match="no run has a task 'nosuch'"):
        queries.latest_run_id(db, "nosuch")


def unknown(db: str) -> None:
    with pytest.raises(RunNotFound, match="there is no run 'r9'"):
        queries.run_view(db, "r9")


LOOKS: dict[str, Callable[[str], object]] = {
    "status": lambda db: queries.run_view(db),
    "status of a run": lambda db: queries.run_view(db, RUN),
    "status by the beginning of an id": lambda db: queries.run_view(db, RUN[:-1]),
    "an id that begins no run": unknown,
    "the newest": lambda db: queries.newest_runs(db, "often", 5),
    "list": lambda db: queries.list_workflows(db),
    "list of some": lambda db: queries.list_workflows(db, 3, counted=True),
    "why": lambda db: explanations.why(db, RUN, "t05"),
    "why in the latest": lambda db: explanations.why(db, None, "t05"),
    "a task there is none of": missing,
    "logs": lambda db: queries.task_attempts(db, "t05", queries.latest_run_id(db, "t05")),
    "picture": lambda db: queries.run_picture(db),
    "events and values": events,
    "dags": lambda db: Dag.all_dags(db),
    "runs of a dag": lambda db: Dag("often", db).runs(),
}
CHANGES: dict[str, Callable[[str], object]] = {
    "a new run": start,
    "resume": go_on,
    "ask for a cancel": lambda db: request(db, RUN, "cancel"),
    "cancel what has no owner": lambda db: cancel_interrupted(db, RUN, "enough"),
    "a turn of a scheduler": schedule,
    "delete a run": lambda db: delete_runs(db, [RUN]),
}


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("histories")
    return fill(folder / "short.db", SHORT), fill(folder / "long.db", LONG)


@pytest.mark.parametrize("what", [*LOOKS, *CHANGES])
def test_it_costs_the_same_after_ten_times_as_many_runs(
    what: str, histories: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = []
    for db in histories:
        with steps(monkeypatch) as counted:
            (LOOKS | CHANGES)[what](db)
        cost.append(counted[0])
    short, long = cost
    assert short > 20, "the steps were counted"
    assert long <= 1.2 * short, cost


def test_a_list_of_runs_counts_the_others_and_reads_none_of_them(
    histories: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = []
    for db in histories:
        with steps(monkeypatch) as counted:
            page = queries.list_runs(db, "often", 20)
        cost.append(counted[0])
        assert len(page.items) == 20
        with History(db) as history:
            assert page.remaining == history.run_count("often") - 20 > 30
    assert cost[1] - cost[0] <= 3 * (LONG - SHORT) / 2, cost  # a step or two for each entry of an index


def test_what_a_server_asks_again_and_again_reads_no_row_of_an_ended_run(
    histories: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of a run has its parameters and settings, so that a scan of all rows reads megabytes."""
    _, db = histories
    statements: list[str] = []
    with watched(monkeypatch, lambda connection: connection.set_trace_callback(statements.append)):
        assert "lightflow_runs{" in Metrics().text(db, "1", "")
        with History(db) as history:
            assert history.open_runs() == []
    selects = [statement for statement in statements if "FROM liteflow_dag_runs" in statement]
    assert len(selects) >= 3
    with closing(sqlite3.connect(db)) as connection:
        plans = [row[3] for sql in selects for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
    reads = [plan for plan in plans if "liteflow_dag_runs" in plan]
    assert reads
    assert [plan for plan in reads if plan.startswith("SCAN") and "COVERING INDEX" not in plan] == []


def test_a_dag_with_many_runs_is_forgotten_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = fill(tmp_path / "own.db", 300)
    with steps(monkeypatch) as counted:
        assert exclude_from_resume(db, "rare0") == 19
    assert counted[0] < 19 * 100
    with steps(monkeypatch) as counted:
        assert Dag.delete_dag(db, "rare0") == 19
    assert counted[0] < 19 * len(TASKS) * 200
    assert queries.list_workflows(db, 3).remaining == 5
    with History(db) as history:
        assert history.graph("graph"), "other runs have it still"
    for dag in ["often", *(f"rare{number}" for number in range(1, 8))]:
        Dag.delete_dag(db, dag)
    with History(db) as history:
        assert history.graph("graph") == {}


@pytest.mark.alters_rows("its rows are made by SQL")
def test_the_latest_run_of_a_workflow_is_found_behind_many_of_others(tmp_path: Path) -> None:
    db = fill(tmp_path / "own.db", 300)
    connection = sqlite3.connect(db)
    connection.execute("UPDATE liteflow_dag_runs SET dag_id='once' WHERE run_id='r00007x'")
    connection.execute("UPDATE liteflow_task_instances SET task_id='only' WHERE run_id='r00007x' AND task_id='t03'")
    connection.execute("INSERT INTO liteflow_dags VALUES ('once','',NULL,0.0,0.0)")
    connection.commit()
    connection.close()
    assert queries.latest_run_id(db, "only") == "r00007x"
    assert queries.latest_run_id(db, "t03") == "r00299x"
    with pytest.raises(RunNotFound, match="name an older run by its id"):
        queries.latest_run_id(db, "nosuch")


def test_a_run_is_named_by_the_beginning_of_its_id(histories: tuple[str, str]) -> None:
    db, _ = histories
    assert queries.run_view(db, "r00099").run.run_id == "r00099x"
    with History(db) as history:
        with pytest.raises(RunNotFound, match="more than one run begins with 'r0009'"):
            history.run("r0009")
        for other in ("r0009_", "R0009", "r00099xx", "\U0010ffff", "%"):
            with pytest.raises(RunNotFound, match="there is no run"):
                history.run(other)


def test_checkpoints_of_long_ago_are_not_read(tmp_path: Path) -> None:
    """Older files than those listed are damaged: a file that was read would be missing from the count of the rest."""

    def write(numbers: range, *, damaged: bool) -> None:
        for number in numbers:
            workflow = "often" if number % 2 else "rare"
            path = tmp_path / f"{workflow}.r{number}.lightflow-checkpoint.json"
            content = f'{{"workflow_name": "{workflow}", "completed_tasks": {{}}, "timestamp": '
            end = "" if damaged else f'"2026-01-01T00:00:{number:02}"}}'
            path.write_text(content + end, encoding="utf-8")
            os.utime(path, (1000 + number, 1000 + number))

    write(range(26), damaged=True)
    write(range(26, 30), damaged=False)
    page = queries.list_checkpoints(str(tmp_path), None, 4)
    assert [checkpoint.timestamp[-2:] for checkpoint in page.items] == ["29", "28", "27", "26"]
    assert page.remaining == 26
    page = queries.list_checkpoints(str(tmp_path), "rare", 2)
    assert ([checkpoint.timestamp[-2:] for checkpoint in page.items], page.remaining) == (["28", "26"], 13)
    assert len(queries.list_checkpoints(str(tmp_path)).items) == 4, "the damaged files are read now"
    write(range(26), damaged=False)
    assert len(queries.list_checkpoints(str(tmp_path)).items) == 30
    assert runs.clear(str(tmp_path / "none.db"), "rare", str(tmp_path)) == (15, 0)
    assert len(queries.list_checkpoints(str(tmp_path)).items) == 15


def test_lists_end_and_say_so(histories: tuple[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    _, db = histories

    def lines(*arguments: str) -> list[str]:
        with pytest.raises(SystemExit) as end:
            main((*arguments, "--db", db))
        assert not end.value.code
        return capfd.readouterr().out.splitlines()

    with History(db) as history:
        runs = history.run_count()
    assert lines("runs")[21:] == [f"… and {runs - 20:,} more runs; --limit sets how many are listed"]
    assert lines("runs", "rare2", "--limit", "5")[6:] == ["… and 64 more runs; --limit sets how many are listed"]
    assert len(lines("list")) == 1 + 9
    assert lines("list", "--limit", "8")[9:] == ["… and 1 more workflow; --limit sets how many are listed"]
    assert lines("list", "--limit", "1")[1].startswith("often "), "the one that was started last"
