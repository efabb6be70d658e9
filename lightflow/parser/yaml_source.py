"""Read YAML into plain dicts and lists with positions, from the events of PyYAML's C parser.

PyYAML's own loaders take the last of two equal keys, follow YAML 1.1, and recurse in C until the stack overflows. The
event stream does not recurse, so every limit is checked here before values are built.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from lightflow.errors import Problem
from lightflow.parser.positions import (
    MAX_DEPTH,
    START,
    WORKFLOW_FILE,
    FileKind,
    Key,
    Mark,
    Positions,
    Source,
    UnreadableFile,
    problem_at,
)
from lightflow.parser.scalars import FIRST, NotANumber, Scalar, resolve
from lightflow.text import quoted
from liteflow.api import Record, replace

MAX_ALIASES: Final = 100_000  # ten thousand tasks with one `<<: *defaults` each are an ordinary file
MAX_EXPANDED: Final = 1_000_000  # nodes that all aliases together stand for

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS: Final[dict[str, tuple[type, ...]]] = {
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "null": (type(None),),
}
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Anchor(Record):
    value: Any
    size: int  #: number of nodes
    text: str | None  #: what was written, for a value that is not text


_UNFINISHED = _Anchor(value=None, size=-1, text=None)


def read_yaml(file: str, text: str, kind: FileKind = WORKFLOW_FILE) -> list[Source]:
    """Return the tree of each document in `text`, with the problems that leave the rest readable.

    Only workflow files may have more than one.

    Raises:
        UnreadableFile: the text is not YAML, exceeds the limits, or has no mapping at the top.
    """
    reader = _Reader(file, text, kind)
    try:
        sources = list(reader.sources())
    except yaml.MarkedYAMLError as error:
        from lightflow.parser.yaml_mistakes import explain

        raise explain(error, text, _PARSER, MAX_DEPTH) from None
    except yaml.YAMLError as error:
        raise UnreadableFile(f"not valid YAML: {error}".splitlines()[0]) from None
    return [replace(source, of_several=True) for source in sources] if len(sources) > 1 else sources


class _Reader:
    def __init__(self, file: str, text: str, kind: FileKind) -> None:
        self.file = file
        self.kind = kind
        self.text = text
        self.next = _PARSER(text).get_event
        self.positions = Positions()
        self.problems: list[Problem] = []
        self.anchors: dict[str, _Anchor] = {}
        self.path: list[str] = []
        self.nodes = 0  # built so far, with those of aliases
        self.aliases = 0
        self.expanded = 0

    def sources(self) -> Iterator[Source]:
        """Yield the documents."""
        self.next()  # the start of the stream
        start = self.next()
        if type(start) is StreamEndEvent:
            raise UnreadableFile(f"is empty; a {self.kind.name} holds {self.kind.content}")
        while type(start) is DocumentStartEvent:
            self.positions, self.problems, self.anchors, self.path = Positions(), [], {}, []
            yield Source(
                file=self.file,
                text=self.text,
                tree=self.document(),
                positions=self.positions,
                problems=self.problems,
                start=start.start_mark or START,
            )
            start = self.next()
            if type(start) is DocumentStartEvent and self.kind is not WORKFLOW_FILE:
                raise UnreadableFile(
                    f"a second document begins here; a {self.kind.name} holds one (remove `---`)", start.start_mark
                )

    def document(self) -> dict[str, Any]:
        event = self.next()
        if type(event) is not MappingStartEvent:
            kind = "a list" if type(event) is SequenceStartEvent else "a single value"
            raise UnreadableFile(f"holds {kind}; a {self.kind.name} holds {self.kind.content}", event.start_mark)
        tree = self.mapping(event)
        self.next()  # the end of the document
        return tree

    # -- nodes ------------------------------------------------------------------------------------------------

    def node(self, event: Any, container: Any, key: Key) -> Any:
        """Return the value that begins with `event`, to be stored as `container[key]`."""
        kind = type(event)
        self.nodes += 1
        if kind is ScalarEvent:
            plain = self.scalar(event, container, key)
            if event.anchor is not None:
                self.anchors[event.anchor] = _Anchor(
                    value=plain, size=1, text=self.positions.texts.get((id(container), key))
                )
            return plain
        if kind is AliasEvent:
            return self.alias(event, container, key)
        self.path.append(str(key))
        if len(self.path) >= MAX_DEPTH:
            raise UnreadableFile(f"nested more than {MAX_DEPTH} levels deep", event.start_mark)
        before = self.nodes
        if event.anchor is not None:
            self.anchors[event.anchor] = _UNFINISHED
        value: Any = self.mapping(event) if kind is MappingStartEvent else self.sequence(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchor(value=value, size=self.nodes - before + 1, text=None)
        self.path.pop()
        return value

    def mapping(self, start: Any) -> dict[str, Any]:
        if start.tag is not None:
            self.check_tag(start, ("!", _TAG + "map"))
        result: dict[str, Any] = {}
        marks: dict[str, tuple[Mark, Mark]] = {}
        merged: list[dict[str, Any]] = []
        self.positions.marks[id(result)] = marks
        following = self.next
        while True:
            event = following()
            if type(event) is MappingEndEvent:
                break
            name = self.key(event)
            value_event = following()
            mark: Mark = value_event.start_mark
            if name == "<<" and event.implicit[0] and event.tag is None:
                self.positions.dropped.append(holder := [None])
                holder[0] = value = self.node(value_event, holder, 0)
                merged += self.mergeable(value, mark)
            elif name is None or name in marks:
                if name is not None:
                    first = marks[name][0].line + 1
                    self.report(event.start_mark, f"{quoted(name)} is given twice; the first is on line {first}")
                self.positions.dropped.append(dropped := [None])  # it may define anchors
                dropped[0] = self.node(value_event, dropped, 0)
            else:
                marks[name] = (event.start_mark, mark)
                if (
                    type(value_event) is ScalarEvent
                    and value_event.anchor is None
                    and value_event.tag is None
                    and value_event.style == ""
                    and (text := value_event.value)
                    and text[0] not in FIRST
                ):  # a plain word, the most frequent value, without a call
                    self.nodes += 1
                    result[name] = text
                else:
                    result[name] = self.node(value_event, result, name)
        for source in merged:
            for name in source:
                if name not in result:
                    result[name] = source[name]
                    self.positions.copy_key(source, result, name)
        return result

    def sequence(self, start: Any) -> list[Any]:
        if start.tag is not None:
            self.check_tag(start, ("!", _TAG + "seq"))
        result: list[Any] = []
        marks: dict[int, tuple[Mark, Mark]] = {}
        self.positions.marks[id(result)] = marks
        while type(event := self.next()) is not SequenceEndEvent:
            mark = event.start_mark
            marks[len(result)] = (mark, mark)
            result.append(self.node(event, result, len(result)))
        return result

    def key(self, event: Any) -> str | None:
        """Return the text of a key; None, with a problem, for a key that is not text."""
        kind = type(event)
        if kind is ScalarEvent:
            text: str = event.value
            if event.anchor is not None:
                self.anchors[event.anchor] = _Anchor(value=text, size=1, text=None)
            if event.tag is not None and event.tag != "!":
                self.check_tag(event, (_TAG + "str",))
                return text
            if event.implicit[0] and (not text or text[0] in FIRST):
                try:
                    resolved = resolve(text)
                except NotANumber:
                    resolved = None
                if not isinstance(resolved, str):
                    shown = f"the key {quoted(text)} is not text; put it in quotes" if text else "a key is empty"
                    self.report(event.start_mark, shown)
                    return None
            if "\0" in text:
                self.report(event.start_mark, "a key holds a NUL character")
            return text
        if kind is AliasEvent:
            self.report(event.start_mark, "an alias cannot be a key; write the key out")
            return None
        at = event.start_mark.index
        if self.text[at - 1 : at + 1] == "{{":
            self.report(
                event.start_mark, "an expression is written ${{ … }}; a text with an expression needs quotes here"
            )
        else:
            self.report(event.start_mark, "a list or mapping cannot be a key")
        self.positions.dropped.append(dropped := [None])
        dropped[0] = self.node(event, dropped, 0)
        return None

    def scalar(self, event: Any, container: Any, key: Key) -> Scalar:
        text: str = event.value
        tag = event.tag
        if tag is not None and tag != "!":
            return self.tagged(event, container, key)
        if tag is None and event.implicit[0]:
            if text and text[0] not in FIRST:
                return text
            return self.plain(event, container, key)
        if event.style == "|":
            self.positions.blocks.add((id(container), key))
        elif "\0" in text:
            self.report(event.start_mark, "the text holds a NUL character, which no program can be given", key)
            return text.replace("\0", "")
        return text

    def plain(self, event: Any, container: Any, key: Key) -> Scalar:
        text: str = event.value
        try:
            value = resolve(text)
        except NotANumber as error:
            where = ".".join([*self.path, str(key)])
            self.positions.number_problems[id(container), key] = problem_at(
                self.file, event.start_mark, where, str(error)
            )
            self.positions.texts[id(container), key] = text
            return 0
        if not isinstance(value, str):
            self.positions.texts[id(container), key] = text
        return value

    def tagged(self, event: Any, container: Any, key: Key) -> Scalar:
        text: str = event.value
        if event.tag == _TAG + "str":
            return text
        wanted = _SCALAR_TAGS.get(event.tag.removeprefix(_TAG)) if event.tag.startswith(_TAG) else None
        if wanted is None:
            self.check_tag(event, (), key)
            return text
        value = self.plain(event, container, key)
        if isinstance(value, bool) != (bool in wanted) or not isinstance(value, wanted):
            self.report(event.start_mark, f"{quoted(text)} is not of the type that its tag says", key)
        return value

    def alias(self, event: Any, container: Any, key: Key) -> Any:
        anchor = self.anchors.get(event.anchor)
        if anchor is None:
            raise UnreadableFile(f"alias *{event.anchor}: no anchor &{event.anchor} above", event.start_mark)
        if anchor is _UNFINISHED:
            raise UnreadableFile(f"alias *{event.anchor} is inside its own anchor", event.start_mark)
        self.aliases += 1
        self.nodes += anchor.size
        self.expanded += anchor.size
        if self.aliases > MAX_ALIASES:
            raise UnreadableFile(f"more than {MAX_ALIASES:,} aliases", event.start_mark)
        if self.expanded > MAX_EXPANDED:
            raise UnreadableFile(f"the aliases stand for more than {MAX_EXPANDED:,} values", event.start_mark)
        if anchor.text is not None:
            self.positions.texts[id(container), key] = anchor.text
        return anchor.value

    def mergeable(self, value: Any, mark: Mark) -> list[dict[str, Any]]:
        sources = value if isinstance(value, list) else [value]
        if all(isinstance(source, dict) for source in sources):
            return sources
        self.report(mark, "`<<` takes a mapping, or a list of mappings")
        return []

    # -- problems -------------------------------------------------------------------------------------------------

    def check_tag(self, event: Any, allowed: tuple[str, ...], key: Key | None = None) -> None:
        if event.tag not in allowed:
            shown = event.tag.replace(_TAG, "!!") if event.tag.startswith(_TAG) else event.tag
            self.report(event.start_mark, f"tag {quoted(shown)} is not allowed here; remove it", key)

    def report(self, mark: Mark, message: str, key: Key | None = None) -> None:
        path = self.path if key is None else [*self.path, str(key)]
        self.problems.append(problem_at(self.file, mark, ".".join(path), message))
