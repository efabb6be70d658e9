"""DBOS: a durable function whose steps are stored as they end, here in SQLite.

Steps run one after the other, in the function that calls them: put into its queue, four at a time, each would be a
durable function of its own, which takes longer.
"""

from __future__ import annotations

import subprocess

from dbos import DBOS

from bench.contestants import kit

nothing = DBOS.step()(kit.nothing)
seed = DBOS.step()(kit.seed)
join = DBOS.step()(kit.join)


@DBOS.step()
def true() -> int:
    return subprocess.run(["/bin/sh", "-c", "true"], check=True).returncode


@DBOS.workflow()
def wide(count: int) -> int:
    return sum(nothing() is None for _ in range(count))


@DBOS.workflow()
def layered(layers: int, width: int) -> list[int]:
    row = [seed(place) for place in range(width)]
    for _ in range(layers - 1):
        pairs = [kit.parents(place, width) for place in range(width)]
        row = [join(row[left], row[right]) for left, right in pairs]
    return row


@DBOS.workflow()
def shell(count: int) -> int:
    return sum(true() == 0 for _ in range(count))


def main() -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": "sqlite:///dbos.db",
            "run_admin_server": False,
            "log_level": "CRITICAL",
        }
    )
    DBOS.launch()
    try:
        kit.main({"wide": wide, "layered": layered, "shell": shell, "chain": shell})
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main()
