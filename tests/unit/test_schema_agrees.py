"""The published schema accepts what the loader accepts, and refuses what the loader's schema refuses.

Editors run the published schema on a file as it is written, here by two independent validators. The loader normalizes
the file first and runs its own schema.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from jsonschema import Draft202012Validator
from random_documents import change_value

from lightflow.errors import WorkflowError
from lightflow.parser.files import parse_text, read_source
from lightflow.parser.normalize import normalize
from lightflow.parser.positions import Source, UnreadableFile
from lightflow.parser.schema import normalized_schema, workflow_schema
from lightflow.parser.schema_validator import Validator
from lightflow.plugins.registry import BUILT_IN, Registry

ROOT = Path(__file__).resolve().parents[2]
EDITOR = Draft202012Validator(workflow_schema())
FAST_EDITOR = jsonschema_rs.validator_for(workflow_schema())
SCHEMA = normalized_schema(Registry().use(BUILT_IN).described())
LOADER = Validator(SCHEMA)
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
                yield f"{page.relative_to(ROOT)}#{number}", parse_text("page.yaml", text)[0]
            except (UnreadableFile, WorkflowError):
                continue  # a part of a file


def is_loadable(source: Source) -> bool:
    """Return whether the loader's schema accepts the file, and nothing was wrong before."""
    tree = normalize(source, SCHEMA, Registry())
    return not (
        source.problems or source.positions.number_problems or tree.problems or tree.unknown_types
    ) and LOADER.is_valid(tree.root)


GOOD = {name: source for name, source in sources() if is_loadable(source)}


def editor_errors(tree: Any) -> list[str]:
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in EDITOR.iter_errors(tree)]


def test_there_are_enough_files() -> None:
    assert len(GOOD) >= 45


@pytest.mark.parametrize("name", GOOD)
def test_an_editor_accepts_what_the_loader_accepts(name: str) -> None:
    assert editor_errors(GOOD[name].tree) == []
    assert FAST_EDITOR.is_valid(GOOD[name].tree)


BAD = sorted(
    path for path in (ROOT / "tests" / "data" / "bad").iterdir() if path.suffix in (".yaml", ".json") and path.is_file()
)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_an_editor_refuses_what_the_loaders_schema_refuses(path: Path) -> None:
    try:
        source = read_source(path)
    except WorkflowError:
        return  # not YAML
    tree = normalize(source, SCHEMA, Registry())
    if source.problems or source.positions.number_problems or tree.problems or tree.unknown_types:
        return  # beyond what a schema can say
    assert (editor_errors(source.tree) == []) == LOADER.is_valid(tree.root)


# -- files as they are written, with every short form and alias -----------------------------------------------------

WRITTEN: dict[str, Any] = {
    "name": "one",
    "parameters": {"day": {"type": "date", "default": "today"}, "rows": 3, "env": {"enum": ["a", "b"]}},
    "secrets": ["TOKEN", {"name": "KEY", "file": "key.txt"}, {"name": "PASS", "command": ["pass", "show"]}],
    "pools": {"gpu": 2, "disk": {"slots": 3}},
    "max_active_runs": {"max_active_runs": 2, "overlap_policy": "skip"},
    "retry_policy": {"limit": 2, "interval_sec": 3, "max_interval_sec": 60},
    "env": {"A": 1, "B": None, "C": True},
    "env_file": ".env",
    "finally": ["echo a", "echo b"],
    "on_failure": {"cmd": "echo", "working_dir": "x", "retry_interval": 2},
    "tasks": {
        "a": {"command": ["x", "y"], "precondition": "test -s x", "env_file": ["a.env", {"path": "b.env"}]},
        "b": {"type": "python", "script": "pass", "needs": "a", "matrix": {"os": ["x", 1], "max-parallel": 2}},
        "c": {"type": "python", "call": "m:f", "args": [1], "retry_policy": {"limit": 3, "interval": "5s"}},
        "d": {"run": "x", "with_items": ["a"], "when": "params.a", "timeout_seconds": "5m"},
        "e": {"run": "x", "foreach": {"items": ["a"], "max_concurrent": 2}, "allow_failure": {"exit_codes": [3]}},
        "f": {"run": "x", "strategy": {"matrix": {"os": ["a"]}, "fail-fast": True}, "priority_weight": 3},
        "g": {"run": "x", "teardown": "a", "secrets": "TOKEN", "finally": "echo", "on_retry": {"script": ["a"]}},
        "h": {"run": "x", "preconditions": [{"sh": "true", "msg": "no"}, {"when": "params.a"}, "true"]},
        "x-note": 3,
    },
    "settings": {"max_workers": 2, "mode": "thread", "x-note": None},
}

