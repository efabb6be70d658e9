"""Load what a run takes from outside its workflow file when it starts: dotenv files and secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from lightflow.errors import Problem, WorkflowError
from lightflow.spec.model import EnvFile, WorkflowSpec
from liteflow import DotenvError, SecretError
from liteflow.api import EMPTY_MAPPING, Record, replace
from liteflow.values.secrets import Secrets, fetch


class ExternalInputs(Record):
    """The variables of dotenv files, and the secrets, of one run."""

    dotenv: Mapping[str, str] = EMPTY_MAPPING  #: of the workflow's dotenv files
    task_dotenv: Mapping[str, Mapping[str, str]] = EMPTY_MAPPING  #: of the tasks' own dotenv files, by task
    secrets: Secrets | None = None

    def masked(self, error: WorkflowError) -> WorkflowError:
        """Return the error with secrets masked: its messages may quote the values of expressions."""
        if self.secrets is None:
            return error
        text = self.secrets.masker.text
        return WorkflowError([replace(problem, message=text(problem.message)) for problem in error.problems])


NO_INPUTS = ExternalInputs()


def load_external_inputs(spec: WorkflowSpec) -> ExternalInputs:
    """Read the dotenv files, then fetch the secrets.

    Raises:
        WorkflowError: with all missing or invalid inputs, each with its place in the workflow file.
    """
    if not spec.secrets and not spec.dotenv and not any(task.dotenv for task in spec.tasks.values()):
        return NO_INPUTS
    problems: list[Problem] = []
    files: dict[str, dict[str, str]] = {}
    dotenv = _variables(spec.dotenv, files, problems)
    task_dotenv = {task.id: _variables(task.dotenv, files, problems) for task in spec.tasks.values() if task.dotenv}
    if problems:  # before a command of a secret runs without the variables of a missing file
        raise WorkflowError(list(dict.fromkeys(problems)))
    try:
        secrets = fetch(
            {name: declared.secret for name, declared in spec.secrets.items()}, None, {**os.environ, **dotenv}
        )
    except SecretError as error:
        raise WorkflowError(
            [spec.secrets[name].location.problem(message) for name, message in error.problems.items()]
        ) from None
    return ExternalInputs(dotenv=dotenv, task_dotenv=task_dotenv, secrets=secrets)


def _variables(files: Sequence[EnvFile], read: dict[str, dict[str, str]], problems: list[Problem]) -> dict[str, str]:
    """Return the variables of some files; later files override earlier ones. `read` caches the content of each file."""
    values: dict[str, str] = {}
    for file in files:
        if file.path not in read:
            read[file.path] = {}
            if os.path.exists(file.path):
                _read(file, read[file.path], problems)
            elif file.required:
                hint = "the path starts from the workflow file's folder"
                problems.append(file.location.problem(f"no such file: {file.written}; {hint}"))
        values |= read[file.path]
    return values


def _read(file: EnvFile, values: dict[str, str], problems: list[Problem]) -> None:
    from liteflow import read_dotenv

    try:
        values |= read_dotenv(file.path)
    except DotenvError as error:
        shown = os.path.relpath(file.path) if not os.path.isabs(file.written) else file.path
        problems += [Problem(shown, line, 1 if line else 0, "", message) for line, message in error.problems]
