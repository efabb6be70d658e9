"""What a run takes from outside its file when it starts: dotenv files, and secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lightflow.errors import Problem, WorkflowError
from lightflow.parser.spec import EnvFile, WorkflowSpec
from liteflow.errors import DotenvError, SecretError
from liteflow.values.secrets import Secrets, fetch


class Outside(NamedTuple):
    """The variables of the workflow's dotenv files, of the tasks' own by task, and the secrets."""

    dotenv: Mapping[str, str] = {}
    own: Mapping[str, Mapping[str, str]] = {}
    secrets: Secrets | None = None

    def masked(self, error: WorkflowError) -> WorkflowError:
        """The error without secrets: what is wrong with an expression may show its value."""
        if self.secrets is None:
            return error
        text = self.secrets.masker.text
        return WorkflowError([one._replace(message=text(one.message)) for one in error.problems])


NOTHING = Outside()


def look_outside(spec: WorkflowSpec) -> Outside:
    """Read the dotenv files, then fetch the secrets.

    Raises:
        WorkflowError: all that is missing or wrong, each with its place.
    """
    if not spec.secrets and not spec.dotenv and not any(task.dotenv for task in spec.tasks.values()):
        return NOTHING
    problems: list[Problem] = []
    read: dict[str, dict[str, str]] = {}
    dotenv = _variables(spec.dotenv, read, problems)
    own = {task.id: _variables(task.dotenv, read, problems) for task in spec.tasks.values() if task.dotenv}
    if problems:  # before a command is run, or variables are missed that stand in such a file
        raise WorkflowError(list(dict.fromkeys(problems)))
    try:
        secrets = fetch({name: one.secret for name, one in spec.secrets.items()}, None, {**os.environ, **dotenv})
    except SecretError as error:
        raise WorkflowError(
            [spec.secrets[name].at._replace(message=why) for name, why in error.problems.items()]
        ) from None
    return Outside(dotenv, own, secrets)


def _variables(files: Sequence[EnvFile], read: dict[str, dict[str, str]], problems: list[Problem]) -> dict[str, str]:
    """The variables of some files; the later ones go before. `read` has those that were read already."""
    values: dict[str, str] = {}
    for file in files:
        if file.path not in read:
            read[file.path] = {}
            if not os.path.exists(file.path):
                if file.required:
                    hint = "the path starts from the workflow file's folder"
                    problems.append(file.at._replace(message=f"no such file: {file.written}; {hint}"))
            else:
                _read(file, read[file.path], problems)
        values |= read[file.path]
    return values


def _read(file: EnvFile, values: dict[str, str], problems: list[Problem]) -> None:
    from liteflow.values.dotenv import read_dotenv  # few workflows have such files

    try:
        values |= read_dotenv(file.path)
    except DotenvError as error:
        shown = os.path.relpath(file.path) if not os.path.isabs(file.written) else file.path
        problems += [Problem(shown, line, 1 if line else 0, "", why) for line, why in error.problems]
