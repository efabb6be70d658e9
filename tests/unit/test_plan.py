"""The state machine of a run against a naive oracle, with a clock that only transitions when told to."""

from __future__ import annotations

import ast
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import make_plan

from liteflow.planning.graph import Graph
from liteflow.planning.plan import Plan, Stop
from liteflow.planning.retry import MAX_LOST, Failure, RetryPolicy
from liteflow.planning.task_table import Transition
from liteflow.planning.trigger_rules import TRIGGER_RULES, TriggerRule, UpstreamCounts, decide
from liteflow.states import TASK_ENDED, TASK_STATUSES, Verdict

VERDICTS: tuple[Verdict, ...] = ("SUCCESS", "FAILED", "SKIPPED", "TIMED_OUT", "LOST", "CANCELLED")
#: the states that may follow each state; a start is no transition (`take` returns it)
LEGAL = {
    "PENDING": {"SKIPPED", "UPSTREAM_FAILED", "CANCELLED"},
    "QUEUED": {"CANCELLED"},
    "UP_FOR_RETRY": {"CANCELLED"},
    "RUNNING": {"SUCCESS", "FAILED", "SKIPPED", "CANCELLED", "UP_FOR_RETRY", "WAITING"},
    "WAITING": {"SUCCESS", "FAILED", "SKIPPED", "CANCELLED", "UP_FOR_RETRY", "WAITING"},
}


class Case:
    """A random dag with rules, retries and a source of verdicts."""

    def __init__(self, picks: random.Random) -> None:
        self.picks = picks
        self.size = picks.randint(1, 10)
        chance = picks.random()
        names = [f"t{number}" for number in range(self.size)]
        dependencies = {
            name: [other for other in names[:number] if picks.random() < chance] for number, name in enumerate(names)
        }
        order = names[:]
        picks.shuffle(order)  # tasks may be defined before their upstream tasks
        self.graph = Graph({name: dependencies[name] for name in order})
        self.rules: dict[int, TriggerRule] = {
            node: picks.choice(TRIGGER_RULES) for node in range(self.size) if picks.random() < 0.5
        }
        self.retries = {
            node: RetryPolicy(picks.randint(1, 3), picks.choice([0.0, 1.0, 5.0]), picks.choice([1.0, 2.0]))
            for node in range(self.size)
            if picks.random() < 0.4
        }
        self.workers = picks.randint(1, 4)
        self.fail_fast = picks.random() < 0.2
        #: weights of the verdicts, so that some cases are nearly all of one kind
        self.weights = [picks.random() ** 2 + 0.01 for _ in VERDICTS]

    def plan(self, **extra: Any) -> Plan:
        return make_plan(self.graph, retries=self.retries, rules=self.rules, fail_fast=self.fail_fast, **extra)

    def verdict(self) -> Verdict:
        return self.picks.choices(VERDICTS, self.weights)[0]


