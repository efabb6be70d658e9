"""Text for people: harmless on a terminal, short enough for a message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")  # also bold and dim


def printable(text: str) -> str:
    """Return the text on one line, with each character that a terminal could obey as an escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def escape_controls(text: str) -> str:
    """Return the text with its line ends and tabs, and each other character that a terminal could obey as an escape."""
    if all(line.isprintable() for line in text.split("\n")):
        return text
    return "\n".join("\t".join(printable(part) for part in line.split("\t")) for line in text.split("\n"))


def plain_text(text: str) -> str:
    """Return the output of a task without colours, with `\\n` at each line end, else as `escape_controls`."""
    return escape_controls(_COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def quoted(value: object, limit: int = 60) -> str:
    """Return a name or value of a file in quotes, short enough for a message."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return f'"{text}"'


def listed(names: Sequence[str], limit: int) -> str:
    """Return the first names, and how many more there are: `a, b and 3 more`."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit:,} more"


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return `, did you mean "…"?` with the most similar known word, or empty text."""
    names: Sequence[str] = list(words)[:5000]  # comparing is slow; the first 5,000 are enough
    if len(word) > 200:
        return ""
    import difflib  # only needed after a typing mistake

    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if not near:
        folded = [name for name in names if name.casefold() == word.casefold()]
        near = folded[:1]
    return f', did you mean "{near[0]}"?' if near else ""
