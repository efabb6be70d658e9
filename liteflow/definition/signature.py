"""The parameters of functions."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, Final
from weakref import WeakKeyDictionary

from liteflow.errors import DefinitionError
from liteflow.record import Record


class Parameters(Record):
    """The parameters of a function that can be given by name."""

    names: tuple[str, ...]
    required: frozenset[str]  # those without a default
    any_name: bool  # whether it takes any other name, by **kwargs


_CO_VARKEYWORDS: Final = 0x08
NO_PARAMETERS: Final = Parameters(names=(), required=frozenset(), any_name=False)
#: The parameters of plain functions: thousands of tasks may call the same function.
_CACHE: Final[WeakKeyDictionary[FunctionType, Parameters]] = WeakKeyDictionary()


def parameters_of(func: Callable[..., Any]) -> Parameters:
    """Return the parameters of a function. Plain functions are read without `inspect`, whose import takes 10 ms.

    Raises:
        DefinitionError: a parameter without a default can only be given by position.
    """
    if type(func) is FunctionType and not hasattr(func, "__wrapped__") and not func.__code__.co_posonlyargcount:
        if (cached := _CACHE.get(func)) is not None:
            return cached
        code = func.__code__
        count = code.co_argcount
        names = code.co_varnames[: count + code.co_kwonlyargcount]
        optional = set(names[count - len(func.__defaults__ or ()) : count]) | set(func.__kwdefaults__ or ())
        any_name = bool(code.co_flags & _CO_VARKEYWORDS)
        parameters = _CACHE[func] = Parameters(names=names, required=frozenset(names) - optional, any_name=any_name)
        return parameters
    import inspect

    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        return Parameters(names=(), required=frozenset(), any_name=True)
    by_name, required, any_name = list[str](), set[str](), False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            any_name = True
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            by_name.append(parameter.name)
            if parameter.default is parameter.empty:
                required.add(parameter.name)
        elif parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
            raise DefinitionError(
                f"{getattr(func, '__name__', func)!s}: parameter {parameter.name!r} can only be given by position; "
                "wrap the function in one whose parameters have names"
            )
    return Parameters(names=tuple(by_name), required=frozenset(required), any_name=any_name)
