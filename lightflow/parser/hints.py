"""What is valid in a workflow file and probably not meant: warnings of `validate`. Executes nothing of the user's."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lightflow.bash_hints import bash_only, hint_about_syntax
from lightflow.errors import Problem
from lightflow.parser.canonical import Tree
from lightflow.parser.positions import Key
from lightflow.parser.shell_syntax import complaint_of
from lightflow.parser.validate import is_block
from lightflow.parser.works import WorkIn, conditions, shell_of, works
from lightflow.spec.model import TaskSpec, WorkflowSpec
from lightflow.text import quoted

_SECONDS: Final = 5.0  # for the questions to shells, all together

#: Names that stand at the beginning of an expression, here or in Airflow's and Kestra's templates.
_SCOPES: Final = r"params|tasks|needs|env|secrets|workflow|matrix|item|run|task|inputs|outputs|dag_run|ti|var|macros"
_WORDS: Final = r"ds|ds_nodash|ts|ts_nodash|execution_date|logical_date|data_interval_start|data_interval_end|run_id"
_JINJA: Final = re.compile(
    rf"(?<!\$)\{{\{{\s*(?:(?:{_SCOPES})(?=[.\[])[^{{}}\n]*|item|(?:{_WORDS})\b[^{{}}\n]*?)\s*\}}\}}"
)
_ONE_BRACE: Final = re.compile(rf"\$\{{\s*((?:{_SCOPES})\.[\w.\[\]'\"-]+)\s*\}}")
_VARIABLE: Final = re.compile(r"(?<![\\$])\$(?:\{([A-Za-z_]\w*)[^}]*\}|([A-Z_][A-Z0-9_]*)\b)")
_FALSE: Final = ("false", "0", "no", "off", "none", "null", "n", "f")
_STATES: Final = ("success", "succeeded", "failure", "failed", "skipped", "cancelled", "canceled")
#: Trigger rules with which a task can succeed although all above it have failed.
_GOES_ON: Final = ("all_done", "always", "one_done", "all_failed", "one_failed", "none_skipped")
_PROGRAM: Final = re.compile(r"^[ \t]*((?:\.{1,2}/|/)[\w./+-]+)(?=[ \t]|$)", re.MULTILINE)


def hints(tree: Tree, spec: WorkflowSpec) -> list[Problem]:
    """The warnings about a valid file, by their places."""
    found = [
        *_variables_in_env(tree),
        *_braces(tree),
        *_conditions(tree),
        *_hidden_failures(tree, spec),
        *_scripts(tree, spec),
    ]
    return sorted(dict.fromkeys(found), key=lambda one: (one.line, one.column))


# -- texts ---------------------------------------------------------------------------------------------------------


def _envs(tree: Tree) -> Iterator[tuple[list[Key], Mapping[str, Any]]]:
    """Every `env` with its path."""
    if isinstance(tree.root.get("env"), dict):
        yield ["env"], tree.root["env"]
    for work in works(tree.root):
        if isinstance(work.keys.get("env"), dict):
            yield [*work.path, "env"], work.keys["env"]


def _variables_in_env(tree: Tree) -> Iterator[Problem]:
    for path, env in _envs(tree):
        for name, text in env.items():
            found = _VARIABLE.search(text) if isinstance(text, str) else None
            if found and not _ONE_BRACE.search(text):
                variable = found[1] or found[2]
                message = f"{found[0]} stays as it is: no shell reads `env`; write ${{{{ env.{variable} }}}}"
                yield _at(tree, [*path, name], text, found.start(), message)
            elif isinstance(text, str) and (command := re.search(r"(?<![\\$])\$\(|`[^`]+`", text)):
                message = f"{command[0][:20]} stays as it is: no shell reads `env`; write it into `run`"
                yield _at(tree, [*path, name], text, command.start(), message)


def _texts(tree: Tree) -> Iterator[tuple[list[Key], str, bool]]:
    """Every text in which an expression may be meant, with its path, and whether a shell reads it."""
    for path, env in _envs(tree):
        yield from ((([*path, name]), text, False) for name, text in env.items() if isinstance(text, str))
    for work in works(tree.root):
        is_shell = work.keys.get("type") == "shell"
        for key in ("run", "cwd", "args"):
            for path, text in _leaves([*work.path, key], work.keys.get(key)):
                yield path, text, is_shell and key == "run"


def _leaves(path: list[Key], value: Any) -> Iterator[tuple[list[Key], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves([*path, key], item)


def _braces(tree: Tree) -> Iterator[Problem]:
    """Expressions with the braces of another tool: nothing evaluates them."""
    for path, text, in_shell in _texts(tree):
        for found in _JINJA.finditer(text):
            inside = found[0].strip("{} ")
            if inside == "item" and path[-1] == "run" and not in_shell:
                continue  # braces that an f-string of Python doubles
            meant = "run.logical_date" if re.match(rf"(?:{_WORDS})\b", inside) else inside
            message = f"{found[0]} is not evaluated, and stays as it is; write ${{{{ {meant} }}}}"
            yield _at(tree, path, text, found.start(), message)
        for found in _ONE_BRACE.finditer(text):
            reader = "the shell has no such name" if in_shell else "it stays as it is"
            yield _at(tree, path, text, found.start(), f"{found[0]}: {reader}; write ${{{{ {found[1]} }}}}")


# -- conditions ----------------------------------------------------------------------------------------------------


def _conditions(tree: Tree) -> Iterator[Problem]:
    for task_id, path, text in conditions(tree.root):
        if not isinstance(text, str):
            continue
        if not re.search(r"\b(?:env|params|result)\b", text):
            continue
        bare = text.strip().removeprefix("${{").removesuffix("}}")
        for name in _asked_as_truth(bare, "env"):
            value = _variable(tree, task_id, name)
            if value is None or str(value).lower() in _FALSE:
                which = (
                    f"is {quoted(str(value))}, which is true" if value else "is text, which is true unless it is empty"
                )
                message = f"env.{name} {which}; compare it: env.{name} == 'true'"
                yield tree.problem(path, message)
        for name in _asked_as_truth(bare, "params"):
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
            message = f"{compared[1]}.result is the value that the task returned; how it ended is {compared[1]}.status"
            yield tree.problem(path, message)


def _asked_as_truth(condition: str, scope: str) -> Iterator[str]:
    """The names of a scope that are asked for by themselves, and neither compared nor changed."""
    from jinja2 import nodes

    from lightflow.expressions.language import ExpressionError, parse

    try:
        waiting: list[nodes.Node] = [parse(condition.strip())]
    except ExpressionError:
        return
    while waiting:
        node = waiting.pop()
        if isinstance(node, nodes.And | nodes.Or):
            waiting += [node.left, node.right]
        elif isinstance(node, nodes.Not):
            waiting.append(node.node)
        elif isinstance(node, nodes.Getattr | nodes.Getitem) and isinstance(node.node, nodes.Name):
            key = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
            if node.node.name == scope and isinstance(key, str):
                yield key


def _variable(tree: Tree, task_id: str, name: str) -> Any:
    """The value of a variable as far as the file says it; None: it does not."""
    for env in (tree.root["tasks"][task_id].get("env"), tree.root.get("env")):
        if isinstance(env, dict) and name in env:
            value = env[name]
            return None if isinstance(value, str) and "${{" in value else "" if value is None else value
    return None


# -- the state of the run --------------------------------------------------------------------------------------------


def _hidden_failures(tree: Tree, spec: WorkflowSpec) -> Iterator[Problem]:
    """Tasks that go on after a failure that nothing else tells of: the state of a run comes from its ends."""
    tasks = {
        task_id: task for task_id, task in spec.tasks.items() if not (task.control_flow and task.control_flow.teardown)
    }
    going_on = {task_id for task_id, task in tasks.items() if _goes_on(task)}
    if not going_on:
        return
    below: dict[str, list[str]] = {task_id: [] for task_id in tasks}
    for task_id, task in tasks.items():
        for above in task.depends_on:
            if above in below:
                below[above].append(task_id)
    hidden: dict[str, bool] = {}
    for task_id in _from_the_ends(tasks, below):
        hidden[task_id] = bool(below[task_id]) and all(one in going_on or hidden[one] for one in below[task_id])
    for task_id in (task_id for task_id in tasks if task_id in going_on):
        failing = [one for one in tasks[task_id].depends_on if hidden.get(one) and not _tolerated(tasks[one])]
        if failing:
            yield _hides(tree, task_id, failing)


def _hides(tree: Tree, task_id: str, above: Sequence[str]) -> Problem:
    names = " or ".join(quoted(one) for one in above[:3]) + (f" or {len(above) - 3} more" if len(above) > 3 else "")
    keys = tree.root["tasks"][task_id]
    key = "trigger_rule" if "trigger_rule" in keys else "if"
    hook = "on_failure" if "fail" in str(keys.get(key)) else "on_exit"
    message = (
        f"the task goes on when {names} fails, and the run is SUCCESS then, as nothing else ends it; "
        f"make it a hook of the workflow (`{hook}`)"
        + ("" if hook == "on_failure" else ", or a teardown (`teardown_of`)")
    )
    return tree.problem(["tasks", task_id, key], message)


def _from_the_ends(tasks: Mapping[str, TaskSpec], below: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The tasks, each behind all that follow it."""
    left = {task_id: len(below[task_id]) for task_id in tasks}
    ready = [task_id for task_id, number in left.items() if not number]
    while ready:
        task_id = ready.pop()
        yield task_id
        for above in tasks[task_id].depends_on:
            if above in left:
                left[above] -= 1
                if not left[above]:
                    ready.append(above)


