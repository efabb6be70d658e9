"""What a program reads of mapped tasks: values, states, failures, and what an instance knows of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from liteflow import Dag, DagRun, XCom, current_context
from liteflow.state.history import History


def numbers() -> list[int]:
    return [1, 2, 3]


def thrice(number: int) -> int | None:
    context = current_context()
    context.xcom_push("seen", [context.map_index, context.item])
    if number == 2:
        return None  # is not stored
    return number * 3


def half(number: int) -> int:
    if number == 2:
        raise ValueError("not two")
    return number


def look() -> list[Any]:
    context = current_context()
    pull = context.xcom_pull
    return [
        pull("thrice"),
        pull("thrice", "seen"),
        pull("thrice", map_index=2),
        pull("thrice", map_index=1, default="nothing"),
        pull("thrice", "other", default="none"),
        context.item,
    ]


@pytest.fixture(params=["thread", "process"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> DagRun:
    with Dag("mapped", str(tmp_path / "state.db")) as dag:
        listed = dag.task(numbers)
        mapped = dag.partial(thrice).expand(number=listed)
        failing = dag.partial(half).expand(number=listed)
        last = dag.task(look, trigger_rule="all_done")
        [mapped, failing] >> last
    return dag.run(mode=request.param)


def test_the_values_of_a_mapped_task_are_a_list(run: DagRun) -> None:
    seen = [[0, {"number": 1}], [1, {"number": 2}], [2, {"number": 3}]]
    assert run.value("thrice") == [3, 9]
    assert run.value("thrice", "seen") == seen
    assert run.value("thrice", "other", default="none") == "none"
    assert XCom.load(run.db_path, run.run_id, "thrice") == [3, 9]
    assert XCom.load(run.db_path, run.run_id, "thrice", map_index=2) == 9
    assert run.value("look") == [[3, 9], seen, 9, "nothing", "none", None]


def test_the_states_are_those_of_tasks_and_the_failures_those_of_instances(run: DagRun) -> None:
    assert run.statuses() == {"numbers": "SUCCESS", "thrice": "SUCCESS", "half": "FAILED", "look": "SUCCESS"}
    assert run.failures() == {"half[1]": "ValueError: not two"}


def test_a_mapped_task_counts_once(run: DagRun) -> None:
    with History(run.db_path) as history:
        assert history.counts(run.run_id) == {"SUCCESS": 3, "FAILED": 1}
        assert history.tally(run.run_id)[1] == {"SUCCESS": 5, "FAILED": 1}
        assert [entry.status for entry in history.attempts(run.run_id, "half", 1)] == ["FAILED"]
        assert len(history.attempts(run.run_id, "half")) == 3


def test_a_task_that_could_not_be_mapped_is_its_own_failure(tmp_path: Path) -> None:
    with Dag("refused", str(tmp_path / "state.db")) as dag:
        dag.partial(half).expand(number=dag.task(str, "text"))
    failures = dag.run(mode="thread").failures()
    assert list(failures) == ["half"]
    assert "is text and no list" in failures["half"]
