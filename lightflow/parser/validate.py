"""Check a tree: the schema first, then what no schema can say. All problems at once; executes nothing of the user's."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from lightflow.errors import Problem
from lightflow.parser.canonical import Tree, canonical
from lightflow.parser.fan import fan_problems
from lightflow.parser.limits import check_limits, check_time
from lightflow.parser.positions import Source
from lightflow.parser.schema import COMMON, canonical_schema
from lightflow.parser.schema_pieces import ID_PATTERN, ID_WORDS
from lightflow.parser.schema_validator import InvalidSchema, Validator, check_schema
from lightflow.parser.works import has_conditions, works
from lightflow.plugins.base import TypeInfo
from lightflow.plugins.registry import Registry, schema_fragment_problem
from lightflow.plugins.scripts import shell_problem
from lightflow.spec.model import Condition, Expressions, Found, SecretSpec
from lightflow.text import did_you_mean, quoted
from liteflow import CycleError, Param
from liteflow.api import Graph

MAX_PROBLEMS: Final = 1_000  # looked for; a file with more has one mistake made many times
_FLAT = {
    "retries": "max",
    "retry_delay": "delay",
    "retry_backoff": "backoff",
    "max_retry_delay": "max_delay",
    "retry_jitter": "jitter",
}


_LETTERS: Final = {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "o", "æ": "ae", "å": "a", "ł": "l", "đ": "d"}
_FLOW: Final = frozenset(["branch", "teardown_of", "on_failure_fail_run"])


class Checked(NamedTuple):
    """A tree that has been looked through."""

    tree: Tree
    plugins: list[str]  # absolute
    problems: list[Problem]
    params: Mapping[str, Param]
    expressions: Mapping[str, Expressions]  # by task
    secrets: Mapping[str, SecretSpec]
    conditions: Mapping[str, Condition] = {}


def validate(source: Source, registry: Registry) -> Checked:
    """Find all problems. `registry` learns the plugins' task types."""
    problems = list(source.problems)
    plugins = _plugins(source, registry, problems)
    tree = canonical(source, registry)
    problems += tree.problems
    problems += source.positions.doubts.values()
    infos = {info.name: info for info in registry.known()}
    problems += islice(_schema_problems(tree, infos), MAX_PROBLEMS)
    tasks = tree.root.get("tasks")
    params: Mapping[str, Param] = {}
    if isinstance(tree.root.get("params"), dict):
        from lightflow.parser.params import read_params

        params, wrong = read_params(tree, {one.path for one in problems})
        problems += wrong
    secrets: Mapping[str, SecretSpec] = {}
    if isinstance(tree.root.get("secrets"), dict | list):
        from lightflow.parser.environment import read_secrets

        secrets, wrong = read_secrets(tree)
        problems += wrong
    found = _expressions(tree) if "${{" in source.text or has_conditions(tree.root) else Found({}, [])
    told = {problem.path for problem in problems}
    problems += [
        problem for problem in found.problems if problem.path not in told and not _is_unknown(tree, problem.path)
    ][:MAX_PROBLEMS]
    problems += _shells(tree)
    if isinstance(tasks, dict):
        good = {task_id: task for task_id, task in tasks.items() if isinstance(task, dict)}
        for checks in (
            _names(tree, tasks),
            _types(tree, registry),
            _dependencies(tree, tasks, good, found),
            _flow(tree, good),
            _times(tree, good),
            _task_secrets(tree, good),
            fan_problems(tree, good),
            check_limits(tree, good),
            _own_checks(tree, registry),
        ):
            problems += islice(checks, MAX_PROBLEMS)
    return Checked(tree, plugins, _one_per_place(problems), params, found.tasks, secrets, found.conditions)


def _is_unknown(tree: Tree, path: str) -> bool:
    """Whether the place is in the value of a key that is reported as unknown."""
    return any(path == key or path.startswith(f"{key}.") for key in tree.unknown)


def _expressions(tree: Tree) -> Found:
    from lightflow.parser.expressions import read_expressions  # with Jinja: only for files with expressions

    return read_expressions(tree)


def _one_per_place(problems: list[Problem]) -> list[Problem]:
    """The first problem of each place: what follows from it would only repeat it in other words."""
    seen: dict[tuple[str, int, int, str], Problem] = {}
    for problem in problems:
        seen.setdefault(
            (problem.file, problem.line, problem.column, problem.path if problem.line else str(problem)), problem
        )
    return list(seen.values())


