"""A plain installation stays small: what extras bring is not in it."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = 14
MEGABYTES = 70


def project() -> dict[str, object]:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    result: dict[str, object] = table["project"]
    return result


def installed_with(requirements: list[str]) -> set[str]:
    """Return the distributions that these requirements bring, by their names."""
    names: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        each = waiting.pop()
        if each.name.lower() in names or (each.marker and not each.marker.evaluate({"extra": ""})):
            continue
        names.add(each.name.lower())
        waiting += [Requirement(text) for text in metadata.requires(each.name) or ()]
    return names


def test_a_plain_installation_has_few_packages() -> None:
    names = installed_with(list(project()["dependencies"]))  # type: ignore[call-overload]
    assert len(names) + 1 <= PACKAGES, sorted(names)
    size = sum(
        Path(str(path.locate())).stat().st_size
        for name in names
        for path in metadata.files(name) or ()
        if Path(str(path.locate())).is_file()
    )
    assert size < MEGABYTES * 1_000_000, f"{size:,} bytes"


def test_every_extra_is_in_all() -> None:
    extras = project()["optional-dependencies"]
    assert isinstance(extras, dict)
    [everything] = [Requirement(text) for text in extras["all"]]
    parts = set(everything.extras)
    for name in list(parts):
        parts |= {extra for text in extras[name] for extra in Requirement(text).extras}
    assert {"http", "sql", "postgres", "mysql", "duckdb", "aws"} <= extras.keys()
    assert extras.keys() - parts == {"all"}
