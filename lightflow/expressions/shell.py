"""Put expressions into a shell script without their values ever becoming shell text.

Each expression becomes a reference to an environment variable, quoted for the place where it stands. To know the place,
the script is read as a POSIX shell (and bash) reads it: words, quotes, substitutions, here-documents. Where a shell
would *evaluate* the value all the same (arithmetic, `eval`, the script of `sh -c`), or shells differ in how they read
the text, the expression is refused.

In the text that is scanned, an expression is one NUL character, which no YAML file can hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

from lightflow.expressions.heredoc import Document, Unclear, announced
from lightflow.expressions.places import (
    ARITHMETIC_TEST,
    ARITHMETIC_TESTS,
    INDEX,
    SCRIPT_INPUT,
    Line,
    Refused,
    Run,
    Simple,
    Site,
)

__all__ = ["SHELLS", "SITE", "Refused", "Site", "rewrite"]

SITE: Final = "\0"
SHELLS: Final = frozenset(["sh", "dash", "ash", "bash"])

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PARAMETER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-]")
_OF_CASE: Final = (";;", ";&", ";;&")
#: Behind these another command begins.
_BEFORE_A_COMMAND: Final = frozenset(["if", "then", "else", "elif", "do", "while", "until", "!", "{", "}", "time"])


def rewrite(text: str, sites: Sequence[Site], shell: str = "sh") -> str:
    """The script with a reference in place of each `SITE`.

    Raises:
        Refused: one of them cannot stand where it does.
    """
    run = Run(sites, shell)
    scanner = _Scanner(text, run)
    scanner.commands(None)
    return "".join(scanner.out)


class _Scanner:
    """One stretch of text. `evaluated` says how all that is printed in it is evaluated, if it is."""

    def __init__(self, text: str, run: Run, evaluated: str | None = None) -> None:
        self.text, self.run, self.at = text, run, 0
        self.out: list[str] = []
        self.simple = Simple()
        self.part = 0  # where in `out` the part of the word begins that is being read
        self.evaluated = evaluated
        self.waiting = 0  # here-documents whose lines have not come

    # -- small steps ---------------------------------------------------------------------------------------------

    def peek(self, number: int = 1) -> str:
        return self.text[self.at : self.at + number]

    def copy(self, number: int = 1) -> str:
        """Copy some characters, none of which is an expression."""
        text = self.text[self.at : self.at + number]
        if SITE in text:
            self.run.refuse("an expression cannot stand here")
        self.out.append(text)
        self.at += number
        return text

    def site(self, before: str = "", behind: str = "") -> None:
        """The expression that stands here; `before` and `behind` surround the reference."""
        site, simple = self.run.sites[self.run.next], self.simple
        if site.raw is None:
            objection = simple.objection(self._word(), quoted=site.quoted)
            if objection is None and not site.quoted:
                objection = self.evaluated
            if objection is not None:
                self.run.refuse(objection)
        simple.tested = simple.condition
        self.run.next += 1
        self.at += 1
        self.out.append(site.raw if site.raw is not None else f"{before}${{{site.variable}}}{behind}")

    def _word(self) -> str:
        """The word that is being read, as far as it has been."""
        return (self.simple.word or "") + "".join(self.out[self.part :]).strip("'\"")

    def _inside(self) -> str | None:
        """How what a substitution prints here is evaluated, if it is."""
        return self.simple.evaluates(self._word(), quoted=False) or self.evaluated

    def escape(self) -> str:
        """A backslash and what it stands before."""
        if self.peek(2)[1:] == SITE:
            self.run.refuse("a backslash stands before the expression; remove it (or double it, if it is wanted)")
        return self.copy(2)

    # -- commands ------------------------------------------------------------------------------------------------

    def commands(self, end: str | None) -> None:
        """Commands up to `)` (which is left), or to the end of the text."""
        outer = (self.simple, self.part, self.evaluated)
        if end is not None:
            self.evaluated = self._inside()
        self.simple = Simple()
        cases: list[str] = []  # of each `case` around: "subject", "pattern" or "body"
        documents: list[Document] = []
        line = Line(self.run.next)
        while (char := self.peek()) != "":
            in_pattern = bool(cases) and cases[-1] == "pattern"
            if char in " \t" or (self.simple.condition and char in "()<>&|"):
                self._word_ends(cases)
                self.copy()
            elif char == "\n":
                self._command_ends(cases, line)
                self.copy()
                if self.waiting > len(documents):
                    self.run.refuse("shells differ in where the here-document before this bracket begins")
                for document in documents:
                    self._document(document, SCRIPT_INPUT if line.reads_script else self.evaluated)
                documents.clear()
                line = Line(self.run.next)
            elif char in ";&|":
                operators = (";;&", ";;", ";&", "&&", "||", "|&")
                operator = next((one for one in operators if self.text.startswith(one, self.at)), char)
                self._command_ends(cases, line, operator)
                self.copy(len(operator))
                if operator in _OF_CASE and cases:
                    cases[-1] = "pattern"
            elif char == "(":
                if in_pattern and self.simple.word is None:
                    self.copy()
                elif self.peek(2) == "((" and self.simple.word is None:
                    self._arithmetic("((")
                else:
                    self._nested("(")
            elif char == ")":
                self._command_ends(cases, line)
                if in_pattern and cases:
                    cases[-1] = "body"
                    self.copy()
                elif end is None:
                    self.run.refuse("a closing bracket without an opening one: the place of the expression is unclear")
                elif documents:
                    self.run.refuse("a here-document must end before the bracket around it")
                else:
                    self.simple, self.part, self.evaluated = outer
                    self.simple.tested = self.simple.condition
                    return
            elif char in "<>":
                self._redirection(cases, documents)
            elif char == "#" and self.simple.word is None:
                self._comment()
            else:
                self._part_of_word()
        self._command_ends(cases, line)
        if end is not None:
            self.run.refuse("a bracket is not closed: the place of the expression is unclear")

    def _comment(self) -> None:
        self.part = len(self.out)
        while self.peek() not in ("\n", ""):
            if self.peek() == SITE:
                self.site()
            else:
                self.copy()

    def _part_of_word(self) -> None:
        char, simple = self.peek(), self.simple
        self.part = len(self.out)
        if char == "\\":
            text = self.escape()
            if text != "\\\n":
                simple.add(text[1:], bare=False)
        elif char in "'\"":
            if char == "'":
                self._single()
            else:
                self._double()
            simple.add("".join(self.out[self.part :])[1:-1], bare=False)
        elif char == "`":
            self._backticks("plain")
            simple.add("`", bare=False)
        elif char == "$":
            self._dollar("plain")
            simple.add("$", bare=False)
        elif char == SITE:
            self.site('"', '"')
            simple.add("$", bare=False)
        else:
            simple.add(self.copy(), bare=True)

    def _word_ends(self, cases: list[str]) -> None:
        simple = self.simple
        word, simple.word = simple.word, None
        if word is None:
            return
        bare, simple.bare = simple.bare, True
        if simple.target:
            simple.target = simple.text_input = False
            return
        first = not simple.words
        simple.words.append(word)
        if simple.condition:
            if word in ARITHMETIC_TESTS and simple.tested:
                self.run.next -= 1  # the one before it
                self.run.refuse(ARITHMETIC_TEST)
            simple.condition = word != "]]"
        elif not bare:
            return
        elif cases and cases[-1] == "subject" and word == "in":
            cases[-1] = "pattern"
            simple.words.clear()
        elif not first:
            return
        elif word == "case":
            cases.append("subject")
        elif word == "esac" and cases:
            cases.pop()
        elif word in _BEFORE_A_COMMAND:
            simple.words.clear()
        elif word == "[[":
            simple.condition = True

    def _command_ends(self, cases: list[str], line: Line, operator: str = "") -> None:
        self._word_ends(cases)
        if self.simple.condition:
            return
        if self.simple.reads_script():
            line.reads_script = True
            if line.piped and (site := self.run.bare(line.first, line.begun)) is not None:
                self.run.next = site
                self.run.refuse(SCRIPT_INPUT)
        line.piped = operator in ("|", "|&")
        line.begun = self.run.next
        if not line.piped:
            line.first = self.run.next
        self.simple = Simple()

    def _nested(self, opening: str) -> None:
        """Commands (or the words of an array) in brackets."""
        self.copy(len(opening))
        self.commands(")")
        self.copy()
        if opening == "(" and self.simple.word is not None:
            self.simple.add("()", bare=False)

    # -- redirections --------------------------------------------------------------------------------------------

    def _redirection(self, cases: list[str], documents: list[Document]) -> None:
        simple = self.simple
        if self.peek(2) in ("<(", ">("):
            self._nested(self.peek(2))
            simple.add("<()", bare=False)
            return
        if simple.word is not None and simple.word.isdigit() and simple.bare:
            simple.word = None  # the number of a descriptor
        self._word_ends(cases)
        if self.peek(3) == "<<<":
            self.copy(3)
            simple.target = simple.text_input = True
        elif self.peek(2) == "<<":
            try:
                document, end = announced(self.text, self.at + 2)
            except Unclear as error:
                self.run.refuse(str(error))
            self.copy(end - self.at)
            documents.append(document)
            self.waiting += 1
        else:
            operators = (">>", "<&", ">&", "<>", ">|")
            self.copy(2 if self.peek(2) in operators else 1)
            simple.target = True

    def _document(self, document: Document, evaluated: str | None) -> None:
        """The lines of a here-document, and the one that ends it."""
        self.waiting -= 1
        place = document.end(self.text, self.at)
        body = self.text[self.at : place]
        if document.quoted and SITE in body:
            self.run.refuse(
                "nothing is expanded in a here-document whose word is quoted; write the word without quotes "
                "(and a backslash before each other $)"
            )
        if document.quoted:
            self.out.append(body)
        else:
            inner = _Scanner(body, self.run, evaluated)
            inner.here_document()
            self.out += inner.out
        self.at = place
        if place < len(self.text):  # the word itself, which is not the beginning of a command
            end = self.text.find("\n", place)
            self.copy((len(self.text) if end < 0 else end) - place)

    def here_document(self) -> None:
        while (char := self.peek()) != "":
            self._quoted_step(char, "here")

    # -- quotes and substitutions --------------------------------------------------------------------------------

    def _single(self) -> None:
        self.copy()
        while (char := self.peek()) != "'":
            if char == "":
                self.run.refuse("a single quote is not closed")
            if char == SITE:
                self.site("'\"", "\"'")
            else:
                self.copy()
        self.copy()

    def _double(self) -> None:
        self.copy()
        while (char := self.peek()) != '"':
            if char == "":
                self.run.refuse("a double quote is not closed")
            self._quoted_step(char, "double")
        self.copy()

    def _quoted_step(self, char: str, mode: str) -> None:
        """One step in double quotes or a here-document."""
        if char == "\\":
            self.escape()
        elif char == "$":
            self._dollar(mode)
        elif char == "`":
            self._backticks(mode)
        elif char == SITE:
            self.site()
        else:
            self.copy()

    def _dollar(self, mode: str) -> None:
        behind = self.text[self.at + 1 : self.at + 2]
        if behind == SITE:
            self.run.refuse(
                "a $ stands before the expression; write $${{ … }} as \\$ and the expression, or remove the $"
            )
        if behind == "(":
            if self.peek(3) == "$((":
                self._arithmetic("$((")
            else:
                self._nested("$(")
        elif behind == "{":
            self._parameter(mode)
        elif behind == "[":
            self._old_arithmetic()
        elif behind == "'" and mode == "plain":
            self._ansi()
        else:
            self.copy()
            found = _PARAMETER.match(self.text, self.at)
            if found is not None:
                name = _NAME.match(self.text, self.at)
                self.copy(name.end() - self.at if name else 1)

    def _ansi(self) -> None:
        """`$'…'`: bash knows it, other shells read a `$` and a text in single quotes."""
        end = self.at + 2
        while self.text[end : end + 1] not in ("'", ""):
            end += 2 if self.text[end] == "\\" else 1
        text = self.text[self.at : end + 1]
        if SITE in text or ("\\" in text and self.run.shell != "bash"):
            self.run.refuse("shells read $'…' differently, so the place of the expression is unclear; use other quotes")
        self.copy(len(text))

    def _old_arithmetic(self) -> None:
        end = self.text.find("]", self.at)
        if SITE in self.text[self.at : end if end >= 0 else None]:
            self._in_arithmetic()
        self.copy(2)

    def _arithmetic(self, opening: str) -> None:
        """`$(( … ))` and `(( … ))`: copied; an expression cannot stand in it."""
        depth, place, text = 0, self.at + len(opening) - 2, self.text
        while place < len(text):
            char = text[place]
            if char == "\\":
                place += 1
            elif char in "'\"":
                place = text.find(char, place + 1)
                if place < 0:
                    break
            elif char == "(":
                depth += 1
            elif char == ")":
                depth -= 1
                if not depth:
                    break
            place += 1
        if place < 0 or depth:
            self.run.refuse("(( is not closed: the place of the expression is unclear")
        if SITE in text[self.at : place]:
            self._in_arithmetic()
        self.copy(place + 1 - self.at)

    def _in_arithmetic(self) -> NoReturn:
        self.run.refuse(
            "in arithmetic the shell would evaluate the value as a formula; calculate in the expression instead, "
            "as in ${{ params.n + 1 }} (for a subshell in brackets, write a blank between the two)"
        )

    def _parameter(self, mode: str) -> None:
        """`${name}`, `${name:-word}` and the rest of their kind."""
        self.copy(2)
        if self.peek() == SITE:
            self.run.refuse("the name of a variable cannot come from an expression")
        if self.peek() == "!" or (self.peek() == "#" and self.peek(2) != "#}"):
            self.copy()
        found = _PARAMETER.match(self.text, self.at)
        if found is not None:
            self.copy(found.end() - self.at)
        if self.peek() == "[":
            end = self.text.find("]", self.at)
            if end < 0 or SITE in self.text[self.at : end]:
                self.run.refuse(INDEX)
            self.copy(end + 1 - self.at)
        operator = re.compile(r":?[-=+?]|##?|%%?").match(self.text, self.at)
        if operator is not None:
            self.copy(operator.end() - self.at)
        kind = operator[0].lstrip(":")[:1] if operator is not None else ""
        while (char := self.peek()) != "}":
            if char == "":
                self.run.refuse("${ is not closed")
            if char == SITE:
                self._site_in_parameter(mode, kind)
            elif char == "\\":
                self.escape()
            elif char == "$":
                self._dollar("double" if mode != "plain" and kind in "-=+?" else "plain")
            elif char == "`":
                self._backticks(mode)
            elif char == '"' or (char == "'" and (mode == "plain" or kind in ("#", "%", ""))):
                self._quotes_in_parameter(mode, kind)
            else:
                self.copy()
        self.copy()

    def _site_in_parameter(self, mode: str, kind: str) -> None:
        if not kind:
            self.run.refuse("an expression cannot stand in this kind of ${…}; put it into a variable first")
        if kind == "=" and mode == "plain":
            self.run.refuse("the shell would split what ${…=…} assigns; put the whole of it in double quotes")
        if kind in "#%" and mode == "here":
            self.run.refuse("an expression cannot stand in a pattern inside a here-document; use a variable")
        if mode == "plain" or kind in "#%":
            self.site('"', '"')
        else:
            self.site()

    def _quotes_in_parameter(self, mode: str, kind: str) -> None:
        if mode == "plain":
            if self.peek() == "'":
                self._single()
            else:
                self._double()
            return
        end = self.text.find(self.peek(), self.at + 1)
        if end < 0 or SITE in self.text[self.at : end] or "$" in self.text[self.at : end]:
            self.run.refuse('shells read quotes inside "${…}" differently; leave the inner quotes out')
        self.copy(end + 1 - self.at)

    def _backticks(self, mode: str) -> None:
        """`` `…` ``: one level of backslashes is taken off before the commands are read, and put on again."""
        end = self.at + 1
        while self.text[end : end + 1] not in ("`", ""):
            end += 2 if self.text[end] == "\\" else 1
        if end >= len(self.text):
            self.run.refuse("a backtick is not closed")
        inside = self.text[self.at + 1 : end]
        if SITE not in inside:
            self.copy(end + 1 - self.at)
            return
        if "\\" + SITE in inside or (mode != "plain" and '\\"' in inside):
            self.run.refuse("the backslashes in backticks make the place of the expression unclear; use $(…)")
        inner = _Scanner(re.sub(r"\\([$`\\])", r"\1", inside), self.run, self._inside())
        inner.commands(None)
        self.out += ["`", *_escaped(inner.out), "`"]
        self.at = end + 1


def _escaped(parts: Sequence[str]) -> Iterator[str]:
    for part in parts:
        yield re.sub(r"([`\\])", r"\\\1", part)
