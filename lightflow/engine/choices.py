"""Options that choose the tasks of a run: of a new run, or of a run that is run again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from liteflow.api import Record


class SelectionOptions(Record):
    """The tasks of a new run that run (see `Dag.run`); with none, all."""

    only: Sequence[str] = ()
    start: Sequence[str] = ()
    until: Sequence[str] = ()
    skip: Sequence[str] = ()
    values_from: str | None = None


class RerunOptions(Record):
    """Which tasks of a run run again; with none, all that did not succeed."""

    start: Sequence[str] = ()  #: ids, patterns, instances and groups
    only: bool = False  #: whether what follows them stays as it is
    changed: bool = False  #: whether the tasks whose definition has changed run again, too
    ignore_upstream: bool = False  #: whether they run although an upstream task did not succeed


ALL_TASKS: Final = SelectionOptions()
RESUME: Final = RerunOptions()
