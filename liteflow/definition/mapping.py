"""Mapping a task over a list: one definition, an instance for each item.

`Mapped` is what `expand()` and `expand_kwargs()` make: it knows the lists, or which tasks return them, and turns them
into the rows of items that the instances get. It runs in the orchestrator, so it never unpickles.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from liteflow.errors import DefinitionError, InputError, PayloadError
from liteflow.values.payload import Payload, decode, encode, is_pickled, parts
from liteflow.work import KEYWORDS, MappedRow, Ref, RunInfo, input_name

#: More instances than this are taken for a mistake.
MAX_INSTANCES: Final = 1_000_000
_LABEL_CHARACTERS: Final = 80
_KIND: Final[Mapping[type, str]] = {
    dict: "a mapping",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "nothing",
}


class MapRef(NamedTuple):
    """Another task's list, each item of which passes through functions: what `.map()` returns.

    The functions run in the instance that takes the item: one that fails, or raises SkipTask, concerns that alone.
    """

    ref: Ref
    maps: tuple[Callable[[Any], Any], ...]

    def map(self, function: Callable[[Any], Any]) -> MapRef:
        """One function more."""
        return MapRef(self.ref, (*self.maps, checked_function(function)))


def checked_function(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Raises DefinitionError where it is none."""
    if not callable(function):
        raise DefinitionError(f"map() takes a function, not {function!r}")
    return function


class Mapped(NamedTuple):
    """The lists by the name of the argument that ranges over them; of several, each with each, the last one fastest.

    A list is written out (encoded values, and Refs that stand for one item), or a Ref to the task that returns it.
    """

    lists: Mapping[str, Ref | Sequence[Payload | Ref]]
    label: str | None = None  # a pattern for `str.format`, by argument

    @property
    def reads(self) -> Sequence[Ref]:
        """The values of other tasks that it takes."""
        found = dict[Ref, None]()
        for one in self.lists.values():
            found |= dict.fromkeys([one] if isinstance(one, Ref) else [item for item in one if isinstance(item, Ref)])
        return tuple(found)

    def rows(self, inputs: Mapping[str, Payload], info: RunInfo) -> Sequence[MappedRow]:
        """A row for each instance. Raises InputError."""
        lists = {name: items_of(one, inputs, f"{name!r}") for name, one in self.lists.items()}
        count = math.prod(map(len, lists.values()))
        if count > MAX_INSTANCES:
            raise InputError(f"mapped over {count:,} items; at most {MAX_INSTANCES:,} are possible")
        names = list(lists)
        if self.label is None:
            return [
                MappedRow(dict(zip(names, row, strict=True)), instance_label(row))
                for row in itertools.product(*lists.values())
            ]
        return [
            MappedRow(dict(zip(names, row, strict=True)), self._label(dict(zip(lists, row, strict=True))))
            for row in itertools.product(*lists.values())
        ]

    def _label(self, row: Mapping[str, Payload]) -> str:
        assert self.label is not None
        try:
            values = {name: decode(payload) for name, payload in row.items()}
            if isinstance(more := values.pop(KEYWORDS, None), dict):
                values |= more
            return shorten_label(self.label.format_map(values))
        except (KeyError, IndexError, AttributeError, ValueError, TypeError) as error:
            shown = f"{type(error).__name__}: {error}"
            raise InputError(f"map_key {self.label!r} does not fit the items ({shown})") from None


def items_of(source: Ref | Sequence[Payload | Ref], inputs: Mapping[str, Payload], what: str) -> Sequence[Payload]:
    """The items of a list, each encoded. Raises InputError; `what` is what is mapped."""
    if isinstance(source, Ref):
        return items_in(inputs.get(input_name(source)), source, what)
    null = Payload("json", "null", 4)
    return [inputs.get(input_name(item), null) if isinstance(item, Ref) else item for item in source]


def items_in(payload: Payload | None, ref: Ref, what: str) -> Sequence[Payload]:
    """The items of a list that a task has returned. Raises InputError."""

    def wrong(found: str) -> InputError:
        value = "the value" if ref.key == "return_value" else f"the output {ref.key!r}"
        return InputError(f"{what} is to be mapped over {value} of task {ref.task_id!r}, which {found}")

    if payload is None:
        raise wrong("has none")
    if payload.encoding == "list":  # of a mapped task
        return parts(payload)
    if is_pickled(payload):
        raise wrong("is a Python object (it was pickled); return a list of numbers, text, mappings, dates or paths")
    try:
        value = decode(payload)
    except PayloadError as error:
        raise wrong(f"cannot be read: {error}") from None
    return [encode(item) for item in items_of_value(value, wrong)]


def items_of_value(value: Any, wrong: Callable[[str], InputError], *, pairs: bool = True) -> Sequence[Any]:
    """The items of a list; with `pairs` also those of a mapping: lists of a key and a value. What else it is, `wrong`
    is told: it makes the error.
    """
    if pairs and isinstance(value, dict):
        return [[key, one] for key, one in value.items()]
    if not isinstance(value, list | tuple):
        raise wrong(f"is {_KIND.get(type(value), type(value).__name__)} and no list")
    return value


def instance_label(row: Sequence[Payload]) -> str | None:
    """What people can tell an instance by: its items where they are short."""
    shown = []
    for payload in row:
        text = payload.data
        if payload.encoding != "json" or not isinstance(text, str) or len(text) > _LABEL_CHARACTERS or text[:1] in "[{":
            return None
        shown.append(str(decode(payload)) if text[:1] == '"' else text)
    return shorten_label(", ".join(shown))


def shorten_label(text: str) -> str:
    """The text as a label: one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= _LABEL_CHARACTERS else line[: _LABEL_CHARACTERS - 1] + "…"
