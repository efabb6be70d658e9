"""Every kind of mistaken file has its exact message: `tests/data/bad/<file>` and, next to it, `<file>.txt`.

`⟨…⟩` in a message stands for words of Python or of a library, which differ from version to version.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lightflow.errors import SHOWN, Problem, WorkflowError
from lightflow.parser.files import read_source
from lightflow.parser.normalize import normalize
from lightflow.parser.schema import normalized_schema
from lightflow.parser.schema_validator import Validator
from lightflow.parser.workflow_loader import load_workflow, loads_workflow
from lightflow.plugins.registry import Registry

BAD = Path(__file__).parents[1] / "data" / "bad"
#: The keywords of the schema that can refuse a value.
KEYWORDS = {
    *("type", "enum", "pattern", "minLength", "minItems", "minProperties", "minimum", "exclusiveMinimum", "maximum"),
    *("required", "dependentRequired", "additionalProperties", "propertyNames", "oneOf", "not"),
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
    schema = normalized_schema(Registry().described())
    shown: set[str] = set()
    for name in FILES:
        try:
            tree = normalize(read_source(BAD / name), schema, Registry())
        except WorkflowError:
            continue  # not YAML
        shown |= {error.keyword for error in Validator(schema).errors(tree.root)}
    assert shown == KEYWORDS


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
