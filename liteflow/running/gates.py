"""Gates: what a task asks when its trigger rule lets it run, before it is queued.

A gate is a few steps: a condition (`if`), preconditions, the hook `on_start`. They are taken by the loop when that has
committed what they read. A step that is a command or a function runs as a hook does, and the task waits for it.
"""

from __future__ import annotations

from typing import Any

from liteflow.definition.compiled import CompiledDag
from liteflow.errors import LiteflowError
from liteflow.hooks import Condition, ConditionInputs, HookEvent
from liteflow.planning.branching import Branching, WrongDecision, skipped_by
from liteflow.planning.plan import Plan
from liteflow.planning.task_table import Transition
from liteflow.running.hooks import Hooks
from liteflow.running.inputs import Inputs
from liteflow.state.store import Store
from liteflow.states import TASK_ENDED, TaskStatus
from liteflow.values.payload import Payload, decode, encode, is_pickled
from liteflow.work import Command, ErrorInfo, Outcome, RunInfo


class Gates:
    """The gates of one run."""

    def __init__(self, program: CompiledDag, plan: Plan, inputs: Inputs, hooks: Hooks, info: RunInfo):
        self._tasks = program.tasks
        self._plan = plan
        self._inputs = inputs
        self._hooks = hooks
        self._info = info
        self._waiting: dict[int, tuple[int, int]] = {}  # by hook: the task that waits for it, and at which step
        self._next: list[tuple[int, int]] = []  # tasks that go on asking, at which step

    def resolve(self, now: float) -> tuple[bool, list[Transition]]:
        """Take the steps that can be taken now. Returns whether there were any, and what followed from them."""
        asking = [(node, 0) for node in self._plan.due_checks()]
        asking += self._next
        self._next = []
        moves: list[Transition] = []
        for node, step in asking:
            self._ask(node, step, moves, now)
        return bool(asking), moves

    def heard(self, hook: int, outcome: Outcome) -> list[Transition]:
        """A hook has ended, perhaps one that a task waits for."""
        status = self._plan.table.status[hook]
        if hook not in self._waiting or status not in TASK_ENDED:
            return []
        node, number = self._waiting.pop(hook)
        step = self._tasks[node].settings.start_checks[number]
        if status == "SUCCESS" or step.status_if_failed is None:
            self._next.append((node, number + 1))
        elif status == "CANCELLED":  # and with it the task, if it is not yet
            return self._plan.end_unstarted(node, "CANCELLED", "the run was stopped before it could start")
        else:
            why = outcome.error.message if outcome.error is not None else status.lower()
            reason = f"{step.message} ({why})" if step.message else f"its precondition does not hold: {why}"
            return self._plan.end_unstarted(node, step.status_if_failed, reason)
        return []

    def _ask(self, node: int, number: int, moves: list[Transition], now: float) -> None:
        plan, steps = self._plan, self._tasks[node].settings.start_checks
        while number < len(steps):
            step = steps[number]
            if step.hook is not None:
                index = plan.table.map_indexes[node]
                done = step.status_if_failed is None and self._hooks.has_run(step.hook, index)  # `on_start` runs once
                if plan.table.status[node] == "QUEUED" and not done:
                    told = HookEvent(step.hook.event, plan.table.task_ids[node], index, "PENDING", 0, "", "")
                    self._waiting[self._hooks.tell(step.hook, told, now)] = (node, number)
                    return
            elif step.condition is not None:
                try:
                    holds = step.condition.holds(self._condition_inputs(node, step.condition))
                except LiteflowError as error:
                    moves += plan.end_unstarted(node, "FAILED", str(error))
                    return
                if not holds:
                    moves += plan.end_unstarted(node, step.status_if_failed or "SKIPPED", step.message)
                    return
            number += 1
        plan.pass_checks(node)

    def _condition_inputs(self, node: int, condition: Condition) -> ConditionInputs:
        plan = self._plan
        index = plan.table.graph.index
        inputs = self._inputs.named([(index[ref.task_id], ref) for ref in condition.reads])
        return ConditionInputs(
            self._info,
            plan.table.task_ids[node],
            plan.table.map_indexes[node],
            inputs,
            {name: plan.table.status[index[name]] for name in condition.states if name in index},
            plan.upstream_states(node),
            plan.stopped is not None,
        )


# -- decisions -------------------------------------------------------------------------------------------------------


def judged(program: CompiledDag, outcome: Outcome) -> tuple[Outcome, dict[int, str]]:
    """The outcome of a task that decides, and what it has decided to skip. What is no decision fails the attempt.

    A command that is a short circuit answers as in a shell's `if`: exit code 0 is yes, 1 is no, all else has failed.
    """
    node = outcome.node
    if _decider(program, node).kind == "short_circuit" and _is_command(program, node):
        if outcome.verdict == "FAILED" and outcome.exit_code == 1:
            outcome = outcome._replace(verdict="SUCCESS", error=None, value=encode(False))
        elif outcome.verdict == "SUCCESS" and outcome.value is None:
            outcome = outcome._replace(value=encode(True))
    if outcome.verdict != "SUCCESS":
        return outcome, {}
    try:
        return outcome, _decided(program, node, outcome.value)
    except (WrongDecision, LiteflowError) as error:
        told = ErrorInfo(str(error), "", ("WrongDecision", "ValueError", "Exception"))
        return outcome._replace(verdict="FAILED", value=None, pushed=None, error=told), {}


def decisions(program: CompiledDag, done: dict[int, TaskStatus], store: Store) -> dict[int, dict[int, str]]:
    """What the decisions of an earlier part of a run skip. A task whose decision makes no sense any more, because the
    graph has changed, is taken out of `done`: it decides again.
    """
    found = {}
    for node in program.deciders():
        if done.get(node) == "SUCCESS":
            try:
                found[node] = _decided(program, node, store.value(program.graph.ids[node]))
            except (WrongDecision, LiteflowError):
                del done[node]
    return found


def _decided(program: CompiledDag, node: int, payload: Payload | None) -> dict[int, str]:
    if payload is not None and is_pickled(payload):
        raise WrongDecision("what it returned is a Python object (it was pickled), which is no decision")
    value: Any = None if payload is None else decode(payload)
    decider, graph = _decider(program, node), program.graph
    if decider.kind == "branch" and isinstance(value, str) and _is_command(program, node):
        value = value.replace(",", " ").split()
    return skipped_by(decider, node, value, graph.ids, graph.downstream, program.control.teardowns)


def _is_command(program: CompiledDag, node: int) -> bool:
    return isinstance(program.tasks[node].body, Command)


def _decider(program: CompiledDag, node: int) -> Branching:
    decider = program.tasks[node].settings.decider
    assert decider is not None
    return decider
