"""Values reach a script byte for byte, as one word, wherever the expression stands: in sh (dash) and in bash.

Each template is put into a script once for every hostile value; one shell runs them all. `p` prints its arguments, and
they must be exactly those that the template says, and no value may have run anything.
"""

# ruff: noqa: E501 - tables

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightflow.expressions.shell.rewrite import SITE, Site, UnsafeExpression, rewrite
from lightflow.expressions.template import Part, UnclosedExpression, split

#: One name for each program: on Debian, `sh` is dash.
SHELLS = list(
    {Path(path).resolve(): shell for shell in ("sh", "dash", "bash") if (path := shutil.which(shell))}.values()
)
P = 'p() { printf \'%s\\0\' "$#" "$@"; }\n'


class Template(NamedTuple):
    """A script with `${{ x }}`, and the arguments that `p` must be given for a value, call after call."""

    text: str
    expected: Callable[[str], list[list[str]]]
    bash: bool = False  # not in other shells


def one(text: str, expected: Callable[[str], str] = lambda value: value, *, bash: bool = False) -> Template:
    return Template(text, lambda value: [[expected(value)]], bash)


def stripped(value: str) -> str:
    """As a command substitution gives it."""
    return value.rstrip("\n")


TEMPLATES = [
    # plain
    one("p ${{ x }}"),
    one("p a${{ x }}b", lambda v: f"a{v}b"),
    one("p ${{ x }}${{ x }}", lambda v: v + v),
    Template("p 1 ${{ x }} 2", lambda v: [["1", v, "2"]]),
    Template("p ${{ x }} ${{ x }}", lambda v: [[v, v]]),
    one('p ""${{ x }}'),
    one("p --name=${{ x }}", lambda v: f"--name={v}"),
    one("p \\\n  ${{ x }}"),
    one("p a\\ ${{ x }}", lambda v: f"a {v}"),
    one("p \\\\${{ x }}", lambda v: f"\\{v}"),
    one("v=1; p $v${{ x }}", lambda v: f"1{v}"),
    one("p ${{ x }}$#", lambda v: f"{v}0"),
    one("v=; p ${v}${{ x }}"),
    # double quotes
    one('p "${{ x }}"'),
    one('p "a ${{ x }} b"', lambda v: f"a {v} b"),
    one('p "it\'s ${{ x }}"', lambda v: f"it's {v}"),
    one('p "\\"${{ x }}\\""', lambda v: f'"{v}"'),
    one('p "a\\\\${{ x }}"', lambda v: f"a\\{v}"),
    one('p "\\$${{ x }}"', lambda v: f"${v}"),
    one('p "${{ x }}"\'b\'"${{ x }}"', lambda v: f"{v}b{v}"),
    one('p "#${{ x }}"', lambda v: f"#{v}"),
    # single quotes
    one("p '${{ x }}'"),
    one("p 'a ${{ x }} b'", lambda v: f"a {v} b"),
    one("p 'say \"${{ x }}\"'", lambda v: f'say "{v}"'),
    one("p '$HOME `ls` ${{ x }}'", lambda v: f"$HOME `ls` {v}"),
    one("p 'a\\${{ x }}'", lambda v: f"a\\{v}"),
    # substitutions
    one('p "$(printf %s ${{ x }})"', stripped),
    one('p "$(printf %s "${{ x }}")"', stripped),
    one("p \"$(printf %s 'a ${{ x }}')\"", lambda v: stripped(f"a {v}")),
    one('p "$(printf %s "$(printf %s "${{ x }}")")"', stripped),
    one('p "`printf %s ${{ x }}`"', stripped),
    one("p \"`printf %s 'a ${{ x }}'`\"", lambda v: stripped(f"a {v}")),
    one("v=`printf %s \\`printf a\\` ${{ x }}`; p \"$v\"", lambda v: stripped(f"a{v}")),
    one("p \"$(printf %s ${{ x }}; # it's ) ${{ x }}\n)\"", stripped),
    one('p "$( (printf %s ${{ x }}) )"', stripped),
    one('p "$(case a in a) printf %s ${{ x }};; (b) :;; esac)"', stripped),
    # here-documents
    one('p "$(cat <<E\n${{ x }}\nE\n)"', stripped),
    one('p "$(cat <<-E\n\ta ${{ x }} b\n\tE\n)"', lambda v: f"a {v} b"),
    one('p "$(cat <<E\n"${{ x }}" it\'s\nE\n)"', lambda v: f"\"{v}\" it's"),
    one('p "$(cat <<E\n$(printf %s "${{ x }}")|\nE\n)"', lambda v: f"{stripped(v)}|"),
    one("p \"$(cat <<'A' <<E\n$x `\nA\n${{ x }}|\nE\n)\"", lambda v: f"{v}|"),
    # assignments, cases, loops, tests, redirections
    one('v=${{ x }}; p "$v"'),
    one('v=a"${{ x }}"\'${{ x }}\'; p "$v"', lambda v: f"a{v}{v}"),
    one('export V=${{ x }}; p "$V"'),
    one("V=${{ x }} sh -c 'printf \"1\\0%s\\0\" \"$V\"'"),
    Template('for i in ${{ x }} b; do p "$i"; done', lambda v: [[v], ["b"]]),
    one("case ${{ x }} in ${{ x }}) p yes;; *) p no;; esac", lambda v: "yes"),
    one('case "-${{ x }}" in -"${{ x }}") p yes;; *) p no;; esac', lambda v: "yes"),
    one("case ab in a?|${{ x }}b) p ${{ x }};; esac"),
    one("if [ ${{ x }} = '${{ x }}' ]; then p ${{ x }}; fi"),
    one("f() { p \"$1\"; }; f ${{ x }}"),
    one("set -- ${{ x }}; p \"$@\""),
    one("(p ${{ x }})"),
    one("{ p ${{ x }}; } 2>&1"),
    one("! false && p ${{ x }} || p no"),
    one("while true; do p ${{ x }}; break; done"),
    one("p ${{ x }} # and '${{ x }}"),
    one("# it's \"${{ x }}\np ${{ x }}"),
    one("sh -c 'printf \"1\\0%s\\0\" \"$1\"' sh ${{ x }}"),
    one("p ${{ x }} >&1"),
    # parameters
    one("unset -v u; p ${u:-${{ x }}}"),
    one('unset -v u; p "${u:-${{ x }}}"'),
    one('unset -v u; p "a ${u-b ${{ x }}}"', lambda v: f"a b {v}"),
    one('u=1; p "${u:+${{ x }}}"'),
    one("u=1; p ${u:+a ${{ x }}b}".replace("a ", "a"), lambda v: f"a{v}b"),
    one('unset -v u; : "${u:=${{ x }}}"; p "$u"'),
    one("u=a${{ x }}; p \"${u%${{ x }}}\"", lambda v: "a"),
    one("u=${{ x }}a; p \"${u#${{ x }}}\"", lambda v: "a"),
    # bash
    one("v=$(cat <<< ${{ x }}); p \"$v\"", stripped, bash=True),
    one("v=$(cat <(printf %s ${{ x }})); p \"$v\"", stripped, bash=True),
    one('a=(1 ${{ x }}); p "${a[1]}"', bash=True),
    one("[[ ${{ x }} == ${{ x }} && -z '' ]] && p ${{ x }}", bash=True),
    one('[[ a${{ x }} =~ ^"a${{ x }}"$ ]] && p ${{ x }}', bash=True),
    one("p $'a\\'b'${{ x }}", lambda v: f"a'b{v}", bash=True),
    one('declare v=${{ x }}; p "$v"', bash=True),
    one('printf -v v %s ${{ x }}; p "$v"', bash=True),
]  # fmt: skip

