"""Task types: the two that are built in, and those of other people."""
