"""Messages about text that is not YAML.

The messages of the library differ from version to version, and name what its parser expected. The text around the error
shows better what to change. Only files with an error need this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import yaml
from yaml.events import MappingEndEvent, MappingStartEvent, SequenceEndEvent, SequenceStartEvent

from lightflow.parser.positions import Position, UnreadableFile, position_after

#: A quoted text, a comment, a bracket, or the beginning of a plain text: all that occurs between two events.
_TOKEN: Final = r'"(?:[^"\\]|\\.)*"?|\'(?:[^\']|\'\')*\'?|#[^\n]*|[\[\]{}]|[^\s"\'#\[\]{},][^\s\[\]{},]*'
_COLON: Final = "mapping values are not allowed in this context; put text that holds a colon in quotes"


class _Open(NamedTuple):
    """A list or mapping that is not closed yet, and where it begins."""

    is_flow: bool  #: whether it has braces or brackets
    is_list: bool
    line: int  #: from 0
    column: int
    offset: int


class _Reached(NamedTuple):
    """The state of the library at the error: the open containers, and the end of its last event."""

    open: list[_Open]
    end: int


def explain(error: yaml.MarkedYAMLError, text: str, parser: Callable[[str], Any], max_depth: int) -> UnreadableFile:
    """Return the error about a text that is not YAML."""
    mark = error.problem_mark or error.context_mark
    reached = _reached(text, parser)
    deep = _too_deep(text, reached, mark.index if mark else reached.end, max_depth)
    if deep is not None:
        return UnreadableFile(f"nested more than {max_depth} levels deep", deep)
    if mark is None:
        return UnreadableFile(f"not valid YAML: {error.problem or 'cannot be understood'}")
    spot = _Spot(text, mark, error.context_mark, reached)
    for words, place in spot.findings():
        return UnreadableFile(f"not valid YAML: {words}", place)
    message = " ".join(part for part in (error.problem, error.context) if part) or "cannot be understood"
    return UnreadableFile(f"not valid YAML: {message}", spot.place)


def _reached(text: str, parser: Callable[[str], Any]) -> _Reached:
    """Read the events again, up to the error."""
    following, opened, end = parser(text).get_event, list[_Open](), 0
    try:
        while (event := following()) is not None:
            if isinstance(event, MappingStartEvent | SequenceStartEvent):
                mark: Any = event.start_mark
                is_list = isinstance(event, SequenceStartEvent)
                opened.append(_Open(bool(event.flow_style), is_list, mark.line, mark.column, mark.index))
            elif isinstance(event, MappingEndEvent | SequenceEndEvent):
                opened.pop()
            end = event.end_mark.index
    except yaml.YAMLError:
        pass  # the error that is explained
    return _Reached(opened, end)


def _too_deep(text: str, reached: _Reached, last: int, max_depth: int) -> Position | None:
    """Return the position of the bracket that nests too deeply, where the library has reported an error first.

    The library reads up to 1,024 characters ahead of its events, and may have a nesting limit of its own, which it
    reports before the reader has seen the event that exceeds ours. So the brackets between the last event and the
    position of its error are counted here.
    """
    depth = len(reached.open)
    for token in re.compile(_TOKEN, re.DOTALL).finditer(text, reached.end, max(reached.end, last + 1)):
        if token[0] in "[{":
            if depth >= max_depth:
                return position_after(text[: token.start()])
            depth += 1
        elif token[0] in "]}":
            depth -= 1
    return None


class _Spot:
    """The position of an error, and the text around it."""

    def __init__(self, text: str, mark: Any, context: Any, reached: _Reached) -> None:
        self.text = text
        self.lines = text.splitlines()
        self.place = Position(min(mark.line, len(self.lines)), mark.column)
        self.context = context
        self.line = self.lines[self.place.line] if self.place.line < len(self.lines) else ""
        self.before, self.rest = self.line[: self.place.column], self.line[self.place.column :]
        self.inner = reached.open[-1] if reached.open else None
        self.index = mark.index

    def findings(self) -> Iterator[tuple[str, Position]]:
        """Return the possible mistakes, the most certain one first."""
        if "\t" in self.line[: len(self.line) - len(self.line.lstrip())]:
            yield "a tab indents this line; use spaces", self.place
        yield from self._in_quotes()
        if self.inner is not None and self.inner.is_flow:
            yield from self._between_braces(self.inner)
        yield from self._first_character()
        if self.before.strip() == "":
            yield from self._indentation()
        yield from self._colon()
        yield from self._in_a_line()

    def _in_quotes(self) -> Iterator[tuple[str, Position]]:
        context = self.context
        opens = context is not None and self.text[context.index : context.index + 1]
        if opens and opens in "\"'":
            start = Position(context.line, context.column)
            if self.index >= len(self.text.rstrip()):
                yield f"the quote that opens here is not closed: {opens} is missing", start
            elif opens == '"' and (
                match := re.compile(r"\\(u[dD][89a-fA-F]|.)").search(self.text, max(self.index - 2, 0))
            ):
                place = position_after(self.text[: match.start()])
                if len(match[1]) > 1:
                    words = "is half of a surrogate pair; write the character itself (YAML has no surrogate pairs)"
                    yield f"{match[0]}… {words}", place
                yield f"{match[0]} is not an escape between double quotes; write '…' around it, or \\{match[0]}", place

    def _between_braces(self, inner: _Open) -> Iterator[tuple[str, Position]]:
        """Return mistakes inside `{…}` or `[…]`, where a brace ends a text without quotes."""
        begins, ends = "[]" if inner.is_list else "{}"
        kind = "brackets" if inner.is_list else "braces"
        written = self.text[inner.offset : self.index + 3]
        start = Position(inner.line, inner.column)
        if re.search(r"\$\{\{", written):
            example = '["${{ params.x }}"]' if inner.is_list else '{run: "echo ${{ params.x }}"}'
            yield f"an expression between {kind} needs quotes, as in {example}", self.place
        elif self.rest[:1] in ("{", "[", "}", "]") and self.rest[:1] not in (ends,) and self.before.strip():
            yield f"text that holds {self.rest[0]} needs quotes between {kind}", self.place
        elif self.place.line > inner.line or self.index >= len(self.text.rstrip()):
            yield f"the {begins} that opens here is not closed: {ends} is missing", start
        elif self.rest:
            yield f'expected "," or "{ends}" here; text with quotes in it needs quotes around all of it', self.place

    def _first_character(self) -> Iterator[tuple[str, Position]]:
        if self.rest[:1] in ("@", "`", "%") and self.rest:
            yield f"text cannot begin with {self.rest[0]}; put the text in quotes", self.place
        sign = self.before[-1:]
        if sign in ("*", "&", "!") and sign and re.search(r"(^|[:\-\s,\[{])\s*$", self.before[:-1]):
            what = {"*": "an alias", "&": "an anchor", "!": "a tag"}[sign]
            yield f"{sign} begins {what}; put text that begins with it in quotes", self.place
        header = re.search(r"(?:^|[:\-]\s+)([|>])[^\s]*\s*$", self.before)
        if header:
            sign = header[1]
            hint = ", or put a command that begins with > in quotes" if sign == ">" else ""
            yield f"nothing may follow {sign}: the text begins on the next line, indented{hint}", self.place
        if self.rest[:1] in ("}", "]") and self.rest:
            yield f"there is no {'{' if self.rest[0] == '}' else '['} that this {self.rest[0]} closes", self.place

    def _indentation(self) -> Iterator[tuple[str, Position]]:
        """Return mistakes at the beginning of a line whose indentation fits no line above."""
        inner, column = self.inner, self.place.column
        if inner is None or inner.is_flow or not self.rest:
            return
        is_item = self.rest.startswith("- ") or self.rest.rstrip() == "-"
        what = "items" if is_item else "keys"
        above = self._above(is_item=is_item)
        if inner.is_list and not is_item and column == inner.column:
            yield "a key among the items of a list: begin it with `- `, or indent it otherwise", self.place
        if column not in above and above:
            less, greater = (
                [indent for indent in above if indent < column],
                [indent for indent in above if indent > column],
            )
            shown = " or ".join(map(str, (*less[:1], *greater[-1:])))
            yield f"indented by {column}, the {what} above by {shown}", self.place
        elif is_item:
            yield "an item of a list among keys: indent it below the key that it belongs to", self.place

    def _above(self, *, is_item: bool) -> list[int]:
        """Return the indentations of the keys (or items) above, from the nearest to the outermost."""
        indents: list[int] = []
        for line in reversed(self.lines[: self.place.line]):
            indent, rest = _indent(line), line.strip()
            if rest and not rest.startswith("#") and (not indents or indent < indents[-1]):
                dashed = rest.startswith("- ") or rest == "-"
                if dashed == is_item:
                    indents.append(indent)
                elif dashed:  # keys of an item begin behind its dash
                    indents.append(indent + len(rest) - len(rest[1:].lstrip()))
        return indents

    def _colon(self) -> Iterator[tuple[str, Position]]:
        """Return mistakes at a colon where no key can end."""
        context = self.context
        if not re.match(r":(\s|$)", self.rest):
            if context is not None and context.line < self.place.line and context.line < len(self.lines):
                line = self.lines[context.line]
                if line.strip() and not re.search(r":(\s|$)", line) and line[: context.column].strip(" -") == "":
                    words = "this line is not `key: value`; a line of the text above is indented further"
                    yield words, Position(context.line, context.column)
            return
        if re.fullmatch(r"\s*(- +)?[\w.\"'-]+\s*", self.before):
            above = next((line for line in reversed(self.lines[: self.place.line]) if line.strip()), "")
            indent, other = _indent(self.line), _indent(above)
            if not re.search(r":(\s|$)", above):
                number = len(self.lines[: self.place.line]) - next(
                    number for number, line in enumerate(reversed(self.lines[: self.place.line])) if line.strip()
                )
                words = f"the line above has no colon: write `{above.split()[0]}:`" if above.split() else _COLON
                yield words, Position(number - 1, other)
            elif indent > other:
                yield f"indented by {indent}, the keys above by {other}", Position(self.place.line, indent)
        yield _COLON, self.place

    def _in_a_line(self) -> Iterator[tuple[str, Position]]:
        quote = self.before.rstrip()[-1:]
        if quote in ("'", '"') and quote:
            words = (
                "text continues after the closing quote; put all of it between quotes of the other kind, or below `|`"
            )
            yield words, self.place


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
