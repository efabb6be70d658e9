"""A plan from plain keywords, for tests."""

from __future__ import annotations

from typing import Any

from liteflow.planning.graph import Graph
from liteflow.planning.plan import Plan, PlanOptions, PreviousResults

_PREVIOUS = set(PreviousResults._fields)


def make_plan(graph: Graph, **keywords: Any) -> Plan:
    """Make a plan; each keyword is a field of `PlanOptions` or of `PreviousResults`."""
    previous = {name: value for name, value in keywords.items() if name in _PREVIOUS}
    options = {name: value for name, value in keywords.items() if name not in _PREVIOUS}
    return Plan(graph, PlanOptions(**options), PreviousResults(**previous))
