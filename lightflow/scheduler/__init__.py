"""The scheduler: starts the runs of the workflows in some files and folders, while `lightflow serve` runs.

`Scheduler` decides and stores what fires; a child process, the starter, starts each run as a process of its own, so the
end of the server ends no run. `decisions` is pure: it has no clock, no file and no process.
"""
