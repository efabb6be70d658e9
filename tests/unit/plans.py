"""A plan from plain keywords, for tests."""

from __future__ import annotations

from typing import Any

from liteflow.planning.graph import Graph
from liteflow.planning.plan import EarlierPart, Plan, PlanOptions

_EARLIER = set(EarlierPart._fields)


def make_plan(graph: Graph, **keywords: Any) -> Plan:
    """Make a plan; each keyword is a field of `PlanOptions` or of `EarlierPart`."""
    earlier = {name: value for name, value in keywords.items() if name in _EARLIER}
    options = {name: value for name, value in keywords.items() if name not in _EARLIER}
    return Plan(graph, PlanOptions(**options), EarlierPart(**earlier))
