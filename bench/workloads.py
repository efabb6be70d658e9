"""The workloads that other engines can run, too, and their contestants.

`own.py` has those that only Lightflow can do.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from bench.environments import (
    DASK,
    DBOS,
    DOIT,
    HUEY,
    LUIGI,
    NINJA,
    OWN,
    PARSL,
    PREFECT,
    PYPYR,
    Environment,
)

Prepare = Callable[[Path], None]
LIGHTFLOW: Final = "Lightflow"
BARE: Final = "python -c pass"


class Entry(NamedTuple):
    """A contestant in a workload: a command in an environment.

    The first word of `argv` is a command of the environment, or `python` for a program of `contestants/`.
    """

    name: str
    environment: Environment
    argv: tuple[str, ...]
    durable: bool = False
    peer: bool = True
    prepare: Prepare | None = None
    note: str = ""

    def command(self, shared: Path) -> list[str]:
        """Return the command; `{shared}` in it is the folder that `set_up` of the workload has filled."""
        first, *rest = (word.replace("{shared}", str(shared)) for word in self.argv)
        if first == "python":
            return [self.environment.python, *rest]
        beside = self.environment.bin / first
        return [str(beside) if beside.exists() else shutil.which(first) or first, *rest]


class Workload(NamedTuple):
    """The same work for several contestants; one of them is the baseline."""

    name: str
    title: str
    entries: tuple[Entry, ...]
    baseline: str
    tasks: int = 1
    measure: str = "seconds"
    """`seconds` (measured by the contestant, else from outside), `wall`, `cpu`, or the name of a reported number."""
    set_up: Prepare | None = None
    """Fill a folder once, before the first round; BENCH_SHARED has its path."""
    note: str = ""


def program(
    name: str, module: str, words: str, environment: Environment = OWN, *, durable: bool = False, note: str = ""
) -> Entry:
    """Return a program of `contestants/`."""
    argv = ("python", "-m", f"bench.contestants.{module}", *words.split())
    return Entry(name, environment, argv, durable, environment is not OWN, note=note)


def _ours(words: str) -> Entry:
    return program(LIGHTFLOW, "lightflow", words, durable=True)


# -- files for contestants that read them------------------------------------------------------------------------------


def _makefile(folder: Path, count: int, chain: bool) -> None:
    names = [f"t{number}" for number in range(count)]
    rules = [f"{name}:{' ' + names[n - 1] if chain and n else ''}\n\t@true;" for n, name in enumerate(names)]
    (folder / "Makefile").write_text(
        "\n".join([f".PHONY: all {' '.join(names)}", f"all: {' '.join(names)}", *rules, ""])
    )


def _ninja(folder: Path, count: int, chain: bool) -> None:
    names = [f"t{number}" for number in range(count)]
    edges = [f"build {name}: true{' ' + names[n - 1] if chain and n else ''}" for n, name in enumerate(names)]
    (folder / "build.ninja").write_text("\n".join(["rule true", "  command = true", *edges, ""]))


def yaml_tasks(folder: Path, count: int, chain: bool, script: str = "true") -> None:
    """Write a workflow file for Lightflow: `flow.yaml`."""
    lines = ["workflow_name: bench", "settings: {max_parallel_tasks: 4}", "tasks:"]
    for n in range(count):
        after = f", depends_on: [t{n - 1}]" if chain and n else ""
        lines.append(f"  t{n}: {{run: '{script}'{after}}}")
    (folder / "flow.yaml").write_text("\n".join([*lines, ""]))


def _shell(count: int, chain: bool) -> tuple[Entry, ...]:
    word = f"{'chain' if chain else 'shell'} {count}"
    peers = [
        program("doit", "doit", word, DOIT, note="saves at the end"),
        program("Luigi", "luigi", word, LUIGI, note="one by one"),
        *([] if chain else [program("huey", "huey", word, HUEY, durable=True)]),
        program("Parsl, threads", "parsl", word, PARSL),
        program("DBOS", "dbos", word, DBOS, durable=True, note="one by one"),
        program("Dask, threads", "dask", word, DASK),
        program("Prefect", "prefect", word, PREFECT, durable=True),
        program("pypyr", "pypyr", word, PYPYR, note="one by one"),
    ]
    return (
        _ours(word),
        Entry(
            "lightflow run",
            OWN,
            ("python", "-m", "lightflow", "run", "flow.yaml", "--quiet"),
            True,
            False,
            lambda folder: yaml_tasks(folder, count, chain),
            "from YAML, as a command",
        ),
        Entry("make -j4", OWN, ("make", "-s", "-j4"), False, False, lambda folder: _makefile(folder, count, chain)),
        program("bare Popen", "pools", word),
        Entry("ninja -j4", NINJA, ("ninja", "--quiet", "-j4"), prepare=lambda folder: _ninja(folder, count, chain)),
        *peers,
    )


# -- the first task from the command line -----------------------------------------------------------------------------


def _write(name: str, text: str) -> Prepare:
    def prepare(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    return prepare


_LUIGI: Final = """import luigi
class Hello(luigi.Task):
    done = False
    def run(self):
        print("hello")
        self.done = True
    def complete(self):
        return self.done
