"""Checks of durations that are written as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from lightflow.errors import Problem
from lightflow.parser.positions import Key
from lightflow.parser.tree import Tree
from lightflow.spec.durations import LONGEST_S, PATTERN, seconds
from lightflow.text import quoted


def check_duration(tree: Tree, path: Sequence[Key], value: Any, *, zero: bool) -> Iterator[Problem]:
    """Report text whose duration is out of range; the schema can only match its pattern."""
    if not isinstance(value, str) or not value or not re.fullmatch(PATTERN, value):
        return  # the schema reports it
    length = seconds(value)
    if length > LONGEST_S:
        yield tree.problem(path, f"must be at most 10 years, not {quoted(value)}")
    elif not length and not zero:
        yield tree.problem(path, f"must be more than 0, not {quoted(value)}")
