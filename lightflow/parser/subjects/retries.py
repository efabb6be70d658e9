"""Retries of tasks and of the run: `retries`, the `retry_…` keys, and the blocks `retry`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.positions import Key
from lightflow.parser.schema_pieces import (
    EXCEPTIONS,
    EXIT_CODES,
    Schema,
    block,
    duration,
    integer,
    is_expression,
    or_expression,
)
from lightflow.parser.tree import Tree
from lightflow.spec.durations import LONGEST_S, PATTERN, seconds
from lightflow.spec.model import RetrySpec
from lightflow.text import quoted

RETRIES: Final = integer("Extra attempts after a failure.", 0, 1000, default=0, examples=[2])
_BACKOFF: Final[Schema] = {
    "description": "Every further wait is this many times the one before.",
    "type": "number",
    "minimum": 1,
    "maximum": 100,
    "default": 1,
    "examples": [2],
}
_JITTER: Final[Schema] = {
    "description": "Lengthens each wait by up to this fraction, so that tasks do not start again at the same time.",
    "type": "number",
    "minimum": 0,
    "maximum": 1,
    "default": 0,
    "examples": [0.2],
}
_DELAY: Final = duration("Time to wait before a retry.", zero=True, default=0, examples=[5, "30s"])
_MAX_DELAY: Final = duration("No wait before a retry is longer than this.", zero=True, examples=["10m"])
# Dagu's names for the keys of a block; its numbers are seconds too.
_MAX_ALIASES: Final[Schema] = {"x-aliases": ["limit"]}
_DELAY_ALIASES: Final[Schema] = {"x-aliases": ["interval_sec", "interval"]}
_MAX_DELAY_ALIASES: Final[Schema] = {"x-aliases": ["max_interval_sec"]}

RETRY: Final = block(
    "Retry",
    "When and how often a failed task is tried again; the block form of the `retry_…` keys.",
    {
        "max": RETRIES | _MAX_ALIASES,
        "delay": _DELAY | _DELAY_ALIASES,
        "backoff": _BACKOFF,
        "max_delay": _MAX_DELAY | _MAX_DELAY_ALIASES,
        "jitter": _JITTER,
        "on_exit_codes": {
            "description": "Try again only after these exit codes (or an exception of `on_exceptions`).",
            **EXIT_CODES,
            "examples": [[75]],
            "x-aliases": ["exit_code", "exit_codes"],
        },
        "on_exceptions": {
            "description": "Try again only after these Python exceptions, by class name, subclasses included.",
            **EXCEPTIONS,
            "examples": [["TimeoutError", "ConnectionError"]],
        },
        "on_status": {
            "description": "Try again only after these statuses of HTTP; `5xx` means all from 500 to 599.",
            "type": "array",
            "items": {
                "type": ["integer", "string"],
                "minimum": 100,
                "maximum": 599,
                "pattern": "^[1-5]([0-9][0-9]|xx)$",
                "x-expects": "a status such as 429, or 5xx",
            },
            "minItems": 1,
            "examples": [[429, "5xx"]],
        },
        "on_sqlstate": {
            "description": "Try again only after these SQLSTATE codes of a database; `08*` means all that begin so.",
            "type": "array",
            "items": {
                "type": "string",
                "pattern": "^[0-9A-Z*?]{1,5}$",
                "x-expects": 'a code in quotes such as "40001" or "08*"',
            },
            "minItems": 1,
            "examples": [["40001", "08*"]],
        },
        "on_codes": {
            "description": "Try again only after failures with these codes, as `why` shows them; `*` and `?` stand for "
            "any characters.",
            "type": "array",
            "items": {"type": "string", "pattern": "^[a-z*?]+:.", "x-expects": 'a code such as "http:timeout"'},
            "minItems": 1,
            "examples": [["http:timeout", "docker:oom"]],
        },
    },
)

RUN_RETRY: Final = block(
    "Retry of the run",
    "When and how often a failed run continues by itself, as `resume` would: successful tasks are preserved, failed "
    "tasks and the tasks that wait for them are tried again.",
    {
        "max": RETRIES | {"description": "The largest number of retries."} | _MAX_ALIASES,
        "delay": duration("Time to wait before a retry.", zero=True, default=0, examples=["1m"], **_DELAY_ALIASES),
        "backoff": _BACKOFF,
        "max_delay": _MAX_DELAY | _MAX_DELAY_ALIASES,
        "jitter": _JITTER | {"description": "Lengthens each wait by up to this fraction."},
    },
)

#: Keys of a task.
TASK_KEYS: Final[dict[str, Schema]] = {
    "retries": or_expression(
        RETRIES | {"description": "Extra attempts after a failure; overrides `settings.retries`."}
    ),
    "retry_delay": or_expression(_DELAY | {"x-aliases": ["retry_interval"]}),
    "retry_backoff": _BACKOFF,
    "max_retry_delay": _MAX_DELAY,
    "retry_jitter": _JITTER,
    "retry": RETRY | {"x-aliases": ["retry_policy"], "x-expects": "a mapping such as {max: 3, delay: 5s, backoff: 2}"},
}

#: The key at the top of the file.
RUN_KEY: Final[Schema] = {
    **RUN_RETRY,
    "x-aliases": ["retry_policy"],
    "x-expects": "a mapping such as {max: 2, delay: 10m}; retries of tasks are in `settings.retries`",
}

#: Flat keys of a task, and the keys of the block that mean the same.
BLOCK_KEYS: Final = {
    "retries": "max",
    "retry_delay": "delay",
    "retry_backoff": "backoff",
    "max_retry_delay": "max_delay",
    "retry_jitter": "jitter",
}


def check_duration(tree: Tree, path: Sequence[Key], value: Any, *, zero: bool) -> Iterator[Problem]:
    """Report text whose duration is out of range; the schema can only match its pattern."""
    if not isinstance(value, str) or not value or not re.fullmatch(PATTERN, value):
        return  # the schema reports it
    length = seconds(value)
    if length > LONGEST_S:
        yield tree.problem(path, f"must be at most 10 years, not {quoted(value)}")
    elif not length and not zero:
        yield tree.problem(path, f"must be more than 0, not {quoted(value)}")


def check_retries(tree: Tree) -> Iterator[Problem]:
    """Report durations that are too long, and values that both forms give."""
    yield from _check_block(tree, tree.root, ())
    for task_id, task in tree.tasks.items():
        path = ("tasks", task_id)
        yield from _check_block(tree, task, path)
        retry = task.get("retry")
        for flat, key in BLOCK_KEYS.items() if isinstance(retry, dict) else ():
            if flat in task and key in task["retry"]:
                message = f'"{flat}" and "retry.{key}" mean the same; keep one of them'
                yield tree.problem([*path, flat], message, key=True)


def _check_block(tree: Tree, keys: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Problem]:
    retry = keys.get("retry")
    for key in ("delay", "max_delay") if isinstance(retry, dict) else ():
        yield from check_duration(tree, [*path, "retry", key], keys["retry"].get(key), zero=True)


def build_retry(task: Mapping[str, Any], default_retries: int) -> RetrySpec:
    """Return the retries of a task; values that are expressions are evaluated when the workflow is built."""
    retry: Mapping[str, Any] = task.get("retry", {})
    if not retry and BLOCK_KEYS.keys().isdisjoint(task):
        return RetrySpec(default_retries)
    values: dict[str, Any] = {"max": default_retries}
    for flat, key in BLOCK_KEYS.items():
        value = task.get(flat, retry.get(key))
        if value is not None:
            values[key] = 0 if is_expression(value) else value
    return RetrySpec(
        **_waits(values),
        on_exit_codes=tuple(int(code) for code in retry.get("on_exit_codes", ())),
        on_exceptions=tuple(retry.get("on_exceptions", ())),
        on_codes=(
            *(f"http:{str(status).replace('x', '?')}" for status in retry.get("on_status", ())),
            *(f"sqlstate:{state}" for state in retry.get("on_sqlstate", ())),
            *retry.get("on_codes", ()),
        ),
    )


def build_run_retry(root: Mapping[str, Any]) -> RetrySpec:
    """Return the retries of the run as a whole."""
    return RetrySpec(**_waits(root.get("retry", {})))


def _waits(retry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a task and a run have in common."""
    return {
        "retries": int(retry.get("max", 0)),
        "delay_s": seconds(retry.get("delay", 0)),
        "backoff": float(retry.get("backoff", 1)),
        "max_delay_s": seconds(retry["max_delay"]) if "max_delay" in retry else None,
        "jitter": float(retry.get("jitter", 0)),
    }
