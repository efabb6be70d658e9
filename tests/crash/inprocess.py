"""Many command lines quickly: each batch in a forked child of a process that has imported everything already."""

from __future__ import annotations

import importlib
import io
import json
import os
import pkgutil
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import lightflow.cli
import lightflow.service
import liteflow
from lightflow.cli.main import main

HANG_S: Final = 90  # of a busy machine


class Said(NamedTuple):
    """What one command of a batch came to."""

    arguments: list[str]
    code: int
    text: str  # stdout and stderr


class Batch(NamedTuple):
    """What a child came to: `died` is 0, or the number of the signal that ended it."""

    said: list[Said]
    died: int


def preload() -> None:
    """Import all that a command might."""
    for package in (liteflow, lightflow.service, lightflow.cli):
        for result in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not result.name.endswith("__main__"):
                importlib.import_module(result.name)


def in_child(
    work: Callable[[], Any], folder: Path, *, memory: int | None = None, hang_s: int = HANG_S
) -> tuple[Any, int]:
    """What `work` returns (as JSON), and the signal that ended the child, if one did."""
    with tempfile.TemporaryFile() as answer:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(hang_s)  # a hang ends by SIGALRM
                if memory is not None:
                    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
                os.chdir(folder)
                result = json.dumps(work()).encode()
                os.pwrite(answer.fileno(), result, 0)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        raw = answer.read()
    return (json.loads(raw) if raw else None), os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def commands(batch: Sequence[Sequence[str]], folder: Path) -> Batch:
    """Run command lines one after the other in one child."""

    def work() -> list[list[Any]]:
        result = []
        for arguments in batch:
            raw = io.BytesIO()
            stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
            sys.stdout = sys.stderr = stream
            code = 0
            try:
                main(arguments)
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            stream.flush()
            result.append([list(arguments), code, raw.getvalue().decode("utf-8", "replace")])
        return result

    result, died = in_child(work, folder)
    return Batch([Said(*entry) for entry in result or []], died)