"""
_HELLO_YAML: Final = "workflow_name: hello\ntasks:\n  hello:\n    run: echo hello\n"


def _start() -> tuple[Entry, ...]:
    def hello(name: str, module: str, environment: Environment, durable: bool = False) -> Entry:
        return program(name, module, "wide 1", environment, durable=durable, note="a Python program with one task")

    return (
        Entry(
            "lightflow run",
            OWN,
            ("python", "-m", "lightflow", "run", "hello.yaml", "--quiet"),
            True,
            False,
            _write("hello.yaml", _HELLO_YAML),
        ),
        Entry("lightflow --version", OWN, ("python", "-m", "lightflow", "--version"), False, False),
        Entry(BARE, OWN, ("python", "-c", "pass"), False, False),
        Entry(
            "doit",
            DOIT,
            ("doit", "--verbosity", "2"),
            prepare=_write("dodo.py", "def task_hello():\n    return {'actions': ['echo hello']}\n"),
        ),
        Entry(
            "Luigi",
            LUIGI,
            ("python", "-m", "luigi", "--module", "hello", "Hello", "--local-scheduler", "--no-lock"),
            prepare=_write("hello.py", _LUIGI),
        ),
        Entry(
            "pypyr",
            PYPYR,
            ("pypyr", "hello"),
            prepare=_write("hello.yaml", "steps:\n  - name: pypyr.steps.shell\n    in: {cmd: echo hello}\n"),
        ),
        hello("huey", "huey", HUEY, True),
        hello("Dask, threads", "dask", DASK),
        hello("Parsl, threads", "parsl", PARSL),
        hello("DBOS", "dbos", DBOS, True),
        hello("Prefect", "prefect", PREFECT, True),
    )


# -- the table --------------------------------------------------------------------------------------------------------


def _threads(words: str, *, luigi: bool = True, slow: bool = True) -> tuple[Entry, ...]:
    """Return the workloads; with `slow` also contestants that need minutes for ten thousand tasks."""
    entries = [
        _ours(words),
        program("bare thread pool", "pools", words),
        program("throw-away durable loop", "loop", words, durable=True),
        program("doit", "doit", words, DOIT, note="saves at the end"),
        program("huey", "huey", words, HUEY, durable=True),
        program("Parsl, threads", "parsl", words, PARSL),
        program("DBOS", "dbos", words, DBOS, durable=True, note="one by one"),
        program("Dask, threads", "dask", words, DASK),
    ]
    if luigi:
        entries.append(program("Luigi", "luigi", words, LUIGI, note="one by one"))
    if slow:
        entries.append(program("Prefect", "prefect", words, PREFECT, durable=True))
    return tuple(entries)


def _processes(words: str) -> tuple[Entry, ...]:
    entries = [
        _ours(words),
        program("bare process pool", "pools", words),
        program("Parsl, HTEX", "parsl", words, PARSL),
        program("Dask, processes", "dask", words, DASK),
    ]
    if words.startswith("wide"):
        entries.append(program("doit", "doit", words, DOIT, note="saves at the end"))
    return tuple(entries)


WORKLOADS: Final = (
    Workload("wide", "1,000 empty Python tasks in 4 threads", _threads("wide 1000"), "bare thread pool", 1000),
    Workload(
        "layered",
        "20 layers of 50 Python tasks in 4 threads, each reads two values",
        _threads("layered 20 50"),
        "bare thread pool",
        1000,
    ),
    Workload(
        "wide-processes",
        "1,000 empty Python tasks in 4 processes",
        _processes("wide-processes 1000"),
        "bare process pool",
        1000,
    ),
    Workload(
        "layered-processes",
        "20 layers of 50 Python tasks in 4 processes, each reads two values",
        _processes("layered-processes 20 50"),
        "bare process pool",
        1000,
    ),
    Workload(
        "large",
        "100 layers of 100 Python tasks in 4 threads, each reads two values",
        _threads("layered 100 100", luigi=False, slow=False),
        "bare thread pool",
        10_000,
        note="Luigi and Prefect are left out: at their rates above they would take minutes.",
    ),
    Workload("shell", "500 shell commands (`true`), 4 at a time", _shell(500, False), "make -j4", 500),
    Workload("chain", "200 shell commands (`true`), one after the other", _shell(200, True), "make -j4", 200),
    Workload("start", "one task from the command line, processor time", _start(), BARE, 1, "cpu"),
)
