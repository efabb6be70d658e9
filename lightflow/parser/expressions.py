"""The expressions of a workflow file: their templates, the values that they read, and every mistake in them.

Only files with a `${{` or a condition need this module. The tree is not changed; the templates go into the `TaskSpec`s.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from lightflow.errors import Location, Problem
from lightflow.expressions.language import ExpressionError
from lightflow.expressions.references import (
    EARLY,
    EVERYWHERE,
    SCOPES,
    NameScope,
    References,
    UnknownTask,
    find_references,
)
from lightflow.expressions.shell.rewrite import SHELLS, SITE, Site, UnsafeExpression, rewrite, text_to_parse
from lightflow.expressions.shell.syntax import Scripts
from lightflow.expressions.template import OPEN, Part, UnclosedExpression, split
from lightflow.parser.positions import Key, Lines
from lightflow.parser.subjects.environment import secret_names
from lightflow.parser.subjects.fan_out import item_name, matrix_fields
from lightflow.parser.subjects.params import is_number
from lightflow.parser.subjects.tasks import COMMON
from lightflow.parser.tree import ConditionNode, ExpressionIndex, TaskNode, Tree, mapping_or_empty, workflow_values
from lightflow.plugins.expression_kinds import rule_at, script_key, texts_in
from lightflow.plugins.registry import Registry
from lightflow.spec.model import GROUP, ConditionSpec, Expression, Expressions, KeyTemplate, Template
from liteflow import CycleError
from liteflow.api import DEFAULT_SHELL, HOOK_EVENTS, Graph, replace, shell_prefix

Path = list[Key]
_Layer = dict[str, str | Template]  # the variables of one `env`

#: Keys of every task that may be an expression and are needed before the run starts.
_OPTIONS: Final = ("timeout", "retries", "retry_delay")
_MAPPINGS: Final = ("matrix", "foreach")
#: Keys of a task that do not belong to its own work.
_SEPARATE: Final = frozenset(["if", "preconditions", "repeat", *HOOK_EVENTS])
#: Keys with text for people, in which nothing is evaluated.
_PROSE: Final = ("description", "workflow_name", "params", "depends_on", "type", "trigger_rule", "mode", "plugins")
#: Keys of every task in which an expression is refused.
_REFUSED: Final = [key for key in COMMON if key not in {*_PROSE, *_OPTIONS, *_MAPPINGS, *_SEPARATE, "env", "cwd"}]
_NOT_ALLOWED: Final = "an expression is not allowed here"
_NOT_CLOSED: Final = "the expression is not closed: }} is missing"
#: The beginning of a URL with a complete host.
#: The text before the first expression of a URL: a server and the begin of its path, or the path alone.
_URL_START: Final = r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]+[/?#]|/(?!/)"
_IN_HOST: Final = (
    "an expression is not allowed before the path of a URL, where its value could name another server; "
    "make the whole URL an expression"
)
_VARIABLE: Final = "LIGHTFLOW_EXPR_"
#: Words between two values of an expression.
_OPERATOR_WORDS: Final = ("and", "or", "is", "in", "not", "if", "else")


def read_expressions(tree: Tree, registry: Registry) -> ExpressionIndex:
    """Return all expressions of a tree, and the problems in them."""
    reader = _Reader(tree, registry)
    outputs = reader.read_outputs()
    return ExpressionIndex(
        tasks=reader.tasks,
        conditions=reader.conditions,
        outputs=outputs,
        problems=reader.templates.problems,
    )


def read_arguments(tree: Tree, group: str) -> tuple[dict[str, Template], list[Problem]]:
    """Return the templates in the values that a group gives its included file, by their text, and the problems."""
    templates = _Templates(tree)
    scope = NameScope(params=mapping_or_empty(tree.root.get("params")), tasks=(), scopes=("params", "workflow"))
    read = templates.read_all(["tasks", group, "params"], tree.tasks[group].get("params"), scope)
    return read, templates.problems


class _Templates:
    """Reads the expressions in texts, and collects the problems."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._lines = Lines(tree.source.text)
        self.problems: list[Problem] = []

    def read(self, path: Path, text: Any, scope: NameScope, *, in_script: bool = False, in_sql: bool = False) -> Any:
        """Return the template of a text, or the value itself where it has none, or one that is not known yet."""
        if not isinstance(text, str) or OPEN not in text:
            return text
        try:
            parts = split(text)
        except UnclosedExpression as error:
            self.report(path, text, error.start, _NOT_CLOSED)
            return text
        template: list[str | Expression] = []
        is_complete = True
        for part in parts:
            if isinstance(part, str):
                template.append(part)
                continue
            try:
                references = find_references(part.source, scope)
                if references.raw and not in_script:
                    raise ExpressionError("raw(…) is for the `run` of a shell task; here values are never parsed")
                if references.identifier and not in_sql:
                    raise ExpressionError("ident is for the text of SQL, where it makes a name")
            except ExpressionError as error:
                if self.follows_from_include(error, scope):
                    is_complete = False
                else:
                    self.report(path, text, part.start, str(error))
                continue
            template.append(_expression(references, self.location(path, text, part.start)))
        return tuple(template) if is_complete else text

    def follows_from_include(self, error: ExpressionError | UnclosedExpression, scope: NameScope) -> bool:
        """Return whether an expression may name a task of a file that cannot be included, which is reported."""
        return isinstance(error, UnknownTask) and self._tree.may_be_included(error.name, scope.groups)

    def read_all(self, path: Path, value: Any, scope: NameScope) -> dict[str, Template]:
        """Return the templates in a value, at any depth, by their text."""
        templates = {}
        for inner_path, text in texts_in(path, value):
            template = self.read(inner_path, text, scope)
            if isinstance(template, tuple):
                templates[text] = template
        return templates

    def location(self, path: Path, text: str, start: int) -> Location:
        """Return the place of an expression in the file: the file has the same braces as the text, in this order."""
        location = self._tree.location(path)
        if not location.line or OPEN not in text:
            return location
        number = text.count(OPEN, 0, max(start, 0))
        line, column = self._lines.after(location.line, location.column, OPEN, number)
        return replace(location, line=line, column=column)

    def report(self, path: Path, value: Any, start: int, message: str) -> None:
        """Add a problem of the expression that begins at `start` of a text."""
        text = value if isinstance(value, str) else ""
        self.problems.append(self.location(path, text, start).problem(message))