VALUES = [
    "", " ", "a", "a b", "  a  b  ", "\t", "\n", "a\nb", "\n\na", "a\n", "a\n\n", "\r\n",
    "'", '"', "`", "\\", "\\\\", "''", '""', "a'b", 'a"b', "a\\", "\\'", '\\"', "\\n", "'\"'\"'",
    "$(touch pwned)", "`touch pwned`", "${HOME}", "$HOME", "$", "$$", "$1", "$@", "$((1+1))", "$'a'",
    "'; touch pwned; '", '"; touch pwned; "', "; touch pwned", "& touch pwned &", "| touch pwned", "|| touch pwned",
    "\ntouch pwned\n", "'$(touch pwned)'", '"$(touch pwned)"', "\"`touch pwned`\"", ") touch pwned; (", "}; touch pwned",
    "a[$(touch pwned)]", "x[`touch pwned`]=1", "$[$(touch pwned)]", "<(touch pwned)", "> pwned", ">> pwned", "<<E\nE\n",
    "E", "\nE\ntouch pwned\n", "\tE\n", ";;", "esac", ") ;; *) touch pwned", "done", "fi", "}", "{", ")", "(", "))", "]]",
    "*", "?", "[a-z]*", "*.txt", "~", "~root", "{a,b}", "!", "!!", "#", "# a", "-n", "--", "-e", "=", "a=b", "%s%n", "\\0",
    "é", "āĂ\u0108", "\u0081\u0088", "日本語", "😀", "\x01", "\x01\x02\x7f", "a\x7fb", "\x1b[31m", "\udcff\udc80", "\udc81\udc88",
    "a" * 5000, "${LIGHTFLOW_EXPR_1}", "${{ params.x }}", "\x0b\x0c", "; exit 3", "\0"[:0] + "&&", "<", ">", "&", "|",
]  # fmt: skip


def test_there_are_enough() -> None:
    assert len([one for one in TEMPLATES if not one.bash]) >= 40
    assert len(set(VALUES)) >= 60


