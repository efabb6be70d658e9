"""The context of a GraphQL operation: the state that it reads, its caller, its time limit."""

from __future__ import annotations

import time
from typing import Final

from lightflow.server.problems import RequestProblem
from lightflow.server.routing import CheckedRequest
from lightflow.server.services import Services
from lightflow.server.tokens import ROLES, Role
from liteflow.api import History

#: How long a query may take, and a mutation, which may wait for the start of a run.
QUERY_S: Final = 2.0
MUTATION_S: Final = 30.0


class OperationContext:
    """The context of one operation."""

    def __init__(self, request: CheckedRequest, history: History, as_of: str, limit_s: float = QUERY_S) -> None:
        """Take the parts; the time limit begins now."""
        self.request = request
        self.history = history
        self.as_of = as_of
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s

    @property
    def services(self) -> Services:
        """The parts of the server."""
        return self.request.services

    def check_time(self) -> None:
        """Check that the operation has time left.

        Raises:
            RequestProblem: it has none.
        """
        if time.monotonic() > self._deadline:
            detail = f"the request took more than {self._limit_s:g} s; request fewer objects"
            raise RequestProblem(503, "TIMEOUT", detail)

    def require(self, role: Role) -> None:
        """Check that the caller has a role, or a higher one.

        Raises:
            RequestProblem: it does not.
        """
        if ROLES.index(self.request.role) < ROLES.index(role):
            raise RequestProblem(403, "FORBIDDEN", f"this needs the role {role}; the token is of a {self.request.role}")
