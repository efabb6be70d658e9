"""Tasks of the built-in types for dags in Python: each function takes the keys of its type and returns a body.

    from lightflow.tasks import http
    from liteflow import Dag

    with Dag("orders") as dag:
        count = dag.task(count_rows)
        dag.add("report", http("https://example.org/counts", json={"rows": count}), retries=3)

`included_file` takes the tasks of a workflow file, for `dag.include`.

A function is imported when it is first used.
"""

import importlib

_HOMES = {
    "aws_lambda": "lambda_body",
    "connection": "bodies",
    "docker": "docker_body",
    "http": "http_body",
    "included_file": "file_source",
    "mail": "mail_body",
    "notify": "notify_body",
    "python": "python_body",
    "shell": "shell_body",
    "sql": "sql_body",
    "wait": "wait_body",
}

__all__ = [
    "aws_lambda",
    "connection",
    "docker",
    "http",
    "included_file",
    "mail",
    "notify",
    "python",
    "shell",
    "sql",
    "wait",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lightflow.tasks' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lightflow.tasks.{home}"), name)
