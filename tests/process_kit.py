"""Processes that tests started."""

from __future__ import annotations

import ctypes
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from liteflow.processes import tree

_LOAD, _IS_EQUAL, _RETURN = 0x20, 0x15, 0x06  # instructions of a filter
_ALLOW, _FAIL_WITH = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVILEGES, _SET_FILTER = 38, 22  # of prctl


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    row = tree.process(pid)
    return row is not None and row.state not in "ZX"


def await_delivery(pid: int, number: signal.Signals) -> None:
    """Wait until a process has taken a signal: the same signal again, before that, would be lost."""
    give_up = time.monotonic() + 120
    while _has_pending(pid, number):
        assert time.monotonic() < give_up, f"{number.name} is not delivered"
        time.sleep(0.005)


def _has_pending(pid: int, number: signal.Signals) -> bool:
    words = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").split()
    pending = (int(words[words.index(name) + 1], 16) for name in ("SigPnd:", "ShdPnd:"))
    return any(mask >> (number - 1) & 1 for mask in pending)


def refuse(system_call: int, error: int, *, argument: tuple[int, int] | None = None) -> None:
    """Have the kernel refuse a system call of x86-64 to this process and its children, as a sandbox does.

    With `argument` (its place and its value) only calls with this value are refused. Error 0: the call does nothing.
    """
    conditions = [(0, system_call)] if argument is None else [(0, system_call), (16 + 8 * argument[0], argument[1])]
    rules = []
    for number, (offset, value) in enumerate(conditions):
        to_the_end = 2 * (len(conditions) - number) - 1
        rules += [(_LOAD, 0, 0, offset), (_IS_EQUAL, 0, to_the_end, value)]
    rules += [(_RETURN, 0, 0, _FAIL_WITH | error), (_RETURN, 0, 0, _ALLOW)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    assert libc.prctl(_SET_FILTER, 2, ctypes.byref(Filter(len(rules), ctypes.addressof(program))), 0, 0) == 0


def python_of(version: str) -> str:
    """Return a Python of a version, such as "3.12"; where there is none the test is skipped."""
    if sys.version_info[:2] == tuple(int(part) for part in version.split(".")):
        return sys.executable
    candidates = [shutil.which(f"python{version}")]
    candidates += sorted(str(path) for path in Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    for candidate in candidates:
        # A pyenv shim is found on PATH also where its version is not active, and then does not start.
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    pytest.skip(f"Python {version} is not installed here")
