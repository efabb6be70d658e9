"""Here-documents: the word that ends one, and where its lines end. In the text, NUL stands for an expression."""

from __future__ import annotations

from typing import Final, NamedTuple

_ENDS: Final = " \t\n;&|<>()"


class Unclear(ValueError):
    """Shells differ in how they read it, or an expression stands in the word."""


class Document(NamedTuple):
    """A here-document that has been announced: `<<word`, `<<-word` (`tabs`), `<<'word'` (`quoted`)."""

    word: str
    quoted: bool
    tabs: bool

    def end(self, text: str, start: int) -> int:
        """Where the line with the word begins, of a document whose lines begin at `start`."""
        place, joined = start, False
        while place < len(text):
            end = text.find("\n", place)
            end = len(text) if end < 0 else end
            line = text[place:end]
            if (line.lstrip("\t") if self.tabs else line) == self.word and not joined:
                break
            joined = not self.quoted and (len(line) - len(line.rstrip("\\"))) % 2 == 1
            place = min(end + 1, len(text))
        return place


def announced(text: str, start: int) -> tuple[Document, int]:
    """The document whose `<<` ends at `start`, and where its word ends.

    Raises:
        Unclear: the word is not plain.
    """
    at = start
    tabs = text.startswith("-", at)
    at += tabs
    while text[at : at + 1] in (" ", "\t"):
        at += 1
    word, quoted = "", False
    while (char := text[at : at + 1]) and char not in _ENDS:
        if char == "\0":
            raise Unclear("the word that ends a here-document cannot come from an expression")
        if char in "'\"":
            end = text.find(char, at + 1)
            part = text[at + 1 : end]
            if end < 0 or "\0" in part or "\\" in part:
                raise Unclear("the word that ends a here-document must be plain")
            word, quoted, at = word + part, True, end + 1
        elif char == "\\":
            word, quoted, at = word + text[at + 1 : at + 2], True, at + 2
        elif char in "$`":
            raise Unclear("the word that ends a here-document must be plain")
        else:
            word, at = word + char, at + 1
    return Document(word, quoted, tabs), at
