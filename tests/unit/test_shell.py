"""The words that a shell is started with."""

from __future__ import annotations

import os
import subprocess

import pytest

from liteflow.shell import shell_prefix, shell_words


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        (None, ("/bin/sh", "-e", "-c")),
        ("/bin/sh", ("/bin/sh", "-e", "-c")),
        ("/bin/dash", ("/bin/dash", "-e", "-c")),
        ("/bin/bash", ("/bin/bash", "-eo", "pipefail", "-c")),
        ("/opt/bin/bash-5.2", ("/opt/bin/bash-5.2", "-eo", "pipefail", "-c")),
        ("/opt/bin/ksh93", ("/opt/bin/ksh93", "-eo", "pipefail", "-c")),
        ("/opt/bin/zsh", ("/opt/bin/zsh", "-eo", "pipefail", "-c")),
        ("/opt/bin/fish", ("/opt/bin/fish", "-c")),
        ("/opt/bin/python3", ("/opt/bin/python3", "-c")),
        (["/bin/sh", "-c"], ("/bin/sh", "-c")),
        (["/bin/bash", "-x", "-c"], ("/bin/bash", "-x", "-c")),
    ],
)
def test_a_shell_stops_at_the_first_line_that_fails_unless_it_is_a_list(
    shell: str | list[str] | None, words: tuple[str, ...]
) -> None:
    assert shell_prefix(shell) == words


@pytest.mark.parametrize("shell", ["bash", "sh", ["bash", "-c"]])
def test_a_bare_name_is_looked_up_on_the_path(shell: str | list[str]) -> None:
    assert os.path.isabs(shell_prefix(shell)[0])


def test_a_name_that_is_nowhere_is_left_for_the_start_to_complain_about() -> None:
    assert shell_prefix("no-such-shell") == ("no-such-shell", "-c")


@pytest.mark.parametrize(
    ("shell", "script"),
    [(None, "false\necho on"), ("bash", "false\necho on"), ("bash", "false | true\necho on")],
)
def test_a_script_stops(shell: str | None, script: str) -> None:
    done = subprocess.run(shell_words(shell, script), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize("shell", [["/bin/sh", "-c"], ["bash", "-c"]])
def test_a_list_continues_as_written(shell: list[str]) -> None:
    done = subprocess.run(shell_words(shell, "false\necho on"), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"on\n")
