"""Graphs and runs as pictures and pages."""
