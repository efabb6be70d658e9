"""Tasks by themselves: ids, options, arguments, wiring. No run."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from liteflow import Call, Command, Dag, DefinitionError, DuplicateTask, Task, task
from liteflow.planning.trigger_rules import TRIGGER_RULES
from liteflow.work import Ref


def extract() -> int:
    return 1


def transform(data: int, factor: int = 2) -> int:
    return data * factor


@pytest.fixture
def dag() -> Dag:
    return Dag("flow", "never-made.db")


@pytest.mark.parametrize("name", ["a", "A-1", "0", "_x", "a.b.c", "x" * 128, "a__1"])
def test_ids_that_may_be(name: str) -> None:
    assert Task(name, extract).task_id == name


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "a b", "a/b", "ä", "a\n", "x" * 129, "../x", "a;b", "$(x)", "a\x00", None, 3, b"a"]
)
def test_ids_that_may_not_be(name: Any) -> None:
    with pytest.raises(DefinitionError, match="not allowed"):
        Task(name, extract)
    with pytest.raises(DefinitionError, match="not allowed"):
        Dag(name)


def test_a_task_is_a_function_or_a_body() -> None:
    command = Command(("true",))
    assert Task("c", body=command).body() is command
    with pytest.raises(DefinitionError, match="not both"):
        Task("a")
    with pytest.raises(DefinitionError, match="not both"):
        Task("a", extract, body=command)
    with pytest.raises(DefinitionError, match="cannot be called"):
        Task("a", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retries", -1),
        ("retries", 1.5),
        ("retries", True),
        ("retries", "2"),
        ("retry_delay", -0.1),
        ("retry_delay", float("nan")),
        ("retry_delay", float("inf")),
        ("retry_delay", None),
        ("retry_jitter", -1),
        ("retry_backoff", 0.5),
        ("max_retry_delay", -1),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", float("nan")),
        ("timeout", "30"),
        ("timeout", True),
        ("kill_grace", -1),
        ("trigger_rule", "all_sucess"),
        ("trigger_rule", None),
        ("mode", ""),
        ("mode", 3),
        ("retry_on", ValueError),  # not in a list
        ("retry_on", "OSError"),
        ("retry_on", [3]),
        ("retry_on_exit_codes", 75),
        ("retry_on_exit_codes", ["75"]),
    ],
)
def test_options_that_make_no_sense(dag: Dag, option: str, value: object) -> None:
    with pytest.raises(DefinitionError, match=rf"'extract': {option}="):
        dag.task(extract, **{option: value})
    assert dag.tasks == {}
    with pytest.raises(DefinitionError, match=option):
        task(**{option: value})


@pytest.mark.parametrize("rule", TRIGGER_RULES)
def test_every_rule_is_an_option(dag: Dag, rule: str) -> None:
    assert dag.task(extract, trigger_rule=rule).trigger_rule == rule


def test_options_and_arguments_share_the_call(dag: Dag) -> None:
    a = dag.task(extract)
    b = dag.task(transform, data=a, factor=3, retries=2, retry_delay=1, timeout=30)
    assert (b.retries, b.retry_delay, b.timeout) == (2, 1, 30)
    assert b.bound_args == {"factor": 3}
    assert b.arg_dependencies == {"data": "extract"}
    assert b.dependencies == {"extract"}
    assert b.body() == Call(transform, {"factor": 3, "data": Ref("extract")})


def test_a_retry_policy_knows_classes_and_names(dag: Dag) -> None:
    policy = dag.task(extract, retries=1, retry_on=[OSError, "MyError"], retry_on_exit_codes=[75]).options.retry
    assert policy.on_exceptions == ("OSError", "MyError")
    assert policy.on_exit_codes == (75,)


def test_an_argument_the_function_does_not_take(dag: Dag) -> None:
    with pytest.raises(DefinitionError, match=r"'transform'.*no argument 'factr'; did you mean 'factor'\?"):
        dag.task(transform, data=1, factr=2)
    with pytest.raises(DefinitionError, match=r"did you mean 'retries'\?"):
        dag.task(transform, data=1, retrys=2)
    with pytest.raises(DefinitionError, match=r"no option 'timeot'; did you mean 'timeout'\?"):
        task(timeot=3)
    assert dag.tasks == {}, "a task that was refused is not half there"


def test_a_function_in_a_container_is_refused_with_what_to_write() -> None:
    dag = Dag("d")
    with pytest.raises(DefinitionError, match=r"no option 'container'; a function stays .*docker\(IMAGE"):
        task(container="python:3.12-slim")
    with pytest.raises(DefinitionError, match=r"no argument 'container'; a function stays .*docker\(IMAGE"):
        dag.task(extract, container="python:3.12-slim")


def test_tasks_deep_in_arguments(dag: Dag) -> None:
    def collect(many: object) -> object:
        return many

    a, b, c = (dag.task(extract, task_id=name) for name in "abc")
    d = dag.task(collect, many=[a, {"k": (b, [c, 1])}, a])
    assert d.dependencies == {"a", "b", "c"}
    assert d.inputs() == {Ref("a"), Ref("b"), Ref("c")}
    assert d.bound_args == {"many": [Ref("a"), {"k": (Ref("b"), [Ref("c"), 1])}, Ref("a")]}


def test_the_users_containers_are_left_alone(dag: Dag) -> None:
    a = dag.task(extract, task_id="a")
    given = {"x": [a]}
    dag.task(lambda data: data, task_id="b", data=given)
    assert given == {"x": [a]}


def test_wiring(dag: Dag) -> None:
    a, b, c, d, e, f = (dag.task(extract, task_id=name) for name in "abcdef")
    assert (a >> b) is b
    assert (a >> b >> [c, d]) == [c, d]
    [c, d] >> e
    f << [c, e]
    assert b.dependencies == {"a"}
    assert c.dependencies == d.dependencies == {"b"}
    assert e.dependencies == {"c", "d"}
    assert f.dependencies == {"c", "e"}


def test_wiring_backwards(dag: Dag) -> None:
    a, b, c, d = (dag.task(extract, task_id=name) for name in "abcd")
    assert (b << a) is a
    [c, d] << b
    assert b.dependencies == {"a"}
    assert c.dependencies == d.dependencies == {"b"}
    e = dag.task(extract, task_id="e")
    (a, b) >> e
    assert e.dependencies == {"a", "b"}


@pytest.mark.parametrize("other", ["b", None, 3, ["b"], [None], {"b": 1}])
def test_only_tasks_can_be_wired(dag: Dag, other: Any) -> None:
    a = dag.task(extract)
    for wire in (lambda: a >> other, lambda: a << other, lambda: other >> a, lambda: other << a):
        with pytest.raises(DefinitionError, match="only tasks"):
            wire()


def test_parameters_named_like_a_task_are_filled(dag: Dag) -> None:
    def load(extract: int, later: int, factor: int = 2) -> None: ...

    def later() -> int:
        return 2

    dag.task(extract)
    loaded = dag.task(load)
    assert loaded.arg_dependencies == {"extract": "extract"}
    dag.task(later)
    dag.graph()
    assert loaded.arg_dependencies == {"extract": "extract", "later": "later"}
    assert loaded.dependencies == {"extract", "later"}


def test_a_given_value_wins_over_a_task_of_that_name(dag: Dag) -> None:
    def load(extract: int) -> None: ...

    dag.task(extract)
    loaded = dag.task(load, extract=5)
    dag.graph()
    assert loaded.dependencies == set()
    assert loaded.bound_args == {"extract": 5}


def test_a_parameter_with_the_tasks_own_name_is_not_itself(dag: Dag) -> None:
    def same(same: int = 1) -> int:
        return same

    assert dag.task(same).dependencies == set()
    dag.graph()


def test_a_missing_parameter(dag: Dag) -> None:
    dag.task(transform)
    with pytest.raises(DefinitionError, match=r"'transform': parameter 'data' has no value"):
        dag.graph()


def test_callables_of_every_kind(dag: Dag) -> None:
    class Job:
        def run(self, x: int) -> int:
            return x

        def __call__(self, y: int = 1) -> int:
            return y

    dag.task(Job().run, x=1)
    dag.task(Job(), task_id="object")
    dag.task(functools.partial(transform, 3), task_id="partial")
    dag.task(lambda **kw: kw, task_id="any", whatever=1)
    dag.task(lambda *, k: k, task_id="keyword", k=1)
    dag.graph()
    assert list(dag.tasks) == ["run", "object", "partial", "any", "keyword"]


def test_parameters_by_position_only(dag: Dag) -> None:
    def odd(a: int, /) -> int:
        return a

    with pytest.raises(DefinitionError, match=r"odd: parameter 'a' can only be given by position"):
        dag.task(odd)


def test_no_name_no_task(dag: Dag) -> None:
    for nameless in (lambda: 1, functools.partial(extract)):
        with pytest.raises(DefinitionError, match="task_id="):
            dag.task(nameless)
    with pytest.raises(DefinitionError, match="takes a function"):
        dag.task(7)  # type: ignore[arg-type]


def test_a_task_has_no_value_yet(dag: Dag) -> None:
    a = dag.task(extract)
    with pytest.raises(TypeError, match="has no value while the dag is being built"):
        list(a)  # as in `x, y = a`
    assert a
    assert repr(a) == "<Task 'extract'>"


def test_duplicates(dag: Dag) -> None:
    dag.task(extract)
    for kind in (DuplicateTask, ValueError):
        with pytest.raises(kind, match=r"'flow' has a task 'extract' already"):
            dag.task(extract)
    assert len(dag.tasks) == 1


# -- decorators -------------------------------------------------------------------------------------------


@task
def plain(x: int = 1) -> int:
    """Its docstring."""
    return x + 1


@task(retries=3, timeout=60)
def careful(x: int) -> int:
    return x * 10


def test_outside_a_dag_a_decorated_function_just_runs() -> None:
    assert plain(4) == 5
    assert careful(x=2) == 20
    assert plain.__name__ == "plain"
    assert plain.__doc__ == "Its docstring."


def test_inside_a_dag_a_call_is_a_task() -> None:
    with Dag("flow") as dag:
        first = plain()
        second = careful(first)
        third = plain(x=second)
    assert plain(1) == 2
    assert list(dag.tasks) == ["plain", "careful", "plain__1"]
    assert second.arg_dependencies == {"x": "plain"}
    assert (second.retries, second.timeout) == (3, 60)
    assert third.dependencies == {"careful"}


def test_override_is_a_copy() -> None:
    with Dag("flow") as dag:
        careful.override(task_id="other", retries=0)(1)
        careful(2)
    assert dag.tasks["other"].retries == 0
    assert dag.tasks["other"].timeout == 60
    assert dag.tasks["careful"].retries == 3


def test_override_checks_its_options() -> None:
    with pytest.raises(DefinitionError, match=r"no option 'retrys'; did you mean 'retries'\?"):
        careful.override(retrys=1)
    with pytest.raises(DefinitionError, match="retries=-1"):
        careful.override(retries=-1)


def test_wrong_calls_of_decorated_functions() -> None:
    with Dag("flow"):
        with pytest.raises(DefinitionError, match="takes 1 arguments by position, 2 given"):
            plain(1, 2)
        with pytest.raises(DefinitionError, match="'x' is given twice"):
            plain(1, x=2)
        with pytest.raises(DefinitionError, match="no argument 'y'"):
            plain(y=2)


def test_decorators_of_a_dag(dag: Dag) -> None:
    @dag.task
    def one() -> int:
        return 1

    @dag.task(retries=2, task_id="zwei")
    def two(one: int) -> int:
        return one + 1

    assert isinstance(one, Task)
    assert dag.tasks == {"one": one, "zwei": two}
    assert two.retries == 2
    assert two.dependencies == {"one"}


def test_a_decorated_function_may_be_given_to_dag_task(dag: Dag) -> None:
    assert dag.task(plain, x=4).bound_args == {"x": 4}
    assert dag.task(careful, x=4).retries == 3, "it keeps the options of its decorator"


def test_dags_nest() -> None:
    with Dag("outer") as outer:
        with Dag("inner") as inner:
            plain()
        plain()
        plain()
    assert list(inner.tasks) == ["plain"]
    assert list(outer.tasks) == ["plain", "plain__1"]


def test_the_block_ends_with_an_exception_too() -> None:
    with pytest.raises(ZeroDivisionError), Dag("flow"):
        1 / 0  # noqa: B018
    assert plain(1) == 2


def test_methods_can_be_decorated() -> None:
    class Job:
        @task
        def run(self, x: int) -> int:
            return x + 1

    assert Job().run(1) == 2


def test_building_a_dag_makes_no_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Dag("flow", "state.db") as dag:
        plain()
    dag.graph()
    dag.compile()
    assert list(tmp_path.iterdir()) == []
