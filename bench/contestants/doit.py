"""doit: tasks are dictionaries that a function yields; `getargs` reads a value of another task.

It saves its state once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain

from bench.contestants import kit

VALUES: dict[int, int] = {}


def _place(place: int) -> dict[str, int]:
    return {"value": kit.seed(place)}


def _join(left: int, right: int) -> dict[str, int]:
    return {"value": kit.join(left, right)}


def _last(place: int, left: int, right: int) -> dict[str, int]:
    VALUES[place] = kit.join(left, right)
    return {"value": VALUES[place]}


def _nothing() -> None:
    kit.nothing()


def _run(tasks: Callable[[], Iterator[dict[str, Any]]], *options: str) -> None:
    loader = ModuleTaskLoader({"task_t": tasks, "DOIT_CONFIG": {"verbosity": 0}})
    code = DoitMain(loader).run(["run", "--reporter", "zero", "--backend", "json", *options])
    kit.demand(not code, f"doit ended with {code}")


def wide(count: int, kind: str) -> int:
    def tasks() -> Iterator[dict[str, Any]]:
        for number in range(count):
            yield {"name": str(number), "actions": [_nothing]}

    _run(tasks, "-n", str(kit.SLOTS), "-P", kind)
    return count


def layered(layers: int, width: int) -> list[int]:
    def tasks() -> Iterator[dict[str, Any]]:
        for place in range(width):
            yield {"name": f"0_{place}", "actions": [(_place, [place])]}
        for layer in range(1, layers):
            for place in range(width):
                left, right = kit.parents(place, width)
                reads = {"left": (f"t:{layer - 1}_{left}", "value"), "right": (f"t:{layer - 1}_{right}", "value")}
                action = (_last, [place]) if layer == layers - 1 else _join
                yield {"name": f"{layer}_{place}", "actions": [action], "getargs": reads}

    _run(tasks, "-n", str(kit.SLOTS), "-P", "thread")
    return [VALUES[place] for place in range(width)]


def shell(count: int) -> int:
    def tasks() -> Iterator[dict[str, Any]]:
        for number in range(count):
            yield {"name": str(number), "actions": ["true"]}

    _run(tasks, "-n", str(kit.SLOTS), "-P", "thread")
    return count


def chain(count: int) -> int:
    def tasks() -> Iterator[dict[str, Any]]:
        for number in range(count):
            yield {"name": str(number), "actions": ["true"], "task_dep": [f"t:{number - 1}"] if number else []}

    _run(tasks)
    return count


if __name__ == "__main__":
    kit.main(
        {
            "wide": lambda count: wide(count, "thread"),
            "layered": layered,
            "wide-processes": lambda count: wide(count, "process"),
            "shell": shell,
            "chain": chain,
        }
    )
