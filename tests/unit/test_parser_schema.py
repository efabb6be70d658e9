"""The published schema describes every key, and accepts the documented workflows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from lightflow.parser.schema import workflow_schema
from lightflow.spec.model import Settings

ROOT = Path(__file__).parents[2]


def properties(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name == "properties" and "if" not in schema:
                yield from ((f"{path}.{key}", part) for key, part in value.items() if isinstance(part, dict))
            if name not in ("if", "examples"):
                yield from properties(value, f"{path}.{name}")
    elif isinstance(schema, list):
        for item in schema:
            yield from properties(item, path)


def test_it_is_json_schema() -> None:
    jsonschema_rs.meta.validate(workflow_schema())


def test_every_key_has_a_description_and_its_examples_and_default_fit() -> None:
    schema = workflow_schema()
    count = 0
    for path, part in properties(schema):
        if path.endswith("const") or "const" in part or "$ref" in part:
            continue
        count += 1
        assert part.get("description"), path
        examples = [*part.get("examples", ()), *([part["default"]] if "default" in part else [])]
        definitions = {"$defs": schema["$defs"]} if "$ref" in repr(part) else {}  # which take long to compile
        check = jsonschema_rs.validator_for({**part, **definitions}) if examples else None
        for example in examples:
            assert check is not None
            check.validate(example)
    assert count > 50


def test_the_defaults_are_those_of_the_settings() -> None:
    written = workflow_schema()["$defs"]["settings"]["properties"]
    for name in Settings._fields:
        assert written[name]["default"] == getattr(Settings(), name)


@pytest.mark.parametrize(
    "tree",
    [
        {"workflow_name": "w", "tasks": {"a": {"run": "x"}}},
        {"name": "w", "steps": {"a": {"command": "x", "needs": "b", "timeout_seconds": "5m", "dir": "d"}}},
        {"tasks": [{"id": "a", "run": "x", "env": {"A": 1, "B": None, "C": True}}]},
        {"tasks": {"a": {"type": "python", "script": "1"}, "x-a": 3, "c": {"type": "other", "anything": 1}}},
    ],
)
def test_good_trees(tree: dict[str, Any]) -> None:
    jsonschema_rs.validator_for(workflow_schema()).validate(tree)


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"tasks": {}},
        {"tasks": {"a": {}}},
        {"tasks": {"a": {"run": "x", "rnu": "y"}}},
        {"tasks": {"a": {"type": "python", "call": "m:f", "run": "x"}}},
        {"tasks": {"a b": {"run": "x"}}},
        {"tasks": {"a": {"run": "x", "timeout": "1:30"}}},
    ],
)
def test_bad_trees(tree: dict[str, Any]) -> None:
    assert not jsonschema_rs.validator_for(workflow_schema()).is_valid(tree)


def test_documented_workflows_are_accepted_unchanged() -> None:
    check = jsonschema_rs.validator_for(workflow_schema())
    files = [*(ROOT / "tests" / "data" / "seed").glob("*.yaml"), *(ROOT / "examples" / "plugins").rglob("*.yaml")]
    assert len(files) >= 9
    for path in files:
        check.validate(yaml.safe_load(path.read_text()))
