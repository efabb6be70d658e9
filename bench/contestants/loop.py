"""A throw-away loop with the durability of an engine and no other feature: the lower limit of durable engines.

Every start is committed before the task runs, every outcome before a task that reads it starts. What belongs to one
turn shares a transaction. No retries, no timeouts, no logs, no second process, no resume.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from bench.contestants import kit

Work = tuple[int, Callable[..., Any], tuple[Any, ...]]


def run(funcs: list[Callable[..., Any]], constants: list[tuple[Any, ...]], reads: list[tuple[int, ...]]) -> list[Any]:
    """Call each function with its constants and the values of its upstreams, and return all values."""
    database = sqlite3.connect("loop.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY, status TEXT NOT NULL, value)")
    readers: list[list[int]] = [[] for _ in funcs]
    missing = [len(above) for above in reads]
    for task, above in enumerate(reads):
        for one in above:
            readers[one].append(task)
    ready = [task for task, count in enumerate(missing) if not count][::-1]
    values: list[Any] = [None] * len(funcs)
    todo: SimpleQueue[Work | None] = SimpleQueue()
    done: SimpleQueue[tuple[int, Any]] = SimpleQueue()

    def worker() -> None:
        while work := todo.get():
            task, func, arguments = work
            done.put((task, func(*arguments)))

    threads = [threading.Thread(target=worker) for _ in range(kit.SLOTS)]
    for thread in threads:
        thread.start()
    outcomes: list[tuple[int, Any]] = []
    running = 0
    while ready or running or outcomes:
        starting = [ready.pop() for _ in range(min(kit.SLOTS - running, len(ready)))]
        database.execute("BEGIN")
        database.executemany("UPDATE tasks SET status='done', value=?2 WHERE id=?1", outcomes)
        database.executemany("INSERT INTO tasks VALUES (?, 'running', NULL)", [(task,) for task in starting])
        database.execute("COMMIT")
        for task in starting:
            todo.put((task, funcs[task], (*constants[task], *(values[one] for one in reads[task]))))
        running += len(starting)
        outcomes = []
        if running:
            outcomes.append(done.get())
            try:
                while True:
                    outcomes.append(done.get_nowait())
            except Empty:
                pass
        running -= len(outcomes)
        for task, value in outcomes:
            values[task] = value
            for reader in readers[task]:
                missing[reader] -= 1
                if not missing[reader]:
                    ready.append(reader)
    for _ in threads:
        todo.put(None)
    for thread in threads:
        thread.join()
    kit.demand(database.execute("SELECT count(*) FROM tasks WHERE status='done'").fetchone()[0] == len(funcs), "rows")
    database.close()
    return values


def wide(count: int) -> int:
    return len(run([kit.nothing] * count, [()] * count, [()] * count))


def layered(layers: int, width: int) -> list[int]:
    funcs: list[Callable[..., Any]] = [kit.seed] * width + [kit.join] * (width * (layers - 1))
    constants: list[tuple[Any, ...]] = [(place,) for place in range(width)] + [()] * (width * (layers - 1))
    reads: list[tuple[int, ...]] = [()] * width
    for layer in range(1, layers):
        above = (layer - 1) * width
        reads += [(above + left, above + right) for left, right in (kit.parents(p, width) for p in range(width))]
    values: list[int] = run(funcs, constants, reads)[-width:]
    return values


if __name__ == "__main__":
    kit.main({"wide": wide, "layered": layered})
