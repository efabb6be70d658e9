"""Decides what a run does next, without a clock, a file or a thread."""
