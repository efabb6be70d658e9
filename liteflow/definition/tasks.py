"""A task: what runs, what it waits for, and what it takes from other tasks.

`Task` is what `dag.task(...)` returns and what `>>` connects. `TaskFunction` is what the decorators make of a
function: called while a dag is being built it adds a task, called anywhere else it just runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType, MethodType
from typing import Any, Final, NamedTuple, Protocol

from liteflow.definition.around import Guarded, HookCall
from liteflow.definition.commands import with_values
from liteflow.definition.mapping import Mapped, MapRef, checked_function
from liteflow.definition.options import DEFAULT_FLOW, NO_OPTIONS, TaskOptions, checked, make_options
from liteflow.definition.signature import NO_PARAMETERS, Parameters, parameters_of
from liteflow.errors import DefinitionError, PayloadError
from liteflow.hooks import Condition
from liteflow.identifiers import NEW_ID_PATTERN
from liteflow.planning.trigger_rules import TriggerRule
from liteflow.record import replace
from liteflow.values.payload import Payload, encode
from liteflow.work import KEYWORDS, Body, Call, Command, Expansion, Item, Ref

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})  # shared: two dicts of its own would be a tenth of a task


def check_id(name: object, what: str) -> str:
    """The id itself, if it may be one.

    Raises:
        DefinitionError: it is not text, or holds what a file name or a shell could stumble over.
    """
    if isinstance(name, str) and NEW_ID_PATTERN.match(name):
        return name
    raise DefinitionError(
        f"{what} {name!r} is not allowed: use letters, digits, '_', '.' and '-', "
        "beginning with a letter, a digit or '_', at most 128 of them"
    )


class Precondition(NamedTuple):
    """What must hold before a task starts: a condition, or a task that must succeed. Else the task is SKIPPED, or with
    `fails` FAILED, and `message` says why.
    """

    condition: Condition | None = None
    task: Task | None = None
    message: str = ""
    fails: bool = False


class TaskHooks(NamedTuple):
    """What stands around one task. The ids of the tasks in here begin with that task's id."""

    condition: Condition | None = None
    preconditions: tuple[Precondition, ...] = ()
    hooks: Mapping[str, Task] = {}


NO_HOOKS: Final = TaskHooks()


