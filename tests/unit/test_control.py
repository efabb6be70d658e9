"""Control flow in the plan, without clock or files: start checks, decisions, setups, tolerated failures, hooks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from plans import make_plan

from liteflow.planning.branching import Branching, WrongDecision, chosen_names, skipped_by
from liteflow.planning.control_flow import ControlFlow, Tolerance, status_for_downstream
from liteflow.planning.graph import Graph
from liteflow.planning.plan import InstanceResult
from liteflow.planning.retry import Failure
from liteflow.planning.setup_teardown import Teardown, between, needed_setups
from liteflow.planning.task_table import Transition
from liteflow.planning.trigger_rules import SetupCounts, UpstreamCounts, decide, explain


def skipped(graph: Graph, node: str, value: object, decider: Branching, preserved: Sequence[str] = ()) -> set[str]:
    outcome = skipped_by(
        decider, graph.index[node], value, graph.ids, graph.downstream, {graph.index[entry] for entry in preserved}
    )
    return {graph.ids[entry] for entry in outcome}


BRANCH = Branching(kind="branch")
DIAMOND = Graph({"b": [], "x": ["b"], "y": ["b"], "join": ["b", "x", "y"], "end": ["join"]})


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("x", {"y"}),  # the join is reachable from x: it is not skipped (as in Airflow)
        (["x", "y"], set()),
        (None, {"x", "y", "join"}),
        ([], {"x", "y", "join"}),
        ("join", {"x", "y"}),
    ],
)
def test_a_branch_skips_what_it_did_not_choose(value: object, wanted: set[str]) -> None:
    assert skipped(DIAMOND, "b", value, BRANCH) == wanted


@pytest.mark.parametrize("value", ["z", "end", ["x", "b"]])
def test_a_branch_chooses_only_direct_downstream_tasks(value: object) -> None:
    with pytest.raises(WrongDecision, match="not a direct downstream task"):
        skipped(DIAMOND, "b", value, BRANCH)


@pytest.mark.parametrize("value", [3, ["x", 3], {"x": 1}, True])
def test_a_branch_returns_names(value: object) -> None:
    with pytest.raises(WrongDecision, match="a branch returns"):
        chosen_names(value)


def test_a_short_circuit_skips_all_downstream_tasks_or_the_direct_ones() -> None:
    graph = Graph({"s": [], "a": ["s"], "b": ["a"], "down": ["b", "s"]})
    assert skipped(graph, "s", 0, Branching(kind="short_circuit"), ["down"]) == {"a", "b"}
    assert skipped(graph, "s", "", Branching(kind="short_circuit", skips_all=False), ["down"]) == {"a"}
    assert skipped(graph, "s", "no", Branching(kind="short_circuit")) == set(), "text is true, whatever it says"


def test_all_done_setup_success_has_its_exact_meaning() -> None:
    def of(setups: str, others: str = "F") -> str:
        states = setups + others
        return decide(
            "all_done_setup_success",
            UpstreamCounts(len(states), *[states.count(kind) for kind in "SFKU"]),
            SetupCounts(total=len(setups), success=setups.count("S"), skipped=setups.count("K")),
        )

    assert of("") == "run"
    assert of("S") == of("SF") == of("SK") == "run"
    assert of("K") == of("KK") == "skip"
    assert of("F") == of("FK") == of("U") == "upstream_failed"
    assert decide("all_done_setup_success", UpstreamCounts(2, 1), SetupCounts(total=1, success=1)) == "wait"
    words = explain("all_done_setup_success", {"s": "FAILED", "w": "SUCCESS"}, ["s"])
    assert words == "'s' did not succeed (rule all_done_setup_success)"


def test_a_teardown_waits_for_its_scope_and_work_needs_its_setups() -> None:
    graph = Graph({"s": [], "a": ["s"], "b": ["a"], "side": ["a"], "t": ["s", "b"], "after": ["t"]})
    index = graph.index
    assert between([index["s"]], index["t"], graph.upstream, graph.downstream) == [index[x] for x in ("s", "a", "b")]
    needs = needed_setups([index["s"]], {index["t"]: Teardown((index["s"],))}, graph.upstream, graph.downstream)
    assert needs == {index["b"]: [index["s"]]}, "a waits for s directly, side and after are not between"


class Run:
    """A plan that is driven by names."""

    def __init__(
        self, dependencies: dict[str, list[str]], control: ControlFlow | None = None, **options: object
    ) -> None:
        self.graph = Graph(dependencies)
        self.plan = make_plan(self.graph, control=control or ControlFlow(), **options)  # type: ignore[arg-type]

    def take(self) -> str | None:
        node = self.plan.take(0.0)
        return None if node is None else self.plan.table.task_ids[node]

    def end(self, name: str, verdict: str = "SUCCESS", **extra: object) -> dict[str, str]:
        node = self.plan.table.task_ids.index(name)
        transitions: list[Transition] = self.plan.finish(node, verdict, 0.0, **extra)  # type: ignore[arg-type]
        return {self.plan.table.task_ids[transition.node]: transition.status for transition in transitions}


def test_start_checks_are_due_when_the_trigger_rule_lets_the_task_run() -> None:
    run = Run({"a": [], "b": ["a"], "c": ["b"]}, ControlFlow(checked=frozenset([1])))
    assert run.plan.due_checks() == []
    assert run.take() == "a"
    run.end("a")
    assert run.take() is None
    assert run.plan.due_checks() == [1]
    assert run.plan.due_checks() == [], "they are due once"
    assert not run.plan.finished
    assert run.plan.end_unstarted(1, "SKIPPED", "because") == [
        Transition(1, "PENDING", "SKIPPED", 0, "because"),
        Transition(2, "PENDING", "SKIPPED", 0, "'b' was skipped (rule all_success)"),
    ]
    assert run.plan.finished


def test_the_result_of_start_checks_after_a_cancel_changes_nothing() -> None:
    run = Run({"a": []}, ControlFlow(checked=frozenset([0])))
    assert run.plan.due_checks() == [0]
    assert [transition.status for transition in run.plan.stop("cancelled")] == ["CANCELLED"]
    run.plan.pass_checks(0)
    assert run.plan.end_unstarted(0, "SKIPPED", "because") == []
    assert run.take() is None
    assert run.plan.finished


def test_a_tolerated_failure_is_a_success_for_other_tasks_only() -> None:
    run = Run({"a": [], "b": ["a"]}, ControlFlow(tolerances={0: Tolerance(exit_codes=(3,))}), fail_fast=True)
    run.take()
    assert run.end("a", "FAILED", failure=Failure(exit_code=3), reason="exit code 3") == {"a": "FAILED"}
    assert run.plan.stopped is None
    assert run.take() == "b"
    run.end("b")
    assert run.plan.result() == "SUCCESS"
    run = Run({"a": [], "b": ["a"]}, ControlFlow(tolerances={0: Tolerance(exit_codes=(3,))}))
    run.take()
    assert run.end("a", "FAILED", failure=Failure(exit_code=4)) == {"a": "FAILED", "b": "UPSTREAM_FAILED"}
    assert run.plan.result() == "FAILED"
    assert status_for_downstream("FAILED", False) == "FAILED"


def test_a_task_that_reads_the_status_of_others_hides_no_failure() -> None:
    for watchers, result in ((frozenset[int](), "SUCCESS"), (frozenset([1]), "FAILED")):
        run = Run({"a": [], "told": ["a"]}, ControlFlow(status_readers=watchers), rules={1: "all_done"})
        run.take()
        run.end("a", "FAILED")
        assert run.take() == "told"
        run.end("told")
        assert run.plan.result() == result
    run = Run({"a": [], "told": ["a"]}, ControlFlow(status_readers=frozenset([1])), rules={1: "all_done"})
    run.take()
    run.end("a")
    run.take()
    run.end("told", "FAILED")
    assert run.plan.result() == "FAILED", "its own failure counts"


def test_a_failure_is_hidden_by_tasks_that_run_in_spite_of_it() -> None:
    rules = {1: "all_done", 2: "one_success"}
    run = Run({"a": [], "other": ["a"], "use": ["a", "other"]}, ControlFlow(status_readers=frozenset([1])), rules=rules)
    run.take()
    run.end("a", "FAILED")
    for name in ("other", "use"):
        assert run.take() == name
        run.end(name)
    assert run.plan.result() == "SUCCESS"


SETUP = {"s": [], "w": ["s"], "x": ["w"], "t": ["s", "w", "x"]}


def teardown(*, counts: bool = False) -> ControlFlow:
    return ControlFlow(teardowns={3: Teardown((0,), counts)}, needed_setups={2: [0]})


def rules() -> dict[int, str]:
    return {3: "all_done_setup_success"}


def test_a_stopped_run_tears_down_what_was_set_up() -> None:
    run = Run(SETUP, teardown(), rules=rules(), fail_fast=True)
    run.take()
    run.end("s")
    run.take()
    assert run.end("w", "FAILED") == {"w": "FAILED", "x": "CANCELLED"}
    assert not run.plan.finished
    assert run.take() == "t"
    assert run.plan.survives_stop(3)
    run.end("t")
    assert run.plan.finished
    assert run.plan.result() == "FAILED"


def test_a_second_stop_ends_the_teardown_too() -> None:
    run = Run(SETUP, teardown(), rules=rules())
    run.take()
    run.end("s")
    run.take()
    assert {run.plan.table.task_ids[transition.node] for transition in run.plan.stop("cancelled")} == {"x"}
    run.plan.halt("again")
    assert run.end("w", "CANCELLED")["w"] == "CANCELLED"
    assert run.take() is None
    assert run.plan.finished
    assert run.plan.result() == "CANCELLED"


def test_nothing_is_torn_down_that_was_not_set_up() -> None:
    run = Run(SETUP, teardown(), rules=rules())
    assert {
        run.plan.table.task_ids[transition.node]: transition.status for transition in run.plan.stop("cancelled")
    } == {
        "s": "CANCELLED",
        "w": "CANCELLED",
        "x": "CANCELLED",
        "t": "UPSTREAM_FAILED",
    }
    assert run.plan.finished


def test_an_interrupted_run_tears_nothing_down() -> None:
    run = Run(SETUP, teardown(), rules=rules())
    run.take()
    run.end("s")
    run.take()
    run.plan.pause("signal")
    run.end("w", "CANCELLED")
    assert run.take() is None
    assert run.plan.finished
    assert (run.plan.result(), run.plan.table.status[3]) == ("INTERRUPTED", "PENDING")


@pytest.mark.parametrize(("counts", "result"), [(False, "SUCCESS"), (True, "FAILED")])
def test_a_teardown_that_fails(counts: bool, result: str) -> None:
    run = Run(SETUP, teardown(counts=counts), rules=rules())
    for name in ("s", "w", "x"):
        assert run.take() == name
        run.end(name)
    assert run.take() == "t"
    run.end("t", "FAILED")
    assert run.plan.result() == result


def test_work_whose_setup_failed_does_not_run_even_by_another_rule() -> None:
    run = Run(SETUP, teardown(), rules={**rules(), 1: "all_done", 2: "all_done"})  # type: ignore[arg-type]
    run.take()
    run.end("s", "FAILED")
    assert run.take() == "w", "its own rule decides of what it waits for directly"
    assert run.end("w") == {"w": "SUCCESS", "x": "UPSTREAM_FAILED", "t": "UPSTREAM_FAILED"}
    assert run.plan.result() == "FAILED"


def test_decisions_of_an_earlier_part_are_preserved() -> None:
    plan = make_plan(Graph({"b": [], "x": ["b"], "y": ["b"]}), done={0: "SUCCESS"}, skips={0: {1: "branch b chose y"}})
    assert plan.initial_transitions == [Transition(1, "PENDING", "SKIPPED", 0, "branch b chose y")]
    assert plan.take(0.0) == 2


def test_a_hook_is_not_a_task() -> None:
    run = Run({"a": []})
    first = run.plan.add_hook("on_start")
    run.plan.trigger(first, blocking=True)
    assert run.take() == "on_start"
    assert run.take() is None, "nothing else starts before it has ended"
    assert run.end("on_start", "FAILED") == {"on_start": "FAILED"}
    assert run.take() == "a"
    after = run.plan.add_hook("a.on_failure", runs_after_stop=True)
    run.plan.trigger(after)
    assert run.end("a") == {"a": "SUCCESS"}
    assert not run.plan.finished
    assert run.take() == "a.on_failure"
    run.end("a.on_failure", "FAILED")
    assert run.plan.finished
    assert run.plan.result() == "SUCCESS"


def test_a_lost_hook_runs_again_in_a_stopped_run() -> None:
    run = Run({"a": []})
    run.plan.trigger(run.plan.add_hook("a.on_cancel", runs_after_stop=True))
    run.plan.stop("cancelled")
    assert run.take() == "a.on_cancel"
    assert run.end("a.on_cancel", "LOST") == {"a.on_cancel": "UP_FOR_RETRY"}
    assert run.take() == "a.on_cancel"
    run.end("a.on_cancel")
    assert run.plan.finished


def test_a_stopped_run_tears_down_a_mapped_setup_of_an_earlier_part() -> None:
    graph = Graph({"up": [], "work": ["up"], "down": ["up", "work"]})
    control = ControlFlow(teardowns={2: Teardown((0,))}, setups=frozenset([0]))
    plan = make_plan(
        graph,
        rules={2: "all_done_setup_success"},
        control=control,
        done={0: "SUCCESS"},
        mapped={0: False},
        instances={0: {0: InstanceResult("SUCCESS"), 1: InstanceResult("SUCCESS")}},
    )
    plan.stop("cancelled")
    assert plan.table.status[2] == "QUEUED"