# -- plugins ------------------------------------------------------------------------------------------------------


def _plugins(source: Source, registry: Registry, problems: list[Problem]) -> list[str]:
    """Declare the types of the file's `plugins:`."""
    listed = source.tree.get("plugins")
    if not isinstance(listed, list):
        return []
    folder = os.path.dirname(os.path.abspath(source.file))
    paths: list[str] = []
    for index, name in enumerate(listed):
        if not isinstance(name, str) or not name:
            continue  # the schema says so
        path = os.path.normpath(os.path.join(folder, name))
        mark = source.positions.value(listed, index)
        here = Problem(source.file, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0, "plugins", "")
        if not name.endswith(".py"):
            problems.append(_with(here, f"{quoted(name)} is not a Python file (.py)"))
        elif not os.path.isfile(path):
            near = did_you_mean(os.path.basename(path), _python_files(os.path.dirname(path)))
            problems.append(_with(here, f"no such file: {name}{near}; the path starts from the workflow file's folder"))
        else:
            paths.append(path)
            shown = os.path.join(os.path.dirname(source.file), name)
            problems += registry.declare(path, shown)
            problems += _bad_fragments(registry, path, shown)
    return paths


def _with(problem: Problem, message: str) -> Problem:
    return Problem(problem.file, problem.line, problem.column, problem.path, message)


def _python_files(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.endswith(".py")]
    except OSError:
        return []


def _bad_fragments(registry: Registry, path: str, shown: str) -> Iterator[Problem]:
    for info in registry.known():
        if info.ref.path != path or info.schema is None:
            continue
        reason = schema_fragment_problem(info.schema, COMMON)
        if reason is None:
            try:
                check_schema(info.schema, canonical_schema([info]))
            except InvalidSchema as error:
                reason = f"not JSON Schema: {error}"
        if reason is not None:
            registry.forget(info.name)
            yield Problem(shown, info.line, 1, "", f'the schema of task type "{info.name}" cannot be used: {reason}')


def _shells(tree: Tree) -> Iterator[Problem]:
    """What is wrong with the shell of the workflow, and the two places of it."""
    settings = tree.root.get("settings")
    inner = settings.get("shell") if isinstance(settings, dict) else None
    if inner is not None and "shell" in tree.root:
        message = '"shell" and "settings.shell" mean the same; keep one of them'
        yield tree.problem(["settings", "shell"], message, key=True)
    for path, shell in ((["shell"], tree.root.get("shell")), (["settings", "shell"], inner)):
        if problem := shell_problem(shell):
            yield tree.problem(path, problem)


# -- the schema --------------------------------------------------------------------------------------------------


def _schema_problems(tree: Tree, infos: dict[str, TypeInfo]) -> Iterator[Problem]:
    schema = canonical_schema(infos.values())
    # `_names` checks the ids of tasks, and can offer one.
    del schema["properties"]["tasks"]["propertyNames"]
    root = _assumed(tree.root, infos)
    errors = Validator(schema).errors(root)
    if not errors:
        return
    from lightflow.parser.messages import problems_of  # only for files with errors

    damaged = {problem.path for problem in tree.source.problems}
    damaged |= {problem.path.rpartition(".")[0] for problem in tree.problems}
    for error in errors:
        yield from problems_of(error, tree, infos, damaged)


def _assumed(root: dict[str, Any], infos: Mapping[str, TypeInfo]) -> dict[str, Any]:
    """The tree in which an unknown task type is replaced by the known one that is certainly meant, if there is one.

    So an unknown type, which `_types` reports, does not hide the other mistakes of its task.
    """
    tasks = root.get("tasks")
    unknown = {
        task_id: task
        for task_id, task in (tasks.items() if isinstance(tasks, dict) else ())
        if isinstance(task, dict) and isinstance(task.get("type"), str) and task["type"] not in infos
    }
    if not unknown:
        return root
    from lightflow.other_tools import assumed_type

    known = list(infos)
    meant = {
        task_id: {**task, "type": assumed_type(task["type"], known) or task["type"]}
        for task_id, task in unknown.items()
    }
    return {**root, "tasks": {**root["tasks"], **meant}}


# -- what the schema cannot say ------------------------------------------------------------------------------------


