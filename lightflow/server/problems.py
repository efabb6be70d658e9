"""Answers for requests that failed: problem details as in RFC 9457, `application/problem+json`."""

from __future__ import annotations

import http
from collections.abc import Mapping
from typing import Any, Final

from lightflow.errors import LightflowError
from lightflow.service.json_shapes import Shape
from liteflow import AlreadyDecided, DefinitionError, LiteflowError, ResourceError, RunNotFound, RunOwned, StoreError
from liteflow.api import NoStateFile

MEDIA_TYPE: Final = "application/problem+json"

#: The status and the code of each error of the engine; a subclass is listed before its base class.
_OF_ERRORS: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (RunNotFound, 404, "NOT_FOUND"),
    (RunOwned, 409, "CONFLICT"),
    (AlreadyDecided, 409, "CONFLICT"),
    (DefinitionError, 422, "BAD_INPUT"),
    (ResourceError, 507, "STATE_FILE"),
    (StoreError, 503, "STATE_FILE"),
    (LiteflowError, 422, "BAD_INPUT"),
    (LightflowError, 422, "BAD_INPUT"),
)


class RequestProblem(Exception):
    """A request that cannot be answered. `code` is for programs, `detail` says what happened and what to do."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.fields = dict(fields or {})  # messages by the name of a parameter or a field
        self.headers = dict(headers or {})

    def shape(self, instance: str = "") -> Shape:
        """Return the body of the answer; `instance` identifies the entry in the server's log."""
        shape: dict[str, Any] = {
            "type": "about:blank",
            "title": http.HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.fields:
            shape["errors"] = [{"field": name, "message": message} for name, message in self.fields.items()]
        if instance:
            shape["instance"] = f"urn:lightflow:error:{instance}"
        return shape


def problem_of(error: Exception) -> RequestProblem | None:
    """Return the problem that an error of the engine or of a workflow file means; None for a defect of the server."""
    if isinstance(error, RequestProblem):
        return error
    for kind, status, code in _OF_ERRORS:
        if isinstance(error, kind):
            return RequestProblem(status, code, detail_of(error))
    return None


def detail_of(error: Exception) -> str:
    """Return what a client reads about an error. There was a state file when the server started."""
    if isinstance(error, NoStateFile):
        return f"{error.path}: the state file was deleted or moved; the server continues when there is one again"
    return str(error)
