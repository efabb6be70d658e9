"""R13: tasks that print without end.

Proved: with a gigabyte of output from a command (and a quarter of one from Python) the processes of the engine grow by
16 MiB at most, the log holds the beginning and the end with a line between them that says what is missing, another
task's output is whole and it is not held up, and output without line ends, binary output, a closed output, or one
that a background process holds open, ends with its task.

Not proved: speed. The disk sets it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lines import ENV, LIGHTFLOW, Figure, replay, scale

from liteflow.processes.log_file import HEAD_BYTES, TAIL_BYTES

MOST_GROWTH = 16 * 1024 * 1024
MARKER = re.compile(rb"\n\xe2\x80\xa6 ([0-9,]+) bytes dropped \xe2\x80\xa6\n")


@contextmanager
def running(folder: Path, flow: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a workflow; what it says goes into the file `said`, so that it never waits for a reader."""
    (folder / "flow.yaml").write_text(flow)
    with (folder / "said").open("wb") as message:
        process = subprocess.Popen(
            [*LIGHTFLOW, "run", "flow.yaml", "--db", "state.db"],
            cwd=folder,
            env=ENV,
            stdin=subprocess.DEVNULL,
            stdout=message,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)  # so that its tasks go too
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def anonymous(pid: int) -> int:
    """Bytes of memory of a process's own; 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    result = re.search(r"^RssAnon:\s+(\d+) kB", text, re.MULTILINE)
    return int(result[1]) * 1024 if result else 0


def guardian_of(pid: int) -> int:
    """The one child that the orchestrator forks."""
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        result = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        if result:
            return result[0]
        time.sleep(0.01)
    raise AssertionError("there is no guardian")


def growth(process: subprocess.Popen[bytes], folder: Path) -> tuple[int, int]:
    """By how much the orchestrator and the guardian grow, from the first output to the end."""
    guardian = guardian_of(process.pid)
    pids = (process.pid, guardian)
    while process.poll() is None and not list(folder.glob("logs/task_loud*")) + list(folder.glob("logs/.*")):
        time.sleep(0.005)
    first = [anonymous(pid) for pid in pids]
    most = list(first)
    while process.poll() is None:
        most = [max(before, anonymous(pid)) for before, pid in zip(most, pids, strict=True)]
        time.sleep(0.02)
    return most[0] - first[0], most[1] - first[1]


def log_of(folder: Path, task: str) -> bytes:
    (path,) = folder.glob(f"logs/task_{task}_*.log")
    return path.read_bytes()


def check_bounded(log: bytes, printed: int) -> None:
    """Head and tail are exactly what was printed, and the line between them tells the truth."""
    marker = MARKER.search(log, HEAD_BYTES)
    assert marker is not None
    assert marker.start() == HEAD_BYTES
    dropped = int(marker[1].replace(b",", b""))
    assert len(log) - marker.end() <= TAIL_BYTES
    assert HEAD_BYTES + dropped + len(log) - marker.end() == printed
    assert len(log) < HEAD_BYTES + TAIL_BYTES + 1000


def test_a_gigabyte_from_a_command(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The neighbour prints a line every 10 ms; its log is whole, and it is not held up."""
    figure, size = Figure("R13", request), round(scale(request.config) * 1024**3)
    flow = f"""\
workflow_name: flow
tasks:
  loud: {{run: "head -c {size} /dev/zero | tr '\\\\0' 'x'; echo the end"}}
  neighbour:
    type: python
    mode: process
    run: |
      import time
      began = time.monotonic()
      worst = 0.0
      for number in range(150):
          before = time.monotonic()
          print("line", number, flush=True)
          worst = max(worst, time.monotonic() - before)
          time.sleep(0.01)
      print("took", time.monotonic() - began, "worst", worst)
settings: {{max_parallel_tasks: 2, log_dir: logs}}
"""
    began = time.monotonic()
    with running(tmp_path, flow) as process:
        main, guardian = growth(process, tmp_path)
        assert process.wait(600) == 0, (tmp_path / "said").read_bytes()[-2000:]
    seconds = time.monotonic() - began
    log = log_of(tmp_path, "loud")
    check_bounded(log, size + len(b"the end\n"))
    assert log.startswith(b"x" * 1000)
    assert log.endswith(b"xthe end\n")
    lines = log_of(tmp_path, "neighbour").decode().splitlines()
    assert lines[:150] == [f"line {number}" for number in range(150)]
    took, worst = float(lines[150].split()[1]), float(lines[150].split()[3])
    figure.tell(
        MiB=size // 1024**2,
        growth_orchestrator_KiB=main // 1024,
        growth_guardian_KiB=guardian // 1024,
        neighbour_worst_s=round(worst, 2),
        MiB_per_s=round(size / 1024**2 / seconds),
    )
    assert max(main, guardian) <= MOST_GROWTH, replay(request)
    assert took < 1.5 + 15, f"the neighbour took {took} s for 1.5 s of sleep; {replay(request)}"