class Observed:
    """Follows a plan by its transitions alone and checks each of them."""

    def __init__(self, case: Case, plan: Plan, done: dict[int, str] | None = None) -> None:
        self.case, self.plan = case, plan
        self.status = ["PENDING"] * case.size
        self.ended: set[int] = set()
        self.failed_attempts = [0] * case.size
        self.lost = [0] * case.size
        self.due = [0.0] * case.size
        self.running: set[int] = set()
        for node, status in (done or {}).items():
            self.status[node] = status
            self.ended.add(node)
        self.apply(plan.initial_transitions)

    def decision(self, node: int) -> str:
        kinds = {"SUCCESS": 0, "FAILED": 1, "CANCELLED": 1, "SKIPPED": 2, "UPSTREAM_FAILED": 3}
        tally = [0, 0, 0, 0]
        above = self.case.graph.upstream[node]
        for other in above:
            if self.status[other] in kinds:
                tally[kinds[self.status[other]]] += 1
        return decide(self.case.rules.get(node, "all_success"), UpstreamCounts(len(above), *tally))

    def apply(self, transitions: list[Transition]) -> None:
        for node, previous, status, attempt, *_ in transitions:
            here = self.status[node]
            # QUEUED is a state of the plan: a PENDING task that may start
            assert previous == here or (previous, here) == ("QUEUED", "PENDING"), (node, previous, here)
            assert status in LEGAL[previous]
            assert node not in self.ended, "a task ends once"
            assert attempt == self.plan.table.attempts[node]
            if status in ("SKIPPED", "UPSTREAM_FAILED") and previous == "PENDING":
                wanted = {"SKIPPED": "skip", "UPSTREAM_FAILED": "upstream_failed"}[status]
                assert self.decision(node) == wanted
            self.status[node] = status
            if status in TASK_ENDED:
                self.ended.add(node)

    def take(self, now: float) -> int | None:
        node = self.plan.take(now)
        if node is not None:
            assert self.plan.stopped is None
            assert self.status[node] in ("PENDING", "UP_FOR_RETRY")
            assert self.decision(node) == "run"
            assert now >= self.due[node], "not before its delay is over"
            self.status[node] = "RUNNING"
            self.running.add(node)
            assert self.plan.running == self.running
        return node

    def finish(self, node: int, verdict: Verdict, now: float) -> None:
        stopped = self.plan.stopped is not None
        transitions = self.plan.finish(node, verdict, now, reason="because")
        assert (transitions[0].node, transitions[0].previous) == (node, "RUNNING")
        first = transitions[0].status
        if verdict in ("FAILED", "TIMED_OUT"):
            self.failed_attempts[node] += 1
            policy = self.case.retries.get(node, RetryPolicy())
            again = self.failed_attempts[node] <= policy.retries and not stopped
            assert first == ("UP_FOR_RETRY" if again else "FAILED")
            self.due[node] = now + policy.delay_s * policy.backoff ** (self.failed_attempts[node] - 1)
        elif verdict == "LOST":
            self.lost[node] += 1
            again = "CANCELLED" if stopped else "UP_FOR_RETRY" if self.lost[node] <= MAX_LOST else "FAILED"
            assert first == again
        else:
            assert first == verdict
        self.running.discard(node)
        self.apply(transitions)

    def check_over(self) -> None:
        plan = self.plan
        assert plan.finished
        assert not self.running
        assert plan.take(1e12) is None
        for node, status in enumerate(plan.table.status):
            assert status == self.status[node] or (status, self.status[node]) == ("QUEUED", "PENDING")
        if plan.stopped is None:
            assert self.ended == set(range(self.case.size)), "every task ends"
        leaves = {self.status[node] for node in range(self.case.size) if not self.case.graph.downstream[node]}
        if plan.stopped is None:
            if leaves & {"FAILED", "UPSTREAM_FAILED"}:
                assert plan.result() == "FAILED"
            elif "CANCELLED" not in leaves:
                assert plan.result() == "SUCCESS"


def drive(case: Case, watched: Observed, now: float = 0.0) -> float:
    """Run the plan to its end with random verdicts and random steps of the clock."""
    for _ in range(10_000):
        while len(watched.running) < case.workers and watched.take(now) is not None:
            pass
        if watched.plan.finished:
            return now
        if watched.running and case.picks.random() < 0.9:
            watched.finish(case.picks.choice(sorted(watched.running)), case.verdict(), now)
        elif (wakeup := watched.plan.next_retry_at()) is not None:
            assert watched.plan.stopped is None
            now = max(now, case.picks.choice([wakeup, (now + wakeup) / 2]))
        else:
            assert watched.running, "not finished, nothing runs and nothing is due: a deadlock"
    raise AssertionError("the plan does not end")


@given(st.integers(0, 2**32))
def test_any_dag_ends_and_every_transition_is_legal(seed: int) -> None:
    case = Case(random.Random(seed))
    watched = Observed(case, case.plan())
    drive(case, watched)
    watched.check_over()


def test_two_thousand_more_dags() -> None:
    for seed in range(2000):
        case = Case(random.Random(f"plan {seed}"))
        watched = Observed(case, case.plan())
        drive(case, watched)
        watched.check_over()


