"""Mapped tasks in Python: over the items of a list, and over the combinations of two lists.

lightflow run examples/fan-out/fan_out.py
"""

from __future__ import annotations

from liteflow import Dag, SkipTask, task


@task
def make() -> list[dict[str, str]]:
    return [
        {"name": "rose", "text": "a rose is a rose"},
        {"name": "to be", "text": "to be or not to be"},
        {"name": "empty", "text": ""},
    ]


@task(retries=1, map_key="{item[name]}")
def measure(item: dict[str, str], least: int) -> int:
    words = len(item["text"].split())
    if words < least:
        raise SkipTask(f"{item['name']} has only {words} words")
    return words


@task(trigger_rule="none_failed")
def total(words: list[int]) -> int:
    return sum(words)


@task(fail_fast=True)
def build(language: str, kind: str, title: str) -> str:
    return f"{language}.{kind} {title}"


def shout(language: str) -> str:
    """Change an item, in the instance that receives it."""
    return language.upper()


@task
def languages() -> list[str]:
    return ["english", "french"]


with Dag("fan_out_python", db_path="lightflow.db", description="Fan-out in Python") as dag:
    counted = measure.partial(least=1).expand(item=make())  # measure[0], measure[1], measure[2]
    total(counted)  # the values of the instances that have one, in order
    build.partial(title="A page").expand(language=languages().map(shout), kind=["html", "pdf"])  # all combinations

if __name__ == "__main__":
    run = dag.run(mode="thread")
    print(run.value("measure"), run.value("total"), run.value("build"))
