"""From a YAML or JSON file to a `WorkflowSpec`, or to every mistake in it. Executes nothing of the user's.

files ─▶ yaml_source | json_source ─▶ canonical ─▶ validate (schema, checks) ─▶ spec
"""
