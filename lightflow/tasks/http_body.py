"""An HTTP request as the body of a task."""

from __future__ import annotations

from typing import Any

from lightflow.tasks.bodies import call_of
from liteflow import Call


def http(url: Any, **keys: Any) -> Call:
    """Return the body of a task that sends a request: `http("https://example.org", json={"rows": count})`.

    The keywords are the keys of `type: http`: method, query, headers, auth, json, form, body, file, multipart, expect,
    response, max_size, save, redirects, connect_timeout, tls, proxy, idempotency, allow_hosts, connection, base_url.

    Raises:
        DefinitionError: an invalid key.
    """
    return call_of("http", {"url": url, **keys})
