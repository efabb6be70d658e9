"""The base class of task types: a name, the schema of the keys, and the work.

    class CsvFilter(TaskType):
        name = "csv_filter"
        schema = {"properties": {"source": {"type": "string"}}, "required": ["source"]}

        def run(self, config, context):
            ...
            return {"rows": 3}

`validate` reads `name` and `schema` without importing the file, so both must be literals.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from lightflow.import_path import importing_from, unpickling_from
from lightflow.plugins.needs import missing_modules, needs_text
from lightflow.spec.model import BoundValue as BoundValue  # types of plugins import it from here
from lightflow.spec.model import TaskSpec
from liteflow import Call, InputError, Secret, TaskFailed
from liteflow.api import Body, Poll, Record, replace, sha256_hex

#: How long a task waits where nothing says it.
LONGEST_WAIT_S: Final = 7 * 86_400.0


#: Why a task that waits does not leave the machine of its run.
WAITS_HERE: Final = "waits on the machine of the run"


class ConfigProblem(Record, kw_only=False):
    """A mistake in the value of a key."""

    key: str  #: with dots between the keys of a value inside another one, and the places in lists: `http.url`, `to.0`
    message: str
    line: int = 0  #: in the text of the value, from 1; 0: the whole value
    column: int = 0  #: from 1


class PluginContext(Record):
    """The attempt that a task type runs or undoes.

    `liteflow.current_context()` has the run and the values of other tasks.
    """

    task_id: str
    folder: str  #: of the workflow file
    mark: str = ""  #: the name of what the attempt starts outside the process tree, so that `undo` finds it
    key: str = ""  #: as `mark`, and the same for every attempt of the task instance
    attempt: int = 1
    deadline: float | None = None  #: when the attempt times out, in epoch seconds; None: it has no timeout


class TypeRef(Record):
    """A reference to the class of a task type, in a module or in a plugin file, for any process."""

    attribute: str
    module: str = ""
    path: str = ""  #: absolute

    def load(self) -> TaskType:
        """Import the class and make the task type. This runs the code of the module or file."""
        value: Any = import_file(self.path) if self.path else importlib.import_module(self.module)
        for name in self.attribute.split("."):
            value = getattr(value, name)
        if not (isinstance(value, type) and issubclass(value, TaskType)):
            home = self.path or self.module
            raise TypeError(f"{home}: {self.attribute} is not a subclass of lightflow.plugins.base.TaskType")
        return value()


class TypeInfo(Record):
    """A task type whose code is not loaded."""

    name: str
    schema: Mapping[str, Any] | None  #: None: it is not known, and all keys are accepted
    ref: TypeRef
    origin: str  #: for messages: "built in", a file, a package
    line: int = 0
    waits: bool = False  #: whether its source has a `poll`
    needs: tuple[str, ...] = ()  #: the modules that it imports
    extra: str = ""  #: the distribution that has them


class TaskType:
    """The base of every task type. Instances are made without arguments and have no state."""

    name: ClassVar[str] = ""
    #: The part of JSON Schema with `properties` and `required` of the type's own keys. The annotation `x-expressions`
    #: of a key says how it takes expressions (see `expression_kinds`).
    schema: ClassVar[Mapping[str, Any]] = {}
    #: The modules that the type imports, such as `("urllib3",)`: looked up before a run, imported before workers start.
    needs: ClassVar[tuple[str, ...]] = ()
    #: The distribution that has them, as `pip install` takes it; empty: the names of the modules.
    extra: ClassVar[str] = ""
    #: Whether the modules are imported before worker processes are forked.
    preload: ClassVar[bool] = True

    #: Seconds that an attempt may take where the workflow says nothing, in a task and in a hook; None: no limit.
    timeout_s: ClassVar[float | None] = None
    hook_timeout_s: ClassVar[float | None] = None
    wait_limit_s: ClassVar[float | None] = LONGEST_WAIT_S  #: as `timeout_s`, for a task of a type that waits
    #: Extra attempts of a hook where the workflow says nothing.
    hook_retries: ClassVar[int] = 0

    def check(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        """Return the mistakes that the schema cannot express. It executes nothing of the user's.

        The schema may refuse parts of `config` too, which can have any type.
        """
        return ()

    def hints(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        """Return warnings about keys that are valid and probably not meant; `config` has all keys of the task."""
        return ()

    def completed(
        self, config: dict[str, Any], *, workflow_shell: Any, is_branch: bool, container_engine: str | None
    ) -> dict[str, Any]:
        """Return the keys of a task with those that follow from the workflow and from its control flow."""
        return config

    def needed_modules(self, config: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the modules that a task with these keys needs."""
        return self.needs

    def summary(self, config: Mapping[str, Any]) -> str:
        """Return the task on one line, for `--dry-run`: its keys with their expressions as written."""
        return str(config.get("run") or config.get("call") or "")

    def build(self, task: TaskSpec) -> Body:
        """Return what the engine runs for `task`: here, a call of `run` in a worker process. It must be picklable."""
        return Call(
            run_task_type,
            self.arguments(task),
            cwd=absolute(task.cwd),
            env=task.env,
            lane="process",
            undo=self.undo_call(task),
            poll=self.poll_of(task),
        )

    def arguments(self, task: TaskSpec) -> dict[str, Any]:
        """Return the arguments of a call of `run_task_type` or `undo_task_type`."""
        return {
            "type_ref": self.reference(),
            "config": dict(task.config),
            "context": PluginContext(task_id=task.id, folder=os.path.dirname(task.file)),
        }

    def undo_call(self, task: TaskSpec) -> Call | None:
        """Return the call of `undo`; None: this type has nothing to undo."""
        if type(self).undo is TaskType.undo:
            return None
        return Call(undo_task_type, self.arguments(task), cwd=absolute(task.cwd), env=task.env)

    @classmethod
    def waits(cls) -> bool:
        """Return whether tasks of this type can wait without a worker: it has a `poll`."""
        return cls.poll is not TaskType.poll

    def reason_here(self, config: Mapping[str, Any]) -> str:
        """Return why a task with these keys runs on the machine of its run, and on no cluster; empty: it may leave."""
        return WAITS_HERE if self.waits() else ""

    def poll_of(self, task: TaskSpec) -> Poll | None:
        """Return how a task waits; None: this type does not."""
        if not self.waits():
            return None
        skips = task.config.get("on_timeout") == "skip"
        return Poll(func=poll_task_type, on_timeout="SKIPPED" if skips else "TIMED_OUT")

    def poll(self, config: Mapping[str, Any], context: PluginContext, handle: Any) -> Any:
        """Look whether the work of `run` is done, and return the value of the task or a `Waiting`.

        It is called when `run`, or the last `poll`, has returned a `Waiting`, with the handle of that, also after the
        process of the run was killed and the run resumed. It may take 30 seconds. An exception means that it is not
        known; it is called again, and the fifth exception in a row fails the attempt. `TaskFailed` fails it at once.
        """
        raise NotImplementedError(f"{type(self).__name__} has no poll()")

    def run(self, config: Mapping[str, Any], context: PluginContext) -> Any:
        """Do the work, in the worker, and return the value of the task. An exception fails the attempt.

        A type that has a `poll` may return a `liteflow.Waiting`: then the task waits without a worker.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither a run() nor a build() of its own")

    def undo(self, config: Mapping[str, Any], context: PluginContext, handle: Any) -> None:
        """End what an attempt has started outside the process tree, such as a container or a remote job.

        It is called in a process of its own after every end of an attempt but a success, also when the attempt, its
        worker or the whole run was killed. It has 8 seconds. It finds what to end by `context.mark`, may be called when
        there is nothing to end, and more than once. `handle` is that of the last `Waiting`, or None. An exception
        changes nothing: it is shown and stored, and the next resume calls it again.
        """

    def reference(self) -> TypeRef:
        """Return the reference to the class of this type."""
        kind = type(self)
        path = getattr(sys.modules[kind.__module__], "__lightflow_plugin__", "")
        return TypeRef(attribute=kind.__qualname__, module="" if path else kind.__module__, path=path)


def run_task_type(type_ref: TypeRef, config: Mapping[str, Any], context: PluginContext) -> Any:
    """Run a task of a plugin's type; at the top level, so that a new worker can import it."""
    context = _of_attempt(context)
    with unpickling_from(context.folder, os.getcwd()):
        return _loaded(type_ref, config).run(with_secrets(config), context)


