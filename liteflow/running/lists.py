"""The list of a mapped task, and which of its items have instances already.

An instance belongs to its item: it keeps its index, its attempts and its value wherever the item stands in a list that
has changed between two parts of a run. An index is never used for a second item, so the idempotency key of an instance
never stands for two. An item that is not in the list any more has only its history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from liteflow.masking import Masker
from liteflow.state.records import PreviousInstance
from liteflow.values.item_digest import item_digest
from liteflow.work import MappedRow


class Listed(NamedTuple):
    """The rows of a mapped task in the order of its list, with the index and the digest of each."""

    rows: Sequence[MappedRow]
    indexes: Sequence[int]
    digests: Sequence[str]
    new: Sequence[int] = ()  # the places of items that have no instance yet, though others have
    gone: Sequence[int] = ()  # the indexes of instances whose items are not in the list


def listed(
    rows: Sequence[MappedRow], kept: Mapping[int, PreviousInstance], free: Callable[[], int], masker: Masker | None
) -> Listed:
    """Match the rows of a list with the instances of an earlier part of the run; `free` is asked for the first index
    that no instance has ever had.
    """
    digests = [item_digest(row.items, place, masker) for place, row in enumerate(rows)]
    places = _matched(rows, digests, kept)
    if len(places) == len(rows) == len(kept) and all(index == place for place, index in places.items()):
        return Listed(rows, range(len(rows)), digests)
    new = [place for place in range(len(rows)) if place not in places]
    if new:
        first = max(free(), max(kept, default=-1) + 1)
        if not places and not kept:
            return Listed(rows, range(first, first + len(rows)), digests)
        places |= {place: index for index, place in enumerate(new, start=first)}
    taken = set(places.values())
    gone = [index for index in kept if index not in taken]
    return Listed(rows, [places[place] for place in range(len(rows))], digests, new if kept else (), gone)


def _matched(rows: Sequence[MappedRow], digests: Sequence[str], kept: Mapping[int, PreviousInstance]) -> dict[int, int]:
    """Return the index of the instance for each place in the list whose item has one."""
    instances: dict[str, list[int]] = {}
    places: dict[int, int] = {}
    for index, one in kept.items():
        if one.item is not None:
            instances.setdefault(one.item, []).append(index)
        elif index < len(rows) and rows[index].label == one.label:  # stored by a version that had no digests
            places[index] = index
    if not instances:
        return places
    wanted: dict[str, list[int]] = {}
    for place, digest in enumerate(digests):
        if place not in places:
            wanted.setdefault(digest, []).append(place)
    for digest, those in wanted.items():
        # Of equal items more may have instances than are left: those that succeeded are taken.
        having = sorted(instances.get(digest, ()), key=lambda index: (kept[index].status == "PENDING", index))
        places |= dict(zip(those, sorted(having[: len(those)]), strict=False))
    return places