def rewritten(text: str, variable: str, shell: str) -> str:
    parts = split(text)
    sites = [Site(variable) for part in parts if isinstance(part, Part)]
    return rewrite("".join(SITE if isinstance(part, Part) else part for part in parts), sites, shell)


def pasted(text: str, value: str) -> str:
    return "".join(value if isinstance(part, Part) else part for part in split(text))


def arguments(output: bytes) -> list[list[bytes]]:
    """The arguments of each call of `p`."""
    words, calls = output.split(b"\0")[:-1], []
    while words:
        count = int(words.pop(0))
        calls.append(words[:count])
        words = words[count:]
    return calls


def run(shell: str, script: str, environ: dict[str, str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    (folder / "a.txt").touch()  # something for a * to find
    (folder / "script").write_bytes(os.fsencode(P + script))
    base = {"PATH": os.environ["PATH"], "HOME": "/nowhere/home", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [shell, "script"], cwd=folder, env={**base, **environ}, capture_output=True, timeout=60, check=False
    )


def mistakes(shell: str, template: Template, values: Sequence[str], folder: Path) -> list[str]:
    """The values that came out wrong."""
    environ = {f"V{number}": value for number, value in enumerate(values)}
    text = rewritten(template.text, "THE_VALUE", shell)  # it is parsed once: only the name of the variable differs
    lines = [f"printf '1\\0begin\\0'\n{text.replace('THE_VALUE', f'V{number}')}" for number in range(len(values))]
    done = run(shell, "\n".join(lines), environ, folder)
    assert not (folder / "pwned").exists(), f"{shell}: {template.text!r}: a value was executed"
    assert done.stderr == b"", f"{shell}: {template.text!r}: {done.stderr[:500]!r}"
    calls = arguments(done.stdout)
    result = []
    for value in values:
        assert calls.pop(0) == [b"begin"], f"{shell}: {template.text!r}: lost its place before {value!r}"
        wanted = [[os.fsencode(word) for word in call] for call in template.expected(value)]
        got = [calls.pop(0) for _ in wanted if calls]
        if got != wanted:
            result.append(f"{shell}: {template.text!r} with {value!r}: {got!r} instead of {wanted!r}")
            while calls and calls[0] != [b"begin"]:
                calls.pop(0)
    assert not calls
    return result


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: repr(template.text)[1:-1])
def test_a_value_is_one_word_and_nothing_else(template: Template, shell: str, tmp_path: Path) -> None:
    if template.bash and shell != "bash":
        pytest.skip("of bash alone")
    assert mistakes(shell, template, VALUES, tmp_path) == []


def test_pasting_is_caught(tmp_path: Path) -> None:
    """The harness sees what it is there for: with the values pasted, nearly every template goes wrong."""
    caught = 0
    for number, template in enumerate(TEMPLATES):
        for value in ("a b", "'", "$(touch pwned)", "; touch pwned", "*"):
            folder = tmp_path / f"{number}-{VALUES.index(value)}"
            folder.mkdir()
            done = run("bash", pasted(template.text, value), {}, folder)
            wanted = [[os.fsencode(word) for word in call] for call in template.expected(value)]
            try:
                right = arguments(done.stdout) == wanted
            except ValueError:
                right = False
            if not right or (folder / "pwned").exists():
                caught += 1
                break
    assert caught == len(TEMPLATES)


PIECES = st.sampled_from(
    ["p ", "${{ x }}", '"', "'", "`", "$(", ")", "(", "${u:-", "${u#", "}", "\\", "$", "\n", " ", ";", "a", "<<E\n", "E\n",
     "case a in ", "esac", ";;", "#", "|", "&", "[[ ", " ]]", "eval ", "$((", "))", "=", "~", "*", "{", "u=", "for i in ", "do ",
     "done", "if ", "then ", "fi", "<", ">", "''", '""', "$'", "[", "]", "!", "in ", "printf %s ", "echo "]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(PIECES, min_size=2, max_size=12).map("".join), st.sampled_from(["sh", "bash"]))
def test_no_value_is_executed_in_any_script(tmp_path: Path, script: str, shell: str) -> None:
    """Any script that is taken at all, well-formed or not: a value that would do harm as shell text does none."""
    if "${{ x }}" not in script:
        script += " ${{ x }}"
    value = "$(touch pwned)`touch pwned`';touch pwned;'\";touch pwned;\"\ntouch pwned\n)touch pwned\nE\ntouch pwned\n#"
    try:
        text = rewritten(script, "V", shell)
    except (UnsafeExpression, UnclosedExpression):
        return
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    base = {"PATH": os.environ["PATH"], "V": value}
    subprocess.run(
        [shell, "-c", P + text],
        cwd=folder,
        env=base,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert not (folder / "pwned").exists(), text


@settings(max_examples=100)
@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40), st.sampled_from(TEMPLATES)
)
def test_any_value_arrives(tmp_path: Path, value: str, template: Template) -> None:
    for shell in ["bash"] if template.bash else SHELLS:
        assert mistakes(shell, template, [value], tmp_path) == []
