"""Put expressions into a shell script so that their values never become shell text.

Each expression becomes a reference to an environment variable, in quotes that fit its place in the tree of the script.
An expression is refused where a shell would *evaluate* its value nevertheless (arithmetic, `eval`, the script of
`sh -c`), and where shells read the text differently: see `reasons`.

In the text of a script, an expression is one NUL character, which no YAML file can contain.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from lightflow.expressions.shell import reasons
from lightflow.expressions.shell.evaluated import evaluated_sites
from lightflow.expressions.shell.reasons import Kind, Reason
from lightflow.expressions.shell.syntax import Node, Scripts, ShellTree, Unparsable

__all__ = ["SHELLS", "SITE", "Site", "UnsafeExpression", "rewrite", "text_to_parse"]

SITE: Final = "\0"
SHELLS: Final = frozenset(["sh", "dash", "ash", "bash"])
#: Replaces an expression in the text that is parsed.
_REFERENCE: Final = "${_EXPRESSION_}"
_ARITHMETIC: Final = frozenset(["ArithmExp", "ArithmCmd", "CStyleLoop", "LetClause"])
#: Fields with words that the shell does not split, by type of node; an assignment has no `Type`.
_WHOLE: Final = {None: ("Value",), "CaseClause": ("Word",), "BinaryTest": ("X", "Y"), "UnaryTest": ("X",)}


class Site(NamedTuple):
    """An expression in a script, and how its value gets there."""

    variable: str  #: the environment variable with its value
    raw: str | None = None  #: text that replaces the expression unchanged
    quoted: bool = False  #: whether its value is already one word of shell text
    number: bool = False  #: whether its value is an integer
    declared: bool = False  #: whether it is a parameter that is declared as a number


class UnsafeExpression(ValueError):
    """Expressions are in places where they are not safe. `objections` has the reasons by number of expression."""

    def __init__(self, objections: dict[int, Reason]) -> None:
        self.objections = dict(sorted(objections.items()))
        self.site = next(iter(self.objections))
        super().__init__(self.objections[self.site].message)


def text_to_parse(text: str) -> str:
    """Return the text to parse with `Scripts`: the script with a reference in place of each `SITE`."""
    return text.replace(SITE, _REFERENCE)


def rewrite(text: str, sites: Sequence[Site], shell: str = "sh", scripts: Scripts | None = None) -> str:
    """Return the script with a reference in place of each `SITE`. `scripts` may contain its tree already.

    Raises:
        Refused: expressions are in places where they are not safe.
        InputError: shfmt is not installed.
    """
    try:
        tree = (scripts or Scripts()).tree(text_to_parse(text))
        places = _places(text, tree.start)
        objections = _objections(tree, places, sites, shell)
        placer = _Placer(tree, places, sites, shell)
        placer.visit(tree.statements)
        objections |= placer.objections
        for place, number in places.items():
            if number not in placer.edits and number not in objections:
                placer.unseen(place, number)
        objections |= placer.objections
    except Unparsable as error:
        raise _unparsable(text, error) from None
    except RecursionError:
        raise UnsafeExpression({0: Reason(Kind.SYNTAX, "the script is nested too deeply")}) from None
    if objections:
        raise UnsafeExpression(objections)
    out, end = [], tree.start
    for place, number in places.items():
        out += [tree.source[end:place].decode("utf-8", "surrogatepass"), placer.edits[number]]
        end = place + len(_REFERENCE)
    return "".join([*out, tree.source[end : tree.end].decode("utf-8", "surrogatepass")])


def _places(text: str, start: int) -> dict[int, int]:
    """Return the number of each expression by the offset of its reference, in a text that begins at `start`."""
    places: dict[int, int] = {}
    for number, part in enumerate(text.split(SITE)[:-1]):
        start += len(part.encode("utf-8", "surrogatepass"))
        places[start] = number
        start += len(_REFERENCE)
    return places


def _objections(tree: ShellTree, places: dict[int, int], sites: Sequence[Site], shell: str) -> dict[int, Reason]:
    """Return the expressions whose values would be evaluated, with the reasons."""
    objections: dict[int, Reason] = {}
    for n, why in evaluated_sites(tree.statements, places, bash=shell == "bash").items():
        site = sites[n]
        if site.raw is not None or site.number:
            continue
        for reason in why:
            number = site.declared and reason.numeric and reason.kind is Kind.FORWARDED
            if not number and not (site.quoted and reason.quotable):
                objections.setdefault(n, reason)
    return objections


class _Placer:
    """Finds the quotes that fit the place of each expression.

    `mode` is the kind of place: "plain", "whole" (words are not split), "double" (in double quotes), "here" (in a
    here-document) or "formula".
    """

    def __init__(self, tree: ShellTree, places: dict[int, int], sites: Sequence[Site], shell: str) -> None:
        self.tree, self.sites, self.shell = tree, sites, shell
        self.places, self.offsets = places, list(places)
        self.edits: dict[int, str] = {}
        self.objections: dict[int, Reason] = {}

    def refuse(self, number: int, reason: Reason) -> None:
        """Refuse an expression."""
        self.objections.setdefault(number, reason)

    def within(self, node: Node) -> list[int]:
        """Return the numbers of the expressions between the start and the end of a node."""
        start, end = bisect_left(self.offsets, node["Pos"]), bisect_left(self.offsets, node["End"])
        return [self.places[place] for place in self.offsets[start:end]]

    def source(self, start: int, end: int) -> bytes:
        """Return a part of the script."""
        return self.tree.source[start:end]

    def put(self, number: int, before: str = "", behind: str = "") -> None:
        """Put the reference in the place of an expression, with these quotes around it."""
        site = self.sites[number]
        self.edits[number] = site.raw if site.raw is not None else f"{before}${{{site.variable}}}{behind}"

    def unseen(self, place: int, number: int) -> None:
        """Handle an expression that is not in the tree: it is in a comment, or the text around it hides it."""
        comments = [child for child in _nodes([self.tree.last, self.tree.statements]) if "Hash" in child]
        if any(child["Pos"] <= place < child["End"] for child in comments):
            self.put(number)
        else:
            self.refuse(number, reasons.DOLLAR if self.source(place - 1, place) == b"$" else reasons.UNCLEAR)

    # -- nodes ---------------------------------------------------------------------------------------------------

    def visit(self, node: Any) -> None:
        """Handle commands and their parts."""
        if isinstance(node, list):
            for child in node:
                self.visit(child)
            return
        if not isinstance(node, dict):
            return
        kind = node.get("Type")
        if "Parts" in node and kind in (None, "Word"):
            self.word(node, "plain")
        elif kind in _ARITHMETIC:
            self.formula(node)
        elif "OpPos" in node and kind is None and "Word" in node:
            self.redirection(node)
        elif kind in ("CmdSubst", "ProcSubst", "Subshell"):
            self.bracket(node)
        elif "Value" in node and isinstance(node["Value"], str):
            self.literal(node)
        else:
            for key, child in node.items():
                if type(child) is not dict and type(child) is not list:
                    continue
                if key == "Index":
                    self.formula(child)
                elif key in _WHOLE.get(kind, ()) and isinstance(child, dict) and "Parts" in child:
                    self.word(child, "whole")
                else:
                    self.visit(child)

    def bracket(self, node: Node) -> None:
        """Handle commands in brackets; their here-documents must end within the brackets."""
        self.visit(node.get("Stmts"))
        end = node["End"]
        for document in (child["Hdoc"] for child in _nodes(node.get("Stmts")) if "Hdoc" in child):
            for number in self.within(document):
                if document["Pos"] >= end:
                    self.refuse(number, reasons.DOCUMENT_BRACKET)

    def formula(self, node: Any) -> None:
        """Handle arithmetic. Only numbers are allowed in it, which need no quotes."""
        if isinstance(node, list):
            for child in node:
                self.formula(child)
        elif isinstance(node, dict):
            if "Parts" in node and node.get("Type") in (None, "Word"):
                self.word(node, "formula")
            else:
                for child in node.values():
                    self.formula(child)

    def literal(self, node: Node) -> None:
        """Handle text that hides an expression."""
        start, text = node["Pos"], self.source(node["Pos"], node["End"])
        for number in self.within(node):
            before = text[: self.offsets[number] - start]
            self.refuse(number, reasons.BACKSLASH if before.endswith(b"\\") else reasons.DOLLAR)

    def word(self, node: Node, mode: str) -> None:
        """Handle the parts of a word."""
        parts = node.get("Parts", ())
        for n, part in enumerate(parts):
            self.part(part, mode)
            if part["Type"] == "ParamExp" and mode == "plain" and part["Pos"] in self.places:
                before = str(parts[n - 1].get("Value", "")) if n and parts[n - 1]["Type"] == "Lit" else ""
                behind = "".join(str(child.get("Value", "")) for child in parts[n + 1 :] if child["Type"] == "Lit")
                opens = re.search(r"\{[^{}]*$", before)
                if "}" in behind and opens and (before.endswith("..") or behind.startswith("..")):
                    self.refuse(self.places[part["Pos"]], reasons.BRACES)

    def part(self, node: Node, mode: str) -> None:
        """Handle one part of a word."""
        kind = node["Type"]
        if kind == "ParamExp":
            if node["Pos"] in self.places:
                quote = '"' if mode in ("plain", "whole") else ""
                self.put(self.places[node["Pos"]], quote, quote)
            else:
                self.parameter(node, mode)
        elif kind == "SglQuoted":
            self.single(node)
        elif kind == "DblQuoted":
            for child in node.get("Parts", ()):
                self.part(child, "double")
        elif kind in ("CmdSubst", "ProcSubst"):
            self.bracket(node)
        elif kind == "ArithmExp":
            self.formula(node.get("X"))
        elif kind == "ExtGlob":
            self.pattern(node)
        elif kind == "Lit":
            self.literal(node)
        else:
            self.visit(node.get("Elems"))

    def single(self, node: Node) -> None:
        """Handle single quotes: end them before the reference and open them again after it."""
        start = node["Pos"]
        text = self.source(start, node["End"])
        ansi = "Dollar" in node
        if ansi and self.shell != "bash" and b"'" in text[2:-1]:
            # Other shells end the quotes at \', so all text after it has another meaning.
            for number in self.places.values():
                self.refuse(number, reasons.ANSI)
        for number in self.within(node):
            before = text[: self.offsets[number] - start]
            if ansi and (self.shell != "bash" or (len(before) - len(before.rstrip(b"\\"))) % 2):
                self.refuse(number, reasons.ANSI)
            self.put(number, "'\"", "\"$'" if ansi else "\"'")

    def pattern(self, node: Node) -> None:
        """Handle `@(a|b)`, which the parser does not divide into parts."""
        text = self.source(node["Pos"], node["End"])
        for number in self.within(node):
            if re.search(rb"[\"'`\\]|\$[^{]", text):
                self.refuse(number, reasons.EXTENDED_PATTERN)
            self.put(number, '"', '"')

    def redirection(self, node: Node) -> None:
        """Handle a redirection with its here-document."""
        document = node.get("Hdoc")
        if node["Op"] not in ("<<", "<<-"):
            self.word(node["Word"], "plain")
            return
        for number in self.within(node["Word"]):
            self.refuse(number, reasons.DOCUMENT_WORD)
        if document is None:
            return
        if re.search(rb"[\"'\\]", self.source(node["Word"]["Pos"], node["Word"]["End"])):
            for number in self.within(document):
                self.refuse(number, reasons.QUOTED_DOCUMENT)
        else:
            self.word(document, "here")

    # -- ${…} ----------------------------------------------------------------------------------------------------

    def parameter(self, node: Node, mode: str) -> None:
        """Handle `${name:-word}` and similar."""
        self.formula([node.get("Index"), node.get("Slice")])
        replaced = node.get("Repl") or {}
        for word in (replaced.get("Orig"), replaced.get("With")):
            if word is not None:
                self.inner(word, mode, "/")
        operation = node.get("Exp") or {}
        if operation.get("Word") is not None:
            operator = str(operation["Op"]).lstrip(":")[:1]
            self.inner(operation["Word"], mode, operator)

    def inner(self, node: Node, mode: str, operator: str) -> None:
        """Handle the word after an operator in `${…}`, in the mode of the whole."""
        for number in self.within(node):
            if operator not in ("-", "=", "+", "?", "#", "%", "/"):
                self.refuse(number, reasons.PARAMETER)
            if operator in ("=", "/") and mode == "plain":
                self.refuse(number, reasons.SPLIT)
            if operator in ("#", "%", "/") and mode == "here":
                self.refuse(number, reasons.DOCUMENT_PATTERN)
        if mode in ("plain", "whole"):
            self.word(node, mode)
            return
        for part in node.get("Parts", ()):
            if part["Type"] in ("SglQuoted", "DblQuoted"):
                text = self.source(part["Pos"], part["End"])
                for number in self.within(part) if b"$" in text else ():
                    self.refuse(number, reasons.INNER_QUOTES)
            self.part(part, "plain" if operator in ("#", "%", "/") else mode)


def _nodes(node: Any) -> Iterator[Node]:
    """Yield a node, and all nodes inside it."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _nodes(child)


