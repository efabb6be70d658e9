"""The capabilities of the system that the guardian uses, so that no process is left running.

For each capability that is missing there is a fallback that does less. The checks change this process for a moment, so
they are for programs that belong to the application alone, such as the command line.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from liteflow.processes import tree


def missing_capabilities() -> list[str]:
    """Return the names of the capabilities that this process does not have."""
    capabilities: dict[str, Callable[[], bool]] = {
        "child subreapers (prctl)": _may_be_subreaper,
        "process handles (pidfd)": _has_handles,
        "the process table in /proc": tree.has_table,
        "the list of children in /proc": lambda: tree.children() is not None,
        "tags on processes (RLIMIT_RTTIME)": _has_tags,
    }
    return [name for name, has_capability in capabilities.items() if not has_capability()]


def _may_be_subreaper() -> bool:
    """Return whether prctl allows to become a subreaper, by trying it and undoing it."""
    return tree.set_subreaper(on=True) and tree.set_subreaper(on=False)


def _has_handles() -> bool:
    fd = tree.open_pidfd(os.getpid())
    if fd < 0:
        return False
    try:
        signal.pidfd_send_signal(fd, 0)
    except (OSError, AttributeError):
        return False
    finally:
        os.close(fd)
    return True


def _has_tags() -> bool:
    tag = tree.make_tag(tree.new_session(), 1)
    tagger = tree.Tagger()
    tag_before = tree.tag_of(os.getpid())
    try:
        tagger.put_on(tag)
        return tree.tag_of(os.getpid()) == tag
    except (OSError, ValueError):
        return False
    finally:
        if tree.tag_of(os.getpid()) != tag_before:
            tagger.take_off()
