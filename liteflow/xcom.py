"""Values that tasks hand on: written by whoever made them, decoded only where they are used."""

from __future__ import annotations

from typing import Any

from liteflow.state.admin import save_value
from liteflow.state.history import History
from liteflow.state.state_file import real_path
from liteflow.values.payload import decode, encode, spill_dir


class XCom:
    """Stored values, addressed by run, task and key. A task's return value has the key `return_value`."""

    @staticmethod
    def load(
        db_path: str, run_id: str, task_id: str, key: str = "return_value", *, map_index: int = -1, default: Any = None
    ) -> Any:
        """A stored value, or `default` where there is none. Without an index, that of a mapped task is the list of its
        instances' values, in the order of what it is mapped over; those that have none are left out.

        A value that is not made of plain data was pickled: loading it runs its code, so load only from
        state files that you trust.

        Raises:
            PayloadError: it does not decode, or its file is missing or altered.
            StoreError: the state file cannot be read.
        """
        with History(db_path) as history:
            payload = history.value(run_id, task_id, key, map_index)
        return default if payload is None else decode(payload)

    @staticmethod
    def save(db_path: str, run_id: str, task_id: str, key: str, value: Any, *, map_index: int = -1) -> None:
        """Store a value by hand, in a transaction of its own. In a task, prefer `current_context().xcom_push`.

        Raises:
            PayloadError: it cannot be stored.
            StoreError: the state file cannot be written.
        """
        path = real_path(db_path)
        save_value(path, run_id, task_id, key, encode(value, spill_dir(path, run_id)), map_index)
