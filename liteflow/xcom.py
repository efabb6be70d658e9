"""Values that tasks exchange. They are encoded where they are made and decoded only where they are used."""

from __future__ import annotations

from typing import Any

from liteflow.state.admin import save_value
from liteflow.state.history import History
from liteflow.state.state_file import real_path
from liteflow.values.payload import decode, encode, spill_dir


class XCom:
    """Access to stored values by run, task and key. The return value of a task has the key `return_value`."""

    @staticmethod
    def load(
        db_path: str, run_id: str, task_id: str, key: str = "return_value", *, map_index: int = -1, default: Any = None
    ) -> Any:
        """Return a stored value, or `default` where there is none.

        Without an index, the value of a mapped task is the list of the values that its instances have, in the order of
        the list that it is mapped over. A value that is not plain data was pickled. Loading it runs its code, so load
        only from state files that you trust.

        Raises:
            PayloadError: the value cannot be decoded, or its file is missing or altered.
            StoreError: the state file cannot be read.
        """
        with History(db_path) as history:
            payload = history.value(run_id, task_id, key, map_index)
        return default if payload is None else decode(payload)

    @staticmethod
    def save(db_path: str, run_id: str, task_id: str, key: str, value: Any, *, map_index: int = -1) -> None:
        """Store a value from outside a run, in its own transaction. A task uses `current_context().xcom_push`.

        Raises:
            PayloadError: the value cannot be stored.
            StoreError: the state file cannot be written.
        """
        path = real_path(db_path)
        save_value(path, run_id, task_id, key, encode(value, spill_dir(path, run_id)), map_index)
