"""Records: classes of named fields that are given by keyword and never change.

    class Point(Record):
        x: int
        y: int = 0

A record behaves as a class under `@dataclass(frozen=True, slots=True, kw_only=True)`, and type checkers treat it as
such; with `class Point(Record, kw_only=False)` its fields can be given by position too. It exists for the start of a
program: `dataclass` takes 0.6 ms to make a class of eight fields and 7 ms to import, which is half of the start of
`lightflow run` for the records that a run needs (docs/adr/0035). A record class takes 0.01 ms; its
`__init__` is compiled when more than a few records are made: most classes have one or two in a small run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar, dataclass_transform

#: The default of fields that are mappings.
EMPTY_MAPPING: Final[Mapping[Any, Any]] = {}
#: Records of a class that are made before its `__init__` is compiled.
_UNCOMPILED: Final = 3
_R = TypeVar("_R", bound="Record")


class _RecordType(type):
    """Makes the annotated names of a class its slots, and their values the defaults of `__init__`."""

    _fields: tuple[str, ...]
    _positional: tuple[str, ...]  #: the fields that can be given by position
    _defaults: dict[str, Any]

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, kw_only: bool = True
    ) -> _RecordType:
        own_fields = tuple(
            field
            for field, annotation in namespace.get("__annotations__", {}).items()
            if not str(annotation).startswith(("ClassVar", "Final"))
        )
        own_defaults = {field: namespace.pop(field) for field in own_fields if field in namespace}
        for field, value in own_defaults.items():
            if type(value) in (dict, list, set) and value is not EMPTY_MAPPING:
                raise TypeError(f"{name}.{field}: the default is shared by all records; use EMPTY_MAPPING or a tuple")
        parents = [base for base in bases if isinstance(base, _RecordType)]
        inherited = {field: value for parent in parents for field, value in parent._defaults.items()}
        namespace["__slots__"] = own_fields
        namespace["_fields"] = (*(field for parent in parents for field in parent._fields), *own_fields)
        positional = () if kw_only else own_fields
        namespace["_positional"] = (*(field for parent in parents for field in parent._positional), *positional)
        namespace["_defaults"] = inherited | own_defaults
        namespace.setdefault("__init__", _first_init())  # an `__init__` that is set later updates the slots of the type
        return super().__new__(mcs, name, bases, namespace)


def _first_init() -> Any:
    """Return the `__init__` of the first records: compiling another costs as much as a hundred records made by it."""
    count = 0

    def __init__(self: Any, *positions: Any, **values: Any) -> None:  # noqa: N807 - it is the method of that name
        nonlocal count
        count += 1
        cls = type(self)
        named = dict(zip(cls._positional, positions, strict=False))
        complete = cls._defaults | named | values
        is_valid = len(named) == len(positions) and not named.keys() & values.keys()
        if count > _UNCOMPILED or not is_valid or complete.keys() != set(cls._fields):
            compiled = cls.__init__ = _compile_init(cls)
            compiled(self, *positions, **values)  # raises the TypeError for a missing or unknown field
            return
        for name, value in complete.items():
            object.__setattr__(self, name, value)

    return __init__


def _compile_init(cls: Any) -> Any:
    """Return an `__init__` that takes the fields and stores them past `__setattr__`."""
    parameters = {name: f"{name}=_defaults[{name!r}]" if name in cls._defaults else name for name in cls._fields}
    positional = [parameters.pop(name) for name in cls._positional]
    scope = {f"_set_{name}": getattr(cls, name).__set__ for name in cls._fields} | {"_defaults": cls._defaults}
    head = f"def __init__({', '.join(['self', *positional, *(['*', *parameters.values()] if parameters else [])])}):"
    body = [f"    _set_{name}(self, {name})" for name in cls._fields] or ["    pass"]
    exec("\n".join([head, *body]), scope)
    init = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record(metaclass=_RecordType):
    """The base class of records. A default value is shared by all records, so it must not be one that is changed."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot assign to field {name!r} of a record")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name!r} of a record")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in type(self)._fields)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in type(self)._fields))

    def __repr__(self) -> str:
        fields = (f"{name}={getattr(self, name)!r}" for name in type(self)._fields)
        return f"{type(self).__qualname__}({', '.join(fields)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), fields_of(self))


def _restore(cls: type[_R], values: dict[str, Any]) -> _R:
    """Return a record from its pickled values."""
    return cls(**values)


def fields_of(record: Record) -> dict[str, Any]:
    """Return the values of the fields by name."""
    return {name: getattr(record, name) for name in type(record)._fields}


def replace(record: _R, **changes: Any) -> _R:
    """Return a copy of a record with other values for some fields."""
    return type(record)(**fields_of(record) | changes)