class Task:
    """A node of a dag: a Python function with its arguments, or a ready `body` (see `work`).

    `dependencies` is the set of ids of the tasks it waits for; `arg_dependencies` maps a parameter to the id of the
    upstream whose return value fills it; `bound_args` holds the arguments given.
    """

    __slots__ = (
        "_parameters",
        "arg_dependencies",
        "around",
        "bound_args",
        "dependencies",
        "expansion",
        "func",
        "given_body",
        "meta",
        "options",
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
        around: TaskHooks = NO_HOOKS,
        expansion: Expansion | None = None,
    ) -> None:
        self.task_id = check_id(task_id, "task id")
        if (func is None) == (body is None):
            raise DefinitionError(f"task {task_id!r} needs a function or a body, and not both")
        if func is not None and not callable(func):
            raise DefinitionError(f"task {task_id!r}: {func!r} cannot be called")
        self.func = func
        self.given_body = body
        if body is not None and options.run_if is not None:
            raise DefinitionError(
                f"task {task_id!r}: run_if asks a function before it calls another; "
                "for a command make the check a task of its own: dag.short_circuit(…)"
            )
        self._parameters: Parameters | None = None
        self.options = options if options.flow is DEFAULT_FLOW else checked(options, task_id)
        self.dependencies: set[str] = set(dependencies)
        if isinstance(body, Command) and not all(type(one) is str for one in (*body.argv, *body.env.values())):
            self._take_values(body)
        self.arg_dependencies: Mapping[str, str] = _NOTHING
        self.bound_args: Mapping[str, Any] = _NOTHING
        #: what an application keeps with the task in the stored graph, such as {"kind": …, "digest": …}
        self.meta = meta
        #: what it is mapped over, or None
        self.expansion = expansion
        if expansion is not None:
            self.dependencies.update(ref.task_id for ref in expansion.reads)
        self.around = around
        for name, value in (bound_args or {}).items():
            self.bind(name, value)

    def _take_values(self, command: Command) -> None:
        """Wait for the tasks whose values stand among the words and variables of a command."""
        within = set[str]()
        try:
            argv = tuple(_references(one, within) for one in command.argv)
            env = {name: _references(one, within) for name, one in command.env.items()}
        except DefinitionError as error:
            raise DefinitionError(f"task {self.task_id!r}: {error}") from None
        self.given_body = with_values(command._replace(argv=argv, env=env), self.task_id)
        self.dependencies |= within

    @property
    def parameters(self) -> Parameters:
        """What its function can be called with; a ready body takes nothing more."""
        if self._parameters is None:
            self._parameters = NO_PARAMETERS if self.func is None else parameters_of(self.func)
        return self._parameters

    def bind(self, name: str, value: Any) -> None:
        """Give an argument; a Task, at any depth of lists, tuples and dicts, stands for its return value."""
        if isinstance(value, Task):
            self.arg_dependencies = {**self.arg_dependencies, name: value.task_id}
            self.dependencies.add(value.task_id)
        else:
            try:
                bound = _references(value, self.dependencies)
            except DefinitionError as error:
                raise DefinitionError(f"task {self.task_id!r}: argument {name!r}: {error}") from None
            self.bound_args = {**self.bound_args, name: bound}

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
        return self.options.flow.trigger_rule

    def body(self) -> Body:
        """What executors run."""
        body = self._body()
        return body._replace(secrets=self.options.secrets) if self.options.secrets else body

    def _body(self) -> Body:
        if self.given_body is not None:
            return self.given_body
        assert self.func is not None
        func = self.func if self.options.run_if is None else Guarded(self.func, self.options.run_if)
        if not self.arg_dependencies:
            return Call(func, self.bound_args) if self.bound_args else Call(func)
        references = {name: Ref(task_id) for name, task_id in self.arg_dependencies.items()}
        return Call(func, {**self.bound_args, **references})

    def hooks(self) -> dict[str, Task]:
        """Its hooks by event, each as a task of its own with the id `TASK.EVENT`."""
        if not self.options.hooks and not self.around.hooks:
            return {}
        return {**hook_tasks(dict(self.options.hooks), f"{self.task_id}."), **self.around.hooks}

    def as_setup(self) -> Task:
        """Make it a setup: what it makes is taken down by the teardown that follows it. Returns the task."""
        return self._with_flow(setup=True)

    def as_teardown(self, setups: _Others = (), *, on_failure_fail_run: bool | None = None) -> Task:
        """Make it the teardown of `setups`, which it then waits for, and of all setups that it waits for directly.

        It runs when one of those has succeeded and all that follows them has ended, well or not, also in a run that is
        being stopped. Its own failure fails the run only with `on_failure_fail_run`. Returns the task.
        """
        for one in _tasks(setups):
            self.dependencies.add(one.as_setup().task_id)
        if on_failure_fail_run is None:
            return self._with_flow(teardown=True)
        return self._with_flow(teardown=True, on_failure_fail_run=on_failure_fail_run)

    def _with_flow(self, **fields: Any) -> Task:
        flow = replace(self.options.flow, **fields)
        self.options = checked(replace(self.options, flow=flow), self.task_id)
        return self

    def output(self, key: str = "return_value") -> Ref:
        """Stands for one of this task's values in the arguments of another, which then waits for this one.

        count = dag.shell('echo "rows=3" >> "$LIGHTFLOW_OUTPUT"', task_id="count")
        dag.task(report, rows=count.output("rows"))
        """
        if not isinstance(key, str):
            raise DefinitionError(f"task {self.task_id!r}: the key of a value is text, not {type(key).__name__}")
        return Ref(self.task_id, key)

    def map(self, function: Callable[[Any], Any]) -> MapRef:
        """This task's list for the `expand` of another, each item passed through a function in the instance that takes
        it; a SkipTask raised there skips that instance.
        """
        return MapRef(self.output(), (checked_function(function),))

    def inputs(self) -> set[Ref]:
        """The values of other tasks that it takes."""
        found = {Ref(task_id) for task_id in self.arg_dependencies.values()}
        for value in self.bound_args.values():
            _collect(value, found)
        return found

    def __rshift__(self, other: _Others) -> _Others:
        """`a >> b`, `a >> [b, c]`: the other side waits for this task."""
        for task in _tasks(other):
            task.dependencies.add(self.task_id)
        return other

    def __lshift__(self, other: _Others) -> _Others:
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


