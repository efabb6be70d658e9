"""Compare Lightflow with bare pools, make and other engines: the same work, in turn, on one machine.

    python -m bench               everything: workloads, baselines, peers, rows of our own
    python -m bench quick         own baselines only; fails when a ratio is clearly outside its goal
    python -m bench --help        which parts to run

`contestants/` holds one small program for each engine. The modules here start them, measure them from outside, and
make tables and a chart of what was measured.
"""
