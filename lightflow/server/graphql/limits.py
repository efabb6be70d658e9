"""Limits of GraphQL requests, checked before a request is validated: validation alone can take seconds.

The cost of a request is the number of objects that it can return: each `first` multiplies the fields below it.
"""

from __future__ import annotations

from typing import Any, Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    IntValueNode,
    Lexer,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    Source,
    TokenKind,
    VariableNode,
    parse,
)

from lightflow.server.problems import RequestProblem
from liteflow.api import Record

MOST_BYTES: Final = 32 * 1024  # of a request
_MOST_TOKENS: Final = 1_000
_MOST_NESTED: Final = 40  # brackets of any kind
_MOST_DEPTH: Final = 8
_MOST_ALIASES: Final = 20
_MOST_ROOT_FIELDS: Final = 5
_MOST_DIRECTIVES: Final = 20
_MOST_FIELDS: Final = 2_000  # with those of the fragments, each time they are spread
_MOST_COST: Final = 10_000
_OPENING: Final = frozenset({TokenKind.BRACE_L, TokenKind.BRACKET_L, TokenKind.PAREN_L})
_CLOSING: Final = frozenset({TokenKind.BRACE_R, TokenKind.BRACKET_R, TokenKind.PAREN_R})
#: The number of objects in lists without `first` or `last`.
_LISTS: Final = {
    "values": 20, "pools": 20, "holders": 10, "waiting": 10, "counts": 1, "why": 1, "children": 10,
    "criticalPath": 20,
}  # fmt: skip
_DEFAULT_SIZES: Final = {
    "workflows": 50, "runs": 50, "tasks": 100, "instances": 100, "events": 100, "triggers": 50, "fires": 50,
    "nextFires": 10, "attempts": 10,
}  # fmt: skip
#: Lists of values without fields, which cost time all the same.
_SCALAR_LISTS: Final = frozenset({"criticalPath", "nextFires"})


class Operation(Record):
    """The operation of a request that is within the limits."""

    document: DocumentNode
    kind: OperationType
    name: str | None
    introspects: bool  #: Whether it reads the schema.


class _Measure(Record):
    """The size of a selection."""

    depth: int
    aliases: int
    directives: int
    fields: int
    cost: int
    introspects: bool


def read_operation(query: str, variables: dict[str, Any], name: str | None) -> Operation:
    """Parse a request and check its limits.

    Raises:
        RequestProblem: it cannot be parsed, has no such operation, or exceeds a limit.
    """
    try:
        _check_tokens(query)
        document = parse(query)
    except GraphQLError as error:
        raise RequestProblem(400, "BAD_INPUT", error.message) from None
    operation = _only_operation(document, name)
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    measure = _Measuring(fragments, {**_defaults(operation), **variables}).selection(operation.selection_set)
    _check(operation, measure)
    return Operation(document=document, kind=operation.operation, name=name, introspects=measure.introspects)


def _check_tokens(query: str) -> None:
    """Check the number of words of a request, and how deeply its brackets are nested, before it is parsed.

    Raises:
        RequestProblem: there are too many.
        GraphQLError: a character is not allowed.
    """
    lexer, depth = Lexer(Source(query)), 0
    for _ in range(_MOST_TOKENS + 1):
        kind = lexer.advance().kind
        if kind is TokenKind.EOF:
            return
        depth += (kind in _OPENING) - (kind in _CLOSING)
        if depth > _MOST_NESTED:
            raise _too_costly("nested brackets", _MOST_NESTED)
    raise _too_costly("tokens", _MOST_TOKENS)


def _only_operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if len(operations) != 1:
        raise RequestProblem(400, "BAD_INPUT", "send one operation in each request")
    operation = operations[0]
    if name is not None and (operation.name is None or operation.name.value != name):
        raise RequestProblem(400, "BAD_INPUT", f"the request has no operation {name[:100]!r}")
    return operation


