"""The guardian and process trees, with real processes and real kills."""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from liteflow.processes import tree
from liteflow.processes.client import Exited, GuardianConnection, ImportableWorker, Started
from liteflow.processes.frames import Channel
from liteflow.processes.log_file import LogFile
from liteflow.processes.packets import WorkerSocket, pack, receive, send

LIMIT_S = 120.0
ROOT = Path(__file__).resolve().parents[2]


def idle_worker(sock: socket.socket, *rest: object) -> None:
    sock.recv(1)


def exits(guardian: GuardianConnection, count: int = 1) -> list[Exited]:
    got: list[Exited] = []
    give_up = time.monotonic() + LIMIT_S
    while len(got) < count:
        assert time.monotonic() < give_up
        select.select([guardian], [], [], 1.0)
        got += [event for event in guardian.read() if isinstance(event, Exited)]
    return got


def await_gone(session: int, limit_s: float) -> float:
    start = time.monotonic()
    while tree.find_survivors(session):
        assert time.monotonic() - start < limit_s, tree.find_survivors(session)
        time.sleep(0.005)
    return time.monotonic() - start


def test_tags_survive_fork_exec_setsid_and_an_empty_environment() -> None:
    tagger = tree.Tagger()
    session = tree.new_session()
    tag = tree.make_tag(session, 7)
    assert tree.session_of(tag) == session
    assert tree.session_of(-1) is None
    tagger.put_on(tag)
    try:
        child = subprocess.Popen(["setsid", "env", "-i", "/bin/sh", "-c", "sleep 1000 & wait"])
    finally:
        tagger.take_off()
    assert tree.tag_of(os.getpid()) != tag
    give_up = time.monotonic() + LIMIT_S
    while len(tree.find_survivors(session)) < 2:
        assert time.monotonic() < give_up
    assert child.pid in tree.find_survivors(session)
    assert tree.sweep_session(session) == 2
    assert child.wait(LIMIT_S) == -signal.SIGKILL
    assert tree.find_survivors(session) == []


def test_sweep_takes_descendants_with_other_tags() -> None:
    tagger = tree.Tagger()
    session = tree.new_session()
    tagged = "import resource, signal; resource.setrlimit(resource.RLIMIT_RTTIME, (5, -1))"
    script = f"{tagged}; print(flush=True); signal.pause()"
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {script!r}])"
    tagger.put_on(tree.make_tag(session, 1))
    try:
        child = subprocess.Popen([sys.executable, "-c", inner], stdout=subprocess.PIPE)
    finally:
        tagger.take_off()
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        assert tree.sweep_session(session) >= 1


@pytest.mark.parametrize("way", ["fork", "execute"])
def test_guardian_runs_commands_and_lets_go_of_everything(way: str, tmp_path: Path) -> None:
    gc.collect()  # what other tests have left is closed now, and not meanwhile
    lock_read, lock_write = os.pipe()
    before = len(os.listdir("/proc/self/fd"))
    if way == "fork":
        guardian = GuardianConnection.fork(idle_worker, close_in_workers=(lock_write,))
    else:
        guardian = GuardianConnection.execute(
            ImportableWorker("time", "sleep", b"\x80\x04K\x00."), close_in_workers=(lock_write,)
        )
    log = tmp_path / "new" / "log"
    guardian.start_command(1, ["/bin/sh", "-c", "echo $A; exit 5"], str(tmp_path), {"A": "x"}, str(log))
    (event,) = exits(guardian)
    assert (event.job, event.code, event.output_bytes, event.error) == (1, 5, 2, None)
    assert log.read_text() == "x\n"
    assert log.stat().st_mode & 0o777 == 0o600
    os.close(lock_write)
    assert select.select([lock_read], [], [], 0)[0] == []  # the guardian holds the other end still
    guardian.close()
    assert select.select([lock_read], [], [], LIMIT_S)[0] == [lock_read]
    os.close(lock_read)
    assert len(os.listdir("/proc/self/fd")) == before - 2
    with pytest.raises(ChildProcessError):
        os.waitpid(guardian.pid, os.WNOHANG)