KEYS = sorted(
    {name for definition in workflow_schema()["$defs"].values() for name in definition.get("properties", {})}
    | set(workflow_schema()["properties"])
)
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.0, 0.5, 4.0, 101, 100_001, "", " ", "a", "x-a", "5m", "1h30m", "shell", "python"),
    *("thread", "all_done", "ü", "a:b", "bash", "${{ a }}", "date", "direct", "last_line", "skip", "file"),
]


def some_value(source: random.Random, depth: int = 2) -> Any:
    kind = source.random()
    if depth and kind < 0.2:
        return [some_value(source, depth - 1) for _ in range(source.randrange(3))]
    if depth and kind < 0.35:
        return {source.choice(KEYS): some_value(source, depth - 1) for _ in range(source.randrange(3))}
    return source.choice(ODD)


def changed_file(source: random.Random) -> Any:
    """Return a valid file of a few tasks in which some values are replaced or added."""
    tree = copy.deepcopy(WRITTEN)
    tree["tasks"] = {key: tree["tasks"][key] for key in source.sample(sorted(tree["tasks"]), 3)}
    if source.random() < 0.3:
        tasks = {key: task for key, task in tree["tasks"].items() if isinstance(task, dict)}
        tree["tasks"] = [{"id": key, **task} for key, task in tasks.items()]
    for _ in range(source.randrange(3)):
        change_value(tree, source, KEYS, some_value)
    return tree


def test_both_accept_every_short_form_and_alias() -> None:
    assert editor_errors(WRITTEN) == []
    assert loads(WRITTEN)


def test_both_agree_about_random_files(quick: Callable[[int, int], int]) -> None:
    """Two names for one key are left out: no schema can say which aliases exclude each other."""
    random_source = random.Random(11)
    answers: Counter[bool] = Counter()
    files = quick(1_500, 20_000)
    for _ in range(files):
        tree = changed_file(random_source)
        source = parse_text("w.json", json.dumps(tree))[0]
        normalized = normalize(source, SCHEMA, Registry())
        if normalized.problems or normalized.unknown_types:
            continue
        answer = LOADER.is_valid(normalized.root)
        answers[answer] += 1
        assert FAST_EDITOR.is_valid(tree) == answer, (editor_errors(tree), LOADER.errors(normalized.root), tree)
    assert answers[True] >= files * 0.2, answers
    assert answers[False] >= files * 0.35, answers


def task(**keys: Any) -> dict[str, Any]:
    return {"tasks": {"a": {"run": "echo", **keys}}}


@pytest.mark.parametrize(
    "tree",
    [
        *({event: "echo", "tasks": {"a": {"run": "echo"}}} for event in _EVENTS if event != "on_retry"),
        *(task(**{event: "echo"}) for event in _EVENTS),
        *(task(**{event: {"type": "python", "call": "m:f"}}) for event in _EVENTS),
        task(on_failure={"run": "echo"}),
        task(run=["", "echo"]),
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
    assert editor_errors(tree) == []
    assert loads(tree)


@pytest.mark.parametrize(
    "tree",
    [
        task(run=[" "]),
        task(run=["", "\n"]),
        task(on_failure=""),
        task(on_failure=[" "]),
        task(on_failure=3),
        task(on_failure={"run": "a", "depends_on": ["b"]}),
        task(on_failure={"type": "python"}),
        task(preconditions=[]),
        task(preconditions=[""]),
        task(preconditions=[{"run": "a", "if": "b"}]),
        task(preconditions={"message": "neither"}),
        task(preconditions={"run": "a", "colour": 1}),
        task(preconditions=["a", ["b", "c"]]),
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
    assert editor_errors(tree) != []
    assert not loads(tree)


def loads(tree: dict[str, Any]) -> bool:
    return is_loadable(parse_text("w.json", json.dumps(tree))[0])
