"""171 tasks in eleven layers, which pass on numbers and check at the end that none was lost.

    python3 examples/complex_workflow.py
    python3 -m liteflow visualize layered_dag_171 --db liteflow.db

The edges are random but the same in every run. Each task combines its inputs to a digest and a count of the
paths that lead to it. The last task compares the result with that of a plain loop, which detects a task that ran
too early, twice or with a wrong value.
"""

import hashlib
import random
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # so that a clone works without being installed

from liteflow import Dag

WIDTHS = (1, 12, 20, 28, 32, 28, 22, 16, 8, 3)  # and the final check: 171
ROUNDS = 2_000


def layout(seed=171):
    """Return layers of names, and for each name its upstreams: some in the layer above, some further up."""
    generator = random.Random(seed)
    layers = [[f"layer{depth:02d}_{place:02d}" for place in range(width)] for depth, width in enumerate(WIDTHS)]
    upstream = {name: [] for layer in layers for name in layer}
    for depth, layer in enumerate(layers[1:], start=1):
        above = layers[depth - 1]
        for name in layer:
            chosen = set(generator.sample(above, min(len(above), generator.randint(1, 3))))
            if depth > 1 and generator.random() < 0.2:
                chosen.add(generator.choice(layers[depth - 2]))
            upstream[name] = sorted(chosen)
        for name in above:  # every task has a downstream task
            if not any(name in upstream[below] for below in layer):
                upstream[generator.choice(layer)].append(name)
    return layers, upstream


def fold(name, values):
    """Hash and add: the work of one task."""
    text = name + "".join(value["digest"] for value in values)
    digest = hashlib.pbkdf2_hmac("sha256", text.encode(), b"layered", ROUNDS).hex()
    return {"digest": digest, "paths": sum(value["paths"] for value in values) or 1}


def check(values, expected):
    """Check that the values equal those of the plain loop."""
    found = fold("check", values)
    if found != expected:
        raise ValueError(f"expected {expected}, found {found}")
    return found


layers, upstream = layout()

with Dag("layered_dag_171", db_path="liteflow.db", description="Eleven layers of hashing, checked at the end") as dag:
    tasks = {}
    for layer in layers:
        for name in layer:
            values = [tasks[above] for above in upstream[name]]  # a list of tasks: depends on all of them
            tasks[name] = dag.task(fold, task_id=name, name=name, values=values)
    last = [tasks[name] for name in layers[-1]]
    final = dag.task(check, values=last, expected=None)


def in_a_plain_loop():
    """Compute the same without an engine."""
    results = {}
    for layer in layers:
        for name in layer:
            results[name] = fold(name, [results[above] for above in upstream[name]])
    return fold("check", [results[name] for name in layers[-1]])


if __name__ == "__main__":
    final.bind("expected", in_a_plain_loop())
    run = dag.run(max_workers=8)
    took = run.ended_at - run.started_at
    print(f"run {run.run_id}: {run.status}, {len(dag.tasks)} tasks in {took:.2f} s")
    for task_id, reason in run.failures().items():
        print(f"  {task_id} failed: {reason}")
    if run.status == "SUCCESS":
        result = run.value("check")
        print(f"{result['paths']:,} paths lead to the result {result['digest'][:16]}, as expected")
        print("Its picture:  python3 -m liteflow visualize layered_dag_171 --db liteflow.db")
    sys.exit(0 if run.status == "SUCCESS" else 1)
