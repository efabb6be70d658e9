"""The list of a mapped task, matched with the instances of the previous part of the run.

An instance belongs to its item: it keeps its index, its attempts and its value wherever the item is in a list that has
changed between two parts of a run. An index is never used for a second item, so the idempotency key of an instance
never stands for two. An item that is no longer in the list has only its history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from liteflow.masking import Masker
from liteflow.record import Record
from liteflow.state.records import PreviousInstance
from liteflow.values.item_digest import item_digest
from liteflow.work import MappedRow


class MatchedList(Record):
    """The rows of a mapped task in the order of its list, with the index and the digest of each."""

    rows: Sequence[MappedRow]
    indexes: Sequence[int]
    digests: Sequence[str]
    added: Sequence[int] = ()  # the positions of items that have no instance yet, though others have
    removed: Sequence[int] = ()  # the indexes of instances whose items are not in the list


def match_list(
    rows: Sequence[MappedRow],
    previous: Mapping[int, PreviousInstance],
    first_free: Callable[[], int],
    masker: Masker | None,
) -> MatchedList:
    """Match the rows of a list with the previous instances; `first_free` returns an index that none ever had."""
    digests = [item_digest(row.items, position, masker) for position, row in enumerate(rows)]
    matches = _matches(rows, digests, previous)
    if len(matches) == len(rows) == len(previous) and all(index == position for position, index in matches.items()):
        return MatchedList(rows=rows, indexes=range(len(rows)), digests=digests)
    new = [position for position in range(len(rows)) if position not in matches]
    if new:
        first = max(first_free(), max(previous, default=-1) + 1)
        if not matches and not previous:
            return MatchedList(rows=rows, indexes=range(first, first + len(rows)), digests=digests)
        matches |= {position: index for index, position in enumerate(new, start=first)}
    present = set(matches.values())
    removed = [index for index in previous if index not in present]
    indexes = [matches[position] for position in range(len(rows))]
    return MatchedList(rows=rows, indexes=indexes, digests=digests, added=new if previous else (), removed=removed)


def _matches(
    rows: Sequence[MappedRow], digests: Sequence[str], previous: Mapping[int, PreviousInstance]
) -> dict[int, int]:
    """Return the index of the instance for each position in the list whose item has one."""
    instances: dict[str, list[int]] = {}
    matches: dict[int, int] = {}
    for index, instance in previous.items():
        if instance.item is not None:
            instances.setdefault(instance.item, []).append(index)
        elif index < len(rows) and rows[index].label == instance.label:  # stored by a version without digests
            matches[index] = index
    if not instances:
        return matches
    positions: dict[str, list[int]] = {}
    for position, digest in enumerate(digests):
        if position not in matches:
            positions.setdefault(digest, []).append(position)
    for digest, equal in positions.items():
        # Of equal items there may be fewer than instances: those that succeeded are taken first.
        indexes = sorted(instances.get(digest, ()), key=lambda index: (previous[index].status == "PENDING", index))
        matches |= dict(zip(equal, sorted(indexes[: len(equal)]), strict=False))
    return matches
