"""Warnings of `validate` about what is valid in a workflow file and probably not meant. Nothing is executed."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lightflow.bash_hints import bash_only, hint_about_syntax
from lightflow.errors import Problem
from lightflow.parser.positions import Key
from lightflow.parser.shell_syntax import SyntaxReport, syntax_error_of
from lightflow.parser.subjects.tasks import COMMON
from lightflow.parser.tree import TaskNode, Tree, mapping_or_empty
from lightflow.plugins.expression_kinds import rule_at, script_key, texts_in
from lightflow.plugins.needs import missing_modules, needs_text
from lightflow.plugins.registry import Registry
from lightflow.spec.model import ExpressionKind, TaskSpec, WorkflowSpec
from lightflow.text import quoted
from liteflow.api import replace

#: The schemas of the keys of task types, by type.
_Schemas = Mapping[str, Mapping[str, Any] | None]
#: The time for all calls of shells together.
_SECONDS: Final = 5.0

#: Names at the beginning of an expression, here or in the templates of Airflow and Kestra.
_SCOPES: Final = r"params|tasks|needs|env|secrets|workflow|matrix|item|run|task|inputs|outputs|dag_run|ti|var|macros"
_DATES: Final = r"ds|ds_nodash|ts|ts_nodash|execution_date|logical_date|data_interval_start|data_interval_end|run_id"
_JINJA: Final = re.compile(
    rf"(?<!\$)\{{\{{\s*(?:(?:{_SCOPES})(?=[.\[])[^{{}}\n]*|item|(?:{_DATES})\b[^{{}}\n]*?)\s*\}}\}}"
)
_ONE_BRACE: Final = re.compile(rf"\$\{{\s*((?:{_SCOPES})\.[\w.\[\]'\"-]+)\s*\}}")
_VARIABLE: Final = re.compile(r"(?<![\\$])\$(?:\{([A-Za-z_]\w*)[^}]*\}|([A-Z_][A-Z0-9_]*)\b)")
_FALSE: Final = ("false", "0", "no", "off", "none", "null", "n", "f")
_STATES: Final = ("success", "succeeded", "failure", "failed", "skipped", "cancelled", "canceled")
#: Trigger rules with which a task can succeed although all upstream tasks have failed.
_RUNS_AFTER_FAILURE: Final = ("all_done", "always", "one_done", "all_failed", "one_failed", "none_skipped")
_PROGRAM: Final = re.compile(r"^[ \t]*((?:\.{1,2}/|/)[\w./+-]+)(?=[ \t]|$)", re.MULTILINE)


def find_hints(tree: Tree, spec: WorkflowSpec, registry: Registry) -> list[Problem]:
    """Return the warnings about a valid file with the task types in `registry`, in the order of their places."""
    schemas = {info.name: info.schema for info in registry.described()}
    problems = [
        *_variables_in_env(tree),
        *_braces(tree, schemas),
        *_conditions(tree),
        *_hidden_failures(tree, spec),
        *_scripts(tree, schemas),
        *_task_types(tree, registry),
        *_connections(tree),
    ]
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column))


def _connections(tree: Tree) -> Iterator[Problem]:
    """Report connections that no task names."""
    used = {origin.path[1] for origin in tree.origins.values() if origin.path[:1] == ("connections",)}
    for name in mapping_or_empty(tree.root.get("connections")):
        if name not in used:
            yield tree.problem(["connections", name], "no task has this connection: `connection: NAME`", key=True)


# -- texts ---------------------------------------------------------------------------------------------------------


def _envs(tree: Tree) -> Iterator[tuple[list[Key], Mapping[str, Any]]]:
    """Return every `env` with its path."""
    if isinstance(tree.root.get("env"), dict):
        yield ["env"], tree.root["env"]
    for node in tree.task_nodes:
        if isinstance(node.keys.get("env"), dict):
            yield [*node.path, "env"], node.keys["env"]


def _variables_in_env(tree: Tree) -> Iterator[Problem]:
    """Report variables and commands in `env`, which no shell reads."""
    for path, env in _envs(tree):
        for name, text in env.items():
            match = _VARIABLE.search(text) if isinstance(text, str) else None
            if match and not _ONE_BRACE.search(text):
                variable = match[1] or match[2]
                message = f"{match[0]} stays as it is: no shell reads `env`; write ${{{{ env.{variable} }}}}"
                yield _problem_in(tree, [*path, name], text, match.start(), message)
            elif isinstance(text, str) and (command := re.search(r"(?<![\\$])\$\(|`[^`]+`", text)):
                message = f"{command[0][:20]} stays as it is: no shell reads `env`; write it into `run`"
                yield _problem_in(tree, [*path, name], text, command.start(), message)


def _texts(tree: Tree, schemas: _Schemas) -> Iterator[tuple[list[Key], str, ExpressionKind]]:
    """Return every text that may have expressions, with its path, and how it takes them."""
    for path, env in _envs(tree):
        yield from (([*path, name], text, "text") for name, text in env.items() if isinstance(text, str))
    for node in tree.task_nodes:
        schema = schemas.get(node.keys["type"])
        for key, value in node.keys.items():
            if key == "cwd" or key not in COMMON:
                for path, text in texts_in([key], value):
                    yield [*node.path, *path], text, rule_at(schema, path).kind


def _braces(tree: Tree, schemas: _Schemas) -> Iterator[Problem]:
    """Report expressions in the braces of another tool, which nothing evaluates."""
    for path, text, kind in _texts(tree, schemas):
        for match in _JINJA.finditer(text):
            inside = match[0].strip("{} ")
            if inside == "item" and kind == "none":
                continue  # an f-string of Python with double braces
            meant = "run.logical_date" if re.match(rf"(?:{_DATES})\b", inside) else inside
            message = f"{match[0]} is not evaluated, and stays as it is; write ${{{{ {meant} }}}}"
            yield _problem_in(tree, path, text, match.start(), message)
        for match in _ONE_BRACE.finditer(text):
            reader = "the shell has no such name" if kind == "shell" else "it stays as it is"
            message = f"{match[0]}: {reader}; write ${{{{ {match[1]} }}}}"
            yield _problem_in(tree, path, text, match.start(), message)


# -- conditions ----------------------------------------------------------------------------------------------------


def _conditions(tree: Tree) -> Iterator[Problem]:
    """Report text that a condition takes for true or false, and results that it takes for states."""
    for task_id, path, text in tree.conditions:
        if not isinstance(text, str) or not re.search(r"\b(?:env|params|result)\b", text):
            continue
        bare = text.strip().removeprefix("${{").removesuffix("}}")
        for name in _tested_names(bare, "env"):
            value = _variable(tree, task_id, name)
            if value is None or str(value).lower() in _FALSE:
                text_value = (
                    f"is {quoted(str(value))}, which is true" if value else "is text, which is true unless it is empty"
                )
                yield tree.problem(path, f"env.{name} {text_value}; compare it: env.{name} == 'true'")
        for name in _tested_names(bare, "params"):
            param = tree.root.get("params", {}).get(name)
            default = param.get("default") if isinstance(param, dict) else param
            kind = param.get("type") if isinstance(param, dict) else None
            if isinstance(default, str) and kind in (None, "string") and default.lower() in _FALSE:
                message = f"params.{name} is {quoted(default)}, text that is true; declare it with `type: boolean`"
                yield tree.problem(path, message)
        compared = re.search(
            r"\b((?:tasks|needs)(?:\.[\w-]+|\[['\"][^'\"]+['\"]\]))\.result\s*[=!]=\s*['\"](\w+)['\"]", bare
        )
        if compared and compared[2].lower() in _STATES:
            message = f"{compared[1]}.result is the value that the task returned; its state is {compared[1]}.status"
            yield tree.problem(path, message)


def _tested_names(condition: str, scope: str) -> Iterator[str]:
    """Return the names of a scope that are a truth value by themselves, neither compared nor changed."""
    from jinja2 import nodes

    from lightflow.expressions.language import ExpressionError, parse

    try:
        remaining: list[nodes.Node] = [parse(condition.strip())]
    except ExpressionError:
        return
    while remaining:
        node = remaining.pop()
        if isinstance(node, nodes.And | nodes.Or):
            remaining += [node.left, node.right]
        elif isinstance(node, nodes.Not):
            remaining.append(node.node)
        elif isinstance(node, nodes.Getattr | nodes.Getitem) and isinstance(node.node, nodes.Name):
            key = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
            if node.node.name == scope and isinstance(key, str):
                yield key


def _variable(tree: Tree, task_id: str, name: str) -> Any:
    """Return the value of a variable where the file has it, else None."""
    for env in (tree.tasks[task_id].get("env"), tree.root.get("env")):
        if isinstance(env, dict) and name in env:
            value = env[name]
            return None if isinstance(value, str) and "${{" in value else "" if value is None else value
    return None


# -- the state of the run --------------------------------------------------------------------------------------------


def _hidden_failures(tree: Tree, spec: WorkflowSpec) -> Iterator[Problem]:
    """Report tasks that run after a failure and hide it: the state of a run is that of its last tasks."""
    tasks = {id_: task for id_, task in spec.tasks.items() if not (task.control_flow and task.control_flow.teardown)}
    hiding = {task_id for task_id, task in tasks.items() if _runs_after_failure(task)}
    if not hiding:
        return
    downstreams: dict[str, list[str]] = {task_id: [] for task_id in tasks}
    for task_id, task in tasks.items():
        for upstream in task.depends_on:
            if upstream in downstreams:
                downstreams[upstream].append(task_id)
    hidden: dict[str, bool] = {}
    for task_id in _from_the_ends(tasks, downstreams):
        following = downstreams[task_id]
        hidden[task_id] = bool(following) and all(task in hiding or hidden[task] for task in following)
    for task_id in (task_id for task_id in tasks if task_id in hiding and task_id in tree.tasks):
        failing = [name for name in tasks[task_id].depends_on if hidden.get(name) and not _is_tolerated(tasks[name])]
        if failing:
            yield _hidden_failure(tree, task_id, failing)


def _hidden_failure(tree: Tree, task_id: str, upstreams: Sequence[str]) -> Problem:
    names = " or ".join(map(quoted, upstreams[:3])) + (f" or {len(upstreams) - 3} more" if len(upstreams) > 3 else "")
    keys = tree.tasks[task_id]
    key = "trigger_rule" if "trigger_rule" in keys else "if"
    hook = "on_failure" if "fail" in str(keys.get(key)) else "on_exit"
    message = (
        f"the task runs when {names} fails, and the run is SUCCESS then, as nothing else ends it; "
        f"make it a hook of the workflow (`{hook}`)"
        + ("" if hook == "on_failure" else ", or a teardown (`teardown_of`)")
    )
    return tree.problem(["tasks", task_id, key], message)


def _from_the_ends(tasks: Mapping[str, TaskSpec], downstreams: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Return the tasks, each after all its downstream tasks."""
    remaining = {task_id: len(downstreams[task_id]) for task_id in tasks}
    ready = [task_id for task_id, number in remaining.items() if not number]
    while ready:
        task_id = ready.pop()
        yield task_id
        for upstream in tasks[task_id].depends_on:
            if upstream in remaining:
                remaining[upstream] -= 1
                if not remaining[upstream]:
                    ready.append(upstream)


