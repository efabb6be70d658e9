"""The schema that editors run, and the loader: what one accepts the other accepts, by an independent validator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from jsonschema import Draft202012Validator

from lightflow.errors import WorkflowError
from lightflow.parser.canonical import canonical
from lightflow.parser.positions import Source, Unreadable
from lightflow.parser.schema import canonical_schema, workflow_schema
from lightflow.parser.source import parse_text, read_source
from lightflow.plugins.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
EDITOR = Draft202012Validator(workflow_schema())
LOADER = jsonschema_rs.validator_for(canonical_schema(Registry().known()))
_BLOCK = re.compile(r"^```ya?ml[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_EVENTS = ("on_start", "on_success", "on_failure", "on_retry", "on_cancel", "on_exit")


def sources() -> Iterator[tuple[str, Source]]:
    """Every workflow in the examples, the documentation and the data of the tests."""
    folders = [ROOT / "examples", ROOT / "tests" / "data" / "seed"]
    for path in sorted(path for folder in folders for path in folder.rglob("*.*") if path.suffix in (".yaml", ".json")):
        yield str(path.relative_to(ROOT)), read_source(path)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for number, text in enumerate(_BLOCK.findall(page.read_text("utf-8"))):
            try:
                yield f"{page.relative_to(ROOT)}#{number}", parse_text("page.yaml", text)
            except (Unreadable, WorkflowError):
                continue  # a part of a file


GOOD = {
    name: source
    for name, source in sources()
    if LOADER.is_valid(canonical(source, Registry()).root) and not source.problems
}


def said(tree: Any) -> list[str]:
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in EDITOR.iter_errors(tree)]


def test_there_are_enough_files() -> None:
    assert len(GOOD) >= 45


@pytest.mark.parametrize("name", GOOD)
def test_an_editor_accepts_what_the_loader_accepts(name: str) -> None:
    assert said(GOOD[name].tree) == []


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "data" / "bad").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_editor_refuses_what_the_loaders_schema_refuses(path: Path) -> None:
    try:
        source = read_source(path)
    except WorkflowError:
        return  # no YAML, or beyond what a schema can say
    if source.problems or source.positions.doubts:
        return
    tree = canonical(source, Registry())
    if not tree.problems and not LOADER.is_valid(tree.root):
        assert said(source.tree) != []


def task(**keys: Any) -> dict[str, Any]:
    return {"tasks": {"a": {"run": "echo", **keys}}}


@pytest.mark.parametrize(
    "tree",
    [
        *({event: "echo", "tasks": {"a": {"run": "echo"}}} for event in _EVENTS if event != "on_retry"),
        *(task(**{event: "echo"}) for event in _EVENTS),
        *(task(**{event: {"type": "python", "call": "m:f"}}) for event in _EVENTS),
        task(on_failure={"run": "echo"}),
        task(preconditions="test -s x"),
        task(preconditions=["test -s x", {"run": "test -s y"}, {"if": "params.a"}, {"sh": "true", "msg": "no"}]),
        task(preconditions={"if": "params.a"}),
        task(continue_on_error=True),
        task(retry_policy={"max": 2}),
        task(foreach=["a"]),
        task(foreach={"items": ["a"]}),
        task(foreach="${{ tasks.b.result }}"),
        task(strategy={"matrix": {"os": ["a"]}, "max-parallel": 2}),
        {"concurrency": 1, "tasks": {"a": {"run": "echo"}}},
        {"concurrency": "group", "tasks": {"a": {"run": "echo"}}},
        {"concurrency": {"limit": 2}, "tasks": {"a": {"run": "echo"}}},
        {"secrets": ["A", {"name": "B", "path": "b"}], "tasks": {"a": {"run": "echo"}}},
        {"secrets": {"A": None, "B": {"path": "b"}}, "tasks": {"a": {"run": "echo"}}},
        {"pools": {"a": 1, "b": {"slots": 2}}, "tasks": {"a": {"run": "echo"}}},
        {"params": {"a": 1, "b": {"enum": ["x"]}, "c": None}, "tasks": {"a": {"run": "echo"}}},
        {"tasks": {"a": {"type": "python", "call": "m:f", "args": [1]}, "x-b": 3}},
        {"steps": [{"name": "a", "run": "echo"}, {"name": "b", "run": "echo", "needs": "a"}]},
        {"steps": [{"id": "a", "cmd": "echo"}, {"id": "b", "type": "python", "script": "pass", "needs": ["a"]}]},
    ],
)  # fmt: skip
def test_both_accept(tree: dict[str, Any]) -> None:
    assert said(tree) == []
    assert loads(tree)


@pytest.mark.parametrize(
    "tree",
    [
        task(on_failure=""),
        task(on_failure=3),
        task(on_failure={"run": "a", "depends_on": ["b"]}),
        task(on_failure={"type": "python"}),
        task(preconditions=[]),
        task(preconditions=[""]),
        task(preconditions=[{"run": "a", "if": "b"}]),
        task(preconditions={"message": "neither"}),
        task(preconditions={"run": "a", "colour": 1}),
        task(foreach={"as": "x"}),
        task(id="a"),
        {"tasks": {"a": {"type": "python", "run": "pass", "call": "m:f"}}},
        {"tasks": [{"id": "a", "rnu": "echo"}]},
        {"tasks": [{"run": "echo"}]},
        {"tasks": [{"id": "a"}]},
        {"tasks": [{"id": "a", "run": "x", "timeout": "soon"}]},
        {"tasks": [3]},
        {"tasks": []},
    ],
)  # fmt: skip
def test_both_refuse(tree: dict[str, Any]) -> None:
    assert said(tree) != []
    assert not loads(tree)


def loads(tree: dict[str, Any]) -> bool:
    import json

    source = parse_text("w.json", json.dumps(tree))
    made = canonical(source, Registry())
    return not source.problems and not made.problems and bool(LOADER.is_valid(made.root))
