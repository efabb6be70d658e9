"""The command line: one module a command. A command calls `lightflow.service` and prints the result."""
