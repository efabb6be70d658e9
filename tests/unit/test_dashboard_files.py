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
MOST_COMPRESSED = 60 * 1024  # of a page with all that it imports

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


def imported(name: str) -> set[str]:
    """A module and all modules that it imports before it runs."""
    files, waiting = set[str](), [name]
    while waiting:
        current = waiting.pop()
        if current not in files:
            files.add(current)
            text = (PAGES / current).read_text()
            waiting += [str((PAGES / current).parent.joinpath(each).resolve().relative_to(PAGES)) for each in
                        re.findall(r'(?:^|\s)from ?"(\./[\w./]+)"', text)]  # fmt: skip
    return files


def compressed(files: set[str]) -> int:
    paths = static._files()
    sizes = {each: paths["/" if each == "index.html" else f"/ui/{each}"] for each in files}
    return sum(len(file.compressed or file.content) for file in sizes.values())


def test_no_page_loads_much_code() -> None:
    """The most that a person loads: the shell, a page, and one of its views."""
    shell = imported("app.js") | {"index.html", "ui.css"}
    names = [path.stem for path in PAGES.glob("*.js")]
    pages = [name for name in names if "export default function" in (PAGES / f"{name}.js").read_text()]
    assert len(pages) >= 9
    sizes = {}
    for page in pages:
        files = shell | imported(f"{page}.js")
        views = {
            match
            for each in files
            if each.endswith(".js")
            for match in re.findall(r'Lazy} module="(\w+)"', (PAGES / each).read_text())
        }
        for view in views or {""}:
            sizes[page, view] = compressed(files | (imported(f"{view}.js") if view else set()))
    assert max(sizes.values()) <= MOST_COMPRESSED, sizes
    assert sizes["workflows", ""] <= 40 * 1024, sizes


def test_the_code_is_small() -> None:
    total = sum(
        len(gzip.compress(path.read_bytes(), 9)) for path in PAGES.rglob("*") if path.suffix in (".js", ".css", ".html")
    )
    assert total <= 90 * 1024, f"{total:,} bytes"


def test_each_file_has_its_path_and_only_these() -> None:
    files = {f"/ui/{path.relative_to(PAGES)}" for path in PAGES.rglob("*") if path.suffix in (".js", ".css")}
    assert static.static_paths() == files | {"/"}