def test_a_resumed_plan_preserves_ended_tasks_and_ends() -> None:
    """A second plan can start from any state that a first one has left."""
    for seed in range(500):
        case = Case(random.Random(f"resume {seed}"))
        case.fail_fast = False
        first = case.plan()
        watched = Observed(case, first)
        for _ in range(case.picks.randint(0, 6)):
            if watched.take(1e9) is None and not watched.running:
                break
            if watched.running:
                watched.finish(case.picks.choice(sorted(watched.running)), case.verdict(), 0.0)
        done: Any = {
            node: status
            for node, status in enumerate(first.table.status)
            if status == "SUCCESS" or (status == "SKIPPED" and first.table.attempts[node])
        }
        attempts = dict(enumerate(first.table.attempts))
        second = case.plan(done=done, attempts=attempts)
        again = Observed(case, second, done)
        drive(case, again)
        again.check_over()
        for node, status in done.items():
            assert second.table.status[node] == status
            assert second.table.attempts[node] == attempts[node]


def test_a_stopped_plan_cancels_tasks_that_have_not_started() -> None:
    for seed in range(300):
        case = Case(random.Random(f"stop {seed}"))
        plan = case.plan()
        watched = Observed(case, plan)
        for _ in range(case.picks.randint(0, 6)):
            watched.take(1e9)
            if watched.running and case.picks.random() < 0.5:
                watched.finish(case.picks.choice(sorted(watched.running)), case.verdict(), 0.0)
        watched.apply(plan.stop("cancelled by hand"))
        for node in sorted(watched.running):
            watched.finish(node, "CANCELLED", 0.0)
        watched.check_over()
        assert watched.ended == set(range(case.size))
        cut_short = "CANCELLED" in watched.status and not case.fail_fast
        if cut_short:
            assert plan.result() == "CANCELLED"
        assert plan.next_retry_at() is None


def test_a_paused_plan_leaves_open_tasks_to_a_resume() -> None:
    plan = make_plan(Graph({"a": [], "b": [], "c": ["a"]}))
    assert plan.take(0.0) == 0
    plan.pause("interrupted by SIGINT")
    assert plan.take(0.0) is None
    assert not plan.finished  # a still runs
    plan.finish(0, "CANCELLED", 0.0)
    assert plan.finished
    assert plan.result() == "INTERRUPTED"
    assert plan.stopped == Stop("interrupted by SIGINT", "interrupted")
    assert plan.table.status[1] in ("PENDING", "QUEUED")


def test_a_pause_that_came_too_late_changes_nothing() -> None:
    plan = make_plan(Graph({"a": []}))
    plan.take(0.0)
    plan.pause("interrupted")
    plan.finish(0, "SUCCESS", 0.0)
    assert plan.result() == "SUCCESS"


def test_the_first_reason_to_stop_is_preserved() -> None:
    plan = make_plan(Graph({"a": [], "b": []}))
    plan.pause("first")
    plan.stop("second")
    assert plan.stopped == Stop("first", "interrupted")
    assert plan.result() == "INTERRUPTED"


# -- retries -----------------------------------------------------------------------------------------------


def test_retries_wait_for_their_back_off() -> None:
    plan = make_plan(Graph({"a": []}), retries={0: RetryPolicy(retries=2, delay_s=10.0, backoff=3.0)})
    assert plan.take(100.0) == 0
    assert [transition.status for transition in plan.finish(0, "FAILED", 105.0, reason="boom")] == ["UP_FOR_RETRY"]
    assert plan.next_retry_at() == 115.0
    assert plan.take(114.999) is None
    assert plan.take(115.0) == 0
    assert plan.table.attempts[0] == 2
    plan.finish(0, "TIMED_OUT", 120.0)
    assert plan.next_retry_at() == 150.0
    assert plan.take(150.0) == 0
    assert [transition.status for transition in plan.finish(0, "FAILED", 151.0)] == ["FAILED"]
    assert (plan.finished, plan.result(), plan.table.attempts[0]) == (True, "FAILED", 3)


