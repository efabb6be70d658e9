"""The display of task output by `run`: immediate, in order, complete, bounded, masked and safe for terminals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pexpect
import pytest

from tests.integration.flow_folder import COMMAND, environment, lightflow, write

TWO = """\
workflow_name: two
tasks:
  a: {run: "echo one; echo two >&2"}
  b: {run: "printf 'no end'", depends_on: [a]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def shown(text: str) -> list[str]:
    """The lines without clocks and without what follows the verdict."""
    lines = re.sub(r"(?m)^\d\d:\d\d:\d\d ", "", text).splitlines()
    return [re.sub(r"SUCCESS \d+ ms$", "SUCCESS", line) for line in lines]


def test_hello_prints_hello(folder: Path) -> None:
    write(folder, "tasks: {hello: {run: echo hello}}")
    lines = shown(lightflow(folder, "run", "flow.yaml").stdout)
    assert lines[0].endswith(", 1 task, 4 at once, mode thread")
    assert lines[1:3] == ["hello", "hello SUCCESS"]


def test_each_line_follows_the_name_of_its_task(folder: Path) -> None:
    write(folder, TWO)
    lines = shown(lightflow(folder, "run", "flow.yaml").stdout)
    assert lines[1:6] == ["a | one", "a | two", "a SUCCESS", "b | no end", "b SUCCESS"]


def test_a_group_is_printed_when_its_task_ends(folder: Path) -> None:
    write(folder, TWO)
    lines = shown(lightflow(folder, "run", "flow.yaml", "--output", "group").stdout)
    assert lines[1:7] == ["==> a <==", "one", "two", "a SUCCESS", "==> b <==", "no end"]


def test_on_github_groups_fold_and_what_tasks_print_is_not_a_command(folder: Path) -> None:
    write(folder, "tasks: {a: {run: 'echo ::set-output::x'}}")
    done = lightflow(folder, "run", "flow.yaml", extra_env={"GITHUB_ACTIONS": "true"})
    group, stop, message, go_on, end = done.stdout.splitlines()[1:6]
    assert (group, message, end) == ("::group::a", "::set-output::x", "::endgroup::")
    token = stop.removeprefix("::stop-commands::")
    assert len(token) >= 16
    assert go_on == f"::{token}::"


@pytest.mark.parametrize("options", [["--output", "quiet"], ["--quiet"], ["--json"]])
def test_quiet_shows_nothing_of_what_tasks_print(folder: Path, options: list[str]) -> None:
    write(folder, TWO)
    done = lightflow(folder, "run", "flow.yaml", *options)
    assert "no end" not in done.stdout + done.stderr


def test_with_json_task_output_goes_to_stderr_on_request(folder: Path) -> None:
    write(folder, TWO)
    done = lightflow(folder, "run", "flow.yaml", "--json", "--output", "prefix")
    assert done.stdout.startswith("{")
    assert "a | one" in done.stderr.splitlines()


def test_resume_shows_it_too(folder: Path) -> None:
    write(folder, "tasks: {a: {run: 'echo again; test -e mended'}}")
    assert lightflow(folder, "run", "flow.yaml").returncode == 1
    (folder / "mended").touch()
    assert "again" in lightflow(folder, "resume", "flow.yaml").stdout.splitlines()


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_a_line_is_seen_while_its_task_runs(folder: Path, mode: str) -> None:
    os.mkfifo(folder / "go")
    write(
        folder,
        """\
        tasks:
          shell: {run: "echo from the shell; read line < go; echo over"}
          python:
            type: python
            run: |
              import os, sys
              print("from Python")
              while not os.path.exists("seen"):
                  pass
        """,
    )
    with subprocess.Popen(
        [*COMMAND, "run", "flow.yaml", "--mode", mode],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            wanted = {"shell | from the shell\n", "python | from Python\n"}
            while wanted:  # blocks for ever where nothing is seen before the end
                wanted.discard(line := process.stdout.readline())
                assert line
            (folder / "seen").touch()
            (folder / "go").write_text("go\n")
            rest = process.stdout.read()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert "shell | over\n" in rest


def test_a_program_that_a_python_task_starts_is_seen_while_it_runs(folder: Path) -> None:
    os.mkfifo(folder / "go")
    write(
        folder,
        """\
        settings: {max_parallel_tasks: 1}
        tasks:
          silent: {type: python, run: "import subprocess; subprocess.run(['true'], check=True)"}
          python: {type: python, run: "import os; os.system('echo early; read line < go; echo late')"}
        """,
    )
    command = [*COMMAND, "run", "flow.yaml", "--mode", "process"]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            while process.stdout.readline() != "python | early\n":
                assert process.poll() is None
            (folder / "go").write_text("go\n")
            assert "python | late\n" in process.stdout.read()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert [path.name.split("_")[1] for path in (folder / "logs").iterdir()] == ["python"]
    assert "printed nothing: it is SUCCESS" in lightflow(folder, "logs", "silent").stderr


def test_instances_and_retries_are_distinguished(folder: Path) -> None:
    write(
        folder,
        """\
        tasks:
          load:
            foreach: {items: [alpha, beta], key: "${{ item }}"}
            retries: 1
            run: echo ${{ item }} $LIGHTFLOW_ATTEMPT; test "$LIGHTFLOW_ATTEMPT" = 2
        """,
    )
    done = lightflow(folder, "run", "flow.yaml")
    assert done.returncode == 0
    shown_lines = [line for line in done.stdout.splitlines() if " | " in line]
    assert sorted(shown_lines) == [
        "load[0] alpha | alpha 1",
        "load[0] alpha | alpha 2",
        "load[1] beta | beta 1",
        "load[1] beta | beta 2",
    ]
    assert any(" load[0] alpha SUCCESS " in line for line in done.stdout.splitlines())
    grouped = lightflow(folder, "run", "flow.yaml", "--output", "group").stdout.splitlines()
    assert "==> load[1] beta (attempt 2) <==" in grouped


def test_a_flood_is_left_out_and_its_end_is_shown(folder: Path) -> None:
    write(folder, "tasks: {a: {run: seq 1 300000}}")
    lines = shown(lightflow(folder, "run", "flow.yaml").stdout)
    numbers = [int(line) for line in lines if line.isdecimal()]
    assert numbers[:10_000] == list(range(1, 10_001))
    assert numbers[-10:] == list(range(299_991, 300_001))
    [note] = [line for line in lines if "lines not shown" in line]
    left_out = int(re.sub(r"\D", "", note.partition(" lines")[0]))
    assert left_out + len(numbers) == 300_000
    assert re.search(r"see logs/task_a_\w+\.log$", note)


def test_what_a_terminal_might_obey_is_shown(folder: Path) -> None:
    code = (
        r"import os; os.write(1, b'\x1b[31mred\x1b[0m \x1b]0;title\x07 \x00\xff\xfe\r\n10%\r20%\rdone\n\xe2\x80\xae')"
    )
    write(folder, f"tasks:\n  a:\n    type: python\n    timeout: 60\n    run: |\n      {code}\n")
    lines = shown(lightflow(folder, "run", "flow.yaml").stdout)
    assert lines[1:4] == ["red \\x1b]0;title\\x07 \\x00\ufffd\ufffd", "done", "\\u202e"]


def test_a_line_without_end_is_cut(folder: Path) -> None:
    write(folder, "tasks: {a: {run: 'head -c 3000000 /dev/zero | tr \"\\\\0\" x; echo; echo next'}}")
    lines = shown(lightflow(folder, "run", "flow.yaml").stdout)
    assert len(lines[1]) == 2000
    assert lines[1].endswith("x…")
    assert lines[2] == "next"


def test_a_secret_is_masked(folder: Path) -> None:
    write(folder, "secrets: [TOKEN]\ntasks: {a: {run: 'echo $TOKEN; echo ok', secrets: [TOKEN]}}")
    done = lightflow(folder, "run", "flow.yaml", extra_env={"TOKEN": "Sup3rS3cret"})
    assert "Sup3rS3cret" not in done.stdout + done.stderr
    assert shown(done.stdout)[1:3] == ["***", "ok"]


@pytest.mark.parametrize("how", ["prefix", "group"])
def test_nothing_is_lost_of_a_task_that_is_killed(folder: Path, how: str) -> None:
    os.mkfifo(folder / "up")
    write(
        folder,
        "tasks: {a: {run: \"printf 'first\\nhalf'; echo > up; exec sleep 1000\", kill_grace: 1}, b: {run: echo}}",
    )
    process = subprocess.Popen(
        [*COMMAND, "run", "flow.yaml", "--output", how],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        (folder / "up").read_text()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    lead = "a | " if how == "prefix" else ""
    assert f"{lead}first\n{lead}half\n" in out


def test_a_reader_that_leaves_does_not_stop_a_run_that_prints(folder: Path) -> None:
    write(folder, "tasks: {a: {run: seq 1 200000}, b: {run: touch done, depends_on: [a]}}")
    read, sent = os.pipe()
    os.close(read)
    with os.fdopen(sent, "wb") as closed:
        done = subprocess.run([*COMMAND, "run", "flow.yaml"], cwd=folder, env=environment(), stdout=closed, check=False)
    assert done.returncode == 0
    assert (folder / "done").exists()


def test_a_hundred_quick_tasks_lose_no_line(folder: Path) -> None:
    tasks = "\n".join(f"  t{number}: {{run: echo line {number}}}" for number in range(100))
    write(folder, f"settings: {{max_parallel_tasks: 8}}\ntasks:\n{tasks}\n")
    lines = lightflow(folder, "run", "flow.yaml").stdout.splitlines()
    shown_lines = [line for line in lines if " | " in line]
    assert sorted(shown_lines) == sorted(f"t{number} | line {number}" for number in range(100))
    for number in range(100):  # the word about the end of a task comes behind what it has printed
        end = next(place for place, line in enumerate(lines) if f" t{number} SUCCESS " in line)
        assert lines.index(f"t{number} | line {number}") < end


@pytest.mark.parametrize("options", [[], ["--output", "group"]])
def test_on_a_terminal_lines_are_above_the_picture(folder: Path, options: list[str]) -> None:
    os.mkfifo(folder / "go")
    write(folder, 'tasks: {a: {run: "echo early; read line < go; echo late"}, b: {run: echo other}}')
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], "run", "flow.yaml", *options],
        cwd=str(folder),
        env=environment({"TERM": "xterm-256color", "NO_COLOR": "1"}),
        dimensions=(24, 80),
        encoding="utf-8",
        timeout=60,
    )
    try:
        child.expect_exact("a | early\r\n" if not options else "==> b <==\r\nother\r\n")
        child.expect_exact("1 running")
        (folder / "go").write_text("go\n")
        child.expect_exact("a | late\r\n" if not options else "==> a <==\r\nearly\r\nlate\r\n")
        child.expect_exact("TASK")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)


def test_hello_on_a_terminal_prints_hello(folder: Path) -> None:
    write(folder, "tasks: {hello: {run: echo hello}}")
    command = " ".join([*COMMAND, "run", "flow.yaml"])
    shown = pexpect.run(command, cwd=str(folder), env=environment({"TERM": "xterm"}), encoding="utf-8")
    assert "hello\r\n" in shown.replace("\r\x1b[J", "")
