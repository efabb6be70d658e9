"""The task instances of a run, by number: of which task each is, how it stands, and what others see of it.

Tasks are numbers (see `graph`). A task that is mapped over a list gets a further number for each of its instances once
the list is known; its own number then stands for all of them. *Extras* have numbers, too: work that was added while the
run goes on and that nothing waits for (see `hooks`). What changes their states is the `plan`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from liteflow.planning.control import Control
from liteflow.planning.graph import Graph
from liteflow.planning.rules import Decision, TriggerRule, UpstreamCounts
from liteflow.planning.upstreams import KIND, count_upstreams, explain, with_setups
from liteflow.states import TASK_ENDED, RunStatus, TaskStatus


class Move(NamedTuple):
    """A task instance changed its state. `reason` says why, where the state alone does not."""

    node: int
    previous: TaskStatus
    status: TaskStatus
    attempt: int  # how many attempts have begun
    reason: str | None = None


class Unfolded:
    """A mapped task whose list is known: its instances are the nodes `first`, `first + 1`, …, in the list's order."""

    __slots__ = ("count", "ended", "first", "unended")

    def __init__(self, first: int, count: int) -> None:
        self.first = first
        self.count = count
        self.unended = count
        self.ended: dict[TaskStatus, int] = {}  # in which states instances have ended, and how many in each

    @property
    def nodes(self) -> range:
        return range(self.first, self.first + self.count)

    @property
    def status(self) -> TaskStatus:
        """What the task as a whole is, once all instances have ended: the worst of them; skipped if all are."""
        for status in ("FAILED", "UPSTREAM_FAILED", "CANCELLED", "SUCCESS"):
            if status in self.ended:
                return status
        return "SKIPPED"

    @property
    def reason(self) -> str | None:
        """Why, where that is not plain."""
        failed = self.ended.get("FAILED")
        return f"{failed:,} of {self.count:,} instances failed" if failed else None


