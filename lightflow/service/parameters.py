"""The parameters of a run: from arguments and files to checked values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lightflow.errors import Problem, WorkflowError
from liteflow import DefinitionError, Param, ParamError
from liteflow.api import EMPTY_MAPPING, Record, value_text
from liteflow.values.params import resolve, restored, stored, unknown


class ParamArguments(Record):
    """Parameters as a user types them, or as a trigger gives them."""

    words: Sequence[str] = ()  #: `name=value`
    values: Mapping[str, Any] = EMPTY_MAPPING  #: values of JSON
    changes: Sequence[str] = ()  #: as `words`, of the option --set
    file: str | None = None  #: a YAML or JSON file; words override its values
    place: str = "params.{name}"  #: where the caller gives a value, for messages


NO_ARGUMENTS: Final = ParamArguments()
#: The place of `ParamArguments` that come from a command line.
OPTION: Final = "-p {name}=…"


def parse_arguments(params: Mapping[str, Param] | None, arguments: ParamArguments, day: float) -> dict[str, Any]:
    """Return the typed values, each in the type of its parameter. `day` is the logical date of the run.

    Raises:
        WorkflowError: with all mistakes.
    """
    declared = params or {}
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    typed = (*(("-p ", word) for word in arguments.words), *(("--set params.", word) for word in arguments.changes))
    words = [(option, *word.partition("=")) for option, word in typed]
    names = [name for _, name, _, _ in words]
    if arguments.file is not None:
        values, problems = _read_file(arguments.file, declared, names, day)
    for name, value in arguments.values.items():
        message = unknown(name, declared) if params is not None and name not in declared else None
        try:
            values[name] = declared[name].value(value, day) if name in declared else value
        except ValueError as error:
            message = str(error)
        if message is not None:
            problems.append(Problem("parameters", 0, 0, f"params.{name}", message))
    for option, name, sign, text in words:
        message = None
        if not sign:
            message = f"write {option}name=value"
        elif name not in declared:
            message = unknown(name, declared)
        elif names.count(name) > 1:
            message = "is given twice"
        else:
            try:
                values[name] = declared[name].parse(text, day)
            except ValueError as error:
                message = str(error)
        if message is not None:
            problems.append(Problem(f"{option}{name}", 0, 0, "", message))
    if problems:
        raise WorkflowError(problems)
    return values


def _read_file(
    file: str, declared: Mapping[str, Param], overridden: Sequence[str], day: float
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the values of a file without the overridden ones, and all mistakes in them."""
    from lightflow.parser.files import read_sources
    from lightflow.parser.positions import PARAMS_FILE, problem_at

    values: dict[str, Any] = {}
    source = read_sources(file, PARAMS_FILE)[0]
    problems = [*source.problems, *source.positions.number_problems.values()]
    for name, value in source.tree.items():
        if name in overridden:
            continue
        message = unknown(name, declared) if name not in declared else None
        mark = source.positions.key(source.tree, name) if message else source.positions.value(source.tree, name)
        if message is None:
            try:
                values[name] = declared[name].value(value, day)
            except ValueError as error:
                message = str(error)
        if message is not None:
            problems.append(problem_at(file, mark, name, message))
    return values, problems


def new_run_values(
    params: Mapping[str, Param] | None, arguments: ParamArguments, path: str, day: float
) -> dict[str, Any]:
    """Return all values of a new run with this logical date.

    Raises:
        WorkflowError: with all mistakes and all missing values.
    """
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    try:
        values = parse_arguments(params, arguments, day)
    except WorkflowError as error:
        problems = error.problems
    invalid = {problem.path for problem in problems}  # of a file
    invalid |= {word.partition("=")[0] for word in arguments.words} | {*arguments.values} if problems else set()
    for name, param in (params or {}).items():
        if param.required and name not in values and name not in invalid:
            message = f"needs a value: {param.wanted}; give it with {arguments.place.format(name=name)}"
            problems.append(Problem(path, 0, 0, f"params.{name}", message))
    if problems:
        raise WorkflowError(problems)
    return resolve(params or {}, values, day)


def resumed_values(
    params: Mapping[str, Param] | None, arguments: ParamArguments, run_id: str, before: Mapping[str, Any], day: float
) -> dict[str, Any]:
    """Return the values of a run that is resumed: those with which it was started. `day` is its logical date.

    Raises:
        WorkflowError: a typed value is not valid.
        DefinitionError: a typed value differs, or the stored values no longer match the declarations.
    """
    typed = stored(parse_arguments(params, arguments, day))
    different = [name for name, value in typed.items() if name not in before or before[name] != value]
    if different:
        name = different[0]
        began = f"{name}={value_text(before[name])}" if name in before else f"no {name}"
        raise DefinitionError(
            f"run {run_id} was started with {began}, not {name}={value_text(typed[name])}, and a run keeps its "
            "parameters; leave it out to resume the run, or start a new one"
        )
    if params is None:
        return dict(before)
    try:
        return restored(params, before, day)
    except ParamError as error:
        raise DefinitionError(
            f"run {run_id} cannot be resumed: its stored parameters do not match the current declarations: {error}"
        ) from None


def values_text(values: Mapping[str, Any]) -> str:
    """Return `day=2026-01-31, rows=100`, short enough for a line."""
    texts = (f"{name}={value_text(value)}" for name, value in values.items())
    return ", ".join(text if len(text) <= 60 else text[:59] + "…" for text in texts)
