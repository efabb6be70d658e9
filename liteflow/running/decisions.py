"""Decisions: the tasks that the value of a branch or a short circuit skips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from liteflow.definition.compiled import CompiledDag
from liteflow.errors import LiteflowError
from liteflow.planning.branching import Branching, WrongDecision, skipped_by
from liteflow.states import TaskStatus
from liteflow.values.payload import Payload, decode, encode, is_pickled
from liteflow.work import Command, ErrorInfo, Outcome


def decided(compiled: CompiledDag, decider: Branching, outcome: Outcome) -> tuple[Outcome, dict[int, str]]:
    """Return the outcome of a task that decides, and the tasks that it skips, each with the reason.

    An invalid value fails the attempt. A command that is a short circuit answers like a condition of a
    shell: exit code 0 is true, 1 is false, and any other is a failure.
    """
    node = outcome.node
    if decider.kind == "short_circuit" and isinstance(compiled.tasks[node].body, Command):
        if outcome.verdict == "FAILED" and outcome.exit_code == 1:
            outcome = outcome._replace(verdict="SUCCESS", error=None, value=encode(False))
        elif outcome.verdict == "SUCCESS" and outcome.value is None:
            outcome = outcome._replace(value=encode(True))
    if outcome.verdict != "SUCCESS":
        return outcome, {}
    try:
        return outcome, _skips(compiled, node, decider, outcome.value)
    except (WrongDecision, LiteflowError) as error:
        info = ErrorInfo(str(error), "", ("WrongDecision", "ValueError", "Exception"))
        return outcome._replace(verdict="FAILED", value=None, pushed=None, error=info), {}


def previous_decisions(
    compiled: CompiledDag, done: dict[int, TaskStatus], stored_value: Callable[[str], Payload | None]
) -> dict[int, dict[int, str]]:
    """Return the tasks that the decisions of the previous part of a run skip, by the number of the deciding task.

    A task whose decision is no longer valid, because the graph has changed, is removed from `done`: it decides again.
    """
    skips = {}
    for node, decider in compiled.deciders().items():
        if done.get(node) == "SUCCESS":
            try:
                skips[node] = _skips(compiled, node, decider, stored_value(compiled.graph.ids[node]))
            except (WrongDecision, LiteflowError):
                del done[node]
    return skips


def _skips(compiled: CompiledDag, node: int, decider: Branching, payload: Payload | None) -> dict[int, str]:
    if payload is not None and is_pickled(payload):
        raise WrongDecision("what it returned is a Python object (it was pickled), which is not a valid decision")
    value: Any = None if payload is None else decode(payload)
    graph = compiled.graph
    if decider.kind == "branch" and isinstance(value, str) and isinstance(compiled.tasks[node].body, Command):
        value = value.replace(",", " ").split()
    return skipped_by(decider, node, value, graph.ids, graph.downstream, compiled.control.never_skipped())
