"""What the loop is given to run, and whom it tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from liteflow.limits import Pool
from liteflow.planning.control import NO_CONTROL, Control, Decider
from liteflow.planning.graph import Graph
from liteflow.planning.ready import Order
from liteflow.planning.retry import RetryPolicy
from liteflow.planning.rules import TriggerRule
from liteflow.triggers import HookSpec, Step
from liteflow.work import Body, Expansion, Ref


class Program(NamedTuple):
    """A dag as the loop sees it: tasks are numbers, everything about them is in tables by number."""

    dag_id: str
    graph: Graph
    bodies: Mapping[str, Body]  # by task id: it crosses to the executors
    inputs: Mapping[int, Sequence[int]]  # the upstreams whose return values a task takes as arguments
    retries: Mapping[int, RetryPolicy]
    rules: Mapping[int, TriggerRule]
    timeouts: Mapping[int, float]  # seconds
    graces: Mapping[int, float]  # seconds, where not the default
    modes: Mapping[str, str]  # by task id, where not the run's
    digest: str
    snapshot: str  # JSON
    description: str = ""
    source: str | None = None
    reads: Mapping[int, Sequence[tuple[int, Ref]]] = {}  # the other values of upstreams that a task takes
    expansions: Mapping[int, Expansion] = {}  # what tasks are mapped over
    fail_fast: Mapping[int, bool] = {}  # of those: does the first instance that fails end the others?
    orders: Mapping[int, Order] = {}  # priorities and limits, where a task has some
    pools: Mapping[str, Pool] = {}
    control: Control = NO_CONTROL
    deciders: Mapping[int, Decider] = {}
    gates: Mapping[int, Sequence[Step]] = {}
    hooks: Mapping[int, Mapping[str, HookSpec]] = {}  # by task and event; the run's own under THE_RUN
    limits: Mapping[str, float] = {}  # timeouts of hooks, by their ids