def _expression(references: References, location: Location) -> Expression:
    return Expression(
        source=references.source,
        location=location,
        reads=references.reads,
        early=references.names <= EARLY,
        raw=references.raw,
        quoted=references.quoted,
        instance_only=references.instance_only,
        env=references.env,
        reads_environment="env" in references.names,
        number=references.number,
        names=references.task_names,
    )


class _Script(NamedTuple):
    """A shell script with variables in place of its expressions."""

    text: str = ""
    words: Mapping[str, Template] = {}
    pasted: tuple[Template, ...] = ()


class _ScriptReader:
    """Replaces the expressions of shell scripts by variables, where the shell keeps their values apart from code."""

    def __init__(
        self, tree: Tree, templates: _Templates, params: Mapping[str, Any], script_keys: Sequence[str]
    ) -> None:
        self._templates = templates
        self._params = params
        self._workflow_shell = tree.shell
        texts = [node.keys.get(key) for node, key in zip(tree.task_nodes, script_keys, strict=True)]
        self._parsed = Scripts([text_to_parse(site) for text in texts for site in _with_sites(text)])

    def read(self, path: Path, text: str, task: Mapping[str, Any], scope: NameScope) -> _Script:
        """Return the script of a task; an empty script where there are problems."""
        before = len(self._templates.problems)
        template = self._templates.read(path, text, scope, in_script=True)
        shell = _shell_name(task.get("shell", self._workflow_shell))
        if shell is None:
            message = (
                "expressions are allowed in scripts of sh, dash, ash and bash; for another shell put the expression "
                "under `env`, and name the variable in the script as that shell does"
            )
            self._templates.report(path, text, text.index(OPEN), message)
        if len(self._templates.problems) > before or shell is None or not isinstance(template, tuple):
            return _Script()
        words, pasted, sites = self._sites(template, text, mapping_or_empty(task.get("env")))
        scanned = "".join(part if isinstance(part, str) else SITE for part in template)
        try:
            return _Script(rewrite(scanned, sites, shell, self._parsed), words, tuple(pasted))
        except UnsafeExpression as error:
            starts = [part.start for part in split(text) if isinstance(part, Part)]
            for number, reason in error.objections.items():
                self._templates.report(path, text, starts[number], reason.message)
            return _Script()

    def _sites(
        self, template: Template, text: str, env: Mapping[str, Any]
    ) -> tuple[dict[str, Template], list[Template], list[Site]]:
        """Return the variables of a script, its pasted values, and the replacement of each expression."""
        words, pasted, sites = dict[str, Template](), list[Template](), list[Site]()
        variables: dict[str, str] = {}  # by the source of the expression
        number = 0
        for part in template:
            if isinstance(part, str):
                continue
            if part.raw:
                sites.append(Site("", f"{SITE}{len(pasted)}{SITE}"))
                pasted.append((part,))
                continue
            if part.source not in variables:
                number += 1
                while f"{_VARIABLE}{number}" in text or f"{_VARIABLE}{number}" in env:
                    number += 1
                variables[part.source] = f"{_VARIABLE}{number}"
                words[variables[part.source]] = (part,)
            is_declared = self._is_declared_number(part)
            sites.append(Site(variables[part.source], None, part.quoted, part.number, is_declared))
        return words, pasted, sites

    def _is_declared_number(self, part: Expression) -> bool:
        """Return whether an expression is exactly a parameter that is declared as a number."""
        scope, _, name = part.source.partition(".")
        return scope == "params" and is_number(self._params.get(name))