_Others = Any  # a Task, or a sequence of them; Python's typing cannot say "the same that was given" shorter


def _tasks(other: object) -> list[Task]:
    if isinstance(other, Task):
        return [other]
    if isinstance(other, list | tuple | set) and all(isinstance(task, Task) for task in other):
        return list(other)
    for one in other if isinstance(other, list | tuple | set) else [other]:
        _check_called(one)
    raise DefinitionError(f"only tasks and lists of tasks can be connected, not {other!r}")


def _references(value: Any, found: set[str]) -> Any:
    """The value with a Ref in place of every Task inside; the ids of what is referred to are added to `found`.

    Raises:
        DefinitionError: something inside would have to be called first, to stand for a value.
    """
    if isinstance(value, Task):
        value = value.output()
    if isinstance(value, Ref):
        found.add(value.task_id)
        return value
    if isinstance(value, MapRef):
        raise DefinitionError(f"{value.ref.task_id}.map(…) stands for a list to expand over; it cannot be an argument")
    kind = type(value)
    if kind in (list, tuple):
        return kind(_references(item, found) for item in value)
    if kind is dict:
        return {key: _references(item, found) for key, item in value.items()}
    if kind in (set, frozenset):
        if any(isinstance(item, Task | Ref | MapRef) for item in value):
            raise DefinitionError("the value of a task cannot be inside a set; put it into a list")
        for item in value:
            _check_called(item)
    _check_called(value)
    return value


def check_param(name: str, value: Any) -> None:
    """Raise DefinitionError where a parameter of a run is, or holds, something that stands for a value of a task."""
    within = set[str]()
    try:
        _references(value, within)
    except DefinitionError as error:
        raise DefinitionError(f"parameter {name!r}: {error}") from None
    if within:
        raise DefinitionError(
            f"parameter {name!r}: the value of task {min(within)!r} is not there before the run begins"
        )


def _check_called(value: Any) -> None:
    """Raise DefinitionError for what adds a task when it is called, and was not."""
    if isinstance(value, TaskFunction | Partial):
        raise DefinitionError(value.misused)
    if isinstance(value, type) and issubclass(value, Task | TaskFunction):
        raise DefinitionError(
            f"{value.__name__} is a class and stands for no value; make a task of a function: dag.task(…)"
        )
    if CurrentDag in type(value).__mro__:
        raise DefinitionError(f"{value!r} is a dag and stands for no value; its tasks do")
    if isinstance(value, MethodType) and (
        isinstance(value.__self__, Task | TaskFunction | Partial) or CurrentDag in type(value.__self__).__mro__
    ):
        raise DefinitionError(f"{value.__func__.__qualname__} is a method; call it")


def _collect(value: Any, found: set[Ref]) -> None:
    if isinstance(value, Ref):
        found.add(value)
    elif type(value) in (list, tuple):
        for item in value:
            _collect(item, found)
    elif type(value) is dict:
        for item in value.values():
            _collect(item, found)


class CurrentDag(Protocol):
    """A dag that is being defined, as the decorators see it."""

    def add_call(
        self,
        func: Callable[..., Any],
        task_id: str | None,
        options: TaskOptions,
        arguments: Mapping[str, Any],
        lists: Mapping[str, Any] | None = None,
    ) -> Task: ...


