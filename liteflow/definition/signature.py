"""What a function can be called with, read from the function itself."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from liteflow.errors import DefinitionError


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
