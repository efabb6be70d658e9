"""What the loop is given to run, and whom it tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from liteflow.graph import Graph
from liteflow.limits import Concurrency, Pool
from liteflow.ready import Order
from liteflow.retry import NEVER, RetryPolicy
from liteflow.rules import TriggerRule
from liteflow.states import RunStatus, TaskStatus
from liteflow.work import Body, Expansion, Outcome, Ref


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


class Options(NamedTuple):
    """How to run it. `db_path` and `log_dir` are absolute; `log_dir` None leaves output on the terminal."""

    db_path: str
    run_id: str
    mode: str = "process"
    max_workers: int = 4
    log_dir: str | None = None
    durability: str = "process"
    fail_fast: bool = False
    grace_s: float = 10.0
    params: Mapping[str, Any] = {}
    logical_date: float | None = None
    observers: Sequence[Observer] = ()
    claim_children: bool = False
    done: Mapping[str, float] = {}  # for a new run: tasks that succeeded elsewhere, with the seconds they took
    timeout_s: float | None = None
    retry: RetryPolicy = NEVER  # of the run as a whole
    place: Concurrency | None = None  # its group is named


class Change(NamedTuple):
    """A task instance changed its state, and that is committed. `outcome` is there when an attempt ended."""

    task_id: str
    map_index: int
    attempt: int
    previous: TaskStatus
    status: TaskStatus
    reason: str | None
    at: float  # epoch seconds
    log_path: str | None = None
    outcome: Outcome | None = None
    instances: tuple[int, int] | None = None  # of a mapped task that begins: how many, and how many have not ended


class Observer:
    """Is told what happens, after it was stored, in the loop's thread: override what is of interest.

    An observer that raises is dropped; it cannot fail a run.
    """

    def run_began(self, program: Program, options: Options, kept: Mapping[int, TaskStatus]) -> None:
        """The run is stored; `kept` are the tasks that ended in an earlier part of it, with their state."""

    def changed(self, changes: Sequence[Change]) -> None:
        """Task instances have changed their states."""

    def waiting(self, reason: str) -> None:
        """The run starts nothing for now: it waits for its turn in a group, or rests before another try."""

    def stopping(self, reason: str) -> None:
        """Nothing more starts, and what runs is being ended."""

    def run_ended(self, status: RunStatus, reason: str | None) -> None:
        """The run's verdict is stored."""
