"""A plain command line is read without click, and means what it means to click."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lightflow.cli.commands import COMMANDS, find, plain
from lightflow.cli.declare import Command, NotPlain

ROOT = Path(__file__).resolve().parents[2]
DECLARED = {name: found for name in COMMANDS if isinstance(found := find(name), Command)}
CLICK = {name: command.to_click() for name, command in DECLARED.items()}
SPELLINGS = sorted({text for command in DECLARED.values() for one in command.parameters for text in one.spellings})
WORDS = st.one_of(
    st.sampled_from(SPELLINGS),
    st.sampled_from(
        ["one.yaml", "thread", "fiber", "3", "0", "007", " 3", "-3", "3.5", "+3", "svg", "a b", "", "-", "--"]
    ),
    st.sampled_from(["--mode=thread", "-j3", "-qn", "--quie", "--help", "-h", "٣", "1_000", "@x", "9999999999", "~"]),
    st.text(max_size=3),
)


def by_click(name: str, arguments: list[str]) -> dict[str, Any]:
    return dict(CLICK[name].make_context(name, list(arguments), resilient_parsing=False).params)


@given(st.sampled_from(sorted(DECLARED)), st.lists(WORDS, max_size=6), st.sampled_from([None, "", "other.db"]))
@example("run", ["one.yaml", "-q"], None)
@example("run", ["one.yaml", "--no-fail-fast", "--mode", "thread", "-j", "3"], "other.db")
@example("logs", ["a", "--attempt", "2"], None)
@example("validate", ["a", "b", "--json"], None)
def test_what_is_plain_means_the_same_to_click(name: str, arguments: list[str], db: str | None) -> None:
    with mock.patch.dict(os.environ, {} if db is None else {"LIGHTFLOW_DB": db}):
        if db is None:
            os.environ.pop("LIGHTFLOW_DB", None)
        try:
            values = DECLARED[name].plain(arguments)
        except NotPlain:
            return
        assert by_click(name, arguments) == values


@pytest.mark.parametrize(
    "line",
    [
        "run one.yaml",
        "run one.yaml --quiet",
        "run one.yaml -q -j 4 --mode process --db x.db --log-dir logs --fail-fast --run-id r --resume --json",
        "resume one.yaml",
        "status",
        "status latest --json",
        "runs",
        "runs one --limit 5",
        "list",
        "logs --task a --run latest --follow",
        "validate one.yaml two.yaml",
        "why a",
        "dag one.yaml -o one.svg",
        "doctor",
        "template hello",
    ],
)
def test_these_are_plain(line: str) -> None:
    assert plain(line.split()) is not None


@pytest.mark.parametrize(
    "line", ["", "--help", "run", "run --help", "runn one.yaml", "run one.yaml --quie", "runs --limit 0"]
)
def test_these_are_left_to_click(line: str) -> None:
    assert plain(line.split()) is None


def test_completion_is_left_to_click(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_LIGHTFLOW_COMPLETE", "bash_complete")
    assert plain(["status"]) is None


@pytest.mark.parametrize("name", DECLARED)
def test_click_gets_every_parameter(name: str) -> None:
    shown = [one.name for one in CLICK[name].params if isinstance(one, click.Argument | click.Option)]
    assert shown == [one.name for one in DECLARED[name].parameters]


def test_misuse_is_told_by_click() -> None:
    line = [sys.executable, "-m", "lightflow", "logs", "a", "--task", "b"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: give the task once\nTry: lightflow logs --help\n"
