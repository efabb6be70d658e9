"""Locales whose encoding lacks characters: what tasks get, and what programs read, is what was written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

POSIX = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
FLOW = """
workflow_name: w
tasks:
  speak:
    cwd: dönnées
    env: {GREETING: "é→"}
    run: 'echo "grüße $GREETING"; echo "name=é" >> "$LIGHTFLOW_OUTPUT"; touch here'
  read:
    type: python
    mode: process
    run: "import os; print(os.environb[b'W'].decode(), 'grüße')"
    env: {W: "é→"}
    depends_on: [speak]
  each: {foreach: ["ä→"], run: "echo ${{ item }}", depends_on: [speak]}
"""


def lightflow(folder: Path, *words: str, env: dict[str, str]) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "lightflow", *words],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "f.yaml").write_text(FLOW, encoding="utf-8")
    (tmp_path / "dönnées").mkdir()
    return tmp_path


def test_commands_get_text_that_the_locale_cannot_express_as_utf_8(folder: Path) -> None:
    lightflow(folder, "run", "f.yaml", "-q", env=POSIX)
    assert lightflow(folder, "logs", "speak", env=POSIX).decode() == "grüße é→\n"
    assert lightflow(folder, "logs", "each", env=POSIX).decode().splitlines()[-1] == "ä→"
    assert lightflow(folder, "logs", "read", env=POSIX).decode() == "é→ grüße\n"
    assert (folder / "dönnées" / "here").exists()


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-2", "utf-8"])
def test_a_program_reads_the_value_that_was_stored(folder: Path, encoding: str) -> None:
    lightflow(folder, "run", "f.yaml", "-q", env={})
    env = {"PYTHONIOENCODING": encoding}
    plain = lightflow(folder, "outputs", "speak", "--key", "name", env=env)
    assert plain.decode(encoding if encoding != "ascii" else "utf-8") == "é\n"
    assert json.loads(lightflow(folder, "outputs", "speak", "--key", "name", "--json", env=env).decode(encoding)) == "é"
