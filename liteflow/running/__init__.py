"""Runs plans: the loop and its parts."""
