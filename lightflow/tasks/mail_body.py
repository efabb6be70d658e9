"""A mail as the body of a task."""

from __future__ import annotations

from typing import Any

from lightflow.tasks.bodies import call_of
from liteflow import Call


def mail(server: Any = None, *, sender: Any = None, to: Any, **keys: Any) -> Call:
    """Return the body of a task that sends a mail: `mail("smtp://host", sender="me@host", to=["you@host"], text="hi")`.

    The keywords are the keys of `type: mail`, with `sender` for `from`: password, tls, ca, cc, bcc, reply_to, subject,
    text, html, attach, strict, connection. A connection may have the server and the sender.

    Raises:
        DefinitionError: an invalid key.
    """
    return call_of("mail", {"server": server, "from": sender, "to": to, **keys})
