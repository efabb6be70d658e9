"""Attempts on other machines: an agent on each runs them with an executor of its own, and a link brings them back."""
