"""Names use the words of the glossary, and the words of the old private dialect only become fewer."""

from __future__ import annotations

import ast
import importlib.util
import re
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import liteflow
from liteflow.hooks import HOOK_EVENTS
from liteflow.state.schema import MIGRATIONS
from liteflow.states import Status

ROOT = Path(__file__).resolve().parents[2]
GLOSSARY = ROOT / "docs" / "reference" / "glossary.md"

#: Words of the dialect in the sources at most (`python tools/dialect.py` lists them). Lower it; never raise it.
DIALECT_LIMIT = 2319

#: Words that need no entry in the glossary: those of SQL, files, processes and programs in general.
ORDINARY_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    a action at began boot by changed checked choice closed code config context corrupt created current cwd database
    date
    definition description detail done dotenv duplicate duration end ended env environment error exit fail failed file
    frame graph handled held history host id in info init input kind last latest limit line list liteflow main name
    new no not number output page parent part path pending pid position previous problem process progress python read
    reason record ref registry report resource result resumable row schema script seconds shell size snapshot source
    sqlite start started status step stopping stream success summary text thread time timer too tree type unknown
    updated usage used view waiting word writer written wrong yet
    """,
    )
)


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


dialect = load_tool("dialect")


def glossary_words() -> frozenset[str]:
    """Return the words of the terms, and of their names in code, in the tables of the glossary."""
    words: set[str] = set()
    definitions = GLOSSARY.read_text(encoding="utf-8").partition("## Other words")[0]
    for term, meaning, in_code in re.findall(r"^\| (\*\*.*?) \| (.*?) \| (.*?) \|$", definitions, re.M):
        for text in (term, *re.findall(r"\*(\w+)\*", meaning), *re.findall(r"`([^`]+)`", in_code)):
            words.update(dialect.parts(text))
    return frozenset(words)


GLOSSARY_WORDS = glossary_words()


def unexplained(name: str) -> list[str]:
    """Return the words of a name that are neither in the glossary nor ordinary; plurals count as their singular."""
    allowed = GLOSSARY_WORDS | ORDINARY_WORDS
    name = name.replace("NotFound", "")  # as every library says it
    return [word for word in dialect.parts(name) if word not in allowed and word.removesuffix("s") not in allowed]


def classes() -> Iterator[str]:
    for package in ("liteflow", "lightflow"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    yield node.name


def columns() -> Iterator[str]:
    connection = sqlite3.connect(":memory:")
    try:
        for script in MIGRATIONS:
            connection.executescript(script)
        yield from (
            row[0]
            for row in connection.execute(
                "SELECT c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c"
                " WHERE t.type = 'table' AND t.name LIKE 'liteflow_%'"
            )
        )
    finally:
        connection.close()


def headings() -> Iterator[str]:
    """Yield the headings of the tables that commands print: tuples and lists of words in capitals."""
    for folder in (ROOT / "liteflow" / "cli", ROOT / "lightflow" / "cli"):
        for path in sorted(folder.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Tuple | ast.List):
                    texts = [item.value for item in node.elts if isinstance(item, ast.Constant)]
                    if len(texts) > 1 and all(
                        isinstance(text, str) and re.match(r"[A-Z]{2}[A-Z ]*$", text) for text in texts
                    ):
                        yield from texts


def test_the_parts_of_the_glossary_are_read() -> None:
    assert {"task", "xcom", "workflow", "executor", "epoch"} <= GLOSSARY_WORDS
    assert set(columns()) >= {"run_id", "try_number", "seq"}
    assert set(headings()) >= {"TASK", "NAME", "VALUE"}
    assert {"on_failure", "on_exit"} <= set(HOOK_EVENTS)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("public names", [name for name in liteflow.__all__ if not name.startswith("_")]),
        ("states", [name for name in vars(Status) if name.isupper()]),
        ("events of observers", [name for name in vars(liteflow.Observer) if not name.startswith("_")]),
        ("events of hooks", sorted(HOOK_EVENTS)),
    ],
)
def test_each_word_of_a_name_is_in_the_glossary(kind: str, names: Iterable[str]) -> None:
    assert {name: words for name in names if (words := unexplained(name))} == {}, (
        f"{kind}: use a word of docs/reference/glossary.md, or add a term there"
    )


@pytest.mark.parametrize("name", ["HookTold", "KeptTask", "told_at", "begun", "Unfolded", "STOOD", "Whoever"])
def test_a_word_of_the_dialect_is_refused(name: str) -> None:
    assert unexplained(name)


def test_the_dialect_only_shrinks() -> None:
    places = dialect.places()
    assert len(places) <= DIALECT_LIMIT, f"use the words of the glossary instead:\n{dialect.table(places)}"


def test_the_dialect_is_found_in_code_and_text_and_not_in_data() -> None:
    source = '''
def report(one, hook_event):  # Nobody is told
    """Is it known?"""
    known_hosts = {"told": one, "kept": hook_event}
    raise ValueError(f"{one} is no number")
'''
    words = [place.word for place in dialect.places_in("example.py", source)]
    assert sorted(words) == sorted(["`one`"] * 3 + ["nobody, somebody", "told, tell", "question", "is no X"])
