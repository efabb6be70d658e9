"""What a shell does with the word of a command in which an expression stands: hand it on, or evaluate it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final, NamedTuple, NoReturn

ARITHMETIC_TESTS: Final = frozenset(["-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v", "-R"])
ARITHMETIC_TEST: Final = "[[ … ]] evaluates what it compares as numbers; use [ … ], which does not"
SCRIPT_INPUT: Final = (
    "what the shell reads from here is shell text, and so would be the value; end the expression with `| quote`"
)
_QUOTE: Final = "end the expression with `| quote` if that is wanted"
INDEX: Final = "the index of an array is arithmetic, in which the shell would evaluate the value; use a variable"

_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_IN_INDEX: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)?\[[^\]]*$")
_SHELLS: Final = frozenset(["sh", "dash", "ash", "bash", "rbash", "ksh", "ksh93", "mksh", "zsh", "fish", "busybox"])
_BEFORE_A_NAME: Final = frozenset(["command", "builtin"])
_EVALUATING: Final = frozenset(["eval", "trap", "alias", "let"])
_DECLARING: Final = frozenset(["declare", "typeset", "local", "readonly", "export"])
_NAMING: Final = _DECLARING | {"read", "unset", "mapfile", "readarray", "getopts"}


class Refused(ValueError):
    """An expression cannot be put where it stands; `site` is its number."""

    def __init__(self, message: str, site: int) -> None:
        super().__init__(message)
        self.site = site


class Site(NamedTuple):
    """An expression: the variable that will hold its value; or text to stand in its place as it is (`raw`)."""

    variable: str
    raw: str | None = None
    quoted: bool = False  # its value is one word of shell text already


class Run:
    """What all parts of one script share: which expression comes next."""

    def __init__(self, sites: Sequence[Site], shell: str) -> None:
        self.sites, self.shell, self.next = sites, shell, 0

    def refuse(self, message: str) -> NoReturn:
        raise Refused(message, min(self.next, len(self.sites) - 1))

    def bare(self, start: int, end: int) -> int | None:
        """The first of some expressions whose value is not quoted."""
        return next((n for n in range(start, end) if not self.sites[n].quoted and self.sites[n].raw is None), None)


class Line:
    """The commands of one line as far as they have been read."""

    def __init__(self, first: int) -> None:
        self.first = first  # expression of the pipeline
        self.begun = first  # … of the command
        self.piped = False  # the command reads what another prints
        self.reads_script = False  # one of them reads shell commands from its input


class Simple:
    """A simple command as far as it has been read: its words, without their quotes."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.word: str | None = None  # the one that is being read
        self.bare = True  # nothing of it was quoted
        self.condition = False  # inside [[ … ]]
        self.tested = False  # … which holds an expression
        self.target = False  # the next word belongs to a redirection
        self.text_input = False  # … `<<<`

    def add(self, text: str, *, bare: bool) -> None:
        """More of the word that is being read."""
        self.word = (self.word or "") + text
        self.bare = self.bare and bare

    @property
    def name(self) -> str:
        """The command."""
        # A substitution that prints nothing may stand before the name: `$x`eval.
        names = (os.path.basename(one).strip("`$") for one in self.words if not _ASSIGNMENT.match(one))
        return next((one for one in names if one not in _BEFORE_A_NAME), "")

    def objection(self, word: str, *, quoted: bool) -> str | None:
        """Why no expression can stand behind `word`, the part of the word that has been read; None: it can."""
        words, name = self.words, self.name
        found = self.evaluates(word, quoted=quoted)
        if found is not None or quoted or not words:
            return found
        if name in _DECLARING and any(re.match(r"[-+][a-zA-Z]*[in]", one) for one in words):
            return f"{name} would evaluate the value as a name or a formula"
        if name in _NAMING and "=" not in word and not word.startswith("-"):
            return f"{name} takes the name of a variable, which cannot come from an expression"
        if words[-1] in ("-v", "-R") and name in ("[", "test", "printf"):
            return f"{name} {words[-1]} takes the name of a variable, which cannot come from an expression"
        return None

    def evaluates(self, word: str, *, quoted: bool) -> str | None:
        """How the word would be evaluated, also where it is what another command prints; None: it is not."""
        if self.bare and _IN_INDEX.match(word):
            return INDEX
        if self.condition and ARITHMETIC_TESTS & set(self.words):
            return ARITHMETIC_TEST
        if quoted or not self.words:
            return None
        if self.text_input and self.reads_script():
            return SCRIPT_INPUT
        if self.name in _EVALUATING:
            return f"{self.name} would read the value as shell text; {_QUOTE}"
        if self.name == "ssh" and any(not one.startswith("-") for one in self.words[1:]):
            return f"ssh hands its words to a shell over there, which would read the value as shell text; {_QUOTE}"
        if _is_script(self.words):
            return (
                "the shell that is started would read the value as shell text; hand it over as an argument "
                "(sh -c '… \"$1\" …' sh VALUE), or end the expression with `| quote`"
            )
        return None

    def reads_script(self) -> bool:
        """Does it read shell commands from its input: `bash`, `ssh host`, `docker exec -i box sh -s`?"""
        if self.name == "ssh":
            return True
        for place, word in enumerate(self.words):
            if os.path.basename(word) in _SHELLS:
                rest = self.words[place + 1 :]
                return "-s" in rest or all(one.startswith(("-", "+")) and "c" not in one for one in rest)
        return False


def _is_script(words: Sequence[str]) -> bool:
    """Does the script of another shell come next: `sh -c`, `env bash -eu -c`?"""
    for place, word in enumerate(words):
        program, rest = os.path.basename(word), words[place + 1 :]
        if program == "su" and words[-1] in ("-c", "--command"):
            return True
        if program in _SHELLS:
            options = zip(["", *rest], rest, strict=False)
            return any(re.fullmatch(r"-[a-zA-Z]*c[a-zA-Z]*", one) for one in rest) and all(
                one.startswith(("-", "+")) or before in ("-o", "+o", "-O", "+O") for before, one in options
            )
    return False
