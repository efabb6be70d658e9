"""The language of expressions: Jinja's, in its sandbox, without statements, and with bounded work.

`compile_expression` gives a value in its own type. Jinja's "native" environment would read text as Python once more:
the text `007` would come out as a number.
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

from lightflow.errors import did_you_mean
from lightflow.expressions.filters import FILTERS, TESTS, TooMuch, bounded, install, text_of
from lightflow.expressions.value_kinds import kind_of, objection
from liteflow.errors import InputError

LONGEST: Final = 10_000  # characters of one expression
#: Filters of other tools, and how they are written here.
_OTHER_NAMES: Final = {
    **dict.fromkeys(("strftime", "date_format", "format_date", "strptime", "to_datetime"), "date('%Y-%m-%d')"),
    **dict.fromkeys(("ds", "to_date"), "date"),
    **dict.fromkeys(("ds_add", "add_days", "date_sub", "dateadd"), "date_add(days=-1)"),
    "ds_nodash": "date('%Y%m%d')",
}
_BITS: Final = 10_000  # of a whole number
_RANGE: Final = 100_000

#: What may be asked of a value besides its items.
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


#: All that can be called with a dot.
METHODS: Final = frozenset(name for _, names in _ATTRIBUTES for name in names)


class ScopeError(Exception):
    """A name that is not there; the message says what is."""


class Scope:
    """A part of what expressions may name: `tasks.a` asks the scope `tasks` for "a"."""

    def get(self, name: str) -> Any:
        """The value of a name. Raises ScopeError."""
        raise NotImplementedError


class Function:
    """A function that expressions of one place may call, without arguments."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def __call__(self) -> Any:
        return self._answer()


class _Strict(Undefined):
    """A value that is not there: anything done with it fails, save asking whether it is there."""

    __slots__ = ()
    __iter__ = __str__ = __len__ = Undefined._fail_with_undefined_error
    __eq__ = __ne__ = __bool__ = __hash__ = Undefined._fail_with_undefined_error
    __contains__ = Undefined._fail_with_undefined_error


class _Generator(CodeGenerator):
    """Has comparisons done by the sandbox, which knows what cannot be compared."""

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:  # noqa: N802 - jinja2's name
        self.write("environment.compare(")
        self.visit(node.expr, frame)
        for operand in node.ops:
            self.write(f", ({operand.op!r}, lambda: ")
            self.visit(operand.expr, frame)
            self.write(")")
        self.write(")")


class Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["*", "**", "%", "+"])
    code_generator_class = _Generator

    def __init__(self) -> None:
        super().__init__(undefined=_Strict, autoescape=False, finalize=None, cache_size=0)
        install(self)
        self.globals = {"range": _range}

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item, then one of the few attributes that are allowed."""
        if isinstance(obj, Scope):
            try:
                return obj.get(str(argument))
            except ScopeError as error:
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

    def compare(self, left: Any, *others: tuple[str, Callable[[], Any]]) -> bool:
        """The answer to `left == other` and its like, in a chain if there are several."""
        for sign, get in others:
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
            for one, times in ((left, right), (right, left)):
                if isinstance(one, str | bytes | list | tuple) and isinstance(times, int):
                    bounded(len(one) * times, "*")
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
    found = range(*limits)
    if len(found) > _RANGE:
        raise TooMuch(f"a range of more than {_RANGE:,}")
    return found


@functools.cache
def _sandbox() -> Sandbox:
    return Sandbox()


class ExpressionError(ValueError):
    """An expression that cannot be used; the message says why."""


def _check_names(tree: nodes.Expr) -> None:
    for node in (tree, *tree.find_all((nodes.Filter, nodes.Test))):
        if not isinstance(node, nodes.Filter | nodes.Test):
            continue
        known = FILTERS if isinstance(node, nodes.Filter) else TESTS
        what = "filter" if isinstance(node, nodes.Filter) else "test"
        name = node.name
        if name not in known:
            hint = f"; write {_OTHER_NAMES[name]}" if name in _OTHER_NAMES else did_you_mean(name, known)
            raise ExpressionError(f"there is no {what} {name!r}{hint}")


def spelled_otherwise(source: str) -> str:
    """What is written here for a sign of another language that the expression holds; nothing where it holds none."""
    from lightflow.other_tools import OPERATORS

    bare = re.sub(
        r"'(?:[^'\\\\]|\\\\.)*'|\"(?:[^\"\\\\]|\\\\.)*\"|(?<![=!<>])[=!<>]=(?!=)",
        lambda found: " " * len(found[0]),
        source,
    )
    sign = next((sign for sign in OPERATORS if sign in bare), None)
    return f"{sign} is not known in expressions: {OPERATORS[sign]}" if sign else ""


@functools.lru_cache(maxsize=4096)
def parse(source: str) -> nodes.Expr:
    """The expression as a tree, which is not to be changed.

    Raises:
        Mistake: it is none, or uses what is not allowed here.
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
    """The value of an expression.

    Raises:
        InputError: a name is not there, or the operation cannot be done; one sentence.
    """
    with _in_a_sentence():
        value = _compiled(source)(**scopes)
        if hasattr(value, "__next__") or isinstance(value, range):
            value = list(value)  # of map, select and their like
        _all_there(value)
        return value


def text_for(value: Any) -> str:
    """The text that stands in the place of an expression with this value. Raises InputError."""
    with _in_a_sentence():
        return text_of(value)


def _all_there(value: Any) -> None:
    """Raises UndefinedError for a value that is not there, also inside a list or mapping that was put together."""
    waiting = [value]
    for one in waiting:
        if isinstance(one, Undefined):
            one._fail_with_undefined_error()
        elif isinstance(one, list | tuple):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()


@contextlib.contextmanager
def _in_a_sentence() -> Iterator[None]:
    """Whatever goes wrong becomes an InputError."""
    try:
        yield
    except InputError:
        raise  # with what it knows of its place
    except (UndefinedError, ScopeError, TooMuch) as error:
        raise InputError(str(error)) from None
    except (RecursionError, MemoryError):
        raise InputError("the expression takes too much memory") from None
    except Exception as error:  # noqa: BLE001 - a filter on a value that it is not made for
        said = str(error) or type(error).__name__
        raise InputError(said if isinstance(error, ValueError) else f"{said} ({type(error).__name__})") from None