def test_a_retry_does_not_hold_up_other_tasks() -> None:
    plan = make_plan(Graph({"a": [], "b": []}), retries={0: RetryPolicy(1, 1000.0)})
    assert plan.take(0.0) == 0
    plan.finish(0, "FAILED", 0.0)
    assert plan.take(0.0) == 1


def test_the_reason_of_a_retry_explains_when_it_starts() -> None:
    plan = make_plan(Graph({"a": []}), retries={0: RetryPolicy(1, 2.5)})
    plan.take(0.0)
    (transition,) = plan.finish(0, "FAILED", 0.0, reason="ValueError: boom")
    assert transition.reason == "ValueError: boom; attempt 2 in 2.5 s"


def test_a_failure_can_require_a_wait() -> None:
    plan = make_plan(Graph({"a": []}), retries={0: RetryPolicy(1, 2.5)})
    plan.take(0.0)
    failure = Failure(codes=("http:429",), retry_after_s=40.0)
    (transition,) = plan.finish(0, "FAILED", 0.0, reason="too many requests", failure=failure)
    assert transition.reason == "too many requests; attempt 2 in 40 s, as the service requires"
    assert plan.next_retry_at() == 40.0


def test_a_final_failure_is_not_tried_again() -> None:
    plan = make_plan(Graph({"a": []}), retries={0: RetryPolicy(3)})
    plan.take(0.0)
    (transition,) = plan.finish(0, "FAILED", 0.0, reason="sent", failure=Failure(codes=("http:closed",), final=True))
    assert (transition.status, transition.reason) == ("FAILED", "sent; not tried again: the failure is final")


def test_only_covered_failures_are_retried() -> None:
    policy = RetryPolicy(5, on_exceptions=("OSError",))
    plan = make_plan(Graph({"a": [], "b": []}), retries={0: policy, 1: policy})
    assert [plan.take(0.0), plan.take(0.0)] == [0, 1]
    assert plan.finish(0, "FAILED", 0.0, failure=Failure(("ConnectionError", "OSError")))[0].status == "UP_FOR_RETRY"
    assert plan.finish(1, "FAILED", 0.0, failure=Failure(("ValueError",)))[0].status == "FAILED"


def test_after_a_resume_attempts_are_counted_on_and_retries_from_zero() -> None:
    plan = make_plan(Graph({"a": []}), retries={0: RetryPolicy(1)}, attempts={0: 7})
    plan.take(0.0)
    assert plan.table.attempts[0] == 8
    assert plan.finish(0, "FAILED", 0.0)[0].status == "UP_FOR_RETRY"
    plan.take(0.0)
    assert plan.finish(0, "FAILED", 0.0)[0].status == "FAILED"


def test_a_lost_attempt_costs_no_retry_up_to_a_limit() -> None:
    plan = make_plan(Graph({"a": []}), retries={0: RetryPolicy(1)})
    for _ in range(MAX_LOST):
        assert plan.take(0.0) == 0
        assert plan.finish(0, "LOST", 0.0)[0].status == "UP_FOR_RETRY"
    plan.take(0.0)
    assert plan.finish(0, "FAILED", 0.0)[0].status == "UP_FOR_RETRY"  # its retry is not used up
    plan.take(0.0)
    (transition,) = plan.finish(0, "LOST", 0.0, reason="killed by SIGKILL")
    assert transition.status == "FAILED"
    assert "lost 4 times" in (transition.reason or "")
    assert "SIGKILL" in (transition.reason or "")


def test_a_lost_attempt_of_a_stopped_run_is_not_started_again() -> None:
    plan = make_plan(Graph({"a": []}))
    plan.take(0.0)
    plan.stop("cancelled")
    plan.finish(0, "LOST", 0.0)
    assert plan.finished
    assert plan.take(1e9) is None
    assert plan.result() == "CANCELLED"


# -- how failure spreads, and the state of the run --------------------------------------------------------


