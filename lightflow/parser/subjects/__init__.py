"""One module a subject of the workflow file: its part of the schema, its checks, and what is built from it.

The schema part says which keys exist and which values they take. A check reports what the schema cannot say. A builder
makes the records of `lightflow.spec.model` from keys that have been checked. To add a key, see
`docs/explanation/adding-a-key.md`.
"""
