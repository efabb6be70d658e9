"""Processes and their trees: starting, watching, killing. Knows nothing of tasks."""
