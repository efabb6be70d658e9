"""Tasks of the crash suites that wait: in a group, one that waits for polls; a repeated one; and what follows them.

And a task that executes a child run, whose task executes another one: three levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from crashkit import Part, TaskHooks, append

from liteflow import Call, Dag, Repeat, Task, Waiting
from liteflow.context import current_context
from liteflow.work import Poll

ITERATIONS = 3
_POLLS = 10
_REST_S = 0.003
#: Leaves a line in the trail of effects for an attempt of a task.
Note = Callable[[str], object]


def with_waits(
    graph: Mapping[str, Sequence[str]], around: TaskHooks, before: tuple[str, str]
) -> tuple[dict[str, Sequence[str]], TaskHooks]:
    """Return a graph and what is around it with these tasks, which follow two tasks of the graph."""
    more = {
        "g.wait": before[:1],
        "g.last": ("g.wait",),
        "loop": before[1:],
        "after": ("g.wait", "g.last", "loop"),
    }
    groups = {"g": ("g.wait", "g.last")}
    return {**graph, **more}, around._replace(waits=("g.wait",), iterations={"loop": ITERATIONS}, groups=groups)


def add_waits(dag: Dag, made: Mapping[str, Task], note: Note, before: tuple[str, str]) -> None:
    """Add the tasks of `with_waits` to a dag."""
    with dag.group("g", depends_on=made[before[0]]) as group:
        wait = dag.add("wait", Call(partial(_begin, note), poll=Poll(func=_look)))
        wait >> dag.task(partial(note, "g.last"), "last")
    repeat = Repeat(until=_is_last, every=_REST_S, max=10)
    loop = dag.task(partial(_iterate, note), "loop", repeat=repeat)
    made[before[1]] >> loop
    [group, loop] >> dag.task(partial(note, "after"), "after")


def _begin(note: Note) -> Waiting:
    note("g.wait")
    return Waiting({"polls": 0}, _REST_S, "the polls that are left")


def _look() -> int | Waiting:
    """Count the polls in the handle, which is stored each time."""
    polls: int = current_context().handle["polls"] + 1
    return polls if polls >= _POLLS else Waiting({"polls": polls}, _REST_S, "the polls that are left")


def _iterate(note: Note) -> int:
    note("loop")
    return current_context().iteration


def _is_last(iteration: int) -> bool:
    return iteration >= ITERATIONS


def with_child(
    graph: Mapping[str, Sequence[str]], around: TaskHooks, before: str
) -> tuple[dict[str, Sequence[str]], TaskHooks]:
    """Return a graph and what is around it with the tasks of `add_child`."""
    inner = Part({"first": (), "last": ("first",)}, TaskHooks(struck=around.struck))
    middle = {"first": (), "inner": ("first",), "last": ("inner",)}
    part = Part(middle, TaskHooks(struck=around.struck, waits=("inner",), children={"inner": inner}))
    more = {"part": (before,), "parted": ("part",)}
    return {**graph, **more}, around._replace(waits=(*around.waits, "part"), children={"part": part})


def add_child(dag: Dag, made: Mapping[str, Task], note: Note, trail: str, before: str) -> None:
    """Add a task with a child run, and one that follows it. Tasks of child runs leave their lines beside the trail."""
    inner, middle = Dag("inner"), Dag("middle")
    for each in (inner, middle):
        each.task(partial(_note_in_child, trail), "first")
    inner.tasks["first"] >> inner.task(partial(_note_in_child, trail), "last")
    middle.tasks["first"] >> middle.workflow("inner", inner) >> middle.task(partial(_note_in_child, trail), "last")
    part = dag.workflow("part", middle, depends_on=made[before])
    part >> dag.task(partial(note, "parted"), "parted")


def _note_in_child(trail: str) -> None:
    context = current_context()
    append(f"{trail}.{context.run_id}", f"{context.task_id} {context.attempt}")
