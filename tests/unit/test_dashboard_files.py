"""The files of the dashboard: what is vendored is what was published, and no page can turn text into markup."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lightflow.server import static
from lightflow.server.script import packed_style
from liteflow.digest import sha256_hex

PAGES = Path(static.__file__).parent / "pages"
VENDOR = PAGES / "vendor"
OURS = sorted(path for path in PAGES.rglob("*") if path.suffix in (".js", ".html") and VENDOR not in path.parents)
MOST_COMPRESSED = 60 * 1024  # bytes of the page, its style, its script and what is vendored

#: What makes markup or code of text.
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|\beval\(|new Function|javascript:|"
    r"createContextualFragment|\bstyle=\"|<[a-z]+[^>]*\son[a-z]+=[\"']",
)
IMPORT = re.compile(r"^import \{(?P<names>[^}]*)\} from [^;]*;$", re.MULTILINE)


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


def unused_imports(text: str) -> list[str]:
    """Return the names that a module imports and does not use."""
    rest = IMPORT.sub("", text)
    names = [name for match in IMPORT.finditer(text) for name in re.findall(r"[\w$]+", match["names"])]
    return [name for name in names if not re.search(rf"(?<![\w$.]){re.escape(name)}(?![\w$])", rest)]


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.js")), ids=lambda path: path.name)
def test_every_name_that_a_module_imports_is_used(path: Path) -> None:
    assert unused_imports(path.read_text()) == []


def test_the_rule_sees_names_that_are_not_used() -> None:
    text = 'import {\n  a, b, c,\n} from "./kit.js";\nimport d from "./d.js";\na(x.b, bc, d)\n'
    assert unused_imports(text) == ["b", "c"]


def test_all_code_is_small() -> None:
    sizes = {
        path: len(file.compressed or file.content)
        for path in static.STATIC_PATHS
        for file in [static.static_file(path)]
    }
    assert sum(sizes.values()) <= MOST_COMPRESSED, sizes


def test_every_module_and_stylesheet_is_served() -> None:
    script, style = (static.static_file(path).content.decode() for path in ("/ui/app.js", "/ui/ui.css"))
    for path in PAGES.glob("*.js"):
        names = re.findall(r"^export (?:async function|function|class|const) (\w+)", path.read_text(), re.MULTILINE)
        assert all(name in script for name in names), path.name
    for path in PAGES.glob("*.css"):
        assert packed_style(path.read_text()).strip() in style, path.name
    for path in VENDOR.glob("*.js"):
        text = path.read_text()
        assert text[text.index(";") + 1 if text.startswith("import") else 0 : text.index("export")] in script, path.name
    assert {"/", "/ui/app.js", "/ui/ui.css"} == static.STATIC_PATHS
