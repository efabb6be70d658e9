"""How each key of a task type takes expressions: the annotations `x-expressions`, `x-shown` and `x-secret`.

An annotation applies to the value and to all that is inside it, until an inner schema says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from lightflow.spec.model import ExpressionKind
from liteflow.api import Record

KINDS: Final[tuple[ExpressionKind, ...]] = get_args(ExpressionKind)


class KeyRule(Record):
    """How a text in a key takes expressions."""

    kind: ExpressionKind = "text"
    refusal: str = ""  #: the message about an expression where the kind is `none`, or about a secret that people see
    is_shown: bool = False  #: whether people see the value, so that it cannot hold a secret
    is_secret: bool = False  #: whether the value is a secret, so that the file cannot have it in clear text


DEFAULT_RULE: Final = KeyRule()


def rule_at(schema: Mapping[str, Any] | None, path: Sequence[str | int]) -> KeyRule:
    """Return the rule for the text at a path in the keys of a type; None as a schema: it is not known."""
    kind, refusal, is_shown, is_secret = DEFAULT_RULE.kind, "", False, False
    part: Any = schema
    for step in path:
        part = _inner(part, step)
        if part is None:
            break
        kind, refusal = part.get("x-expressions", kind), part.get("x-refusal", refusal)
        is_shown, is_secret = part.get("x-shown", is_shown), part.get("x-secret", is_secret)
    return KeyRule(kind=kind, refusal=refusal, is_shown=is_shown, is_secret=is_secret)


def script_key(schema: Mapping[str, Any] | None) -> str:
    """Return the key of a type that holds a shell script; empty where there is none."""
    properties: Mapping[str, Any] = (schema or {}).get("properties", {})
    return next((key for key, part in properties.items() if _kind_of(part) == "shell"), "")


def texts_in(path: list[str | int], value: Any) -> Iterator[tuple[list[str | int], str]]:
    """Yield the texts in a value, at any depth, with their paths."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts_in([*path, key], item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts_in([*path, index], item)


def kind_problem(schema: Any) -> str | None:
    """Return the mistake in the annotations of a schema, at any depth; None where there is none."""
    if isinstance(schema, list):
        return next(filter(None, map(kind_problem, schema)), None)
    if not isinstance(schema, dict):
        return None
    kind = schema.get("x-expressions", "text")
    if kind not in KINDS:
        return f'"x-expressions" is {kind!r}; there are {", ".join(KINDS)}'
    return next(filter(None, map(kind_problem, schema.values())), None)


def _kind_of(part: Any) -> Any:
    return part.get("x-expressions") if isinstance(part, Mapping) else None


def _inner(part: Any, step: str | int) -> Mapping[str, Any] | None:
    """Return the schema of a key, or of an item, in a value with a schema."""
    if not isinstance(part, Mapping):
        return None
    if isinstance(step, int):
        inner = part.get("items")
    else:
        inner = part.get("properties", {}).get(step, part.get("additionalProperties"))
    return inner if isinstance(inner, Mapping) else None
