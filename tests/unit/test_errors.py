"""The errors of the engine and of the application: callers rely on what the reference says of each."""

from __future__ import annotations

import builtins
import graphlib
import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lightflow import errors as application_errors
from liteflow import errors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "python-api.md"
Kind = type[errors.LiteflowError]


class Row(NamedTuple):
    """A row of the tables of errors."""

    bases: list[str]
    text: str
    exit_code: int


def documented() -> dict[str, Row]:
    """Return what the reference says of each error."""
    section = PAGE.read_text(encoding="utf-8").partition("\n## Errors\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \| (\d+) \|$", section, re.M)
    return {name: Row(re.findall(r"`([\w.]+)`", bases), text, int(code)) for name, bases, text, code in rows}


def classes_of(module: Any) -> list[type[Exception]]:
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == module.__name__
    ]


def class_named(name: str) -> type[Exception]:
    kind: type[Exception] = (
        graphlib.CycleError if name == "graphlib.CycleError" else vars(errors).get(name) or vars(builtins)[name]
    )
    return kind


ROWS = documented()
KINDS: list[Kind] = [kind for kind in classes_of(errors) if issubclass(kind, errors.LiteflowError)]
#: The arguments of errors with attributes; the others have a message.
ARGUMENTS: dict[type[Exception], tuple[Any, ...]] = {
    errors.CycleError: (["a", "b", "a"],),
    errors.ScriptError: ("flow.py", 3, "no dag"),
    errors.ParamError: ({"day": "is not a date", "rows": "is missing"},),
    errors.SecretError: ({"TOKEN": "there is no such variable"},),
    errors.DotenvError: (".env", [(3, "no name"), (0, "cannot be read")]),
    errors.NoStateFile: ("lightflow.db", "run a workflow first"),
    errors.RunFailed: ("run x failed", {"a": "boom"}),
    application_errors.WorkflowError: ([application_errors.Problem("w.yaml", 3, 1, "tasks.a", "is wrong")],),
}


def sample(kind: type[Exception]) -> Exception:
    return kind(*ARGUMENTS.get(kind, ("what happened",)))


def test_the_reference_has_every_error_of_the_module() -> None:
    assert set(ROWS) == {kind.__name__ for kind in KINDS}
    assert set(classes_of(errors)) - set(KINDS) == {errors.SkipTask, errors.TaskFailed}, "every error has one root"


@pytest.mark.parametrize("kind", KINDS)
def test_the_exit_code_is_that_of_the_reference(kind: Kind) -> None:
    assert kind.exit_code == ROWS[kind.__name__].exit_code


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_caught_by_the_classes_in_the_reference(kind: Kind) -> None:
    expected = [class_named(name) for name in ROWS[kind.__name__].bases]
    for base in expected:
        with pytest.raises(base):
            raise sample(kind)
    assert list(kind.__bases__) == expected, "the reference names no base class of it"


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_has_the_attributes_in_the_reference(kind: Kind) -> None:
    named = set(re.findall(r"`([a-z_]+)`", ROWS[kind.__name__].text))
    assert named == set(vars(sample(kind)))


@pytest.mark.parametrize("kind", [*KINDS, errors.SkipTask, errors.TaskFailed, *classes_of(application_errors)])
def test_an_error_survives_pickling(kind: type[Exception]) -> None:
    """Errors leave a process in the process pools of users, too."""
    error = sample(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert (again.args, vars(again)) == (error.args, vars(error))


def test_skip_task_is_not_an_error_of_the_engine() -> None:
    assert not issubclass(errors.SkipTask, errors.LiteflowError)


def test_a_cycle_names_the_tasks() -> None:
    error = errors.CycleError(["a", "b", "a"])
    assert error.path == ["a", "b", "a"]
    assert "'a' -> 'b' -> 'a'" in str(error)
    assert error.args[1] == ["a", "b", "a"]  # where graphlib's users look for it


def test_a_long_cycle_is_shortened_in_the_message_only() -> None:
    path = [f"task_{number}" for number in range(5000)] + ["task_0"]
    error = errors.CycleError(path)
    assert error.path == path
    assert len(str(error)) < 400
    assert "4990 more" in str(error)
