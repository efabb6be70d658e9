"""Start checks: evaluated when the trigger rule of a task lets it run, before the task is queued.

They are a condition (`if`), preconditions, and the hook `on_start`. The loop evaluates them after the commit of the
values that they read. A check that is a command or a function runs as a hook, and the task waits for it.
"""

from __future__ import annotations

from liteflow.definition.compiled import CompiledDag
from liteflow.errors import LiteflowError
from liteflow.hooks import Condition, ConditionInputs
from liteflow.planning.plan import Plan
from liteflow.planning.task_table import Transition
from liteflow.running.hooks import Hooks
from liteflow.running.inputs import Inputs
from liteflow.states import TASK_ENDED
from liteflow.work import HookEvent, Outcome, RunInfo


class StartChecks:
    """The start checks of one plan."""

    def __init__(self, *, compiled: CompiledDag, plan: Plan, inputs: Inputs, hooks: Hooks, info: RunInfo) -> None:
        self._tasks = compiled.tasks
        self._plan = plan
        self._inputs = inputs
        self._hooks = hooks
        self._info = info
        self._waiting: dict[int, tuple[int, int]] = {}  # by hook: the waiting task and its check
        self._next: list[tuple[int, int]] = []  # tasks to continue with, each with the number of the check

    def evaluate(self, now: float) -> tuple[bool, list[Transition]]:
        """Evaluate the checks that are due. Return whether there were any, and the transitions that follow."""
        due = [(node, 0) for node in self._plan.due_checks()]
        due += self._next
        self._next = []
        transitions: list[Transition] = []
        for node, number in due:
            transitions += self._evaluate(node, number, now)
        return bool(due), transitions

    def hook_ended(self, hook: int, outcome: Outcome) -> list[Transition]:
        """Start the hooks that follow this one, and continue with the task that waits for it, if there is one.

        Return the transitions that follow.
        """
        self._hooks.ended(hook, outcome.ended_at)
        status = self._plan.table.status[hook]
        if hook not in self._waiting or status not in TASK_ENDED:
            return []
        node, number = self._waiting.pop(hook)
        check = self._tasks[node].settings.start_checks[number]
        if status == "SUCCESS" or check.status_if_failed is None:
            self._next.append((node, number + 1))
            return []
        if status == "CANCELLED":  # the run was stopped, and the task ends with it if it has not ended yet
            return self._plan.end_unstarted(node, "CANCELLED", "the run was stopped before it could start")
        why = outcome.error.message if outcome.error is not None else status.lower()
        reason = f"{check.message} ({why})" if check.message else f"its precondition does not hold: {why}"
        return self._plan.end_unstarted(node, check.status_if_failed, reason)

    def _evaluate(self, node: int, number: int, now: float) -> list[Transition]:
        """Evaluate the checks of a task from this number on, until one runs as a hook, fails, or all have passed."""
        plan, index = self._plan, self._plan.table.map_indexes[node]
        for place, check in enumerate(self._tasks[node].settings.start_checks[number:], start=number):
            if check.hook is not None:
                has_run = check.status_if_failed is None and self._hooks.has_run(
                    check.hook, index
                )  # `on_start` runs once
                if plan.table.status[node] == "QUEUED" and not has_run:
                    event = HookEvent(check.hook.event, plan.table.task_ids[node], index, "PENDING", 0, "", None)
                    self._waiting[self._hooks.trigger(check.hook, event, now)] = (node, place)
                    return []
            elif check.condition is not None:
                try:
                    holds = check.condition.holds(self._condition_inputs(node, check.condition))
                except LiteflowError as error:
                    return plan.end_unstarted(node, "FAILED", str(error))
                if not holds:
                    return plan.end_unstarted(node, check.status_if_failed or "SKIPPED", check.message)
        return plan.pass_checks(node)

    def _condition_inputs(self, node: int, condition: Condition) -> ConditionInputs:
        plan, table = self._plan, self._plan.table
        index = table.graph.index
        inputs = self._inputs.named([(index[ref.task_id], ref) for ref in condition.reads])
        return ConditionInputs(
            info=self._info,
            task_id=table.task_ids[node],
            map_index=table.map_indexes[node],
            inputs=inputs,
            states={name: table.status[index[name]] for name in condition.states if name in index},
            upstream=plan.upstream_states(node),
            stopping=plan.stopped is not None,
        )