def _runs_after_failure(task: TaskSpec) -> bool:
    condition = task.control_flow.condition if task.control_flow else None
    if condition is not None and condition.status:
        return re.search(r"(?<!not )\b(?:always|failure)\s*\(|not\s+success\s*\(", condition.text) is not None
    return bool(task.depends_on) and task.trigger_rule in _RUNS_AFTER_FAILURE


def _is_tolerated(task: TaskSpec) -> bool:
    return bool(task.control_flow and task.control_flow.tolerates)


# -- task types ----------------------------------------------------------------------------------------------------


def _task_types(tree: Tree, registry: Registry) -> Iterator[Problem]:
    """Report types whose modules are not installed here, and types whose keys cannot be checked."""
    for node in tree.task_nodes:
        name = node.keys["type"]
        info = registry.find(name)
        if info is None:
            continue
        built_in = registry.built_in(name)
        for hint in built_in.hints(node.keys) if built_in is not None else ():
            yield tree.problem([*node.path, *hint.key.split(".")], hint.message)
        missing = missing_modules(info.needs if built_in is None else built_in.needed_modules(node.keys))
        if missing:
            yield tree.problem([*node.path, "type"], needs_text(name, missing, info.extra))
        elif info.schema is None and not info.ref.path:
            message = f'the keys of type "{name}" ({info.origin}) are checked when it runs: its source cannot be read'
            yield tree.problem([*node.path, "type"], message)


