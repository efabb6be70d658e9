"""Comparisons in expressions: text and a number are never equal, so comparing them is a mistake."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from lightflow.errors import WorkflowError
from lightflow.expressions.language import evaluate
from lightflow.parser.workflow_loader import loads_workflow
from liteflow.errors import InputError

VALUES: dict[str, Any] = {
    "text": "10",
    "number": 10,
    "real": 3.1,
    "yes": True,
    "day": datetime.date(2026, 1, 31),
    "nothing": None,
    "many": [1, "1"],
}


@pytest.mark.parametrize("operator", ["==", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize(
    ("left", "right", "kind"),
    [
        ("text", "10", "a number"),
        ("number", "'10'", "a number"),
        ("text", "real", "a number"),
        ("text", "true", "true or false"),
        ("yes", "'true'", "true or false"),
        ("day", "'2026-01-31'", "a date"),
        ("text ~ 'x'", "number", "a number"),
    ],
)
def test_text_is_compared_with_text_only(left: str, right: str, kind: str, operator: str) -> None:
    with pytest.raises(InputError, match=f"text is compared with {kind}, which it never equals"):
        evaluate(f"{left} {operator} {right}", VALUES)


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("text == '10'", True),
        ("text | int == 10", True),
        ("number == 10 and real != 3", True),
        ("number == real", False),
        ("text == nothing or nothing == none", True),
        ("nothing == 3", False),
        ("many == '1'", False),
        ("text in many", False),
        ("'1' in many and 1 in many", True),
        ("3 not in many", True),
        ("1 < number <= 10 < 11", True),
        ("1 < number < 10 < text", False),
        ("day > ('2026-01-31' | date_add(days=-1))", True),
        ("day | date == '2026-01-31'", True),
        ("(many | select('equalto', '1') | list) == ['1']", True),
        ("'a' == 'a' if number == 10 else missing == 1", True),
    ],
)
def test_other_comparisons_are_answered(expression: str, answer: bool) -> None:
    assert evaluate(expression, VALUES) is answer


FILE = """\
env: {{NUM: "10", FLAG: "false"}}
params: {{v: "3.10", n: 3, b: false, d: {{type: date, default: today}}, o: {{type: integer, required: false}}}}
tasks: {{a: {{run: echo}}, t: {{run: 'echo ${{{{ {where} }}}}', if: "{condition}"}}}}
"""


@pytest.mark.parametrize(
    "condition",
    [
        "env.NUM == 10",
        "10 == env.NUM",
        "env.FLAG == false",
        "env['FLAG'] != true",
        "params.v == 3.10",
        "params.n == '3'",
        "params.b == 'false'",
        "params.d == '2026-01-31'",
        "env.NUM > 9",
        "1 < params.n < '4'",
        "params.b and not (env.NUM == 10)",
        "env.NUM | default('1') == 1",
        "run.attempt == '1'",
        "workflow.name == 3",
        "(params.v ~ '') == 1",
        "env.NUM | trim == 10",
    ],
)
def test_validate_finds_comparisons_that_are_wrong_in_the_file(condition: str) -> None:
    for text in (FILE.format(where="1", condition=condition), FILE.format(where=condition, condition="true")):
        with pytest.raises(WorkflowError, match="text is compared with"):
            loads_workflow(text.replace("'echo ${{ ", '"echo ${{ ').replace(" }}', if", ' }}", if'))


@pytest.mark.parametrize(
    "condition",
    ["env.NUM | int == 10", "env.FLAG == 'false'", "params.v == '3.10'", "params.o == 'x'", "tasks.a.result == 1"],
)
def test_comparisons_of_unknown_kinds_are_valid(condition: str) -> None:
    loads_workflow(FILE.format(where="1", condition=condition))
