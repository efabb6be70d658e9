"""The errors of the application form one tree, which a page of the documentation draws."""

from __future__ import annotations

from pathlib import Path

import lightflow.visuals.dag_viewer  # noqa: F401 - modules that could define errors of their own
from lightflow import errors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "exit-codes.md"


def tree(kind: type[errors.LightflowError], depth: int = 0) -> list[tuple[int, str, int]]:
    """Return the depth, the name and the exit code of an error and of each error below it."""
    rows = [(depth, kind.__name__, kind.exit_code)]
    for child in sorted(kind.__subclasses__(), key=lambda child: child.__name__):
        rows += tree(child, depth + 1)
    return rows


def test_the_documentation_draws_the_tree() -> None:
    block = PAGE.read_text(encoding="utf-8").partition("```text errors\n")[2].partition("```")[0]
    drawn = []
    for line in block.splitlines():
        name, exit_code = line.split()[:2]
        drawn.append(((len(line) - len(line.lstrip())) // 2, name, int(exit_code)))
    assert drawn == tree(errors.LightflowError)


def test_every_error_of_the_tree_is_defined_in_one_module() -> None:
    kinds = [errors.LightflowError]
    for kind in kinds:
        assert kind.__module__ == "lightflow.errors"
        kinds += kind.__subclasses__()
