"""The limits of GraphQL requests, which are checked before anything else reads a request."""

from __future__ import annotations

from typing import Any

import pytest
from graphql import GraphQLObjectType

from lightflow.server.graphql.limits import read_operation
from lightflow.server.graphql.types import RESOLVERS, executable_schema
from lightflow.server.problems import RequestProblem

DEEP = "{ " + "a { " * 200 + "x" + " }" * 200 + " }"
TWINS = "{ " + "whoami { role } " * 3_000 + "}"
ALIASES = "{ system { " + " ".join(f"a{number}: version" for number in range(150)) + " } }"
DOUBLING = (
    "{ ...f0 } "
    + " ".join(f"fragment f{number} on Query {{ ...f{number + 1} ...f{number + 1} }}" for number in range(20))
    + " fragment f20 on Query { whoami { role } }"
)
DIRECTIVES = "{ whoami { role " + "@include(if: true) " * 25 + "} }"


def refused(query: str, variables: dict[str, Any] | None = None, name: str | None = None) -> RequestProblem:
    with pytest.raises(RequestProblem) as caught:
        read_operation(query, variables or {}, name)
    return caught.value


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (TWINS, "tokens"),
        (DEEP, "nested brackets"),
        ("{ a { a { a { a { a { a { a { a { a } } } } } } } } }", "nested fields"),
        ("{ " * 400, "nested brackets"),
        (ALIASES, "aliases"),
        (DOUBLING, "fields"),
        (DIRECTIVES, "directives"),
        ("{ " + " ".join(f"a{number}: whoami {{ role }}" for number in range(6)) + " }", "fields at the top"),
        ("{ runs(first: 1000000000) { nodes { id } } }", "objects"),
        ("{ runs(first: 500) { nodes { id tasks(first: 500) { nodes { id } } } } }", "objects"),
        ("{ a { ...f } } fragment f on Run { ...g } fragment g on Run { ...f }", "contains itself"),
        ("{ ...nothing }", "no fragment 'nothing'"),
        ("query a { whoami { role } } query b { whoami { role } }", "one operation"),
        ("fragment f on Run { id }", "one operation"),
        ("{ a", "Expected Name"),
        ("{ a ?", "Unexpected character"),
        ("", "Unexpected <EOF>"),
    ],
)
def test_a_request_beyond_a_limit_is_refused(query: str, words: str) -> None:
    problem = refused(query)
    assert words in problem.detail
    assert problem.status == 400


def test_the_cost_counts_variables_and_their_defaults() -> None:
    query = "query q($n: Int = {default}) {{ runs(first: $n) {{ nodes {{ id tasks {{ nodes {{ id }} }} }} }} }}"
    text = query.replace("{default}", "5").replace("{{", "{").replace("}}", "}")
    assert read_operation(text, {}, "q").name == "q"
    assert refused(text, {"n": 10_000}).code == "TOO_COSTLY"
    assert refused(text.replace("= 5", "= 100000")).code == "TOO_COSTLY"
    assert refused(text, {}, "other").code == "BAD_INPUT"


def test_a_usual_request_is_within_the_limits() -> None:
    operation = read_operation(
        "query page($after: String) { runs(first: 20, after: $after) { nodes { ...run } pageInfo { endCursor } } } "
        "fragment run on Run { id counts { state number } tasks(first: 10) { nodes { id attempts { number } } } }",
        {},
        "page",
    )
    assert not operation.introspects
    assert read_operation("{ __schema { types { name } } }", {}, None).introspects


def test_each_field_of_the_schema_has_a_resolver_and_no_other_has() -> None:
    schema = executable_schema()
    fields = {
        name: set(kind.fields)
        for name, kind in schema.type_map.items()
        if isinstance(kind, GraphQLObjectType) and not name.startswith("__")
    }
    assert {name: set(resolvers) for name, resolvers in RESOLVERS.items()} == fields
