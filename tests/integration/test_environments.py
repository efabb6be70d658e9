"""Python tasks in environments of their own: built by uv, shared, complete or absent, removed when unused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from flow_folder import COMMAND, environment, lightflow, write

from lightflow.plugins import python_environment
from lightflow.plugins.python_environment import Requirements, digest, remove_unused, script_block

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a package that needs no registry."""
    wheel(tmp_path, "lf_sample", "1.0")
    return tmp_path


def wheel(folder: Path, name: str, version: str) -> Path:
    """Make a wheel of one module whose function returns the version."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{name}.py", f"VERSION = {version!r}\n\ndef double(number):\n    return [VERSION, number * 2]\n"
        )
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def environments(folder: Path) -> list[str]:
    path = folder / ".lightflow" / "envs"
    return sorted(name for name in os.listdir(path) if not name.endswith(".lock")) if path.exists() else []


def value(folder: Path, task: str, key: str) -> object:
    done = lightflow(folder, "outputs", task, "--key", key)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_code_a_file_and_a_function_run_in_an_environment(folder: Path) -> None:
    package = f"lf-sample @ file://{folder}/lf_sample-1.0-py3-none-any.whl"
    (folder / "clean.py").write_text(
        f'# /// script\n# requires-python = ">=3.11"\n# dependencies = [\n#   "{package}",\n# ]\n# ///\n'
        "import lf_sample, os\n"
        'open(os.environ["LIGHTFLOW_OUTPUT"], "a").write(f"version={lf_sample.VERSION}\\n")\n'
    )
    (folder / "plain.py").write_text("import sys; print('plain', __name__); sys.exit(3)\n")
    write(
        folder,
        f"""
        tasks:
          code:
            type: python
            run: |
              import lf_sample, sys
              print("inside", lf_sample.VERSION, sys.prefix != sys.base_prefix)
            environment: &sample {{packages: ["{package}"]}}
          function:
            type: python
            call: lf_sample:double
            args: [21]
            environment: *sample
          file: {{type: python, file: clean.py, environment: script}}
          plain: {{type: python, file: plain.py, continue_on_error: true}}
        """,
    )
    done = lightflow(folder, "run", "flow.yaml")
    assert done.returncode == 0, done.stdout
    assert "inside 1.0 True" in lightflow(folder, "logs", "code").stdout
    assert value(folder, "function", "return_value") == ["1.0", 42]
    assert value(folder, "function", "packages") == {"lf-sample": "1.0"}
    assert lightflow(folder, "outputs", "file", "--key", "version").stdout.strip() == "1.0"
    assert "plain __main__" in lightflow(folder, "logs", "plain").stdout
    assert "exit code 3" in lightflow(folder, "why", "plain").stdout
    assert len(environments(folder)) == 2, "one for equal content"
    for name in environments(folder):
        os.utime(folder / ".lightflow" / "envs" / name, (0, 0))
    assert "deleted 2 unused Python environments" in lightflow(folder, "prune").stdout
    assert environments(folder) == []


def test_what_cannot_be_built_leaves_nothing(folder: Path) -> None:
    (folder / "block.py").write_text("pass\n")
    write(
        folder,
        f"""
        tasks:
          missing:
            type: python
            run: pass
            environment: {{packages: ["lf-none @ file://{folder}/none-1.0-py3-none-any.whl"]}}
          python: {{type: python, run: pass, environment: {{python: "2.1"}}}}
          block: {{type: python, file: block.py, environment: script}}
          lock: {{type: python, run: pass, environment: {{lock: none.txt}}}}
          file: {{type: python, file: none.py}}
        """,
    )
    done = lightflow(folder, "run", "flow.yaml", extra_env={"UV_OFFLINE": "1"})
    assert done.returncode == 1
    why = {name: lightflow(folder, "why", name).stdout for name in ("missing", "python", "block", "lock", "file")}
    assert "its packages cannot be installed" in why["missing"]
    assert "no Python for it" in why["python"]
    assert "needs a block `# /// script`" in why["block"]
    assert "none.txt cannot be read" in why["lock"]
    assert "there is no file" in why["file"]
    assert environments(folder) == []


def test_an_environment_is_complete_or_absent(folder: Path) -> None:
    """`kill -9` while uv works leaves no environment under its name, and the next run builds it."""
    fake = folder / "bin"
    fake.mkdir()
    (fake / "uv").write_text('#!/bin/sh\ntouch "$HERE/building"; eval last=\\${$#}\nmkdir -p "$last"; sleep 600\n')
    (fake / "uv").chmod(0o755)
    package = f"lf-sample @ file://{folder}/lf_sample-1.0-py3-none-any.whl"
    write(folder, f"tasks: {{a: {{type: python, run: import lf_sample, environment: {{packages: ['{package}']}}}}}}")
    path = f"{fake}:{os.environ['PATH']}"
    process = subprocess.Popen(
        [*COMMAND, "run", "flow.yaml"],
        cwd=folder,
        env={**environment(), "PATH": path, "HERE": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    give_up = time.monotonic() + 60
    while not (folder / "building").exists():
        assert time.monotonic() < give_up
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [name for name in environments(folder) if not name.endswith(".building")] == []
    assert lightflow(folder, "resume", "flow.yaml").returncode == 0
    assert [name for name in environments(folder) if name.endswith(".building")] == []
    assert len(environments(folder)) == 1


def test_unused_environments_are_removed_and_used_ones_stay(folder: Path) -> None:
    place = folder / "envs"
    wanted = Requirements()
    with python_environment.environment_in(str(place), wanted) as path:
        os.utime(path, (0, 0))
        assert remove_unused(str(place), 3600) == [], "a task uses it"
    assert os.path.isdir(path)
    os.utime(path)
    assert remove_unused(str(place), 3600) == [], "it was used lately"
    os.utime(path, (0, 0))
    assert remove_unused(str(place), 3600, dry_run=True) == [path]
    assert remove_unused(str(place), 3600) == [path]
    assert not os.path.exists(path)


def test_an_environment_without_its_python_is_built_again(folder: Path) -> None:
    """The Python of an environment is a link; an upgrade of the machine may remove its target."""
    with python_environment.environment_in(str(folder), Requirements()) as path:
        link = Path(path) / "bin" / "python"
    link.unlink()
    link.symlink_to(folder / "removed")
    with python_environment.environment_in(str(folder), Requirements()) as path:
        assert subprocess.run([link, "-c", "print('works')"], capture_output=True, check=True).stdout == b"works\n"
    assert not Path(f"{path}.building").exists()


def test_the_digest_depends_on_the_content_alone() -> None:
    one = Requirements(packages=("a==1", "b==2"))
    assert digest(one) == digest(Requirements(packages=("b==2", "a==1")))
    others = [Requirements(packages=("a==1",)), Requirements(lock="a==1"), Requirements(python="3.12"), one]
    assert len({digest(each) for each in others}) == 4


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os\n", None),
        ('# /// script\n# dependencies = ["a"]\n# ///\n', {"dependencies": ["a"]}),
        ('# /// script\n#\n# requires-python = ">=3.11"\n# ///\nx = 1\n', {"requires-python": ">=3.11"}),
        ("# /// other\n# x = 1\n# ///\n", None),
    ],
)
def test_script_blocks(code: str, expected: object) -> None:
    assert script_block(code) == expected


@pytest.mark.parametrize("code", ["# /// script\n# x = \n# ///\n", "# /// script\n# x=1\n# ///\n" * 2])
def test_script_blocks_that_are_not_valid(code: str) -> None:
    with pytest.raises(ValueError, match="script"):
        script_block(code)


def test_versions_that_are_not_exact_are_a_warning(folder: Path) -> None:
    write(folder, "tasks: {a: {type: python, run: pass, environment: {packages: [polars, 'numpy==2.0']}}}")
    done = lightflow(folder, "validate", "flow.yaml")
    assert done.returncode == 0
    assert "polars has no exact version" in done.stdout + done.stderr
    assert "numpy" not in done.stdout + done.stderr


# -- secrets, output and ends ----------------------------------------------------------------------------------------

SECRET = "s3cr3t-2718281828/ä b"
PROBE = """
import os, pathlib, sys

