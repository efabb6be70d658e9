"""The parameters of a run: their declarations in a workflow, and their values.

    Dag("report", params={"day": Param("date"), "rows": 100})

A plain value is a default, and its type is the parameter's; `Param` has more options. All values are checked before a
task runs. They are stored with the run as JSON, and a resumed run has the same values.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from liteflow.errors import ParamError
from liteflow.identifiers import did_you_mean
from liteflow.record import Record, fields_of
from liteflow.values.dates import WANTED as WANTED_DATE
from liteflow.values.dates import current_day, date_of

TYPES: Final = ("string", "integer", "number", "boolean", "date", "enum", "list", "object", "path")
NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"

#: The leading zero of an exponent, as in `1e-05`.
_SHORT_EXPONENT: Final = r"(?<=e[-+])0(?=[0-9]$)"
_NUMBERS: Final = ("integer", "number")
_SIZED: Final = ("string", "path", "list")
_WORDS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_WANTED: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "date": WANTED_DATE,
    "list": "a list",
    "object": "a mapping",
    "path": "a path (text)",
}


class _Absent:
    """The type of REQUIRED, which stays the same object when it is pickled."""

    def __repr__(self) -> str:
        return "REQUIRED"

    def __reduce__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Absent()


class Param(Record, kw_only=False):
    """The declaration of a parameter.

    `type` is one of `TYPES`. Without a `default` each run needs a value; with the default None the value may be
    missing, and is then None. `values` are those of an `enum`. `minimum` and `maximum` limit integers, numbers and
    dates, `min_length` and `max_length` text, paths and lists. A `pattern` is a regular expression that must match the
    whole of a text or path. A relative path is relative to the folder in which the run is started. A date, also as a
    limit, may be the word `today` or `yesterday`: the logical date of the run, or the day before.
    """

    type: str = "string"
    default: Any = REQUIRED
    description: str = ""
    values: Sequence[Any] = ()
    minimum: Any = None
    maximum: Any = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None

    @property
    def required(self) -> bool:
        """Whether each run needs a value."""
        return self.default is REQUIRED

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the errors of the declaration: the option, and a sentence."""
        if self.type not in TYPES:
            yield "type", f"must be one of {', '.join(TYPES)}, not {_shown(self.type)}"
            return
        takes = {
            "values": ("enum",),
            "minimum": (*_NUMBERS, "date"),
            "maximum": (*_NUMBERS, "date"),
            "min_length": _SIZED,
            "max_length": _SIZED,
            "pattern": ("string", "path"),
        }
        has_errors = False
        for option, types in takes.items():
            if getattr(self, option) not in (None, ()) and self.type not in types:
                has_errors = True
                yield option, f"a parameter of type {self.type} takes no {option}"
        if self.type == "enum" and not self.values:
            has_errors = True
            yield "values", "a parameter of type enum needs its values"
        for option in ("minimum", "maximum"):
            try:
                if not has_errors:
                    self._limit(option)
            except ValueError as error:
                has_errors = True
                yield option, str(error)
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                has_errors = True
                yield "pattern", f"is not a regular expression: {error}"
        if self.default is not REQUIRED and not (self.type == "enum" and not self.values):
            try:
                if not has_errors:
                    self.value(self.default)
                elif self.default is not None:
                    self._typed(self.default, current_day())  # limits with errors are not checked
            except ValueError as error:
                yield "default", str(error)

    def parse(self, text: str, day: float | None = None) -> Any:
        """Return the value of a text, as typed on a command line. `day` is the logical date of the run.

        Raises:
            ValueError: the text is not valid; the message says what it must be.
        """
        kind = self.type
        value: Any = text
        if kind == "integer" and re.fullmatch(r"[-+]?[0-9]{1,100}", text):
            value = int(text)
        elif kind == "number" and re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text):
            value = float(text) if not re.fullmatch(r"[-+]?[0-9]{1,100}", text) else int(text)
        elif kind == "boolean":
            value = _WORDS.get(text.lower(), text)
        elif kind == "enum":
            value = next((choice for choice in self.values if as_text(choice) == text), text)
        elif kind in ("list", "object"):
            value = _from_json(text, kind)
        return self.value(value, day)

    def value(self, value: Any, day: float | None = None) -> Any:
        """Return a value from JSON or Python in the type of the parameter. `day` is the logical date of the run.

        Raises:
            ValueError: the value is not valid, or outside the limits; the message says what it must be.
        """
        if value is None:
            if self.default is None:
                return None
            raise ValueError(f"must be {self.wanted}, not nothing")
        day = current_day() if day is None and self.type == "date" else day
        checked = self._typed(value, day)
        self._check_limits(checked, day)
        return checked

    def _typed(self, value: Any, day: float | None) -> Any:
        kind, is_valid = self.type, False
        if kind in ("string", "path"):
            is_valid = isinstance(value, str) or (kind == "path" and isinstance(value, os.PathLike))
            if is_valid and kind == "path":
                text = os.fspath(value)
                if isinstance(text, str) and text:
                    return os.path.abspath(os.path.expanduser(text))
                is_valid = False
        elif kind == "integer":
            is_valid = isinstance(value, int) and not isinstance(value, bool)
            if isinstance(value, float) and value.is_integer():
                return int(value)
        elif kind == "number":
            is_valid = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        elif kind == "boolean":
            is_valid = isinstance(value, bool)
        elif kind == "enum":
            is_valid = any(type(choice) is type(value) and choice == value for choice in self.values)
        elif kind == "list":
            if isinstance(value, tuple):
                return list(value)
            is_valid = isinstance(value, list)
        elif kind == "object":
            is_valid = isinstance(value, dict) and all(isinstance(name, str) for name in value)
        elif kind == "date":
            return _date(value, day)
        if not is_valid:
            raise ValueError(f"must be {self.wanted}, not {_shown(value)}")
        return value

    def _check_limits(self, value: Any, day: float | None) -> None:
        low, high = self._limit("minimum", day), self._limit("maximum", day)
        if low is not None and value < low:
            raise ValueError(f"must be at least {low}, not {value}")
        if high is not None and value > high:
            raise ValueError(f"must be at most {high}, not {value}")
        if self.type in _SIZED:
            what = "items" if self.type == "list" else "characters"
            if self.min_length is not None and len(value) < self.min_length:
                raise ValueError(f"must have at least {self.min_length} {what}, not {len(value)}")
            if self.max_length is not None and len(value) > self.max_length:
                raise ValueError(f"must have at most {self.max_length} {what}, not {len(value)}")
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            raise ValueError(f"{_shown(value)} does not match {self.pattern}")

    def _limit(self, option: str, day: float | None = None) -> Any:
        limit = getattr(self, option)
        if limit is None:
            return None
        if self.type == "date":
            return _date(limit, day)
        if not isinstance(limit, int | float) or isinstance(limit, bool):
            raise ValueError(f"must be a number, not {_shown(limit)}")
        return limit

    @property
    def wanted(self) -> str:
        """Return what a value must be, in words."""
        if self.type == "enum":
            return f"one of {', '.join(as_text(choice) for choice in self.values)}"
        return _WANTED[self.type]


