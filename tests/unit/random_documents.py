"""Random changes of documents, for tests that compare two validators."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any


def change_value(
    document: Any, source: random.Random, names: Sequence[str], some_value: Callable[[random.Random], Any]
) -> None:
    """Replace or add a value somewhere in a document, under a name that is there or under one of these."""
    part = source.choice(list(_containers(document)))
    if isinstance(part, dict):
        keys = sorted(part) if source.random() < 0.6 and part else names
        part[source.choice(keys)] = some_value(source)
    else:
        part.append(some_value(source))


def _containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _containers(item)
