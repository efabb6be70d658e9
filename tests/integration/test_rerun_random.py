"""Random tasks of random dags run again: exactly the set that the rule says, and nothing that has ended changes.

The dags have groups in groups, mapped tasks (with lists that change from round to round), branches, child runs, setups
and teardowns. The runs, and each rerun, may be interrupted in the middle.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
import zlib
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import event_fold
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liteflow import Dag, DagRun, XCom, current_context
from liteflow.api import Group
from liteflow.state.history import History, RunRecord
from liteflow.states import TASK_ENDED

Key = tuple[str, int]
#: The setup and its teardown: they run again for others, too.
_SCOPE = frozenset([("up", -1), ("down", -1)])


class Story:
    """A run as it is stored: the attempts and the state of each instance, and the number of its last event."""

    def __init__(self, db: str, run: DagRun | RunRecord) -> None:
        self.attempts: dict[Key, list[tuple[int, str, float | None]]] = {}
        with History(db) as history:
            self.children = history.children(run.run_id)
            for each in history.attempts(run.run_id):
                self.attempts.setdefault((each.task_id, each.map_index), []).append(
                    (each.attempt, each.status, each.ended_at)
                )
            self.states = {(task, index): status for task, index, status in history.statuses(run.run_id)}
            self.events = [event for event in history.events(run.run_id) if event.task_id]
            self.is_interrupted = history.run(run.run_id).status == "INTERRUPTED"

    def open_instances(self) -> set[Key]:
        """Those that run in any case: what has not ended, and what an interruption has cancelled."""
        return {
            key
            for key, status in self.states.items()
            if status not in TASK_ENDED or (self.is_interrupted and status == "CANCELLED")
        }


def _first_of_child() -> None:
    """Succeed: the first task of a child run."""


def _second_of_child(folder: Path, name: str) -> int:
    """Fail as the round says, or return a number that no other attempt returns: the second task of a child run."""
    if name in (folder / "fails").read_text(encoding="utf-8").split():
        raise ValueError("not yet")
    number = time.monotonic_ns()
    (folder / name).write_text(str(number), encoding="utf-8")
    return number


class RandomGraph:
    """A random dag whose tasks end as a random seed says, and which notes what each of them has returned last."""

    def __init__(self, db: str, seed: int) -> None:
        self.picks = random.Random(seed)
        self.db = db
        self.run_id = ""
        self.fails: set[str] = set()
        self.interrupts_at = ""  # the task that interrupts its run, once
        self.mapped_over: dict[str, list[int] | str] = {}  # by mapped task: a list, or the task that returns one
        self.lists: dict[str, list[int]] = {}  # by task that returns a list
        self.branches: set[str] = set()
        self.folder = Path(db).parent  # what the processes of child runs read and write
        self.child_tasks: dict[str, str] = {}  # by task that executes a child run: its name without its groups
        self.returned: dict[Key, Any] = {}  # what each plain task and each instance has returned, unless it runs again
        self.old_values: list[str] = []  # that a task has read
        self.count = 0
        self.dag = self._dag(db)
        self.ids = list(self.dag.tasks)
        graph = self.dag.compile().graph
        self.order = [graph.ids[node] for node in graph.order]
        self.downstream = {
            graph.ids[node]: [graph.ids[each] for each in below] for node, below in enumerate(graph.downstream)
        }
        self.upstream = {
            graph.ids[node]: [graph.ids[each] for each in above] for node, above in enumerate(graph.upstream)
        }

    def _dag(self, db: str) -> Dag:
        picks, tasks = self.picks, dict[str, Any]()
        with Dag("random", db) as dag, contextlib.ExitStack() as stack:
            for number in range(picks.randint(2, 8)):
                if picks.random() < 0.25:
                    above = [each for each in tasks.values() if picks.random() < 0.2]
                    stack.enter_context(dag.group(f"g{number}", depends_on=above))
                elif picks.random() < 0.25:
                    stack.pop_all().close()
                above_ids = [each for each in tasks if picks.random() < 0.35]
                task = self._task(dag, f"t{number}", above_ids)
                for each in above_ids:
                    tasks[each] >> task
                for group in self._groups_before(dag, task):
                    group >> task
                tasks[task.task_id] = task
        plain = [name for name in tasks if name not in self.mapped_over and name not in self.branches]
        if plain and picks.random() < 0.4:
            up, down = dag.task(self._body, task_id="up", setup=True), dag.task(self._body, task_id="down")
            for name in picks.sample(plain, min(2, len(plain))):
                up >> tasks[name] >> down
            down.as_teardown([up])
        return dag

    def _groups_before(self, dag: Dag, task: Any) -> list[Group]:
        """Some of the groups that are complete."""
        groups = [each for each in dag.tasks.values() if isinstance(each, Group)]
        return [
            group
            for group in groups
            if not task.task_id.startswith(f"{group.task_id}.") and self.picks.random() < 0.2
            if not any(name.startswith(f"{group.task_id}.") for name in [task.task_id])
        ]

    def _task(self, dag: Dag, name: str, above: list[str]) -> Any:
        picks = self.picks
        rule = picks.choice(["all_success", "all_success", "none_failed", "all_done"])
        kind, sources = picks.random(), [each for each in above if each in self.lists]
        if kind < 0.35:
            items: Any = list(range(picks.randint(1, 3)))
            source = picks.choice(sources) if sources and picks.random() < 0.7 else None
            task = dag.partial(self._each, task_id=name, trigger_rule=rule).expand(
                item=items if source is None else dag.tasks[source]
            )
            self.mapped_over[task.task_id] = items if source is None else source
            return task
        if kind < 0.45:
            task = dag.branch(self._branch, task_id=name)
            self.branches.add(task.task_id)
            return task
        if kind < 0.52:
            task = dag.workflow(name, self._child(name), trigger_rule=rule)
            self.child_tasks[task.task_id] = name
            return task
        task = dag.task(self._body, task_id=name, trigger_rule=rule)
        if picks.random() < 0.4:
            self.lists[task.task_id] = []
        return task

    def _child(self, name: str) -> Dag:
        child = Dag(f"child_{name}")
        first = child.task(_first_of_child, "first")
        second = child.task(partial(_second_of_child, self.folder, name), "second")
        first >> second
        child.outputs["number"] = second
        return child

    # -- the bodies of tasks ---------------------------------------------------------------------------------------

    def _body(self) -> Any:
        context = current_context()
        name = context.task_id
        self.run_id = context.run_id
        self._read_upstream(name)
        self._interrupt(name)
        if name in self.fails:
            raise ValueError("not yet")
        return self._return(name, -1)

    def _each(self, item: int) -> Any:
        context = current_context()
        name = context.task_id
        self._interrupt(name)
        if f"{name}[{item}]" in self.fails:
            raise ValueError("not yet")
        return self._return(name, context.map_index)

    def _return(self, name: str, index: int) -> Any:
        self.count += 1
        self.returned[name, index] = self.lists.get(name, self.count)
        return self.returned[name, index]

    def _branch(self) -> list[str]:
        name = current_context().task_id
        self._interrupt(name)
        below = [each.removesuffix(".entry") for each in self.downstream[name] if not self._is_join(each)]
        return [each for each in below if each[0] in "tg" and zlib.crc32(f"{each}{len(self.fails)}".encode()) % 2]

    def _is_join(self, name: str) -> bool:
        return isinstance(self.dag.tasks.get(name), Group)

    def _read_upstream(self, name: str) -> None:
        """Compare the stored values of the upstream tasks with what these have returned last."""
        for above in self.upstream[name]:
            is_task = above in self.dag.tasks and above not in self.branches and not self._is_join(above)
            if not is_task or (above, -1) in _SCOPE:
                continue
            indexes = [-1]
            if above in self.mapped_over:
                with History(self.db) as history:
                    rows = history.statuses(self.run_id)
                indexes = [
                    index for task, index, status in rows if task == above and index >= 0 and status == "SUCCESS"
                ]
            for index in indexes:
                stored = XCom.load(self.db, self.run_id, above, map_index=index)
                if stored != self._last(above, index):  # an error here would only fail the task
                    self.old_values.append(f"{name} reads {stored} of {above}[{index}]")

    def _last(self, name: str, index: int) -> Any:
        """Return what a task or an instance has returned last; None: it has been set back."""
        if name not in self.child_tasks:
            return self.returned.get((name, index))
        path = self.folder / self.child_tasks[name]
        return {"number": int(path.read_text(encoding="utf-8"))} if path.exists() else None

    def forget(self, key: Key) -> None:
        """Expect no value of a task that runs again, until it has returned one."""
        self.returned.pop(key, None)
        if key[0] in self.child_tasks:
            (self.folder / self.child_tasks[key[0]]).unlink(missing_ok=True)

    def _interrupt(self, name: str) -> None:
        if name == self.interrupts_at:
            self.interrupts_at = ""
            os.kill(os.getpid(), signal.SIGINT)

    # -- rounds ----------------------------------------------------------------------------------------------------

    def next_round(self) -> None:
        """Decide which tasks fail, which lists there are, and where the run is interrupted."""
        picks = self.picks
        self.lists = {name: picks.sample(range(5), picks.randint(0, 4)) for name in self.lists}
        items = [f"{name}[{item}]" for name in self.mapped_over for item in range(5)]
        self.fails = {name for name in (*self.ids, *items) if picks.random() < 0.15}
        failing = [short for name, short in self.child_tasks.items() if name in self.fails]
        (self.folder / "fails").write_text(" ".join(failing), encoding="utf-8")
        self.interrupts_at = picks.choice(self.ids) if picks.random() < 0.35 else ""

    def members(self, group: str) -> set[str]:
        """Return all nodes of a group, and its join."""
        return {name for name in self.order if name == group or name.startswith(f"{group}.")}

    def after(self, names: Collection[str]) -> set[str]:
        """Return these nodes and all that follow them."""
        reached, waiting = set(names), list(names)
        for name in waiting:
            for each in self.downstream[name]:
                if each not in reached:
                    reached.add(each)
                    waiting.append(each)
        return reached

    def with_joins(self, again: set[Key]) -> set[Key]:
        """Return nodes that run again, with the joins of their groups, which end again."""
        result, names = set(again), {name for name, _ in again}
        for name in self.order:  # the members of a group are before its join
            if self._is_join(name) and not names.isdisjoint(self.upstream[name]):
                names.add(name)
                result.add((name, -1))
        return result


class Choice:
    """Tasks, groups and instances that are chosen at random, and what the rule says about them."""

    def __init__(self, made: RandomGraph, story: Story) -> None:
        picks = made.picks
        self.names: list[str] = []
        self.follow = picks.random() < 0.6
        whole, self.partly = set[str](), set[Key]()
        for name in self._picked(made):
            items = [index for task, index in story.states if task == name and index >= 0]
            if items and picks.random() < 0.5:
                self.partly.add((name, index := picks.choice(items)))
                self.names.append(f"{name}[{index}]")
            else:
                whole |= made.members(name) if name in made.dag.tasks and made._is_join(name) else {name}
                self.names.append(name)
        chosen = whole | {name for name, _ in self.partly}
        if self.follow:
            whole |= made.after({each for name in chosen for each in made.downstream[name]})
        self.whole = whole
        self.partly = {key for key in self.partly if key[0] not in whole}

    @staticmethod
    def _picked(made: RandomGraph) -> list[str]:
        """Pick one task or two; often the second is a mapped one that follows the first."""
        names = made.picks.sample(made.ids, made.picks.randint(1, min(2, len(made.ids))))
        below = sorted(made.after(made.downstream[names[0]]) & made.mapped_over.keys())
        return [names[0], made.picks.choice(below)] if below and made.picks.random() < 0.4 else names

    def instances(self, story: Story) -> set[Key]:
        """Return the nodes and instances that the choice makes run again."""
        return (
            {key for key in story.states if key[0] in self.whole}
            | self.partly
            | {(name, -1) for name, _ in self.partly}
        )


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_exactly_the_closure_runs_again(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    db = str(tmp_path_factory.mktemp("rerun") / "state.db")
    made = RandomGraph(db, seed)
    made.next_round()
    run = made.dag.run(mode="inline", raise_signals=False)
    for _ in range(3):
        check_rerun(made, run)


def check_rerun(made: RandomGraph, run: DagRun) -> None:
    """Choose at random, run it again, and compare what happened with the rule, spelled out here."""
    before = Story(made.db, run)
    children = child_stories(made.db, before)
    choice = Choice(made, before)
    opened = before.open_instances()
    again = made.with_joins(choice.instances(before) | opened)
    for key in again:
        made.forget(key)
    made.next_round()
    made.dag.retry(run.run_id, choice.names, only=not choice.follow, ignore_upstream=True, raise_signals=False)
    assert made.old_values == []
    after = Story(made.db, run)
    new = after.events[len(before.events) :]
    reset = {(event.task_id, event.map_index) for event in new if event.status == "PENDING"}
    reset = {key for key in reset if key in before.states}
    wanted = {key for key in again if before.states.get(key, "PENDING") != "PENDING"}
    place = f"{choice.names}, follow={choice.follow}"
    assert reset - _SCOPE == wanted - _SCOPE, place
    for key in before.states.keys() - again - _SCOPE:
        unchanged = (before.states[key], before.attempts.get(key))
        assert (after.states[key], after.attempts.get(key)) == unchanged, f"{place}: {key} changed"
    for key, attempts in before.attempts.items():
        ended = [each for each in attempts if each[2] is not None]
        assert after.attempts[key][: len(ended)] == ended, "an attempt that has ended never changes"
    assert not event_fold.differences(made.db)
    assert list(doubled_successes(after)) == []
    for (key, run_id), story in child_stories(made.db, after).items():
        assert list(doubled_successes(story)) == [], f"{place}: child run {run_id} of {key}"
        old = children.get((key, run_id))
        if old is not None and key not in again:
            assert (story.states, story.attempts) == (old.states, old.attempts), f"{place}: child run {run_id} of {key}"


def child_stories(db: str, story: Story) -> dict[tuple[Key, str], Story]:
    """Return the child runs of a run as they are stored, by their task and their id."""
    return {((str(each.parent_task_id), -1), each.run_id): Story(db, each) for each in story.children}


def doubled_successes(story: Story) -> Iterator[Key]:
    """Yield the instances that have succeeded twice without being set back in between."""
    last: dict[Key, str] = {}
    for event in story.events:
        key = (str(event.task_id), event.map_index)
        if event.status == "SUCCESS" and last.get(key) == "SUCCESS":
            yield key
        last[key] = event.status