def _goes_on(task: TaskSpec) -> bool:
    condition = task.control_flow.condition if task.control_flow else None
    if condition is not None and condition.status:
        return re.search(r"(?<!not )\b(?:always|failure)\s*\(|not\s+success\s*\(", condition.text) is not None
    return bool(task.depends_on) and task.trigger_rule in _GOES_ON


def _tolerated(task: TaskSpec) -> bool:
    return bool(task.control_flow and task.control_flow.tolerates)


# -- scripts -------------------------------------------------------------------------------------------------------


def _scripts(tree: Tree, spec: WorkflowSpec) -> Iterator[Problem]:
    until = time.monotonic() + _SECONDS
    seen: dict[tuple[str, str], Any] = {}
    for work in works(tree.root):
        script = work.keys.get("run")
        if work.keys.get("type") != "shell" or not isinstance(script, str):
            continue
        yield from _programs(tree, work, script)
        shell = work.keys.get("shell", shell_of(tree.root))
        if shell is not None and not isinstance(shell, str):
            continue  # a list of words is taken as written
        shell = shell or "sh"
        plain = re.sub(r"\$\{\{.*?\}\}", "x", script, flags=re.DOTALL)
        left = until - time.monotonic()
        if (shell, plain) not in seen and left > 0:
            seen[shell, plain] = complaint_of(plain, shell, left)
        complaint = seen.get((shell, plain))
        is_sh = os.path.basename(shell) in ("sh", "dash", "ash")
        if complaint is not None:
            cure = hint_about_syntax(script) if is_sh else ""
            words = f"{os.path.basename(shell)} cannot read the script: {complaint.words}" + (
                f"; {cure}" if cure else ""
            )
            yield _in_script(tree, work, complaint.line, words)
        elif is_sh and (name := bash_only(script)):
            yield _in_script(tree, work, _line_of(script, name), f"{name} is bash, and this is sh: write `shell: bash`")


