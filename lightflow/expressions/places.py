"""What a shell does with the word of a command in which an expression stands: hand it on, or evaluate it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

ARITHMETIC_TESTS: Final = frozenset(["-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v", "-R"])
ARITHMETIC_TEST: Final = "[[ … ]] evaluates what it compares as numbers; use [ … ], which does not"
INDEX: Final = "the index of an array is arithmetic, in which the shell would evaluate the value; use a variable"

_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_IN_INDEX: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)?\[[^\]]*$")
_SHELLS: Final = frozenset(["sh", "dash", "ash", "bash", "rbash", "ksh", "ksh93", "mksh", "zsh", "fish", "busybox"])
_BEFORE_A_NAME: Final = frozenset(["command", "builtin"])
_EVALUATING: Final = frozenset(["eval", "trap", "alias", "let"])
_DECLARING: Final = frozenset(["declare", "typeset", "local", "readonly", "export"])
_NAMING: Final = _DECLARING | {"read", "unset", "mapfile", "readarray", "getopts"}


class Simple:
    """A simple command as far as it has been read: its words, without their quotes."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.word: str | None = None  # the one that is being read
        self.bare = True  # nothing of it was quoted
        self.condition = False  # inside [[ … ]]
        self.tested = False  # … which holds an expression
        self.target = False  # the next word belongs to a redirection

    def add(self, text: str, *, bare: bool) -> None:
        """More of the word that is being read."""
        self.word = (self.word or "") + text
        self.bare = self.bare and bare

    @property
    def name(self) -> str:
        """The command."""
        names = (os.path.basename(one) for one in self.words if not _ASSIGNMENT.match(one))
        return next((one for one in names if one not in _BEFORE_A_NAME), "")

    def objection(self, word: str, *, quoted: bool) -> str | None:
        """Why no expression can stand behind `word`, the part of the word that has been read; None: it can."""
        words, name = self.words, self.name
        if self.bare and _IN_INDEX.match(word):
            return INDEX
        if self.condition and ARITHMETIC_TESTS & set(words):
            return ARITHMETIC_TEST
        if quoted:
            return None
        if name in _EVALUATING and words:
            return f"{name} would read the value as shell text; end the expression with `| quote` if that is wanted"
        if name in _DECLARING and any(re.match(r"[-+][a-zA-Z]*[in]", one) for one in words):
            return f"{name} would evaluate the value as a name or a formula"
        if name in _NAMING and words and "=" not in word and not word.startswith("-"):
            return f"{name} takes the name of a variable, which cannot come from an expression"
        if words and words[-1] in ("-v", "-R") and name in ("[", "test", "printf"):
            return f"{name} {words[-1]} takes the name of a variable, which cannot come from an expression"
        if _is_script(words):
            return (
                "the shell that is started would read the value as shell text; hand it over as an argument "
                "(sh -c '… \"$1\" …' sh VALUE), or end the expression with `| quote`"
            )
        return None


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