def undo_task_type(type_ref: TypeRef, config: Mapping[str, Any], context: PluginContext) -> None:
    """Undo an attempt of a plugin's type."""
    context = _of_attempt(context)
    with unpickling_from(context.folder, os.getcwd()):
        try:
            task_type = _loaded(type_ref, config)
        except TaskFailed:  # the attempt could not begin here, either
            return
        task_type.undo(with_secrets(config), context, _running().handle)


def poll_task_type(type_ref: TypeRef, config: Mapping[str, Any], context: PluginContext) -> Any:
    """Poll the wait of a task of a plugin's type."""
    with unpickling_from(context.folder, os.getcwd()):
        return type_ref.load().poll(with_secrets(config), _of_attempt(context), _running().handle)


def _loaded(type_ref: TypeRef, config: Mapping[str, Any]) -> TaskType:
    """Return a task type for the attempt that runs here.

    Raises:
        TaskFailed: another machine than that of the run lacks the file of the type, or a module that it needs.
    """
    running = _running_if_any()
    if running is None or running.host is None:
        return type_ref.load()
    path = running.local_path(type_ref.path)
    if path and not os.path.exists(path):
        text = (
            f"there is no {path} on {running.host}, which has the type of the task: name it in `files` of the cluster"
        )
        raise TaskFailed(text, final=True)
    task_type = replace(type_ref, path=path).load()
    if missing := missing_modules(task_type.needed_modules(config)):
        text = f"{running.host}: {needs_text(task_type.name, missing, task_type.extra)}"
        raise TaskFailed(text, final=True)
    return task_type


