"""The expressions of a workflow file: where they stand, what they read, and every mistake in them.

Called only where a file has a `${{`. The canonical tree is not changed; what was found is put into the `TaskSpec`s.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.expressions.language import ExpressionError
from lightflow.expressions.references import EARLY, SCOPES, NameScope, References, find_references
from lightflow.expressions.shell.rewrite import SHELLS, SITE, Site, UnsafeExpression, rewrite, text_to_parse
from lightflow.expressions.shell.syntax import Scripts
from lightflow.expressions.template import OPEN, Part, UnclosedExpression, split
from lightflow.parser.canonical import Tree
from lightflow.parser.environment import secret_names
from lightflow.parser.fan import fields_of, name_of
from lightflow.parser.params import is_number
from lightflow.parser.positions import Key, Lines
from lightflow.parser.schema import COMMON
from lightflow.parser.works import WorkIn, conditions, path_id, shell_of, works
from lightflow.spec.model import Condition, Expression, Expressions, Found, Template
from liteflow import CycleError
from liteflow.api import DEFAULT_SHELL, HOOK_EVENTS, Graph, shell_prefix

Path = list[Key]

#: Words between two values of an expression.
_WORDS: Final = ("and", "or", "is", "in", "not", "if", "else")

#: Keys of every task in which an expression may stand; those that are needed before the run begins.
OPTIONS: Final = ("timeout", "retries", "retry_delay")
#: Keys of a task that are no part of its own work.
_APART: Final = ("if", "preconditions", *HOOK_EVENTS)
FANS: Final = ("matrix", "foreach")
_VARIABLE: Final = "LIGHTFLOW_EXPR_"
#: Text for people, in which nothing is evaluated.
_PROSE: Final = ("description", "workflow_name", "params", "depends_on", "type", "trigger_rule", "mode", "plugins")


def read_expressions(tree: Tree) -> Found:
    """All expressions of a canonical tree, and what is wrong with them."""
    reader = _Reader(tree)
    return Found(reader.tasks, reader.problems, reader.conditions)


class _Reader:
    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._lines = Lines(tree.source.text)
        self.problems: list[Problem] = []
        self.tasks: dict[str, Expressions] = {}
        self.conditions: dict[str, Condition] = {}
        root = tree.root
        tasks = root.get("tasks")
        self._tasks = tasks if isinstance(tasks, dict) else {}
        self._params = root["params"] if isinstance(root.get("params"), dict) else {}
        path = os.path.abspath(tree.source.file)
        self._workflow = {"name": root.get("workflow_name", ""), "dir": os.path.dirname(path), "file": path}
        self._scripts = Scripts([text_to_parse(text) for work in works(root) for text in _scripts(work.keys)])
        self._refuse_elsewhere()
        self._shell = shell_of(root)
        shared: dict[str, Any] = root["env"] if isinstance(root.get("env"), dict) else {}
        self._secrets = secret_names(root)
        known = NameScope(
            self._params, self._tasks, ("params", "env", "run", "workflow", "task"), secrets=self._secrets
        )
        self._from_files = bool(root.get("dotenv"))
        self._shared = self._variables(["env"], shared, known, self._known_variables())
        for work in works(root):
            own = {key: value for key, value in work.keys.items() if key not in _APART}
            if _has([own, work.env, work.cwd]) or any(not isinstance(one, str) for one in self._shared.values()):
                self.tasks[work.id] = self._task(work)
        for task_id, place, text in conditions(root):
            condition = self._condition(task_id, place, text)
            if condition is not None:
                self.conditions[path_id(place)] = condition

    # -- one task ------------------------------------------------------------------------------------------------

    def _task(self, work: WorkIn) -> Expressions:
        task, base, task_id = work.keys, work.path, "" if work.hook else work.id
        mapped = self._tasks[str(work.owner[1])] if work.owner else task
        item = "" if work.hook and not work.owner else name_of(mapped)
        fields = fields_of(mapped)
        here = NameScope(self._params, self._tasks, task=task_id, secrets=self._secrets, item=item, fields=fields)
        own = task["env"] if isinstance(task.get("env"), dict) else {}
        below = self._known_variables(mapped, self._shared)
        around = self._variables([*work.owner, "env"], work.env, here, below)
        below = self._known_variables(mapped, self._shared, around)
        here = here._replace(env=self._known_variables(mapped, self._shared, around, own))
        if item and work.once:  # it is done once, before there is an instance
            here, item = here._replace(item="", fields=None, unavailable=item), ""
            around = {name: one for name, one in around.items() if not _mistaken(one, here)}
        before = NameScope(self._params, self._tasks, ("params", "workflow", "env"), task_id, env=here.env)
        found: list[Template] = []

        def template(key: str, *rest: Key, known: NameScope = here) -> Any:
            value: Any = task.get(key)
            for name in rest:
                value = value[name]
            read = self._template([*base, key, *rest], value, known)
            if isinstance(read, tuple):
                found.append(read)
            return read

        own_env = self._variables([*base, "env"], own, here, below)
        found += [one for layer in (around, own_env) for one in layer.values() if isinstance(one, tuple)]
        cwd = template("cwd", known=here._replace(secrets=None))
        if cwd is None and work.cwd is not None:  # of the task around it
            place: Path = [*work.owner, "cwd"] if work.owner and "cwd" in mapped else ["cwd"]
            cwd = self._template(place, work.cwd, here._replace(secrets=None))
            found += [cwd] if isinstance(cwd, tuple) else []
        options = {key: template(key, known=before) for key in OPTIONS}
        script, words, pasted, config = "", dict[str, Template](), tuple[Template, ...](), dict[str, Template]()
        for key, value in task.items():
            if key in COMMON or not _has(value):
                continue
            path: Path = [*base, key]
            if task["type"] == "shell":
                if key != "run":
                    self._problem(path, value, 0, "an expression cannot stand here")
                else:
                    script, words, pasted = self._script(path, value, task, here)
            elif task["type"] == "python" and key == "run":
                self._problem(path, value, 0, _IN_CODE)
            elif task["type"] == "python" and key != "args":
                self._problem(path, value, 0, "an expression cannot stand here")
            else:
                config |= self._texts(path, value, here)
        found += [*words.values(), *pasted, *config.values()]
        parts = [part for one in found for part in one if isinstance(part, Expression)]
        return Expressions(
            workflow=self._workflow,
            reads=tuple(dict.fromkeys(ref for part in parts for ref in part.reads)),
            shared_env=self._shared,
            enclosing_env=around,
            own_env=own_env,
            cwd=cwd if isinstance(cwd, tuple) else None,
            options={key: one for key, one in options.items() if isinstance(one, tuple)},
            script=script,
            words=words,
            pasted=pasted,
            config=config,
            item=item,
            fan=self._fan(task_id, task, here) if item and not work.hook else {},
        )

    def _known_variables(self, task: Mapping[str, Any] = {}, *layers: Mapping[str, Any]) -> frozenset[str] | None:
        """The names of the variables in some layers; None: dotenv files bring more, which are not read yet."""
        if self._from_files or task.get("dotenv"):
            return None
        return frozenset(name for layer in layers for name in layer)

    def _variables(
        self, path: Path, written: Mapping[str, Any], known: NameScope, below: frozenset[str] | None
    ) -> dict[str, str | Template]:
        """The variables of one `env`, which may name each other, and those of the layers below."""
        layer: dict[str, str | Template] = {}
        for name, text in written.items():
            there = None if below is None else (below | written.keys()) - ({name} - below)
            layer[name] = self._template([*path, name], text, known._replace(env=there))
        graph = {
            name: [other for other in _named(one) if other in layer and other != name] for name, one in layer.items()
        }
        try:
            if any(graph.values()):
                Graph(graph)
        except CycleError as error:
            message = f"the variables need each other: {' -> '.join(reversed(error.path))}"
            self.problems.append(self.tree.problem([*path, error.path[0]], message))
        return layer

    def _condition(self, task_id: str, path: Path, text: Any) -> Condition | None:
        """What an `if` asks; None where it cannot be understood."""
        if isinstance(text, bool):
            text = "true" if text else "false"
        if not isinstance(text, str) or not text.strip():
            return None  # the schema says so
        unavailable = name_of(self._tasks[task_id])
        task = self._tasks[task_id]
        own = task["env"] if isinstance(task.get("env"), dict) else {}
        variables = self._known_variables(task, self._shared, own)
        known = NameScope(
            self._params, self._tasks, task=task_id, condition=True, unavailable=unavailable, env=variables
        )
        source, start = text.strip(), 0
        try:
            if OPEN in text:
                parts = [part for part in split(text) if not isinstance(part, str) or part.strip()]
                if len(parts) != 1 or isinstance(parts[0], str):
                    raise ExpressionError("write the whole condition between ${{ and }}, or without them")
                source, start = parts[0].source, parts[0].start
            used = find_references(source, known)
            if used.raw:
                raise ExpressionError("raw(…) is for the `run` of a shell task")
        except (ExpressionError, UnclosedExpression) as error:
            message = (
                str(error) if isinstance(error, ExpressionError) else "the expression is not closed: }} is missing"
            )
            if looks_like_a_command(source):
                message = "a command is no condition: it goes into `preconditions: [{run: …}]`"
            self._problem(path, text, text.find(OPEN), message)
            return None
        at = self._at(path, text, start) if OPEN in text else self.tree.problem(path, "")
        return Condition(
            source,
            Expression(used.source, at, used.reads, used.names <= EARLY),
            used.states,
            used.status,
            self._scope(task_id, named="env" in used.names),
        )

    def _scope(self, task_id: str, *, named: bool) -> Expressions:
        """The variables that a task's condition may name, if it does, and what those take of other tasks."""
        if not named:
            return Expressions(workflow=self._workflow)
        found = self.tasks.get(task_id)
        env = self._tasks[task_id].get("env")
        own = found.own_env if found is not None else env if isinstance(env, dict) else {}
        templates = [one for layer in (self._shared, own) for one in layer.values() if isinstance(one, tuple)]
        parts = [part for one in templates for part in one if isinstance(part, Expression)]
        taken = tuple(dict.fromkeys(ref for part in parts for ref in part.reads))
        return Expressions(workflow=self._workflow, reads=taken, shared_env=self._shared, own_env=own)

    def _fan(self, task_id: str, task: dict[str, Any], here: NameScope) -> dict[str, Template]:
        """The templates in what a task is mapped over. They are evaluated before there is an instance; only the `key`
        is about one."""
        variables = self._known_variables(task, self._shared)
        known = NameScope(
            self._params, self._tasks, ("params", "env", "run", "workflow", "tasks"), task_id, env=variables
        )
        found: dict[str, Template] = {}
        for name in ("matrix", "foreach"):
            value = task.get(name)
            parts: list[tuple[Path, Any]] = [(["tasks", task_id, name], value)]
            if isinstance(value, dict):
                parts = [(["tasks", task_id, name, key], one) for key, one in value.items()]
            for path, part in parts:
                is_key = path[-1] == "key"
                read = self._texts(path, part, here if is_key else known)
                found |= read
                if isinstance(part, str) and not is_key and any(len(one) > 1 for one in read.values()):
                    message = "must be an expression alone: with text around it, it gives text and no list"
                    self._problem(path, part, part.index(OPEN), message)
        return found

    def _texts(self, path: Path, value: Any, known: NameScope) -> dict[str, Template]:
        """The templates in a value, at any depth, by their text."""
        if isinstance(value, str):
            read = self._template(path, value, known)
            return {value: read} if isinstance(read, tuple) else {}
        items: Sequence[tuple[Key, Any]] = ()
        if isinstance(value, dict):
            items = list(value.items())
        elif isinstance(value, list):
            items = list(enumerate(value))
        return {text: one for key, item in items for text, one in self._texts([*path, key], item, known).items()}

    # -- one text ------------------------------------------------------------------------------------------------

    def _template(self, path: Path, text: Any, known: NameScope, *, shell: bool = False) -> Any:
        """The text as a template; itself where it holds no expression."""
        if not isinstance(text, str) or OPEN not in text:
            return text
        try:
            parts = split(text)
        except UnclosedExpression as error:
            self._problem(path, text, error.start, "the expression is not closed: }} is missing")
            return text
        template: list[str | Expression] = []
        for part in parts:
            if isinstance(part, str):
                template.append(part)
                continue
            try:
                used = find_references(part.source, known)
                if used.raw and not shell:
                    raise ExpressionError("raw(…) is for the `run` of a shell task; here values are never parsed")
            except ExpressionError as error:
                self._problem(path, text, part.start, str(error))
                continue
            template.append(self._expression(path, text, part, used))
        return tuple(template)

    def _expression(self, path: Path, text: str, part: Part, used: References) -> Expression:
        at = self._at(path, text, part.start)
        return Expression(
            used.source,
            at,
            used.reads,
            used.names <= EARLY,
            used.raw,
            used.quoted,
            used.instance_only,
            used.env,
            used.number,
        )

    def _script(
        self, path: Path, text: str, task: dict[str, Any], known: NameScope
    ) -> tuple[str, dict[str, Template], tuple[Template, ...]]:
        """The script with references in place of its expressions, the variables they name, and what is pasted."""
        before = len(self.problems)
        template = self._template(path, text, known, shell=True)
        shell = _shell_name(task.get("shell", self._shell))
        if shell is None:
            message = (
                "expressions can stand in scripts of sh, dash, ash and bash; for another shell put the expression "
                "under `env`, and name the variable in the script as that shell does"
            )
            self._problem(path, text, text.index(OPEN), message)
        if len(self.problems) > before or shell is None:
            return "", {}, ()
        words, pasted, sites = dict[str, Template](), list[Template](), list[Site]()
        taken = {part.source: "" for part in template if isinstance(part, Expression)}
        number = 0
        for part in template:
            if isinstance(part, str):
                continue
            if part.raw:
                sites.append(Site("", f"{SITE}{len(pasted)}{SITE}"))
                pasted.append((part,))
                continue
            if not taken[part.source]:
                number += 1
                while f"{_VARIABLE}{number}" in text or f"{_VARIABLE}{number}" in (task.get("env") or {}):
                    number += 1
                taken[part.source] = f"{_VARIABLE}{number}"
                words[taken[part.source]] = (part,)
            sites.append(Site(taken[part.source], None, part.quoted, part.number, self._is_declared_number(part)))
        scanned = "".join(part if isinstance(part, str) else SITE for part in template)
        try:
            return rewrite(scanned, sites, shell, self._scripts), words, tuple(pasted)
        except UnsafeExpression as error:
            starts = [part.start for part in split(text) if isinstance(part, Part)]
            for number, reason in error.objections.items():
                self._problem(path, text, starts[number], reason.message)
            return "", {}, ()

    def _is_declared_number(self, part: Expression) -> bool:
        """Whether an expression is a parameter that is declared as a number, and nothing else."""
        scope, _, name = part.source.partition(".")
        return scope == "params" and is_number(self._params.get(name))

    # -- what is wrong -------------------------------------------------------------------------------------------

    def _at(self, path: Path, text: str, start: int) -> Problem:
        """The place of an expression in the file: its braces stand there as they stand in the text."""
        problem = self.tree.problem(path, "")
        if not problem.line:
            return problem
        if OPEN not in text:
            return problem
        line, column = self._lines.behind(problem.line, problem.column, OPEN, text.count(OPEN, 0, max(start, 0)))
        return problem._replace(line=line, column=column)

    def _problem(self, path: Path, value: Any, start: int, message: str) -> None:
        text = value if isinstance(value, str) else ""
        self.problems.append(self._at(path, text, start)._replace(message=message))

    def _refuse_elsewhere(self) -> None:
        """Expressions where nothing evaluates them would be taken for names of folders and the like."""
        root = self.tree.root
        places: list[tuple[Path, Any]] = [([key], root.get(key)) for key in ("settings", "shell", "dotenv", "secrets")]
        for task_id, task in self._tasks.items():
            if isinstance(task, dict):
                keys = [
                    key
                    for key in task
                    if key in COMMON and key not in (*_PROSE, *OPTIONS, *FANS, *_APART, "env", "cwd")
                ]
                places += [(["tasks", task_id, key], task[key]) for key in keys]
        for path, value in places:
            for where, text in _leaves(path, value):
                if OPEN in text:
                    self._problem(where, text, text.index(OPEN), "an expression cannot stand here")


