"""Mapped tasks in the plan: instances that are added during the run, and their downstream tasks."""

from __future__ import annotations

import random
from collections import Counter
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import make_plan

from liteflow.planning.graph import Graph
from liteflow.planning.plan import InstanceResult, Plan
from liteflow.planning.retry import RetryPolicy
from liteflow.planning.task_table import Transition, instance_name
from liteflow.planning.trigger_rules import TRIGGER_RULES, TriggerRule, UpstreamCounts, decide
from liteflow.states import TASK_ENDED, TaskStatus, Verdict

FAN: dict[str, list[str]] = {"list": [], "each": ["list"], "sum": ["each"]}


def fan(**extra: object) -> Plan:
    """list -> each (mapped) -> sum, with the list already made."""
    return make_plan(Graph(FAN), mapped={1: False}, done={0: "SUCCESS"}, **extra)  # type: ignore[arg-type]


def states(plan: Plan) -> dict[str, str]:
    return {
        instance_name(task_id, index): status
        for task_id, index, status in zip(plan.table.task_ids, plan.table.map_indexes, plan.table.status, strict=True)
    }


def run_all(plan: Plan, verdicts: dict[str, Verdict] | None = None) -> None:
    """Start and end all tasks that may start, in order; they succeed unless `verdicts` says otherwise."""
    while (node := plan.take(0.0)) is not None:
        name = instance_name(plan.table.task_ids[node], plan.table.map_indexes[node])
        plan.finish(node, (verdicts or {}).get(name, "SUCCESS"), 0.0)


def test_the_list_of_a_mapped_task_is_due_once_and_only_when_it_may_start() -> None:
    plan = make_plan(Graph(FAN), mapped={1: False})
    assert plan.due_lists() == []
    plan.finish(cast(int, plan.take(0.0)), "SUCCESS", 0.0)
    assert plan.due_lists() == [1]
    assert plan.due_lists() == []
    assert plan.take(0.0) is None, "nothing starts before the list is known"


def test_downstream_tasks_wait_for_every_instance() -> None:
    plan = fan()
    assert plan.due_lists() == [1]
    assert plan.expand(1, range(3)) == [Transition(1, "QUEUED", "RUNNING", 0, "3 instances")]
    nodes = [plan.take(0.0) for _ in range(3)]
    assert [plan.table.map_indexes[cast(int, node)] for node in nodes] == [0, 1, 2]
    assert [plan.table.owner(cast(int, node)) for node in nodes] == [1, 1, 1]
    for node in nodes[:2]:
        assert [transition.node for transition in plan.finish(cast(int, node), "SUCCESS", 0.0)] == [node]
    assert plan.take(0.0) is None
    transitions = plan.finish(cast(int, nodes[2]), "SUCCESS", 0.0)
    assert [(transition.node, transition.status) for transition in transitions] == [
        (nodes[2], "SUCCESS"),
        (1, "SUCCESS"),
    ]
    assert plan.take(0.0) == 2


def test_a_task_with_an_empty_list_is_skipped_with_its_downstream_tasks() -> None:
    plan = fan()
    plan.due_lists()
    plan.expand(1, range(0))
    assert states(plan) == {"list": "SUCCESS", "each": "SKIPPED", "sum": "SKIPPED"}
    assert plan.finished
    assert plan.result() == "SUCCESS"


def test_a_list_that_is_not_a_list_fails_the_task() -> None:
    plan = fan()
    plan.due_lists()
    plan.reject_list(1, "is a number")
    assert states(plan) == {"list": "SUCCESS", "each": "FAILED", "sum": "UPSTREAM_FAILED"}
    assert plan.result() == "FAILED"


#: the verdicts of the instances, and the state of the task
WHOLE: list[tuple[list[Verdict], str]] = [
    (["SUCCESS", "SUCCESS"], "SUCCESS"),
    (["SUCCESS", "SKIPPED"], "SUCCESS"),
    (["SKIPPED", "SKIPPED"], "SKIPPED"),
    (["SUCCESS", "FAILED"], "FAILED"),
    (["SKIPPED", "TIMED_OUT"], "FAILED"),
    (["SUCCESS", "CANCELLED"], "CANCELLED"),
    (["CANCELLED", "FAILED"], "FAILED"),
]