def _names(tree: Tree, tasks: dict[str, Any]) -> Iterator[Problem]:
    folded: dict[str, str] = {}
    for task_id in tasks:
        if not re.fullmatch(ID_PATTERN, task_id):
            offer = id_like(task_id, tasks)
            hint = f"; for example {offer}" if offer else ""
            message = f"{quoted(task_id)} cannot be a task id: use {ID_WORDS}{hint}"
            yield tree.problem(["tasks", task_id], message, key=True)
            continue
        other = folded.setdefault(task_id.casefold(), task_id)
        if other is not task_id:
            line = tree.locate(["tasks", other], key=True).line + 1
            message = f'"{task_id}" and "{other}" (line {line}) differ only in case, and so would their log files'
            yield tree.problem(["tasks", task_id], message, key=True)


def id_like(text: str, taken: Container[str]) -> str:
    """An id that resembles the text and is not taken; nothing where there is none."""
    import unicodedata

    for letter, letters in _LETTERS.items():
        text = text.replace(letter, letters).replace(letter.upper(), letters.capitalize())
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    offer = re.sub(r"[^A-Za-z0-9_.-]+", "_", plain.lower() if " " in text else plain).strip("_.-")[:128]
    if not re.fullmatch(ID_PATTERN, offer):
        return ""
    number = 2
    while offer in taken:
        offer, number = f"{offer.rstrip('0123456789').rstrip('_')[:120]}_{number}", number + 1
    return offer


def _types(tree: Tree, registry: Registry) -> Iterator[Problem]:
    known = {info.name for info in registry.known()}
    for work in works(tree.root):
        name = work.keys["type"]
        if not isinstance(name, str) or name in known or registry.find(name) is not None:
            continue
        from lightflow.other_tools import assumed_type, close, key_answer, type_answer

        answer = type_answer(name)
        hint = f"; {answer}" if answer else close(name, registry.names())
        hint = hint or "; a type of your own needs its file in `plugins:`"
        yield tree.problem([*work.path, "type"], f"no task type {quoted(name)}{hint}")
        if assumed_type(name, known) not in known:  # else the schema has been asked
            for key in work.keys:
                if key not in COMMON and (answer := key_answer(key, work.path, work.keys[key])):
                    yield tree.problem([*work.path, key], f"unknown key {quoted(key)}; {answer}", key=True)


def _dependencies(
    tree: Tree, tasks: dict[str, Any], good: dict[str, dict[str, Any]], found: Found
) -> Iterator[Problem]:
    clean: dict[str, list[str]] = {task_id: [] for task_id in tasks}
    wrong = False
    for task_id, task in good.items():
        if found.tasks or found.conditions:
            clean[task_id] += implied_upstreams(task_id, task, found.tasks, found.conditions)
        for key in ("depends_on", "teardown_of"):
            if key not in task:
                continue
            listed = task[key]
            for index, other in enumerate(listed if isinstance(listed, list) else ()):
                if not isinstance(other, str):
                    continue
                if other == task_id:
                    wrong = True
                    words = "the task depends on itself" if key == "depends_on" else "the task takes itself down"
                    yield tree.problem(["tasks", task_id, key, index], words)
                elif other not in tasks:
                    wrong = True
                    hint = did_you_mean(other, tasks)
                    several = [part for part in re.split(r"[\s,;&|+]+|\band\b", other) if part]
                    if other.startswith("x-"):
                        hint = "; keys that begin with x- are not tasks"
                    elif len(several) > 1 and any(part in tasks for part in several):
                        hint = f"; several tasks are a list: [{', '.join(several)}]"
                    yield tree.problem(["tasks", task_id, key, index], f"no task {quoted(other)}{hint}")
                else:
                    clean[task_id].append(other)
    try:
        Graph(clean)
    except CycleError as error:
        yield tree.problem(["tasks", error.path[0], "depends_on"], str(error))
    except ValueError as error:
        if not wrong:
            yield tree.problem(["tasks"], str(error))


