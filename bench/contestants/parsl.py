"""Parsl: apps return futures, and a future given to an app is waited for. In threads, or in the worker processes of
its HighThroughputExecutor, which are there before the clock starts. It keeps no state.
"""

from __future__ import annotations

import sys
from typing import Any

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.launchers import SimpleLauncher
from parsl.providers import LocalProvider

from bench.contestants import kit

nothing = parsl.python_app(kit.nothing)
seed = parsl.python_app(kit.seed)
join = parsl.python_app(kit.join)


@parsl.bash_app  # type: ignore[untyped-decorator, unused-ignore]
def true(inputs: list[Any]) -> str:
    return "true"


def wide(count: int) -> int:
    futures = [nothing() for _ in range(count)]
    return sum(future.result() is None for future in futures)


def layered(layers: int, width: int) -> list[int]:
    row = [seed(place) for place in range(width)]
    for _ in range(layers - 1):
        pairs = [kit.parents(place, width) for place in range(width)]
        row = [join(row[left], row[right]) for left, right in pairs]
    return [future.result() for future in row]


def shell(count: int) -> int:
    return sum(future.result() == 0 for future in [true(inputs=[]) for _ in range(count)])


def chain(count: int) -> int:
    futures: list[Any] = []
    for _ in range(count):
        futures.append(true(inputs=futures[-1:]))
    return sum(future.result() == 0 for future in futures)


def main() -> None:
    processes = sys.argv[1].endswith("-processes")
    if processes:
        provider = LocalProvider(init_blocks=1, max_blocks=1, launcher=SimpleLauncher())
        executor: Any = HighThroughputExecutor(
            max_workers_per_node=kit.SLOTS,
            prefetch_capacity=4 * kit.SLOTS,
            address="127.0.0.1",
            loopback_address="127.0.0.1",
            provider=provider,
        )
    else:
        executor = ThreadPoolExecutor(max_threads=kit.SLOTS)
    parsl.load(Config(executors=[executor], usage_tracking=0, run_dir="parsl", initialize_logging=False))
    try:
        if processes:
            for future in [seed(0) for _ in range(4 * kit.SLOTS)]:
                future.result()
        programs: dict[str, Any] = {"wide": wide, "layered": layered, "shell": shell, "chain": chain}
        kit.main({**programs, "wide-processes": wide, "layered-processes": layered})
    finally:
        parsl.dfk().cleanup()


if __name__ == "__main__":
    main()
