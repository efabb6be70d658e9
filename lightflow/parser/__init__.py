"""From a YAML or JSON file to a `WorkflowSpec`, or to every mistake in the file. Nothing of the user's is executed.

`workflow_loader` runs the stages in order:

1. `files` reads the file into a raw tree with positions (`yaml_source`, `json_source`).
2. `normalize` gives each key one name and each value one form, as the schema says (`schema`).
3. `validate` runs the schema (`schema_validator`, `messages`), the checks of each subject (`subjects`) and the reader
   of expressions (`expressions`), and collects every problem.
4. `subjects` build the records of `lightflow.spec.model`.
"""