def test_commands_hold_none_of_our_descriptors(tmp_path: Path) -> None:
    guardian = GuardianConnection.fork(idle_worker)
    guardian.start_command(1, ["ls", "/proc/self/fd"], None, {}, str(tmp_path / "log"))
    exits(guardian)
    guardian.close()
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2", "3"]  # 3 is ls's own


def test_five_hundred_commands_at_once() -> None:
    guardian = GuardianConnection.fork(idle_worker)
    for number in range(500):
        guardian.start_command(number, ["true"], None, {"X": "y" * 2000}, None)
    assert {event.code for event in exits(guardian, 500)} == {0}
    descriptors = len(os.listdir(f"/proc/{guardian.pid}/fd"))
    guardian.start_command(1000, ["true"], None, {}, None)
    exits(guardian)
    assert len(os.listdir(f"/proc/{guardian.pid}/fd")) == descriptors
    guardian.close()


def test_goodbye_ends_what_runs() -> None:
    guardian = GuardianConnection.fork(idle_worker)
    guardian.start_command(1, ["/bin/sh", "-c", "trap '' TERM; setsid sleep 1000 & wait"], None, {}, None)
    sock, theirs = socket.socketpair()
    guardian.start_worker(2, theirs, keeps_logs=False)
    started = 0
    while started < 2:
        select.select([guardian], [], [], LIMIT_S)
        started += sum(isinstance(event, Started) for event in guardian.read())
    assert tree.find_survivors(guardian.session)
    guardian.close()
    sock.close()
    theirs.close()
    assert tree.find_survivors(guardian.session) == []


def test_channel_carries_large_and_many_values() -> None:
    left, right = socket.socketpair()
    a, b = Channel(left), Channel(right)
    values = [("x", number, b"y" * number) for number in range(0, 2_000_000, 100_000)]
    got: list[object] = []
    for value in values:
        a.send(value)
    while len(got) < len(values):
        a.flush()
        got += b.take()
    assert got == values
    a.close()
    assert (b.take(), b.eof) == ([], True)
    b.close()


@pytest.mark.parametrize("sizes", [[10], [150], [70, 70], [151], [1000], [30] * 40, [2000, 1, 1]])
def test_log_keeps_head_and_tail(tmp_path: Path, sizes: list[int]) -> None:
    data = bytes(33 + n % 90 for n in range(sum(sizes)))
    log = LogFile(str(tmp_path / "log"), head=100, tail=50)
    position = 0
    for size in sizes:
        log.write(data[position : position + size])
        position += size
    log.close()
    preserved = (tmp_path / "log").read_bytes()
    assert log.written == len(data)
    if len(data) <= 150:
        assert preserved == data
    elif preserved != data:  # a little too long is not worth a marker
        assert preserved[:100] == data[:100]
        assert preserved[-50:] == data[-50:]
        assert preserved[100:-50] == f"\n… {len(data) - 150:,} bytes dropped …\n".encode()
    else:
        assert len(data) < 200


