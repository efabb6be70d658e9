"""Scripts of every kind with hostile values: none is executed, none is split, and only what is listed is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lightflow.expressions.shell.reasons import Kind
from lightflow.expressions.shell.rewrite import SITE, UnsafeExpression, text_to_parse
from lightflow.expressions.shell.syntax import Scripts
from tests.integration.shell_templates import (
    SHELLS,
    VALUES,
    Stage,
    installed,
    mistakes,
    rewritten,
    scripts,
    templates,
)


def test_there_are_enough_templates_and_values() -> None:
    assert len({template.text for template in templates()}) >= 800
    assert len(set(VALUES)) >= 20


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_refused_for_the_reason_that_is_written_and_for_no_other(shell: str) -> None:
    wrong = []
    for template in templates():
        if shell in template.shells:
            try:
                rewritten(template.text, shell, scripts())
            except UnsafeExpression as error:
                message = str(error.objections[error.site].kind)
            else:
                message = ""
            if message != template.reason:
                what = f"{message or 'accepted'}, not {template.reason or 'accepted'}"
                wrong.append(f"{template.where}: {what}: {template.text.replace(SITE, '§')!r}")
    assert not wrong, "\n".join(wrong)


def test_each_reason_is_in_the_table_of_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "howto" / "parameters-and-expressions.md").read_text("utf-8")
    table = text[text.index("| Reason | Refused | Instead |") : text.index("### Limits of the check")]
    names = [name for row in re.findall(r"^\| (`[^|]*) \|", table, re.M) for name in re.findall("`([^`]+)`", row)]
    assert sorted(names) == sorted(Kind)
    assert set(Kind) == {Kind(template.reason) for template in templates() if template.reason}


#: What a script (in place of `…`) may stand in.
AROUND = [
    "( …\n)", "{ …\n}", "f_() {\n…\n}\nf_", "f_() (\n…\n)\nf_ a", "if true; then\n…\nfi",
    "if false; then :; else\n…\nfi", "for q in 1; do\n…\ndone", "while :; do\n…\nbreak; done",
    "case a in a)\n…\n;; esac", "x_=$(\n…\n)", 'x_="a $(\n…\n)"', "true && {\n…\n}", "true | {\n…\n}",
    "{\n…\n} | cat", "{\n…\n} > /dev/null 2>&1", "! {\n…\n}", "{\n…\n} &", "cat <<Q_\n$(\n…\n)\nQ_",
    'echo "${u_:-$(\n…\n)}"', "for q in $(\n…\n); do :; done",
]  # fmt: skip


def test_text_around_a_script_changes_nothing() -> None:
    scripts_around = [
        (around.replace("…", template.text), template)
        for number, around in enumerate(AROUND)
        for template in templates()[number % 7 :: 7]
        if template.reason != Kind.SYNTAX and "alias" not in template.text
    ]
    trees, wrong = Scripts([text_to_parse(text) for text, _ in scripts_around]), []
    for text, template in scripts_around:
        try:
            rewritten(text, template.shells[-1], trees)
        except UnsafeExpression:
            if not template.reason:
                wrong.append(f"refused: {text!r}")
        else:
            if template.reason:
                wrong.append(f"accepted: {text!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.timeout(600)
def test_no_value_is_executed_or_split(shell: str, tmp_path: Path, quick: Callable[[int, int], int]) -> None:
    """Every template meets every sixth value, every value meets every sixth template, the two shells differ."""
    if not installed(shell):
        pytest.skip(f"there is no {shell}")
    stage, wrong, step = Stage(tmp_path), [], quick(6, 1)
    for number, template in enumerate(templates()):
        if shell in template.shells and not template.reason:
            values = VALUES[(number + 3 * SHELLS.index(shell)) % step :: step]
            wrong += mistakes(stage, template, rewritten(template.text, shell, scripts()), shell, values)
    assert not wrong, "\n".join(wrong)


#: Reasons for which a script is refused because the value would be evaluated.
EVALUATED = (Kind.ARITHMETIC, Kind.EVALUATED, Kind.SCRIPT, Kind.INPUT, Kind.REMOTE, Kind.FORWARDED)


def test_what_is_refused_would_be_executed(tmp_path: Path) -> None:
    """The stage sees what it is there for: said to be numbers, the values are let through, and run."""
    stage, ran, tried = Stage(tmp_path), 0, 0
    for template in templates()[::7]:
        if template.reason in EVALUATED and "bash" in template.shells:
            stage.run(rewritten(template.text, "bash", scripts(), number=True), "bash", VALUES)
            tried, ran = tried + 1, ran + stage.executed()
    assert ran >= tried * 0.6, f"{ran} of {tried}"
