"""Dask: delayed calls, computed by its threads, or by the worker processes of a local cluster, which are there before
the clock starts. It keeps no state.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import dask
from dask import delayed

from bench.contestants import kit


def _true(*above: Any) -> int:
    return subprocess.run(["/bin/sh", "-c", "true"], check=True).returncode


def _compute(values: list[Any]) -> list[Any]:
    kit.CLOCK.built()
    if sys.argv[1].endswith("-processes"):
        return list(dask.compute(*values))
    return list(dask.compute(*values, scheduler="threads", num_workers=kit.SLOTS))


def wide(count: int) -> int:
    nothing = delayed(kit.nothing, pure=False)
    return sum(value is None for value in _compute([nothing() for _ in range(count)]))


def layered(layers: int, width: int) -> list[int]:
    seed, join = delayed(kit.seed, pure=False), delayed(kit.join, pure=False)
    row = [seed(place) for place in range(width)]
    for _ in range(layers - 1):
        pairs = [kit.parents(place, width) for place in range(width)]
        row = [join(row[left], row[right]) for left, right in pairs]
    return _compute(row)


def shell(count: int) -> int:
    true = delayed(_true, pure=False)
    return sum(value == 0 for value in _compute([true() for _ in range(count)]))


def chain(count: int) -> int:
    true = delayed(_true, pure=False)
    links: list[Any] = []
    for _ in range(count):
        links.append(true(*links[-1:]))
    return sum(value == 0 for value in _compute(links))


def main() -> None:
    programs: dict[str, Any] = {"wide": wide, "layered": layered, "shell": shell, "chain": chain}
    if not sys.argv[1].endswith("-processes"):
        kit.main(programs)
        return
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=kit.SLOTS, threads_per_worker=1, dashboard_address=None, host="127.0.0.1", silence_logs=50
        ) as cluster,
        Client(cluster),
    ):
        kit.main({"wide-processes": wide, "layered-processes": layered})


if __name__ == "__main__":
    main()
