"""Templates of scripts, stand-ins for the programs in them, and what comes out when a shell runs them with values."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from lightflow.expressions.shell.reasons import Kind
from lightflow.expressions.shell.rewrite import SITE, Site, rewrite, text_to_parse
from lightflow.expressions.shell.syntax import Scripts

FOLDER = Path(__file__).parent.parent / "data" / "shell"
SHELLS = ("sh", "bash")

#: Any of them makes the file $C if a shell reads it as a command, a formula, the name of a variable or a pattern.
VALUES = [
    "$(:>$C)", "`:>$C`", "'; :>$C; '", '"; :>$C; "', "; :>$C #", "| :>$C |", "a\n:>$C\nb", "x[$(:>$C)]", "0+x[`:>$C`]",
    ") && :>$C; (", "}; :>$C; {", "END\n:>$C\nx", "a  b\tc", "* ? [a-z]", "~", "it's", 'say "a"', "$HOME ${HOME}",
    "a\\z", "100%z", "é 日本 😀", "{a,b} <x >y",
]  # fmt: skip
TOKEN = "Kq7x"

#: Programs that are what they are; all others only print their words.
REAL = set(
    re.findall(
        r"\S+",
        """
    [ basename bash cat chmod cut dash dirname env false flock head ls mkdir mktemp nice nohup printenv rm seq
    setsid sh sleep sort stdbuf tail tee test timeout touch tr true wc xargs
    """,
    )
)
#: Words of the shell.
KEYWORDS = set(
    re.findall(
        r"\S+",
        """
    alias bg bind break builtin case cd command compgen complete continue coproc declare do done echo elif else esac
    eval exec exit export fi for function getopts hash if in kill let local mapfile popd printf pushd pwd read readarray
    readonly return select set shift shopt source then time times trap type typeset ulimit umask unalias unset until
    wait while
    """,
    )
)
SHOWN = """printf '%s\\0' "${0##*/}" "$#" "$@"; """
STARTERS = {
    "standin": SHOWN,
    "sudo": "while :; do [ $# -eq 0 ] && exec sh; "
    'case $1 in -u|-g) shift 2;; -*) shift;; *=*) export "$1"; shift;; *) exec "$@";; esac; done',
    "ssh": SHOWN + "while :; do case $1 in -[ipoJLlM]) shift 2;; -*) shift;; *) break;; esac; done; shift; while :; do "
    'case $1 in -[po]) shift 2;; *) break;; esac; done; [ $# -eq 0 ] && exec sh; exec sh -c "$*"',
    "docker": SHOWN + 'for a; do case $a in sh|bash|cat|/bin/sh|/bin/bash) exec "$@";; *) shift;; esac; done',
    "find": SHOWN + 'exec /usr/bin/find "$@"',
    "su": 'while [ $# -gt 0 ]; do case $1 in -*c) exec sh -c "$2";; --command=*) exec sh -c "${1#*=}";; esac; shift; '
    "done; exec sh",
    "watch": 'while :; do case $1 in -n) shift 2;; *) exec sh -c "$*";; esac; done',
    "at": "exec sh",
}
#: What they print is not their words: where a shell reads it, it goes to the terminal.
FETCHING = ("curl", "wget", "gunzip", "base64")


class Template(NamedTuple):
    """A script with `SITE`s. `reason`: for which it is refused; `loose`: the value may arrive changed."""

    text: str
    where: str
    shells: tuple[str, ...] = SHELLS
    reason: str = ""
    loose: bool = False


@cache
def templates() -> list[Template]:
    """All templates of the folder."""
    result: list[Template] = []
    for path in sorted(FOLDER.glob("*.txt")):
        subject, shells = "", SHELLS
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if line.startswith("== "):
                subject = line.removeprefix("== ")
                shells = next(((shell,) for shell in SHELLS if subject.endswith(f"({shell})")), SHELLS)
            elif line:
                match = re.match(r"! ([a-z-]+) \| |(~) ", line)
                reason, loose = (match[1] or "", bool(match[2])) if match else ("", False)
                text = line[match.end() :] if match else line
                assert not reason or reason in set(Kind), line
                text = text.replace("⏎", "\n").replace("§", SITE)
                result.append(Template(text, f"{path.name}:{number}", shells, reason, loose))
    return result


@cache
def scripts() -> Scripts:
    """The trees of all templates."""
    return Scripts([text_to_parse(template.text) for template in templates()])


def rewritten(text: str, shell: str, trees: Scripts | None = None, *, number: bool = False) -> str:
    """The script with references to the variable X. `number`: the value is said to be an integer."""
    return rewrite(text, [Site("X", number=number)] * text.count(SITE), shell, trees)


class Stage:
    """A folder with stand-ins for programs, in which scripts are run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.canary = folder, folder / "bin", folder / "canary"
        self.bin.mkdir()
        for name, script in STARTERS.items():
            (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.bin / name).chmod(0o755)

    def run(self, text: str, shell: str, values: Sequence[str]) -> list[bytes]:
        """What the script prints with each value of X. The canary is there if any of them was executed."""
        names = set(re.findall(r"[A-Za-z][A-Za-z0-9_.+-]*", text)) - REAL - KEYWORDS
        for name in names:
            if not (self.bin / name).exists():
                (self.bin / name).symlink_to("standin")
        functions = [name for name in names if re.fullmatch(r"[a-z][a-z0-9]*", name) and name not in STARTERS]
        shown = "".join(f' "${{{name}-}}"' for name in dict.fromkeys(re.findall(r"\b([A-Z][A-Z_]*)=", text)))
        extra = "; cat" if "<<" in text or ("|" in text and "while" not in text) else ""
        bodies = {name: f'printf \'%s\\0\' {name} "$#" "$@"{shown}' + extra for name in sorted(functions)}
        bodies |= {
            name: f"{{ {bodies[name]}; }} >&9"
            for name in FETCHING
            if name in bodies and re.search(r"\b(sh|bash|source)\b", text)
        }
        preamble = ["exec 9>&1", *(f"{name}() {{ {body}; }}" for name, body in bodies.items())]
        preamble.append("echo() { printf '%s\\0' echo \"$#\" \"$@\"; printf '\\n'; }")
        parts = [
            f"(cd {n} && X=$V{n} && export X\n{text}\n) 2>/dev/null\nprintf '\\0<%s>\\0' {n}"
            for n, _ in enumerate(values)
        ]
        with tempfile.TemporaryDirectory(dir=self.folder) as work:
            for number, _ in enumerate(values):
                os.mkdir(os.path.join(work, str(number)))
            script = os.path.join(work, "script")
            Path(script).write_bytes(os.fsencode("\n".join([*preamble, *parts])))
            environ = {f"V{n}": value for n, value in enumerate(values)}
            path = f"{self.bin}:{os.environ['PATH']}"
            base = {"PATH": path, "HOME": "/nowhere/home", "LC_ALL": "C.UTF-8", "SHELL": "/bin/sh"}
            base["C"] = str(self.canary)
            options = ["-O", "extglob"] if "extglob" in text else []
            process = subprocess.Popen(
                [shell, *options, script], cwd=work, env={**base, **environ}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
            try:
                out, err = process.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{shell} does not come to an end with {text!r}") from None
            finally:
                with suppress(ProcessLookupError):  # what a script has left in the background
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        printed = re.split(rb"\0<\d+>\0", out)
        if len(printed) != len(values) + 1:
            raise AssertionError(f"{shell} did not get to the end of {text!r}: {err[:300]!r}")
        return printed[:-1]

    def executed(self) -> bool:
        """Whether a value was executed since the last call."""
        if not self.canary.exists():
            return False
        self.canary.unlink()
        return True


def mistakes(stage: Stage, template: Template, text: str, shell: str, values: Sequence[str]) -> Iterator[str]:
    """What is wrong when the rewritten script runs with each of the values."""
    where = f"{template.where} in {shell}: {template.text.replace(SITE, '§')!r}"
    try:
        printed = stage.run(text, shell, [TOKEN, *values])
    except AssertionError as error:
        yield f"{where}: {error}"
        return
    if stage.executed():
        yield f"{where}: a value was executed"
    elif not template.loose:
        right = printed[0]
        if TOKEN.encode() not in right:
            yield f"{where}: the value does not arrive: {right!r}"
        for value, got in zip(values, printed[1:], strict=True):
            wanted = right.replace(TOKEN.encode(), value.encode())
            if got != wanted:
                yield f"{where}: {value!r} gives {got!r} instead of {wanted!r}"
                return


def installed(shell: str) -> bool:
    """Whether there is such a shell here."""
    return shutil.which(shell) is not None
