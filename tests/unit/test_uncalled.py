"""A function that adds a task is used where a call of it is meant: told at definition, with what to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from liteflow import Command, Dag, DefinitionError, PayloadError, Task, setup, task, teardown
from liteflow.values.payload import encode


@task
def a() -> int:
    return 1


@task(retries=2)
def renamed(x: Any = None) -> Any:
    return x


@setup
def up() -> None:
    pass


@teardown
def down(x: Any = None) -> None:
    pass


@task
def b(x: Any = None) -> Any:
    return x


def plain(x: Any = None) -> Any:
    return x


class Service:
    @task
    def method(self) -> int:
        return 1


@pytest.fixture
def dag() -> Dag:
    return Dag("flow", "never-made.db")


USES: dict[str, Callable[[Dag], Any]] = {
    "argument by place": lambda dag: b(a),
    "argument by name": lambda dag: b(x=a),
    "in a list": lambda dag: b([1, a]),
    "in a tuple": lambda dag: b((a,)),
    "in a mapping": lambda dag: b({"k": a}),
    "deep inside": lambda dag: b([{"k": [(a,)]}]),
    "in a set": lambda dag: b({a}),
    "in a frozenset": lambda dag: b([frozenset({a})]),
    "of dag.task": lambda dag: dag.task(plain, x=a),
    "of a ready task": lambda dag: Task("t", plain, bound_args={"x": a}),
    "before >>": lambda dag: a >> b(),
    "after >>": lambda dag: b() >> a,
    "in a list after >>": lambda dag: b() >> [b(), a],
    "in a list before >>": lambda dag: [b(), a] >> b(),
    "before <<": lambda dag: a << b(),
    "after <<": lambda dag: b() << a,
    "on both sides of >>": lambda dag: a >> b,
    "on both sides of <<": lambda dag: a << b,
    "list >> function": lambda dag: [b()] >> a,
    "list << function": lambda dag: [b()] << a,
    "expand": lambda dag: b.expand(x=a),
    "an item of expand": lambda dag: b.expand(x=[1, a]),
    "inside an item of expand": lambda dag: b.expand(x=[{"k": a}]),
    "expand_kwargs": lambda dag: b.expand_kwargs(a),
    "a row of expand_kwargs": lambda dag: b.expand_kwargs([{"x": a}]),
    "partial": lambda dag: b.partial(x=a).expand(y=[1]),
    "dag.partial": lambda dag: dag.partial(plain, x=a).expand(y=[1]),
    "setups of a teardown": lambda dag: down().as_teardown(setups=a),
    "variable of a command": lambda dag: Task("t", body=Command(("true",), env={"X": a})),  # type: ignore[dict-item]
    "word of a command": lambda dag: Task("t", body=Command(("echo", a))),  # type: ignore[arg-type]
    "variable of a script": lambda dag: dag.shell("true", env={"X": a}),
    "what a script waits for": lambda dag: dag.shell("true", depends_on=a),
}


@pytest.mark.parametrize("use", USES)
def test_a_function_that_is_not_called(dag: Dag, use: str) -> None:
    with dag, pytest.raises(DefinitionError, match=r"call it: a\(\)"):
        USES[use](dag)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda dag: b(up), r"call it: up\(\)"),
        (lambda dag: b(renamed), r"call it: renamed\(\)"),
        (lambda dag: b(renamed.override(task_id="other")), r"call it: renamed\(\)"),
        (lambda dag: b(b.partial(x=1)), r"has no list yet; add \.expand"),
        (lambda dag: b() >> b.partial(x=1), r"has no list yet; add \.expand"),
        (lambda dag: b(dag), "is a dag"),
        (lambda dag: b([dag]), "is a dag"),
        (lambda dag: b(Task), "is a class"),
        (lambda dag: b(b().output), r"is a method; call it"),
        (lambda dag: b(a.expand), r"is a method; call it"),
        (lambda dag: b() >> dag, "is a dag"),
        (lambda dag: b({b()}), "cannot be inside a set"),
        (lambda dag: b.expand(x=[{b()}]), "cannot be inside a set"),
        (lambda dag: b({b().output("k")}), "cannot be inside a set"),
    ],
)
def test_other_things_that_denote_no_value(dag: Dag, make: Callable[[Dag], Any], message: str) -> None:
    with dag, pytest.raises(DefinitionError, match=message):
        make(dag)


def test_the_message_names_the_task_and_the_argument(dag: Dag) -> None:
    with dag, pytest.raises(DefinitionError, match=r"task 'b': argument 'x': .*a is a function that adds a task"):
        b(x=a)


def test_a_plain_function_is_a_value_like_any_other(dag: Dag) -> None:
    with dag:
        assert b(plain).bound_args == {"x": plain}
        assert b(x=str).bound_args == {"x": str}


def test_a_decorated_function_may_be_a_hook_or_a_predicate(dag: Dag) -> None:
    dag.task(plain, on_failure=a, run_if=renamed)


def test_a_function_that_is_returned_explains_that_it_has_to_be_called() -> None:
    with pytest.raises(PayloadError, match=r"call it: a\(\)"):
        encode(a)
    with pytest.raises(PayloadError, match=r"call it: a\(\)"):
        encode([1, {"k": a}])
    with pytest.raises(PayloadError, match=r"has no list yet"):
        encode(b.partial(x=1))


def test_a_task_that_returns_a_function_fails_with_what_to_write(db: str) -> None:
    def returns() -> Any:
        return a

    with Dag("returns", db) as dag:
        dag.task(returns)
    for mode in ("thread", "process"):
        assert "call it: a()" in dag.run(mode=mode).failures()["returns"]


def test_a_parameter_of_a_run_is_not_a_task(db: str) -> None:
    with Dag("params", db) as dag:
        entry = b()
    for value, message in (
        (entry, "is not there before the run begins"),
        ([entry.output("k")], "is not there"),
        (a, "call it"),
    ):
        with pytest.raises(DefinitionError, match=message):
            dag.run(params={"x": value})