class Partial:
    """A task that lacks what it is mapped over: `expand` or `expand_kwargs` says it, and adds the task."""

    misused: Final = "partial(…) has no list yet; add .expand(name=…)"

    def __init__(self, add: Callable[[Mapping[str, Any]], Task]) -> None:
        self._add = add

    def __reduce__(self) -> Any:
        raise TypeError(self.misused)

    def expand(self, **lists: Any) -> Task:
        """An instance for each item of a list, or for each combination where there are several; the last list varies
        fastest.

        A list is a list, a task that returns one, `task.output("key")`, or `task.map(function)`. A mapping stands for
        its pairs. What a mapped task returns is the list of what its instances return.

        Raises:
            DefinitionError: there is no list, or an argument the function does not take.
        """
        if not lists:
            raise DefinitionError("expand() needs a list to map over: expand(name=[…])")
        return self._add(lists)

    def expand_kwargs(self, rows: Any) -> Task:
        """An instance for each mapping of argument names to values in a list (see `expand`)."""
        return self._add({KEYWORDS: rows})


#: the dag whose `with` block is being executed
current_dag: ContextVar[CurrentDag | None] = ContextVar("liteflow_building", default=None)


class TaskFunction:
    """A function decorated with `@task`. `override(retries=3)` gives a copy with other options."""

    def __init__(self, func: Callable[..., Any], task_id: str | None, keywords: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, func)
        self.func = func
        self.task_id = task_id
        self.keywords = keywords
        self.options = make_options(keywords, task_id or func.__name__)

    @property
    def misused(self) -> str:
        """What to say where it is used and a call of it is meant."""
        name = self.func.__name__
        return f"{name} is a function that adds a task when it is called; call it: {name}()"

    def __reduce__(self) -> Any:
        raise TypeError(self.misused)

    def _connected(self, other: object) -> Any:
        raise DefinitionError(self.misused)

    __rshift__ = __lshift__ = __rrshift__ = __rlshift__ = _connected

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """In a `with Dag(...)` block: add a task and return it. Elsewhere: call the function."""
        dag = current_dag.get()
        if dag is None:
            return self.func(*args, **kwargs)
        names = parameters_of(self.func).names
        if len(args) > len(names):
            raise DefinitionError(f"{self.func.__name__}() takes {len(names)} arguments by position, {len(args)} given")
        positional = dict(zip(names, args, strict=False))
        twice = positional.keys() & kwargs.keys()
        if twice:
            raise DefinitionError(f"{self.func.__name__}(): argument {min(twice)!r} is given twice")
        return dag.add_call(self.func, self.task_id, self.options, {**positional, **kwargs})

    def partial(self, **arguments: Any) -> Partial:
        """With these arguments the same in all instances: `f.partial(day=today).expand(file=files)`."""
        return Partial(functools.partial(self._expanded, arguments))

    def expand(self, **lists: Any) -> Task:
        """Add a task with an instance for each item: see `Partial.expand`."""
        return self.partial().expand(**lists)

    def expand_kwargs(self, rows: Any) -> Task:
        """Add a task with an instance for each mapping of arguments: see `Partial.expand_kwargs`."""
        return self.partial().expand_kwargs(rows)

    def _expanded(self, arguments: Mapping[str, Any], lists: Mapping[str, Any]) -> Task:
        dag = current_dag.get()
        if dag is None:
            raise DefinitionError(f"{self.func.__name__}.expand() adds a task: call it in a `with Dag(…)` block")
        return dag.add_call(self.func, self.task_id, self.options, arguments, lists)

    def override(self, *, task_id: str | None = None, **options: Any) -> TaskFunction:
        """The same function as a task with another id or other options.

        Raises:
            DefinitionError: see `make_options`.
        """
        return TaskFunction(self.func, task_id or self.task_id, {**self.keywords, **options})

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


def hook_tasks(functions: Mapping[str, Callable[..., Any]], prefix: str = "") -> dict[str, Task]:
    """Functions as hooks, by event."""
    return {event: Task(f"{prefix}{event}", HookCall(func)) for event, func in functions.items()}


