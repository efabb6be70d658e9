"""No secret reaches the terminal in clear, whichever thread prints it, and however many pieces it comes in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from liteflow.executors import stdout_capture
from liteflow.masking import Masker

ROOT = Path(__file__).resolve().parents[2]
SECRET = "Sup3rS3cretValue/zq+9"
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT), "TOKEN": SECRET}

WAYS = {
    "pieces": "in_thread(lambda: (sys.stdout.write(s[:7]), sys.stdout.write(s[7:] + '\\n')))",
    "letters": "in_thread(lambda: [print(letter, end='', flush=True) for letter in s] and print())",
    "errors": "in_thread(lambda: (sys.stderr.write(s[:7]), sys.stderr.flush(), sys.stderr.write(s[7:] + '\\n')))",
    "bytes": "in_thread(lambda: (sys.stdout.buffer.write(s[:9].encode()), sys.stdout.buffer.write(s[9:].encode())))",
    "logging": "logging.getLogger('x').warning('token %s', s)",
    "logging of a thread": "in_thread(lambda: logging.getLogger('x').warning('token %s', s))",
    "handler": "handler.emit(logging.makeLogRecord({'msg': s}))",
}
SCRIPT = """
import logging, sys, threading
from liteflow import Dag, current_context
handler = logging.StreamHandler(sys.stderr)

def in_thread(does):
    thread = threading.Thread(target=does)
    thread.start()
    thread.join()

def task():
    s = current_context().secrets["TOKEN"]
    print("done")
    {way}

dag = Dag("d", secrets=["TOKEN"])
dag.task(task)
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("mode", "debug"), [("thread", False), ("thread", True), ("async", False), ("process", False)])
def test_a_secret_is_masked_on_the_terminal(tmp_path: Path, way: str, mode: str, *, debug: bool) -> None:
    (tmp_path / "flow.py").write_text(SCRIPT.format(way=WAYS[way]))
    words = [sys.executable, "-m", "lightflow", "run", "flow.py", "--mode", mode, *(["--debug"] if debug else [])]
    done = subprocess.run(words, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr + "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    assert SECRET not in output
    assert "***" in output
    assert "done\n" in output


def test_what_may_be_the_beginning_of_a_secret_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    masker = Masker({"TOKEN": SECRET})
    stdout_capture.install(masker)
    try:
        print("é is no secret, but this is:", SECRET[:3], end="")
    finally:
        stdout_capture.uninstall(masker)
    print(", perhaps")
    assert capsys.readouterr().out == f"é is no secret, but this is: {SECRET[:3]}, perhaps\n"
