"""The template that `python3 -m liteflow scaffold` prints: a workflow that runs as it is."""

from __future__ import annotations

from typing import Final

from liteflow.definition.task import check_id

DEFAULT_ID: Final = "my_workflow"

#: Plain ASCII, so that it survives the encoding of any terminal. Only `@DAG_ID@` is replaced.
_TEMPLATE: Final = '''\
"""A workflow of four tasks. Run this file with python3; change it while it works.

    extract -----> convert --> report
    fetch_rate --/
"""

import sys

from liteflow import Dag, current_context


def extract():
    """A task is a plain function. Its return value is stored, and passed to the tasks that take it."""
    orders = [{"id": number, "usd": 10.0 * number} for number in range(1, 6)]
    print(f"extract: read {len(orders)} orders")
    return orders


def fetch_rate():
    """Simulates a service that fails at first: the error makes the task run again, see `retries` below."""
    attempt = current_context().attempt
    if attempt == 1:
        raise ConnectionError("the rate service did not answer")
    print(f"fetch_rate: got it at attempt {attempt}")
    return 0.92


def convert(extract, fetch_rate, digits=2):
    """A parameter with the name of a task receives what that task returned, and waits for it."""
    return [{"id": order["id"], "eur": round(order["usd"] * fetch_rate, digits)} for order in extract]


def report(orders):
    """The output of a task goes to the terminal; its return value can be read later with `run.value()`."""
    total = sum(order["eur"] for order in orders)
    print(f"report: {len(orders)} orders, {total:.2f} EUR")
    return total


with Dag("@DAG_ID@", db_path="liteflow.db", description="Orders in dollars, a report in euros") as dag:
    dag.task(extract)
    dag.task(fetch_rate, retries=3, retry_delay=0.2, timeout=30)  # options are keywords like the arguments
    converted = dag.task(convert, digits=2)
    dag.task(report, orders=converted)  # a task as an argument: wait for it, and take its value
    # Order without a value, where you need it:  first >> second >> [third, fourth]


if __name__ == "__main__":
    run = dag.run(max_workers=4)  # mode="process" by default; also "thread" and "async"

    print(f"\\nrun {run.run_id}: {run.status}")
    for task_id, status in run.statuses().items():
        print(f"  {status:<16} {task_id}")
    for task_id, reason in run.failures().items():
        print(f"  {task_id} failed: {reason}")
    print("\\nIts picture:  python3 -m liteflow visualize @DAG_ID@ --db liteflow.db")
    sys.exit(0 if run.status == "SUCCESS" else 1)
'''


def scaffold(dag_id: str = DEFAULT_ID) -> str:
    """Return the text of a runnable workflow.

    Raises:
        DefinitionError: the name is not a valid dag id.
    """
    return _TEMPLATE.replace("@DAG_ID@", check_id(dag_id, "dag id"))