def tell(token, result="", fails=True):
    print("argument", token, "variable", os.environ["S"], os.environ["ADDRESS"])
    for byte in token.encode():
        os.write(2, bytes([byte]))
    for line in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = line.read_bytes()
        except OSError:
            continue
        if token.encode() in arguments:
            pathlib.Path("shown").write_text(str(line))
    if fails:
        raise ValueError(token)
    return token
"""


def test_a_secret_of_a_task_is_stored_and_shown_nowhere(folder: Path) -> None:
    (folder / "probe.py").write_text(PROBE)
    (folder / "file.py").write_text("import os, probe\nprobe.tell(os.environ['S'])\n")
    write(
        folder,
        """
        secrets: {S: {from: env}}
        x-task: &task
          type: python
          secrets: [S]
          env: {ADDRESS: "https://me:${{ secrets.S }}@example.org/simple"}
          environment: {}
        tasks:
          function: {<<: *task, call: "probe:tell", args: {token: "${{ secrets.S }}"}}
          value: {<<: *task, call: "probe:tell", args: {token: "${{ secrets.S }}", fails: false}}
          code: {<<: *task, run: "import os, probe; probe.tell(os.environ['S'])"}
          file: {<<: *task, file: file.py}
        """,
    )
    done = lightflow(folder, "run", "flow.yaml", "--debug", "--log-dir", "logs", extra_env={"S": SECRET})
    assert done.returncode == 1, done.stderr
    shown = done.stdout + done.stderr
    for task in ("function", "value", "code", "file"):
        shown += lightflow(folder, "why", task).stdout
        log = lightflow(folder, "logs", task).stdout
        assert "argument *** variable *** https://me:***@example.org/simple" in log
        assert task == "value" or "ValueError: ***" in log
    assert not (folder / "shown").exists(), "the arguments of a process hold the secret"
    assert len(environments(folder)) == 1
    for text in (SECRET, json.dumps(SECRET)[1:-1]):
        assert text not in shown
        for path in [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]:
            assert text.encode() not in path.read_bytes(), path


def test_output_reaches_the_log_as_that_of_other_tasks_does(folder: Path) -> None:
    """Much output is cut in the middle, and the first line is in the log while the program runs."""
    (folder / "much.py").write_text("for _ in range(100): print('y' * 999_999)\nprint('the \\udce4nd ü')\n")
    write(
        folder,
        """
        tasks:
          alone: {type: python, file: much.py, environment: {}}
          other: {type: python, mode: process, run: "exec(open('much.py').read())"}
          waits:
            type: python
            environment: {}
            depends_on: [alone, other]
            run: |
              import os, time
              print("first")
              while not os.path.exists("seen"):
                  time.sleep(0.01)
        """,
    )
    process = subprocess.Popen(
        [*COMMAND, "run", "flow.yaml", "--log-dir", "logs"],
        cwd=folder,
        env=environment({"LC_ALL": "C"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    give_up = time.monotonic() + 120
    while not any(log.read_bytes().endswith(b"first\n") for log in folder.glob("logs/*waits*.log")):
        assert process.poll() is None
        assert time.monotonic() < give_up, "the line does not arrive while the program runs"
        time.sleep(0.02)
    (folder / "seen").touch()
    assert process.wait(60) == 0
    alone, other = (next(folder.glob(f"logs/*{task}*.log")).read_bytes() for task in ("alone", "other"))
    assert abs(len(alone) - len(other)) < 1000
    assert len(alone) < 70_000_000
    assert alone[-1_000_000:] == other[-1_000_000:]
    assert alone.endswith("the \\udce4nd ü\n".encode())


def test_a_program_in_an_environment_may_end_politely(folder: Path) -> None:
    write(
        folder,
        """
        tasks:
          polite:
            type: python
            environment: {}
            timeout: 10m
            run: |
              import pathlib, signal, sys
              def end(number, frame):
                  pathlib.Path("ended").touch()
                  sys.exit(3)
              signal.signal(signal.SIGTERM, end)
              pathlib.Path("ready").touch()
              while True:
                  signal.pause()
        """,
    )
    process = subprocess.Popen([*COMMAND, "run", "flow.yaml"], cwd=folder, env=environment(), stdout=subprocess.DEVNULL)
    give_up = time.monotonic() + 60
    while not (folder / "ready").exists():
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0
    assert (folder / "ended").exists()
