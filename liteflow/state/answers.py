"""The answers of people to tasks that wait, such as approvals: requests of other processes, stored as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from liteflow.record import EMPTY_MAPPING, Record
from liteflow.state.records import Request

#: The action of a request that is an answer.
ANSWER: Final = "answer"


class StoredAnswer(Record):
    """The decision of a person, which ends an attempt that waits."""

    task_id: str
    map_index: int
    attempt: int
    verdict: Literal["SUCCESS", "FAILED"]
    by: str  #: the person
    at: float  #: when, in epoch seconds
    reason: str = ""  #: of a failure
    codes: tuple[str, ...] = ()  #: of a failure
    values: Mapping[str, Any] = EMPTY_MAPPING  #: the values of the task, plain data

    @property
    def attempt_key(self) -> tuple[str, int, int]:
        """The attempt that it decides about."""
        return self.task_id, self.map_index, self.attempt

    @property
    def summary(self) -> str:
        """Name the person, the time and the decision: `by ann at 2026-01-31 10:03:00: approved`."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at))
        return f"by {self.by} at {at}: {'approved' if self.verdict == 'SUCCESS' else self.reason}"

    def to_text(self) -> str:
        """Return it as the detail of a request."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        return json.dumps({**fields, "codes": list(self.codes), "values": dict(self.values)}, ensure_ascii=False)

    @staticmethod
    def of(request: Request) -> StoredAnswer:
        """Return the answer of a request. If it was altered and cannot be read, it names no task."""
        try:
            fields = json.loads(request.detail or "")
            answer = StoredAnswer(**{**fields, "codes": tuple(map(str, fields["codes"]))})
            is_valid = answer.verdict in ("SUCCESS", "FAILED") and isinstance(answer.values, dict)
        except (ValueError, TypeError, LookupError, RecursionError):
            is_valid = False
        return answer if is_valid else _UNREADABLE


_FIELDS: Final = ("task_id", "map_index", "attempt", "verdict", "by", "at", "reason")
_UNREADABLE: Final = StoredAnswer(task_id="", map_index=-1, attempt=0, verdict="FAILED", by="", at=0.0)