_MISTAKES: Final = (
    (r"exceeded max depth", "the script is nested too deeply"),
    (r"expansions not allowed in heredoc", reasons.DOCUMENT_WORD.message),
    (r"without closing quote `'`", "a single quote is not closed"),
    (r'without closing quote `"`', "a double quote is not closed"),
    (r"without closing quote ```", "a backtick is not closed"),
    (r"unclosed here-document", "a here-document has no end"),
    (r"matching `\$?\(\(` with|not a valid arithmetic operator|must follow an expression", reasons.ARITHMETIC.message),
    (
        r"nested parameter|parameter expansion requires|invalid parameter name",
        "the name of a variable cannot come from an expression",
    ),
)


def _unparsable(text: str, error: Unparsable) -> UnsafeExpression:
    """Return the error for a script that cannot be parsed; it names the first expression after the mistake."""
    places = _places(text, 0)
    number = next((n for place, n in places.items() if place >= error.offset), len(places) - 1)
    message = next((meaning for pattern, meaning in _MISTAKES if re.search(pattern, str(error))), None)
    if message is None:
        line = text_to_parse(text).encode("utf-8", "surrogatepass").count(b"\n", 0, error.offset) + 1
        shown = str(error).replace(_REFERENCE, "${{ … }}")
        message = (
            f"line {line} of the script is not valid shell syntax, so the place of the expression is unclear: {shown}; "
            "fix it, or put the expression under `env`"
        )
    return UnsafeExpression({number: Reason(Kind.SYNTAX, message)})
