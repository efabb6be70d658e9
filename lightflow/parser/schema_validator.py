"""Validate values against JSON Schema (draft 2020-12), with the place of every error.

The schema of a workflow file and the schemas of plugins use this validator only (docs/adr/0034). It is small because it
has few duties: one document, references within it, and errors that `messages` puts into words. A schema is compiled
part by part, each part when a value first needs it: a small file does not pay for the whole schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from lightflow.parser.positions import Key
from liteflow.api import Record, replace

Schema = Mapping[str, Any]


class SchemaError(Record):
    """One violation: `value` at `path` breaks the rule of `keyword` in `schema`.

    `names` are the keys that are not allowed (`additionalProperties`), the key that is missing (`required`,
    `dependentRequired`), or the key that is not a valid name (`propertyNames`).
    """

    keyword: str
    path: tuple[Key, ...]
    value: Any
    schema: Schema
    names: tuple[str, ...] = ()

    @property
    def rule(self) -> Any:
        """The value of the keyword."""
        return self.schema[self.keyword]


#: The path of a value as nested pairs `(path of the container, key)`; `()` is the path of the document.
_Path = tuple[Any, ...]
_Check = Callable[[Any, _Path, list[SchemaError]], None]


#: Names of keys whose checks are remembered for each schema, in addition to those of `properties`.
_MAX_CACHED_NAMES: Final = 1_000


class InvalidSchema(ValueError):
    """The schema itself is not valid, or uses a keyword that is not supported."""


class Validator:
    """Validates values against one schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._references: dict[str, _Check] = {}
        self._check = self._compiled(schema)

    def errors(self, value: Any) -> list[SchemaError]:
        """Return every violation in `value`."""
        errors: list[SchemaError] = []
        self._check(value, (), errors)
        return [replace(error, path=_flat(error.path)) for error in errors]

    def is_valid(self, value: Any) -> bool:
        """Return whether `value` has no violation."""
        return not self.errors(value)

    def _compiled(self, schema: Any) -> _Check:
        """Return the check for one schema; properties and references are compiled when a value first reaches them."""
        if isinstance(schema, bool):
            return _accept if schema else _refuse
        checks = [self._keyword(keyword, schema) for keyword in schema if keyword in _KEYWORDS]
        if not _MEMBERS.isdisjoint(schema):
            checks.append(self._members(schema))
        if not checks:
            return _accept
        if len(checks) == 1:
            return checks[0]

        def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
            for part in checks:
                part(value, path, errors)

        return check

    def _keyword(self, keyword: str, schema: Schema) -> _Check:
        return _KEYWORDS[keyword](self, schema[keyword], schema)

    def _holds(self, schema: Any) -> Callable[[Any], bool]:
        check = self._compiled(schema)

        def holds(value: Any) -> bool:
            errors: list[SchemaError] = []
            check(value, (), errors)
            return not errors

        return holds

    def _reference(self, name: str) -> _Check:
        """Return the check of a `$ref`, which is compiled on its first use: a schema may refer to itself."""

        def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
            if name not in self._references:
                self._references[name] = self._compiled(referenced(self._schema, name))
            self._references[name](value, path, errors)

        return check

    def _members(self, schema: Schema) -> _Check:
        """Return the check of `properties`, `patternProperties` and `additionalProperties` together."""
        properties = schema.get("properties", {})
        patterns = [
            (_pattern(text), self._compiled(part)) for text, part in schema.get("patternProperties", {}).items()
        ]
        other_names = schema.get("additionalProperties", True)
        other_checks = [] if other_names is True else [_refuse if other_names is False else self._compiled(other_names)]
        compiled: dict[str, list[_Check]] = {}

        def checks_of(name: str) -> list[_Check]:
            checks = [part for matches, part in patterns if matches(name)]
            if name in properties:
                if properties[name] is not True:
                    checks.insert(0, self._compiled(properties[name]))
            elif not checks:
                checks = other_checks
            if name in properties or len(compiled) < _MAX_CACHED_NAMES:
                compiled[name] = checks
            return checks

        def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
            if not isinstance(value, dict):
                return
            unexpected = []
            for name, item in value.items():
                checks = compiled.get(name)
                if checks is None:
                    checks = checks_of(name)
                if checks is other_checks and other_names is False:
                    unexpected.append(name)
                    continue
                for part in checks:
                    part(item, (path, name), errors)
            if unexpected:
                errors.append(
                    SchemaError(
                        keyword="additionalProperties", path=path, value=value, schema=schema, names=tuple(unexpected)
                    )
                )

        return check


