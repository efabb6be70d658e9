"""Expressions, `${{ params.day }}`, in the values of a workflow file.

split ─▶ language (what may be said) ─▶ names (what it reads) ─▶ shell (where it stands) ─▶ late (its value)

Nothing of this is imported for a workflow without expressions.
"""
