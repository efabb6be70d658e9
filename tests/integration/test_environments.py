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
    (fake / "uv").write_text('#!/bin/sh\ntouch "$HERE/building"; eval last=\\${$#}\nmkdir -p "$last"; sleep 60\n')
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
