"""Read JSON into plain dicts and lists with positions, as RFC 8259 says, within the limits of YAML files."""

from __future__ import annotations

import re
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # public in fact, not in its stub
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.positions import (
    MAX_DEPTH,
    WORKFLOW_FILE,
    FileKind,
    Key,
    Mark,
    Position,
    Positions,
    Source,
    UnreadableFile,
    position_after,
    problem_at,
)
from lightflow.parser.scalars import NotANumber, resolve
from lightflow.text import quoted

_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?![0-9A-Za-z.+_-])")
_WORD = re.compile(r"[A-Za-z_0-9.+-]+")
_WORDS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None}
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def read_json(file: str, text: str, kind: FileKind = WORKFLOW_FILE) -> Source:
    """Return the tree of a text, as `read_yaml` does."""
    reader = _Reader(file, text)
    at = reader.space(0)
    if at == len(text):
        raise UnreadableFile(f"is empty; a {kind.name} holds {kind.content}")
    if text[at] != "{":
        raise UnreadableFile(f"holds no object; a {kind.name} holds {kind.content}", reader.at(at))
    tree, end = reader.mapping(at)
    end = reader.space(end)
    if end != len(text):
        raise UnreadableFile("not valid JSON: nothing may follow the closing brace", reader.at(end))
    return Source(file=file, text=text, tree=tree, positions=reader.positions, problems=reader.problems)


class _Reader:
    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self.positions = Positions()
        self.problems: list[Problem] = []
        self.path: list[str] = []
        self.line = 0
        self.line_start = 0
        self.seen = 0  # positions are wanted in rising order, so each line end is counted once

    def at(self, offset: int) -> Position:
        if offset < self.seen:
            return position_after(self.text[:offset])
        self.line += self.text.count("\n", self.seen, offset)
        newline = self.text.rfind("\n", self.seen, offset)
        if newline >= 0:
            self.line_start = newline + 1
        self.seen = offset
        return Position(self.line, offset - self.line_start)

    def space(self, offset: int) -> int:
        match = _SPACE.match(self.text, offset)
        return match.end() if match else offset

    def expected(self, what: str, offset: int) -> UnreadableFile:
        if offset >= len(self.text):
            return UnreadableFile(f"not valid JSON: the file ends where {what} was expected", self.at(len(self.text)))
        return UnreadableFile(f"not valid JSON: expected {what}", self.at(offset))

    def value(self, offset: int, container: Any, key: Key) -> tuple[Any, int]:
        char = self.text[offset : offset + 1]
        if char == '"':
            return self.string(offset, key)
        if char in ("{", "["):
            self.path.append(str(key))
            if len(self.path) >= MAX_DEPTH:
                raise UnreadableFile(f"nested more than {MAX_DEPTH} levels deep", self.at(offset))
            result: tuple[Any, int] = self.mapping(offset) if char == "{" else self.sequence(offset)
            self.path.pop()
            return result
        number = _NUMBER.match(self.text, offset)
        if number:
            return self.number(number[0], offset, container, key), number.end()
        word = _WORD.match(self.text, offset)
        if word and word[0] in _WORDS:
            self.positions.texts[id(container), key] = word[0]
            return _WORDS[word[0]], word.end()
        if word:
            raise UnreadableFile(
                f"not valid JSON: {quoted(word[0])} is not a value; text needs quotes", self.at(offset)
            )
        raise self.expected("a value", offset)

    def mapping(self, offset: int) -> tuple[dict[str, Any], int]:
        result: dict[str, Any] = {}
        marks: dict[str, tuple[Mark, Mark]] = {}
        self.positions.marks[id(result)] = marks
        offset = self.space(offset + 1)
        if self.text.startswith("}", offset):
            return result, offset + 1
        while True:
            if not self.text.startswith('"', offset):
                raise self.expected('a key in quotes or "}"' if not result else "a key in quotes", offset)
            key_at = self.at(offset)
            name, offset = self.string(offset, None)
            offset = self.space(offset)
            if not self.text.startswith(":", offset):
                raise self.expected('":"', offset)
            offset = self.space(offset + 1)
            value_at = self.at(offset)
            if name in marks:
                first = marks[name][0].line + 1
                self.report(key_at, f"{quoted(name)} is given twice; the first is on line {first}")
                self.positions.dropped.append(dropped := [None])
                dropped[0], offset = self.value(offset, dropped, 0)
            else:
                marks[name] = (key_at, value_at)
                result[name], offset = self.value(offset, result, name)
            offset = self.space(offset)
            if self.text.startswith("}", offset):
                return result, offset + 1
            if not self.text.startswith(",", offset):
                raise self.expected('"," or "}"', offset)
            offset = self.space(offset + 1)

    def sequence(self, offset: int) -> tuple[list[Any], int]:
        result: list[Any] = []
        marks: dict[int, tuple[Mark, Mark]] = {}
        self.positions.marks[id(result)] = marks
        offset = self.space(offset + 1)
        if self.text.startswith("]", offset):
            return result, offset + 1
        while True:
            place = self.at(offset)
            marks[len(result)] = (place, place)
            value, offset = self.value(offset, result, len(result))
            result.append(value)
            offset = self.space(offset)
            if self.text.startswith("]", offset):
                return result, offset + 1
            if not self.text.startswith(",", offset):
                raise self.expected('"," or "]"', offset)
            offset = self.space(offset + 1)

    def string(self, offset: int, key: Key | None) -> tuple[str, int]:
        try:
            text, end = scanstring(self.text, offset + 1, True)
        except JSONDecodeError as error:
            message = error.msg[0].lower() + error.msg[1:].removesuffix(" at").removesuffix(" starting")
            raise UnreadableFile(f"not valid JSON: {message}", self.at(max(error.pos, self.seen))) from None
        if "\0" in text:
            self.report(self.at(offset), "the text holds a NUL character, which no program can be given", key)
            text = text.replace("\0", "")
        if _LONE_SURROGATE.search(text):
            self.report(self.at(offset), "the text holds half of a surrogate pair (\\ud800 to \\udfff)", key)
            text = _LONE_SURROGATE.sub("?", text)
        return text, end

    def number(self, text: str, offset: int, container: Any, key: Key) -> Any:
        self.positions.texts[id(container), key] = text
        try:
            return resolve(text)
        except NotANumber as error:
            place = ".".join([*self.path, str(key)])
            self.positions.number_problems[id(container), key] = problem_at(
                self.file, self.at(offset), place, str(error)
            )
            return 0

    def report(self, place: Position, message: str, key: Key | None = None) -> None:
        path = self.path if key is None else [*self.path, str(key)]
        self.problems.append(problem_at(self.file, place, ".".join(path), message))