def finish_all(plan: Plan, verdicts: dict[str, Verdict]) -> dict[str, str]:
    ids = plan.table.graph.ids
    while (node := plan.take(0.0)) is not None:
        plan.finish(node, verdicts.get(ids[node], "SUCCESS"), 0.0)
    return dict(zip(ids, plan.table.status, strict=True))


@pytest.mark.parametrize(
    ("rules", "verdicts", "wanted"),
    [
        ({}, {}, "SUCCESS"),
        ({}, {"a": "FAILED"}, "FAILED"),
        ({}, {"c": "FAILED"}, "FAILED"),
        ({"c": "all_done"}, {"a": "FAILED"}, "SUCCESS"),  # as in Airflow: leaves decide
        ({"c": "all_done"}, {"c": "FAILED"}, "FAILED"),
        ({"b": "one_failed", "c": "none_failed"}, {"a": "FAILED"}, "SUCCESS"),
        ({}, {"a": "SKIPPED"}, "SUCCESS"),
        ({}, {"a": "CANCELLED"}, "FAILED"),  # its dependants are UPSTREAM_FAILED
        ({}, {"c": "CANCELLED"}, "CANCELLED"),
    ],
)
def test_result(rules: dict[str, TriggerRule], verdicts: dict[str, Verdict], wanted: str) -> None:
    graph = Graph({"a": [], "b": ["a"], "c": ["b"]})
    plan = make_plan(graph, rules={graph.index[name]: rule for name, rule in rules.items()})
    finish_all(plan, verdicts)
    assert plan.finished
    assert plan.result() == wanted


def test_failure_spreads_and_independent_branches_run() -> None:
    plan = make_plan(Graph({"a": [], "b": ["a"], "c": ["b"], "x": [], "y": ["x"], "both": ["c", "y"]}))
    assert finish_all(plan, {"a": "FAILED"}) == {
        "a": "FAILED",
        "b": "UPSTREAM_FAILED",
        "c": "UPSTREAM_FAILED",
        "x": "SUCCESS",
        "y": "SUCCESS",
        "both": "UPSTREAM_FAILED",
    }


def test_a_reason_names_the_failed_upstream() -> None:
    plan = make_plan(Graph({"fetch": [], "train": ["fetch"]}))
    plan.take(0.0)
    transitions = plan.finish(0, "FAILED", 0.0, reason="boom")
    assert transitions[1] == Transition(
        1, "PENDING", "UPSTREAM_FAILED", 0, "'fetch' did not succeed (rule all_success)"
    )


def test_fail_fast_cancels_what_has_not_started() -> None:
    plan = make_plan(Graph({"a": [], "b": [], "c": ["b"]}), fail_fast=True)
    assert [plan.take(0.0), plan.take(0.0)] == [0, 1]
    transitions = plan.finish(0, "FAILED", 0.0)
    assert [(transition.node, transition.status) for transition in transitions] == [(0, "FAILED"), (2, "CANCELLED")]
    assert not plan.finished
    plan.finish(1, "CANCELLED", 0.0)
    assert plan.finished
    assert plan.result() == "FAILED"
    assert plan.stopped == Stop("task 'a' failed and fail_fast is set", "fail_fast")


def test_fail_fast_lets_retries_happen_first() -> None:
    plan = make_plan(Graph({"a": []}), retries={0: RetryPolicy(1)}, fail_fast=True)
    plan.take(0.0)
    plan.finish(0, "FAILED", 0.0)
    assert plan.stopped is None


def test_early_rules_fire_while_others_run() -> None:
    graph = Graph({"a": [], "slow": [], "alarm": ["a", "slow"]})
    plan = make_plan(graph, rules={2: "one_failed"})
    assert [plan.take(0.0), plan.take(0.0)] == [0, 1]
    plan.finish(0, "FAILED", 0.0)
    assert plan.take(0.0) == 2
    plan.finish(2, "SUCCESS", 0.0)
    assert not plan.finished
    plan.finish(1, "SUCCESS", 0.0)
    assert plan.finished


def test_always_starts_before_its_upstream_tasks() -> None:
    plan = make_plan(Graph({"a": [], "b": ["a"]}), rules={1: "always"})
    assert {plan.take(0.0), plan.take(0.0)} == {0, 1}


