"""The result of parsing a workflow file, below everything that makes or uses it."""
