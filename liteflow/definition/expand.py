"""The lists of `expand` and `expand_kwargs`, checked and encoded while a dag is being built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from liteflow.definition.mapping import ListExpansion, MapRef
from liteflow.definition.task import Task, check_value, with_refs
from liteflow.errors import DefinitionError, PayloadError
from liteflow.values.payload import Payload, encode
from liteflow.work import KEYWORDS, Body, Call, Item, Ref


def expand_over(
    lists: Mapping[str, Any], arguments: Mapping[str, Any], label: str | None, task_id: str
) -> tuple[ListExpansion, dict[str, Any]]:
    """Return the expansion of a task, and its arguments with placeholders for the items.

    Raises:
        DefinitionError: a list is not a valid list, or has an item that cannot be stored; an argument is given twice.
    """
    twice = arguments.keys() & lists.keys()
    if twice:
        raise DefinitionError(f"task {task_id!r}: {min(twice)!r} is given twice: by expand, and by partial or env")
    sources, items = dict[str, Ref | Sequence[Payload | Ref]](), dict[str, Item]()
    for name, source in lists.items():
        maps: tuple[Callable[[Any], Any], ...] = ()
        if isinstance(source, MapRef):
            maps, source = source.maps, source.ref
        items[name] = Item(name=name, maps=maps)
        sources[name] = _source(name, source, task_id)
    return ListExpansion(lists=sources, label=label), {**arguments, **items}


def expand_body(lists: Mapping[str, Any], body: Body, label: str | None, task_id: str) -> ListExpansion:
    """Return the expansion of a task whose body has an `Item` in the place of the item of each list.

    Raises:
        DefinitionError: as `expand_over`; or an `Item` has no list.
    """
    values = (body.kwargs, body.env) if isinstance(body, Call) else (body.argv, body.env)
    names = {item.name for item in _items_in(values)}
    if missing := sorted(names - lists.keys()):
        raise DefinitionError(f"task {task_id!r}: its body has Item(name={missing[0]!r}), and expand has no such list")
    if mapped := [name for name, source in lists.items() if isinstance(source, MapRef)]:
        raise DefinitionError(f"task {task_id!r}: the functions of map() run in tasks that are functions: {mapped[0]}")
    return expand_over(lists, {}, label, task_id)[0]


def _items_in(value: Any) -> Iterator[Item]:
    if isinstance(value, Item):
        yield value
    elif isinstance(value, Mapping):
        yield from _items_in(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _items_in(item)


def _source(name: str, source: Any, task_id: str) -> Ref | Sequence[Payload | Ref]:
    """Return a list with its items encoded, or the placeholder for the list that a task returns."""
    if isinstance(source, Task):
        source = source.output()
    if isinstance(source, Ref):
        return source
    try:
        check_value(source)
    except DefinitionError as error:
        raise DefinitionError(f"task {task_id!r}: argument {name!r}: {error}") from None
    if isinstance(source, Mapping):
        source = list(source.items())
    if isinstance(source, str | bytes) or not isinstance(source, Sequence):
        call = "expand_kwargs()" if name == KEYWORDS else f"expand({name}=…)"
        raise DefinitionError(f"task {task_id!r}: {call} takes a list or a task that returns one, not {source!r}")
    return [_item(item, task_id) for item in source]


def _item(item: Any, task_id: str) -> Payload | Ref:
    if isinstance(item, Task):
        return item.output()
    if isinstance(item, Ref):
        return item
    upstream = set[str]()
    try:
        with_refs(item, upstream)
    except DefinitionError as error:
        raise DefinitionError(f"task {task_id!r}: an item of the list to expand over: {error}") from None
    if upstream:
        raise DefinitionError(
            f"task {task_id!r}: a task can be an item of the list to expand over, not be inside one: {min(upstream)!r}"
        )
    try:
        return encode(item)
    except PayloadError as error:
        raise DefinitionError(f"task {task_id!r}: {error}") from None
