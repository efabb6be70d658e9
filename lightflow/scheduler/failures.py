"""Failures of a scheduler: each hurts only what it concerns, and is reported once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping

from liteflow import LiteflowError
from liteflow.api import Record

_log = logging.getLogger("lightflow.scheduler")


class SchedulerState(Record):
    """The state of the scheduler of a server."""

    is_active: bool  #: otherwise it is the standby of another, or starts nothing by itself
    failures: Mapping[str, str]  #: see `Failures.texts`


class Failures:
    """The failures of now, by the trigger or file that they concern, or `scheduler`."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        #: what fails now, by subject; replaced as a whole, so that other threads may read it
        self.texts: Mapping[str, str] = {}

    @contextlib.contextmanager
    def contained(self, subject: str) -> Iterator[None]:
        """Let a defect hurt only its subject. An error of the state file concerns all, and is raised.

        Raises:
            LiteflowError: an error that has an explanation for people.
        """
        try:
            yield
        except LiteflowError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of what concerns one subject
            self.note(subject, error)
        else:
            self.clear(subject)

    def note(self, subject: str, error: Exception) -> None:
        """Report an error, unless the subject has it already."""
        if self.texts.get(subject) != (text := _text_of(error)):
            self.texts = {**self.texts, subject: text}
            self.report(subject, error)

    def report(self, subject: str, error: Exception) -> str:
        """Report an error that is over, such as that of a fire: a defect with its traceback. Return it as text."""
        text = _text_of(error)
        if isinstance(error, LiteflowError):
            self._report(f"problem: {text}")
        else:
            _log.error("%s: a defect of Lightflow", subject, exc_info=error)
        return text

    def clear(self, subject: str) -> None:
        """Record that a subject works."""
        self.retain(self.texts.keys() - {subject})

    def retain(self, subjects: Collection[str]) -> None:
        """Forget what is none of these subjects, because it does not exist any longer."""
        if not self.texts.keys() <= set(subjects):
            self.texts = {name: text for name, text in self.texts.items() if name in subjects}


def _text_of(error: Exception) -> str:
    return str(error) if isinstance(error, LiteflowError) else f"{type(error).__name__}: {error}"