def referenced(schema: Schema, name: str) -> Any:
    """Return the part of `schema` that a `$ref` names.

    Raises:
        InvalidSchema: there is no such part.
    """
    part: Any = schema
    if not name.startswith("#"):
        raise InvalidSchema(f"$ref {name!r} leads out of the schema")
    for step in name.removeprefix("#").split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(part, Mapping) or step not in part:
            raise InvalidSchema(f"$ref {name!r} names no part of the schema")
        part = part[step]
    return part


def _flat(path: _Path) -> tuple[Key, ...]:
    keys: list[Key] = []
    while path:
        path, key = path
        keys.append(key)
    return tuple(reversed(keys))


def _accept(value: Any, path: _Path, errors: list[SchemaError]) -> None:
    pass


def _refuse(value: Any, path: _Path, errors: list[SchemaError]) -> None:
    errors.append(SchemaError(keyword="not", path=path, value=value, schema={"not": {}}))


# -- values -------------------------------------------------------------------------------------------------------

_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_number(value) and value == value // 1,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
_CLASSES: Final[Mapping[str, type]] = {"object": dict, "array": list, "string": str, "boolean": bool}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(value: Any, other: Any) -> bool:
    """Return whether two values are equal in JSON, where `true` is not 1, and 1 is 1.0."""
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(map(_equal, value, other))
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(_equal(value[key], other[key]) for key in value)
    return bool(value == other)


#: The white space of regular expressions in JSON Schema (ECMA 262), which is not Python's.
_SPACE: Final = r"\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
_ESCAPED: Final = re.compile(r"\\(.)|(\[)|(\])|(\$)", re.DOTALL)


@lru_cache(maxsize=256)
def _pattern(text: str) -> Callable[[str], object]:
    """Return the search of a regular expression of JSON Schema: `\\d` and `\\w` are ASCII, `$` is the end only."""
    in_class = False

    def translated(match: re.Match[str]) -> str:
        nonlocal in_class
        escaped, opening, closing, end = match.groups()
        if opening:
            in_class = True
        elif closing:
            in_class = False
        elif end and not in_class:
            return r"\Z"
        elif escaped == "s":
            return _SPACE if in_class else f"[{_SPACE}]"
        elif escaped == "S" and not in_class:
            return f"[^{_SPACE}]"
        return match[0]

    return re.compile(_ESCAPED.sub(translated, text), re.ASCII).search


# -- keywords -----------------------------------------------------------------------------------------------------


def _type(validator: Validator, rule: str | Sequence[str], schema: Schema) -> _Check:
    names = [rule] if isinstance(rule, str) else list(rule)
    classes = tuple(_CLASSES[name] for name in names if name in _CLASSES)
    tests = [_TYPES[name] for name in names if name not in _CLASSES]

    def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
        if not isinstance(value, classes) and not any(test(value) for test in tests):
            errors.append(SchemaError(keyword="type", path=path, value=value, schema=schema))

    return check


def _test(keyword: str, kind: type | tuple[type, ...], holds: Callable[[Any], Callable[[Any], object]]) -> _Keyword:
    """Return the keyword that applies `holds(rule)` to values of a class; other values are valid."""

    def compiled(validator: Validator, rule: Any, schema: Schema) -> _Check:
        test = holds(rule)

        def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
            if isinstance(value, kind) and not test(value) and not isinstance(value, bool):
                errors.append(SchemaError(keyword=keyword, path=path, value=value, schema=schema))

        return check

    return compiled


def _multiple_of(rule: float) -> Callable[[float], bool]:
    return lambda value: not value % rule or abs(round(value / rule) - value / rule) < 1e-9


def _unique(rule: bool) -> Callable[[list[Any]], bool]:
    return lambda value: (
        not rule or not any(_equal(item, other) for at, item in enumerate(value) for other in value[:at])
    )


def _options(keyword: str) -> _Keyword:
    """Return `enum` or `const`."""

    def compiled(validator: Validator, rule: Any, schema: Schema) -> _Check:
        options = rule if keyword == "enum" else [rule]

        def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
            if not any(_equal(value, option) for option in options):
                errors.append(SchemaError(keyword=keyword, path=path, value=value, schema=schema))

        return check

    return compiled


def _required(validator: Validator, rule: Sequence[str], schema: Schema) -> _Check:
    def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
        if isinstance(value, dict):
            errors += [
                SchemaError(keyword="required", path=path, value=value, schema=schema, names=(name,))
                for name in rule
                if name not in value
            ]

    return check


