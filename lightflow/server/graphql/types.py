"""The executable schema: the file `schema.graphql`, with the resolvers and the scalars."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from graphql import (
    GraphQLField,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLSchema,
    build_schema,
)

from lightflow.server.graphql import mutations, resolvers, trigger_resolvers
from lightflow.server.graphql.resolvers import Resolver, moment_text
from lightflow.service.json_shapes import moment_of

_TABLES: Final = (resolvers.RESOLVERS, trigger_resolvers.RESOLVERS, mutations.RESOLVERS)
#: The resolver of each field, by type. The fields of subscriptions have their events as their root value.
RESOLVERS: Final[Mapping[str, Mapping[str, Resolver]]] = {
    **{
        kind: {name: resolver for table in _TABLES for name, resolver in table.get(kind, {}).items()}
        for table in _TABLES
        for kind in table
    },
    "Subscription": {name: lambda source, context, **_: source for name in ("events", "log")},
}


def schema_text() -> str:
    """Return the schema in the language of GraphQL, as it is published."""
    return files("lightflow.server.graphql").joinpath("schema.graphql").read_text(encoding="utf-8")


@functools.cache
def executable_schema() -> GraphQLSchema:
    """Return the schema with its resolvers."""
    schema = build_schema(schema_text())
    for name, fields in RESOLVERS.items():
        kind = schema.type_map[name]
        assert isinstance(kind, GraphQLObjectType)
        for field_name, resolver in fields.items():
            _attach(kind.fields[field_name], resolver)
    moment = schema.type_map["DateTime"]
    assert isinstance(moment, GraphQLScalarType)
    # As its constructor does; a schema that is built from text has no other way.
    vars(moment).update(serialize=moment_text, coerce_output_value=moment_text)
    vars(moment).update(parse_value=moment_of, coerce_input_value=moment_of)
    return schema


def _attach(field: GraphQLField, resolver: Resolver) -> None:
    for name, argument in field.args.items():
        argument.out_name = re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", name)

    def resolve(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
        info.context.check_time()
        return resolver(source, info.context, **arguments)

    field.resolve = resolve
