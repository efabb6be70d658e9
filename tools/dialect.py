"""Count the words of the project's old private dialect in the sources, and print where they are.

Run `python tools/dialect.py` for a table, and with `--where` for each place. Identifiers, comments, docstrings and
messages count. A string without a blank is data, such as a key or a name in a user's file, and does not count.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("liteflow", "lightflow")

#: Identifiers that need a noun: `known` alone says nothing, `known_hosts` does.
NAMES_WITHOUT_NOUN: Final = frozenset(
    {
        "asked",
        "begun",
        "found",
        "given",
        "gone",
        "had",
        "heard",
        "judged",
        "kept",
        "known",
        "made",
        "more",
        "one",
        "ones",
        "others",
        "ours",
        "own",
        "owned",
        "owns",
        "said",
    }
    | {"stands", "stood", "taken", "theirs", "there", "those", "told"}
)

#: Parts of longer identifiers that have a plain word in the glossary.
PARTS: Final = frozenset(
    {"begun", "heard", "judged", "kept", "nobody", "somebody", "stands", "stood", "tell", "tells", "told", "whoever"}
)

#: Phrases in comments, docstrings and messages. The key is what the table shows.
PHRASES: Final[dict[str, re.Pattern[str]]] = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        "told, tell": r"\b(?:told|tells?|telling)\b",
        "kept": r"\bkept\b",
        "stands, stood": r"\b(?:stands?|stood)\b(?! for| out\b)",
        "whoever, whatever": r"\b(?:whoever|whatever|whosoever)\b",
        "nobody, somebody": r"\b(?:nobody|somebody|anybody|everybody)\b",
        "goes before": r"\b(?:go|goes|going|went) before\b",
        "goes on": r"\b(?:go|goes|going|gone|went) on\b",
        "at work": r"\bat work\b",
        "begun": r"\bbegun\b",
        "in line": r"\b(?:stand|stands|stood|wait|waits|waiting) in line\b",
        "taken down": r"\b(?:take|takes|taken|took) down\b",
        "mend": r"\b(?:mend|mends|mended|mending)\b",
        "hand on": r"\b(?:hand|hands|handed|handing) on\b",
        "asks, asked": r"\b(?:asks|asked)\b",
        "is no X": r"(?<!there )\bis no (?!longer|more\b)\w+",
        "what is there": r"\bwhat (?:is|was|are) there\b",
        "not any more": r"\bany more\b|\bno more\b(?! (?:files|processes|than)\b)",
        "in vain": r"\bin vain\b",
        "anew": r"\banew\b",
        "beside": r"\bbeside\b",
        "the like": r"\b(?:save for|save that|save those|the like)\b",
        "question": r"(?<![=<>,(])(?<!, )(?<!LIMIT )(?<!INTO )\?\s*$",  # a `?` of SQL is a parameter
        "What …, Who …, That …": r"(?-i:(?:^|[.:!] |# )(?:What|Who|Whoever|Whose|That) (?!is (?:all|why)\b))",
    }.items()
}

#: Words that are right where they are: the beginning of a path, a word of the table, and the reason.
EXCEPTIONS: Final = (
    ("liteflow/running/observers.py", ("`gone`", "`kept`", "kept"), "fields of `ListChange`, which is public"),
    ("liteflow/running/expansion.py", ("`kept`",), "a field of `ListChange`, which is public"),
    ("lightflow/engine/logger.py", ("`gone`", "`kept`"), "fields of `ListChange`, which is public"),
    ("liteflow/state/schema.py", ("told, tell", "goes on", "asks, asked", "question"), "migrations that are released"),
)


class Place(NamedTuple):
    """A word of the dialect, and where it is."""

    word: str
    path: str
    line: int
    text: str


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every name that the code defines or uses, with its line."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for field in ("id", "attr", "arg", "name", "asname", "rest"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield from ((part, line) for part in value.split("."))
        for name in getattr(node, "names", ()):
            if isinstance(name, str):
                yield name, line


def texts(source: str, tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every comment, docstring and message, line by line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string, token.start[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            for offset, text in enumerate(node.value.splitlines()):
                yield text, node.lineno + offset


def parts(name: str) -> list[str]:
    """Return the words of a name in snake case or camel case, in small letters."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def places_in(path: str, source: str) -> Iterator[Place]:
    """Yield the words of the dialect in one file."""
    tree = ast.parse(source)
    for name, line in identifiers(tree):
        bare = name.strip("_").lower()
        if bare in NAMES_WITHOUT_NOUN:
            yield Place(f"`{bare}`", path, line, name)
        else:
            for word in sorted(PARTS.intersection(parts(name))):
                yield Place(f"`…{word}…`", path, line, name)
    for text, line in texts(source, tree):
        for word, pattern in PHRASES.items():
            for _ in pattern.finditer(text):
                yield Place(word, path, line, text.strip())


def is_exception(place: Place) -> bool:
    """Return whether a word is right where it is."""
    return any(place.path.startswith(path) and place.word in words for path, words, _ in EXCEPTIONS)


def places(root: Path = ROOT) -> list[Place]:
    """Return the words of the dialect in both packages."""
    files = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
    return [
        place
        for path in files
        for place in places_in(str(path.relative_to(root)), path.read_text(encoding="utf-8"))
        if not is_exception(place)
    ]


def table(dialect_places: list[Place]) -> str:
    """Return the words with their counts, most frequent first, and the sum."""
    counts = Counter(place.word for place in dialect_places)
    rows = [f"{count:6}  {word}" for word, count in sorted(counts.items(), key=lambda row: (-row[1], row[0]))]
    return "\n".join([*rows, f"{len(dialect_places):6}  in all"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the words of the old dialect in the sources.")
    parser.add_argument("--where", action="store_true", help="print each place")
    parser.add_argument("paths", nargs="*", help="only files whose path begins so, such as liteflow/state")
    arguments = parser.parse_args()
    selected = [place for place in places() if not arguments.paths or place.path.startswith(tuple(arguments.paths))]
    if arguments.where:
        for place in selected:
            print(f"{place.path}:{place.line}: {place.word}: {place.text}")
    print(table(selected))


if __name__ == "__main__":
    main()
