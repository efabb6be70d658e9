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
    included_dotenv: Mapping[str, Mapping[str, str]] = EMPTY_MAPPING  #: of those of included files, by group
    task_dotenv: Mapping[str, Mapping[str, str]] = EMPTY_MAPPING  #: of the tasks' own dotenv files, by task
    secrets: Secrets | None = None

    @property
    def has_variables(self) -> bool:
        """Whether any task has variables of a dotenv file."""
        return bool(self.dotenv or self.included_dotenv or self.task_dotenv)

    def dotenv_of(self, included: str) -> Mapping[str, str]:
        """Return the variables of all tasks of a file, given the group that stands for it, if it is included."""
        return self.included_dotenv.get(included, EMPTY_MAPPING) if included else self.dotenv

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
    has_files = any(file.dotenv for file in spec.includes.values()) or any(task.dotenv for task in spec.tasks.values())
    if not spec.secrets and not spec.dotenv and not has_files:
        return NO_INPUTS
    problems: list[Problem] = []
    files: dict[str, dict[str, str]] = {}
    dotenv = _variables(spec.dotenv, files, problems)
    included = {
        group: _variables(include.dotenv, files, problems) for group, include in spec.includes.items() if include.dotenv
    }
    task_dotenv = {task.id: _variables(task.dotenv, files, problems) for task in spec.tasks.values() if task.dotenv}
    if problems:  # before a command of a secret runs without the variables of a missing file
        raise WorkflowError(list(dict.fromkeys(problems)))
    inputs = ExternalInputs(dotenv=dotenv, included_dotenv=included, task_dotenv=task_dotenv)
    return replace(inputs, secrets=_secrets(spec, inputs))


def _secrets(spec: WorkflowSpec, inputs: ExternalInputs) -> Secrets | None:
    """Fetch the secrets, with the variables of the dotenv files of the file that declares them.

    Raises:
        WorkflowError: with all that cannot be fetched.
    """
    values: dict[str, str] = {}
    problems: dict[str, str] = {}
    for group in dict.fromkeys(declared.included for declared in spec.secrets.values()):
        declared = {name: each.secret for name, each in spec.secrets.items() if each.included == group}
        try:
            values |= fetch(declared, None, {**os.environ, **inputs.dotenv_of(group)}) or {}
        except SecretError as error:
            problems |= error.problems
    if problems:
        raise WorkflowError([spec.secrets[name].location.problem(message) for name, message in problems.items()])
    return Secrets(values) if values else None


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