def _running() -> Any:
    """Return the context of the attempt that runs here."""
    # Imported here, because its module reads the state file, which a check of a workflow does not need.
    from liteflow import current_context

    return current_context()


def _running_if_any() -> Any:
    """Return the context of the attempt that runs here; None: none runs, as in a test that calls a type."""
    try:
        return _running()
    except RuntimeError:
        return None


def with_secrets(value: Any) -> Any:
    """Return keys in which each declaration of a secret is replaced by its value, at any depth: in Python only.

    Raises:
        InputError: the dag does not declare the secret.
    """
    if isinstance(value, Secret):
        try:
            return _running().secrets[value.name]
        except KeyError:
            message = f"there is no secret {value.name!r}: Dag(…, secrets=[Secret({value.name!r})]) declares it"
            raise InputError(message) from None
    if isinstance(value, dict):
        return {name: with_secrets(item) for name, item in value.items()}
    return [with_secrets(item) for item in value] if isinstance(value, list) else value


def _of_attempt(context: PluginContext) -> PluginContext:
    """Return the context with what belongs to the attempt that runs here; unchanged where none runs."""
    running = _running_if_any()
    if running is None:
        return context
    return replace(
        context,
        folder=running.local_path(context.folder),
        mark=running.mark,
        key=running.key,
        attempt=running.attempt,
        deadline=running.deadline,
    )


def absolute(folder: str | None) -> str | None:
    """Return the absolute path of a folder, with `~` for the home."""
    return None if folder is None else os.path.abspath(os.path.expanduser(folder))


def import_file(path: str) -> Any:
    """Return the module of a plugin file, imported once in each process, with its folder on `sys.path`."""
    import importlib.util

    stem = os.path.splitext(os.path.basename(path))[0]
    name = f"lightflow_plugin_{stem}_{sha256_hex(path.encode('utf-8', 'surrogateescape'))[:12]}"
    with importing_from(os.path.dirname(path)):
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        module.__dict__["__lightflow_plugin__"] = path
        sys.modules[name] = module  # before it runs: dataclasses and pickle look classes up by it
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module
