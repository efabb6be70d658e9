"""Bash syntax in scripts of sh."""

from __future__ import annotations

import pytest

from lightflow.bash_hints import bash_only
from lightflow.service.failure_hints import output_hint


@pytest.mark.parametrize(
    "script",
    [
        "[[ -f x ]] && echo",
        "if [[ $a == b ]]; then :; fi",
        "source ./x.sh",
        "true && source x",
        "a=(1 2)",
        "a+=(3)",
        'echo "${a[@]}"',
        "echo ${x//a/b}",
        "echo ${x:0:3}",
        "echo ${x^^}",
        "echo ${!x}",
        "diff <(a) <(b)",
        "cat <<< text",
        "set -o pipefail",
        "set -euo pipefail",
        "set -e -o pipefail",
        "function f { :; }",
        "echo $'a\\n'",
        "make &> log",
        "echo {1..3}",
        "declare -a x",
        "mapfile -t x",
        "let x=1",
        "for ((i = 0; i < 3; i++)); do :; done",
        "((x++))",
        "if (( x > 3 )); then :; fi",
        "while ((x)); do :; done",
    ],
)
def test_what_only_bash_understands(script: str) -> None:
    assert bash_only(script)
    assert bash_only(f"echo first\n{script}\necho last")


@pytest.mark.parametrize(
    "script",
    [
        "[ -f x ] && echo",
        "((cd x && ls) | wc -l)",
        "echo $((x + 1))",
        "let=1",
        ". ./x.sh",
        "echo '[[ a ]]' \"[[ b ]]\"",
        "bash -c '[[ -f x ]]; a=(1 2)'",
        'ssh host "[[ -f x ]]"',
        "grep 'foo$' file; grep -v '^#' \"$x\"",
        "echo ${x:-default} ${x:=y} ${x#*/} ${x%%.*} ${#x} ${x+set}",
        "# [[ a comment\necho",
        "bash <<'END'\n[[ -f x ]]\na=(1 2)\nEND\necho",
        "sed 's/(a)/b/' f | awk '{print $1}'",
        "make & wait",
        "(cd x && make) > log 2>&1",
        "f() { echo; }; f",
        "echo a{b}c {a,b}",
        "curl --data '{\"a\": [1]}' url",
        "set -eu",
    ],
)
def test_what_sh_understands_too(script: str) -> None:
    assert bash_only(script) == ""


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (127, "/bin/sh: 1: [[: not found"),
        (127, "sh: 3: source: not found"),
        (2, "/bin/sh: 1: set: Illegal option -o pipefail"),
        (2, '/bin/sh: 2: Syntax error: "(" unexpected'),
        (2, "/bin/sh: 1: Syntax error: redirection unexpected"),
        (127, "dash: 1: shopt: not found"),
        (1, "sh: [[: not found"),
    ],
)
def test_failures_of_bash_under_sh(code: int, line: str) -> None:
    assert output_hint(code, ["before", line]) == "this is bash: write `shell: bash`"


def test_a_program_that_is_not_executable() -> None:
    message = output_hint(126, ["/bin/sh: 1: ./go.sh: Permission denied"])
    assert message == "it is not executable: chmod +x ./go.sh, or `sh ./go.sh`"
    message = output_hint(126, ["bash: line 1: bin/go: Permission denied"])
    assert message == "it is not executable: chmod +x bin/go, or `sh bin/go`"
    assert output_hint(126, ["docker: permission denied"]) == ""


def test_an_expression_in_the_shells_braces() -> None:
    assert output_hint(2, ["/bin/sh: 1: Bad substitution"]).startswith("an expression is written ${{ … }}")


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        (0, ["/bin/sh: 1: [[: not found"]),
        (1, ["grep: x: No such file or directory"]),
        (2, ["my program: 1: [[: not found"]),
        (127, ["/bin/sh: 1: foo: not found"]),
        (None, []),
        (3, ["x"]),
    ],
)
def test_other_failures_get_no_hint(code: int | None, lines: list[str]) -> None:
    assert output_hint(code, lines) == ""
