"""A worker that a fresh interpreter can import: functions by reference, arguments pickled.

It is needed only where the caller has threads, so that its memory cannot be forked.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Mapping
from types import FunctionType, MethodType
from typing import Any

from liteflow.executors.worker import serve
from liteflow.processes.client import ImportableWorker, NotImportable
from liteflow.work import Body, Call, RunInfo


def importable_worker(calls: Mapping[str, Body], info: RunInfo) -> ImportableWorker:
    """Return the worker for `GuardianConnection.execute`.

    Raises:
        NotImportable: a function cannot be imported, or an argument cannot be pickled; names the task.
    """
    import pickle  # here, because most programs can be forked

    described: dict[str, Body] = {}
    for task_id, body in calls.items():
        undo = None if body.undo is None else by_name(body.undo)
        described[task_id] = body = (by_name(body) if isinstance(body, Call) else body)._replace(undo=undo)
        problem = next(
            (problem for call in (body, undo) if isinstance(call, Call) and (problem := import_problem(call))), ""
        )
        if problem:
            raise NotImportable(f"task {task_id!r}: {problem}")
    try:
        argument = pickle.dumps((described, info))
    except Exception as error:  # noqa: BLE001 - __reduce__ is the user's code
        raise NotImportable(f"the parameters of the run cannot be pickled ({error})") from None
    return ImportableWorker(serve.__module__, serve.__name__, argument, info.secrets)


class _Decorated:
    """A function whose name in its module refers to the object that a decorator made of it.

    Unpickled, it is the function again, which the object of that name has as `__wrapped__`.
    """

    def __init__(self, func: FunctionType) -> None:
        self._place = (func.__module__, func.__qualname__)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unwrapped, self._place

    def __call__(self) -> None:
        raise TypeError("this function can only be called in another process")


def _unwrapped(module: str, name: str) -> Any:
    return _named(importlib.import_module(module), name).__wrapped__


def _named(module: object, name: str) -> Any:
    named: Any = module
    for part in name.split("."):
        named = getattr(named, part, None)
    return named


def by_name(call: Call) -> Call:
    """Return the call in a form that can be pickled even if its function is decorated."""
    func = call.func
    if isinstance(func, FunctionType) and func.__module__ != "__main__":
        named = _named(sys.modules.get(func.__module__), func.__qualname__)
        if named is not func and getattr(named, "__wrapped__", None) is func:
            return call._replace(func=_Decorated(func))
    return call


def import_problem(call: Call) -> str | None:
    """Return why a fresh interpreter cannot make this call; None when it can."""
    import pickle

    problem = _lookup_problem(call.func)
    if problem is not None:
        return problem
    try:
        pickle.dumps(call)
    except Exception as error:  # noqa: BLE001 - __reduce__ is the user's code
        return f"its function or its arguments cannot be pickled ({type(error).__name__}: {error})"
    return None


def _lookup_problem(func: Any) -> str | None:
    if isinstance(func, functools.partial):
        return _lookup_problem(func.func)
    if isinstance(func, MethodType):
        return _lookup_problem(type(func.__self__)) if not isinstance(func.__self__, type) else None
    if not isinstance(func, FunctionType | type):
        return _lookup_problem(type(func)) if type(func).__module__ != "builtins" else None
    module, name = func.__module__, func.__qualname__
    if module == "__main__":
        return f"{name}() is defined in the script that was started"
    named = _named(sys.modules.get(module), name)
    return None if named is func else f"{name}() is not what {module}.{name} names"
