"""Whether the upstream tasks of a task let it run: counts that change as tasks end. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from liteflow.planning.control_flow import ControlFlow
from liteflow.planning.task_table import TaskTable, worst_status
from liteflow.planning.trigger_rules import (
    NO_SETUPS,
    STATE_POSITION,
    Decision,
    SetupCounts,
    TriggerRule,
    UpstreamCounts,
    count_setups,
    count_upstreams,
    decide,
    explain,
    explain_group,
)
from liteflow.states import TASK_ENDED, TaskStatus


class UpstreamTracker:
    """Counts ended upstream tasks, and decides by trigger rules and needed setups.

    Instances of a mapped task are counted one by one. Nothing is counted twice, so that a join of a hundred thousand
    tasks costs a hundred thousand steps.
    """

    def __init__(self, table: TaskTable, rules: Mapping[int, TriggerRule], control: ControlFlow) -> None:
        self._table = table
        self._rules = rules
        self._control = control
        #: how many upstreams of each task have not ended
        self._remaining: list[int] = [len(upstream) for upstream in table.graph.upstream]
        for entry in control.entries:
            for node in table.graph.downstream[entry]:
                self._remaining[node] -= node not in control.joins
        self._not_successful: set[int] = set()  # tasks with an upstream that ended in another state than SUCCESS
        self._added: dict[int, int] = {}  # how many more upstreams a task has than the graph says: mapped instances
        self._tally: dict[int, list[int]] = {  # ended upstreams by state, for the rules that may decide early
            node: [0, 0, 0, 0] for node, rule in rules.items() if rule.startswith("one_")
        }
        self._entries_of = control.entries_of()
        self.waiting_for_setup: dict[int, list[int]] = {}  # by setup: tasks that only wait for its end

    def count(self, node: int, status: TaskStatus) -> None:
        """Count an upstream of the task that has ended."""
        self._remaining[node] -= 1
        if status != "SUCCESS":
            self._not_successful.add(node)
        if node in self._tally:
            self._tally[node][STATE_POSITION[status]] += 1

    def add_instances(self, node: int, count: int) -> None:
        """Let the downstream tasks of a mapped task wait for each of its instances."""
        for downstream in self._table.graph.downstream[node]:
            self._remaining[downstream] += count - 1
            self._added[downstream] = self._added.get(downstream, 0) + count - 1

    def may_be_decided(self, node: int) -> bool:
        """Return whether the rule can decide now: an upstream has ended, there is none, or its rule is special."""
        upstream = self._upstream(node)
        return not upstream or self._remaining[node] < len(upstream) or node in self._rules

    def _upstream(self, node: int) -> Sequence[int]:
        """Return the upstream tasks that count for the trigger rule: the entries of groups do not."""
        upstream, entries = self._table.graph.upstream[node], self._control.entries
        return [above for above in upstream if above not in entries] if entries else upstream

    def decide(self, node: int) -> Decision:
        """Return the decision of the trigger rule of the task."""
        rule = self._rules.get(node, "all_success")
        if self._remaining[node] and rule[:3] in ("all", "non"):
            return "wait"  # these rules wait for every upstream, so the states need not be counted
        if rule == "all_success" and node not in self._not_successful:
            return "run"
        return decide(rule, self.counts(node), self._setup_counts(node))

    def check_setups(self, node: int) -> tuple[Decision, str]:
        """Return whether the setups that the task needs let it run; otherwise its end, and the reason."""
        table = self._table
        for setup in self._control.needed_setups.get(node, ()):
            status, name = table.status[setup], table.task_ids[setup]
            if status not in TASK_ENDED:  # it is repeated, or no task between them waited for it
                self.waiting_for_setup.setdefault(setup, []).append(node)
                return "wait", ""
            if status in ("FAILED", "CANCELLED", "UPSTREAM_FAILED") and setup not in table.tolerated:
                return "upstream_failed", f"its setup {name!r} did not succeed"
            if status == "SKIPPED":
                return "skip", f"its setup {name!r} was skipped"
        return "run", ""

    def waits_for_entry(self, node: int) -> bool:
        """Return whether a group around the task has an entry that has not let it start."""
        entries = self._entries_of.get(node)
        return entries is not None and any(self._table.status[entry] != "SUCCESS" for entry in entries)

    def joined(self, node: int) -> tuple[TaskStatus, str] | None:
        """Return the state of a group whose members have all ended, with the reason; None before that.

        A teardown whose failure does not count has no part in it, and neither has an entry that let the group run.
        """
        if self._remaining[node]:
            return None
        table, control = self._table, self._control
        members: dict[str, TaskStatus] = {}
        for member in table.graph.upstream[node]:
            status = table.downstream_status(member)
            is_passed = member in control.entries and status == "SUCCESS"
            is_quiet = member in control.teardowns and not control.teardowns[member].fails_run
            if not is_passed and not is_quiet:
                members[table.task_ids[member]] = status
        status = worst_status(set(members.values())) if members else "SUCCESS"
        return status, explain_group(status, members)

    def released_by(self, setup: int) -> list[int]:
        """Return, once, the tasks that waited only for the end of this setup."""
        if self._table.status[setup] not in TASK_ENDED:
            return []
        return self.waiting_for_setup.pop(setup, [])

    def counts(self, node: int) -> UpstreamCounts:
        """Return the states of the direct upstream tasks so far, counted."""
        if node in self._tally:
            upstream = self._upstream(node)
            return UpstreamCounts(len(upstream) + self._added.get(node, 0), *self._tally[node])
        return count_upstreams(self.states(node))

    def _setup_counts(self, node: int) -> SetupCounts:
        """Return the states of the setups of a teardown, counted."""
        table, teardowns = self._table, self._control.teardowns
        if node not in teardowns:
            return NO_SETUPS
        return count_setups([table.downstream_status(setup) for setup in table.instances(teardowns[node].setups)])

    def states(self, node: int) -> list[TaskStatus]:
        """Return the states of the upstream tasks, as the trigger rule sees them."""
        table = self._table
        return [table.downstream_status(upstream) for upstream in table.instances(self._upstream(node))]

    def explain(self, node: int) -> str:
        """Explain the decision of the trigger rule in one sentence."""
        table, teardowns = self._table, self._control.teardowns
        instances = table.instances(self._upstream(node))
        upstream = {table.name(instance): table.downstream_status(instance) for instance in instances}
        setups = table.instances(teardowns[node].setups) if node in teardowns else ()
        return explain(self._rules.get(node, "all_success"), upstream, [table.name(setup) for setup in setups])
