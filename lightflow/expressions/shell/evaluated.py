"""Find the expressions of a script whose values a shell would evaluate.

A value is evaluated where its text becomes shell text, arithmetic or the name of a variable: as a word of a command
(`eval`, `sh -c`), in the output of a command that a shell reads, in a formula. A value may get there through a
variable, or through an argument of a function. Therefore the evaluated variables and arguments are collected too, until
no further one appears; values that are assigned to them are evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lightflow.expressions.shell import reasons
from lightflow.expressions.shell.commands import UNKNOWN, Study, name_of, prints_its_words
from lightflow.expressions.shell.reasons import Kind, Reason
from lightflow.expressions.shell.script import Script, Word
from lightflow.expressions.shell.syntax import Node

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Variables that the shell, or the programs that they are for, read as shell text.
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
#: Commands that print exactly their words or their input.
_ECHOING: Final = frozenset(["echo", "printf", "cat", "tee"])
_TO_A_FILE: Final = frozenset([">", ">>", ">|", "&>", "&>>"])


class Printed(NamedTuple):
    """The output of commands is evaluated."""

    reason: Reason
    certain: bool = False  #: whether only words count that are certainly printed


def evaluated_sites(statements: list[Node], sites: Mapping[int, int], *, bash: bool) -> dict[int, list[Reason]]:
    """Return the evaluated expressions, by number, with the reasons.

    `sites` has the number of each expression by its offset. `bash` is whether variables in arithmetic are evaluated as
    formulas.
    """
    finder = _EvaluationFinder(Script(statements, sites), bash=bash)
    finder.run()
    return finder.objections


class _EvaluationFinder:
    """Walks through a script and collects the expressions that are evaluated, with the reasons."""

    def __init__(self, script: Script, *, bash: bool) -> None:
        self.script, self.sites, self.bash = script, script.sites, bash
        self.objections: dict[int, list[Reason]] = {}
        #: evaluated variables
        self.variables: dict[str, Reason] = {name: reasons.special(name) for name in _SPECIAL}
        if script.starts_interactive:
            self.variables["ENV"] = reasons.special("ENV")
        #: evaluated arguments of functions, by the number of the argument, or "@"
        self.arguments: dict[str, dict[str, Reason]] = {}
        self.function = ""  # the function whose body is walked through
        self.inside: set[str] = set()  # functions whose output is walked through
        self.changed = False  # whether another evaluated variable or argument is known since the last walk

    def run(self) -> None:
        """Walk through the script until it adds no evaluated variable or argument."""
        self.changed = True
        while self.changed:
            self.changed = False
            self.inner(self.script.statements)

    # -- evaluated text ---------------------------------------------------------------------------------------

    def flag(self, place: int, reason: Reason) -> None:
        """Record an expression as evaluated."""
        why = self.objections.setdefault(self.sites[place], [])
        if reason not in why:
            why.append(reason)

    def variable(self, name: str, reason: Reason) -> None:
        """Record a variable, or an argument of the current function, as evaluated."""
        if name.isdigit() or name in ("@", "*"):
            names = self.arguments.setdefault(self.function, {})
            name, reason = ("@" if name == "*" else name), reasons.argument(self.function or "set", reason)
        else:
            names, reason = self.variables, reasons.variable(name, reason)
        if name not in names:
            names[name] = reason
            self.changed = True

    def evaluated(self, node: Any, reason: Reason, *, certain: bool = False) -> None:
        """Record all text in a node as evaluated: expressions, variables, and the output of substitutions."""
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
        """Record a formula as evaluated, with the variables that it names, also without a `$`."""
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

    # -- nodes -------------------------------------------------------------------------------------------------

    def inner(self, node: Any) -> None:
        """Walk through a node and its children."""
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
        """Handle `[[ … ]]`, which evaluates numbers that it compares, and names of variables."""
        if node["Type"] == "BinaryTest" and node["Op"] in _COMPARISONS:
            self.arithmetic([node["X"], node["Y"]], reasons.COMPARED)
        elif node["Type"] == "UnaryTest" and node["Op"] in ("-v", "-R"):
            self.evaluated(node["X"], reasons.names(f"[[ {node['Op']}"))
        for key in ("X", "Y"):
            self.inner(node.get(key))

    def parameter(self, node: Node) -> None:
        """Handle `${…}`: indices and slices are arithmetic, and `${!x}` evaluates a variable as a name."""
        if node["Pos"] in self.sites:
            return
        name = node["Param"].get("Value", "")
        self.index(name, node.get("Index"))
        for child in (node.get("Slice") or {}).values():
            self.arithmetic(child, reasons.ARITHMETIC)
        keys = "Index" in node and self.script.text(node["Index"]) in ("@", "*")
        if "Excl" in node and "Names" not in node and not keys and self.bash and name not in ("@", "*"):
            self.variable(name, reasons.names("${!…}"))
        operation = node.get("Exp") or {}
        if operation.get("Op") == "@" and self.script.text(operation.get("Word")) == "P":
            self.variable(name, reasons.special(name))
        if operation.get("Op") in ("=", ":=") and name in self.variables:
            self.evaluated(operation.get("Word"), self.variables[name], certain=True)
        self.inner([node.get("Exp"), node.get("Repl")])

    def index(self, name: str, node: Any) -> None:
        """Handle the index of an array, which is arithmetic unless the array is associative."""
        if node is None:
            return
        if {(self.function, name), ("", name)} & self.script.associative:
            self.inner(node)
        else:
            self.arithmetic(node, reasons.INDEX)

    def statement(self, node: Node, printed: Printed | None) -> None:
        """Handle a command with its redirections. `printed`: its output is evaluated."""
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
        """Return how the output of a command is evaluated after a redirection."""
        into, word = redirection["Op"], redirection["Word"]
        if into not in _TO_A_FILE and into != ">&":
            return printed
        target = self.script.text(word)
        commands = _substitution(word, ">(")
        if commands is None and into == ">&" and UNKNOWN in target:
            commands = self.script.coprocesses
        if commands is not None and (reader := self._readers(commands)) is not None:
            return reader
        if into == ">&":
            return None if target == "2" else printed
        of_output = redirection.get("N", {}).get("Value", "1") == "1"
        return None if commands is None and of_output and not target.startswith("/dev/") else printed

    def command(self, node: Node, printed: Printed | None) -> None:
        """Handle a command of any kind. `printed`: its output is evaluated."""
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
            or name_of([child.text for child in self.script.command_at(command)[0]]) in _ECHOING
        )

    def _statements(self, node: Any, printed: Printed | None) -> None:
        for child in node if isinstance(node, list) else [node]:
            if isinstance(child, dict) and ("Cmd" in child or "Redirs" in child):
                self.statement(child, printed)
            else:
                self.inner(child)

    # -- commands ------------------------------------------------------------------------------------------------

    def call(self, node: Node, printed: Printed | None) -> None:
        """Handle a simple command."""
        for child in node.get("Assigns", ()):
            self.assignment(child)
        self.inner(node.get("Args"))
        words, done = self.script.command_at(node)
        if not words:
            return
        for number, reason in done.evaluated.items():
            if number < len(words):
                self._evaluated_word(words[number], reason)
        if done.sources:
            for word in words:
                for child in _substitution(word.node, "<(") or ():
                    self.statement(child, Printed(reasons.INPUT))
        self._arguments_of_functions(words)
        self._printf_assignment(words)
        for word in words if words[0].text in ("env", "sudo", "doas") else ():
            if (name := word.text.partition("=")[0]) in _SPECIAL:
                self.evaluated(word.node, self.variables[name])
        if self._readers_among(words):
            printed = Printed(reasons.INPUT)
        if printed is not None:
            self._printed(words, printed)

    def _evaluated_word(self, word: Word, reason: Reason) -> None:
        """Record a word of a command as evaluated; of `NAME=value` with an evaluated name only the name."""
        if reason.kind is Kind.NAME and word.node is not None:
            self.evaluated(list(_before_equals(word.node)), reason, certain=True)
        else:
            self.evaluated(word.node, reason)

    def _printed(self, words: Sequence[Word], printed: Printed) -> None:
        """Record the words that a command prints as evaluated."""
        texts = [word.text for word in words]
        name = name_of(texts)
        if name in self.script.functions and name not in self.inside:
            self.inside.add(name)
            before, self.function = self.function, name
            for body in self.script.functions[name]:
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

    def _arguments_of_functions(self, words: Sequence[Word]) -> None:
        """Record the arguments that a function evaluates."""
        starts = [
            n for n, word in enumerate(words) if word.text in self.script.functions or (n == 0 and word.text == "set")
        ]
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
        return "'Value': 'shift'" in str(self.script.functions.get(function))

    def _printf_assignment(self, words: Sequence[Word]) -> None:
        """Handle the assignment `printf -v NAME …`."""
        if [word.text for word in words[:2]] == ["printf", "-v"] and len(words) > 2 and words[2].text in self.variables:
            for word in words[3:]:
                self.evaluated(word.node, self.variables[words[2].text], certain=True)

    def assignment(self, node: Node) -> None:
        """Handle `NAME=value`, also as an argument of `export`, `declare` and similar commands."""
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
        """Handle `declare`, `local`, `export` and similar commands."""
        command, reason, attributes = node["Variant"]["Value"], None, ""
        for child in node.get("Args", ()):
            if "Name" not in child and (options := re.match(r"[-+][a-zA-Z]+", self.script.text(child.get("Value")))):
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
            word, text = child.get("Value"), self.script.text(child.get("Value"))
            self.inner(word)
            before, _, _ = text.partition("=")
            if reason is not None and not text.startswith("-"):
                self.evaluated(word, reason)
            elif not text.startswith(("-", "+")) and (UNKNOWN in before or "=" not in text):
                self.evaluated(list(_before_equals(word)), reasons.names(command), certain=True)
            elif before in self.variables:
                self.evaluated(word, self.variables[before])

    # -- readers -----------------------------------------------------------------------------------------------

    def _readers(self, node: Any) -> Printed | None:
        """Return how commands evaluate their standard input; None if they do not."""
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
            return self._reading(*self.script.command_at(node))
        if kind in ("FuncDecl", "CmdSubst", "TestClause", "ArithmCmd", "DeclClause"):
            return None
        return self._readers([child for child in node.values() if isinstance(child, list | dict)])

    def _reading(self, words: Sequence[Word], done: Study) -> Printed | None:
        texts = [word.text for word in words]
        if not texts:
            return None
        name = name_of(texts)
        if name in self.script.functions and name not in self.inside:
            self.inside.add(name)
            reader = self._readers(self.script.functions[name])
            self.inside.discard(name)
            return reader
        if done.reads or self._readers_among(words):
            return Printed(reasons.INPUT)
        if name in ("read", "mapfile", "readarray"):
            names = [name for name in [*texts[1:], "REPLY", "MAPFILE"] if name in self.variables]
            return Printed(self.variables[names[0]], certain=True) if names else None
        return None

    def _readers_among(self, words: Sequence[Word]) -> bool:
        """Return whether a shell reads from a substitution such as `tee >(sh)`."""
        return any(self._readers(_substitution(word.node, ">(")) for word in words)


def _substitution(word: Node | None, opening: str) -> list[Node] | None:
    """Return the commands of `<(…)` or `>(…)`; None if the word is not such a substitution."""
    for part in (word or {}).get("Parts", ()):
        if part["Type"] == "ProcSubst" and part["Op"] == opening:
            statements: list[Node] = part.get("Stmts", [])
            return statements
    return None


def _before_equals(word: Node) -> Iterator[Node]:
    """Yield the parts of a word before its first `=`."""
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