class _TaskScope(NamedTuple):
    """The names that the expressions of a task may use, and its variables."""

    names: NameScope
    item: str
    enclosing_env: _Layer
    own_env: _Layer


class _Reader:
    """Reads the expressions of a file: of its own keys, then of each task and hook, then the conditions."""

    def __init__(self, tree: Tree, registry: Registry) -> None:
        self._tree = tree
        self._task_ids = dict.fromkeys(tree.all_ids)
        self._group_ids = tree.all_groups
        self._schemas = [_keys_of_type(node, registry) for node in tree.task_nodes]
        self._params = mapping_or_empty(tree.root.get("params"))
        self._secrets = secret_names(tree.root)
        self._workflow = workflow_values(tree)
        self.templates = _Templates(tree)
        script_keys = [script_key(schema) for schema in self._schemas]
        self._scripts = _ScriptReader(tree, self.templates, self._params, script_keys)
        self._refuse_elsewhere()
        names = ("params", "env", "run", "workflow", "task")
        scope = NameScope(params=self._params, tasks=self._task_ids, scopes=names, secrets=self._secrets)
        self._shared_env = self._variables(["env"], mapping_or_empty(tree.root.get("env")), scope, self._env_names({}))
        self.tasks = dict(self._read_tasks())
        self.conditions = dict(self._read_conditions())

    def _read_tasks(self) -> Iterator[tuple[str, Expressions]]:
        shared = any(not isinstance(text, str) for text in self._shared_env.values())
        for node, schema in zip(self._tree.task_nodes, self._schemas, strict=True):
            task_values = [value for key, value in node.keys.items() if key not in _SEPARATE]
            if shared or _has_expression([task_values, node.outer_env, node.cwd]):
                yield node.id, self._task(node, schema)

    def _read_conditions(self) -> Iterator[tuple[str, ConditionSpec]]:
        for node in self._tree.conditions:
            condition = self._condition(node)
            if condition is not None:
                yield node.id, condition

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _task(self, node: TaskNode, schema: Mapping[str, Any] | None) -> Expressions:
        task_id = "" if node.is_hook else node.id
        scope = self._task_scope(node)
        early = NameScope(
            params=self._params,
            tasks=self._task_ids,
            scopes=("params", "workflow", "env"),
            task=task_id,
            groups=scope.names.groups,
            env=scope.names.env,
        )
        options = {
            key: template
            for key in _OPTIONS
            if isinstance(template := self.templates.read([*node.path, key], node.keys.get(key), early), tuple)
        }
        cwd = self._cwd(node, replace(scope.names, secrets=None))
        script, config = self._own_keys(node, schema, scope.names)
        env = [text for layer in (scope.enclosing_env, scope.own_env) for text in layer.values()]
        reading = [*env, *([cwd] if cwd else []), *options.values()]
        reading += [*script.words.values(), *script.pasted, *(key.template for key in config)]
        is_mapped = bool(scope.item) and not node.is_hook
        mapping = self._mapping(node.id, node.keys, scope.names) if is_mapped else {}
        return Expressions(
            workflow=self._workflow,
            reads=_reads(reading),
            shared_env=self._shared_env,
            enclosing_env=scope.enclosing_env,
            own_env=scope.own_env,
            cwd=cwd,
            options=options,
            script=script.text,
            script_key=script_key(schema),
            words=script.words,
            pasted=script.pasted,
            config=config,
            item=scope.item,
            mapping=mapping,
            names=_names([*reading, *mapping.values()]),
        )

    def _task_scope(self, node: TaskNode) -> _TaskScope:
        task_id, own_env = "" if node.is_hook else node.id, mapping_or_empty(node.keys.get("env"))
        owner = self._owner(node)
        item = "" if node.is_hook and not node.owner else item_name(owner)
        fields = matrix_fields(owner)
        names = NameScope(
            params=self._params,
            tasks=self._task_ids,
            task=task_id,
            groups=self._tree.groups_around(str(node.owner[1]) if node.owner else node.id),
            group_ids=self._group_ids,
            secrets=self._secrets,
            item=item,
            fields=fields,
        )
        if node.is_hook and "preconditions" not in node.path:
            names = replace(names, scopes=(*names.scopes, "hook"))
        if "repeat" in owner and not node.is_hook:
            names = replace(names, scopes=(*names.scopes, "iteration", "previous"))
        below = self._env_names(owner, self._shared_env)
        enclosing = self._variables([*node.owner, "env"], node.outer_env, names, below)
        names = replace(names, env=self._env_names(owner, self._shared_env, enclosing, own_env))
        below = self._env_names(owner, self._shared_env, enclosing)
        if item and node.runs_before_mapping:
            names, item = replace(names, item="", fields=None, unavailable=item), ""
            enclosing = {name: text for name, text in enclosing.items() if _is_valid(text, names)}
        return _TaskScope(names, item, enclosing, self._variables([*node.path, "env"], own_env, names, below))

    def _owner(self, node: TaskNode) -> Mapping[str, Any]:
        """Return the keys of the task of a hook, or of the task itself."""
        return self._tree.tasks[str(node.owner[1])] if node.owner else node.keys

    def _cwd(self, node: TaskNode, scope: NameScope) -> Template | None:
        path, folder = [*node.path, "cwd"], node.keys.get("cwd")
        if folder is None and node.cwd is not None:
            path = [*node.owner, "cwd"] if node.owner and "cwd" in self._owner(node) else ["cwd"]
            folder = node.cwd
        template = self.templates.read(path, folder, scope)
        return template if isinstance(template, tuple) else None

    def _own_keys(
        self, node: TaskNode, schema: Mapping[str, Any] | None, scope: NameScope
    ) -> tuple[_Script, tuple[KeyTemplate, ...]]:
        """Return the script and the other templates in the keys of the task's type."""
        script, templates = _Script(), list[KeyTemplate]()
        if node.keys.get("type") == GROUP:
            return script, ()  # its keys are read with its tasks, and before them
        own_keys = {key: value for key, value in node.keys.items() if key not in COMMON}
        for inner_path, text in texts_in([], own_keys):
            if OPEN not in text:
                continue
            rule, path = rule_at(schema, inner_path), [*node.path, *inner_path]
            if rule.kind == "none":
                self.templates.report(path, text, text.index(OPEN), rule.refusal or _NOT_ALLOWED)
            elif rule.kind == "shell":
                script = self._scripts.read(path, text, node.keys, scope)
            else:
                names = _without_secrets(scope, rule.refusal) if rule.is_shown else scope
                template = self.templates.read(path, text, names, in_sql=rule.kind == "bind")
                if isinstance(template, tuple):
                    templates.append(KeyTemplate(tuple(inner_path), rule.kind, template))
                    self._check_host(path, text, templates[-1])
        return script, tuple(templates)

    def _check_host(self, path: Path, text: str, key: KeyTemplate) -> None:
        """Report an expression in the scheme or the host of a URL, unless it is the whole URL."""
        if key.kind == "url" and len(key.template) > 1 and not re.match(_URL_START, text.partition(OPEN)[0]):
            self.templates.report(path, text, text.index(OPEN), _IN_HOST)

    def _mapping(self, task_id: str, task: Mapping[str, Any], instance_names: NameScope) -> dict[str, Template]:
        """Return the templates in `matrix` or `foreach`. They are evaluated before instances exist, save the `key`."""
        env = self._env_names(task, self._shared_env)
        names = ("params", "env", "run", "workflow", "tasks")
        scope = replace(instance_names, scopes=names, secrets=None, item="", fields=None, env=env)
        templates: dict[str, Template] = {}
        for name in _MAPPINGS:
            value = task.get(name)
            parts: list[tuple[Path, Any]] = [(["tasks", task_id, name], value)]
            if isinstance(value, dict):
                parts = [(["tasks", task_id, name, key], part) for key, part in value.items()]
            for path, part in parts:
                is_key = path[-1] == "key"
                read = self.templates.read_all(path, part, instance_names if is_key else scope)
                templates |= read
                if isinstance(part, str) and not is_key and any(len(template) > 1 for template in read.values()):
                    message = "must be an expression alone: with text around it, it gives text and no list"
                    self.templates.report(path, part, part.index(OPEN), message)
        return templates

    def read_outputs(self) -> Expressions | None:
        """Return the expressions in the values of a run."""
        names = ("params", "run", "workflow", "tasks")
        scope = NameScope(params=self._params, tasks=self._task_ids, group_ids=self._group_ids, scopes=names)
        config = []
        for path, text in texts_in(["outputs"], mapping_or_empty(self._tree.root.get("outputs"))):
            template = self.templates.read(path, text, scope)
            if isinstance(template, tuple):
                config.append(KeyTemplate(tuple(path), "text", template))
        reading = [key.template for key in config]
        if not config:
            return None
        return Expressions(workflow=self._workflow, reads=_reads(reading), config=tuple(config), names=_names(reading))

    # -- variables ----------------------------------------------------------------------------------------------------

    def _env_names(self, task: Mapping[str, Any], *layers: Mapping[str, Any]) -> frozenset[str] | None:
        """Return the names of the variables in some layers; None: dotenv files, not read yet, have others."""
        if self._tree.root.get("dotenv") or task.get("dotenv"):
            return None
        return frozenset(name for layer in layers for name in layer)

    def _variables(self, path: Path, env: Mapping[str, Any], scope: NameScope, below: frozenset[str] | None) -> _Layer:
        """Return the variables of one `env`, which may name each other, and those of the layers below."""
        layer: _Layer = {}
        for name, text in env.items():
            names = None if below is None else (below | env.keys()) - ({name} - below)
            layer[name] = self.templates.read([*path, name], text, replace(scope, env=names))
        graph = {
            name: [other for other in _variables_in(text) if other in layer and other != name]
            for name, text in layer.items()
        }
        try:
            if any(graph.values()):
                Graph(graph)
        except CycleError as error:
            message = f"the variables need each other: {' -> '.join(reversed(error.path))}"
            self.templates.problems.append(self._tree.problem([*path, error.path[0]], message))
        return layer

    # -- conditions ---------------------------------------------------------------------------------------------------

    def _condition(self, node: ConditionNode) -> ConditionSpec | None:
        """Return the condition of an `if`; None where it has a mistake."""
        text = ("true" if node.text else "false") if isinstance(node.text, bool) else node.text
        if not isinstance(text, str) or not text.strip():
            return None  # the schema reports it
        task = self._tree.tasks[node.task_id]
        scope = NameScope(
            params=self._params,
            tasks=self._task_ids,
            task=node.task_id,
            groups=self._tree.groups_around(node.task_id),
            group_ids=self._group_ids,
            scopes=(*EVERYWHERE, "outputs", "result", "iteration") if node.is_of_repeat else EVERYWHERE,
            condition=not node.is_of_repeat,
            unavailable=item_name(task),
            env=self._env_names(task, self._shared_env, mapping_or_empty(task.get("env"))),
        )
        source, start = text.strip(), 0
        try:
            if OPEN in text:
                parts = [part for part in split(text) if not isinstance(part, str) or part.strip()]
                if len(parts) != 1 or isinstance(parts[0], str):
                    raise ExpressionError("write the whole condition between ${{ and }}, or without them")
                source, start = parts[0].source, parts[0].start
            references = find_references(source, scope)
            if references.raw or references.identifier:
                name, place = ("raw(…)", "the `run` of a shell task") if references.raw else ("ident", "SQL")
                raise ExpressionError(f"{name} is for {place}")
        except (ExpressionError, UnclosedExpression) as error:
            if self.templates.follows_from_include(error, scope):
                return None
            message = str(error) if isinstance(error, ExpressionError) else _NOT_CLOSED
            if looks_like_a_command(source):
                message = "a command is not a condition: it goes into `preconditions: [{run: …}]`"
            self.templates.report(node.path, text, text.find(OPEN), message)
            return None
        location = self.templates.location(node.path, text, start)
        return ConditionSpec(
            text=source,
            expression=Expression(
                source=references.source,
                location=location,
                reads=references.reads,
                early=references.names <= EARLY,
            ),
            states=references.states,
            status=references.status,
            scope=self._condition_scope(node.task_id, references),
        )

    def _condition_scope(self, task_id: str, references: References) -> Expressions:
        """Return the variables that a task's condition may name, if it names any."""
        names = dict(references.task_names)
        if "env" not in references.names:
            return Expressions(workflow=self._workflow, names=names)
        expressions = self.tasks.get(task_id)
        own_env: Mapping[str, Any] = mapping_or_empty(self._tree.tasks[task_id].get("env"))
        if expressions is not None:
            own_env = expressions.own_env
        reads = _reads([*self._shared_env.values(), *own_env.values()])
        return Expressions(
            workflow=self._workflow,
            reads=reads,
            shared_env=self._shared_env,
            own_env=own_env,
            names=names | _names([*self._shared_env.values(), *own_env.values()]),
        )

    # -- keys without expressions -------------------------------------------------------------------------------------

    def _refuse_elsewhere(self) -> None:
        """Report expressions where nothing evaluates them: they would be read as the name of a folder, for example."""
        root = self._tree.root
        places: list[tuple[Path, Any]] = [([key], root.get(key)) for key in ("settings", "shell", "dotenv", "secrets")]
        for task_id, task in self._tree.tasks.items():
            places += [(["tasks", task_id, key], task[key]) for key in _REFUSED if key in task]
        for path, value in places:
            for inner_path, text in texts_in(path, value):
                if OPEN in text:
                    self.templates.report(inner_path, text, text.index(OPEN), _NOT_ALLOWED)


