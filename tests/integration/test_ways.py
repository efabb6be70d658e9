"""The page with the ways to each action names commands, options, functions, arguments, routes and keys that exist."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from lightflow import runs as public_runs
from lightflow.cli.commands import load
from lightflow.server.api import ROUTES
from lightflow.server.bodies import BODIES
from liteflow import Dag, DagRun, api
from liteflow.definition.options import OPTION_NAMES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "ways.md").read_text(encoding="utf-8")
KEYS = (ROOT / "docs" / "reference" / "workflow-file.md").read_text(encoding="utf-8")
OWNERS = {"dag": Dag, "run": DagRun, "api": api, "runs": public_runs}
#: Functions with `**options`, and where these go.
PASSED_ON: dict[Callable[..., Any], set[str]] = {
    Dag.retry: set(inspect.signature(Dag.resume).parameters),
    Dag.fork: set(inspect.signature(Dag.resume).parameters),
    Dag.task: set(OPTION_NAMES),
    Dag.sensor: set(OPTION_NAMES),
    DagRun.approve: {"n"},  # a field of the approval
}


def rows(columns: int) -> Iterator[list[str]]:
    """Yield the cells of the rows in the tables with so many columns."""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("| ") else []
        if len(cells) == columns and cells[0] not in ("Action", "Part", "---"):
            yield cells


ACTIONS = list(rows(4))
PARTS = list(rows(3))


def words_of(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("row", ACTIONS, ids=lambda row: row[0])
def test_each_action_exists_in_each_way(row: list[str]) -> None:
    _, command, python, rest = row
    check_command(words_of(command)[0].split()[1:])
    for text in words_of(python):
        check_python(text)
    if words_of(rest):
        check_route(*words_of(rest))


@pytest.mark.parametrize("row", PARTS, ids=lambda row: row[0])
def test_each_part_exists_in_a_file_and_in_python(row: list[str]) -> None:
    _, key, python = row
    name = words_of(key)[0].partition(" in ")[0]
    kind = name.removeprefix("type: ")
    heading = f"## Tasks of type `{kind}`\n" if name != kind else f"### `{kind}`\n"
    assert heading in KEYS
    check_python(words_of(python)[0])


def check_command(words: list[str]) -> None:
    command = load(words[0])
    if isinstance(command, click.Group):
        command = command.commands[words[1]]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def check_python(text: str) -> None:
    """Check that a call names a function, and arguments that it takes."""
    tree = ast.parse(text).body[0]
    node = tree.value if isinstance(tree, ast.Expr) else tree.targets[0] if isinstance(tree, ast.Assign) else None
    calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
    assert node is not None
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
            owner = OWNERS[each.value.id]
            assert hasattr(owner, each.attr) or each.attr in vars(Dag("d")), text
    for call in calls:
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            function = getattr(OWNERS[call.func.value.id], call.func.attr)
            names = set(inspect.signature(function).parameters) | PASSED_ON.get(function, set())
            assert {str(keyword.arg) for keyword in call.keywords} <= names, text


def check_route(words: str, *keys: str) -> None:
    method, path = words.split()
    route = next(route for route in ROUTES if (route.method, route.path) == (method, f"/api/v1{path}"))
    assert set(keys) <= set(BODIES.get(route.handler, {}).get("properties", ())), words
