"""The language of expressions: that of Jinja, in its sandbox, without statements, and with bounded work.

`compile_expression` returns values with their types. The "native" environment of Jinja would read text as Python again:
the text `007` would become a number.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from jinja2 import TemplateSyntaxError, Undefined, UndefinedError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lightflow.expressions.filters import FILTERS, TESTS, TooMuch, bounded, install, text_of
from lightflow.expressions.value_kinds import kind_of, objection
from lightflow.text import did_you_mean
from liteflow import InputError

LONGEST: Final = 10_000  # characters of one expression
#: Filters of other tools, and what to write instead.
_OTHER_NAMES: Final = {
    **dict.fromkeys(("strftime", "date_format", "format_date", "strptime", "to_datetime"), "date('%Y-%m-%d')"),
    **dict.fromkeys(("ds", "to_date"), "date"),
    **dict.fromkeys(("ds_add", "add_days", "date_sub", "dateadd"), "date_add(days=-1)"),
    "ds_nodash": "date('%Y%m%d')",
}
_BITS: Final = 10_000  # of a whole number
_RANGE: Final = 100_000

#: The attributes of values that expressions can use.
_ATTRIBUTES: Final[tuple[tuple[type, frozenset[str]], ...]] = (
    (
        str,
        frozenset(
            (
                *("upper", "lower", "title", "capitalize", "strip", "lstrip", "rstrip", "removeprefix", "removesuffix"),
                *("split", "rsplit", "splitlines", "startswith", "endswith", "find", "count"),
                *("isdigit", "isalpha", "isalnum"),
            )
        ),
    ),
    (dict, frozenset(("get", "keys", "values", "items"))),
    (list, frozenset(("index", "count"))),
    (
        datetime.date,
        frozenset(("year", "month", "day", "hour", "minute", "second", "isoformat", "weekday", "isoweekday")),
    ),
)


#: The methods of values that expressions can call.
METHODS: Final = frozenset(name for _, names in _ATTRIBUTES for name in names)


class NameNotFound(Exception):
    """A name does not exist. The message says which names do."""


class Namespace:
    """Names with a common prefix: `tasks.a` gets "a" from the namespace `tasks`."""

    def get(self, name: str) -> Any:
        """Return the value of a name. Raises NameNotFound."""
        raise NotImplementedError


class Function:
    """A function without arguments that certain expressions can call."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    def __call__(self) -> Any:
        return self._function()


class _Strict(Undefined):
    """A value that does not exist: every operation fails, except the test whether it is defined."""

    __slots__ = ()
    __iter__ = __str__ = __len__ = Undefined._fail_with_undefined_error
    __eq__ = __ne__ = __bool__ = __hash__ = Undefined._fail_with_undefined_error
    __contains__ = Undefined._fail_with_undefined_error


class _Generator(CodeGenerator):
    """Passes comparisons to the sandbox, which checks what can be compared."""

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:  # noqa: N802 - jinja2's name
        self.write("environment.compare(")
        self.visit(node.expr, frame)
        for operand in node.ops:
            self.write(f", ({operand.op!r}, lambda: ")
            self.visit(operand.expr, frame)
            self.write(")")
        self.write(")")


