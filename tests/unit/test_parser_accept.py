"""The fast way to accept a file: never more generous than the validator proper, and in step with the schema."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lightflow.errors import WorkflowError
from lightflow.parser.accept import _ANNOTATIONS, _KEYWORDS, FEW_TASKS, accepts
from lightflow.parser.canonical import canonical
from lightflow.parser.schema import COMMON, RETRY, SETTINGS, canonical_schema
from lightflow.parser.source import read_source
from lightflow.parser.workflow_loader import loads_workflow
from lightflow.plugins.registry import Registry

DATA = Path(__file__).resolve().parents[1] / "data"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCHEMA = canonical_schema(Registry().known())
PROPER = jsonschema_rs.validator_for(SCHEMA)

GOOD: dict[str, Any] = {
    "workflow_name": "one",
    "tasks": {"a": {"type": "shell", "run": "true"}, "b": {"type": "python", "run": "pass", "depends_on": ["a"]}},
    "settings": {"retries": 2, "mode": "thread"},
}

#: Values near the borders of what some keyword allows.
ODD = st.one_of(
    st.sampled_from(
        [None, True, False, 0, 1, -1, 1.0, 0.5, 4.0, 101, 1001, 1e9, 1e300, 2**53, 2**53 + 1, 2**70, -(2**70)]
    ),
    st.sampled_from(
        ["", " ", "\n", "a", "a\n", "x-a", "5m", "5m\n", "1h30m", "0", "shell", "python", "thread", "all_done", "ü"]
    ),
    st.sampled_from(["\x1c", "\x85", "\ufeff", "\u2028", "a:b", "a.b:c.d", "ä:b", "a b", "bash", "é"]),
    st.text(max_size=3),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
KEYS = st.sampled_from(sorted({*COMMON, *SETTINGS["properties"], *RETRY["properties"], "run", "shell", "call", "args"}))
NAMES = st.one_of(KEYS, st.sampled_from(["x-note", "A", "a b", "", "a\n", "ä", "tasks", "env"]))
VALUES = st.recursive(
    ODD,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
TASKS = st.dictionaries(NAMES, VALUES, max_size=4).map(lambda task: {"type": "shell", **task})
DOCUMENTS = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {"tasks": st.dictionaries(st.sampled_from(["a", "b", "x-c", "d e"]), st.one_of(TASKS, VALUES), max_size=3)},
        optional={
            "workflow_name": VALUES,
            "description": VALUES,
            "settings": st.one_of(VALUES, st.dictionaries(NAMES, VALUES, max_size=3)),
            "env": VALUES,
            "plugins": VALUES,
            "x-free": VALUES,
        },
    ),
)


@given(DOCUMENTS)
@example({"tasks": {"a": {"type": "shell", "run": "true", "timeout": "5m\n"}}})
@example({"workflow_name": "one\n", "tasks": {"a": {"type": "shell", "run": "true"}}})
@example({"tasks": {"a": {"type": "shell", "run": "\ufeff"}}})
@example({"tasks": {"a": {"type": "shell", "run": "\x1c"}}})
@example({"tasks": {"a": {"type": "shell", "run": "true", "retries": True}}})
@example({"tasks": {"a": {"type": "python", "run": "1", "call": "a:b"}}})
def test_what_is_accepted_at_once_is_valid(document: Any) -> None:
    if accepts(SCHEMA, document):
        assert PROPER.is_valid(document)


@given(st.data())
def test_so_is_a_good_file_with_one_thing_changed(data: st.DataObject) -> None:
    """Nearer to the borders than whole documents by chance: one value of a valid file is replaced or added."""
    document = copy.deepcopy(GOOD)
    parts = [document, document["settings"], *document["tasks"].values()]
    part = data.draw(st.sampled_from(parts))
    part[data.draw(st.one_of(st.sampled_from(sorted(part)), NAMES))] = data.draw(VALUES)
    if accepts(SCHEMA, document):
        assert PROPER.is_valid(document)


def test_a_good_file_is_accepted() -> None:
    assert accepts(SCHEMA, GOOD)


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_accepted_at_once(path: Path) -> None:
    tree = canonical(read_source(path), Registry())
    kinds = {task["type"] for task in tree.root["tasks"].values()}
    assert accepts(SCHEMA, tree.root) or not kinds <= {"shell", "python"} or not path.read_text("utf-8").isascii()


@pytest.mark.parametrize("path", sorted((DATA / "bad").rglob("*.*")), ids=lambda path: path.name)
def test_bad_files_are_never_accepted_against_the_validator(path: Path) -> None:
    try:
        tree = canonical(read_source(path), Registry())
    except (WorkflowError, IsADirectoryError):
        return
    assert PROPER.is_valid(tree.root) or not accepts(SCHEMA, tree.root)


def test_every_keyword_of_our_schema_is_known() -> None:
    """Else every file would take the long way, and nobody would notice."""
    keywords: set[str] = set()

    def look(schema: Any) -> None:
        if not isinstance(schema, dict):
            return
        keywords.update(schema)
        for keyword, rule in schema.items():
            if keyword in ("properties", "patternProperties", "$defs"):
                for part in rule.values():
                    look(part)
            elif keyword in ("allOf", "oneOf"):
                for part in rule:
                    look(part)
            elif keyword in ("if", "then", "items", "additionalProperties", "propertyNames"):
                look(rule)

    look(SCHEMA)
    assert keywords <= {*_KEYWORDS, *_ANNOTATIONS, "$ref"}


def test_a_pattern_beyond_ascii_is_left_to_the_validator() -> None:
    document = {"tasks": {"a": {"type": "shell", "run": "echo é"}}}
    assert PROPER.is_valid(document)
    assert not accepts(SCHEMA, document)
    assert loads_workflow("tasks: {a: {run: echo é}}", "flow.yaml").tasks["a"].config["run"] == "echo é"


def test_large_files_go_the_usual_way() -> None:
    text = "tasks:\n" + "".join(f"  t{number}: {{run: 'true', retries: 1}}\n" for number in range(FEW_TASKS + 1))
    assert len(loads_workflow(text, "flow.yaml").tasks) == FEW_TASKS + 1
    with pytest.raises(WorkflowError, match="retries"):
        loads_workflow(text.replace("retries: 1", "retries: many"), "flow.yaml")
