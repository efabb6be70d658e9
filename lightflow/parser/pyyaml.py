"""PyYAML, without compiling at once the patterns that only its own loaders use.

The C parser needs none of them, and they take 6 ms, half of the import, in every run (docs/adr/0016).
"""

from __future__ import annotations

import base64  # noqa: F401 - with datetime all that PyYAML imports besides: whatever patterns they have stay as they are
import datetime  # noqa: F401
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class LatePattern:
    """A regular expression that is compiled when it is first asked for something."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(re.compile(*self._arguments), name)
        self.__dict__[name] = found
        return found


@contextmanager
def compiled_late() -> Iterator[None]:
    """Patterns that modules compile while they are imported become late ones; not where that could meet others."""
    if "yaml" in sys.modules or threading.active_count() > 1:  # `re.compile` belongs to all threads
        yield
        return
    before = re.compile
    re.compile = LatePattern  # type: ignore[assignment]
    try:
        yield
    finally:
        re.compile = before


with compiled_late():
    import yaml
    from yaml.events import (
        AliasEvent,
        DocumentStartEvent,
        MappingEndEvent,
        MappingStartEvent,
        ScalarEvent,
        SequenceEndEvent,
        SequenceStartEvent,
        StreamEndEvent,
    )

__all__ = [
    "AliasEvent",
    "DocumentStartEvent",
    "MappingEndEvent",
    "MappingStartEvent",
    "ScalarEvent",
    "SequenceEndEvent",
    "SequenceStartEvent",
    "StreamEndEvent",
    "yaml",
]
