"""Find the expressions of a script whose values a shell would evaluate.

A value is evaluated where its text becomes shell text, arithmetic or the name of a variable: as a word of a command
(`eval`, `sh -c`), as what a command prints that a shell reads, in a formula. It may get there through a variable, or
through an argument of a function. So the variables and the functions that are evaluated somewhere are looked for as
well, until no more of them are found; what is assigned to them, or handed over, is evaluated too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lightflow.expressions.shell import reasons
from lightflow.expressions.shell.commands import UNKNOWN, Study, name_of, prints_its_words, starts_interactive, study
from lightflow.expressions.shell.reasons import Kind, Reason
from lightflow.expressions.shell.syntax import Node

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Variables that the shell itself, or the programs that they are made for, read as shell text.
_SPECIAL: Final = frozenset(
    re.findall(
        r"\w+",
        """
    BASH_ENV EDITOR GIT_EDITOR GIT_EXTERNAL_DIFF GIT_PAGER GIT_SEQUENCE_EDITOR GIT_SSH_COMMAND LESSCLOSE LESSOPEN
    FZF_DEFAULT_COMMAND MANPAGER PAGER PROMPT_COMMAND PS0 PS1 PS2 PS4 SUDO_EDITOR VISUAL
    """,
    )
)
_COMPARISONS: Final = frozenset(["-eq", "-ne", "-lt", "-le", "-gt", "-ge"])
#: Commands that print exactly their words, or what they are given to read.
_ECHOING: Final = frozenset(["echo", "printf", "cat", "tee"])
_TO_A_FILE: Final = frozenset([">", ">>", ">|", "&>", "&>>"])


class Word(NamedTuple):
    """A word of a command: its text without quotes, and its node (None: it comes from a constant variable)."""

    text: str
    node: Node | None = None


class Printed(NamedTuple):
    """What commands print is evaluated. `certain`: only what surely is printed counts."""

    reason: Reason
    certain: bool = False


def evaluated_sites(statements: list[Node], sites: Mapping[int, int], *, bash: bool) -> dict[int, list[Reason]]:
    """The expressions that are evaluated, by number, and why. `sites` holds the number of each by its offset. `bash`:
    variables in arithmetic are evaluated as formulas."""
    judge = _Judge(statements, sites, bash=bash)
    judge.run()
    return judge.objections


class _Judge:
    def __init__(self, statements: list[Node], sites: Mapping[int, int], *, bash: bool) -> None:
        self.statements, self.sites, self.bash = statements, sites, bash
        self.objections: dict[int, list[Reason]] = {}
        self.variables: dict[str, Reason] = {name: reasons.special(name) for name in _SPECIAL}
        self.coprocesses: list[Node] = []
        self.arguments: dict[str, dict[str, Reason]] = {}  # of functions, by the number of the argument, or "@"
        self.functions: dict[str, list[Node]] = {}
        self.constants: dict[str, str | None] = {}
        self.aliases: dict[str, list[str]] = {}
        self.associative: set[tuple[str, str]] = set()  # arrays whose indices are text, by function and name
        self.function = ""  # whose body is being looked at
        self.inside: set[str] = set()  # functions whose output is being looked at
        self.changed = False
        self._commands: dict[int, tuple[list[Word], Study]] = {}
        self._collect(statements)

    def run(self) -> None:
        """Look until there are no more variables and functions that are evaluated."""
        self.changed = True
        while self.changed:
            self.changed = False
            self.inner(self.statements)

    # -- what is looked up ---------------------------------------------------------------------------------------

    def _collect(self, statements: list[Node]) -> None:
        """Functions, aliases and constants of the script."""
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
                self.variables["ENV"] = reasons.special("ENV")
            if self.text(node["Args"][0]) == "alias":
                pairs = [child.split("=", 1) for child in map(self.text, node["Args"]) if "=" in child]
                self.aliases |= {name: _split(text) for name, text in pairs}
        elif (
            kind is None and type(node.get("Name")) is dict and ("Value" in node or "Array" in node or "Naked" in node)
        ):
            name, text = node["Name"].get("Value", ""), self.text(node.get("Value"))
            plain = "Array" not in node and "Append" not in node and UNKNOWN not in text
            self.constants[name] = text if plain and name not in self.constants else None

    def text(self, word: Any) -> str:
        """The text of a word without its quotes, with UNKNOWN for each part that is not known."""
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
            plain = not {"Index", "Slice", "Repl", "Exp", "Length", "Excl"} & set(part)
            constant = self.constants.get(part["Param"].get("Value", "")) if plain else None
            return constant if constant is not None and (quoted or " " not in constant) else UNKNOWN
        if kind == "CmdSubst" and len(part.get("Stmts", ())) == 1:
            inner = part["Stmts"][0].get("Cmd") or {}
            words = [self.text(child) for child in inner.get("Args", ())] if inner.get("Type") == "CallExpr" else []
            if words[:1] == ["which"] or words[:2] == ["command", "-v"]:
                return words[-1]
        return UNKNOWN

    def command_of(self, call: Node) -> tuple[list[Word], Study]:
        """The words of a simple command, and what it does with them."""
        command = self._commands.get(id(call))
        if command is None:
            words = self.words(call)
            command = self._commands[id(call)] = words, study([word.text for word in words], self.functions)
        return command

    def words(self, call: Node) -> list[Word]:
        """The words of a command, with those that aliases and constant variables hold."""
        words: list[Word] = []
        for node in call.get("Args", ()):
            words += [Word(child) for child in self._split_constant(node)] or [Word(self.text(node), node)]
        if words and words[0].text in self.aliases:
            words[:1] = [Word(child) for child in self.aliases[words[0].text]]
        return words

    def _split_constant(self, word: Node) -> list[str]:
        """The words of `$VAR` without quotes, where it is known."""
        parts = word.get("Parts", ())
        if len(parts) != 1 or parts[0]["Type"] != "ParamExp" or parts[0]["Pos"] in self.sites:
            return []
        if {"Index", "Slice", "Repl", "Exp", "Length", "Excl"} & set(parts[0]):
            return []
        return (self.constants.get(parts[0]["Param"].get("Value", "")) or "").split()

    # -- what is evaluated ---------------------------------------------------------------------------------------

    def flag(self, place: int, reason: Reason) -> None:
        """An expression is evaluated."""
        why = self.objections.setdefault(self.sites[place], [])
        if reason not in why:
            why.append(reason)

    def variable(self, name: str, reason: Reason) -> None:
        """What a variable, or an argument of the function that is being looked at, holds is evaluated."""
        if name.isdigit() or name in ("@", "*"):
            names = self.arguments.setdefault(self.function, {})
            name, reason = ("@" if name == "*" else name), reasons.argument(self.function or "set", reason)
        else:
            names, reason = self.variables, reasons.variable(name, reason)
        if name not in names:
            names[name] = reason
            self.changed = True

    def evaluated(self, node: Any, reason: Reason, *, certain: bool = False) -> None:
        """All text in a node is evaluated: expressions, variables, and what substitutions print."""
        if isinstance(node, list):
            for child in node:
                self.evaluated(child, reason, certain=certain)
            return
        if not isinstance(node, dict):
            return
        kind = node.get("Type")
        if kind in ("SglQuoted", "Lit"):
            for place in self._within(node):
                self.flag(place, reason)
        elif kind == "ParamExp":
            if node["Pos"] in self.sites:
                self.flag(node["Pos"], reason)
            elif "Length" not in node:
                self.variable(node["Param"].get("Value", ""), reason)
                self.evaluated(node.get("Exp"), reason, certain=certain)
                self.evaluated(node.get("Repl"), reason, certain=certain)
        elif kind in ("CmdSubst", "ProcSubst"):
            for child in node.get("Stmts", ()):
                self.statement(child, Printed(reason, certain))
        elif kind not in ("ArithmExp",):
            for child in node.values():
                self.evaluated(child, reason, certain=certain)

    def _within(self, node: Node) -> Iterator[int]:
        start, end = node["Pos"], node["End"]
        return (place for place in self.sites if start <= place < end)

    def arithmetic(self, node: Any, reason: Reason) -> None:
        """A formula: what stands in it is evaluated, and the variables that it names, also without a `$`."""
        if isinstance(node, list):
            for child in node:
                self.arithmetic(child, reason)
            return
        if not isinstance(node, dict):
            return
        kind = node.get("Type")
        if kind == "ParamExp" and node["Pos"] in self.sites:
            self.flag(node["Pos"], reason)
        elif kind == "ParamExp":
            if self.bash and "Length" not in node:
                self.variable(node["Param"].get("Value", ""), reason)
            self.parameter(node)
        elif kind in ("CmdSubst", "ProcSubst"):
            self.evaluated(node, reason, certain=True)
            self.inner(node)
        elif kind in ("Lit", "SglQuoted"):
            for place in self._within(node):
                self.flag(place, reason)
            if self.bash:
                for name in _IDENTIFIER.findall(str(node.get("Value", ""))):
                    self.variable(name, reason)
        else:
            for child in node.values():
                self.arithmetic(child, reason)

    # -- walking -------------------------------------------------------------------------------------------------

    def inner(self, node: Any) -> None:
        """Whatever is evaluated inside a node by itself."""
        if isinstance(node, list):
            for child in node:
                self.inner(child)
            return
        if not isinstance(node, dict):
            return
        kind = node.get("Type")
        if kind is None and ("Cmd" in node or "Redirs" in node):
            self.statement(node, None)
        elif kind == "ParamExp":
            self.parameter(node)
        elif kind in ("ArithmExp", "ArithmCmd", "CStyleLoop", "LetClause"):
            self.arithmetic([child for key, child in node.items() if key != "Type"], reasons.ARITHMETIC)
        elif kind in ("BinaryTest", "UnaryTest"):
            self.test(node)
        else:
            for child in node.values():
                if type(child) is dict or type(child) is list:
                    self.inner(child)

    def test(self, node: Node) -> None:
        """`[[ … ]]` evaluates what it compares as numbers, and names of variables."""
        if node["Type"] == "BinaryTest" and node["Op"] in _COMPARISONS:
            self.arithmetic([node["X"], node["Y"]], reasons.COMPARED)
        elif node["Type"] == "UnaryTest" and node["Op"] in ("-v", "-R"):
            self.evaluated(node["X"], reasons.names(f"[[ {node['Op']}"))
        for key in ("X", "Y"):
            self.inner(node.get(key))

    def parameter(self, node: Node) -> None:
        """`${…}`: indices and parts by number are arithmetic, `${!x}` is the name of a variable."""
        if node["Pos"] in self.sites:
            return
        name = node["Param"].get("Value", "")
        self.index(name, node.get("Index"))
        for child in (node.get("Slice") or {}).values():
            self.arithmetic(child, reasons.ARITHMETIC)
        keys = "Index" in node and self.text(node["Index"]) in ("@", "*")
        if "Excl" in node and "Names" not in node and not keys and self.bash and name not in ("@", "*"):
            self.variable(name, reasons.names("${!…}"))
        operation = node.get("Exp") or {}
        if operation.get("Op") == "@" and self.text(operation.get("Word")) == "P":
            self.variable(name, reasons.special(name))
        if operation.get("Op") in ("=", ":=") and name in self.variables:
            self.evaluated(operation.get("Word"), self.variables[name], certain=True)
        self.inner([node.get("Exp"), node.get("Repl")])

    def index(self, name: str, node: Any) -> None:
        """The index of an array is arithmetic, but for arrays whose indices are text."""
        if node is None:
            return
        if {(self.function, name), ("", name)} & self.associative:
            self.inner(node)
        else:
            self.arithmetic(node, reasons.INDEX)

    def statement(self, node: Node, printed: Printed | None) -> None:
        """A command with its redirections."""
        command, redirections = node.get("Cmd") or {}, node.get("Redirs", ())
        reads = self._readers(command)
        for child in redirections:
            self.inner([child.get("Word"), child.get("Hdoc")])
            printed = self._redirected(child, printed)
        for child in redirections:
            if child["Op"] in ("<<", "<<-", "<<<") or (child["Op"] == "<" and _substitution(child["Word"], "<(")):
                text = child.get("Hdoc") or child["Word"]
                if reads is not None:
                    self.evaluated(text, reads.reason, certain=reads.certain)
                elif printed is not None and (not printed.certain or self._echoes(command)):
                    self.evaluated(text, printed.reason, certain=printed.certain)
        self.command(command, printed)

    def _redirected(self, redirection: Node, printed: Printed | None) -> Printed | None:
        """How what a command prints is evaluated once it is redirected."""
        into, word = redirection["Op"], redirection["Word"]
        if into not in _TO_A_FILE and into != ">&":
            return printed
        target = self.text(word)
        commands = _substitution(word, ">(")
        if commands is None and into == ">&" and UNKNOWN in target:
            commands = self.coprocesses
        if commands is not None and (reader := self._readers(commands)) is not None:
            return reader
        if into == ">&":
            return None if target == "2" else printed
        of_output = redirection.get("N", {}).get("Value", "1") == "1"
        return None if commands is None and of_output and not target.startswith("/dev/") else printed

    def command(self, node: Node, printed: Printed | None) -> None:
        """What a command does with its parts; `printed`: what it prints is evaluated."""
        kind = node.get("Type")
        if kind == "CallExpr":
            self.call(node, printed)
        elif kind == "DeclClause":
            self.declaration(node)
        elif kind == "BinaryCmd" and node["Op"] in ("|", "|&"):
            reader = self._readers([node["Y"]])
            self.statement(node["X"], reader or printed)
            self.statement(node["Y"], printed)
        elif kind == "FuncDecl":
            before, self.function = self.function, node["Name"]["Value"]
            self.statement(node["Body"], None)
            self.function = before
        elif kind == "ForClause" and node["Loop"].get("Type") == "WordIter":
            name = node["Loop"]["Name"]["Value"]
            if name in self.variables:
                self.evaluated(node["Loop"].get("Items"), self.variables[name], certain=True)
            self.inner(node["Loop"].get("Items"))
            self._statements(node.get("Do"), printed)
        elif kind in ("ArithmCmd", "LetClause"):
            self.inner(node)
        else:
            for key, child in node.items():
                if key in ("Else", "Items"):
                    for each in child if isinstance(child, list) else [child]:
                        self.command(each, printed)
                elif key not in ("X", "Y") or kind != "TestClause":
                    self._statements(child, printed)
                else:
                    self.inner(child)

    def _echoes(self, command: Node) -> bool:
        return (
            command.get("Type") != "CallExpr"
            or name_of([child.text for child in self.command_of(command)[0]]) in _ECHOING
        )

    def _statements(self, node: Any, printed: Printed | None) -> None:
        for child in node if isinstance(node, list) else [node]:
            if isinstance(child, dict) and ("Cmd" in child or "Redirs" in child):
                self.statement(child, printed)
            else:
                self.inner(child)

    # -- commands ------------------------------------------------------------------------------------------------

    def call(self, node: Node, printed: Printed | None) -> None:
        """A simple command."""
        for child in node.get("Assigns", ()):
            self.assignment(child)
        self.inner(node.get("Args"))
        words, done = self.command_of(node)
        if not words:
            return
        for number, reason in done.evaluated.items():
            if number < len(words):
                self._evaluated_word(words[number], reason)
        if done.sources:
            for word in words:
                for child in _substitution(word.node, "<(") or ():
                    self.statement(child, Printed(reasons.INPUT))
        self._handed_over(words)
        self._assigned(words)
        for word in words if words[0].text in ("env", "sudo", "doas") else ():
            if (name := word.text.partition("=")[0]) in _SPECIAL:
                self.evaluated(word.node, self.variables[name])
        if self._readers_among(words):
            printed = Printed(reasons.INPUT)
        if printed is not None:
            self._printed(words, printed)

    def _evaluated_word(self, word: Word, reason: Reason) -> None:
        """A word of a command that is evaluated; where it is a name, what is assigned to that is not."""
        if reason.kind is Kind.NAME and word.node is not None:
            self.evaluated(list(_before_equals(word.node)), reason, certain=True)
        else:
            self.evaluated(word.node, reason)

    def _printed(self, words: Sequence[Word], printed: Printed) -> None:
        """What the command prints is evaluated."""
        texts = [word.text for word in words]
        name = name_of(texts)
        if name in self.functions and name not in self.inside:
            self.inside.add(name)
            before, self.function = self.function, name
            for body in self.functions[name]:
                self.statement(body, printed)
            self.function = before
            self.inside.discard(name)
            return
        for word in words:
            for child in _substitution(word.node, "<(") or ():
                self.statement(child, printed)
        if name in _ECHOING if printed.certain else prints_its_words(texts):
            for word in words[1:]:
                self.evaluated(word.node, printed.reason, certain=printed.certain)

    def _handed_over(self, words: Sequence[Word]) -> None:
        """Arguments of functions that evaluate them."""
        starts = [n for n, word in enumerate(words) if word.text in self.functions or (n == 0 and word.text == "set")]
        for start in starts[:1]:
            set_here = words[start].text == "set"
            name = self.function if set_here else words[start].text
            arguments = self.arguments.get(name, {})
            for number, word in enumerate(words[start + 1 :], 1):
                reason = arguments.get(str(number)) or arguments.get("@")
                if set_here or self._shifts(name):
                    reason = reason or next(iter(arguments.values()), None)
                if reason is not None:
                    self.evaluated(word.node, reason, certain=True)

    def _shifts(self, function: str) -> bool:
        return "'Value': 'shift'" in str(self.functions.get(function))

    def _assigned(self, words: Sequence[Word]) -> None:
        """`printf -v NAME …` assigns."""
        if [word.text for word in words[:2]] == ["printf", "-v"] and len(words) > 2 and words[2].text in self.variables:
            for word in words[3:]:
                self.evaluated(word.node, self.variables[words[2].text], certain=True)

    def assignment(self, node: Node) -> None:
        """`NAME=value`, also behind `export` and its kin."""
        name = node["Name"]["Value"]
        self.index(name, node.get("Index"))
        for child in (node.get("Array") or {}).get("Elems", ()):
            self.index(name, child.get("Index"))
            self.inner(child.get("Value"))
        reason = self.variables.get(name)
        value = [node.get("Value"), [child.get("Value") for child in (node.get("Array") or {}).get("Elems", ())]]
        if reason is not None:
            self.evaluated(value, reason, certain=name not in _SPECIAL)
        self.inner(node.get("Value"))

    def declaration(self, node: Node) -> None:
        """`declare`, `local`, `export` and their kin."""
        command, reason, attributes = node["Variant"]["Value"], None, ""
        for child in node.get("Args", ()):
            if "Name" not in child and (options := re.match(r"[-+][a-zA-Z]+", self.text(child.get("Value")))):
                attributes += options[0]
        if "i" in attributes or ("n" in attributes and command != "export"):
            reason = reasons.formula(command)
        read = self.arithmetic if "i" in attributes else self.evaluated
        for child in node.get("Args", ()):
            if "Name" in child:
                if reason is not None:
                    self.variable(child["Name"]["Value"], reason)
                    read([child.get("Value"), child.get("Array")], reason)
                self.assignment(child)
                continue
            word, text = child.get("Value"), self.text(child.get("Value"))
            self.inner(word)
            before, _, _ = text.partition("=")
            if reason is not None and not text.startswith("-"):
                self.evaluated(word, reason)
            elif not text.startswith(("-", "+")) and (UNKNOWN in before or "=" not in text):
                self.evaluated(list(_before_equals(word)), reasons.names(command), certain=True)
            elif before in self.variables:
                self.evaluated(word, self.variables[before])

    # -- who reads -----------------------------------------------------------------------------------------------

    def _readers(self, node: Any) -> Printed | None:
        """How commands evaluate what they read from their standard input, if they do."""
        if isinstance(node, list):
            return next((reader for child in node if (reader := self._readers(child)) is not None), None)
        if not isinstance(node, dict):
            return None
        kind = node.get("Type")
        if kind is None and "Cmd" in node:
            into = [child for child in node.get("Redirs", ()) if child["Op"] in ("<", "<<", "<<-", "<<<")]
            if any(child.get("N", {}).get("Value", "0") == "0" for child in into):
                return None
            return self._readers(node["Cmd"])
        if kind == "BinaryCmd" and node["Op"] in ("|", "|&"):
            return self._readers(node["X"])
        if kind == "CallExpr":
            return self._reading(*self.command_of(node))
        if kind in ("FuncDecl", "CmdSubst", "TestClause", "ArithmCmd", "DeclClause"):
            return None
        return self._readers([child for child in node.values() if isinstance(child, list | dict)])

    def _reading(self, words: Sequence[Word], done: Study) -> Printed | None:
        texts = [word.text for word in words]
        if not texts:
            return None
        name = name_of(texts)
        if name in self.functions and name not in self.inside:
            self.inside.add(name)
            reader = self._readers(self.functions[name])
            self.inside.discard(name)
            return reader
        if done.reads or self._readers_among(words):
            return Printed(reasons.INPUT)
        if name in ("read", "mapfile", "readarray"):
            names = [name for name in [*texts[1:], "REPLY", "MAPFILE"] if name in self.variables]
            return Printed(self.variables[names[0]], certain=True) if names else None
        return None

    def _readers_among(self, words: Sequence[Word]) -> bool:
        """Whether a shell reads from a substitution such as `tee >(sh)`."""
        return any(self._readers(_substitution(word.node, ">(")) for word in words)


def _substitution(word: Node | None, opening: str) -> list[Node] | None:
    """The commands of `<(…)` or `>(…)`, if the word is such a substitution."""
    for part in (word or {}).get("Parts", ()):
        if part["Type"] == "ProcSubst" and part["Op"] == opening:
            statements: list[Node] = part.get("Stmts", [])
            return statements
    return None


def _before_equals(word: Node) -> Iterator[Node]:
    """The parts of a word that stand before the first `=` in it."""
    for part in word.get("Parts", ()):
        if part["Type"] == "DblQuoted":
            inner = list(_before_equals(part))
            yield from inner
            if len(inner) < len(part.get("Parts", ())):
                return
        elif part["Type"] in ("Lit", "SglQuoted") and "=" in str(part.get("Value", "")):
            return
        else:
            yield part


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
