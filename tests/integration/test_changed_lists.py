"""The list of a mapped task changes before its run is resumed."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liteflow import Dag, DagRun, XCom, current_context
from liteflow.state import schema
from liteflow.state.history import History

Item = Any


class Reader:
    """Reads items, fails at those places of its first run that it is told, and notes what it has read."""

    def __init__(self, failing: Sequence[int] = ()) -> None:
        self.failing = set(failing)
        self.read: list[tuple[int, Item]] = []
        self.keys: dict[str, list[Item]] = {}

    def __call__(self, item: Item) -> Item:
        context = current_context()
        self.keys.setdefault(context.idempotency_key, []).append(item)
        if context.map_index in self.failing:
            raise ValueError("not yet")
        self.read.append((context.map_index, item))
        return item


def reduce(items: list[Item]) -> list[Item]:
    return items


def define(db: str, items: Any, reader: Reader, **options: Any) -> Dag:
    with Dag("lists", db) as dag:
        read = dag.partial(reader, task_id="read", **options).expand(item=items)
        dag.task(reduce, items=read, trigger_rule="none_failed")
    return dag


def instances(run: DagRun, task_id: str = "read") -> dict[int, tuple[str | None, str]]:
    with History(run.db_path) as history:
        result = history.instances(run.run_id)
    return {
        entry.map_index: (entry.map_key, entry.status)
        for entry in result
        if entry.task_id == task_id and entry.map_index >= 0
    }


def run_and_resume(db: str, old: Any, failing: Sequence[int], new: Any, **options: Any) -> tuple[Reader, DagRun]:
    reader = Reader(failing)
    define(db, old, reader, **options).run(mode="inline")
    reader.failing.clear()
    return reader, define(db, new, reader, **options).resume(mode="inline")


ITEMS = st.lists(st.sampled_from(["a", "b", "c", 1, 1.0, True, "", (1, 2), {"k": [1], "l": 2}]), max_size=6)

#: a list, and the places where the first run fails
FIRST = ITEMS.filter(bool).flatmap(lambda old: st.tuples(st.just(old), st.sets(st.sampled_from(range(len(old))))))


@settings(max_examples=150)
@given(
    ITEMS.filter(bool).flatmap(lambda old: st.tuples(st.just(old), st.sets(st.sampled_from(range(len(old)))))), ITEMS
)
def test_every_item_of_the_new_list_is_read_once(
    tmp_path_factory: pytest.TempPathFactory, first: tuple[list[Item], set[int]], new: list[Item]
) -> None:
    old, failing = first
    failing = failing or {0}
    db = str(tmp_path_factory.mktemp("lists") / "state.db")
    reader, run = run_and_resume(db, old, sorted(failing), new)
    assert run.status == "SUCCESS"
    before = [repr(item) for index, item in enumerate(old) if index not in failing]
    after = [repr(item) for _, item in reader.read]
    assert after[: len(before)] == before
    kept = Counter(before) & Counter(map(repr, new))
    assert Counter(after[len(before) :]) == Counter(map(repr, new)) - kept, "what has not been read is read, once"
    if new:
        assert repr(run.value("reduce")) == repr(new), "in the order of the new list"
        assert repr(XCom.load(db, run.run_id, "read")) == repr(new)
    assert [status for _, status in instances(run).values()] == ["SUCCESS"] * len(new)
    for key, items in reader.keys.items():
        assert len({repr(item) for item in items}) == 1, f"{key} has stood for two items"


def test_a_file_that_arrives_is_read_and_a_file_that_was_read_is_not_read_again(db: str) -> None:
    reader, run = run_and_resume(db, ["in/a.csv", "in/b.csv"], [1], ["in/0new.csv", "in/a.csv", "in/b.csv"])
    assert run.value("reduce") == ["in/0new.csv", "in/a.csv", "in/b.csv"]
    assert sorted(item for _, item in reader.read) == ["in/0new.csv", "in/a.csv", "in/b.csv"]
    assert instances(run) == {
        0: ("in/a.csv", "SUCCESS"),
        1: ("in/b.csv", "SUCCESS"),
        2: ("in/0new.csv", "SUCCESS"),
    }


def test_what_an_item_did_that_is_gone_stays_in_the_history(db: str) -> None:
    _, run = run_and_resume(db, ["a", "b", "c"], [0, 2], ["b", "c"])
    assert instances(run) == {1: ("b", "SUCCESS"), 2: ("c", "SUCCESS")}
    with History(db) as history:
        attempts = history.attempts(run.run_id, "read", 0)
        events = [entry for entry in history.events(run.run_id) if (entry.task_id, entry.map_index) == ("read", 0)]
    assert [(entry.attempt, entry.status) for entry in attempts] == [(1, "FAILED")]
    assert (events[-1].status, events[-1].reason) == ("REMOVED", "its item is no longer in the list")


def test_an_index_never_denotes_another_item(db: str) -> None:
    reader = Reader([0, 1])
    define(db, ["a", "b"], reader).run(mode="inline")
    define(db, ["c", "b"], Reader([2, 1])).resume(mode="inline")  # a is gone
    run = define(db, ["d", "b", "c"], reader := Reader()).resume(mode="inline")
    assert instances(run) == {1: ("b", "SUCCESS"), 2: ("c", "SUCCESS"), 3: ("d", "SUCCESS")}
    assert run.value("reduce") == ["d", "b", "c"]
    define(db, [], Reader()).resume(mode="inline")
    assert reader.read == [(3, "d"), (1, "b"), (2, "c")]


def test_a_list_that_was_empty_for_a_while(db: str) -> None:
    with Dag("empty", db) as dag:
        dag.partial(Reader([0]), task_id="read").expand(item=["a"])
    dag.run(mode="inline")

    def again(items: list[str], also: Callable[[], None]) -> DagRun:
        with Dag("empty", db) as dag:
            dag.partial(Reader(), task_id="read").expand(item=items)
            dag.task(also, task_id="also")
        return dag.resume(mode="inline")

    def fails() -> None:
        raise ValueError

    assert again([], fails).statuses() == {"read": "SKIPPED", "also": "FAILED"}
    run = again(["b"], lambda: None)
    assert instances(run) == {1: ("b", "SUCCESS")}


def test_the_list_has_changed_and_the_run_reports_it(db: str) -> None:
    _, run = run_and_resume(db, ["a", "b"], [0], ["b", "c", "d"])
    with History(db) as history:
        reasons = [
            entry.reason for entry in history.events(run.run_id) if (entry.task_id, entry.map_index) == ("read", -1)
        ]
    assert "3 instances; its list has changed: 2 new items, 1 gone" in reasons


def test_an_unchanged_list_is_not_noted(db: str) -> None:
    _, run = run_and_resume(db, ["a", {"x": 1, "y": 2}, {1, 2, 3}], [0], ["a", {"y": 2, "x": 1}, {3, 2, 1}])
    with History(db) as history:
        reasons = [str(entry.reason) for entry in history.events(run.run_id) if entry.map_index == -1]
    assert not [entry for entry in reasons if "changed" in entry]


class Seen:
    def __init__(self) -> None:
        self.lists: list[tuple[str, list[str], list[str], bool]] = []

    def list_changed(self, task_id: str, change: Any) -> None:
        self.lists.append((task_id, list(change.new), list(change.gone), change.kept))


def test_observers_receive_which_items_are_new_and_which_are_gone(db: str) -> None:
    define(db, ["a", "b"], Reader([1])).run(mode="inline")
    seen = Seen()
    define(db, ["c", "a"], Reader()).resume(mode="inline", observers=[seen])  # type: ignore[list-item]
    assert seen.lists == [("read", ["c"], ["b"], False)]


def test_a_task_that_succeeded_keeps_the_list_it_had_and_observers_are_notified(db: str) -> None:
    def dag(items: list[str], report: Callable[[list[str]], list[str]]) -> Dag:
        with Dag("done", db) as dag:
            read = dag.partial(Reader(), task_id="read").expand(item=items)
            dag.task(report, task_id="report", items=read)
        return dag

    def fails(items: list[str]) -> list[str]:
        raise ValueError

    dag(["a", "b"], fails).run(mode="inline")
    seen = Seen()
    run = dag(["b", "c"], reduce).resume(mode="inline", observers=[seen])  # type: ignore[list-item]
    assert run.value("report") == ["a", "b"]
    assert instances(run) == {0: ("a", "SUCCESS"), 1: ("b", "SUCCESS")}
    assert seen.lists == [("read", ["c"], ["a"], True)]


def test_several_lists_and_rows_of_arguments(db: str) -> None:
    def add(os: str, version: int) -> str:
        context = current_context()
        if context.attempt == 1 and (os, version) == ("mac", 2):
            raise ValueError
        return f"{os}{version}.{context.map_index}"

    def dag(**lists: Any) -> Dag:
        with Dag("several", db) as dag:
            dag.task(reduce, items=dag.partial(add).expand(**lists))
        return dag

    dag(os=["linux", "mac"], version=[1, 2]).run(mode="inline")
    run = dag(version=[2, 3], os=["linux", "mac"]).resume(mode="inline")
    assert run.value("reduce") == ["linux2.1", "mac2.3", "linux3.4", "mac3.5"]


def test_rows_of_arguments(db: str) -> None:
    reader, run = run_rows(db, [{"item": 1}, {"item": 2}], [1], [{"item": 3}, {"item": 2}, {"item": 1}])
    assert run.value("reduce") == [3, 2, 1]
    assert sorted(item for _, item in reader.read) == [1, 2, 3]


def run_rows(db: str, old: Any, failing: Sequence[int], new: Any) -> tuple[Reader, DagRun]:
    def dag(rows: Any) -> Dag:
        with Dag("rows", db) as dag:
            dag.task(reduce, items=dag.partial(reader, task_id="read").expand_kwargs(rows))
        return dag

    reader = Reader(failing)
    dag(old).run(mode="inline")
    reader.failing.clear()
    return reader, dag(new).resume(mode="inline")


def test_mapped_over_what_a_mapped_task_returned(db: str) -> None:
    """The second task ran over what there was; when the first one has more, that is not taken for what there was."""
    reader = Reader()

    def half(x: int) -> int:
        if x == 2 and current_context().attempt == 1:
            raise ValueError
        return 10 * x

    def later(y: int) -> int:
        if y == 30 and current_context().attempt == 1:
            raise ValueError
        return reader(y)

    with Dag("twice", db) as dag:
        first = dag.partial(half).expand(x=[1, 2, 3])
        second = dag.partial(later, trigger_rule="all_done").expand(y=first)
        dag.task(reduce, items=second)
    dag.run(mode="inline")
    run = dag.resume(mode="inline")
    assert run.value("reduce") == [10, 20, 30]
    assert sorted(item for _, item in reader.read) == [10, 20, 30]


class Odd:
    """Has to be pickled."""

    def __init__(self, name: str) -> None:
        self.name = name


def test_objects_that_have_to_be_pickled(db: str) -> None:
    reader, run = run_and_resume(db, [Odd("a"), Odd("b")], [1], [Odd("c"), Odd("a"), Odd("b")])
    assert [entry.name for _, entry in reader.read] == ["a", "c", "b"]
    assert [entry.name for entry in run.value("reduce")] == ["c", "a", "b"]


def test_a_large_item(db: str) -> None:
    large = "x" * 11_000_000
    reader, run = run_and_resume(db, [large, "b"], [1], ["c", large, "b"])
    assert [item[:1] for _, item in reader.read] == ["x", "c", "b"]
    assert [item[:1] for item in run.value("reduce")] == ["c", "x", "b"]


def test_a_hook_receives_the_item_of_its_instance(db: str) -> None:
    reported: list[tuple[int, Any]] = []

    def hook(context: Any) -> None:
        reported.append((context.hook.map_index, context.item))

    define(db, ["a", "b"], Reader([1]), on_failure=hook, on_success=hook).run(mode="inline")
    define(db, ["c", "b"], Reader(), on_failure=hook, on_success=hook).resume(mode="inline")
    assert reported == [(0, "a"), (1, "b"), (2, "c"), (1, "b")]


@pytest.mark.alters_rows("it takes a hook back")
def test_a_hook_that_was_not_done_is_done_for_the_item_it_was_about(db: str) -> None:
    reported: list[tuple[int, Any]] = []

    def hook(context: Any) -> None:
        reported.append((context.hook.map_index, context.item))

    run = define(db, ["a", "b"], Reader([1]), on_success=hook).run(mode="inline")
    reported.clear()
    with sqlite3.connect(db) as connection:  # as if the owner had died between the task and its hook
        connection.execute("DELETE FROM liteflow_attempts WHERE task_id='read.on_success' AND map_index=0")
        connection.execute(
            "UPDATE liteflow_task_instances SET status='PENDING', try_number=0 "
            "WHERE task_id='read.on_success' AND map_index=0"
        )
    connection.close()
    again = define(db, ["b", "x", "a"], Reader(), on_success=hook).resume(run.run_id, mode="inline")
    assert again.status == "SUCCESS"
    assert sorted(reported) == [(0, "a"), (1, "b"), (2, "x")]


def test_retries_that_are_left_count_for_the_item(db: str) -> None:
    reader = Reader([0])
    define(db, ["a", "b"], reader, retries=2).run(mode="inline")
    reader.failing.clear()
    run = define(db, ["x", "a", "b"], reader, retries=2).resume(mode="inline")
    with History(db) as history:
        attempts = Counter(entry.map_index for entry in history.attempts(run.run_id, "read"))
    assert attempts == {0: 4, 1: 1, 2: 1}


def test_a_mapped_setup_is_torn_down_and_set_up_again_over_another_list(db: str) -> None:
    up, down = Reader(), []

    def dag(items: list[str], work: Callable[[], None]) -> Dag:
        with Dag("tool", db) as dag:
            first = dag.partial(up, task_id="up", setup=True).expand(item=items)
            middle = dag.task(work, task_id="work")
            last = dag.task(lambda made: down.append(made), task_id="down", made=first, teardown=True)
            first >> middle >> last
        return dag

    def fails() -> None:
        raise ValueError

    dag(["a", "b"], fails).run(mode="inline")
    run = dag(["c", "b"], lambda: None).resume(mode="inline")
    assert run.status == "SUCCESS"
    assert down == [["a", "b"], ["c", "b"]]
    assert [item for _, item in up.read] == ["a", "b", "c", "b"]


@pytest.mark.alters_rows("it writes rows without events")
def test_a_state_file_of_an_older_version_goes_by_label_and_place(db: str) -> None:
    with pytest.MonkeyPatch.context() as older:
        older.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:2])
        older.setattr(schema, "SCHEMA_VERSION", 2)
        from liteflow import init_schema

        init_schema(db)
    connection = sqlite3.connect(db)
    connection.executescript("""
        INSERT INTO liteflow_graphs VALUES ('d', '{"tasks": []}');
        INSERT INTO liteflow_dag_runs (run_id, dag_id, status, created_at, graph_digest)
          VALUES ('r', 'lists', 'FAILED', 1, 'd');
        INSERT INTO liteflow_task_instances (run_id, task_id, map_index, status, map_key, try_number, updated_at) VALUES
          ('r', 'read', -1, 'FAILED', NULL, 0, 1), ('r', 'read', 0, 'SUCCESS', 'a', 1, 1),
          ('r', 'read', 1, 'FAILED', 'b', 1, 1), ('r', 'read', 2, 'SUCCESS', NULL, 1, 1);
        INSERT INTO liteflow_xcom VALUES ('r', 'read', 0, 'return_value', 'json', '"a"', 3, NULL, NULL, 1);
        INSERT INTO liteflow_xcom VALUES ('r', 'read', 2, 'return_value', 'json', '[1]', 3, NULL, NULL, 1);
    """)
    connection.commit()
    connection.close()
    with History(db) as history:
        assert [(entry.map_index, entry.map_key) for entry in history.instances("r")][1:] == [
            (0, "a"),
            (1, "b"),
            (2, None),
        ]
        assert history.value("r", "read") is not None
    reader = Reader()
    run = define(db, ["x", "a", [1]], reader).resume("r", mode="inline")
    assert run.value("reduce") == ["x", "a", [1]]
    assert [item for _, item in reader.read] == ["x", "a"], "a stood elsewhere, so it is read again"


def test_secrets_are_not_stored_as_a_digest(db: str, tmp_path: Path) -> None:
    def dag() -> Dag:
        with Dag("secret", db, secrets=["TOKEN"]) as dag:
            dag.partial(lambda item: None, task_id="read").expand(item=["hunter2-secret", "b"])
        return dag

    run = dag().run(mode="inline", secrets={"TOKEN": "hunter2-secret"}, log_dir=str(tmp_path / "logs"))
    from liteflow.digest import sha256_hex

    with sqlite3.connect(db) as connection:
        rows = connection.execute("SELECT map_index, item FROM liteflow_task_instances WHERE map_index >= 0").fetchall()
    connection.close()
    assert run.status == "SUCCESS"
    assert rows[1][1]
    assert rows[0][1] != sha256_hex(b'json:"hunter2-secret"')[:32]


# -- workflow files ----------------------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]


def lightflow(folder: Path, *arguments: str, code: int = 0, **env: str) -> str:
    base = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "lightflow", *arguments],
        cwd=folder,
        env={**base, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **env},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def flow(folder: Path, fan: str, shown: str) -> None:
    (folder / "flow.yaml").write_text(
        textwrap.dedent(f"""\
        workflow_name: lists
        tasks:
          read:
            {fan}
            output: last_line
            on_failure: echo "hook ${{{{ {shown} }}}}" >> hooks
            run: |
              echo ${{{{ {shown} }}}} >> begun
              test ${{{{ {shown} }}}} != b || test -e go || exit 1
              echo ${{{{ {shown} }}}}
          report: {{run: "echo ${{{{ tasks.read.result | join(' ') }}}} > report"}}
        """)
    )


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("foreach: [a, b, c]", "foreach: [new, b, a]", "item"),
        (
            "foreach: {items: [a, b, c], as: x, key: 'it is ${{ x }}'}",
            "foreach: {items: [new, b, a], as: x, key: 'this is ${{ x }}'}",
            "x",
        ),
        ("matrix: {x: [a, b, c]}", "matrix: {x: [new, b, a]}", "matrix.x"),
        ("foreach: \"${{ env.OUTER.split(',') }}\"", "foreach: \"${{ env.OUTER.split(',') }}\"", "item"),
        ("matrix: {x: \"${{ env.OUTER.split(',') }}\"}", "matrix: {x: \"${{ env.OUTER.split(',') }}\"}", "matrix.x"),
    ],
)
def test_a_workflow_file_that_was_edited_or_reads_other_variables(
    tmp_path: Path, before: str, after: str, shown: str
) -> None:
    flow(tmp_path, before, shown)
    lightflow(tmp_path, "run", "flow.yaml", "-j", "1", code=1, OUTER="a,b,c")
    (tmp_path / "go").touch()
    flow(tmp_path, after, shown)
    output = lightflow(tmp_path, "resume", "flow.yaml", "-j", "1", OUTER="new,b,a")
    assert "note: read: its list has changed (new: " in output
    assert "; removed: " in output
    assert (tmp_path / "begun").read_text().split() == ["a", "b", "c", "new", "b"]
    assert (tmp_path / "report").read_text() == "new b a\n"
    assert (tmp_path / "hooks").read_text() == "hook b\n"


def test_the_owner_is_killed_and_the_list_has_changed(tmp_path: Path) -> None:
    def write(items: str) -> None:
        (tmp_path / "flow.yaml").write_text(
            textwrap.dedent(f"""\
            workflow_name: killed
            tasks:
              read:
                foreach: [{items}]
                output: last_line
                run: |
                  echo ${{{{ item }}}} >> begun
                  test ${{{{ item }}}} != b || test -e go || sleep 600
                  echo ${{{{ item }}}}
              report: {{run: "echo ${{{{ tasks.read.result | join(' ') }}}} > report"}}
            """)
        )

    write("a, b, c")
    base = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTFLOW_")}
    command = [sys.executable, "-m", "lightflow", "run", "flow.yaml", "-j", "1", "--quiet"]
    with subprocess.Popen(command, cwd=tmp_path, env={**base, "PYTHONPATH": str(ROOT)}) as process:
        while not (tmp_path / "begun").exists() or "b" not in (tmp_path / "begun").read_text():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    (tmp_path / "go").touch()
    write("c, new, b, a")
    lightflow(tmp_path, "resume", "flow.yaml", "-j", "1")
    assert sorted((tmp_path / "begun").read_text().split()) == ["a", "b", "b", "c", "new"]
    assert (tmp_path / "report").read_text() == "c new b a\n"
    with History(str(tmp_path / "lightflow.db")) as history:
        lost = [entry for entry in history.attempts(history.latest().run_id) if entry.status == "LOST"]
    assert [(entry.task_id, entry.map_index) for entry in lost] == [("read", 1)]


def test_a_resume_with_another_file_of_the_same_name_reports_it(tmp_path: Path) -> None:
    for folder, script in {"a": "exit 1", "b": "true"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "flow.yaml").write_text(f"workflow_name: same\ntasks: {{x: {{run: '{script}'}}}}\n")
    lightflow(tmp_path, "run", "a/flow.yaml", code=1)
    output = lightflow(tmp_path, "resume", "a/flow.yaml", code=1)
    assert "another file" not in output
    output = lightflow(tmp_path, "resume", "b/flow.yaml")
    assert f"was started from another file, {tmp_path}/a/flow.yaml" in output
