"""Names use the words of the glossary, and the words of the old private dialect only become fewer."""

from __future__ import annotations

import ast
import importlib.util
import re
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
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
DIALECT_LIMIT = 0

#: Words that need no entry in the glossary: those of SQL, files, processes and programs in general.
ORDINARY_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    a abandonable action allocator argument at
    backfill began boot bound branching builder building bulk by
    called changed channel check checked choice claimed clock closed code colours config connection context
    control corrupt created ctime current cwd
    database date day decided decision definition description detail device died display done dotenv due duplicate
    duration dynamic
    earlier end ended env environment error exception exit exited expander expansion expires explanation external
    fail failed file finding fingerprint fire flow folder follower foreign frame
    gate graph guarded
    hand handled handler hashed held history host
    id importable in info init inode input insert invalid
    job
    kind
    last latest lazy left limit line list liteflow loaded located location
    made main mapping matched mtime
    name namespace need new next no node not notice ns number
    origin outer outline output overlooked
    page painter parent part partial passed path paused pending picture pid place position prefetch previous
    printer problem process progress python
    read reaper reason record recorder ref references registry repeats report resource result resumable round row
    runner running
    sandbox schema scope screen script seconds seen selection sha shared shell signal site size slice snapshot
    socket source spawn spawner special sqlite stale start started starter static status step stop stopped
    stopping stored stream style submission success summary sweep swept switch syntax system
    table tagger tail taken template term terminated text thread time timer too traced tracker tree type
    unclosed unknown unparsable unreadable unsafe updated usage use used
    validator version view visual wait
    waiting wake watermark why word work writer written wrong
    yet
    """,
    )
)

#: Names from before the glossary that wait for a better one, or stay because they are in released state files.
OLD_NAMES = frozenset({"Garbled", "Noting", "Painted", "Printed", "Study", "TooMuch", "ValueNotKnown", "asked_at"})


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
    if name in OLD_NAMES:
        return []
    name = name.replace("NotFound", "")  # as every library says it
    return [word for word in dialect.parts(name) if not allowed & {word, word.removesuffix("s"), singular(word)}]


def singular(word: str) -> str:
    """Return the singular of a word that ends with "ies"."""
    return f"{word.removesuffix('ies')}y" if word.endswith("ies") else word


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


def test_classes_in_the_glossary_exist() -> None:
    definitions = GLOSSARY.read_text(encoding="utf-8").partition("## Other words")[0]
    named = set(re.findall(r"`([A-Z][a-z]+[A-Za-z]*)`", definitions))
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for package in ("liteflow", "lightflow")
        for path in (ROOT / package).rglob("*.py")
    )
    assert [name for name in sorted(named) if not re.search(rf"^(class )?{name}\b", source, re.M)] == []


def test_the_parts_of_the_glossary_are_read() -> None:
    assert {"task", "xcom", "workflow", "executor", "epoch"} <= GLOSSARY_WORDS
    assert set(columns()) >= {"run_id", "try_number", "seq"}
    assert set(headings()) >= {"TASK", "NAME", "VALUE"}
    assert {"on_failure", "on_exit"} <= set(HOOK_EVENTS)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("public names", lambda: [name for name in liteflow.__all__ if not name.startswith("_")]),
        ("states", lambda: [name for name in vars(Status) if name.isupper()]),
        ("events of observers", lambda: [name for name in vars(liteflow.Observer) if not name.startswith("_")]),
        ("events of hooks", lambda: HOOK_EVENTS),
        ("columns of the state file", columns),
        ("headings of tables", headings),
        ("classes", classes),
    ],
)
def test_each_word_of_a_name_is_in_the_glossary(kind: str, names: Callable[[], Iterable[str]]) -> None:
    assert {name: words for name in names() if (words := unexplained(name))} == {}, (
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
