"""The outputs of runs: how the row of a run holds them, and what the history knows of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from liteflow.errors import PayloadError
from liteflow.masking import Masker
from liteflow.state.row_kinds import TEXT_OR_NOT, Kind
from liteflow.state.stored_texts import from_json
from liteflow.values.payload import Payload, encode
from liteflow.work import Ref


def outputs_text(outputs: Mapping[str, Any], masker: Masker | None) -> str:
    """Return the outputs of a run as the JSON of its row: values, and for each `Ref` its task and key.

    Raises:
        PayloadError: a value cannot be written as JSON, or contains a secret.
    """
    return json.dumps({name: _stored(name, value, masker) for name, value in outputs.items()})


def _stored(name: str, value: Any, masker: Masker | None) -> dict[str, Any]:
    if isinstance(value, Ref):
        return {"task": value.task_id, "key": value.key}
    payload = encode(value, masker=masker)
    if not isinstance(payload.data, str):
        raise PayloadError(f"outputs.{name} cannot be written as JSON: it is a {type(value).__name__}")
    return {"encoding": payload.encoding, "value": json.loads(payload.data)}


class OutputHistory(Protocol):
    """A history, as far as it knows the outputs of runs."""

    def _rows(self, sql: str, parameters: Sequence[object], kinds: Sequence[Kind]) -> list[Any]: ...

    def value(self, run_id: str, task_id: str, key: str = ..., map_index: int = ...) -> Payload | None: ...

    def run_outputs(self, run_id: str) -> dict[str, Payload | None]:
        """Return the outputs of a run by name, encoded; None: that of a task without the value.

        A run that has not succeeded has none.
        """
        rows = self._rows("SELECT outputs FROM liteflow_dag_runs WHERE run_id=?", (run_id,), (TEXT_OR_NOT,))
        stored: dict[str, Any] = from_json(rows[0][0], {}) if rows else {}
        return {name: self._output(run_id, each) for name, each in stored.items() if isinstance(each, dict)}

    def _output(self, run_id: str, stored: Mapping[str, Any]) -> Payload | None:
        if "task" in stored:
            return self.value(run_id, str(stored["task"]), str(stored.get("key")))
        text = json.dumps(stored.get("value"), ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode("utf-8", "replace"))
        return Payload("tagged" if stored.get("encoding") == "tagged" else "json", text, size)
