"""Words of other tools: each has an answer with keys that exist, and only typing errors have a suggestion."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lightflow import other_tools
from lightflow.errors import WorkflowError
from lightflow.expressions.filters import FILTERS
from lightflow.other_tools import KEYS, NAMES, TYPES, VALUES, key_answer, with_examples
from lightflow.parser.schema import TOP, aliases_of
from lightflow.parser.subjects.control_flow import PRECONDITION
from lightflow.parser.subjects.environment import SECRET
from lightflow.parser.subjects.fan_out import FOREACH, MATRIX, STRATEGY
from lightflow.parser.subjects.limits import CONCURRENCY
from lightflow.parser.subjects.params import PARAM
from lightflow.parser.subjects.retries import RETRY, RUN_RETRY
from lightflow.parser.subjects.settings import SETTINGS
from lightflow.parser.subjects.tasks import COMMON
from lightflow.parser.workflow_loader import loads_workflow
from lightflow.plugins.registry import BUILT_IN, Registry
from lightflow.spelling import typo_hint

_OWN = {
    key: part
    for info in Registry().described()  # a key of another type may be a foreign word in a shell task
    for key, part in (info.schema or {}).get("properties", {}).items()
    if key != "environment"  # of Python tasks; elsewhere it is the word of other tools for `env`
}
_OF_TYPES = {key for info in Registry().use(BUILT_IN).described() for key in (info.schema or {}).get("properties", ())}
#: What is a key at each level.
KNOWN: dict[str, dict[str, Any]] = {
    "top": TOP,
    "task": {**COMMON, **_OWN},
    "hook": _OWN,
    "precondition": PRECONDITION["properties"],
    "retry": {**RETRY["properties"]},
    "settings": SETTINGS["properties"],
    "fan": {**MATRIX["properties"], **FOREACH["properties"], **STRATEGY["properties"]},
    "concurrency": CONCURRENCY["properties"],
    "param": PARAM["properties"],
    "secret": SECRET["properties"],
}
ALL_KEYS = {
    *(key for keys in KNOWN.values() for key in (*keys, *aliases_of(keys))),
    *RUN_RETRY["properties"],
    *("id", "x-all", "slots"),
    *_OF_TYPES,
}
EVERY = [(level, word) for one in KEYS for level in one.levels.split() for word in one.words.split()]


#: Words that are reported as they stand; of an alias only other spellings are, such as `maxActiveRuns`.
TOLD = [(at, word) for at, word in EVERY if at in ("top", "task") and word not in aliases_of(KNOWN[at])]


def test_there_are_many_words() -> None:
    assert len(EVERY) > 150


def test_each_word_has_one_answer_at_each_level() -> None:
    assert len(set(EVERY)) == len(EVERY)


@pytest.mark.parametrize("level", KNOWN)
def test_our_keys_are_not_words_of_other_tools(level: str) -> None:
    assert {word for at, word in EVERY if at == level} & set(KNOWN[level]) == set()


def test_answers_name_keys_that_exist() -> None:
    for one in (*KEYS, *TYPES):
        for key in re.findall(r"[`{]([a-z_]+): ", with_examples(one.answer)):
            assert key in {*ALL_KEYS, "title", "cpu", "days", "os", "gpu", "name"} or key.isupper() or "http" in key, (
                one
            )


def test_values_are_replaced_by_values_that_exist() -> None:
    options = {
        "trigger_rule": COMMON["trigger_rule"]["enum"],
        "mode": COMMON["mode"]["examples"],
        "output": _OWN["output"]["enum"],
        "on_conflict": CONCURRENCY["properties"]["on_conflict"]["enum"],
        "on_fail": PRECONDITION["properties"]["on_fail"]["enum"],
        "resume": SETTINGS["properties"]["resume"]["enum"],
        "from": SECRET["properties"]["from"]["enum"],
        "type": PARAM["properties"]["type"]["enum"],
    }
    for key, words in VALUES.items():
        assert set(words.values()) <= set(options[key])
        assert not set(words) & set(options[key])


def test_functions_are_replaced_by_filters_that_exist() -> None:
    for one in other_tools.FUNCTIONS:
        for name in one.words.split() if "{name}" in one.answer else re.findall(r"\| (\w+)", one.answer):
            assert name in FILTERS, name


@pytest.mark.parametrize(("level", "word"), TOLD)
def test_each_word_has_its_answer_in_a_file(level: str, word: str) -> None:
    line = f"{word}: 7\n"
    text = f"{line if level == 'top' else ''}tasks:\n  a:\n    run: echo\n{'    ' + line if level == 'task' else ''}"
    if word == "jobs" and level == "top":
        text = "jobs:\n  a: {run: echo}\n"
    with pytest.raises(WorkflowError) as caught:
        loads_workflow(text, "w.yaml")
    [problem] = caught.value.problems
    assert problem.message == f'unknown key "{word}"; {key_answer(word, [] if level == "top" else ["tasks", "a"], 7)}'
    assert "did you mean" not in problem.message


@pytest.mark.parametrize("word", ["timeout-minutes", "timeoutMinutes", "timeout_minutes"])
def test_spellings_of_a_word_have_one_answer(word: str) -> None:
    assert key_answer(word, ["tasks", "a"], 5) == "write `timeout: 5m` (a number alone is seconds)"


@pytest.mark.parametrize(
    ("word", "value", "expected_message"),
    [
        ("timeout-minutes", 5, "timeout: 5m"),
        ("timeout-minutes", "${{ params.x }}", "timeout: 5m"),
        ("timeout-minutes", {"a": 1}, "timeout: 5m"),
        ("timeoutSec", 90, "timeout: 90"),
        ("attempts", 3, "retries: 2"),
        ("image", "python:3.12", "container: python:3.12"),
        ("image", "a\nb", "container: IMAGE"),
        ("stdout", "out.log", "COMMAND > out.log"),
    ],
)
def test_an_answer_has_the_value_of_the_file(word: str, value: object, expected_message: str) -> None:
    assert expected_message in key_answer(word, ["tasks", "a"], value)


@pytest.mark.parametrize("word", ["services", "tags", "stdout", "depends_on_past", "steps", "limit", "on"])
def test_words_that_only_resemble_have_no_hint(word: str) -> None:
    assert typo_hint(word, [*COMMON, *_OWN]) == ""


@pytest.mark.parametrize(
    "word",
    ["retry_delay_ms", "retry-delay-min", "retryDelayMs", "kill_grace_ms", "max_retry_delay_h", "kill_grace_min"],
)
def test_another_unit_of_time_is_not_a_typing_error(word: str) -> None:
    assert typo_hint(word, [*COMMON, *_OWN]) == ""


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("retires", "retries"),
        ("depend_on", "depends_on"),
        ("dependsOn", "depends_on"),
        ("rnu", "run"),
        ("trigger-rule", "trigger_rule"),
        ("contiue_on_error", "continue_on_error"),
    ],
)
def test_a_typing_error_has_a_hint(word: str, meant: str) -> None:
    assert typo_hint(word, [*COMMON, *_OWN]) == f', did you mean "{meant}"?'


def test_a_typing_error_in_a_word_of_another_tool_has_its_answer() -> None:
    with pytest.raises(WorkflowError, match="while `lightflow serve` runs"):
        loads_workflow("timetabel: x\ntasks: {a: {run: echo}}")


@pytest.mark.parametrize("name", [word for one in NAMES for word in one.words.split()])
def test_each_name_in_an_expression_has_its_answer(name: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        loads_workflow("tasks: {a: {run: 'echo ${{ " + name + ".x }}'}}")
    assert other_tools.name_answer(name, "x") in str(caught.value)


@pytest.mark.parametrize("name", [word for one in other_tools.FUNCTIONS for word in one.words.split()])
def test_each_function_in_an_expression_has_its_answer(name: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        loads_workflow('params: {a: b}\ntasks: {a: {run: x, if: "' + name + "(params.a, 'x,y')\"}}")
    assert other_tools.function_answer(name, ["params.a", "'x,y'"]) in str(caught.value)


@pytest.mark.parametrize("sign", other_tools.OPERATORS)
def test_each_sign_in_an_expression_has_its_answer(sign: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        loads_workflow("params: {a: b}\ntasks: {a: {run: x, if: \"'&& ! ||' == params.a " + sign + " 'x'\"}}")
    assert f"{sign} is not known in expressions: {other_tools.OPERATORS[sign]}" in str(caught.value)


@pytest.mark.parametrize(
    ("condition", "expected_message"),
    [
        ("params.a.contains('x')", "values have no method 'contains'; write 'x' in the value"),
        ("params.a.toLowerCase() == 'x'", "values have no method 'toLowerCase'; write | lower"),
        ("params.a.startsWith('x')", "values have no method 'startsWith'; write .startswith('x')"),
        ("params.a.strp()", "values have no method 'strp', did you mean \"strip\"?"),
        ("params.a.foobar()", "values have no method 'foobar'"),
    ],
)
def test_methods_of_other_languages(condition: str, expected_message: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        loads_workflow('params: {a: b}\ntasks: {a: {run: x, if: "' + condition + '"}}')
    assert str(caught.value).endswith(expected_message)


@pytest.mark.parametrize("condition", ["params.a.startswith('b')", "params.a.upper() == 'B'", "params.m.get('x') == 1"])
def test_methods_that_exist(condition: str) -> None:
    loads_workflow('params: {a: b, m: {default: {x: 1}}}\ntasks: {a: {run: x, if: "' + condition + '"}}')
