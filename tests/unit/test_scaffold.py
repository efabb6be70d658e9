"""The template: text that is a program, under the name that was asked for."""

from __future__ import annotations

import ast

import pytest

from liteflow import DefinitionError
from liteflow.scaffold import scaffold


def test_it_is_a_program_in_plain_ascii_with_lines_that_fit() -> None:
    text = scaffold()
    ast.parse(text)
    assert text.isascii()
    assert text.endswith("\n")
    assert max(map(len, text.splitlines())) <= 120
    assert "@" not in text


def test_the_name_is_the_dag_id() -> None:
    text = scaffold("nightly.etl-2")
    assert 'Dag("nightly.etl-2"' in text
    assert "visualize nightly.etl-2 " in text
    assert "my_workflow" not in text


@pytest.mark.parametrize("name", ["", "a b", '");import os;("', "../x", "x\n", "a" * 129])
def test_a_name_that_cannot_be_a_dag_id_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError, match="dag id"):
        scaffold(name)