def test_a_full_disk_loses_output_only(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/dev/full")
    log = LogFile(str(tmp_path / "log"))
    log.write(b"x")  # a link is not followed: it cannot be written either
    log.close()
    assert log.written == 0


ORCHESTRATOR = """
import os, signal, sys, time
from pathlib import Path
from liteflow.executors import open_executor
from liteflow.work import Call, Command, RunInfo, Work

folder, marker = Path(sys.argv[1]), sys.argv[2]
for_each = 'trap "" TERM INT HUP; exec 3>"$0.$1.$$"; while :; do sleep 1000; done'

def spawn(name, *how):
    os.spawnvp(os.P_NOWAIT, how[0], [*how, "sh", "-c", for_each, str(folder / marker), name])

def hostile():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    spawn("worker-child", "env")
    spawn("worker-daemon", "setsid", "env", "-i", "PATH=/bin:/usr/bin")
    if os.fork() == 0:
        os.setsid()
        while True:  # goes on in a child when its parent is gone
            if os.getppid() == 1 or os.fork():
                time.sleep(1000)
            (folder / f"{marker}.forked.{os.getpid()}").write_text("")
            time.sleep(1000)
    time.sleep(1000)

script = '''
trap "" TERM INT HUP
setsid env -i PATH=/bin:/usr/bin sh -c '%s' "$0" command-daemon &
sh -c '%s' "$0" command-child &
(sh -c '%s' "$0" orphan &)
sleep 1000
''' % (for_each, for_each, for_each)
bodies = {"w": Call(hostile), "c": Command(("/bin/sh", "-c", script, str(folder / marker)))}
info = RunInfo(run_id="r", dag_id="d", db_path=str(folder / "db"), log_dir=str(folder / "logs"))
executor = open_executor(bodies, info, slots=2, mode="process")
executor.submit(Work(node=0, task_id="w", attempt=1, log_path=str(folder / "logs" / "w")))
executor.submit(Work(node=1, task_id="c", attempt=1, log_path=str(folder / "logs" / "c")))
while len(list(folder.glob(marker + ".*"))) < 6:
    executor.wait(0.01)
print(executor.session, executor.guardian_pid, flush=True)
executor.wait(None)
"""


def running_with(marker: str) -> list[int]:
    result = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                text = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in text:
                result.append(int(name))
    return result


@pytest.mark.parametrize("victims", ["orchestrator", "guardian first"])
def test_kill_9_leaves_nothing_alive(tmp_path: Path, victims: str) -> None:
    marker = f"lf-{os.getpid()}-{os.urandom(6).hex()}"
    command = [sys.executable, "-c", ORCHESTRATOR, str(tmp_path), marker]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        session, guardian_pid = map(int, child.stdout.readline().split())
        assert len(running_with(marker)) >= 6
        if victims == "orchestrator":
            child.kill()
            await_gone(session, LIMIT_S)
        else:  # both at once: the next start finds them by their tags
            os.kill(child.pid, signal.SIGSTOP)
            os.kill(guardian_pid, signal.SIGKILL)
            child.kill()
            child.wait(LIMIT_S)
            assert tree.sweep_session(session) >= 6
    give_up = time.monotonic() + LIMIT_S
    while running_with(marker):
        assert time.monotonic() < give_up, running_with(marker)
    assert tree.find_survivors(session) == []


def test_a_claiming_program_survives_the_sweep_of_what_a_command_left(tmp_path: Path) -> None:
    """The orchestrator carries a tag of its session then: a sweep of leftovers must not take it for one."""
    script = """
import sys
from liteflow import Command, Dag, Task
from liteflow.definition.options import make_options
dag = Dag("leaver", sys.argv[1])
for number in range(6):
    body = Command(("/bin/sh", "-c", "(setsid sleep 600 &) ; sleep 600" if number % 2 else "(sleep 600 &) ; true"))
    dag.add_task(Task(f"t{number}", body=body, options=make_options({"timeout": 0.2, "kill_grace": 0.1}, "t")))
run = dag.run(4, "thread", claim_children=True)
print(run.status)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "liteflow.db")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert (done.returncode, done.stdout) == (0, "FAILED\n"), done.stderr


def test_a_worker_socket_passes_values_of_any_size() -> None:
    box = WorkerSocket()
    large = ("large", b"x" * 3_000_000)
    for value in (("a", 1), large, ("c", [2.5, None])):
        assert box.post(pack(value))
    assert [receive(box.worker_end) for _ in range(3)] == [("a", 1), large, ("c", [2.5, None])]
    send(box.worker_end, pack(large))
    send(box.worker_end, pack("last"))
    assert (box.take(), box.take(), box.take()) == (large, "last", None)
    assert box.problem is None
    box.close()
    assert box.take() is None


def test_a_full_worker_socket_accepts_nothing() -> None:
    box = WorkerSocket()
    packet, count = pack(b"x" * 20_000), 0
    while box.post(packet):
        count += 1
        assert count < 10_000
    assert count > 2
    box.close()


def test_a_value_that_is_lost_for_want_of_descriptors_is_noticed() -> None:
    box = WorkerSocket()
    send(box.worker_end, pack(b"x" * 100_000))
    send(box.worker_end, pack("small"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, limits[1]))
    try:
        assert box.take() == "small"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert box.problem
    box.close()
