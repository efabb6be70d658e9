"""Every kind of mistaken file has its exact message: `tests/data/bad/<file>` and, next to it, `<file>.txt`.

`⟨…⟩` in a message stands for words of Python or of a library, which differ from version to version.
"""

from __future__ import annotations

import ast
import contextlib
import re
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from lightflow.errors import SHOWN, Problem, WorkflowError
from lightflow.parser import subjects
from lightflow.parser.files import read_source
from lightflow.parser.normalize import normalize
from lightflow.parser.schema import normalized_schema
from lightflow.parser.schema_validator import Validator
from lightflow.parser.workflow_loader import load_workflow, loads_workflow
from lightflow.plugins.registry import BUILT_IN, Registry

BAD = Path(__file__).parents[1] / "data" / "bad"
#: The modules with the checks of the parser, one for each subject.
SUBJECTS = Path(subjects.__file__).parent
#: Reports errors of the graph of which no file is known.
SAFETY_NET = "tree.problem(['tasks'], str(error))"
#: The keywords of the schema that can refuse a value.
KEYWORDS = {
    *(
        "type",
        "enum",
        "pattern",
        "minLength",
        "minItems",
        "contains",
        "minProperties",
        "maxProperties",
        "minimum",
        "exclusiveMinimum",
        "maximum",
    ),
    *("required", "dependentRequired", "additionalProperties", "propertyNames", "oneOf", "anyOf", "not"),
}
FILES = sorted(path.name for path in BAD.iterdir() if path.suffix in (".yaml", ".json"))


def fits(said: str, expected: str) -> bool:
    return re.fullmatch(".+".join(map(re.escape, expected.split("⟨…⟩"))), said) is not None


@pytest.mark.parametrize("name", FILES)
def test_mistaken_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    with pytest.raises(WorkflowError) as caught:
        load_workflow(name)
    expected = (BAD / f"{name}.txt").read_text()
    said = f"{caught.value}\n"
    assert said == expected or fits(said, expected), said
    assert caught.value.exit_code == 2


def test_there_is_a_file_for_every_keyword_of_the_schema() -> None:
    """Each keyword has messages of its own, so a file must show them."""
    schema = normalized_schema(Registry().use(BUILT_IN).described())
    shown: set[str] = set()
    for name in FILES:
        try:
            tree = normalize(read_source(BAD / name), schema, Registry())
        except WorkflowError:
            continue  # not YAML
        shown |= {error.keyword for error in Validator(schema).errors(tree.root)}
    assert shown == KEYWORDS


def places_of_problems() -> dict[str, set[int]]:
    """Return the lines of each module of the subjects of the parser that create a problem."""
    places: dict[str, set[int]] = {}
    for path in SUBJECTS.glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        lines = {
            call.lineno
            for call in calls
            if isinstance(call.func, ast.Attribute) and call.func.attr == "problem" and ast.unparse(call) != SAFETY_NET
        }
        if lines:
            places[path.name] = lines
    return places


def test_there_is_a_file_for_every_problem_that_a_subject_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    executed: dict[str, set[int]] = {}

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        path = Path(frame.f_code.co_filename)
        if path.parent != SUBJECTS:
            return None
        executed.setdefault(path.name, set()).add(frame.f_lineno)
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        for name in FILES:
            with contextlib.suppress(WorkflowError):
                load_workflow(name)
    finally:
        sys.settrace(previous)
    missing = {name: lines - executed.get(name, set()) for name, lines in places_of_problems().items()}
    assert {name: lines for name, lines in missing.items() if lines} == {}


def test_at_most_fifty_are_shown() -> None:
    error = WorkflowError(Problem("w.yaml", line, 1, "", "wrong") for line in range(200, 0, -1))
    lines = str(error).splitlines()
    assert lines[0] == "w.yaml:1:1: wrong"
    assert lines[-1] == "… and 150 more"
    assert len(lines) == SHOWN + 1


def test_a_merged_key_is_reported_where_it_was_written() -> None:
    text = "x-d: &d\n  retries: many\ntasks:\n  a: {<<: *d, run: x}\n  b: {<<: *d, run: x}\n"
    with pytest.raises(WorkflowError) as caught:
        loads_workflow(text, "w.yaml")
    assert [(problem.line, problem.column, problem.path) for problem in caught.value.problems] == [
        (2, 12, "tasks.a.retries"),
        (2, 12, "tasks.b.retries"),
    ]


def test_a_mistake_in_a_list_of_tasks_has_the_place_of_its_item() -> None:
    with pytest.raises(WorkflowError) as caught:
        loads_workflow("steps:\n  - id: a\n    cmd: x\n    timeout_seconds: -1\n    colour: red\n", "w.yaml")
    assert str(caught.value).splitlines() == [
        "w.yaml:4:22: tasks.a.timeout: must be more than 0, not -1",
        'w.yaml:5:5: tasks.a: unknown key "colour"',
    ]