def declared(params: Mapping[str, Any]) -> dict[str, Param]:
    """Return the declarations of a program, in which plain values are defaults, as `Param`s.

    Raises:
        ParamError: all errors in the declarations.
    """
    declarations, problems = {}, {}
    for name, declaration in params.items():
        if not isinstance(name, str) or not re.fullmatch(NAME, name):
            problems[str(name)] = "is not a valid parameter name: use letters, digits and '_', and no digit first"
            continue
        try:
            param = declaration if isinstance(declaration, Param) else of_default(declaration)
        except ValueError as error:
            problems[name] = str(error)
            continue
        declarations[name] = param
        problem = next(param.problems(), None)
        if problem is not None:
            problems[name] = f"{problem[0]}: {problem[1]}"
    if problems:
        raise ParamError(problems)
    return declarations


def of_default(value: Any) -> Param:
    """Return the parameter that has a plain value as its default, and the type of the value.

    Raises:
        ValueError: no type of parameters has such values.
    """
    if value is None or isinstance(value, str):
        return Param("string", value)
    kinds = {bool: "boolean", int: "integer", float: "number", list: "list", tuple: "list", dict: "object"}
    kind = kinds.get(type(value))
    if kind is None:
        kind = "path" if isinstance(value, os.PathLike) else "date" if hasattr(value, "isoformat") else None
    if kind is None:
        raise ValueError(
            f"the default must be text, a number, a date, a path, a list or an object, not {type(value).__name__}"
        )
    return Param(kind, value)


def resolve(params: Mapping[str, Param], arguments: Mapping[str, Any], day: float | None = None) -> dict[str, Any]:
    """Return the values of a run: those of `arguments`, and defaults for the others. `day` is its logical date.

    Raises:
        ParamError: names that are not declared, values that are not valid, values that are missing; all of them.
    """
    problems = {name: unknown(name, params) for name in arguments if name not in params}
    values: dict[str, Any] = {}
    for name, param in params.items():
        if name not in arguments and param.required:
            problems[name] = f"needs a value: {param.wanted}"
            continue
        try:
            values[name] = param.value(arguments.get(name, param.default), day)
        except ValueError as error:
            problems[name] = str(error)
    if problems:
        raise ParamError(problems)
    return values


def unknown(name: str, params: Mapping[str, Param]) -> str:
    """Return the message for a parameter that is not declared."""
    if not params:
        return "the workflow declares no parameters"
    return f"there is no such parameter{did_you_mean(name, params) or '; there are ' + ', '.join(params)}"


def described(params: Mapping[str, Param]) -> dict[str, dict[str, Any]]:
    """Return the declarations in JSON types."""
    return {
        name: stored({key: value for key, value in fields_of(param).items() if value is not REQUIRED})
        for name, param in params.items()
    }


def restored(params: Mapping[str, Param], stored: Mapping[str, Any], day: float | None = None) -> dict[str, Any]:
    """Return the values of a resumed run: the stored ones, in their types, and defaults of new parameters.

    Raises:
        ParamError: a required value is missing, or a stored value does not match the current declaration.
    """
    return {**stored, **resolve(params, {name: value for name, value in stored.items() if name in params}, day)}


def stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in JSON types, for the state file and for other programs."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    return plain


def as_text(value: Any) -> str:
    """Return a value as it is typed: `true`, `3`, `1e-5`, `[1,2]`, `2026-01-31`; None is the empty text."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    if isinstance(value, float):
        return re.sub(_SHORT_EXPONENT, "", repr(value))
    return str(value)


def _from_json(text: str, kind: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if kind == "list" and text[:1] not in ("[", "{"):
            return [item.strip() for item in text.split(",")] if text.strip() else []
        example = '["a", "b"] or a,b' if kind == "list" else '{"a": 1}'
        raise ValueError(f"must be {_WANTED[kind]} in JSON, such as {example}, not {_shown(text)}") from None


def _date(value: Any, day: float | None) -> Any:
    date = date_of(value, current_day() if day is None else day)
    if date is None:
        raise ValueError(f"must be {WANTED_DATE}, not {_shown(value)}")
    return date


def _shown(value: Any) -> str:
    text = as_text(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= 60 else text[:59] + "…"
