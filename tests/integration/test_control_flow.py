"""Control flow from Python, on real runs: branches, short circuits, tolerated failures, setup and teardown, hooks."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from liteflow import Dag, DefinitionError, DuplicateTask, Task, current_context, setup, task, teardown
from liteflow.definition.options import make_options
from liteflow.state.history import History
from liteflow.work import Command

MODES = ["inline", "thread", "process", "async"]


def nothing() -> None:
    pass


def boom() -> None:
    raise ValueError("boom")


def hooks(db: str, run_id: str) -> dict[str, tuple[str, int]]:
    with History(db) as history:
        return {entry.task_id: (entry.status, entry.try_number) for entry in history.hooks(run_id)}


def reason(db: str, run_id: str, task_id: str) -> str:
    with History(db) as history:
        result = history.instance(run_id, task_id)
    assert result is not None
    return result.reason or ""


@pytest.mark.parametrize("mode", MODES)
def test_a_branch_continues_where_its_value_points(db: str, mode: str) -> None:
    with Dag("branch", db) as dag:

        @task.branch
        def choose(way: str) -> list[str]:
            return [way]

        start = choose("left")
        left, right = dag.task(nothing, "left"), dag.task(nothing, "right", trigger_rule="all_done")
        join = dag.task(nothing, "join", trigger_rule="none_failed_min_one_success")
        start >> [left, right] >> join
        start >> join
    run = dag.run(mode=mode)
    assert run.status == "SUCCESS"
    assert run.statuses() == {"choose": "SUCCESS", "left": "SUCCESS", "right": "SKIPPED", "join": "SUCCESS"}
    assert run.value("choose") == ["left"]
    assert reason(db, run.run_id, "right") == "branch choose chose left"


def test_a_branch_that_names_what_is_not_below_it_fails(db: str) -> None:
    with Dag("branch", db) as dag:
        dag.branch(lambda: "rigth", "choose", retries=1) >> [dag.task(nothing, "left"), dag.task(nothing, "right")]
    run = dag.run(mode="inline")
    assert run.statuses() == {"choose": "FAILED", "left": "UPSTREAM_FAILED", "right": "UPSTREAM_FAILED"}
    assert "did you mean 'right'" in reason(db, run.run_id, "choose")
    assert run.value("choose") is None
    with History(db) as history:
        assert [entry.status for entry in history.attempts(run.run_id, "choose")] == ["FAILED", "FAILED"]


def test_a_decision_is_preserved_by_a_resume(db: str, trail: Any, tmp_path: Path) -> None:
    """The decider is not asked again, and what it skipped stays skipped."""
    ready = tmp_path / "ready"

    def choose() -> str:
        with open(trail.path, "a", encoding="utf-8") as file:
            file.write("choose\n")
        return "left" if not ready.exists() else "right"

    def left() -> None:
        assert ready.exists()

    with Dag("branch", db) as dag:
        dag.branch(choose) >> [dag.task(left), dag.task(nothing, "right")]
    first = dag.run(mode="inline")
    assert first.statuses() == {"choose": "SUCCESS", "left": "FAILED", "right": "SKIPPED"}
    ready.touch()
    second = dag.resume(first.run_id)
    assert second.statuses() == {"choose": "SUCCESS", "left": "SUCCESS", "right": "SKIPPED"}
    assert trail.words() == ["choose"]


@pytest.mark.parametrize(("every", "last"), [(True, "SKIPPED"), (False, "SUCCESS")])
def test_a_short_circuit(db: str, every: bool, last: str) -> None:
    with Dag("short", db) as dag:
        check = dag.short_circuit(list, "check", ignore_downstream_trigger_rules=every)
        check >> dag.task(nothing, "next") >> dag.task(nothing, "last", trigger_rule="all_done")
        dag.short_circuit(lambda: 1, "yes") >> dag.task(nothing, "on")
    run = dag.run(mode="thread")
    assert run.statuses() == {"check": "SUCCESS", "next": "SKIPPED", "last": last, "yes": "SUCCESS", "on": "SUCCESS"}


def test_a_command_that_is_a_short_circuit_answers_by_its_exit_code(db: str) -> None:

    with Dag("short", db) as dag:
        for name, code in (("yes", 0), ("no", 1), ("broken", 2)):
            body = Command(("/bin/sh", "-c", f"exit {code}"))
            entry = dag.add_task(Task(name, body=body, options=make_options({"short_circuit": True}, name)))
            entry >> dag.task(nothing, f"after_{name}")
    run = dag.run()
    assert run.statuses() == {
        "yes": "SUCCESS",
        "no": "SUCCESS",
        "broken": "FAILED",
        "after_yes": "SUCCESS",
        "after_no": "SKIPPED",
        "after_broken": "UPSTREAM_FAILED",
    }
    assert (run.value("yes"), run.value("no")) == (True, False)


def test_failures_that_do_not_count(db: str) -> None:
    with Dag("tolerant", db) as dag:
        dag.task(boom, "by_name", continue_on_error=["ValueError"]) >> dag.task(nothing, "a")
        dag.task(boom, "by_base", continue_on_error=[Exception]) >> dag.task(nothing, "b")
        dag.task(boom, "any", continue_on_error=True)
    run = dag.run(mode="inline", fail_fast=True)
    assert run.status == "SUCCESS"
    assert run.statuses() == {
        **dict.fromkeys(("by_name", "by_base", "any"), "FAILED"),
        **dict.fromkeys("ab", "SUCCESS"),
    }
    with Dag("tolerant", db) as dag:
        dag.task(boom, continue_on_error=[3, KeyError])
    assert dag.run(mode="inline").status == "FAILED"


@pytest.mark.parametrize("mode", MODES)
def test_a_predicate_is_evaluated_in_the_attempt(db: str, mode: str) -> None:
    async def later() -> str:
        await asyncio.sleep(0)
        return current_context().task_id

    with Dag("predicate", db) as dag:
        dag.task(later, "yes", run_if=lambda context: context.task_id == "yes")
        dag.task(later, "no", run_if=lambda context: context.task_id == "yes")
        dag.task(nothing, "broken", run_if=lambda context: 1 / 0)
    run = dag.run(mode=mode)
    assert run.statuses() == {"yes": "SUCCESS", "no": "SKIPPED", "broken": "FAILED"}
    assert run.value("yes") == "yes"


def test_setup_and_teardown_as_decorators(db: str, trail: Any) -> None:
    def say(word: str) -> None:
        with open(trail.path, "a", encoding="utf-8") as file:
            file.write(f"{word}\n")

    with Dag("around", db) as dag:

        @setup
        def create() -> None:
            say("create")

        @task
        def work() -> None:
            say("work")
            raise ValueError("no")

        @task
        def more() -> None:
            say("more")

        @teardown
        def drop() -> None:
            say("drop")

        made, gone = create(), drop()
        made >> work() >> more() >> gone
        made >> gone
    run = dag.run(mode="thread")
    assert run.status == "FAILED"
    assert run.statuses() == {"create": "SUCCESS", "work": "FAILED", "more": "UPSTREAM_FAILED", "drop": "SUCCESS"}
    assert trail.words() == ["create", "work", "drop"]


def test_a_teardown_waits_for_what_it_is_not_wired_to(db: str, trail: Any) -> None:
    """`late` is between the setup and the teardown, behind a task that ends early by its rule."""

    def say(word: str) -> None:
        with open(trail.path, "a", encoding="utf-8") as file:
            file.write(f"{word}\n")

    with Dag("around", db) as dag:
        made = dag.task(say, "made", word="made")
        bad = dag.task(boom, "bad")
        late = dag.task(say, "late", word="late", trigger_rule="all_done")
        early = dag.task(say, "early", word="early", trigger_rule="one_failed")
        gone = dag.task(say, "gone", word="gone").as_teardown(setups=made)
        made >> bad >> early >> gone
        made >> bad >> late >> early
    run = dag.run(mode="thread")
    assert run.statuses()["gone"] == "SUCCESS"
    assert trail.words()[-1] == "gone"
    assert sorted(trail.words()) == ["early", "gone", "late", "made"]


def test_a_teardown_that_fails_fails_the_run_only_if_configured_so(db: str) -> None:
    for fails, status in ((False, "SUCCESS"), (True, "FAILED")):
        with Dag("around", db) as dag:
            dag.task(boom, "gone").as_teardown(setups=dag.task(nothing, "made"), on_failure_fail_run=fails)
        assert dag.run(mode="inline", fail_fast=True).status == status


def notes(path: str) -> Any:
    def hook(context: Any) -> None:
        about = context.hook
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{context.task_id}:{about.task_id}:{about.status}:{about.attempt}\n")

    return hook


@pytest.mark.parametrize("mode", MODES)
def test_hooks_of_tasks_and_of_the_run(db: str, trail: Any, mode: str) -> None:
    hook = notes(trail.path)
    with Dag("hooked", db, on_start=hook, on_success=hook, on_failure=hook, on_exit=hook) as dag:
        bad = dag.task(boom, "bad", retries=1, on_start=hook, on_retry=hook, on_failure=hook, on_success=hook)
        bad >> dag.task(nothing, "after", on_exit=hook, on_failure=hook)
        dag.task(nothing, "good", on_success=hook, on_exit=hook, on_cancel=hook)
    run = dag.run(mode=mode)
    assert run.status == "FAILED"
    assert run.statuses() == {"bad": "FAILED", "after": "UPSTREAM_FAILED", "good": "SUCCESS"}, "hooks are no tasks"
    words = trail.words()
    assert words[0] == "on_start::RUNNING:0"
    assert words[-2:] == ["on_failure::FAILED:0", "on_exit::FAILED:0"]
    assert sorted(words[1:-2]) == [
        "bad.on_failure:bad:FAILED:2",
        "bad.on_retry:bad:UP_FOR_RETRY:1",
        "bad.on_start:bad:PENDING:0",
        "good.on_exit:good:SUCCESS:1",
        "good.on_success:good:SUCCESS:1",
    ]
    assert words.index("good.on_success:good:SUCCESS:1") < words.index("good.on_exit:good:SUCCESS:1")
    assert set(hooks(db, run.run_id).values()) == {("SUCCESS", 1)}


def test_a_hook_that_fails_changes_nothing(db: str) -> None:
    with Dag("hooked", db, on_start=boom, on_exit=boom) as dag:
        dag.task(nothing, "a", on_start=boom, on_success=boom)
    run = dag.run(mode="inline", fail_fast=True)
    assert (run.status, run.statuses()) == ("SUCCESS", {"a": "SUCCESS"})
    assert set(hooks(db, run.run_id)) == {"on_start", "on_exit", "a.on_start", "a.on_success"}
    assert {status for status, _ in hooks(db, run.run_id).values()} == {"FAILED"}


def test_a_hook_before_everything_may_have_retries(db: str, trail: Any) -> None:
    """While it waits for its next attempt nothing else starts."""
    from liteflow.definition.task import hook_tasks

    def begin() -> None:
        with open(trail.path, "a", encoding="utf-8") as file:
            file.write("begin\n")
        assert len(trail.words()) > 1

    with Dag("hooked", db) as dag:
        dag.task(nothing, "a", on_start=notes(trail.path))
    (hook,) = hook_tasks({"on_start": begin}).values()
    hook.options = make_options({"retries": 2, "retry_delay": 0.05}, hook.task_id)
    dag.hooks["on_start"] = hook
    run = dag.run(mode="thread")
    assert (run.status, trail.words()) == ("SUCCESS", ["begin", "begin", "a.on_start:a:PENDING:0"])


def test_a_hook_of_the_run_receives_the_failed_tasks(db: str, trail: Any) -> None:
    def hook(context: Any) -> None:
        with open(trail.path, "a", encoding="utf-8") as file:
            file.write(context.hook.error.replace(" ", "_") + "\n")

    with Dag("hooked", db, on_failure=hook) as dag:
        dag.task(boom, "a")
        dag.task(boom, "b", continue_on_error=True)
        dag.task(boom, "c")
    dag.run(mode="inline")
    assert trail.words() == ["failed:_a,_c"]


def test_a_hook_that_was_never_triggered_has_no_row(db: str) -> None:
    with Dag("hooked", db, on_failure=nothing) as dag:
        dag.task(nothing, "a", on_failure=nothing, on_retry=nothing, on_cancel=nothing)
    assert hooks(db, dag.run(mode="inline").run_id) == {}


def test_a_hook_is_triggered_in_the_transaction_of_the_change(db: str) -> None:
    """No state of the file has the failure without the hook."""
    with Dag("hooked", db) as dag:
        dag.task(boom, "a", on_failure=nothing)
    run = dag.run(mode="inline")
    with sqlite3.connect(db) as connection:
        events = connection.execute("SELECT task_id, previous, status FROM liteflow_events ORDER BY seq").fetchall()
        (reported,) = connection.execute("SELECT hook_events FROM liteflow_task_instances WHERE kind='hook'").fetchone()
    assert [event for event in events if event[0] == "a.on_failure"] == [
        ("a.on_failure", "PENDING", "RUNNING"),
        ("a.on_failure", "RUNNING", "SUCCESS"),
    ]
    assert json.loads(reported) == [["on_failure", "a", -1, "FAILED", 1, "ValueError: boom", ""]]
    assert run.statuses() == {"a": "FAILED"}


def test_hooks_that_are_triggered_faster_than_they_run(db: str, trail: Any) -> None:
    """Each retry is told of, one after the other."""
    with Dag("hooked", db) as dag:
        dag.task(boom, "a", retries=5, on_retry=notes(trail.path))
    run = dag.run(mode="thread", max_workers=2)
    assert trail.words() == [f"a.on_retry:a:UP_FOR_RETRY:{number}" for number in range(1, 6)]
    assert hooks(db, run.run_id) == {"a.on_retry": ("SUCCESS", 5)}


def test_a_resume_runs_hooks_for_what_happens_then(db: str, trail: Any, tmp_path: Path) -> None:
    ready = tmp_path / "ready"

    def work() -> None:
        assert ready.exists()

    hook = notes(trail.path)
    with Dag("hooked", db, on_start=hook, on_failure=hook, on_success=hook, on_exit=hook) as dag:
        dag.task(work, on_start=hook, on_failure=hook, on_success=hook)
    run = dag.run(mode="inline")
    ready.touch()
    dag.resume(run.run_id)
    assert trail.words() == [
        "on_start::RUNNING:0",
        "work.on_start:work:PENDING:0",
        "work.on_failure:work:FAILED:1",
        "on_failure::FAILED:0",
        "on_exit::FAILED:0",
        "work.on_success:work:SUCCESS:2",
        "on_success::SUCCESS:0",
        "on_exit::SUCCESS:0",
    ], "what comes before the first attempt is not done twice"


def define(dag: Dag, options: dict[str, Any]) -> None:
    dag.task(nothing, "a", **options)
    dag.compile()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"branch": True, "short_circuit": True}, "decides in one way"),
        ({"continue_on_error": []}, "continue_on_error"),
        ({"continue_on_error": "yes"}, "continue_on_error"),
        ({"on_failure": 3}, "on_failure"),
        ({"on_failure": lambda a, b: None}, "a hook is called with no argument"),
        ({"run_if": True}, "run_if"),
        ({"teardown": True, "trigger_rule": "all_failed"}, "trigger_rule"),
        ({"setup": 1}, "setup"),
        ({"on_failure_fail_run": True}, "for teardowns"),
        ({"on_fail": nothing}, "no argument 'on_fail'; did you mean 'on_failure'"),
    ],
)
def test_options_that_make_no_sense(db: str, options: dict[str, Any], words: str) -> None:
    dag = Dag("wrong", db)
    with pytest.raises(DefinitionError, match=words):
        define(dag, options)


def test_the_id_of_a_hook_is_taken(db: str) -> None:
    dag = Dag("wrong", db)
    dag.task(nothing, "a", on_failure=nothing)
    dag.task(nothing, "a.on_failure")
    with pytest.raises(DuplicateTask, match="the id of a hook"):
        dag.compile()


# -- tasks that are mapped over a list --------------------------------------------------------------------------------


def picky(number: int) -> int:
    if number == 2:
        raise ValueError("two")
    return number


@pytest.mark.parametrize(("listed", "status"), [([1, 2, 3], "SUCCESS"), ([], "SKIPPED")])
def test_instances_have_hooks_and_tolerance_of_their_own(db: str, trail: Any, listed: list[int], status: str) -> None:
    def hook(context: Any) -> None:
        about = context.hook
        with open(trail.path, "a", encoding="utf-8") as file:
            file.write(f"{about.event}:{about.task_id}[{about.map_index}]:{about.status}\n")

    with Dag("mapped", db) as dag:
        numbers = dag.task(lambda: listed, "numbers")
        entry = dag.partial(picky, continue_on_error=["ValueError"], on_failure=hook, on_exit=hook).expand(
            number=numbers
        )
        entry >> dag.task(nothing, "after")
    run = dag.run(mode="thread", fail_fast=True)
    assert (run.status, run.statuses()["after"]) == ("SUCCESS", status)
    result = [f"on_exit:picky[{index}]:{'FAILED' if index == 1 else 'SUCCESS'}" for index in range(len(listed))]
    assert sorted(trail.words()) == sorted([*result, *(["on_failure:picky[1]:FAILED"] if listed else [])])


def test_a_mapped_task_behind_a_gate_is_evaluated_before_its_list_is_read(db: str, trail: Any) -> None:
    with Dag("mapped", db) as dag:
        numbers = dag.task(lambda: [1, 3], "numbers")
        mapped_task = dag.partial(picky, on_start=notes(trail.path)).expand(number=numbers)
        dag.short_circuit(lambda: False, "no") >> dag.partial(picky, "never").expand(number=numbers)
    run = dag.run(mode="thread")
    assert run.status == "SUCCESS"
    assert trail.words() == ["picky.on_start:picky:PENDING:0"]
    with History(db) as history:
        result = [(entry.task_id, entry.map_index, entry.status) for entry in history.instances(run.run_id)]
    assert ("never", -1, "SKIPPED") in result
    assert not [entry for entry in result if entry[0] == "never" and entry[1] >= 0]
    assert {entry for entry in result if entry[0] == "picky"} == {("picky", index, "SUCCESS") for index in (-1, 0, 1)}
    assert mapped_task.task_id == "picky"


def test_a_mapped_task_cannot_decide(db: str) -> None:
    dag = Dag("mapped", db)
    dag.partial(picky, branch=True).expand(number=[1, 2])
    with pytest.raises(DefinitionError, match="is mapped over a list, so it cannot be a branch"):
        dag.compile()
