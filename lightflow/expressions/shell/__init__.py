"""Expressions in shell scripts.

syntax     parses a script with shfmt
rewrite    replaces each expression by a reference to a variable, in quotes that fit its place
script     knows the functions, aliases, constants and words of a script
evaluated  finds expressions whose values a shell would evaluate
commands   describes which words commands evaluate
reasons    explains why an expression cannot be where it is
"""
