"""The child runs of a run, with those below them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from liteflow.api import History, Record, RunRecord, instance_name
from liteflow.states import Status


class ChildView(Record):
    """A child run, and how many of its tasks and instances have each status."""

    run: RunRecord
    counts: Mapping[str, int]
    instances: Mapping[str, int]
    approvals: Sequence[str]  #: its tasks and instances that wait for the decision of a person
    children: Sequence[ChildView]

    @property
    def task(self) -> str:
        """The task or instance of the parent run that executes it, such as `load[3]`."""
        return parent_task(self.run)

    def tree(self, depth: int = 0) -> Iterator[tuple[int, ChildView]]:
        """Yield it and the child runs below it, each with its depth."""
        yield depth, self
        for child in self.children:
            yield from child.tree(depth + 1)


def parent_task(run: RunRecord) -> str:
    """Return the task or instance of the parent run that executes a child run."""
    return instance_name(run.parent_task_id or "", -1 if run.parent_map_index is None else run.parent_map_index)


def child_views(history: History, run_id: str) -> list[ChildView]:
    """Return the child runs of a run, the oldest first."""
    return [
        ChildView(
            run=run,
            counts=tasks,
            instances=instances,
            approvals=waiting_for_people(history, run, tasks, instances),
            children=child_views(history, run.run_id),
        )
        for run in history.children(run_id)
        for tasks, instances in [history.tally(run.run_id)]
    ]


def waiting_for_people(
    history: History, run: RunRecord, tasks: Mapping[str, int], instances: Mapping[str, int]
) -> Sequence[str]:
    """Return the names of what waits in a run for the decision of a person; the numbers are those of `tally`."""
    if not {*tasks, *instances} & {Status.WAITING}:
        return ()
    from liteflow.api import open_approvals  # few runs have one

    return [each.name for each in open_approvals(history, run)]


def child_approvals(views: Sequence[ChildView]) -> list[tuple[str, str]]:
    """Return the runs and names of what waits for the decision of a person, at any depth."""
    return [(child.run.run_id, name) for view in views for _, child in view.tree() for name in child.approvals]
