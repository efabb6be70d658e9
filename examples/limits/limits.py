"""The limits of limits.yaml in Python: pools, priorities, a timeout, retries of the run, a limit of active runs.

python3 examples/limits/limits.py
"""

from liteflow import Concurrency, Dag, Pool, RetryPolicy, current_context

TRIED: set[str] = set()


def fetch() -> int:
    return 1200


def train(size: str) -> str:
    print("training the", size, "model")
    return size


def load(fetch: int) -> None:
    print("loading", fetch, "rows")


def compare(models: list[str]) -> str:
    return " and ".join(models)


def publish(compare: str) -> None:
    run_id = current_context().run_id
    if run_id not in TRIED:
        TRIED.add(run_id)
        raise ConnectionError("the service is not there yet")
    print("published", compare)


with Dag(
    "limits",
    "lightflow.db",
    pools={"gpu": 1, "connections": Pool(4, "to the warehouse")},
    timeout=300,
    retry=RetryPolicy(retries=2, delay_s=0.2, backoff=2),
    concurrency=Concurrency(limit=1, on_conflict="queue"),
) as dag:
    rows = dag.task(fetch, priority=10)
    small = dag.task(train, "train_small", size="small", pool="gpu")
    large = dag.task(train, "train_large", size="large", pool="gpu", priority=5)
    rows >> [small, large]
    loaded = dag.task(load, pool="connections", pool_slots=2)
    compared = dag.task(compare, models=[small, large], resources={"gpu": 1, "connections": 3})
    published = dag.task(publish, max_parallel=1)
    loaded >> published

if __name__ == "__main__":
    print(dag.run(mode="thread").raise_for_failure())