_IN_CODE: Final = (
    "an expression cannot stand in Python code, where its value would become code; write "
    "`from liteflow import current_context` and take current_context().params[…] or .secrets[…], "
    "or use `call` with the expression in its `args`"
)


def _named(template: str | Template) -> Iterator[str]:
    """The environment variables that a template names."""
    for part in template:
        if isinstance(part, Expression):
            yield from part.env


def looks_like_a_command(text: str) -> bool:
    """Whether a condition that cannot be understood is a command line."""
    if re.match(r"!?\s*(?:\$\(|`)", text):
        return True
    first = re.match(r"(?:!\s*)?([\w./~-]+|\[\[?)", text)
    if first is None:
        return False
    if (
        first[1] in ("[[", "test")
        or first[1].startswith(("./", "/", "~"))
        or re.match(r"\[\s+-?\w", first[0] + text[first.end() :])
    ):
        return True
    name = re.split(r"[.\[]", first[1])[0]
    follows = re.match(r"\s+(\S+)", text[first.end() :])
    if follows is None or name in SCOPES or name in ("not", "item", "matrix", "needs"):
        return False
    return follows[1] not in _WORDS and re.match(r"[\w./~$\"'*-]", follows[1]) is not None


def _mistaken(template: str | Template, known: NameScope) -> bool:
    """Does it name what is not known there?"""
    try:
        for part in template:
            if isinstance(part, Expression):
                find_references(part.source, known)
    except ExpressionError:
        return True
    return False


def _shell_name(shell: Any) -> str | None:
    """The name of the shell of a task, where expressions can stand in its script."""
    words = [shell] if isinstance(shell, str) else [DEFAULT_SHELL] if shell is None else shell
    words = [word for word in words if isinstance(word, str)]
    if words and os.path.basename(words[0]) == "env":
        words = words[1:]
    name = os.path.basename(words[0]).rstrip("-.0123456789") if words else ""
    if name == "sh":  # on some systems it is bash, which evaluates more
        program = os.path.realpath(shell_prefix(words[:1])[0])
        return "bash" if os.path.basename(program) == "bash" else "sh"
    return name if name in SHELLS else None


def _scripts(keys: Mapping[str, Any]) -> Iterator[str]:
    """The script of a task with a `SITE` in place of each expression, if there are any in it."""
    text = keys.get("run")
    if keys.get("type") == "shell" and isinstance(text, str) and OPEN in text:
        with suppress(UnclosedExpression):
            yield "".join(SITE if isinstance(part, Part) else part for part in split(text))


def _has(value: Any) -> bool:
    return any(OPEN in text for _, text in _leaves([], value))


def _leaves(path: Path, value: Any) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves([*path, key], item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves([*path, index], item)
