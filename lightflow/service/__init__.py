"""The use cases of the application, as functions that print nothing.

The command line calls these. For the display of a run it also uses `lightflow.engine`, and for pictures
`lightflow.visuals`.

workflows, workflow_template    describe workflow files; write a new one
runs, parameters                start, resume and cancel runs
queries, pages, explanations    read the state file: lists, runs, reasons
run_tasks, waiting              what explanations are derived from: the graph of a run; what a task waits for
pools, doctor, failure_hints    pools of slots; checks of the machine; hints after failures
json_shapes, file_shapes        what `--json` prints
"""
