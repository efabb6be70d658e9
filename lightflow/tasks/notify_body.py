"""A message to a chat or a phone as the body of a task."""

from __future__ import annotations

from typing import Any

from lightflow.tasks.bodies import call_of
from liteflow import Call


def notify(text: Any = None, **keys: Any) -> Call:
    """Return the body of a task that sends a message: `notify("done", slack=Secret("SLACK_URL"))`.

    The keywords are the keys of `type: notify`: slack, ntfy or webhook, and mentions.

    Raises:
        DefinitionError: an invalid key.
    """
    return call_of("notify", {"text": text, **keys})
