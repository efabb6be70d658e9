"""`matrix` and `foreach` in a file: every form, and the specification of the task."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from lightflow.errors import WorkflowError
from lightflow.expressions.fan_out import ITEM, StaticExpansion, expansion_of
from lightflow.parser.workflow_loader import loads_workflow
from lightflow.spec.model import MappingSpec, TaskSpec
from liteflow.errors import InputError
from liteflow.values.payload import Payload, decode, encode, together
from liteflow.work import RunInfo

LIST = 'tasks:\n  list: {run: "true"}\n'


def task(text: str, name: str = "a") -> TaskSpec:
    return loads_workflow(text, "w.yaml").tasks[name]


def fan(text: str) -> MappingSpec:
    result = task("params: {n: 3}\n" + LIST + f"  a: {{{text}, run: echo}}\n").mapping
    assert result is not None
    return result


@pytest.mark.parametrize(
    "written",
    [
        "matrix: {os: [a, b], max_parallel: 2, fail_fast: true}",
        "matrix: {os: [a, b], max-parallel: 2, fail-fast: true, x-note: [1]}",
        "strategy: {matrix: {os: [a, b]}, max-parallel: 2, fail-fast: true}",
        "strategy: {matrix: {os: [a, b], fail_fast: true}, max_parallel: 2}",
    ],
)
def test_the_ways_to_write_a_matrix(written: str) -> None:
    assert fan(written) == MappingSpec(name="matrix", axes={"os": ["a", "b"]}, max_parallel=2, fail_fast=True)


@pytest.mark.parametrize("key", ["foreach", "with_items"])
def test_the_ways_to_write_foreach(key: str) -> None:
    assert fan(f"{key}: [1, 2]") == MappingSpec(name="item", items=[1, 2])
    assert fan(f"{key}: {{items: [1, 2]}}") == MappingSpec(name="item", items=[1, 2])
    block = f'{key}: {{items: {{x: 1}}, as: file, key: "k", max_concurrent: 2, fail-fast: true}}'
    assert fan(block) == MappingSpec(name="file", items={"x": 1}, key="k", max_parallel=2, fail_fast=True)


def test_a_task_depends_on_the_tasks_that_give_its_items() -> None:
    result = task(LIST + '  a: {foreach: "${{ tasks.list.result }}", run: echo}\n')
    assert result.depends_on == result.implied == ("list",)
    assert result.expressions is not None
    assert not result.expressions.reads  # the instances do not take the list


def test_a_matrix_may_come_from_a_task() -> None:
    result = task(LIST + '  a: {matrix: {include: "${{ tasks.list.outputs.all }}"}, run: "echo ${{ matrix.any }}"}\n')
    assert result.depends_on == ("list",)


def test_the_digest_covers_the_mapping() -> None:
    def digest(more: str) -> str:
        return task(LIST + f"  a: {{run: echo{more}}}\n").digest

    base = digest(", foreach: [1, 2]")
    assert base != digest("")
    assert base != digest(", foreach: [1, 3]")
    assert base != digest(", matrix: {item: [1, 2]}")
    assert base == digest(", with_items: [1, 2]")
    assert base == digest(', foreach: {items: [1, 2], max_parallel: 1, fail_fast: true, key: "x"}')


def test_a_mistake_in_strategy_has_its_place() -> None:
    text = "tasks:\n  a:\n    strategy:\n      matrix:\n        os: 3\n    run: echo\n"
    with pytest.raises(WorkflowError) as caught:
        loads_workflow(text, "w.yaml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.path) == (5, 13, "tasks.a.matrix.os")


def test_a_version_that_is_read_as_a_shorter_number_is_reported() -> None:
    with pytest.raises(WorkflowError) as caught:
        fan('matrix: {python: [3.9, 3.10, "3.10", 1.0, 1e10, 10, 0.5]}')
    assert [str(problem) for problem in caught.value.problems] == [
        "w.yaml:4:30: tasks.a.matrix.python: 3.10 is the number 3.1; put it in quotes to keep it as it is written"
    ]


# -- the instances --------------------------------------------------------------------------------------------


def instances(written: str, params: dict[str, Any] | None = None, **stored: Payload) -> list[tuple[Any, str | None]]:
    """The item and the label of each."""
    spec = task("params: {n: 3, l: [x, y]}\nenv: {HOST: h}\n" + LIST + f"  a: {{{written}, run: echo}}\n")
    values = {"n": 3, "l": ["x", "y"], **(params or {})}
    problems: list[Any] = []
    result = expansion_of(spec, values, problems)
    if problems:
        raise InputError(str(problems[0]))
    rows = result.rows(
        stored, RunInfo(run_id="run-1", dag_id="w", db_path="", log_dir=None, params=values, logical_date=5.0)
    )
    return [(decode(row.items[ITEM]), row.label) for row in rows]


def test_items_and_their_labels() -> None:
    assert instances('foreach: [1, "two  words", [3], {k: "${{ params.n }}"}, null, "${{ params.l }}-"]') == [
        (1, "1"),
        ("two  words", "two words"),
        ([3], None),
        ({"k": 3}, None),
        (None, "null"),
        ('["x","y"]-', '["x","y"]-'),
    ]


def test_items_of_a_parameter_of_the_run_and_of_the_environment() -> None:
    assert instances('foreach: "${{ params.l }}"') == [("x", "x"), ("y", "y")]
    assert instances('foreach: ["${{ run.id }}", "${{ run.logical_date }}", "${{ env.HOST }}"]') == [
        ("run-1", "run-1"),
        (datetime.datetime(1970, 1, 1, 0, 0, 5, tzinfo=datetime.UTC), None),
        ("h", "h"),
    ]


def test_items_of_a_task() -> None:
    wanted = 'foreach: {items: "${{ tasks.list.result }}", key: "${{ item.name }} of ${{ task.index }}"}'
    assert instances(wanted, list=encode([{"name": "a"}, {"name": "b"}])) == [
        ({"name": "a"}, "a of 0"),
        ({"name": "b"}, "b of 1"),
    ]
    assert instances('foreach: "${{ tasks.list.result }}"', list=together([encode(1), encode("x")])) == [
        (1, "1"),
        ("x", "x"),
    ]
    assert instances('foreach: "${{ tasks.list.result }}"', list=encode([])) == []


def known_before(fan_of_a: str, env: str = "{HOST: h}") -> bool:
    text = f"params: {{l: [x]}}\nenv: {env}\n{LIST}  a: {{{fan_of_a}, run: echo}}\n"
    return isinstance(expansion_of(task(text), {"l": ["x"]}, []), StaticExpansion)


def test_items_that_are_known_before_the_run_are_expanded_before_it() -> None:
    assert known_before("foreach: [1]")
    assert known_before(
        'foreach: {items: "${{ params.l }}", key: "${{ item ~ params.l }} ${{ task.index }} ${{ env.HOST }}"}'
    )
    assert known_before('matrix: {a: "${{ params.l }}"}')
    assert not known_before('foreach: ["${{ run.id }}"]')
    assert not known_before('foreach: {items: [1], key: "${{ run.id ~ item }}"}')
    assert not known_before('foreach: {items: [1], key: "${{ item ~ tasks.list.result }}"}')
    assert not known_before('matrix: {a: [1], include: "${{ tasks.list.result }}"}')
    assert not known_before('foreach: ["${{ env.RUN }}"]', '{RUN: "${{ run.id }}"}')


def test_items_do_not_read_the_environment_of_an_attempt() -> None:
    text = 'env: {A: "${{ task.attempt }}"}\ntasks:\n  a: {foreach: ["${{ 1 + 1 }}"], run: echo}\n'
    problems: list[Any] = []
    assert isinstance(expansion_of(task(text), {}, problems), StaticExpansion)
    assert problems == []


def test_a_mapping_gives_its_pairs() -> None:
    assert instances("foreach: {items: {x: 1, y: [2]}}") == [(["x", 1], None), (["y", [2]], None)]


@pytest.mark.parametrize(
    ("value", "words"),
    [("text", "is text and no list"), (3, "is a number and no list"), (True, "is a boolean and no list")],
)
def test_a_value_that_is_not_a_list_is_reported_with_its_place(value: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        instances('foreach: "${{ tasks.list.result }}"', list=encode(value))
    assert str(caught.value) == f"w.yaml:5:17: tasks.a.foreach: the value {words}"


def test_a_missing_and_a_pickled_list_are_reported() -> None:
    with pytest.raises(InputError, match="task 'list' has no result"):
        instances('foreach: "${{ tasks.list.result }}"')
    pickled = encode(type)
    for payload in (pickled, together([encode(1), pickled])):
        with pytest.raises(InputError, match="was pickled"):
            instances('foreach: "${{ tasks.list.result }}"', list=payload)


def test_a_matrix_of_expressions() -> None:
    written = (
        'matrix: {os: "${{ params.l }}", "n": ["${{ params.n }}", 4], exclude: [{os: y, "n": 4}], '
        'include: [{os: x, "n": 3, more: "${{ params.n }}"}]}'
    )
    assert instances(written) == [
        ({"os": "x", "n": 3, "more": 3}, "x, 3, 3"),
        ({"os": "x", "n": 4}, "x, 4"),
        ({"os": "y", "n": 3}, "y, 3"),
    ]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('matrix: {os: "${{ params.n }}"}', "w.yaml:5:21: tasks.a.matrix.os: the value is a number and no list"),
        ('matrix: {os: [a], include: ["${{ params.n }}"]}', "must be a mapping of names to values"),
        ('matrix: {os: [a], include: "${{ params.l }}"}', "matrix.include must be a list of mappings"),
        (
            "matrix: {os: [a], exclude: \"${{ [{'oss': 1}] }}\"}",
            "'oss' is not an axis of the matrix, did you mean \"os\"?",
        ),
        ("foreach: {items: text}", "must be a list, or an expression that gives one"),
    ],
)
def test_a_wrong_list_is_reported_before_the_run(written: str, message: str) -> None:
    with pytest.raises((InputError, WorkflowError)) as caught:
        instances(written)
    assert message in str(caught.value)


def test_too_many_combinations_are_refused_before_they_are_made() -> None:
    axis = '"${{ range(1, 2000) | list }}"'
    with pytest.raises(InputError, match="7,988,005,999 instances are too many"):
        instances(f"matrix: {{a: {axis}, b: {axis}, c: {axis}}}")
