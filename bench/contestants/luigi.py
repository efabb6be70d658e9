"""Luigi: tasks are classes, a task is done when its target exists.

With its local scheduler and one worker, in this process; with more workers it forks a process for each task. Targets
are in memory, which is faster than files.
"""

from __future__ import annotations

import subprocess
from typing import Any

import luigi
from luigi.mock import MockTarget

from bench.contestants import kit


class Base(luigi.Task):
    number = luigi.IntParameter()

    def output(self) -> Any:
        return MockTarget(f"{type(self).__name__}-{self.number}")

    def done(self, value: object = "") -> None:
        with self.output().open("w") as out:
            out.write(str(value))


class Nothing(Base):
    def run(self) -> None:
        kit.nothing()
        self.done()


class Join(Base):
    layer = luigi.IntParameter()
    width = luigi.IntParameter()

    def output(self) -> Any:
        return MockTarget(f"join-{self.layer}-{self.number}")

    def requires(self) -> Any:
        if not self.layer:
            return []
        return [
            Join(number=one, layer=self.layer - 1, width=self.width) for one in kit.parents(self.number, self.width)
        ]

    def run(self) -> None:
        values = []
        for target in self.input():
            with target.open() as source:
                values.append(int(source.read()))
        self.done(kit.join(*values) if values else kit.seed(self.number))


class Shell(Base):
    def run(self) -> None:
        subprocess.run(["/bin/sh", "-c", "true"], check=True)
        self.done()


class Link(Shell):
    def requires(self) -> Any:
        return [Link(number=self.number - 1)] if self.number else []


def _build(tasks: list[Base]) -> None:
    well = luigi.build(tasks, workers=1, local_scheduler=True, log_level="CRITICAL", no_lock=True)
    kit.demand(well, "luigi says that a task failed")


def _done() -> int:
    return len(MockTarget.fs.get_all_data())


def wide(count: int) -> int:
    _build([Nothing(number=number) for number in range(count)])
    return _done()


def layered(layers: int, width: int) -> list[int]:
    _build([Join(number=place, layer=layers - 1, width=width) for place in range(width)])
    data = MockTarget.fs.get_all_data()
    return [int(data[f"join-{layers - 1}-{place}"]) for place in range(width)]


def shell(count: int) -> int:
    _build([Shell(number=number) for number in range(count)])
    return _done()


def chain(count: int) -> int:
    _build([Link(number=count - 1)])
    return _done()


if __name__ == "__main__":
    kit.main({"wide": wide, "layered": layered, "shell": shell, "chain": chain})
