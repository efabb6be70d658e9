"""The tree of errors: what callers may catch, and what they read."""

from __future__ import annotations

import graphlib
import pickle

import pytest

from liteflow import errors

TREE: list[tuple[type[errors.LiteflowError], tuple[type, ...], int]] = [
    (errors.DefinitionError, (errors.LiteflowError,), 2),
    (errors.CycleError, (errors.DefinitionError, graphlib.CycleError, ValueError), 2),
    (errors.DuplicateTask, (errors.DefinitionError, ValueError), 2),
    (errors.UnknownDependency, (errors.DefinitionError, ValueError), 2),
    (errors.ScriptError, (errors.DefinitionError,), 2),
    (errors.RunFailed, (errors.LiteflowError,), 1),
    (errors.ParamError, (errors.DefinitionError, ValueError), 2),
    (errors.SecretError, (errors.DefinitionError, ValueError), 2),
    (errors.DotenvError, (errors.DefinitionError, ValueError), 2),
    (errors.PayloadError, (errors.LiteflowError,), 1),
    (errors.InputError, (errors.LiteflowError,), 1),
    (errors.StoreError, (errors.LiteflowError,), 3),
    (errors.ForeignDatabase, (errors.StoreError,), 3),
    (errors.SchemaTooNew, (errors.StoreError,), 3),
    (errors.CorruptDatabase, (errors.StoreError,), 3),
    (errors.RunNotFound, (errors.StoreError,), 3),
    (errors.StaleRun, (errors.StoreError,), 4),
    (errors.RunOwned, (errors.LiteflowError,), 4),
    (errors.OwnerDied, (errors.RunOwned,), 4),
    (errors.GroupBusy, (errors.RunOwned,), 4),
    (errors.RunSkipped, (errors.LiteflowError,), 0),
    (errors.ResourceError, (errors.LiteflowError,), 5),
    (errors.LiteflowError, (Exception,), 70),
]


@pytest.mark.parametrize(("kind", "parents", "exit_code"), TREE)
def test_tree(kind: type[errors.LiteflowError], parents: tuple[type, ...], exit_code: int) -> None:
    assert all(issubclass(kind, parent) for parent in parents)
    assert kind.exit_code == exit_code


def test_no_error_is_missing_from_the_table_above() -> None:
    result = {
        entry for entry in vars(errors).values() if isinstance(entry, type) and issubclass(entry, errors.LiteflowError)
    }
    assert result == {kind for kind, _, _ in TREE}


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


def test_run_failed_survives_pickling() -> None:
    """Errors cross process borders in users' own pools."""
    error = errors.RunFailed("run x failed", {"a": "boom"})
    with pytest.raises(errors.RunFailed, match="run x failed") as caught:
        raise pickle.loads(pickle.dumps(error))
    assert caught.value.failures == {"a": "boom"}


def test_cycle_error_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(errors.CycleError(["a", "b", "a"])))
    assert again.path == ["a", "b", "a"]
    assert str(again) == str(errors.CycleError(["a", "b", "a"]))


def test_script_error_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(errors.ScriptError("flow.py", 3, "no dag")))
    assert (again.path, again.line, again.problem, str(again)) == ("flow.py", 3, "no dag", "flow.py:3: no dag")