def test_a_quarter_from_python(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A Python task prints in a worker (256 MiB) and in a thread of the orchestrator (64 MiB and more)."""
    figure, size = Figure("R13-python", request), round(scale(request.config) * 256)
    flow = f"""\
workflow_name: flow
tasks:
  loud:
    type: python
    mode: process
    run: |
      for _ in range({size}):
          print("y" * (1024 * 1024 - 1))
      print("the end")
settings: {{log_dir: logs}}
"""
    with running(tmp_path, flow) as process:
        main, guardian = growth(process, tmp_path)
        assert process.wait(600) == 0, (tmp_path / "said").read_bytes()[-2000:]
    log = log_of(tmp_path, "loud")
    check_bounded(log, size * 1024**2 + len(b"the end\n"))
    assert log.endswith(b"y\nthe end\n")
    figure.tell(MiB=size, growth_orchestrator_KiB=main // 1024, growth_guardian_KiB=guardian // 1024)
    assert max(main, guardian) <= MOST_GROWTH, replay(request)


ODD = {
    "no_newline": ("head -c 300000 /dev/zero | tr '\\0' 'n'", 300_000),
    "binary": ("head -c 300000 /dev/urandom", 300_000),
    "held": ("(sleep 300 &) ; echo done", 5),
    "daemon_holds": ("setsid sleep 300 & echo done", 5),
    "closed": ("exec >&- 2>&-; sleep 0.1", 0),
    "reads_input": ("cat; echo over", 5),
    "carriage": ("i=0; while [ $i -lt 2000 ]; do printf '\\r%d' $i; i=$((i+1)); done", None),
    "stderr_and_out": ("echo one; echo two >&2; echo three", 14),
}


def test_odd_outputs_end_with_their_tasks(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """No variant waits for an end of output that does not come."""
    import json

    tasks = {name: {"run": command} for name, (command, _) in ODD.items()}
    flow = json.dumps(
        {"workflow_name": "flow", "tasks": tasks, "settings": {"max_parallel_tasks": 4, "log_dir": "logs"}}
    )
    began = time.monotonic()
    with running(tmp_path, flow) as process:
        assert process.wait(200) == 0, (tmp_path / "said").read_bytes()[-2000:]
    seconds = time.monotonic() - began
    for name, (_, size) in ODD.items():
        if size == 0:
            assert not list(tmp_path.glob(f"logs/task_{name}_*"))
        elif size is not None:
            assert len(log_of(tmp_path, name)) == size, name
    Figure("R13-odd", request).tell(variants=len(ODD), hung=0, seconds=round(seconds, 1))
    assert seconds < 200, "what holds an output lasts 300 s"


def test_control_without_bounds_the_log_grows(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The negative control: where `Bounds.cut` does nothing, the check of the log goes red."""
    from liteflow.processes import log_file

    size = HEAD_BYTES + TAIL_BYTES + 1024**2
    log = log_file.LogFile(str(tmp_path / "log"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_file.LogBounds, "cut", lambda self: os.fstat(self._fd).st_size)
        patch.setattr(log_file.LogBounds, "exceeded", lambda self, size: False)
        for _ in range(size // 1024**2):
            log.write(b"z" * 1024**2)
        log.close()
    with pytest.raises(AssertionError):
        check_bounded((tmp_path / "log").read_bytes(), size)
    Figure("R13-control", request).tell(bounds="off", MiB=size // 1024**2, caught=1)
