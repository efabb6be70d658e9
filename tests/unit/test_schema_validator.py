"""The schema validator agrees with jsonschema-rs, an independent implementation of JSON Schema."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from random_documents import change_value

from lightflow.errors import WorkflowError
from lightflow.parser.files import parse_text, read_source
from lightflow.parser.normalize import normalize
from lightflow.parser.schema import normalized_schema
from lightflow.parser.schema_validator import InvalidSchema, Validator, check_schema
from lightflow.parser.subjects.retries import RETRY
from lightflow.parser.subjects.settings import SETTINGS
from lightflow.parser.subjects.tasks import COMMON
from lightflow.plugins.registry import BUILT_IN, Registry

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = normalized_schema(Registry().use(BUILT_IN).described())
VALIDATOR = Validator(SCHEMA)
ORACLE = jsonschema_rs.validator_for(SCHEMA)
DOCUMENTS = 4_000

GOOD: dict[str, Any] = {
    "workflow_name": "one",
    "params": {"day": {"type": "date", "default": "today"}, "rows": 3},
    "secrets": ["TOKEN", {"name": "KEY", "path": "key.txt"}],
    "pools": {"gpu": 2, "disk": {"slots": 3}},
    "concurrency": {"limit": 2, "on_conflict": "skip"},
    "env": {"A": "1", "B": None},
    "on_exit": {"type": "shell", "run": "true"},
    "tasks": {
        "a": {"type": "shell", "run": "true", "preconditions": [{"run": "test"}, {"if": "params.a"}]},
        "b": {"type": "python", "run": "pass", "depends_on": ["a"], "matrix": {"os": ["x", 1], "include": [{"n": 1}]}},
        "c": {"type": "python", "call": "m:f", "args": [1], "retry": {"max": 3, "delay": "5s"}, "timeout": "5m"},
        "d": {"type": "shell", "run": "x", "foreach": {"items": ["a"], "as": "f"}},
        "e": {"type": "shell", "run": "x", "continue_on_error": {"exit_codes": [3]}},
    },
    "settings": {"retries": 2, "mode": "thread"},
}  # fmt: skip

KEYS = sorted(
    {
        *COMMON,
        *SETTINGS["properties"],
        *RETRY["properties"],
        *SCHEMA["properties"],
        "run",
        "shell",
        "call",
        "args",
        "if",
    }
)
NAMES = [*KEYS, "x-note", "A", "a b", "a\n", "ä", "os", "items", "slots", "default", "from", "path"]
#: Values near the limits of some keyword. Numbers stay in the range that all JSON implementations compare exactly.
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.0, 0.5, 4.0, 101, 1001, 1e9, 2**53, -(2**53), 0.0, -0.0, 100_001, 65_536),
    *("", " ", "\n", "a", "a\n", "x-a", "5m", "5m\n", "1h30m", "0", "shell", "python", "thread", "all_done", "ü"),
    *("\x1c", "\x85", "\ufeff", "\u2003", "a:b", "a.b:c.d", "ä:b", "a b", "bash", "é", "${{ a }}", "٣", "date"),
]  # fmt: skip


def some_value(source: random.Random, depth: int = 2) -> Any:
    kind = source.random()
    if depth and kind < 0.15:
        return [some_value(source, depth - 1) for _ in range(source.randrange(3))]
    if depth and kind < 0.35:
        return {source.choice(NAMES): some_value(source, depth - 1) for _ in range(source.randrange(3))}
    return source.choice(ODD)


def random_document(source: random.Random) -> Any:
    """Return a document of random keys and values."""
    tasks = {
        source.choice(["a", "b", "x-c", "d e"]): {
            "type": source.choice(["shell", "python", "other"]),
            **{source.choice(NAMES): some_value(source) for _ in range(source.randrange(4))},
        }
        for _ in range(source.randrange(3))
    }
    rest = {key: some_value(source) for key in source.sample(sorted(SCHEMA["properties"]), source.randrange(3))}
    return {"tasks": tasks, **rest} if source.random() < 0.9 else some_value(source)


def changed_document(source: random.Random) -> Any:
    """Return a valid document in which a few values are replaced or added: near the limits of the schema."""
    document = copy.deepcopy(GOOD)
    for _ in range(source.randrange(1, 3)):
        change_value(document, source, NAMES, some_value)
    return document


def agrees(document: Any) -> bool:
    """Assert that both validators refuse the same places; return whether they accept the document."""
    ours, theirs = VALIDATOR.errors(document), list(ORACLE.iter_errors(document))
    assert {error.path for error in ours} == {tuple(error.instance_path) for error in theirs}, document
    assert VALIDATOR.is_valid(document) == (not ours) == (not theirs)
    return not ours


@pytest.mark.parametrize(
    ("make", "accepted", "refused"), [(random_document, 20, 3_000), (changed_document, 400, 2_500)]
)
def test_both_refuse_the_same_places_of_random_documents(
    make: Callable[[random.Random], Any], accepted: int, refused: int
) -> None:
    source = random.Random(7)
    answers = Counter(agrees(make(source)) for _ in range(DOCUMENTS))
    assert answers[True] >= accepted, answers
    assert answers[False] >= refused, answers


def test_both_agree_about_every_workflow_of_the_examples_the_documentation_and_the_tests() -> None:
    answers = Counter(agrees(normalize(source, SCHEMA, Registry()).root) for source in workflows())
    assert answers[True] >= 80, answers
    assert answers[False] >= 60, answers


def workflows() -> Iterator[Any]:
    import re

    folders = [ROOT / "examples", ROOT / "tests" / "data"]
    for path in sorted(path for folder in folders for path in folder.rglob("*.*") if path.suffix in (".yaml", ".json")):
        if path.is_file():
            try:
                yield read_source(path)
            except WorkflowError:
                continue  # not YAML
    block = re.compile(r"^```ya?ml[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for text in block.findall(page.read_text("utf-8")):
            try:
                yield parse_text("page.yaml", text)[0]
            except Exception:
                continue  # a part of a file


#: Keywords that only schemas of plugins use, and those of the workflow file by themselves.
SCHEMAS: list[dict[str, Any]] = [
    {"type": "integer"},
    {"type": ["number", "null"]},
    {"enum": [1, "a", None, [1.0, {"a": True}], False]},
    {"const": {"a": [1, True]}},
    {"const": 1},
    {"multipleOf": 2},
    {"multipleOf": 0.5},
    {"minimum": 1, "exclusiveMaximum": 4},
    {"exclusiveMinimum": 0, "maximum": 101},
    {"minLength": 1, "maxLength": 2},
    {"pattern": "^[a-z]+$"},
    {"pattern": r"\S"},
    {"pattern": r"^\w$"},
    {"pattern": r"^\d+$"},
    {"pattern": r"[$]|\$|a$"},
    {"pattern": r"^[\s\w]+$"},
    {"uniqueItems": True},
    {"minItems": 1, "maxItems": 2},
    {"items": {"type": "string"}},
    {"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": {"type": "boolean"}},
    {"prefixItems": [True], "items": False},
    {"contains": {"type": "integer"}},
    {"contains": {"type": "integer"}, "minContains": 2, "maxContains": 2},
    {"contains": {"type": "integer"}, "minContains": 0},
    {"minProperties": 1, "maxProperties": 1},
    {"required": ["a"], "properties": {"a": {"type": "string"}}},
    {"patternProperties": {"^x": {"type": "integer"}, "x$": {"minimum": 1}}, "additionalProperties": {"type": "null"}},
    {"properties": {"a": True, "b": False}, "additionalProperties": False},
    {"propertyNames": {"minLength": 1}},
    {"dependentRequired": {"a": ["b"]}},
    {"dependentSchemas": {"a": {"required": ["b"]}}},
    {"anyOf": [{"type": "integer"}, {"minimum": 2}]},
    {"oneOf": [{"type": "integer"}, {"minimum": 2}]},
    {"allOf": [{"type": "integer"}, {"minimum": 2}]},
    {"not": {"type": "string"}},
    {"if": {"type": "integer"}, "then": {"minimum": 1}, "else": {"type": "string"}},
    {"if": {"type": "object"}, "then": False},
    {"$ref": "#/$defs/a", "minimum": 1, "$defs": {"a": {"type": ["integer", "string"]}}},
    {"properties": {"a": {"$ref": "#"}}, "type": ["object", "integer"]},
    {"title": "an annotation", "x-own": 3, "format": "date", "default": 1},
]


ALWAYS_VALID: list[dict[str, Any]] = [
    {"contains": {"type": "integer"}, "minContains": 0},
    {"title": "an annotation", "x-own": 3, "format": "date", "default": 1},
]
LEAVES: list[Any] = [
    *(0, 1, 1.0, 2, 3.5, 0.25, -1, True, False, None, "", "a", "abc", "a\n", "\u00a0", "$", "ä", "5"),
    *({"a": [1, True]}, {"a": [1.0, True]}, {"a": [1, 1]}, [1.0, {"a": True}]),
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: "-".join(schema))
def test_every_keyword_means_what_the_specification_says(schema: dict[str, Any]) -> None:
    ours, theirs = Validator(schema), jsonschema_rs.validator_for(schema)
    check_schema(schema, schema)
    source = random.Random(3)
    keys = ["a", "b", "x", "xy", "yx", ""]

    def value(depth: int = 2) -> Any:
        kind = source.random() if depth else 1
        if kind < 0.25:
            return [value(depth - 1) for _ in range(source.randrange(4))]
        if kind < 0.5:
            return {source.choice(keys): value(depth - 1) for _ in range(source.randrange(4))}
        return source.choice(LEAVES)

    answers: Counter[bool] = Counter()
    for _ in range(400):
        document = value()
        answers[ours.is_valid(document)] += 1
        assert ours.is_valid(document) == theirs.is_valid(document), document
    assert answers[True]
    assert answers[False] or schema in ALWAYS_VALID


def test_numbers_beyond_floating_point_are_compared_exactly() -> None:
    validator = Validator({"maximum": 2**53})
    assert validator.is_valid(2**53)
    assert not validator.is_valid(2**53 + 1)
    assert Validator({"type": "integer"}).is_valid(10**400)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "whole number"}, '"type" must be one of'),
        ({"type": []}, '"type" must be one of'),
        ({"minimum": "3"}, '"minimum" must be a number'),
        ({"minLength": -1}, '"minLength" must be a whole number'),
        ({"multipleOf": 0}, '"multipleOf" must be a number'),
        ({"pattern": "("}, "is not a regular expression"),
        ({"patternProperties": {"(": True}}, "is not a regular expression"),
        ({"required": "a"}, '"required" must be a list of names'),
        ({"dependentRequired": {"a": "b"}}, '"dependentRequired" must be a mapping'),
        ({"enum": []}, '"enum" must be a list with at least one item'),
        ({"properties": []}, '"properties" must be a mapping'),
        ({"properties": {"a": 3}}, "3 is not a schema"),
        ({"items": {"allOf": []}}, '"allOf" must be a list'),
        ({"unevaluatedProperties": False}, '"unevaluatedProperties" is not supported'),
        ({"$ref": "#/$defs/none"}, "names no part of the schema"),
        ({"$ref": "https://example.org/schema"}, "leads out of the schema"),
        ({"$ref": "#"}, "leads back to itself"),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}}, "leads back to itself"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidSchema) as caught:
        check_schema(schema, schema)
    assert reason in str(caught.value)


def test_the_schema_of_the_workflow_file_can_be_used() -> None:
    check_schema(SCHEMA, SCHEMA)


def test_an_error_has_its_place_its_keyword_and_its_rule() -> None:
    document = copy.deepcopy(GOOD)
    document["tasks"]["b"]["depends_on"].append(3)
    document["tasks"]["a"]["colour"] = "red"
    errors = {error.path: error for error in VALIDATOR.errors(document)}
    assert errors["tasks", "b", "depends_on", 1].keyword == "type"
    assert errors["tasks", "b", "depends_on", 1].rule == "string"
    assert errors["tasks", "b", "depends_on", 1].value == 3
    assert errors["tasks", "a"].keyword == "additionalProperties"
    assert errors["tasks", "a"].names == ("colour",)
