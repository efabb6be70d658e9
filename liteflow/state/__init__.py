"""The state file: its tables, who writes it, who reads it."""