class Sandbox(ImmutableSandboxedEnvironment):
    """Evaluates expressions with few operations, each with bounded work."""

    intercepted_binops = frozenset(["*", "**", "%", "+"])
    code_generator_class = _Generator

    def __init__(self) -> None:
        super().__init__(undefined=_Strict, autoescape=False, finalize=None, cache_size=0)
        install(self)
        self.globals = {"range": _range}

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an item, or else one of the few attributes that are allowed."""
        if isinstance(obj, Namespace):
            try:
                return obj.get(str(argument))
            except NameNotFound as error:
                return self.undefined(hint=str(error))
        if isinstance(obj, Undefined):
            obj._fail_with_undefined_error()
        if isinstance(obj, Mapping | list | tuple | str):
            try:
                return obj[argument]
            except (LookupError, TypeError):
                pass
        if isinstance(argument, str) and self.is_safe_attribute(obj, argument, None):
            return getattr(obj, argument)
        if isinstance(obj, Mapping):
            return self.undefined(hint=f"there is no {argument!r}{did_you_mean(str(argument), map(str, obj))}")
        return self.undefined(hint=f"{type(obj).__name__} has no {argument!r} here")

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return any(isinstance(obj, kind) and attr in names for kind, names in _ATTRIBUTES)

    def is_safe_callable(self, obj: Any) -> bool:
        return (
            obj is _range
            or isinstance(obj, Function)
            or self.is_safe_attribute(getattr(obj, "__self__", None), getattr(obj, "__name__", ""), obj)
        )

    def compare(self, left: Any, *comparisons: tuple[str, Callable[[], Any]]) -> bool:
        """Return the result of a comparison such as `left == other`, or of a chain of comparisons."""
        for sign, get in comparisons:
            right = get()
            if sign not in ("in", "notin") and (message := objection(kind_of(left), kind_of(right))):
                raise InputError(message)
            if not _COMPARISONS[sign](left, right):
                return False
            left = right
        return True

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str | bytes):
            raise TooMuch("% does not format text here; put texts together with ~")
        if operator == "*":
            for sequence, times in ((left, right), (right, left)):
                if isinstance(sequence, str | bytes | list | tuple) and isinstance(times, int):
                    bounded(len(sequence) * times, "*")
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > _BITS:
                raise TooMuch("the result of * has too many digits")
        whole = isinstance(left, int) and isinstance(right, int | float)
        if operator == "**" and whole and abs(right) * left.bit_length() > _BITS:
            raise TooMuch("the result of ** has too many digits")
        return super().call_binop(context, operator, left, right)


_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
    "in": lambda item, items: item in items,
    "notin": lambda item, items: item not in items,
}


def _range(*limits: int) -> range:
    result = range(*limits)
    if len(result) > _RANGE:
        raise TooMuch(f"a range of more than {_RANGE:,}")
    return result


@functools.cache
def _sandbox() -> Sandbox:
    return Sandbox()


class ExpressionError(ValueError):
    """An expression cannot be used. The message is one sentence."""


def _check_names(tree: nodes.Expr) -> None:
    for node in (tree, *tree.find_all((nodes.Filter, nodes.Test))):
        if not isinstance(node, nodes.Filter | nodes.Test):
            continue
        kind, names = ("filter", FILTERS) if isinstance(node, nodes.Filter) else ("test", TESTS)
        name = node.name
        if name not in names:
            hint = f"; write {_OTHER_NAMES[name]}" if name in _OTHER_NAMES else did_you_mean(name, names)
            raise ExpressionError(f"there is no {kind} {name!r}{hint}")


def spelled_otherwise(source: str) -> str:
    """Return what to write instead of an operator of another language in the expression, or empty text."""
    from lightflow.other_tools import OPERATORS

    bare = re.sub(
        r"'(?:[^'\\\\]|\\\\.)*'|\"(?:[^\"\\\\]|\\\\.)*\"|(?<![=!<>])[=!<>]=(?!=)",
        lambda match: " " * len(match[0]),
        source,
    )
    sign = next((sign for sign in OPERATORS if sign in bare), None)
    return f"{sign} is not known in expressions: {OPERATORS[sign]}" if sign else ""


@functools.lru_cache(maxsize=4096)
def parse(source: str) -> nodes.Expr:
    """Return the expression as a tree, which must not be changed.

    Raises:
        Mistake: it is not a valid expression, or uses something that is not allowed.
    """
    if not source:
        raise ExpressionError("the expression is empty")
    if len(source) > LONGEST:
        raise ExpressionError(f"the expression is longer than {LONGEST:,} characters")
    try:
        parser = Parser(_sandbox(), source, state="variable")
        tree = parser.parse_expression()
        if not parser.stream.eos:
            raise ExpressionError(
                spelled_otherwise(source) or f"{parser.stream.current.value!r} does not belong into the expression"
            )
        tree.set_environment(_sandbox())
        _check_names(tree)
    except TemplateSyntaxError as error:
        reason = (error.message or "it cannot be understood").replace("end of template", "end of the expression")
        raise ExpressionError(spelled_otherwise(source) or f"not an expression: {reason}") from None
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply") from None
    return tree


@functools.lru_cache(maxsize=4096)
def _compiled(source: str) -> Callable[..., Any]:
    return _sandbox().compile_expression(source, undefined_to_none=False)


def evaluate(source: str, scopes: Mapping[str, Any]) -> Any:
    """Return the value of an expression. `scopes` has the values that it can name.

    Raises:
        InputError: a name does not exist, or an operation fails; the message is one sentence.
    """
    with _errors_as_input_errors():
        value = _compiled(source)(**scopes)
        if hasattr(value, "__next__") or isinstance(value, range):
            value = list(value)  # of filters such as map and select
        _check_defined(value)
        return value


def text_for(value: Any) -> str:
    """Return the text that replaces an expression with this value. Raises InputError."""
    with _errors_as_input_errors():
        return text_of(value)


def _check_defined(value: Any) -> None:
    """Raise UndefinedError if a value does not exist, also inside a list or a mapping."""
    parts = [value]
    for part in parts:
        if isinstance(part, Undefined):
            part._fail_with_undefined_error()
        elif isinstance(part, list | tuple):
            parts += part
        elif isinstance(part, dict):
            parts += part.values()


@contextlib.contextmanager
def _errors_as_input_errors() -> Iterator[None]:
    """Turn each exception into an InputError with one sentence."""
    try:
        yield
    except InputError:
        raise  # it may have a place
    except (UndefinedError, NameNotFound, TooMuch) as error:
        raise InputError(str(error)) from None
    except (RecursionError, MemoryError):
        raise InputError("the expression takes too much memory") from None
    except Exception as error:  # noqa: BLE001 - a filter may fail on any value
        text = str(error) or type(error).__name__
        raise InputError(text if isinstance(error, ValueError) else f"{text} ({type(error).__name__})") from None
