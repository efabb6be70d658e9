"""The decorators `@task`, `@setup` and `@teardown`, and tasks that lack the list that they are mapped over.

A decorated function adds a task when it is called while a dag is being built. Called anywhere else, it just runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from liteflow.definition.options import OPTION_NAMES, TaskOptions, make_options
from liteflow.definition.signature import parameters_of
from liteflow.definition.task import CurrentDag, NotCalled, Task
from liteflow.errors import DefinitionError
from liteflow.work import KEYWORDS

#: the dag whose `with` block is being executed
current_dag: ContextVar[CurrentDag | None] = ContextVar("liteflow_current_dag", default=None)


class Partial(NotCalled):
    """A task that lacks its list: `expand` or `expand_kwargs` takes the list and adds the task."""

    def __init__(self, add: Callable[[Mapping[str, Any]], Task]) -> None:
        self._add = add

    @property
    def misused(self) -> str:
        """The message for code that uses it as a value."""
        return "partial(…) has no list yet; add .expand(name=…)"

    def expand(self, **lists: Any) -> Task:
        """Add a task with an instance for each item of a list.

        Several lists are combined: each item with each, and the last list varies fastest. A list is a list, a task that
        returns one, `task.output("key")`, or `task.map(function)`. A mapping means the list of its pairs. The value of
        a mapped task is the list of the values of its instances.

        Raises:
            DefinitionError: there is no list, or an argument that the function does not take.
        """
        if not lists:
            raise DefinitionError("expand() needs a list to map over: expand(name=[…])")
        return self._add(lists)

    def expand_kwargs(self, rows: Any) -> Task:
        """Add a task with an instance for each mapping of argument names to values in a list (see `expand`)."""
        return self._add({KEYWORDS: rows})


class TaskFunction(NotCalled):
    """A decorated function. `override(retries=3)` returns a copy with other options."""

    def __init__(self, func: Callable[..., Any], task_id: str | None, keywords: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, func)
        self.func = func
        self.task_id = task_id
        #: the options as keywords, which `override` adds to
        self.keywords = keywords
        self.options = make_options(keywords, task_id or func.__name__)

    @property
    def misused(self) -> str:
        """The message for code that uses it as a value."""
        name = self.func.__name__
        return f"{name} is a function that adds a task when it is called; call it: {name}()"

    def _connected(self, other: object) -> Any:
        raise DefinitionError(self.misused)

    __rshift__ = __lshift__ = __rrshift__ = __rlshift__ = _connected

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Add a task and return it, within `with Dag(...)`. Elsewhere call the function."""
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
        """Bind the arguments that all instances share: `f.partial(day=today).expand(file=files)`."""
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
        """Return the same function as a task with another id or other options.

        Raises:
            DefinitionError: see `make_options`.
        """
        return TaskFunction(self.func, task_id or self.task_id, {**self.keywords, **options})

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


class _Decorator:
    """`@task` and its variants `@task.branch` and `@task.short_circuit`."""

    def __call__(self, func: Callable[..., Any] | None = None, *, task_id: str | None = None, **options: Any) -> Any:
        """Decorate a function: `@task` or `@task(retries=3, timeout=60)`. See `options` for the options."""
        return _decorated(func, task_id, options)

    def branch(self, func: Callable[..., Any] | None = None, *, task_id: str | None = None, **options: Any) -> Any:
        """Decorate a function that returns which direct downstream tasks continue: an id, a list of ids, or None."""
        return _decorated(func, task_id, {"branch": True, **options})

    def short_circuit(
        self, func: Callable[..., Any] | None = None, *, task_id: str | None = None, **options: Any
    ) -> Any:
        """Decorate a function that returns whether the tasks that follow run.

        With `ignore_downstream_trigger_rules=False` only the direct downstream tasks are skipped.
        """
        return _decorated(func, task_id, {"short_circuit": True, **options})


task: Final = _Decorator()


def setup(func: Callable[..., Any] | None = None, *, task_id: str | None = None, **options: Any) -> Any:
    """Decorate a function that creates what other tasks need: see `Task.as_setup`."""
    return _decorated(func, task_id, {"setup": True, **options})


def teardown(func: Callable[..., Any] | None = None, *, task_id: str | None = None, **options: Any) -> Any:
    """Decorate a function that removes what the setups before it have created: see `Task.as_teardown`."""
    return _decorated(func, task_id, {"teardown": True, **options})


def _decorated(func: Callable[..., Any] | None, task_id: str | None, options: Mapping[str, Any]) -> Any:
    if func is not None:
        return TaskFunction(func, task_id, options)
    make_options(options, task_id or "task")  # a wrong option is an error at the line of the decorator
    return lambda function: TaskFunction(function, task_id, options)


def named_function(
    func: Callable[..., Any], task_id: str | None, kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], str, TaskOptions]:
    """Return a function with its task id and its options, whose keywords are removed from `kwargs`."""
    keywords: Mapping[str, Any] = {}
    if isinstance(func, TaskFunction):
        keywords, task_id, func = func.keywords, task_id if task_id is not None else func.task_id, func.func
    if not callable(func):
        raise DefinitionError(f"{func!r} cannot be called; dag.task() takes a function")
    name = task_id if task_id is not None else str(getattr(func, "__name__", ""))
    if name == "<lambda>" or not name:
        raise DefinitionError(f"{func!r} has no name; add one: dag.task(func, task_id='…')")
    options = {key: kwargs.pop(key) for key in list(kwargs) if key in OPTION_NAMES}
    return func, name, make_options({**keywords, **options}, name)
