"""One program for each engine, started as `python -m bench.contestants.NAME WORKLOAD SIZE...` in an empty folder.

Each says in its own idiom what `kit` describes, in the fastest configuration its documentation names.
"""