class Nodes:
    """The numbers of a run, and what is known of each."""

    def __init__(self, graph: Graph, rules: Mapping[int, TriggerRule], control: Control) -> None:
        size = len(graph)
        self.graph = graph
        #: of every node: its task, and which of its instances it is (-1: it is the task itself)
        self.task_ids: list[str] = graph.ids.copy()
        self.map_indexes: list[int] = [-1] * size
        self.status: list[TaskStatus] = ["PENDING"] * size
        self.attempts: list[int] = [0] * size
        #: tasks whose list is known
        self.unfolded: dict[int, Unfolded] = {}
        self.teardowns = control.teardowns
        self._watchers, self._needs = control.watchers, control.needs
        self._held: dict[int, list[int]] = {}  # by setup: tasks that only wait for that to stand
        self._rules = rules
        self._owners: dict[int, int] = {}  # of instances: the task that they are of
        self._added: dict[int, int] = {}  # by task: how many more it waits for than the graph says
        self._tally: dict[int, list[int]] = {  # ended upstreams by kind, for the rules that may fire early
            node: [0, 0, 0, 0] for node, rule in rules.items() if rule.startswith("one_")
        }
        self._unmet: list[int] = [len(above) for above in graph.upstream]  # upstreams that have not ended
        self._troubled: set[int] = set()  # tasks of which an upstream has not succeeded
        self._forgiven: set[int] = set()  # tasks that FAILED and count as a success for others
        self._extras: set[int] = set()

    def owner(self, node: int) -> int:
        """The task that a node is an instance of; itself where that is the only one."""
        return self._owners.get(node, node)

    def is_extra(self, node: int) -> bool:
        """Is this number one that `add` gave?"""
        return node in self._extras

    def _numbered(self, node: int, indexes: Sequence[int]) -> Unfolded:
        """Give the instances of a task their numbers: those below wait for each of them. Their states are to follow."""
        count = len(indexes)
        unfolded = self.unfolded[node] = Unfolded(len(self.status), count)
        self.task_ids += [self.graph.ids[node]] * count
        self.map_indexes += indexes
        self.attempts += [0] * count
        self._owners.update(dict.fromkeys(unfolded.nodes, node))
        for below in self.graph.downstream[node]:
            self._unmet[below] += count - 1
            self._added[below] = self._added.get(below, 0) + count - 1
        return unfolded

    def _name(self, node: int) -> str:
        return instance_name(self.task_ids[node], self.map_indexes[node])

    def _instances(self, nodes: Iterable[int]) -> Iterator[int]:
        """The nodes, with the instances in place of tasks whose list is known."""
        for node in nodes:
            if node in self.unfolded:
                yield from self.unfolded[node].nodes
            else:
                yield node

    # -- what others see -----------------------------------------------------------------------------------

    def _seen(self, node: int) -> TaskStatus:
        """The state of a task as others see it."""
        return "SUCCESS" if node in self._forgiven else self.status[node]

    def _count(self, node: int, status: TaskStatus) -> None:
        """One more upstream of the task has ended."""
        self._unmet[node] -= 1
        if status != "SUCCESS":
            self._troubled.add(node)
        if node in self._tally:
            self._tally[node][KIND[status]] += 1

    def counts(self, node: int) -> UpstreamCounts:
        """How the direct upstreams of a task have ended so far."""
        above = self.graph.upstream[node]
        if node in self._tally:
            return UpstreamCounts(len(above) + self._added.get(node, 0), *self._tally[node])
        counts = count_upstreams(self.upstream_states(node))
        if node in self.teardowns:
            counts = with_setups(counts, [self._seen(one) for one in self._instances(self.teardowns[node].setups)])
        return counts

    def upstream_states(self, node: int) -> list[TaskStatus]:
        """The states of what a task waits for, as its trigger rule sees them."""
        return [self._seen(one) for one in self._instances(self.graph.upstream[node])]

    def is_tolerated(self, node: int) -> bool:
        """Return whether the task FAILED and counts as a success for others."""
        return node in self._forgiven

    def explain(self, node: int) -> str:
        """Why the trigger rule decided as it did, in one sentence."""
        upstream = {self._name(above): self._seen(above) for above in self._instances(self.graph.upstream[node])}
        setups = self._instances(self.teardowns[node].setups) if node in self.teardowns else ()
        return explain(self._rules.get(node, "all_success"), upstream, [self._name(one) for one in setups])

    # -- what they say of the run --------------------------------------------------------------------------

    def _set_up(self, node: int) -> tuple[Decision, str]:
        """Do the setups stand that a task needs? If not, what becomes of it, and why."""
        for setup in self._needs.get(node, ()):
            status, name = self.status[setup], self.task_ids[setup]
            if status not in TASK_ENDED:  # it is done once more, or nothing between waited for it
                self._held.setdefault(setup, []).append(node)
                return "wait", ""
            if status in ("FAILED", "CANCELLED", "UPSTREAM_FAILED") and setup not in self._forgiven:
                return "upstream_failed", f"its setup {name!r} did not succeed"
            if status == "SKIPPED":
                return "skip", f"its setup {name!r} was skipped"
        return "run", ""

    def _matters(self, node: int) -> bool:
        """Does a failure of the task fail the run, where nothing waits for it?"""
        task = self.owner(node)
        return node not in self._forgiven and (task not in self.teardowns or self.teardowns[task].counts)

    def verdict(self) -> RunStatus:
        """What the leaves say the run is, now that all have ended: FAILED if a task that nothing waits for failed.

        A failed task whose dependants were told to go on (`all_done`, `one_failed`, …) does not fail the run.
        """
        leaves = {self._seen(node) for node in self._leaves()}
        if leaves & {"FAILED", "UPSTREAM_FAILED"}:
            return "FAILED"
        return "CANCELLED" if "CANCELLED" in leaves else "SUCCESS"

    def failures(self) -> list[str]:
        """The tasks that FAILED, and whose failure counts, by name."""
        nodes = range(len(self.graph))
        return [self.task_ids[node] for node in nodes if self.status[node] == "FAILED" and self._matters(node)]

    def _leaves(self) -> list[int]:
        """Tasks that decide how the run ended: nothing waits for them but watchers and teardowns that do not count."""
        quiet = {node for node, teardown in self.teardowns.items() if not teardown.counts}
        if not quiet and not self._watchers:
            return self.graph.leaves()
        aside, below = quiet | self._watchers, enumerate(self.graph.downstream)
        return [node for node, others in below if node not in quiet and aside.issuperset(others)]


def instance_name(task_id: str, map_index: int) -> str:
    """How people call a task instance: `fetch`, or `fetch[3]` where it is one of several."""
    return task_id if map_index < 0 else f"{task_id}[{map_index}]"
