"""Groups without processes: the nodes that they become, and their states against an oracle."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from driving import Drive
from fakes import Ends

from liteflow import Call, Dag, DefinitionError, DuplicateTask
from liteflow.api import Group
from liteflow.planning.trigger_rules import count_upstreams, decide
from liteflow.work import Work


def nothing(*_: object, **__: object) -> None:
    """The body of a task; it never runs."""


def upstreams(dag: Dag) -> dict[str, set[str]]:
    graph = dag.graph()
    return {name: {graph.ids[node] for node in graph.upstream[graph.index[name]]} for name in graph.ids}


@pytest.fixture
def dag() -> Dag:
    return Dag("flow", "never-made.db")


def test_a_group_is_a_join_and_its_first_tasks_wait_for_what_it_waits_for(dag: Dag) -> None:
    before = dag.task(nothing, "before")
    with dag.group("load", depends_on=before) as load:
        fetch = dag.task(nothing, "fetch")
        check = dag.task(nothing, "check")
        fetch >> check
    load >> dag.task(nothing, "after")
    assert upstreams(dag) == {
        "before": set(),
        "load.fetch": {"before"},
        "load.check": {"load.fetch"},
        "load": {"load.fetch", "load.check"},
        "after": {"load"},
    }


def test_groups_in_groups_wait_for_the_groups_around_them(dag: Dag) -> None:
    before = dag.task(nothing, "before")
    with dag.group("a", depends_on=before), dag.group("b"):
        dag.task(nothing, "c")
    assert upstreams(dag)["a.b.c"] == {"before"}
    assert upstreams(dag)["a"] == {"a.b"}


def test_an_entry_exists_only_where_something_is_decided_once(dag: Dag) -> None:
    decider = dag.branch(nothing, "decider")
    plain = dag.task(nothing, "plain")
    with dag.group("chosen", depends_on=decider):
        dag.task(nothing, "a")
    with dag.group("ruled", depends_on=plain, trigger_rule="all_done"):
        dag.task(nothing, "a")
    with dag.group("empty", depends_on=plain):
        pass
    with dag.group("simple", depends_on=plain):
        dag.task(nothing, "a")
    names = upstreams(dag)
    assert {name for name in names if name.endswith(".entry")} == {"chosen.entry", "ruled.entry", "empty.entry"}
    assert names["ruled.a"] == {"ruled.entry"}
    assert names["ruled.entry"] == {"plain"}
    assert names["simple.a"] == {"plain"}


def test_a_parameter_takes_the_task_of_the_nearest_group(dag: Dag) -> None:
    dag.task(lambda: 1, "data")
    with dag.group("load"):
        dag.task(lambda: 2, "data")
        inner = dag.task(lambda data: data, "use")
    outer = dag.task(lambda data: data, "use")
    assert inner.arg_dependencies == {"data": "load.data"}
    assert outer.arg_dependencies == {"data": "data"}


def test_equal_names_in_two_groups_are_two_tasks(dag: Dag) -> None:
    for name in ("a", "b"):
        with dag.group(name):
            dag.task(nothing, "load")
            dag.shell("true")
            dag.shell("true")
    assert [name for name in dag.tasks if name.startswith("b")] == ["b", "b.load", "b.shell", "b.shell__1"]


def test_every_way_to_add_a_task_gives_it_an_id_in_the_group(dag: Dag) -> None:
    with dag.group("load"):
        dag.add("call", Call(nothing))
        dag.approval("go on?", "ok")
        dag.approval("and now?")
        dag.sensor(nothing, "seen")
        dag.shell("true", "command")
        dag.partial(nothing, "each").expand(item=[1])
        dag.workflow("child", Dag("other", "never-made.db"))
    assert {name for name in dag.tasks if not name.startswith("load")} == set()
    assert {
        "load.call",
        "load.ok",
        "load.approval",
        "load.seen",
        "load.command",
        "load.each",
        "load.child",
    } < dag.tasks.keys()


def test_mistakes_of_groups_name_task_and_group(dag: Dag) -> None:
    with dag.group("load") as load:
        member = dag.task(nothing, "fetch")
    with pytest.raises(DuplicateTask, match=r"load\.fetch"):
        dag.task(nothing, "load.fetch")
    with pytest.raises(DefinitionError, match="retries"):
        dag.group("other", retries=2)
    with pytest.raises(DefinitionError, match="has no value"):
        load.output()
    load >> member
    with pytest.raises(DefinitionError, match=r"'load\.fetch' is in group 'load', so it cannot wait for it"):
        dag.graph()


def test_an_id_that_looks_like_that_of_a_member_is_refused(dag: Dag) -> None:
    dag.task(nothing, "load.fetch")
    with dag.group("load"):
        dag.task(nothing, "check")
    with pytest.raises(DefinitionError, match="looks like that of a task in group 'load'"):
        dag.compile()


def test_a_group_cannot_wait_for_its_member(dag: Dag) -> None:
    with dag.group("load") as load:
        member = dag.task(nothing, "fetch")
    member >> load
    with pytest.raises(DefinitionError, match="which is in it"):
        dag.compile()


# -- states ----------------------------------------------------------------------------------------------------------


class Case:
    """A random dag with nested groups, and how its tasks end."""

    def __init__(self, seed: int, *, rules: bool) -> None:
        self.picks = picks = random.Random(seed)
        self.rules = rules
        self.dag = Dag("flow", "never-made.db")
        self.made: list[Any] = []
        self.fill(3)
        self.ends = {
            name: picks.choices(["SUCCESS", "FAILED", "SKIPPED" if rules else "SUCCESS"], [6, 1, 1])[0]
            for name in self.dag.tasks
        }

    def fill(self, depth: int) -> None:
        picks = self.picks
        for _ in range(picks.randint(0 if depth < 3 else 2, 3)):
            name = f"n{len(self.made)}"
            options = {}
            if self.rules and picks.random() < 0.3:
                options["trigger_rule"] = picks.choice(["all_done", "one_failed", "none_failed", "all_success"])
            before = [other for other in self.made if picks.random() < 0.25 and not self.is_open(other)]
            if depth and picks.random() < 0.4:
                with self.dag.group(name, depends_on=before, **options) as group:
                    self.made.append(group)
                    self.fill(depth - 1)
            else:
                self.made.append(self.dag.task(nothing, name, **options))
                self.made[-1] << before

    def is_open(self, other: Any) -> bool:
        from liteflow.definition.groups import open_group

        around = open_group(self.dag)
        return isinstance(other, Group) and f"{around}.".startswith(f"{other.task_id}.")

    def run(self, dag: Dag | None = None) -> Mapping[str, str]:
        def script(work: Work) -> Ends:
            return Ends(verdict=self.ends[work.task_id])  # type: ignore[arg-type]

        drive = Drive(dag or self.dag, workers=3, script=script)
        drive.check_end(drive.run())
        return drive.states()


class Oracle:
    """The states that the definition of groups says, computed apart from the engine."""

    def __init__(self, case: Case) -> None:
        self.tasks = case.dag.tasks
        self.ends = case.ends
        self.known: dict[str, str] = {}

    def around(self, name: str) -> list[str]:
        groups = []
        while name := self.tasks[name].group:
            groups.append(name)
        return groups

    def state(self, name: str) -> str:
        if name not in self.known:
            self.known[name] = self._group(name) if isinstance(self.tasks[name], Group) else self._task(name)
        return self.known[name]

    def _group(self, name: str) -> str:
        members = [self.state(each) for each, task in self.tasks.items() if task.group == name]
        entry = self.entry(name)
        if entry not in (None, "SUCCESS"):
            members.append(str(entry))
        order = ["FAILED", "CANCELLED", "UPSTREAM_FAILED", "SUCCESS", "SKIPPED"]
        return min(members, key=order.index) if members else "SUCCESS"

    def entry(self, name: str) -> str | None:
        """Return the state of the entry of a group; None where it has none."""
        group = self.tasks[name]
        is_empty = not any(task.group == name for task in self.tasks.values())
        if group.trigger_rule == "all_success" and not (is_empty and group.dependencies):
            return None
        closed = self.closed(name)
        return (
            closed or {"run": "SUCCESS", "skip": "SKIPPED", "upstream_failed": "UPSTREAM_FAILED"}[self.decision(name)]
        )

    def closed(self, name: str) -> str | None:
        """Return the state that a group around gives to all that is in it, if it does not run."""
        for group in self.around(name):
            entry = self.entry(group)
            if entry not in (None, "SUCCESS"):
                return "SKIPPED" if entry == "SKIPPED" else "UPSTREAM_FAILED"
        return None

    def decision(self, name: str) -> str:
        states = [self.state(other) for other in self.tasks[name].dependencies]
        inner = name
        for group in self.around(name):
            if any(group in self.around(other) for other in self.tasks[inner].dependencies):
                break
            if self.entry(group) is not None:
                break
            states += [self.state(other) for other in self.tasks[group].dependencies]
            inner = group
        return decide(self.tasks[name].trigger_rule, count_upstreams(states))

    def _task(self, name: str) -> str:
        if (closed := self.closed(name)) is not None:
            return closed
        decision = self.decision(name)
        return self.ends[name] if decision == "run" else {"skip": "SKIPPED"}.get(decision, "UPSTREAM_FAILED")


def test_random_groups_end_as_their_definition_says() -> None:
    for seed in range(400):
        case = Case(seed, rules=True)
        states, oracle = case.run(), Oracle(case)
        assert {name: states[name] for name in case.dag.tasks} == {name: oracle.state(name) for name in case.dag.tasks}


def test_without_rules_and_skips_the_tasks_end_as_in_the_same_graph_without_groups() -> None:
    for seed in range(400):
        case = Case(seed, rules=False)
        grouped = case.run()
        flat = Dag("flow", "never-made.db")
        leaves = {name: _leaves(case.dag, name) for name in case.dag.tasks}
        graph = case.dag.graph()
        for name, task in case.dag.tasks.items():
            if not isinstance(task, Group):
                flat.task(nothing, name)
        for name in flat.tasks:
            before: set[str] = set()
            for node in graph.upstream[graph.index[name]]:
                above = graph.ids[node]
                before |= leaves.get(above, set()) if above in leaves else _before_entry(case.dag, above, leaves)
            flat.tasks[name].dependencies |= before
        assert {name: grouped[name] for name in flat.tasks} == dict(case.run(flat)), seed


def _leaves(dag: Dag, name: str) -> set[str]:
    """Return the tasks that a name stands for: what waits for an empty group waits for what the group waits for."""
    if not isinstance(dag.tasks[name], Group):
        return {name}
    members = [each for each, task in dag.tasks.items() if task.group == name]
    if not members:
        return set().union(*(_leaves(dag, other) for other in dag.tasks[name].dependencies))
    return set().union(*(_leaves(dag, each) for each in members))


def _before_entry(dag: Dag, entry: str, leaves: Mapping[str, set[str]]) -> set[str]:
    graph = dag.graph()
    return set().union(*(leaves[graph.ids[node]] for node in graph.upstream[graph.index[entry]]))


def test_a_group_that_does_not_run_ends_all_its_members_under_any_rule(dag: Dag) -> None:
    failed = dag.task(nothing, "failed")
    with dag.group("load", depends_on=failed, trigger_rule="none_failed"):
        dag.task(nothing, "first")
        dag.task(nothing, "last", trigger_rule="all_done") << dag.tasks["load.first"]
    drive = Drive(dag, script=lambda work: Ends(verdict="FAILED"))
    drive.run()
    assert drive.states() == {
        "failed": "FAILED",
        "load.entry": "UPSTREAM_FAILED",
        "load.first": "UPSTREAM_FAILED",
        "load.last": "UPSTREAM_FAILED",
        "load": "UPSTREAM_FAILED",
    }


def test_a_join_ends_again_when_a_member_runs_again(dag: Dag) -> None:
    with dag.group("load") as load:
        dag.task(nothing, "a", continue_on_error=True)
    load >> dag.task(nothing, "after")
    verdicts = iter(["FAILED", "FAILED", "SUCCESS", "SUCCESS"])
    drive = Drive(dag, script=lambda work: Ends(verdict=next(verdicts)))  # type: ignore[arg-type]
    assert drive.run().status == "FAILED"
    assert drive.states()["load"] == "SUCCESS", "the failure is tolerated"
    drive.resume()
    history = [event.status for event in drive.file.events if event.task_id == "load"]
    assert history == ["SUCCESS", "PENDING", "SUCCESS"]


def test_a_cancelled_run_shows_what_became_of_each_group(dag: Dag) -> None:
    with dag.group("done"):
        dag.task(nothing, "a")
    with dag.group("failed"):
        dag.task(nothing, "b")
    with dag.group("waiting", depends_on=dag.tasks["failed"]):
        dag.task(nothing, "c")
    verdict = {"failed.b": "FAILED"}
    drive = Drive(
        dag,
        workers=2,
        script=lambda work: Ends(verdict=verdict.get(work.task_id, "SUCCESS"), after_s=1),  # type: ignore[arg-type]
        config={"fail_fast": True},
    )
    drive.run()
    assert {name: drive.states()[name] for name in ("done", "failed", "waiting")} == {
        "done": "SUCCESS",
        "failed": "FAILED",
        "waiting": "CANCELLED",
    }
