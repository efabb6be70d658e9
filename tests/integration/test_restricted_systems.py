"""Systems without features that the guardian uses: a run works as well as possible and reports what is missing."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from process_kit import refuse

from liteflow.processes import tree

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root, for namespaces of its own"
)
FLOW = """\
workflow_name: w
tasks:
  leaver: {run: "(setsid sh stay one &); while [ ! -s one ]; do sleep 0.01; done"}
  python: {type: python, run: "print(1)", mode: process}
  late: {timeout: 1, kill_grace: 0.2, run: "setsid sh stay two & sleep 300"}
"""
RUN = """
import os, resource, sys
sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
from test_restricted_systems import refuse_locks, refuse_subreapers
if sys.argv[2] == "subreapers":
    refuse_subreapers()
elif sys.argv[2] in ("locks", "effective locks"):
    refuse_locks(silently=sys.argv[2] == "effective locks")
elif sys.argv[2] == "tags":
    resource.setrlimit(resource.RLIMIT_RTTIME, (1 << 40, 1 << 40))
from lightflow.cli.main import main
sys.argv = ["lightflow", *sys.argv[3:]]
main()
"""


def refuse_subreapers() -> None:
    """Have the kernel refuse prctl(PR_SET_CHILD_SUBREAPER) to this process and its children."""
    refuse(157, 1, argument=(0, 36))


def refuse_locks(*, silently: bool) -> None:
    """Have the kernel refuse fcntl(F_OFD_SETLK), or say that it is done and do nothing, as some file systems do."""
    refuse(72, 0 if silently else 95, argument=(1, fcntl.F_OFD_SETLK))


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    (tmp_path / "f.yaml").write_text(FLOW)
    (tmp_path / "stay").write_text(f"# {tmp_path}\necho $$ > $1; exec sleep 300\n")
    return tmp_path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def left_in(folder: Path) -> list[int]:
    """Processes that work in a folder."""
    found = []
    for row in tree.processes().values():
        try:
            if row.state not in "ZX" and os.readlink(f"/proc/{row.pid}/cwd") == str(folder):
                found.append(row.pid)
        except OSError:
            continue
    return found


@needs_root
@pytest.mark.parametrize("how", ["no /proc", "another /proc"])
def test_without_a_process_table_of_its_own_a_run_ends_everything(how: str, flow: Path) -> None:
    lightflow = f"{sys.executable} -m lightflow run f.yaml"
    if how == "no /proc":
        done = run(flow, "unshare", "--mount", "sh", "-c", f"mount -t tmpfs none /proc; {lightflow}")
    else:
        done = run(flow, "unshare", "--pid", "--fork", "sh", "-c", f"{lightflow}; exit $?")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the process table in /proc" in done.stderr
    assert "Traceback" not in done.stderr
    assert "late FAILED" in done.stdout
    assert "leaver SUCCESS" in done.stdout
    assert "python SUCCESS" in done.stdout
    assert left_in(flow) == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter is for x86-64")
@pytest.mark.parametrize("lacks", ["subreapers", "tags"])
def test_without_subreapers_or_tags_a_run_ends_everything_and_reports_it(lacks: str, flow: Path) -> None:
    here = str(Path(__file__).parent)
    done = run(flow, sys.executable, "-c", RUN, here, lacks, "run", "f.yaml")
    assert done.returncode == 1, done.stdout + done.stderr
    assert lacks in done.stderr
    assert "Traceback" not in done.stderr
    assert left_in(flow) == []
    told = run(flow, sys.executable, "-c", RUN, here, lacks, "doctor")
    assert lacks in told.stdout


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter is for x86-64")
@pytest.mark.parametrize(
    ("lacks", "check"),
    [
        ("subreapers", "processes"),
        ("tags", "processes"),
        ("locks", "locks"),
        ("effective locks", "locks"),
        ("nothing", None),
    ],
)
def test_doctor_ends_with_1_where_a_capability_is_missing(lacks: str, check: str | None, tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, "-c", RUN, str(Path(__file__).parent), lacks, "doctor", "--json")
    findings = json.loads(done.stdout)["findings"]
    missing = [finding["check"] for finding in findings if finding["verdict"] == "missing"]
    assert (done.returncode, missing) == ((1, [check]) if check else (0, []))


@pytest.mark.parametrize("most", range(8, 21))
def test_too_few_open_files_are_a_clear_error(most: int, flow: Path) -> None:
    done = run(flow, "sh", "-c", f"ulimit -n {most}; exec {sys.executable} -m lightflow run f.yaml")
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in (1, 5), done.stdout + done.stderr
    if done.returncode == 5:
        assert "ulimit -n" in done.stderr
    assert left_in(flow) == []
