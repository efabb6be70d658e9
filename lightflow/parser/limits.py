"""Pools, priorities, the run's own timeout, retry and concurrency: what no schema can say of them, and their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lightflow.errors import Problem
from lightflow.parser.canonical import Tree
from lightflow.spec.durations import LONGEST_S, PATTERN, seconds
from lightflow.spec.model import Limits, RetrySpec
from lightflow.text import did_you_mean, quoted
from liteflow import Concurrency, Pool
from liteflow.api import QueueOptions, SlotNeeds


def check_limits(tree: Tree, tasks: Mapping[str, dict[str, Any]]) -> Iterator[Problem]:
    """Times that are too long, pools that are not there or too small, and what is said twice."""
    root = tree.root
    if isinstance(root.get("timeout"), str):
        yield from check_time(tree, ["timeout"], root["timeout"], zero=False)
    if isinstance(root.get("retry"), dict):
        for key in ("delay", "max_delay"):
            if isinstance(root["retry"].get(key), str):
                yield from check_time(tree, ["retry", key], root["retry"][key], zero=True)
    pools = root.get("pools", {})
    if not isinstance(pools, dict):
        return
    for task_id, task in tasks.items():
        if "pool" in task or "resources" in task or "pool_slots" in task:
            yield from _check_needs(tree, task_id, task, pools)


def _check_needs(tree: Tree, task_id: str, task: dict[str, Any], pools: dict[str, Any]) -> Iterator[Problem]:
    pool, resources = task.get("pool", []), task.get("resources", {})
    wanted: list[tuple[list[str | int], Any, list[str | int], Any]] = []  # where and what: the pool, how many
    here: list[str | int] = ["tasks", task_id]
    if isinstance(pool, str):
        wanted.append(([*here, "pool"], pool, [*here, "pool_slots"], task.get("pool_slots", 1)))
    elif isinstance(pool, list):
        for index, name in enumerate(pool):
            wanted.append(([*here, "pool", index], name, [*here, "pool_slots"], task.get("pool_slots", 1)))
            if name in pool[:index]:
                yield tree.problem([*here, "pool", index], f"pool {quoted(name)} is named twice")
    if isinstance(resources, dict):
        for name, slots in resources.items():
            wanted.append(([*here, "resources", name], name, [*here, "resources", name], slots))
            if name == pool or (isinstance(pool, list) and name in pool):
                message = f"pool {quoted(name)} is named by `pool` too; keep one of them"
                yield tree.problem([*here, "resources", name], message, key=True)
    if "pool_slots" in task and "pool" not in task:
        yield tree.problem([*here, "pool_slots"], "says how many slots of `pool`, and there is no `pool`", key=True)
    for place, name, number_place, slots in wanted:
        if not isinstance(name, str):
            continue
        if name not in pools:
            hint = did_you_mean(name, pools) or "; declare it: pools: {" + name[:40] + ": 1}"
            yield tree.problem(place, f"no pool {quoted(name)}{hint}", key=place[2] == "resources")
            continue
        size = pools[name].get("slots") if isinstance(pools[name], dict) else pools[name]
        if _is_number(slots) and _is_number(size) and slots > size:
            where = number_place if number_place[2] in task else place
            message = f"{slots} slots of pool {quoted(name)}, which has {size}: the task could never start"
            yield tree.problem(where, message)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_time(tree: Tree, path: list[str | int], text: str, *, zero: bool) -> Iterator[Problem]:
    """Limits of a time written as text, which the schema can only match."""
    if not text or not re.fullmatch(PATTERN, text):
        return  # the schema says so
    length = seconds(text)
    if length > LONGEST_S:
        yield tree.problem(path, f"must be at most 10 years, not {quoted(text)}")
    elif not length and not zero:
        yield tree.problem(path, f"must be more than 0, not {quoted(text)}")


def limits_of(root: Mapping[str, Any]) -> Limits:
    """The limits of a checked file."""
    pools = {
        name: Pool(int(pool["slots"]) if "slots" in pool else None, pool.get("description", ""))
        if isinstance(pool, dict)
        else Pool(int(pool))
        for name, pool in root.get("pools", {}).items()
    }
    retry, place = root.get("retry", {}), root.get("concurrency")
    if isinstance(place, dict):
        place = Concurrency(place.get("group"), int(place.get("limit", 1)), place.get("on_conflict", "queue"))
    elif place is not None:
        place = Concurrency(group=place) if isinstance(place, str) else Concurrency(limit=int(place))
    return Limits(
        pools,
        seconds(root["timeout"]) if "timeout" in root else None,
        RetrySpec(
            int(retry.get("max", 0)),
            seconds(retry.get("delay", 0)),
            float(retry.get("backoff", 1)),
            seconds(retry["max_delay"]) if "max_delay" in retry else None,
            float(retry.get("jitter", 0)),
        ),
        place,
    )


def order_of(task: Mapping[str, Any]) -> QueueOptions:
    """The place of a checked task among those that may start."""
    pool, max_parallel = task.get("pool", ()), task.get("max_parallel")
    slots = int(task.get("pool_slots", 1))
    needs = dict.fromkeys([pool] if isinstance(pool, str) else pool, slots)
    needs |= {name: int(number) for name, number in task.get("resources", {}).items()}
    wanted: SlotNeeds = tuple(sorted(needs.items()))
    return QueueOptions(int(task.get("priority", 0)), None if max_parallel is None else int(max_parallel), wanted)