def test_preserved_tasks_decide_downstream_tasks_at_once() -> None:
    """After a resume, rules that preserved tasks decide are decided before anything starts."""
    graph = Graph({"a": [], "b": ["a"], "c": ["b"]})
    plan = make_plan(graph, done={0: "SKIPPED"})
    assert [(transition.node, transition.status) for transition in plan.initial_transitions] == [
        (1, "SKIPPED"),
        (2, "SKIPPED"),
    ]
    assert plan.finished
    assert plan.result() == "SUCCESS"


def test_an_empty_plan_is_over() -> None:
    plan = make_plan(Graph({}))
    assert plan.finished
    assert plan.result() == "SUCCESS"


def test_the_table_of_transitions_has_all_states() -> None:
    assert set(LEGAL) | TASK_ENDED == set(TASK_STATUSES)


# -- size ---------------------------------------------------------------------------------------------------

SIZE = 100_000


@pytest.fixture(scope="module", params=["chain", "backward chain", "fan", "join"])
def large(request: pytest.FixtureRequest) -> Graph:
    shape: dict[str, list[str]]
    match request.param:
        case "chain":
            shape = {f"t{n}": [f"t{n - 1}"] if n else [] for n in range(SIZE)}
        case "backward chain":
            shape = {f"t{n}": [f"t{n + 1}"] if n < SIZE - 1 else [] for n in range(SIZE)}
        case "fan":
            shape = {f"t{n}": ["t0"] if n else [] for n in range(SIZE)}
        case _:
            shape = {**{f"t{n}": [] for n in range(SIZE - 1)}, "last": [f"t{n}" for n in range(SIZE - 1)]}
    return Graph(shape)


@pytest.mark.parametrize("rule", [None, "one_success", "none_failed"])
def test_100_000_tasks_succeed(large: Graph, rule: TriggerRule | None) -> None:
    plan = make_plan(large, rules=dict.fromkeys(range(SIZE), rule) if rule else {})
    while (node := plan.take(0.0)) is not None:
        plan.finish(node, "SUCCESS", 0.0)
    assert plan.finished
    assert plan.result() == "SUCCESS"


def test_a_failure_spreads_over_100_000_tasks_without_recursion(large: Graph) -> None:
    plan = make_plan(large)
    while (node := plan.take(0.0)) is not None:
        plan.finish(node, "FAILED", 0.0)
    assert plan.finished
    assert plan.result() == "FAILED"


@pytest.mark.parametrize("rule", ["one_failed", "all_done"])
def test_a_join_under_a_rule_is_not_counted_again_at_every_event(rule: TriggerRule) -> None:
    """Quadratic counting would take hours here."""
    graph = Graph({**{f"t{n}": [] for n in range(SIZE)}, "last": [f"t{n}" for n in range(SIZE)]})
    plan = make_plan(graph, rules={SIZE: rule})
    while (node := plan.take(0.0)) is not None:
        plan.finish(node, "SUCCESS", 0.0)
    assert plan.finished
    assert plan.table.status[SIZE] == ("SKIPPED" if rule == "one_failed" else "SUCCESS")


# -- one writer ---------------------------------------------------------------------------------------------


def test_only_the_plan_writes_its_table() -> None:
    """Nothing outside `planning` assigns an entry of a `TaskTable`, or reaches through the plan for its parts."""
    engine = Path(__file__).resolve().parents[2] / "liteflow"
    fields = {"status", "attempts", "task_ids", "map_indexes", "owners", "mapped", "hooks", "tolerated"}
    files = [path for path in engine.rglob("*.py") if path.parent.name != "planning"]
    assert len(files) > 50
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
                owner = node.value
                is_table = isinstance(owner, ast.Attribute) and owner.attr in fields and "table" in ast.unparse(owner)
                assert not is_table, f"{path.name}:{node.lineno} writes {ast.unparse(node)}"
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                assert "plan" not in ast.unparse(node.value).split("."), f"{path.name}:{node.lineno}"
