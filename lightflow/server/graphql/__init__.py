"""GraphQL: the schema is `schema.graphql`, and each of its fields has a resolver. Imported at the first request."""
