"""The combinations of a matrix, by the rules of GitHub Actions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from liteflow.values.params import as_text

Combination = dict[str, Any]


def combinations(
    axes: Mapping[str, Sequence[Any]], include: Sequence[Mapping[str, Any]], exclude: Sequence[Mapping[str, Any]]
) -> list[Combination]:
    """Each value with each, the last axis fastest, without what is excluded; then what is included.

    An inclusion is added to every combination in which it changes no value of an axis (what another inclusion has added
    may change); one that fits no combination becomes one of its own, to which nothing is added.
    """
    found: list[Combination] = []
    if axes:
        found = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if exclude:
        found = [one for one in found if not any(_fits(out, one) for out in exclude)]
    more: list[Combination] = []
    for extra in include:
        own = {name: value for name, value in extra.items() if name in axes}
        fitting = [one for one in found if _fits(own, one)]
        for one in fitting:
            one |= {name: value for name, value in extra.items() if name not in axes}
        if not fitting:
            more.append(dict(extra))
    return found + more


def _fits(part: Any, whole: Any) -> bool:
    """Are the values of `part` those of `whole`? Written as text, as GitHub compares: 3 is "3"."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(name in whole and _fits(part[name], whole[name]) for name in part)
    if isinstance(part, list | tuple):
        same = isinstance(whole, list | tuple) and len(part) == len(whole)
        return same and all(map(_fits, part, whole))
    return not isinstance(whole, Mapping | list | tuple) and as_text(part) == as_text(whole)
