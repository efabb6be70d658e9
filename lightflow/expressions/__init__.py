"""Expressions, `${{ params.day }}`, in the values of a workflow file.

template    splits text into literal text and expressions
language    parses and evaluates one expression
references  finds the names in an expression, and checks that they exist
shell       puts expressions into shell scripts
evaluate    evaluates the expressions of a task, before a run and in an attempt
conditions  evaluates `if`
fan_out     computes the instances of tasks with `matrix` or `foreach`

Only `template` is imported for a workflow without expressions.
"""
