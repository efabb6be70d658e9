"""What a run does next, decided without a clock, a file or a thread."""