def _without_secrets(scope: NameScope, refusal: str) -> NameScope:
    """Return the names of a place that people see; `refusal` is the message about a secret, or empty."""
    return replace(scope, secrets=None, secrets_refusal=refusal or scope.secrets_refusal)


def looks_like_a_command(text: str) -> bool:
    """Return whether a condition with a mistake is a command line."""
    if re.match(r"!?\s*(?:\$\(|`)", text):
        return True
    first = re.match(r"(?:!\s*)?([\w./~-]+|\[\[?)", text)
    if first is None:
        return False
    rest = text[first.end() :]
    is_test = re.match(r"\[\s+-?\w", first[0] + rest) is not None
    if is_test or first[1] in ("[[", "test") or first[1].startswith(("./", "/", "~")):
        return True
    name = re.split(r"[.\[]", first[1])[0]
    follows = re.match(r"\s+(\S+)", rest)
    if follows is None or name in SCOPES or name in ("not", "item", "matrix", "needs"):
        return False
    return follows[1] not in _OPERATOR_WORDS and re.match(r"[\w./~$\"'*-]", follows[1]) is not None


def _keys_of_type(node: TaskNode, registry: Registry) -> Mapping[str, Any] | None:
    """Return the schema of the keys of a task's type; None: it is not known. The code of plugins is not loaded."""
    name = node.keys.get("type")
    info = registry.find(name) if isinstance(name, str) else None
    return info.schema if info is not None else None


