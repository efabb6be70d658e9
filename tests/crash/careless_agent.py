"""The control of R28 and R29: an agent whose keeper leaves what it finds.

python tests/crash/careless_agent.py -m liteflow.remote.agent       the last words are those of any agent
"""

from __future__ import annotations

from liteflow.processes import tree
from liteflow.remote.agent import main


def sweep(*arguments: object, **options: object) -> tree.Swept:
    return tree.Swept(killed=0)


if __name__ == "__main__":
    tree.sweep = sweep
    main()