# -- scripts -------------------------------------------------------------------------------------------------------


def _scripts(tree: Tree, schemas: _Schemas) -> Iterator[Problem]:
    """Report scripts that their shell cannot read, bash in scripts of sh, and programs that are not executable."""
    until = time.monotonic() + _SECONDS
    errors: dict[tuple[str, str], SyntaxReport | None] = {}
    for node in tree.task_nodes:
        key = script_key(schemas.get(node.keys["type"]))
        script = node.keys.get(key)
        if not isinstance(script, str):
            continue
        yield from _programs(tree, node, key)
        shell = node.keys.get("shell", tree.shell)
        if shell is not None and not isinstance(shell, str):
            continue  # a list of words is taken as written
        shell = shell or "sh"
        plain = re.sub(r"\$\{\{.*?\}\}", "x", script, flags=re.DOTALL)
        seconds = until - time.monotonic()
        if (shell, plain) not in errors and seconds > 0:
            errors[shell, plain] = syntax_error_of(plain, shell, seconds)
        error = errors.get((shell, plain))
        is_sh = os.path.basename(shell) in ("sh", "dash", "ash")
        if error is not None:
            cure = hint_about_syntax(script) if is_sh else ""
            message = f"{os.path.basename(shell)} cannot read the script: {error.message}" + (
                f"; {cure}" if cure else ""
            )
            yield _problem_on_line(tree, node, key, error.line, message)
        elif is_sh and (name := bash_only(script)):
            message = f"{name} is bash, and this is sh: write `shell: bash`"
            yield _problem_on_line(tree, node, key, _line_with(script, name), message)