@pytest.mark.parametrize(("verdicts", "whole"), WHOLE)
def test_the_task_as_a_whole_is_the_worst_of_its_instances(verdicts: list[Verdict], whole: str) -> None:
    plan = fan()
    plan.due_lists()
    plan.expand(1, range(len(verdicts)))
    run_all(plan, {f"each[{index}]": verdict for index, verdict in enumerate(verdicts)})
    assert plan.table.status[1] == whole


@pytest.mark.parametrize("rule", TRIGGER_RULES)
@pytest.mark.parametrize(("verdicts", "whole"), WHOLE)
def test_trigger_rules_count_instances(rule: TriggerRule, verdicts: list[Verdict], whole: str) -> None:
    plan = fan(rules={2: rule})
    plan.due_lists()
    plan.expand(1, range(len(verdicts)))
    run_all(plan, {f"each[{index}]": verdict for index, verdict in enumerate(verdicts)})
    tally = Counter({"TIMED_OUT": "FAILED", "CANCELLED": "FAILED"}.get(entry, entry) for entry in verdicts)
    counts = UpstreamCounts(len(verdicts), tally["SUCCESS"], tally["FAILED"], tally["SKIPPED"], 0)
    wanted = {"run": "SUCCESS", "skip": "SKIPPED", "upstream_failed": "UPSTREAM_FAILED"}[decide(rule, counts)]
    assert plan.table.status[2] == wanted


def test_an_early_rule_fires_at_the_first_instance() -> None:
    plan = fan(rules={2: "one_success"})
    plan.due_lists()
    plan.expand(1, range(3))
    first = cast(int, plan.take(0.0))
    plan.finish(first, "SUCCESS", 0.0)
    assert plan.table.status[2] == "QUEUED"
    assert plan.table.status[1] == "RUNNING"


def test_each_instance_has_retries_of_its_own() -> None:
    plan = fan(retries={1: RetryPolicy(1)})
    plan.due_lists()
    plan.expand(1, range(2))
    entry, two = cast(int, plan.take(0.0)), cast(int, plan.take(0.0))
    assert plan.finish(entry, "FAILED", 0.0)[0].status == "UP_FOR_RETRY"
    assert plan.finish(two, "FAILED", 0.0)[0].status == "UP_FOR_RETRY"
    assert [plan.take(1.0), plan.take(1.0)] == [entry, two]
    assert plan.finish(entry, "SUCCESS", 1.0)[0].status == "SUCCESS"
    assert [transition.status for transition in plan.finish(two, "FAILED", 1.0)] == [
        "FAILED",
        "FAILED",
        "UPSTREAM_FAILED",
    ]


def test_fail_fast_ends_the_other_instances_and_no_other_task() -> None:
    plan = make_plan(Graph({**FAN, "other": []}), mapped={1: True}, done={0: "SUCCESS"})
    plan.due_lists()
    plan.expand(1, range(4))
    other, first, second = (cast(int, plan.take(0.0)) for _ in range(3))
    assert plan.table.task_ids[other] == "other"
    plan.finish(first, "FAILED", 0.0, reason="no")
    assert plan.to_cancel() == [second], "the caller cancels what runs"
    assert not plan.to_cancel()
    assert states(plan)["each[2]"] == states(plan)["each[3]"] == "CANCELLED"
    assert plan.table.status[1] == "RUNNING"
    plan.finish(second, "CANCELLED", 0.0)
    assert states(plan)["each"] == "FAILED"
    assert states(plan)["sum"] == "UPSTREAM_FAILED"
    assert plan.stopped is None
    plan.finish(other, "SUCCESS", 0.0)
    assert plan.finished


@pytest.mark.parametrize("running", [0, 1, 3])
def test_a_stop_ends_instances_with_their_task(running: int) -> None:
    plan = fan()
    plan.due_lists()
    plan.expand(1, range(3))
    nodes = [cast(int, plan.take(0.0)) for _ in range(running)]
    plan.stop("enough")
    assert (plan.table.status[1] == "CANCELLED") == (running == 0)
    for node in nodes:
        plan.finish(node, "CANCELLED", 0.0)
    assert plan.finished
    assert set(states(plan).values()) == {"SUCCESS", "CANCELLED"}
    assert plan.result() == "CANCELLED"


