"""The run of R28: sixteen hostile tasks on the machines of a cluster.

    python tests/crash/far_run.py FOLDER MARK READY '[words of the placer]' LEASE ADDRESS

The second attempt of a task ends at once: where its agent was killed the engine starts it again, and only what was
there before has to be gone.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import escapees  # noqa: E402
from far_kit import ByValue  # noqa: E402

from liteflow import Command, Dag, Task  # noqa: E402
from liteflow.definition.options import make_options  # noqa: E402
from liteflow.remote.cluster import Cluster  # noqa: E402

GRACE_S = 0.2


def in_worker(here: str, kind: str, mark: str, ready: str) -> None:
    import sys

    from liteflow.context import current_context

    sys.path.insert(0, here)
    import escapees

    if current_context().attempt == 1:
        escapees.behave(kind, f"{mark}a1", ready)


def main(folder: str, mark: str, ready: str, placer: str, lease: str, address: str) -> None:
    words = tuple(json.loads(placer))
    cluster = Cluster(argv=words, slots=16, lease_s=float(lease), address=address, shipping=ByValue())
    dag = Dag("hostile", f"{folder}/state.db", clusters={"far": cluster})
    for kind in escapees.KINDS:
        script = (
            '[ "$LIGHTFLOW_ATTEMPT" = 1 ] || exit 0; '
            f"exec {sys.executable} -S -E {HERE / 'escapees.py'} {kind} {mark}a$LIGHTFLOW_ATTEMPT {ready}"
        )
        options = make_options({"kill_grace": GRACE_S}, kind)
        dag.add_task(Task(f"{kind}_command", body=Command(("/bin/sh", "-c", script)), options=options))
        work = partial(in_worker, str(HERE), kind, mark, ready)
        dag.task(work, f"{kind}_python", kill_grace=GRACE_S)
    run = dag.run(4, "far", run_id="r", raise_signals=False)
    sys.exit(0 if not run.failures() else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