class _Decorator:
    """`@task` and its kinds: `@task.branch`, `@task.short_circuit`."""

    def __call__(self, func: Callable[..., Any] | None = None, *, task_id: str | None = None, **options: Any) -> Any:
        """Decorate a function: `@task` or `@task(retries=3, timeout=60)`; the options are those of `TaskOptions`."""
        return _decorated(func, task_id, options)

    def branch(self, func: Callable[..., Any] | None = None, *, task_id: str | None = None, **options: Any) -> Any:
        """Decorate a function that returns which of the tasks directly below go on: an id, a list of ids, or None."""
        return _decorated(func, task_id, {"branch": True, **options})

    def short_circuit(
        self, func: Callable[..., Any] | None = None, *, task_id: str | None = None, **options: Any
    ) -> Any:
        """Decorate a function that returns whether what follows shall run; see `ignore_downstream_trigger_rules`."""
        return _decorated(func, task_id, {"short_circuit": True, **options})


task: Final = _Decorator()


def setup(func: Callable[..., Any] | None = None, *, task_id: str | None = None, **options: Any) -> Any:
    """Decorate a function that sets something up: see `Task.as_setup`."""
    return _decorated(func, task_id, {"setup": True, **options})


def teardown(func: Callable[..., Any] | None = None, *, task_id: str | None = None, **options: Any) -> Any:
    """Decorate a function that takes down what the setups have made that it waits for: see `Task.as_teardown`."""
    return _decorated(func, task_id, {"teardown": True, **options})


def _decorated(func: Callable[..., Any] | None, task_id: str | None, options: Mapping[str, Any]) -> Any:
    if func is not None:
        return TaskFunction(func, task_id, options)
    make_options(options, task_id or "task")  # a wrong option is an error at the decorator's own line
    return lambda function: TaskFunction(function, task_id, options)


def mapped(
    lists: Mapping[str, Any], arguments: Mapping[str, Any], label: str | None, task_id: str
) -> tuple[Mapped, dict[str, Any]]:
    """What a task is mapped over, and its arguments with what stands for the items.

    Raises:
        DefinitionError: a list is none, or holds what cannot be stored; an argument is given twice.
    """
    twice = arguments.keys() & lists.keys()
    if twice:
        raise DefinitionError(f"task {task_id!r}: argument {min(twice)!r} is given by partial() and by expand()")
    sources, items = dict[str, Any](), dict[str, Item]()
    for name, given in lists.items():
        maps: tuple[Callable[[Any], Any], ...] = ()
        if isinstance(given, MapRef):
            maps, given = given.maps, given.ref
        items[name] = Item(name, maps)
        if isinstance(given, Task):
            given = given.output()
        if isinstance(given, Ref):
            sources[name] = given
            continue
        try:
            _check_called(given)
        except DefinitionError as error:
            raise DefinitionError(f"task {task_id!r}: argument {name!r}: {error}") from None
        if isinstance(given, Mapping):
            given = list(given.items())
        if isinstance(given, str | bytes) or not isinstance(given, Sequence):
            shown = "expand_kwargs()" if name == KEYWORDS else f"expand({name}=…)"
            raise DefinitionError(f"task {task_id!r}: {shown} takes a list or a task that returns one, not {given!r}")
        sources[name] = [_literal(item, task_id) for item in given]
    return Mapped(sources, label), {**arguments, **items}


def _literal(item: Any, task_id: str) -> Payload | Ref:
    if isinstance(item, Task):
        return item.output()
    if isinstance(item, Ref):
        return item
    within = set[str]()
    try:
        _references(item, within)
    except DefinitionError as error:
        raise DefinitionError(f"task {task_id!r}: an item of the list to expand over: {error}") from None
    if within:
        raise DefinitionError(
            f"task {task_id!r}: a task can be an item of the list to expand over, not be inside one: {min(within)!r}"
        )
    try:
        return encode(item)
    except PayloadError as error:
        raise DefinitionError(f"task {task_id!r}: {error}") from None