def _dependent_required(validator: Validator, rule: Mapping[str, Sequence[str]], schema: Schema) -> _Check:
    def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
        for name, needed in rule.items() if isinstance(value, dict) else ():
            missing = [other for other in needed if other not in value] if name in value else ()
            errors += [
                SchemaError(keyword="dependentRequired", path=path, value=value, schema=schema, names=(other,))
                for other in missing
            ]

    return check


def _dependent_schemas(validator: Validator, rule: Mapping[str, Any], schema: Schema) -> _Check:
    checks = {name: validator._compiled(part) for name, part in rule.items()}

    def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
        for name, part in checks.items() if isinstance(value, dict) else ():
            if name in value:
                part(value, path, errors)

    return check


def _property_names(validator: Validator, rule: Any, schema: Schema) -> _Check:
    holds = validator._holds(rule)

    def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
        wrong = [name for name in value if not holds(name)] if isinstance(value, dict) else ()
        errors += [
            SchemaError(keyword="propertyNames", path=path, value=value, schema=schema, names=(name,)) for name in wrong
        ]

    return check


def _items(validator: Validator, rule: Any, schema: Schema) -> _Check:
    part, first = validator._compiled(rule), len(schema.get("prefixItems", ()))

    def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
        if isinstance(value, list):
            for index, item in enumerate(value[first:], start=first):
                part(item, (path, index), errors)

    return check


def _prefix_items(validator: Validator, rule: Sequence[Any], schema: Schema) -> _Check:
    parts = [validator._compiled(part) for part in rule]

    def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
        if isinstance(value, list):
            for index, (part, item) in enumerate(zip(parts, value, strict=False)):
                part(item, (path, index), errors)

    return check


def _contains(validator: Validator, rule: Any, schema: Schema) -> _Check:
    holds, least, most = validator._holds(rule), schema.get("minContains", 1), schema.get("maxContains")

    def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
        if isinstance(value, list):
            number = sum(map(holds, value))
            if number < least or (most is not None and number > most):
                errors.append(SchemaError(keyword="contains", path=path, value=value, schema=schema))

    return check


def _count(keyword: str, enough: Callable[[int], bool]) -> _Keyword:
    """Return `anyOf`, `oneOf` or `not`, by how many of their schemas the value fits."""

    def compiled(validator: Validator, rule: Any, schema: Schema) -> _Check:
        parts = [validator._holds(part) for part in (rule if isinstance(rule, list | tuple) else [rule])]

        def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
            if not enough(sum(holds(value) for holds in parts)):
                errors.append(SchemaError(keyword=keyword, path=path, value=value, schema=schema))

        return check

    return compiled


def _all_of(validator: Validator, rule: Sequence[Any], schema: Schema) -> _Check:
    parts = [validator._compiled(part) for part in rule]

    def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
        for part in parts:
            part(value, path, errors)

    return check


def _if(validator: Validator, rule: Any, schema: Schema) -> _Check:
    holds = validator._holds(rule)
    then, otherwise = validator._compiled(schema.get("then", True)), validator._compiled(schema.get("else", True))

    def check(value: Any, path: _Path, errors: list[SchemaError]) -> None:
        (then if holds(value) else otherwise)(value, path, errors)

    return check


_Keyword = Callable[[Validator, Any, Schema], _Check]
_NUMBER: Final = (int, float)
_MEMBERS: Final = frozenset(["properties", "patternProperties", "additionalProperties"])
_KEYWORDS: Final[Mapping[str, _Keyword]] = {
    "$ref": lambda validator, rule, schema: validator._reference(rule),
    "type": _type,
    "enum": _options("enum"),
    "const": _options("const"),
    "pattern": _test("pattern", str, _pattern),
    "minLength": _test("minLength", str, lambda rule: lambda value: len(value) >= rule),
    "maxLength": _test("maxLength", str, lambda rule: lambda value: len(value) <= rule),
    "minimum": _test("minimum", _NUMBER, lambda rule: lambda value: value >= rule),
    "maximum": _test("maximum", _NUMBER, lambda rule: lambda value: value <= rule),
    "exclusiveMinimum": _test("exclusiveMinimum", _NUMBER, lambda rule: lambda value: value > rule),
    "exclusiveMaximum": _test("exclusiveMaximum", _NUMBER, lambda rule: lambda value: value < rule),
    "multipleOf": _test("multipleOf", _NUMBER, _multiple_of),
    "minItems": _test("minItems", list, lambda rule: lambda value: len(value) >= rule),
    "maxItems": _test("maxItems", list, lambda rule: lambda value: len(value) <= rule),
    "uniqueItems": _test("uniqueItems", list, _unique),
    "minProperties": _test("minProperties", dict, lambda rule: lambda value: len(value) >= rule),
    "maxProperties": _test("maxProperties", dict, lambda rule: lambda value: len(value) <= rule),
    "required": _required,
    "dependentRequired": _dependent_required,
    "dependentSchemas": _dependent_schemas,
    "propertyNames": _property_names,
    "items": _items,
    "prefixItems": _prefix_items,
    "contains": _contains,
    "allOf": _all_of,
    "anyOf": _count("anyOf", lambda number: number >= 1),
    "oneOf": _count("oneOf", lambda number: number == 1),
    "not": _count("not", lambda number: number == 0),
    "if": _if,
}