def _variables_in(template: str | Template) -> Iterator[str]:
    """Return the environment variables that a template names."""
    for part in template:
        if isinstance(part, Expression):
            yield from part.env


def _reads(templates: Sequence[Any]) -> tuple[Any, ...]:
    """Return the values of other tasks that templates read."""
    parts = [part for template in templates if isinstance(template, tuple) for part in template]
    return tuple(dict.fromkeys(ref for part in parts if isinstance(part, Expression) for ref in part.reads))


def _names(templates: Sequence[Any]) -> dict[str, str]:
    """Return the names of other tasks in templates that differ from their ids, with the ids."""
    parts = [part for template in templates if isinstance(template, tuple) for part in template]
    return {name: task_id for part in parts if isinstance(part, Expression) for name, task_id in part.names}


def _is_valid(template: str | Template, scope: NameScope) -> bool:
    """Return whether all names in a template are in a scope."""
    try:
        for part in template:
            if isinstance(part, Expression):
                find_references(part.source, scope)
    except ExpressionError:
        return False
    return True


def _shell_name(shell: Any) -> str | None:
    """Return the name of a task's shell, or None where its scripts cannot have expressions."""
    words = [shell] if isinstance(shell, str) else [DEFAULT_SHELL] if shell is None else shell
    words = [word for word in words if isinstance(word, str)]
    if words and os.path.basename(words[0]) == "env":
        words = words[1:]
    name = os.path.basename(words[0]).rstrip("-.0123456789") if words else ""
    if name == "sh":  # on some systems it is bash, which evaluates more
        program = os.path.realpath(shell_prefix(words[:1])[0])
        return "bash" if os.path.basename(program) == "bash" else "sh"
    return name if name in SHELLS else None


def _with_sites(text: Any) -> Iterator[str]:
    """Return a script with a `SITE` in place of each expression, if it has any."""
    if isinstance(text, str) and OPEN in text:
        with suppress(UnclosedExpression):
            yield "".join(SITE if isinstance(part, Part) else part for part in split(text))


def _has_expression(value: Any) -> bool:
    return any(OPEN in text for _, text in texts_in([], value))