def _flow(tree: Tree, tasks: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    """Keys of control flow that exclude each other, and ids that hooks take."""
    for task_id, task in tasks.items():
        if _FLOW.isdisjoint(task):
            continue
        path: list[str | int] = ["tasks", task_id]
        if task.get("branch") is True and task.get("short_circuit"):
            message = '"branch" and "short_circuit" exclude each other: a task decides in one way'
            yield tree.problem([*path, "short_circuit"], message, key=True)
        if "teardown_of" in task:
            for key in ("setup", "trigger_rule"):
                if task.get(key) not in (None, False, "all_done_setup_success"):
                    yield tree.problem([*path, key], f'"{key}" has no meaning beside "teardown_of"', key=True)
        elif task.get("on_failure_fail_run"):
            message = 'is for tasks with "teardown_of"'
            yield tree.problem([*path, "on_failure_fail_run"], message, key=True)
    ids = [work.id for work in works(tree.root) if work.hook]
    for hook_id in ids:
        if hook_id in tasks:
            message = f"{quoted(hook_id)} is what the hook of that name is called; choose another id"
            yield tree.problem(["tasks", hook_id], message, key=True)
        elif len(hook_id) > 128:
            yield tree.problem(
                ["tasks", hook_id.rpartition(".")[0]], "the id is too long for a task with hooks", key=True
            )


def implied_upstreams(
    task_id: str, task: Mapping[str, Any], expressions: Mapping[str, Expressions], conditions: Mapping[str, Condition]
) -> list[str]:
    """The tasks that a task waits for because its expressions and conditions name them."""
    found = list(expressions[task_id].upstreams) if task_id in expressions else []
    listed = task.get("preconditions")
    numbers = range(1, len(listed) + 1) if isinstance(listed, list) else ()
    for one in (task_id, *(f"{task_id}.precondition_{number}" for number in numbers)):
        if one in conditions:
            found += conditions[one].upstreams
        if one in expressions and one != task_id:
            found += expressions[one].upstreams
    return [one for one in dict.fromkeys(found) if one != task_id]


def _times(tree: Tree, tasks: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    """Limits of times written as text, which the schema can only match; and the two forms of `retry` mixed."""
    for work in works(tree.root):
        for key in ("timeout", "kill_grace", "retry_delay", "max_retry_delay"):
            value = work.keys.get(key)
            if isinstance(value, str):
                yield from check_time(tree, [*work.path, key], value, zero=key != "timeout")
    for task_id, task in tasks.items():
        block = task.get("retry")
        if not isinstance(block, dict):
            continue
        for key in ("delay", "max_delay"):
            if isinstance(block.get(key), str):
                yield from check_time(tree, ["tasks", task_id, "retry", key], block[key], zero=True)
        for flat, inner in _FLAT.items():
            if flat in task and inner in block:
                message = f'"{flat}" and "retry.{inner}" mean the same; keep one of them'
                yield tree.problem(["tasks", task_id, flat], message, key=True)


def _task_secrets(tree: Tree, tasks: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    if any("secrets" in task for task in tasks.values()):
        from lightflow.parser.environment import task_secrets

        yield from task_secrets(tree, tasks)


def _own_checks(tree: Tree, registry: Registry) -> Iterator[Problem]:
    """The built-in types' own checks: Python code that does not compile."""
    kinds = {info.name: registry.built_in(info.name) for info in registry.known()}
    for work in works(tree.root):
        task = work.keys
        kind = kinds.get(task["type"]) if isinstance(task["type"], str) else None
        for found in kind.check(task) if kind else ():
            path = [*work.path, found.key]
            problem = tree.problem(path, found.message)
            if found.line and is_block(tree, task, found.key):
                line = tree.locate(path).line + 1 + found.line
                column = _column(tree, line, task[found.key], found.line, found.column)
                problem = Problem(problem.file, line, column, problem.path, found.message)
            elif found.line:
                where = f" (line {found.line} of the code)" if found.line > 1 else ""
                problem = _with(problem, found.message + where)
            yield problem


def is_block(tree: Tree, task: dict[str, Any], key: str) -> bool:
    raw = tree.written.get(id(task), task)
    return (id(raw), tree.renamed.get((id(task), key), key)) in tree.source.positions.blocks


def _column(tree: Tree, line: int, code: str, code_line: int, column: int) -> int:
    """The column in the file of a column of the code in it: the block's indentation is not in the code."""
    lines, code_lines = tree.source.text.splitlines(), code.splitlines()
    if line > len(lines) or code_line > len(code_lines):
        return 1
    return max(lines[line - 1].find(code_lines[code_line - 1]), 0) + max(column, 1)
