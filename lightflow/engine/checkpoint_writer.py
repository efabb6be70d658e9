"""The observer that writes the checkpoint of a run. Apart from `checkpoint`, which is read without the engine."""

from __future__ import annotations

from collections.abc import Mapping

from lightflow.engine import checkpoint
from liteflow.errors import LiteflowError
from liteflow.program import Program
from liteflow.running.observing import Observer, Options
from liteflow.states import RunStatus, TaskStatus


class CheckpointWriter(Observer):
    """An observer of a run that writes its checkpoint when it ends."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.settings = {"checkpoint_dir": folder}

    def run_began(self, program: Program, options: Options, kept: Mapping[int, TaskStatus]) -> None:
        self._options = options

    def run_ended(self, status: RunStatus, reason: str | None) -> None:
        try:
            checkpoint.write(self._folder, self._options.db_path, self._options.run_id, status)
        except (OSError, LiteflowError) as error:  # a full disk: the run is stored all the same
            import logging

            logging.getLogger(__name__).warning("the checkpoint was not written: %s", error)
