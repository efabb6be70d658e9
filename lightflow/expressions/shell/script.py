"""The facts about a shell script before it runs: its functions, its aliases, its constant variables, its words."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lightflow.expressions.shell.commands import UNKNOWN, Study, starts_interactive, study
from lightflow.expressions.shell.syntax import Node

#: Fields of a `${…}` that changes the value of its variable.
_CHANGING: Final = frozenset(["Index", "Slice", "Repl", "Exp", "Length", "Excl"])


class Word(NamedTuple):
    """A word of a command: its text without quotes, and its node (None: it comes from a constant variable)."""

    text: str
    node: Node | None = None


class Script:
    """The definitions of a script, and its words. `sites` has the number of each expression by its offset."""

    def __init__(self, statements: list[Node], sites: Mapping[int, int]) -> None:
        self.statements, self.sites = statements, sites
        self.functions: dict[str, list[Node]] = {}  # the bodies by name
        self.coprocesses: list[Node] = []
        self.associative: set[tuple[str, str]] = set()  # arrays with text as index, by function and name
        self.starts_interactive = False  # whether it starts a shell that reads the file that $ENV names
        self._constants: dict[str, str | None] = {}  # None: the variable has several values, or an unknown one
        self._aliases: dict[str, list[str]] = {}
        self._commands: dict[int, tuple[list[Word], Study]] = {}
        self._collect(statements)

    def _collect(self, statements: list[Node]) -> None:
        """Collect the definitions of all nodes, without recursion: scripts may be deeply nested."""
        waiting: list[tuple[Any, str]] = [(statements, "")]
        while waiting:
            node, function = waiting.pop()
            if type(node) is dict:
                if node.get("Type") == "FuncDecl":
                    function = node["Name"]["Value"]
                self._collect_from(node, function)
                inside = [child for child in reversed(node.values()) if type(child) is dict or type(child) is list]
                waiting += [(child, function) for child in inside]
            else:
                waiting += [(child, function) for child in reversed(node)]

    def _collect_from(self, node: Node, function: str) -> None:
        kind = node.get("Type")
        if kind == "FuncDecl":
            self.functions.setdefault(node["Name"]["Value"], []).append(node["Body"])
        elif kind == "DeclClause":
            arguments = node.get("Args", ())
            if any(re.match(r"-[a-zA-Z]*A", self.text(child.get("Value"))) for child in arguments):
                self.associative |= {(function, child["Name"]["Value"]) for child in arguments if "Name" in child}
        elif kind == "CoprocClause":
            self.coprocesses.append(node["Stmt"])
        elif kind == "CallExpr" and node.get("Args"):
            if starts_interactive([self.text(child) for child in node["Args"]]):
                self.starts_interactive = True
            if self.text(node["Args"][0]) == "alias":
                pairs = [child.split("=", 1) for child in map(self.text, node["Args"]) if "=" in child]
                self._aliases |= {name: _split(text) for name, text in pairs}
        elif (
            kind is None and type(node.get("Name")) is dict and ("Value" in node or "Array" in node or "Naked" in node)
        ):
            name, text = node["Name"].get("Value", ""), self.text(node.get("Value"))
            plain = "Array" not in node and "Append" not in node and UNKNOWN not in text
            self._constants[name] = text if plain and name not in self._constants else None

    def text(self, word: Any) -> str:
        """Return the text of a word without its quotes, with UNKNOWN for each part that is not known."""
        if not isinstance(word, dict):
            return ""
        return "".join(self._part_text(part, quoted=False) for part in word.get("Parts", ()))

    def _part_text(self, part: Node, *, quoted: bool) -> str:
        kind = part["Type"]
        if kind == "Lit":
            text = str(part.get("Value", "")).replace("\\\n", "")
            return re.sub(r'\\(["$`\\])' if quoted else r"\\(.)", r"\1", text, flags=re.S)
        if kind == "SglQuoted":
            return str(part.get("Value", ""))
        if kind == "DblQuoted":
            return "".join(self._part_text(child, quoted=True) for child in part.get("Parts", ()))
        if kind == "ParamExp" and part["Pos"] not in self.sites:
            if part["Param"].get("Value") in ("SHELL", "BASH"):
                return "sh"
            plain = not _CHANGING & set(part)
            constant = self._constants.get(part["Param"].get("Value", "")) if plain else None
            return constant if constant is not None and (quoted or " " not in constant) else UNKNOWN
        if kind == "CmdSubst" and len(part.get("Stmts", ())) == 1:
            inner = part["Stmts"][0].get("Cmd") or {}
            words = [self.text(child) for child in inner.get("Args", ())] if inner.get("Type") == "CallExpr" else []
            if words[:1] == ["which"] or words[:2] == ["command", "-v"]:
                return words[-1]
        return UNKNOWN

    def command_at(self, call: Node) -> tuple[list[Word], Study]:
        """Return the words of a simple command, and what it does with them."""
        command = self._commands.get(id(call))
        if command is None:
            words = self.words(call)
            command = self._commands[id(call)] = words, study([word.text for word in words], self.functions)
        return command

    def words(self, call: Node) -> list[Word]:
        """Return the words of a command, with aliases and constant variables replaced by their words."""
        words: list[Word] = []
        for node in call.get("Args", ()):
            words += [Word(child) for child in self._split_constant(node)] or [Word(self.text(node), node)]
        if words and words[0].text in self._aliases:
            words[:1] = [Word(child) for child in self._aliases[words[0].text]]
        return words

    def _split_constant(self, word: Node) -> list[str]:
        """Return the words of an unquoted `$VAR` with a constant value."""
        parts = word.get("Parts", ())
        if len(parts) != 1 or parts[0]["Type"] != "ParamExp" or parts[0]["Pos"] in self.sites:
            return []
        if _CHANGING & set(parts[0]):
            return []
        return (self._constants.get(parts[0]["Param"].get("Value", "")) or "").split()


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
