"""The expressions of a workflow file: where they stand, what they read, and every mistake in them.

Called only where a file has a `${{`. The canonical tree is not changed; what was found is put into the `TaskSpec`s.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.expressions.language import Mistake
from lightflow.expressions.names import EARLY, Known, Uses, uses
from lightflow.expressions.shell import SHELLS, SITE, Refused, Site, rewrite
from lightflow.expressions.split import OPEN, NotClosed, Part, split
from lightflow.parser.canonical import Tree
from lightflow.parser.fan import fields_of, name_of
from lightflow.parser.positions import Key, Lines
from lightflow.parser.schema import COMMON
from lightflow.parser.spec import Expression, Expressions, Found, Template
from lightflow.plugins.shell_task import DEFAULT_SHELL

Path = list[Key]

#: Keys of every task in which an expression may stand; those that are needed before the run begins.
OPTIONS: Final = ("timeout", "retries", "retry_delay")
FANS: Final = ("matrix", "foreach")
_VARIABLE: Final = "LIGHTFLOW_EXPR_"
#: Text for people, in which nothing is evaluated.
_PROSE: Final = ("description", "workflow_name", "params", "depends_on", "type", "trigger_rule", "mode", "plugins")


def read_expressions(tree: Tree) -> Found:
    """All expressions of a canonical tree, and what is wrong with them."""
    reader = _Reader(tree)
    return Found(reader.tasks, reader.problems)


class _Reader:
    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._lines = Lines(tree.source.text)
        self.problems: list[Problem] = []
        self.tasks: dict[str, Expressions] = {}
        root = tree.root
        tasks = root.get("tasks")
        self._tasks = tasks if isinstance(tasks, dict) else {}
        self._params = root["params"] if isinstance(root.get("params"), dict) else {}
        path = os.path.abspath(tree.source.file)
        self._workflow = {"name": root.get("workflow_name", ""), "dir": os.path.dirname(path), "file": path}
        self._refuse_elsewhere()
        shared: dict[str, Any] = root["env"] if isinstance(root.get("env"), dict) else {}
        known = Known(self._params, self._tasks, ("params", "env", "run", "workflow", "task"))
        self._shared = {name: self._template(["env", name], text, known) for name, text in shared.items()}
        for task_id, task in self._tasks.items():
            if isinstance(task, dict) and (
                _has(task) or any(not isinstance(one, str) for one in self._shared.values())
            ):
                self.tasks[task_id] = self._task(task_id, task)

    # -- one task ------------------------------------------------------------------------------------------------

    def _task(self, task_id: str, task: dict[str, Any]) -> Expressions:
        item = name_of(task)
        here = Known(self._params, self._tasks, task=task_id, item=item, fields=fields_of(task))
        before = Known(self._params, self._tasks, ("params", "workflow", "env"), task_id)
        found: list[Template] = []

        def template(key: str, *rest: Key, known: Known = here) -> Any:
            value: Any = task.get(key)
            for name in rest:
                value = value[name]
            read = self._template(["tasks", task_id, key, *rest], value, known)
            if isinstance(read, tuple):
                found.append(read)
            return read

        own = task["env"] if isinstance(task.get("env"), dict) else {}
        own_env = {name: template("env", name) for name in own}
        cwd = template("cwd")
        options = {key: template(key, known=before) for key in OPTIONS}
        script, words, pasted, config = "", dict[str, Template](), tuple[Template, ...](), dict[str, Template]()
        for key, value in task.items():
            if key in COMMON or not _has(value):
                continue
            path: Path = ["tasks", task_id, key]
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
            own_env=own_env,
            cwd=cwd if isinstance(cwd, tuple) else None,
            options={key: one for key, one in options.items() if isinstance(one, tuple)},
            script=script,
            words=words,
            pasted=pasted,
            config=config,
            item=item,
            fan=self._fan(task_id, task, here) if item else {},
        )

    def _fan(self, task_id: str, task: dict[str, Any], here: Known) -> dict[str, Template]:
        """The templates in what a task is mapped over. They are evaluated before there is an instance; only the `key`
        of a foreach is about one."""
        known = Known(self._params, self._tasks, ("params", "env", "run", "workflow", "tasks"), task_id)
        found: dict[str, Template] = {}
        for name in ("matrix", "foreach"):
            value = task.get(name)
            parts: list[tuple[Path, Any]] = [(["tasks", task_id, name], value)]
            if isinstance(value, dict):
                parts = [(["tasks", task_id, name, key], one) for key, one in value.items()]
            for path, part in parts:
                is_key = name == "foreach" and path[-1] == "key"
                read = self._texts(path, part, here if is_key else known)
                found |= read
                if isinstance(part, str) and not is_key and any(len(one) > 1 for one in read.values()):
                    message = "must be an expression alone: with text around it, it gives text and no list"
                    self._problem(path, part, part.index(OPEN), message)
        return found

    def _texts(self, path: Path, value: Any, known: Known) -> dict[str, Template]:
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

    def _template(self, path: Path, text: Any, known: Known, *, shell: bool = False) -> Any:
        """The text as a template; itself where it holds no expression."""
        if not isinstance(text, str) or OPEN not in text:
            return text
        try:
            parts = split(text)
        except NotClosed as error:
            self._problem(path, text, error.start, "the expression is not closed: }} is missing")
            return text
        template: list[str | Expression] = []
        for part in parts:
            if isinstance(part, str):
                template.append(part)
                continue
            try:
                used = uses(part.source, known)
                if used.raw and not shell:
                    raise Mistake("raw(…) is for the `run` of a shell task; here values are never parsed")
            except Mistake as error:
                self._problem(path, text, part.start, str(error))
                continue
            template.append(self._expression(path, text, part, used))
        return tuple(template)

    def _expression(self, path: Path, text: str, part: Part, used: Uses) -> Expression:
        at = self._at(path, text, part.start)
        return Expression(used.source, at, used.reads, used.names <= EARLY, used.raw, used.quoted, used.of_instance)

    def _script(
        self, path: Path, text: str, task: dict[str, Any], known: Known
    ) -> tuple[str, dict[str, Template], tuple[Template, ...]]:
        """The script with references in place of its expressions, the variables they name, and what is pasted."""
        before = len(self.problems)
        template = self._template(path, text, known, shell=True)
        shell = _shell_of(task.get("shell"))
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
            sites.append(Site(taken[part.source], None, part.quoted))
        scanned = "".join(part if isinstance(part, str) else SITE for part in template)
        try:
            return rewrite(scanned, sites, shell), words, tuple(pasted)
        except Refused as error:
            starts = [part.start for part in split(text) if isinstance(part, Part)]
            self._problem(path, text, starts[error.site], str(error))
            return "", {}, ()

    # -- what is wrong -------------------------------------------------------------------------------------------

    def _at(self, path: Path, text: str, start: int) -> Problem:
        """The place of an expression in the file: its braces stand there as they stand in the text."""
        problem = self.tree.problem(path, "")
        if not problem.line:
            return problem
        line, column = self._lines.behind(problem.line, problem.column, OPEN, text.count(OPEN, 0, start))
        return problem._replace(line=line, column=column)

    def _problem(self, path: Path, value: Any, start: int, message: str) -> None:
        text = value if isinstance(value, str) else ""
        self.problems.append(self._at(path, text, start)._replace(message=message))

    def _refuse_elsewhere(self) -> None:
        """Expressions where nothing evaluates them would be taken for names of folders and the like."""
        root = self.tree.root
        places: list[tuple[Path, Any]] = [(["settings"], root.get("settings"))]
        for task_id, task in self._tasks.items():
            if isinstance(task, dict):
                keys = [key for key in task if key in COMMON and key not in (*_PROSE, *OPTIONS, *FANS, "env", "cwd")]
                places += [(["tasks", task_id, key], task[key]) for key in keys]
        for path, value in places:
            for where, text in _leaves(path, value):
                if OPEN in text:
                    self._problem(where, text, text.index(OPEN), "an expression cannot stand here")


_IN_CODE: Final = (
    "an expression cannot stand in Python code, where its value would become code; write "
    "`from liteflow import current_context` and take current_context().params[…], "
    "or use `call` with the expression in its `args`"
)


def _shell_of(shell: Any) -> str | None:
    """The name of the shell of a task, where expressions can stand in its script."""
    words = list(DEFAULT_SHELL) if shell is None else [shell] if isinstance(shell, str) else shell
    words = [os.path.basename(word) for word in words if isinstance(word, str)]
    if words and words[0] == "env":
        words = words[1:]
    return words[0] if words and words[0] in SHELLS else None


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
