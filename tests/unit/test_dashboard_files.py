"""The files of the dashboard: what is vendored is what was published, and no page can turn text into markup."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from lightflow.server import static
from liteflow.digest import sha256_hex

PAGES = Path(static.__file__).parent / "pages"
VENDOR = PAGES / "vendor"
OURS = sorted(path for path in PAGES.rglob("*") if path.suffix in (".js", ".html") and VENDOR not in path.parents)
MOST_COMPRESSED = 60 * 1024

#: What makes markup or code of text.
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|\beval\(|new Function|javascript:|"
    r"createContextualFragment|\bstyle=\"|<[a-z]+[^>]*\son[a-z]+=[\"']",
)


def test_vendored_files_are_those_that_were_published() -> None:
    versions = json.loads((VENDOR / "versions.json").read_text())
    assert {each["file"] for each in versions} == {path.name for path in VENDOR.glob("*.js")}
    for each in versions:
        assert sha256_hex((VENDOR / each["file"]).read_bytes()) == each["sha256"], each["file"]
        licence = (VENDOR / f"LICENSE.{each['package']}").read_text()
        assert {"MIT": "Permission is hereby granted", "Apache-2.0": "Apache License"}[each["licence"]] in licence


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_no_page_makes_markup_of_text(path: Path) -> None:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        assert not FORBIDDEN.search(line), f"{path.name}:{number}: {line.strip()[:100]}"


@pytest.mark.parametrize(
    "line", ["a.innerHTML = b", 'x.insertAdjacentHTML("a", b)', '<p onclick="x()">', "location = 'javascript:x'"]
)
def test_the_rule_sees_what_makes_markup(line: str) -> None:
    assert FORBIDDEN.search(line)


def test_the_code_is_small() -> None:
    total = sum(
        len(gzip.compress(path.read_bytes(), 9)) for path in PAGES.rglob("*") if path.suffix in (".js", ".css", ".html")
    )
    assert total <= MOST_COMPRESSED, f"{total:,} bytes"


def test_each_file_has_its_path_and_only_these() -> None:
    files = {f"/ui/{path.relative_to(PAGES)}" for path in PAGES.rglob("*") if path.suffix in (".js", ".css")}
    assert static.static_paths() == files | {"/"}
