"""The command line: one module per command. A command calls `lightflow.service` and prints the result."""