def test_an_interruption_leaves_the_task_to_be_resumed() -> None:
    plan = fan()
    plan.due_lists()
    plan.expand(1, range(2))
    done, interrupted = cast(int, plan.take(0.0)), cast(int, plan.take(0.0))
    plan.finish(done, "SUCCESS", 0.0)
    plan.pause("by SIGINT")
    plan.finish(interrupted, "CANCELLED", 0.0)
    assert plan.finished
    assert plan.result() == "INTERRUPTED"
    assert plan.table.status[1] == "RUNNING"
    again = fan()
    again.due_lists()
    again.expand(1, range(2), {0: InstanceResult("SUCCESS", 1), 1: InstanceResult("PENDING", 1)})
    node = cast(int, again.take(0.0))
    assert (again.table.map_indexes[node], again.table.attempts[node]) == (1, 2)
    again.finish(node, "SUCCESS", 0.0)
    run_all(again)
    assert again.result() == "SUCCESS"


def test_instances_of_a_preserved_task_still_count_for_downstream_tasks() -> None:
    plan = make_plan(
        Graph(FAN),
        mapped={1: False},
        done={0: "SUCCESS", 1: "SUCCESS"},
        instances={1: {0: InstanceResult("SUCCESS"), 1: InstanceResult("SKIPPED"), 2: InstanceResult("SUCCESS")}},
    )
    assert [(plan.table.task_ids[transition.node], transition.status) for transition in plan.initial_transitions] == [
        ("sum", "SKIPPED")
    ]
    assert "each[1]" in str(plan.initial_transitions[0].reason)


def test_the_reason_names_the_instance() -> None:
    plan = fan()
    plan.due_lists()
    plan.expand(1, range(3))
    run_all(plan, {"each[1]": "FAILED"})
    assert plan.explain(2) == "'each[1]' did not succeed (rule all_success)"


@given(st.integers(0, 2**32))
def test_random_graphs_with_mapped_tasks_end_and_keep_their_promises(seed: int) -> None:
    picks = random.Random(seed)
    size = picks.randint(1, 8)
    names = [f"t{number}" for number in range(size)]
    graph = Graph(
        {name: [other for other in names[:number] if picks.random() < 0.4] for number, name in enumerate(names)}
    )
    rules: dict[int, TriggerRule] = {node: picks.choice(TRIGGER_RULES) for node in range(size) if picks.random() < 0.4}
    mapped = {node: picks.random() < 0.3 for node in range(size) if picks.random() < 0.5}
    retries = {node: RetryPolicy(1) for node in range(size) if picks.random() < 0.3}
    plan = make_plan(graph, rules=rules, mapped=mapped, retries=retries)
    status: dict[int, TaskStatus] = dict.fromkeys(range(size), "PENDING")
    running: list[int] = []
    to_cancel = set[int]()

    def follow(transitions: list[Transition]) -> None:
        for node, before, after, *_ in transitions:
            known = status.get(node, "PENDING")
            assert known == before or (known, before) == ("PENDING", "QUEUED")
            assert known not in TASK_ENDED, "what has ended stays as it is"
            status[node] = after

    follow(plan.initial_transitions)
    for _ in range(10_000):
        while asking := plan.due_lists():  # an empty list may let the next one ask
            for node in asking:
                assert node in mapped
                follow(
                    plan.reject_list(node, "no")
                    if picks.random() < 0.1
                    else plan.expand(node, range(picks.randint(0, 4)))
                )
        while len(running) < 3 and (node := plan.take(0.0)) is not None:
            assert node not in mapped, "what runs is an instance"
            status[node] = "RUNNING"
            running.append(node)
        if not running:
            break
        ended = running.pop(picks.randrange(len(running)))
        to_cancel.update(plan.to_cancel())
        doomed = ended in to_cancel
        verdict: Verdict = "CANCELLED" if doomed else picks.choice(["SUCCESS", "SUCCESS", "FAILED", "SKIPPED"])
        follow(plan.finish(ended, verdict, 0.0))
    assert plan.finished
    assert all(plan.table.status[node] in TASK_ENDED for node in range(len(plan.table.status)))
    assert {node: plan.table.status[node] for node in status} == status
    for node, unfolded in plan.table.mapped.items():
        within = {plan.table.status[entry] for entry in unfolded.nodes}
        assert plan.table.status[node] in within
        assert [plan.table.map_indexes[entry] for entry in unfolded.nodes] == list(range(unfolded.count))
