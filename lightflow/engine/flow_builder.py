"""The control flow of a checked file in the engine's terms: options, hooks, conditions, preconditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lightflow.errors import Problem
from lightflow.parser.spec import Condition, Flow, TaskSpec
from liteflow import Task
from liteflow.definition.options import DEFAULT_FLOW, FlowOptions, tolerance_of
from liteflow.definition.tasks import NOTHING_AROUND, Around, Precondition
from liteflow.errors import InputError
from liteflow.planning.rules import TriggerRule
from liteflow.triggers import Condition as EngineCondition

#: Makes a task of the engine of one of the file.
Make = Callable[[TaskSpec], Task]


def flow_options(trigger_rule: TriggerRule, flow: Flow | None) -> FlowOptions:
    """Return the place of a task in the control flow."""
    if flow is None:
        return DEFAULT_FLOW if trigger_rule == "all_success" else FlowOptions(trigger_rule=trigger_rule)
    return FlowOptions(
        trigger_rule=trigger_rule,
        tolerance=tolerance_of(flow.tolerates),
        branch=flow.branch,
        short_circuit=flow.short_circuit,
        ignore_downstream_trigger_rules=not flow.direct,
        setup=flow.setup,
        teardown=flow.teardown,
        on_failure_fail_run=flow.fails_run,
    )


def flow_with_files(flow: Flow | None, dotenv: Mapping[str, str], own: Mapping[str, str]) -> Flow | None:
    """The same with the variables of dotenv files in its conditions."""
    if flow is None:
        return None

    def known(condition: Condition | None) -> Condition | None:
        if condition is None or condition.scope is None:
            return condition
        return condition._replace(scope=condition.scope._replace(dotenv=dotenv, own_dotenv=own))

    preconditions = tuple(one._replace(condition=known(one.condition)) for one in flow.preconditions)
    return flow._replace(condition=known(flow.condition), preconditions=preconditions)


def around(flow: Flow | None, make: Make, params: Mapping[str, Any], problems: list[Problem]) -> Around:
    """What stands around a task."""
    if flow is None or not (flow.condition or flow.preconditions or flow.hooks):
        return NOTHING_AROUND
    condition = None if flow.condition is None else _condition(flow.condition, params, problems)
    preconditions = [
        Precondition(
            None if one.condition is None else _condition(one.condition, params, problems),
            None if one.command is None else make(one.command),
            one.message,
            one.fails,
        )
        for one in flow.preconditions
    ]
    return Around(condition, tuple(preconditions), {event: make(hook) for event, hook in flow.hooks.items()})


def _condition(condition: Condition, params: Mapping[str, Any], problems: list[Problem]) -> EngineCondition:
    """The condition; one whose answer is known already is tried."""
    from lightflow.expressions.conditions import FileCondition  # with Jinja
    from lightflow.expressions.late import PlacedError

    made = FileCondition(condition)
    try:
        made.early(params)
    except PlacedError as error:
        problems.append(error.problem)
    except InputError as error:
        problems.append(condition.expression.at._replace(message=str(error)))
    return made
