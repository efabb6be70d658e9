"""The filters and tests of expressions: safe ones of Jinja, strict replacements for its lenient ones, and our own.

A value may come from an untrusted source, so the work and the memory of each filter are bounded by the size of its
arguments.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from jinja2 import Environment, Undefined
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.tests import TESTS as JINJA_TESTS

from lightflow.spec.model import Identifier
from liteflow.api import value_text

_OFFSETS: Final = ("years", "months", "weeks", "days", "hours", "minutes")
MOST: Final = 1_000_000  # characters, or items, that one operation may create

_OF_JINJA: Final = (
    *("abs", "capitalize", "d", "default", "dictsort", "first", "items", "last", "length", "count", "list", "lower"),
    *("map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "string", "sum", "title"),
    *("trim", "truncate", "unique", "upper", "urlencode", "wordcount"),
)
_TESTS_OF_JINJA: Final = (
    *("defined", "undefined", "none", "boolean", "true", "false", "integer", "float", "number", "string", "mapping"),
    *("iterable", "sequence", "in", "even", "odd", "divisibleby", "lower", "upper"),
    *("==", "eq", "equalto", "!=", "ne", ">", "gt", "greaterthan", ">=", "ge", "<", "lt", "lessthan", "<=", "le"),
)


_JINJA_FILTERS: Final[Mapping[str, Any]] = JINJA_FILTERS
_JINJA_TESTS: Final[Mapping[str, Any]] = JINJA_TESTS


class TooMuch(ValueError):
    """An expression would take too much work or memory."""


def bounded(size: float, what: str) -> None:
    """Raise TooMuch if an operation would create too many characters or items."""
    if size > MOST:
        raise TooMuch(f"{what} would make more than {MOST:,} characters or items")


def text_of(value: Any) -> str:
    """Return a value as text: `true`, `3`, JSON for lists and mappings, empty text for none."""
    if isinstance(value, Undefined):
        value._fail_with_undefined_error()
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "surrogateescape")
    return value_text(list(value) if isinstance(value, set | frozenset) else value)


def _json(value: Any, indent: int | None = None) -> str:
    bounded((indent or 0) * 1000, "the indentation")
    if isinstance(value, Undefined):
        value._fail_with_undefined_error()
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)


def _from_json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"from_json: not JSON: {error}") from None


def _quote(value: Any) -> str:
    """Return the value as one word of shell text."""
    return shlex.quote(text_of(value))


def _ident(value: Any) -> Identifier:
    """Return the name of a table or a column, which becomes part of SQL, in quotes."""
    return Identifier(text_of(value))


def _join(values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    texts = [text_of(value[attribute] if attribute is not None else value) for value in values]
    bounded(sum(map(len, texts)) + len(separator) * len(texts), "join")
    return separator.join(texts)


def _replace(value: Any, old: str, new: str) -> str:
    text = text_of(value)
    bounded(len(text) + (text.count(old) * max(len(new) - len(old), 0)), "replace")
    return text.replace(old, new)


def _shown(value: Any) -> str:
    """Return a value for a message. Long text is not shown: the start of a secret could not be masked."""
    text = text_of(value)
    return repr(text) if len(text) <= 60 else f"a text of {len(text):,} characters"


def _int(value: Any, default: int | None = None) -> int:
    try:
        return int(value.strip() if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        if default is None:
            raise ValueError(f"int: {_shown(value)} is not a whole number") from None
        return default


def _float(value: Any, default: float | None = None) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        if default is None:
            raise ValueError(f"float: {_shown(value)} is not a number") from None
        return default


def _round(value: float, digits: int = 0) -> float:
    bounded(abs(digits) * 10_000, "round")
    return round(value, digits) if digits else round(value)


def _date(value: Any, form: str = "%Y-%m-%d") -> str:
    """Return a date, a time or seconds since 1970 (UTC) in the format of strftime."""
    bounded(len(form) * 1000, "date")
    text: str = _moment(value, "date").strftime(form)
    return text


def _date_add(value: Any, **offsets: int) -> Any:
    """Return a date or time plus years, months, weeks, days, hours and minutes.

    If the resulting month does not have the day, the result is the last day of that month.
    """
    import calendar
    import datetime

    start = _moment(value, "date_add")
    for name, number in offsets.items():
        if name not in _OFFSETS:
            raise ValueError(f"date_add: there is no {name!r}; there are {', '.join(_OFFSETS)}")
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError(f"date_add: {name} must be a whole number, not {_shown(number)}")
        if name in ("hours", "minutes") and not isinstance(start, datetime.datetime):
            raise ValueError(f"date_add: a date has no {name}; use days")
    if not offsets:
        raise ValueError(f"date_add: say how much, such as date_add(days=-1); there are {', '.join(_OFFSETS)}")
    months = start.year * 12 + start.month - 1 + offsets.pop("years", 0) * 12 + offsets.pop("months", 0)
    try:
        year, month = months // 12, months % 12 + 1
        if not datetime.MINYEAR <= year <= datetime.MAXYEAR:
            raise OverflowError
        day = min(start.day, calendar.monthrange(year, month)[1])
        return start.replace(year=year, month=month, day=day) + datetime.timedelta(**offsets)
    except OverflowError:
        raise ValueError("date_add: the date is out of range; years are from 1 to 9999") from None


def _moment(value: Any, name: str) -> Any:
    """Return the date or time that a value represents."""
    import datetime

    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.datetime.fromtimestamp(value, datetime.UTC)
        if isinstance(value, str):
            text = value.strip()
            return datetime.date.fromisoformat(text) if len(text) <= 10 else datetime.datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{name}: {_shown(value)} is not a date") from None
    if not isinstance(value, datetime.date):
        raise ValueError(f"{name}: {_shown(value)} is not a date")
    return value


_ADDED: Final[Mapping[str, Callable[..., Any]]] = {
    "json": _json,
    "from_json": _from_json,
    "quote": _quote,
    "ident": _ident,
    "basename": lambda value: os.path.basename(text_of(value)),
    "dirname": lambda value: os.path.dirname(text_of(value)),
    "stem": lambda value: os.path.splitext(os.path.basename(text_of(value)))[0],
    "suffix": lambda value: os.path.splitext(text_of(value))[1],
    "lines": lambda value: text_of(value).splitlines(),
    "split": lambda value, separator=None: text_of(value).split(separator),
    "join": _join,
    "replace": _replace,
    "int": _int,
    "float": _float,
    "round": _round,
    "date": _date,
    "date_add": _date_add,
    "string": text_of,
}
FILTERS: Final[Mapping[str, Callable[..., Any]]] = {**{name: _JINJA_FILTERS[name] for name in _OF_JINJA}, **_ADDED}
TESTS: Final[Mapping[str, Callable[..., Any]]] = {name: _JINJA_TESTS[name] for name in _TESTS_OF_JINJA}


def install(environment: Environment) -> None:
    """Replace the filters and tests of an environment by these."""
    environment.filters = dict(FILTERS)
    environment.tests = dict(TESTS)
