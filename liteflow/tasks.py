"""A task: what runs, what it waits for, and what it takes from other tasks.

`Task` is what `dag.task(...)` returns and what `>>` connects. `TaskFunction` is what the decorators make of a
function: called while a dag is being built it adds a task, called anywhere else it just runs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from types import FunctionType, MappingProxyType, UnionType
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from liteflow.errors import DefinitionError
from liteflow.limits import MOST_PRIORITY, needs_of
from liteflow.ready import Order
from liteflow.retry import RetryPolicy
from liteflow.rules import TRIGGER_RULES, TriggerRule
from liteflow.work import Body, Call, Ref

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})  # shared: two dicts of its own would be a tenth of a task
_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
MODES: Final = ("process", "thread", "async", "inline")


def check_id(name: object, what: str) -> str:
    """The id itself, if it may be one.

    Raises:
        DefinitionError: it is not text, or holds what a file name or a shell could stumble over.
    """
    if isinstance(name, str) and _ID.match(name):
        return name
    raise DefinitionError(
        f"{what} {name!r} is not allowed: use letters, digits, '_', '.' and '-', "
        "beginning with a letter, a digit or '_', at most 128 of them"
    )


class TaskOptions(NamedTuple):
    """What may be said of a task besides its work.

    Seconds throughout. `retries` counts extra attempts; see `RetryPolicy` for the other retry options and
    `rules` for `trigger_rule`. `mode` overrides the run's; `kill_grace` is the time between the polite signal
    and the hard one. `retry_on` limits retries to exceptions (classes or names, bases included), `retry_on_exit_codes`
    to exit codes of commands. `priority`: of tasks that may start, those with the higher number go first.
    `max_parallel`: so many instances of the task at once at most. `pool` (a name or several; `pool_slots` of each) and
    `resources` (pool: slots): the task starts when the pools of the dag have these slots free, and holds them while it
    runs.
    """

    retries: int = 0
    retry_delay: float = 0.0
    retry_backoff: float = 1.0
    max_retry_delay: float | None = None
    retry_jitter: float = 0.0
    retry_on: Sequence[type[BaseException] | str] = ()
    retry_on_exit_codes: Sequence[int] = ()
    timeout: float | None = None
    kill_grace: float | None = None
    trigger_rule: TriggerRule = "all_success"
    mode: str | None = None
    priority: int = 0
    max_parallel: int | None = None
    pool: str | Sequence[str] | None = None
    pool_slots: int = 1
    resources: Mapping[str, int] | Sequence[tuple[str, int]] = ()

    def checked(self, task_id: str) -> TaskOptions:
        """Itself, if all of it makes sense.

        Raises:
            DefinitionError: names the task and the option.
        """

        def wrong(name: str, wanted: str) -> DefinitionError:
            return DefinitionError(f"task {task_id!r}: {name}={getattr(self, name)!r} must be {wanted}")

        if type(self.retries) is not int or self.retries < 0:
            raise wrong("retries", "a whole number, 0 or more")
        for name in ("retry_delay", "retry_jitter"):
            if not _number(getattr(self, name)) or getattr(self, name) < 0:
                raise wrong(name, "a number, 0 or more")
        if not _number(self.retry_backoff) or self.retry_backoff < 1:
            raise wrong("retry_backoff", "a number, 1 or more")
        for name in ("timeout", "kill_grace", "max_retry_delay"):
            value = getattr(self, name)
            if value is not None and (not _number(value) or value < 0 or (name == "timeout" and value == 0)):
                raise wrong(name, "a number of seconds above 0, or None" if name == "timeout" else "seconds, or None")
        if self.retry_on != () and not _list_of(self.retry_on, str | type):
            raise wrong("retry_on", "a list of exceptions or of their names")
        if self.retry_on_exit_codes != () and not _list_of(self.retry_on_exit_codes, int):
            raise wrong("retry_on_exit_codes", "a list of whole numbers")
        if self.trigger_rule not in TRIGGER_RULES:
            raise wrong("trigger_rule", f"one of {', '.join(TRIGGER_RULES)}")
        if self.mode is not None and self.mode not in MODES:
            raise wrong("mode", f"one of {', '.join(MODES)}")
        if type(self.priority) is not int or abs(self.priority) > MOST_PRIORITY:
            raise wrong("priority", f"a whole number from -{MOST_PRIORITY:,} to {MOST_PRIORITY:,}")
        if self.max_parallel is not None and (type(self.max_parallel) is not int or self.max_parallel < 1):
            raise wrong("max_parallel", "a whole number, 1 or more, or None")
        if self.pool is not None or self.pool_slots != 1 or self.resources != ():
            needs_of(task_id, self.pool, self.pool_slots, self.resources)
            if isinstance(self.resources, Mapping):  # options are compared and hashed
                return self._replace(resources=tuple(sorted(self.resources.items())))
        return self

    @property
    def order(self) -> Order:
        """Its place among the tasks that may start."""
        if self.pool is None and self.resources == ():
            return Order(self.priority, self.max_parallel)
        return Order(self.priority, self.max_parallel, needs_of("", self.pool, self.pool_slots, self.resources))

    @property
    def policy(self) -> RetryPolicy:
        names = [one if isinstance(one, str) else one.__name__ for one in self.retry_on]
        return RetryPolicy(
            self.retries,
            self.retry_delay,
            self.retry_backoff,
            self.max_retry_delay,
            self.retry_jitter,
            tuple(names),
            tuple(self.retry_on_exit_codes),
        )


def _list_of(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(isinstance(one, kind) for one in value)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e15


OPTION_NAMES: Final = frozenset(TaskOptions._fields)
NO_OPTIONS: Final = TaskOptions()


class Parameters(NamedTuple):
    """What a function can be called with, by name."""

    names: tuple[str, ...]
    required: frozenset[str]
    any_name: bool  # it has **kwargs


NO_PARAMETERS: Final = Parameters((), frozenset(), False)
#: of plain functions: thousands of tasks may call the same one
_KNOWN: Final[WeakKeyDictionary[FunctionType, Parameters]] = WeakKeyDictionary()


def parameters_of(func: Callable[..., Any]) -> Parameters:
    """The parameters of a function; plain functions are read without importing `inspect`, which costs 10 ms."""
    if type(func) is FunctionType and not hasattr(func, "__wrapped__") and not func.__code__.co_posonlyargcount:
        known = _KNOWN.get(func)
        if known is not None:
            return known
        code = func.__code__
        count = code.co_argcount
        names = code.co_varnames[: count + code.co_kwonlyargcount]
        optional = set(names[count - len(func.__defaults__ or ()) : count]) | set(func.__kwdefaults__ or ())
        known = _KNOWN[func] = Parameters(names, frozenset(names) - optional, bool(code.co_flags & 0x08))
        return known
    import inspect

    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        return Parameters((), frozenset(), True)
    found, required, any_name = [], set(), False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            any_name = True
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            found.append(parameter.name)
            if parameter.default is parameter.empty:
                required.add(parameter.name)
        elif parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
            raise DefinitionError(
                f"{getattr(func, '__name__', func)!s}: parameter {parameter.name!r} can only be given by position; "
                "wrap the function in one whose parameters have names"
            )
    return Parameters(tuple(found), frozenset(required), any_name)


class Task:
    """A node of a dag: a Python function with its arguments, or a ready `body` (see `work`).

    `dependencies` is the set of ids of the tasks it waits for; `arg_dependencies` maps a parameter to the id of the
    upstream whose return value fills it; `bound_args` holds the arguments given.
    """

    __slots__ = (
        "_parameters",
        "arg_dependencies",
        "bound_args",
        "dependencies",
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
    ) -> None:
        self.task_id = check_id(task_id, "task id")
        if (func is None) == (body is None):
            raise DefinitionError(f"task {task_id!r} needs a function or a body, and not both")
        if func is not None and not callable(func):
            raise DefinitionError(f"task {task_id!r}: {func!r} cannot be called")
        self.func = func
        self.given_body = body
        self._parameters: Parameters | None = None
        self.options = options if options is NO_OPTIONS else options.checked(task_id)
        self.dependencies: set[str] = set(dependencies)
        self.arg_dependencies: Mapping[str, str] = _NOTHING
        self.bound_args: Mapping[str, Any] = _NOTHING
        #: what an application keeps with the task in the stored graph, such as {"kind": …, "digest": …}
        self.meta = meta
        for name, value in (bound_args or {}).items():
            self.bind(name, value)

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
            self.bound_args = {**self.bound_args, name: _references(value, self.dependencies)}

    @property
    def timeout(self) -> float | None:
        """Seconds an attempt may take."""
        return self.options.timeout

    @property
    def retries(self) -> int:
        """Extra attempts after the first."""
        return self.options.retries

    @property
    def retry_delay(self) -> float:
        """Seconds between attempts."""
        return self.options.retry_delay

    @property
    def trigger_rule(self) -> TriggerRule:
        return self.options.trigger_rule

    def body(self) -> Body:
        """What executors run."""
        if self.given_body is not None:
            return self.given_body
        assert self.func is not None
        if not self.arg_dependencies:
            return Call(self.func, self.bound_args) if self.bound_args else Call(self.func)
        references = {name: Ref(task_id) for name, task_id in self.arg_dependencies.items()}
        return Call(self.func, {**self.bound_args, **references})

    def output(self, key: str = "return_value") -> Ref:
        """Stands for one of this task's values in the arguments of another, which then waits for this one.

        count = dag.add_task(Task("count", body=Command(("/bin/sh", "-c", 'echo "rows=3" >> "$LIGHTFLOW_OUTPUT"'))))
        dag.task(report, rows=count.output("rows"))
        """
        if not isinstance(key, str):
            raise DefinitionError(f"task {self.task_id!r}: the key of a value is text, not {type(key).__name__}")
        return Ref(self.task_id, key)

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
    raise DefinitionError(f"only tasks and lists of tasks can be connected, not {other!r}")


def _references(value: Any, found: set[str]) -> Any:
    """The value with a Ref in place of every Task inside; the ids of what is referred to are added to `found`."""
    if isinstance(value, Task):
        value = value.output()
    if isinstance(value, Ref):
        found.add(value.task_id)
        return value
    kind = type(value)
    if kind in (list, tuple):
        return kind(_references(item, found) for item in value)
    if kind is dict:
        return {key: _references(item, found) for key, item in value.items()}
    return value


def _collect(value: Any, found: set[Ref]) -> None:
    if isinstance(value, Ref):
        found.add(value)
    elif type(value) in (list, tuple):
        for item in value:
            _collect(item, found)
    elif type(value) is dict:
        for item in value.values():
            _collect(item, found)


class Building(Protocol):
    """A dag that is being defined, as the decorators see it."""

    def add_call(
        self, func: Callable[..., Any], task_id: str | None, options: TaskOptions, arguments: Mapping[str, Any]
    ) -> Task: ...


#: the dag whose `with` block is being executed
building: ContextVar[Building | None] = ContextVar("liteflow_building", default=None)


class TaskFunction:
    """A function decorated with `@task`. `override(retries=3)` gives a copy with other options."""

    def __init__(self, func: Callable[..., Any], task_id: str | None, options: TaskOptions) -> None:
        functools.update_wrapper(self, func)
        self.func = func
        self.task_id = task_id
        self.options = options

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """In a `with Dag(...)` block: add a task and return it. Elsewhere: call the function."""
        dag = building.get()
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

    def override(self, *, task_id: str | None = None, **options: Any) -> TaskFunction:
        """The same function as a task with another id or other options.

        Raises:
            DefinitionError: see `make_options`.
        """
        name = task_id or self.task_id
        return TaskFunction(self.func, name, make_options(options, name or self.func.__name__, self.options))

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


def task(func: Callable[..., Any] | None = None, *, task_id: str | None = None, **options: Any) -> Any:
    """Decorate a function: `@task` or `@task(retries=3, timeout=60)`; the options are those of `TaskOptions`."""
    checked = make_options(options, task_id or str(getattr(func, "__name__", "task")))
    if func is not None:
        return TaskFunction(func, task_id, checked)
    return lambda function: TaskFunction(function, task_id, checked)


def make_options(options: Mapping[str, Any], task_id: str, base: TaskOptions = NO_OPTIONS) -> TaskOptions:
    """Options from keywords; those not given are as in `base`.

    Raises:
        DefinitionError: an unknown name (with the nearest one), or a value that makes no sense.
    """
    if not options:
        return base
    for name in options:
        if name not in OPTION_NAMES:
            import difflib

            near = difflib.get_close_matches(name, OPTION_NAMES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DefinitionError(f"task {task_id!r}: there is no option {name!r}{hint}")
    return base._replace(**options).checked(task_id)
