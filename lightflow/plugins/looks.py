"""The looks of tasks of type `wait` at a server: an HTTP request, or a query in SQL.

A look changes nothing and prints nothing, for it is repeated for days. A server that does not answer says "not yet".
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lightflow.plugins.base import PluginContext
from liteflow import TaskFailed, Waiting, current_context
from liteflow.api import replace

#: The longest time of a look in seconds: less than that of a poll, so that the server is named if it does not answer.
LOOK_S: Final = 20.0
#: Statuses from 400 to 499 that can become another one; the others fail the task.
_NOT_YET: Final = ("404", "408", "425", "429")
#: The codes of the client for a server that cannot be reached now, or whose content is not the expected one.
_NO_ANSWER: Final = ("connect", "timeout", "closed", "expect")


def look_by_http(config: Mapping[str, Any], context: PluginContext) -> dict[str, Any] | Waiting:
    """Send a request. Return the status, the URL and the content of the expected answer. Raises TaskFailed."""
    from lightflow.plugins.http_task import answered

    wanted = config["http"]
    limited = replace(context, deadline=time.time() + LOOK_S)
    try:
        with _silent():
            content, values = answered(wanted, limited)
    except TaskFailed as error:
        code = error.codes[0].partition(":")[2] if error.codes else ""
        is_later = code in _NO_ANSWER or code in _NOT_YET or (code.isdigit() and not code.startswith("4"))
        if not is_later:
            raise
        return Waiting(None, error.retry_after_s, str(error))
    return {"status": values["status"], "url": values["url"], "content": content}


def look_by_sql(config: Mapping[str, Any], context: PluginContext) -> dict[str, Any] | Waiting:
    """Execute a query. Return its first row, unless its only value is 0, false or NULL. Raises TaskFailed."""
    from lightflow.plugins.sql_task import job_of
    from lightflow.sql.execution import execute

    job = job_of(config["sql"], replace(context, deadline=time.time() + LOOK_S), current_context().db_path)
    job = replace(job, rows="first", options=replace(job.options, read_only=True))
    try:
        with _silent():
            row = execute(job).value
    except TaskFailed as error:
        if error.final:
            raise
        return Waiting(None, None, str(error))
    if row is None:
        return Waiting(None, None, "a row")
    values = list(row.values())
    if len(values) == 1 and not values[0]:
        return Waiting(None, None, f"another value than {values[0]!r}")
    return {"row": row}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()):
        yield
