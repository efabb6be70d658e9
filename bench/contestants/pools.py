"""The bare pools of `concurrent.futures`: the limit. They store no state and have no dependencies."""

from __future__ import annotations

import subprocess
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

from bench.contestants import kit


def _wide(executor: Executor, count: int) -> int:
    with executor:
        futures = [executor.submit(kit.nothing) for _ in range(count)]
        return sum(future.result() is None for future in futures)


def _layered(executor: Executor, layers: int, width: int) -> list[int]:
    with executor:
        row = [future.result() for future in [executor.submit(kit.seed, place) for place in range(width)]]
        for _ in range(layers - 1):
            pairs = [kit.parents(place, width) for place in range(width)]
            futures = [executor.submit(kit.join, row[left], row[right]) for left, right in pairs]
            row = [future.result() for future in futures]
        return row


def _true() -> int:
    return subprocess.run(["/bin/sh", "-c", "true"], check=True).returncode


def shell(count: int) -> int:
    with ThreadPoolExecutor(kit.SLOTS) as executor:
        futures = [executor.submit(_true) for _ in range(count)]
        return sum(future.result() == 0 for future in futures)


def chain(count: int) -> int:
    return sum(_true() == 0 for _ in range(count))


if __name__ == "__main__":
    kit.main(
        {
            "wide": lambda count: _wide(ThreadPoolExecutor(kit.SLOTS), count),
            "layered": lambda layers, width: _layered(ThreadPoolExecutor(kit.SLOTS), layers, width),
            "wide-processes": lambda count: _wide(ProcessPoolExecutor(kit.SLOTS), count),
            "layered-processes": lambda layers, width: _layered(ProcessPoolExecutor(kit.SLOTS), layers, width),
            "shell": shell,
            "chain": chain,
        }
    )
