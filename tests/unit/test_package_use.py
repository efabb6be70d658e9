"""`make test-oldest` runs what a version of a package can change, and nothing else."""

from __future__ import annotations

from pathlib import Path

import package_use
import pytest

HERE = Path(__file__).resolve().parent


@pytest.mark.parametrize(
    ("text", "uses"),
    [
        ("from liteflow import Dag", False),
        ("import random_runs", False),  # a module of the tests that uses the engine alone
        ("import json, sqlite3\nimport pytest", False),
        ("from lightflow.parser import load", True),
        ("from bench.measure import ROOT", True),
        ('COMMAND = ["-m", "lightflow", "run"]', True),
        ("SCRIPT = 'import lightflow'", True),
        ('PACKAGES = ("liteflow", "lightflow")', False),  # it reads their sources
        ("def test() -> None:\n    import yaml", True),
        ("SCRIPT = '''\nimport click\n'''", True),
        ("from server_kit import serving", True),  # a module of the tests that uses lightflow
    ],
)
def test_a_file_uses_packages_by_its_imports_its_commands_and_those_of_the_modules_it_imports(
    text: str, uses: bool, tmp_path: Path
) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(text)
    assert package_use.uses_packages(file) is uses


def test_every_package_with_a_lowest_version_is_known() -> None:
    assert {"yaml", "click", "jinja2", "rich", "cronsim", "tzdata"} <= package_use.bounded_modules()


def test_the_parser_depends_on_packages_and_the_loop_does_not() -> None:
    assert package_use.uses_packages(HERE / "test_parser_scalars.py")
    assert not package_use.uses_packages(HERE / "test_loop.py")
