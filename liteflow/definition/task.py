"""A task: what runs, what it waits for, and what it takes from other tasks.

`Task` is what `dag.task(...)` returns and what `>>` connects. The decorators are in `decorators`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType, MethodType
from typing import Any, Final, Protocol

from liteflow.definition.commands import with_values
from liteflow.definition.mapping import MapRef, checked_function
from liteflow.definition.options import DEFAULT_FLOW, NO_OPTIONS, TaskOptions, checked, make_options
from liteflow.definition.signature import NO_PARAMETERS, Parameters, parameters_of
from liteflow.definition.wrappers import HookFunction, RunIfFunction, SensorFunction
from liteflow.errors import DefinitionError
from liteflow.hooks import Condition
from liteflow.identifiers import NEW_ID_PATTERN
from liteflow.planning.trigger_rules import TriggerRule
from liteflow.record import Record, replace
from liteflow.work import Body, Call, Command, Expansion, Poll, Ref

#: Shared by tasks without arguments: two dicts a task would be a tenth of its memory.
_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


def check_id(name: object, what: str) -> str:
    """Return the id.

    Raises:
        DefinitionError: it is not text, or has characters that cause trouble in a file name or a shell.
    """
    if isinstance(name, str) and NEW_ID_PATTERN.match(name):
        return name
    raise DefinitionError(
        f"{what} {name!r} is not allowed: use letters, digits, '_', '.' and '-', "
        "beginning with a letter, a digit or '_', at most 128 of them"
    )


class Precondition(Record):
    """A requirement before a task starts: a condition that holds, or a task that succeeds."""

    condition: Condition | None = None
    task: Task | None = None
    #: the reason of the state of the task where the requirement is not met
    message: str = ""
    #: whether the task is FAILED where the requirement is not met; else it is SKIPPED
    fails: bool = False


class TaskHooks(Record):
    """The condition, the preconditions and the hooks of a task. The ids of the tasks in here begin with its id."""

    condition: Condition | None = None
    preconditions: tuple[Precondition, ...] = ()
    hooks: Mapping[str, Task] = _EMPTY


NO_HOOKS: Final = TaskHooks()


class Task:
    """A node of a dag: a Python function with its arguments, or a complete `body` (see `work`).

    `dependencies` is the set of ids of the tasks that it waits for; `arg_dependencies` maps a parameter to the id of
    the upstream task whose return value it takes; `bound_args` has the other arguments.
    """

    __slots__ = (
        "_dependencies",
        "_parameters",
        "arg_dependencies",
        "bound_args",
        "expansion",
        "fixed_body",
        "func",
        "group",
        "meta",
        "options",
        "task_hooks",
        "task_id",
    )

    def __init__(
        self,
        task_id: str,
        func: Callable[..., Any] | None = None,
        *,
        body: Body | None = None,
        bound_args: Mapping[str, Any] | None = None,
        dependencies: Iterable[str] = (),
        options: TaskOptions = NO_OPTIONS,
        meta: Mapping[str, Any] | None = None,
        task_hooks: TaskHooks = NO_HOOKS,
        expansion: Expansion | None = None,
        group: str = "",
    ) -> None:
        self.task_id = check_id(task_id, "task id")
        self.group = group  #: the id of the innermost group that it is in
        if (func is None) == (body is None):
            raise DefinitionError(f"task {task_id!r} needs a function or a body, and not both")
        if func is not None and not callable(func):
            raise DefinitionError(f"task {task_id!r}: {func!r} cannot be called")
        if body is not None and options.run_if is not None:
            raise DefinitionError(
                f"task {task_id!r}: run_if is for Python functions; "
                "for a command make the check a separate task: dag.short_circuit(…)"
            )
        self.func = func
        self.fixed_body = body
        self._parameters: Parameters | None = None
        self.options = options if options.flow is DEFAULT_FLOW else checked(options, task_id)
        self._dependencies: set[str] | None = set(dependencies) or None  # an empty set takes 216 bytes
        if isinstance(body, Command) and not all(type(word) is str for word in (*body.argv, *body.env.values())):
            self._bind_command(body)
        elif isinstance(body, Call) and body.kwargs:
            self._bind_call(body)
        self.arg_dependencies: Mapping[str, str] = _EMPTY
        self.bound_args: Mapping[str, Any] = _EMPTY
        #: what an application stores with the task in the graph, such as {"kind": …, "digest": …}
        self.meta = meta
        #: the lists that it is mapped over; None: it is not mapped
        self.expansion = expansion
        if expansion is not None:
            self.dependencies.update(ref.task_id for ref in expansion.reads)
        self.task_hooks = task_hooks
        for name, value in (bound_args or {}).items():
            self.bind(name, value)

    def _bind_command(self, command: Command) -> None:
        """Wait for the tasks whose values are among the words and variables of a command."""
        upstream = set[str]()
        try:
            argv = tuple(with_refs(word, upstream) for word in command.argv)
            env = {name: with_refs(word, upstream) for name, word in command.env.items()}
        except DefinitionError as error:
            raise DefinitionError(f"task {self.task_id!r}: {error}") from None
        self.fixed_body = with_values(command._replace(argv=argv, env=env), self.task_id)
        self.dependencies.update(upstream)

    def _bind_call(self, call: Call) -> None:
        """Wait for the tasks whose values are among the arguments of a call."""
        try:
            kwargs = {name: with_refs(value, self.dependencies) for name, value in call.kwargs.items()}
        except DefinitionError as error:
            raise DefinitionError(f"task {self.task_id!r}: {error}") from None
        self.fixed_body = call._replace(kwargs=kwargs)

    def bind(self, name: str, value: Any) -> None:
        """Bind an argument. A Task, at any depth of lists, tuples and dicts, means its return value."""
        if isinstance(value, Task):
            self.arg_dependencies = {**self.arg_dependencies, name: value.task_id}
            self.dependencies.add(value.task_id)
        else:
            try:
                bound = with_refs(value, self.dependencies)
            except DefinitionError as error:
                raise DefinitionError(f"task {self.task_id!r}: argument {name!r}: {error}") from None
            self.bound_args = {**self.bound_args, name: bound}

    # -- what is known of it ---------------------------------------------------------------------------------

    @property
    def dependencies(self) -> set[str]:
        """The ids of the tasks that it waits for; the caller may change the set."""
        if self._dependencies is None:
            self._dependencies = set()
        return self._dependencies

    @dependencies.setter
    def dependencies(self, upstream: set[str]) -> None:
        self._dependencies = upstream

    @property
    def upstream_ids(self) -> Collection[str]:
        """The ids of the tasks that it waits for."""
        return self._dependencies or ()

    @property
    def parameters(self) -> Parameters:
        """The parameters of its function; a complete body has none."""
        if self._parameters is None:
            self._parameters = NO_PARAMETERS if self.func is None else parameters_of(self.func)
        return self._parameters

    @property
    def timeout(self) -> float | None:
        """Seconds an attempt may take."""
        return self.options.timeout_s

    @property
    def retries(self) -> int:
        """Extra attempts after the first."""
        return self.options.retry.retries

    @property
    def retry_delay(self) -> float:
        """Seconds between attempts."""
        return self.options.retry.delay_s

    @property
    def trigger_rule(self) -> TriggerRule:
        """The rule that decides from the states of the upstream tasks whether it runs."""
        return self.options.flow.trigger_rule

    def body(self) -> Body:
        """Return what executors run."""
        body, secrets = self._body(), self.options.secrets
        if not secrets:
            return body
        return body._replace(secrets=secrets, undo=body.undo and body.undo._replace(secrets=secrets))

    def _body(self) -> Body:
        if self.fixed_body is not None:
            return self.fixed_body
        assert self.func is not None
        func = self.func if self.options.every_s is None else SensorFunction(self.func, self.options.every_s)
        poll = None if self.options.every_s is None else self._poll(func)
        if self.options.run_if is not None:
            func = RunIfFunction(func, self.options.run_if)
        if not self.arg_dependencies:
            return Call(func, self.bound_args, poll=poll) if self.bound_args or poll else Call(func)
        refs = {name: Ref(task_id) for name, task_id in self.arg_dependencies.items()}
        return Call(func, {**self.bound_args, **refs}, poll=poll)

    def _poll(self, func: Callable[..., Any]) -> Poll:
        return Poll(func=func, on_timeout="SKIPPED" if self.options.on_timeout == "skip" else "TIMED_OUT")

    def hooks(self) -> dict[str, Task]:
        """Return its hooks by event, each as a task with the id `TASK.EVENT`."""
        if not self.options.hooks and not self.task_hooks.hooks:
            return {}
        return {**hook_tasks(dict(self.options.hooks), f"{self.task_id}."), **self.task_hooks.hooks}

    def inputs(self) -> set[Ref]:
        """Return the values of other tasks that it takes."""
        refs = {Ref(task_id) for task_id in self.arg_dependencies.values()}
        arguments = self.fixed_body.kwargs if isinstance(self.fixed_body, Call) else self.bound_args
        for value in arguments.values():
            _collect_refs(value, refs)
        return refs

    # -- setup and teardown ----------------------------------------------------------------------------------

    def as_setup(self) -> Task:
        """Make it a setup: the teardown that follows removes what it creates. Returns the task."""
        return self._with_flow(setup=True)

    def as_teardown(self, setups: _TaskOrTasks = (), *, on_failure_fail_run: bool | None = None) -> Task:
        """Make it the teardown of `setups`, which it then waits for, and of all setups that it waits for directly.

        It runs when one of the setups has succeeded and all tasks that follow the setups have ended, in any state, also
        when the run is stopped. Its own failure fails the run only with `on_failure_fail_run`. Returns the task.
        """
        for setup in _tasks(setups):
            self.dependencies.add(setup.as_setup().task_id)
        if on_failure_fail_run is None:
            return self._with_flow(teardown=True)
        return self._with_flow(teardown=True, on_failure_fail_run=on_failure_fail_run)

    def _with_flow(self, **fields: Any) -> Task:
        flow = replace(self.options.flow, **fields)
        self.options = checked(replace(self.options, flow=flow), self.task_id)
        return self

    # -- its values in other tasks ---------------------------------------------------------------------------

    def output(self, key: str = "return_value") -> Ref:
        """Return a placeholder for a value of this task in the arguments of another task, which then waits for it.

        count = dag.shell('echo "rows=3" >> "$LIGHTFLOW_OUTPUT"', task_id="count")
        dag.task(report, rows=count.output("rows"))
        """
        if not isinstance(key, str):
            raise DefinitionError(f"task {self.task_id!r}: the key of a value is text, not {type(key).__name__}")
        return Ref(self.task_id, key)

    def map(self, function: Callable[[Any], Any]) -> MapRef:
        """Return the list of this task for the `expand` of another, with a function applied to each item.

        The function runs in the instance that takes the item; a SkipTask raised there skips that instance.
        """
        return MapRef(self.output(), (checked_function(function),))

    # -- operators -------------------------------------------------------------------------------------------

    def __rshift__(self, other: _TaskOrTasks) -> _TaskOrTasks:
        """`a >> b`, `a >> [b, c]`: the other side waits for this task."""
        for task in _tasks(other):
            task.dependencies.add(self.task_id)
        return other

    def __lshift__(self, other: _TaskOrTasks) -> _TaskOrTasks:
        """`a << b`, `a << [b, c]`: this task waits for the other side."""
        for task in _tasks(other):
            self.dependencies.add(task.task_id)
        return other

    def __rrshift__(self, other: Sequence[Task]) -> Task:
        """`[a, b] >> c`."""
        self << other
        return self

    def __rlshift__(self, other: Sequence[Task]) -> Task:
        """`[a, b] << c`."""
        self >> other
        return self

    def __repr__(self) -> str:
        return f"<Task {self.task_id!r}>"

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Any:
        raise TypeError(
            f"{self!r} has no value while the dag is being built; pass it to another task, which receives the value"
        )


_TaskOrTasks = (
    Any  # a Task, or a sequence of them; Python's typing cannot say "the type of the argument" in fewer words
)


class NotCalled:
    """Base of objects that add a task when they are called, and are no value before."""

    @property
    def misused(self) -> str:
        """The message for code that uses it as a value."""
        raise NotImplementedError

    def __reduce__(self) -> Any:
        raise TypeError(self.misused)


class CurrentDag(Protocol):
    """A dag that is being built, as the decorators see it."""

    def add_call(
        self,
        func: Callable[..., Any],
        task_id: str | None,
        options: TaskOptions,
        arguments: Mapping[str, Any],
        lists: Mapping[str, Any] | None = None,
    ) -> Task: ...


def hook_tasks(hooks: Mapping[str, Callable[..., Any] | Body], prefix: str = "") -> dict[str, Task]:
    """Return functions and bodies as hooks, by event."""
    return {event: _hook_task(f"{prefix}{event}", hook) for event, hook in hooks.items()}


def _hook_task(hook_id: str, hook: Callable[..., Any] | Body) -> Task:
    if not isinstance(hook, Call | Command):
        return Task(hook_id, HookFunction(hook))
    defaults = hook.defaults if isinstance(hook, Call) else None
    options = {} if defaults is None else {"timeout": defaults.hook_timeout_s, "retries": defaults.hook_retries}
    return Task(hook_id, body=hook, options=make_options(options, hook_id))


def _tasks(other: object) -> list[Task]:
    """Return the tasks on the other side of an operator. Raises DefinitionError."""
    if isinstance(other, Task):
        return [other]
    if isinstance(other, list | tuple | set) and all(isinstance(task, Task) for task in other):
        return list(other)
    for item in other if isinstance(other, list | tuple | set) else [other]:
        check_value(item)
    raise DefinitionError(f"only tasks and lists of tasks can be connected, not {other!r}")


def with_refs(value: Any, upstream: set[str]) -> Any:
    """Return a value with a Ref in place of every Task, at any depth. The ids of these tasks are added to `upstream`.

    Raises:
        DefinitionError: something inside is not a value, such as a decorated function that was not called.
    """
    if isinstance(value, Task):
        value = value.output()
    if isinstance(value, Ref):
        upstream.add(value.task_id)
        return value
    if isinstance(value, MapRef):
        raise DefinitionError(f"{value.ref.task_id}.map(…) stands for a list to expand over; it cannot be an argument")
    kind = type(value)
    if kind in (list, tuple):
        return kind(with_refs(item, upstream) for item in value)
    if kind is dict:
        return {key: with_refs(item, upstream) for key, item in value.items()}
    if kind in (set, frozenset):
        if any(isinstance(item, Task | Ref | MapRef) for item in value):
            raise DefinitionError("the value of a task cannot be inside a set; put it into a list")
        for item in value:
            check_value(item)
    check_value(value)
    return value


def check_param(name: str, value: Any) -> None:
    """Raise DefinitionError where a parameter of a run is, or holds, a placeholder for the value of a task."""
    upstream = set[str]()
    try:
        with_refs(value, upstream)
    except DefinitionError as error:
        raise DefinitionError(f"parameter {name!r}: {error}") from None
    if upstream:
        raise DefinitionError(
            f"parameter {name!r}: the value of task {min(upstream)!r} is not there before the run begins"
        )


def check_value(value: Any) -> None:
    """Raise DefinitionError for an object that is not a value, such as a decorated function that was not called."""
    if isinstance(value, NotCalled):
        raise DefinitionError(value.misused)
    if isinstance(value, type) and issubclass(value, Task | NotCalled):
        raise DefinitionError(
            f"{value.__name__} is a class and stands for no value; make a task of a function: dag.task(…)"
        )
    if CurrentDag in type(value).__mro__:
        raise DefinitionError(f"{value!r} is a dag and stands for no value; its tasks do")
    if isinstance(value, MethodType) and (
        isinstance(value.__self__, Task | NotCalled) or CurrentDag in type(value.__self__).__mro__
    ):
        raise DefinitionError(f"{value.__func__.__qualname__} is a method; call it")


def _collect_refs(value: Any, refs: set[Ref]) -> None:
    if isinstance(value, Ref):
        refs.add(value)
    elif type(value) in (list, tuple):
        for item in value:
            _collect_refs(item, refs)
    elif type(value) is dict:
        for item in value.values():
            _collect_refs(item, refs)


def reference(value: Task | Ref) -> Ref:
    """Return the value that an output of a dag means."""
    return value.output() if isinstance(value, Task) else value
