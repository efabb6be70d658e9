"""Expressions, `${{ params.day }}`, in the values of a workflow file.

split       text into literal text and expressions
language    the syntax, and the evaluation of one expression
names       the names in an expression, and whether they exist
shell       expressions in shell scripts
late        the values of the expressions of a task, before a run and in an attempt
conditions  the values of `if`
fan         the instances of tasks with `matrix` or `foreach`

Only `split` is imported for a workflow without expressions.
"""
