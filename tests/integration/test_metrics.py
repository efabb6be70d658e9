"""The metrics of a server that was scraped before are those of a fresh one."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from lightflow.server.metrics import Metrics
from liteflow import Dag
from liteflow.api import NewFire, TriggerStore, WorkflowTriggers, manual_trigger


def of_fires(metrics: Metrics, db: str, generation: str = "g") -> list[str]:
    return [line for line in metrics.text(db, "1", generation).splitlines() if "_fire" in line]


@pytest.mark.parametrize("seed", range(3))
def test_what_was_counted_before_is_not_read_again_and_nothing_is_lost(tmp_path: Path, seed: int) -> None:
    db, rng = str(tmp_path / "lightflow.db"), random.Random(seed)
    Dag("w", db).run()
    store, metrics, now, open_runs = TriggerStore(db), Metrics(), time.time(), list[str]()
    trigger = manual_trigger("w")
    store.declare([WorkflowTriggers(dag_id="w", source="w.yaml", triggers=[trigger], watermarks=[""])])
    statuses = ("CLAIMED", "WAITING", "MISSED", "SKIPPED")
    for step in range(40):
        fires = [
            NewFire(
                trigger_id=trigger.trigger_id,
                key=f"{step}-{number}",
                at=now,
                due_at=now - rng.choice((0.0, 0.05, 5.0, 1e4)),
                status=(status := rng.choice(statuses)),
                run_id=f"r{step}-{number}" if status in ("CLAIMED", "WAITING") else None,
            )
            for number in range(rng.randrange(4))
        ]
        store.decide(fires, {}, {})
        open_runs += [str(fire.run_id) for fire in fires if fire.run_id is not None]
        if open_runs and rng.random() < 0.7:
            store.end(open_runs.pop(rng.randrange(len(open_runs))), "FAILED", "it was chosen")
        assert of_fires(metrics, db) == of_fires(Metrics(), db)
    assert 'lightflow_fires{state="FAILED"}' in "\n".join(of_fires(metrics, db))
    assert of_fires(metrics, db, "another file") == of_fires(Metrics(), db)
    store.close()