def _programs(tree: Tree, work: WorkIn, script: str) -> Iterator[Problem]:
    """Files that a script starts by their path, and that are not executable."""
    cwd = work.keys.get("cwd", work.cwd or tree.root.get("cwd") or ".")
    if not isinstance(cwd, str) or "${{" in cwd:
        return
    for found in _PROGRAM.finditer(script):
        path = os.path.join(os.path.expanduser(cwd), found[1])
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(mode) and not mode & 0o111:
            program = "python3" if found[1].endswith(".py") else "sh"
            message = f"{found[1]} is not executable: chmod +x {found[1]}, or write `{program} {found[1]}`"
            yield _in_script(tree, work, script.count("\n", 0, found.start(1)) + 1, message)


def _line_of(script: str, name: str) -> int:
    return next((number for number, line in enumerate(script.splitlines(), start=1) if name in line), 0)


def _in_script(tree: Tree, work: WorkIn, line: int, message: str) -> Problem:
    """A warning about a line of a script, where that is a line of the file too."""
    problem = tree.problem([*work.path, "run"], message)
    lines = len(str(work.keys["run"]).splitlines())
    if line and problem.line and is_block(tree, work.keys, "run"):
        return problem._replace(line=problem.line + min(line, lines), column=1)
    return problem


def _at(tree: Tree, path: Sequence[Key], text: str, start: int, message: str) -> Problem:
    """A warning about a place in a text, as near as the file tells it."""
    problem = tree.problem(path, message)
    lines = tree.source.text.splitlines()
    piece = text[start:].split("\n", 1)[0].rstrip()
    line, column = problem.line, problem.column
    if "\n" in text:
        line, column = line + 1 + text.count("\n", 0, start), 1
    shown = lines[line - 1] if 0 < line <= len(lines) else ""
    at = shown.find(piece, column - 1) if shown else -1
    if at < 0:
        return problem
    return problem._replace(line=line, column=at + 1)
