"""Programs whose output a task type reads, such as the command line of a container engine."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from liteflow import TaskFailed


def run_program(
    command: Sequence[str], environ: Mapping[str, str], limit_s: float, *, late: str, codes: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Run a program without input, and return its code and what it prints.

    Raises:
        TaskFailed: it takes longer than the limit; the message is `late` with the limit, its codes are `codes`.
        OSError: it cannot be started.
    """
    try:
        return subprocess.run(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TaskFailed(f"{late} took longer than {limit_s:g} s", codes=codes) from None
