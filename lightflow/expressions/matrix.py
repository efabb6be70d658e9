"""The combinations of a matrix, by the rules of GitHub Actions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from liteflow.api import value_text

Combination = dict[str, Any]


def combinations(
    axes: Mapping[str, Sequence[Any]], include: Sequence[Mapping[str, Any]], exclude: Sequence[Mapping[str, Any]]
) -> list[Combination]:
    """Return all combinations of the values of the axes, the last axis fastest, without excluded ones.

    An entry of `include` is added to each combination in which it changes no value of an axis; values that another
    entry has added may change. An entry that fits no combination becomes a combination at the end, to which no other
    entry is added.
    """
    product: list[Combination] = []
    if axes:
        product = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if exclude:
        product = [each for each in product if not any(_fits(entry, each) for entry in exclude)]
    added: list[Combination] = []
    for entry in include:
        of_axes = {name: value for name, value in entry.items() if name in axes}
        fitting = [each for each in product if _fits(of_axes, each)]
        for combination in fitting:
            combination |= {name: value for name, value in entry.items() if name not in axes}
        if not fitting:
            added.append(dict(entry))
    return product + added


def _fits(part: Any, whole: Any) -> bool:
    """Return whether `whole` contains the values of `part`, compared as text as GitHub does: 3 equals "3"."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(name in whole and _fits(part[name], whole[name]) for name in part)
    if isinstance(part, list | tuple):
        same = isinstance(whole, list | tuple) and len(part) == len(whole)
        return same and all(map(_fits, part, whole))
    return not isinstance(whole, Mapping | list | tuple) and value_text(part) == value_text(whole)
