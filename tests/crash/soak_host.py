"""The host program of the soak: three threads that run dags in one process, until a file says that it is over.

    python tests/crash/soak_host.py FOLDER SEED

Its last line of output is a report as JSON.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from pathlib import Path

from liteflow import Dag

MODES = ("process", "thread", "async")


def double(x: int) -> int:
    return 2 * x


def memory_kib() -> int:
    """The memory of this process that is in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def define(db: str, name: str, lambdas: bool) -> Dag:
    with Dag(name, db) as dag:
        above = dag.task((lambda x: 2 * x) if lambdas else double, "t0", x=1)
        for number in range(1, 4):
            above = dag.task((lambda x: 2 * x) if lambdas else double, f"t{number}", x=above)
    return dag


class Host:
    """Runs dags in threads, and keeps count."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._lock = threading.Lock()
        self.runs = 0
        self.wrong: list[str] = []

    def serve(self, number: int) -> None:
        picks = random.Random(self._seed * 100 + number)
        while not (self._folder / "stop").exists():
            mode, lambdas = picks.choice(MODES), picks.random() < 0.5
            dag = define(str(self._folder / "soak.db"), f"host_{MODES[number]}", lambdas)
            try:
                run = dag.run(max_workers=2, mode=mode)
                result = run.value("t3")
            except Exception as error:  # whatever it is, it is a finding
                run, result = None, f"{type(error).__name__}: {error}"
            with self._lock:
                self.runs += 1
                if result != 16:
                    self.wrong.append(f"{mode}, lambdas {lambdas}: {run} {result}")
            if run is not None and picks.random() < 0.5:
                run.delete()

    def report(self, before_kib: int) -> str:
        return json.dumps(
            {
                "host_runs": self.runs,
                "host_wrong": len(self.wrong),
                "host_notes": self.wrong[:5],
                "host_descriptors": len(os.listdir("/proc/self/fd")) - 1,
                "host_memory_before_kib": before_kib,
                "host_memory_kib": memory_kib(),
                "host_children": self._children(),
            }
        )

    @staticmethod
    def _children() -> int:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return len(file.read().split())


def main() -> None:
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    host = Host(folder, seed)
    define(str(folder / "soak.db"), "host_first", lambdas=False).run(mode="process")
    before = memory_kib()
    threads = [threading.Thread(target=host.serve, args=(number,)) for number in range(len(MODES))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(host.report(before), flush=True)


if __name__ == "__main__":
    main()
