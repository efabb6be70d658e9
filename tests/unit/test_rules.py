"""Trigger rules against the whole truth table that was measured in Airflow 3.3.2."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import make_plan

from liteflow.planning.graph import Graph
from liteflow.planning.trigger_rules import TRIGGER_RULES, TriggerRule, UpstreamCounts, count_upstreams, decide, explain

# S success, F failed, K skipped, U upstream_failed.
# The two cells of all_success with K and U (KU, SKU) depend on timing in Airflow (a skip seen first gives SKIP).
# Here failure always beats skip, so they are UF: the answer may not depend on who finished first.
TABLE = """
rule                        S    F    K    U    SF   SK   SS   SU   FF   FK   FU   KK   KU   UU   SFK  SFU  SKU  FKU
all_success                 run  UF   SKIP UF   UF   SKIP run  UF   UF   UF   UF   SKIP UF   UF   UF   UF   UF   UF
all_failed                  SKIP run  SKIP run  SKIP SKIP SKIP SKIP run  SKIP run  SKIP SKIP run  SKIP SKIP SKIP SKIP
all_done                    run  run  run  run  run  run  run  run  run  run  run  run  run  run  run  run  run  run
all_done_min_one_success    run  UF   SKIP UF   run  SKIP run  run  UF   SKIP UF   SKIP SKIP UF   SKIP run  SKIP SKIP
all_done_setup_success      run  run  run  run  run  run  run  run  run  run  run  run  run  run  run  run  run  run
all_skipped                 SKIP SKIP run  SKIP SKIP SKIP SKIP SKIP SKIP SKIP SKIP run  SKIP SKIP SKIP SKIP SKIP SKIP
always                      run  run  run  run  run  run  run  run  run  run  run  run  run  run  run  run  run  run
none_failed                 run  UF   run  UF   UF   run  run  UF   UF   UF   UF   run  UF   UF   UF   UF   UF   UF
none_failed_min_one_success run  UF   SKIP UF   UF   run  run  UF   UF   UF   UF   SKIP UF   UF   UF   UF   UF   UF
none_skipped                run  run  SKIP run  run  SKIP run  run  run  SKIP run  SKIP SKIP run  SKIP run  SKIP SKIP
one_done                    run  run  SKIP SKIP run  run  run  run  run  run  run  SKIP SKIP SKIP run  run  run  run
one_failed                  SKIP run  SKIP run  run  SKIP SKIP run  run  run  run  SKIP run  run  run  run  run  run
one_success                 run  UF   SKIP UF   run  run  run  run  UF   UF   UF   SKIP UF   UF   run  run  run  UF
"""
WORDS = {"run": "run", "SKIP": "skip", "UF": "upstream_failed"}
ROWS = [line.split() for line in TABLE.strip().splitlines()]
CASES = [
    pytest.param(row[0], states, WORDS[cell], id=f"{row[0]}-{states}")
    for row in ROWS[1:]
    for states, cell in zip(ROWS[0][1:], row[1:], strict=True)
]


def counts_of(states: str, total: int | None = None) -> UpstreamCounts:
    numbers = [states.count(letter) for letter in "SFKU"]
    return UpstreamCounts(len(states) if total is None else total, *numbers)


def test_the_table_is_whole() -> None:
    assert len(CASES) == 13 * 18
    assert tuple(sorted(row[0] for row in ROWS[1:])) == tuple(sorted(TRIGGER_RULES))


@pytest.mark.parametrize(("rule", "states", "wanted"), CASES)
def test_truth_table(rule: TriggerRule, states: str, wanted: str) -> None:
    assert decide(rule, counts_of(states)) == wanted


def run_plan(rule: TriggerRule, states: str, order: tuple[int, ...]) -> str:
    """The same case through a plan: upstreams that really end so, in the given order of finishing."""
    names = [f"u{number}" for number in range(len(states))]
    dependencies: dict[str, list[str]] = {}
    for name, state in zip(names, states, strict=True):
        if state == "U":
            dependencies[f"above_{name}"] = []
        dependencies[name] = [f"above_{name}"] if state == "U" else []
    dependencies["t"] = names
    graph = Graph(dependencies)
    target = graph.index["t"]
    plan = make_plan(graph, rules={target: rule})
    began = []
    while (node := plan.take(0.0)) is not None:
        began.append(node)
    for number in order:
        name = names[number]
        node = graph.index[f"above_{name}" if states[number] == "U" else name]
        verdict = {"S": "SUCCESS", "F": "FAILED", "K": "SKIPPED", "U": "FAILED"}[states[number]]
        plan.finish(node, verdict, 0.0)  # type: ignore[arg-type]
    if target in began or plan.take(0.0) == target:
        return "run"
    return {"SKIPPED": "skip", "UPSTREAM_FAILED": "upstream_failed"}[plan.table.status[target]]


@pytest.mark.parametrize(("rule", "states", "wanted"), CASES)
def test_truth_table_through_a_plan_in_every_order(rule: TriggerRule, states: str, wanted: str) -> None:
    for order in itertools.permutations(range(len(states))):
        assert run_plan(rule, states, order) == wanted, order


@pytest.mark.parametrize("rule", TRIGGER_RULES)
def test_a_task_without_upstream_runs_under_every_rule(rule: TriggerRule) -> None:
    assert decide(rule, UpstreamCounts(0)) == "run"
    assert make_plan(Graph({"a": ()}), rules={0: rule}).take(0.0) == 0


@pytest.mark.parametrize(
    ("rule", "state", "wanted"),
    [
        ("one_success", "S", "run"),
        ("one_success", "F", "wait"),
        ("one_success", "K", "wait"),
        ("one_success", "U", "wait"),
        ("one_failed", "F", "run"),
        ("one_failed", "U", "run"),
        ("one_failed", "S", "wait"),
        ("one_failed", "K", "wait"),
        ("one_done", "S", "run"),
        ("one_done", "F", "run"),
        ("one_done", "K", "wait"),
        ("one_done", "U", "wait"),
    ],
)
def test_one_rules_decide_before_all_upstream_tasks_have_ended(rule: TriggerRule, state: str, wanted: str) -> None:
    assert decide(rule, counts_of(state, total=5)) == wanted


@pytest.mark.parametrize("rule", [rule for rule in TRIGGER_RULES if rule.startswith(("all", "none"))])
@pytest.mark.parametrize("states", ["", "S", "F", "K", "U", "SFK"])
def test_all_and_none_rules_wait_for_the_last_upstream(rule: TriggerRule, states: str) -> None:
    assert decide(rule, counts_of(states, total=len(states) + 1)) == "wait"


def test_always_starts_at_once() -> None:
    assert decide("always", counts_of("", total=3)) == "run"


@given(st.sampled_from(TRIGGER_RULES), st.text("SFKU", max_size=6), st.integers(0, 3))
def test_a_decision_never_changes_by_what_ends_later(rule: TriggerRule, states: str, open_ones: int) -> None:
    """A decision to run is final, because the rule is applied again as each upstream ends."""
    total = len(states) + open_ones
    decision = decide(rule, counts_of(states, total))
    if open_ones == 0:
        assert decision != "wait"
    for extra in "SFKU" if open_ones else "":
        later = decide(rule, counts_of(states + extra, total))
        assert decision == "wait" or later == decision


def test_a_cancelled_upstream_counts_as_failed() -> None:
    assert count_upstreams(["SUCCESS", "CANCELLED", "RUNNING", "SKIPPED"]) == UpstreamCounts(4, 1, 1, 1, 0)


@pytest.mark.parametrize(("rule", "states", "wanted"), CASES)
def test_explain_gives_the_decision(rule: TriggerRule, states: str, wanted: str) -> None:
    words = {"S": "SUCCESS", "F": "FAILED", "K": "SKIPPED", "U": "UPSTREAM_FAILED"}
    text = explain(rule, {f"u{number}": words[state] for number, state in enumerate(states)})
    assert rule in text
    reported = {"run": "may run", "skip": "skipped", "upstream_failed": "did not succeed"}[wanted]
    assert reported in text


def test_explain_names_open_upstream_tasks_and_is_short() -> None:
    text = explain("all_success", {f"task_{number}": "RUNNING" for number in range(1000)})
    assert "'task_0'" in text
    assert "997 more" in text
    assert len(text) < 200
