"""The parameters of a run: from the command line and files to checked values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from lightflow.errors import Problem, WorkflowError
from liteflow import DefinitionError, Param, ParamError
from liteflow.api import value_text
from liteflow.values.params import resolve, restored, stored, unknown


class ParamArguments(NamedTuple):
    """Parameters as a user gives them: `name=value` words, and a file whose values are taken where no word is."""

    words: Sequence[str] = ()
    file: str | None = None


NO_ARGUMENTS: Final = ParamArguments()


def read(params: Mapping[str, Param] | None, given: ParamArguments, day: float) -> dict[str, Any]:
    """The values that are given, each in its type. `day` is the one that the run is for.

    Raises:
        WorkflowError: everything that is wrong with them.
    """
    known = params or {}
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    words = [word.partition("=") for word in given.words]
    named = {name for name, _, _ in words}
    if given.file is not None:
        _read_file(given.file, known, named, values, problems, day)
    for name, sign, text in words:
        message = None
        if not sign:
            message = "write -p name=value"
        elif name not in known:
            message = unknown(name, known)
        elif sum(other == name for other, _, _ in words) > 1:
            message = "is given twice"
        else:
            try:
                values[name] = known[name].parse(text, day)
            except ValueError as error:
                message = str(error)
        if message is not None:
            problems.append(Problem(f"-p {name}", 0, 0, "", message))
    if problems:
        raise WorkflowError(problems)
    return values


def _read_file(
    file: str,
    known: Mapping[str, Param],
    named: set[str],
    values: dict[str, Any],
    problems: list[Problem],
    day: float,
) -> None:
    from lightflow.parser.files import PARAMS_FILE
    from lightflow.parser.positions import problem_at
    from lightflow.parser.source import read_source

    source = read_source(file, PARAMS_FILE)
    problems += [*source.problems, *source.positions.doubts.values()]
    for name, value in source.tree.items():
        if name in named:
            continue
        message = unknown(name, known) if name not in known else None
        mark = source.positions.key(source.tree, name) if message else source.positions.value(source.tree, name)
        if message is None:
            try:
                values[name] = known[name].value(value, day)
            except ValueError as error:
                message = str(error)
        if message is not None:
            problems.append(problem_at(file, mark, name, message))


def complete(params: Mapping[str, Param] | None, given: ParamArguments, path: str, day: float) -> dict[str, Any]:
    """All values of a new run, which is for that day.

    Raises:
        WorkflowError: everything that is wrong with them, or missing.
    """
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    try:
        values = read(params, given, day)
    except WorkflowError as error:
        problems = error.problems
    tried = {word.partition("=")[0] for word in given.words} if problems else set()
    for name, param in (params or {}).items():
        if param.required and name not in values and name not in tried and not _in_file(name, problems):
            message = f"needs a value: {param.wanted}; give it with -p {name}=…"
            problems.append(Problem(path, 0, 0, f"params.{name}", message))
    if problems:
        raise WorkflowError(problems)
    return resolve(params or {}, values, day)


def _in_file(name: str, problems: Sequence[Problem]) -> bool:
    return any(problem.path == name for problem in problems)


def kept(
    params: Mapping[str, Param] | None, given: ParamArguments, run_id: str, before: Mapping[str, Any], day: float
) -> dict[str, Any]:
    """The values of a run that is gone on with: those it was started with. `day` is the one that it is for.

    Raises:
        WorkflowError: what is given cannot be understood.
        DefinitionError: it is not what the run was started with, or that no longer fits the declarations.
    """
    wanted = stored(read(params, given, day))
    other = [name for name, value in wanted.items() if name not in before or before[name] != value]
    if other:
        name = other[0]
        began = f"{name}={value_text(before[name])}" if name in before else f"no {name}"
        raise DefinitionError(
            f"run {run_id} was started with {began}, not {name}={value_text(wanted[name])}, and a run keeps its "
            "parameters; leave it out to go on with the run, or start a new one"
        )
    if params is None:
        return dict(before)
    try:
        return restored(params, before, day)
    except ParamError as error:
        raise DefinitionError(
            f"run {run_id} cannot go on, because what it was started with does not fit the parameters of now: {error}"
        ) from None


def shown(values: Mapping[str, Any]) -> str:
    """`day=2026-01-31, rows=100`, short enough for a line."""
    texts = (f"{name}={value_text(value)}" for name, value in values.items())
    return ", ".join(text if len(text) <= 60 else text[:59] + "…" for text in texts)
