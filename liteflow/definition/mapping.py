"""Mapped tasks: one definition, and an instance for each item of a list.

`ListExpansion` has the lists of `expand` and `expand_kwargs`, or the tasks that return them, and turns them into the
rows of the instances. It runs in the orchestrator, so it never unpickles.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from liteflow.errors import DefinitionError, InputError, PayloadError
from liteflow.record import Record
from liteflow.values.payload import Payload, decode, encode, is_pickled, parts
from liteflow.work import KEYWORDS, MappedRow, Ref, RunInfo, input_name

#: A larger number of instances is an error.
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


class MapRef(Record, kw_only=False):
    """The list of another task, with functions that are applied to each item: the result of `.map()`.

    The functions run in the instance that takes the item, so an error or a SkipTask concerns that instance alone.
    """

    ref: Ref
    maps: tuple[Callable[[Any], Any], ...]

    def map(self, function: Callable[[Any], Any]) -> MapRef:
        """Return the list with one more function."""
        return MapRef(self.ref, (*self.maps, checked_function(function)))


def checked_function(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the function. Raises DefinitionError where it cannot be called."""
    if not callable(function):
        raise DefinitionError(f"map() takes a function, not {function!r}")
    return function


class ListExpansion(Record):
    """Lists by the name of the argument that takes the items. Several lists are combined, the last varies fastest.

    A list is written out (encoded values, and Refs that each mean one item), or a Ref to the task that returns it.
    """

    lists: Mapping[str, Ref | Sequence[Payload | Ref]]
    label: str | None = None  # a pattern for `str.format`, by argument

    @property
    def reads(self) -> Sequence[Ref]:
        """The values of other tasks that it takes."""
        refs = dict[Ref, None]()
        for source in self.lists.values():
            parts = [source] if isinstance(source, Ref) else [item for item in source if isinstance(item, Ref)]
            refs |= dict.fromkeys(parts)
        return tuple(refs)

    def rows(self, inputs: Mapping[str, Payload], info: RunInfo) -> Sequence[MappedRow]:
        """Return a row for each instance. Raises InputError."""
        lists = {name: items_of(source, inputs, repr(name)) for name, source in self.lists.items()}
        count = math.prod(map(len, lists.values()))
        if count > MAX_INSTANCES:
            raise InputError(f"mapped over {count:,} items; at most {MAX_INSTANCES:,} are possible")
        rows = []
        for items in itertools.product(*lists.values()):
            row = dict(zip(lists, items, strict=True))
            rows.append(MappedRow(row, instance_label(items) if self.label is None else self._label(row)))
        return rows

    def _label(self, row: Mapping[str, Payload]) -> str:
        """Return the label of an instance by the pattern. Raises InputError."""
        assert self.label is not None
        try:
            values = {name: decode(payload) for name, payload in row.items()}
            keywords = values.pop(KEYWORDS, None)
            if isinstance(keywords, dict):
                values |= keywords
            return shorten_label(self.label.format_map(values))
        except (KeyError, IndexError, AttributeError, ValueError, TypeError) as error:
            raise InputError(
                f"map_key {self.label!r} does not fit the items ({type(error).__name__}: {error})"
            ) from None


def items_of(source: Ref | Sequence[Payload | Ref], inputs: Mapping[str, Payload], what: str) -> Sequence[Payload]:
    """Return the items of a list, each encoded. `what` is the name of the list in errors. Raises InputError."""
    if isinstance(source, Ref):
        return items_in(inputs.get(input_name(source)), source, what)
    null = Payload("json", "null", 4)
    return [inputs.get(input_name(item), null) if isinstance(item, Ref) else item for item in source]


def items_in(payload: Payload | None, ref: Ref, what: str) -> Sequence[Payload]:
    """Return the items of the list that a task has returned. Raises InputError."""

    def wrong(problem: str) -> InputError:
        value = "the value" if ref.key == "return_value" else f"the output {ref.key!r}"
        return InputError(f"{what} is to be mapped over {value} of task {ref.task_id!r}, which {problem}")

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
    """Return the items of a list; with `pairs` also those of a mapping, as lists of a key and a value.

    Raises:
        InputError: it is something else. `wrong` makes the error from what it is.
    """
    if pairs and isinstance(value, dict):
        return [[key, item] for key, item in value.items()]
    if not isinstance(value, list | tuple):
        raise wrong(f"is {_KIND.get(type(value), type(value).__name__)} and no list")
    return value


def instance_label(items: Sequence[Payload]) -> str | None:
    """Return the label of an instance for people: its items, where they are short."""
    texts = []
    for payload in items:
        text = payload.data
        if payload.encoding != "json" or not isinstance(text, str) or len(text) > _LABEL_CHARACTERS or text[:1] in "[{":
            return None
        texts.append(str(decode(payload)) if text[:1] == '"' else text)
    return shorten_label(", ".join(texts))


def shorten_label(text: str) -> str:
    """Return the text as a label: one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= _LABEL_CHARACTERS else line[: _LABEL_CHARACTERS - 1] + "…"