def _defaults(operation: OperationDefinitionNode) -> dict[str, int]:
    """Return the whole numbers that variables have by default."""
    return {
        node.variable.name.value: int(node.default_value.value[:18])
        for node in operation.variable_definitions or ()
        if isinstance(node.default_value, IntValueNode)
    }


def _check(operation: OperationDefinitionNode, measure: _Measure) -> None:
    limits = (
        ("fields at the top", len(operation.selection_set.selections), _MOST_ROOT_FIELDS),
        ("nested fields", measure.depth, _MOST_DEPTH if not measure.introspects else 2 * _MOST_DEPTH),
        ("fields", measure.fields, _MOST_FIELDS),
        ("aliases", measure.aliases, _MOST_ALIASES),
        ("directives", measure.directives + len(operation.directives or ()), _MOST_DIRECTIVES),
        ("objects", measure.cost, _MOST_COST),
    )
    for what, number, most in limits:
        if number > most:
            raise _too_costly(what, most)


def _too_costly(what: str, most: int) -> RequestProblem:
    return RequestProblem(400, "TOO_COSTLY", f"the request has too many {what}: at most {most:,} are allowed")


class _Measuring:
    """Measures selections; a fragment is measured once, however often it is spread."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode], variables: dict[str, Any]) -> None:
        self._fragments = fragments
        self._variables = variables
        self._measures: dict[str, _Measure] = {}
        self._open: set[str] = set()  # fragments that are being measured

    def selection(self, selections: SelectionSetNode | None) -> _Measure:
        depth = aliases = directives = fields = cost = 0
        introspects = False
        for node in selections.selections if selections is not None else ():
            if isinstance(node, FieldNode):
                measure = self._field(node)
            elif isinstance(node, FragmentSpreadNode):
                measure = self._fragment(node.name.value)
            else:
                measure = self.selection(node.selection_set)  # type: ignore[attr-defined]  # an inline fragment
            depth = max(depth, measure.depth)
            aliases += measure.aliases
            directives += measure.directives + len(node.directives or ())
            fields += measure.fields
            cost += measure.cost
            introspects = introspects or measure.introspects
        return _Measure(
            depth=depth,
            aliases=aliases,
            directives=directives,
            fields=fields,
            cost=cost,
            introspects=introspects,
        )

    def _field(self, node: FieldNode) -> _Measure:
        inner = self.selection(node.selection_set)
        name = node.name.value
        is_connection = name == "nodes"
        factor = self._factor(node)
        cost = factor * max(inner.cost, 1) if node.selection_set is not None or name in _SCALAR_LISTS else 0
        return _Measure(
            depth=inner.depth + (not is_connection),
            aliases=inner.aliases + (node.alias is not None),
            directives=inner.directives,
            fields=inner.fields + 1,
            cost=cost,
            introspects=inner.introspects or name in ("__schema", "__type"),
        )

    def _factor(self, node: FieldNode) -> int:
        """Return how many objects a field returns at most. `nodes` has as many as its connection says."""
        name = node.name.value
        factor = _LISTS.get(name, _DEFAULT_SIZES.get(name, 1))
        for argument in node.arguments or ():
            if argument.name.value in ("first", "last"):
                value = argument.value
                raw = self._variables.get(value.name.value) if isinstance(value, VariableNode) else None
                if isinstance(value, IntValueNode):
                    raw = int(value.value[:18])
                factor = raw if isinstance(raw, int) and raw > 0 else factor
        return factor

    def _fragment(self, name: str) -> _Measure:
        if name not in self._measures:
            if name in self._open:
                raise RequestProblem(400, "BAD_INPUT", f"the fragment {name[:100]!r} contains itself")
            definition = self._fragments.get(name)
            if definition is None:
                raise RequestProblem(400, "BAD_INPUT", f"there is no fragment {name[:100]!r}")
            self._open.add(name)
            self._measures[name] = self.selection(definition.selection_set)
            self._open.discard(name)
        return self._measures[name]