# -- schemas of plugins ---------------------------------------------------------------------------------------------

#: Keywords of draft 2020-12 that change what is valid and are not supported.
_NOT_SUPPORTED: Final = ("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$anchor", "$id")
_SCHEMAS: Final = ("additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else")
_SCHEMA_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_SCHEMA_MAPPINGS: Final = ("properties", "patternProperties", "dependentSchemas", "$defs")
_IN_PLACE: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas")
_LENGTHS: Final = (
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
    *("minContains", "maxContains"),
)
_NUMBERS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def check_schema(schema: Any, root: Schema) -> None:
    """Check that a schema, a part of `root`, is one that the validator understands.

    Raises:
        InvalidSchema: it is not; with the reason.
    """
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise InvalidSchema(f"{_shown(schema)} is not a schema (a mapping, true or false)")
    for keyword, rule in schema.items():
        if keyword in _NOT_SUPPORTED:
            raise InvalidSchema(f'the keyword "{keyword}" is not supported')
        problem = _wrong_rule(keyword, rule)
        if problem:
            raise InvalidSchema(f'"{keyword}" must be {problem}, not {_shown(rule)}')
        if keyword in ("pattern", "patternProperties"):
            _check_patterns([rule] if keyword == "pattern" else rule)
        if keyword == "$ref" and _is_endless({"$ref": rule}, root, ()):
            raise InvalidSchema(f"$ref {rule!r} leads back to itself")
        for part in _parts(keyword, rule):
            check_schema(part, root)


def _parts(keyword: str, rule: Any) -> Iterable[Any]:
    """Return the schemas in the value of a keyword."""
    if keyword in _SCHEMAS:
        return [rule]
    if keyword in _SCHEMA_LISTS:
        return list(rule)
    return list(rule.values()) if keyword in _SCHEMA_MAPPINGS else ()


def _is_endless(schema: Any, root: Schema, followed: tuple[str, ...]) -> bool:
    """Return whether references lead in a circle without a step into the value."""
    if not isinstance(schema, Mapping):
        return False
    name = schema.get("$ref")
    if isinstance(name, str) and (name in followed or _is_endless(referenced(root, name), root, (*followed, name))):
        return True
    return any(
        _is_endless(part, root, followed)
        for keyword in _IN_PLACE
        if keyword in schema
        for part in _parts(keyword, schema[keyword])
    )


def _wrong_rule(keyword: str, rule: Any) -> str:
    """Return what the value of a keyword must be, where it is something else."""
    names = list(rule) if isinstance(rule, list | tuple) else [rule]
    if keyword == "type" and not (names and all(isinstance(name, str) and name in _TYPES for name in names)):
        return f"one of {', '.join(_TYPES)}, or a list of them"
    if keyword in ("pattern", "$ref") and not isinstance(rule, str):
        return "text"
    if keyword in _LENGTHS and not (_TYPES["integer"](rule) and rule >= 0):
        return "a whole number of at least 0"
    if keyword in _NUMBERS and not (_is_number(rule) and (keyword != "multipleOf" or rule > 0)):
        return "a number"
    if keyword == "required" and not (isinstance(rule, list | tuple) and all(isinstance(name, str) for name in rule)):
        return "a list of names"
    if keyword in ("enum", *_SCHEMA_LISTS) and not (isinstance(rule, list | tuple) and rule):
        return "a list with at least one item"
    if keyword in _SCHEMA_MAPPINGS and not isinstance(rule, Mapping):
        return "a mapping of names to schemas"
    if keyword == "dependentRequired" and not (
        isinstance(rule, Mapping) and not any(_wrong_rule("required", names) for names in rule.values())
    ):
        return "a mapping of names to lists of names"
    return ""


def _check_patterns(patterns: Iterable[str]) -> None:
    for pattern in patterns:
        try:
            _pattern(pattern)
        except re.error as error:
            raise InvalidSchema(f"the pattern {_shown(pattern)} is not a regular expression: {error}") from None


def _shown(value: Any) -> str:
    return repr(value)[:60]
