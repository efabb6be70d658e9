"""The command line: one module a command or small family. It calls `lightflow.service` and prints; nothing else."""