def _programs(tree: Tree, node: TaskNode, key: str) -> Iterator[Problem]:
    """Report files that the script in a key starts by their path, and that are not executable."""
    script: str = node.keys[key]
    cwd = node.keys.get("cwd", node.cwd or tree.root.get("cwd") or ".")
    if not isinstance(cwd, str) or "${{" in cwd:
        return
    for match in _PROGRAM.finditer(script):
        path = os.path.join(os.path.expanduser(cwd), match[1])
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(mode) and not mode & 0o111:
            program = "python3" if match[1].endswith(".py") else "sh"
            message = f"{match[1]} is not executable: chmod +x {match[1]}, or write `{program} {match[1]}`"
            yield _problem_on_line(tree, node, key, script.count("\n", 0, match.start(1)) + 1, message)


def _line_with(script: str, text: str) -> int:
    return next((number for number, line in enumerate(script.splitlines(), start=1) if text in line), 0)


def _problem_on_line(tree: Tree, node: TaskNode, key: str, line: int, message: str) -> Problem:
    """Return a problem on a line of the script in a key, where that is also a line of the file."""
    problem = tree.problem([*node.path, key], message)
    lines = len(str(node.keys[key]).splitlines())
    if line and problem.line and tree.is_literal_block(node.keys, key):
        return replace(problem, line=problem.line + min(line, lines), column=1)
    return problem


def _problem_in(tree: Tree, path: Sequence[Key], text: str, start: int, message: str) -> Problem:
    """Return a problem at an offset in a text, as exactly as the file shows it."""
    problem = tree.problem(path, message)
    lines = tree.source.text.splitlines()
    piece = text[start:].split("\n", 1)[0].rstrip()
    line, column = problem.line, problem.column
    if "\n" in text:
        line, column = line + 1 + text.count("\n", 0, start), 1
    shown = lines[line - 1] if 0 < line <= len(lines) else ""
    offset = shown.find(piece, column - 1) if shown else -1
    if offset < 0:
        return problem
    return replace(problem, line=line, column=offset + 1)
