"""Real container engines for tests: a docker engine that is started here, podman, and images made of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from liteflow.context import mark_of

SHELL_IMAGE = "lightflow/busybox:test"
PYTHON_IMAGE = "lightflow/python:test"
_ENGINE_OPTIONS = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
_PODMAN = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Engine:
    """A container engine: the name of its command, and the environment that the command needs."""

    def __init__(self, command: str, env: Mapping[str, str]) -> None:
        self.command = command
        self.env = dict(env)

    def run(self, *arguments: str, data: bytes | None = None) -> str:
        """Run the command, and return what it prints."""
        done = subprocess.run(
            [self.command, *arguments], env={**os.environ, **self.env}, input=data, capture_output=True, check=False
        )
        assert done.returncode == 0, (arguments, done.stderr.decode())
        return done.stdout.decode()

    def labelled(self) -> list[str]:
        """Return the containers that carry a mark, in any state."""
        return self.run("ps", "--all", "--quiet", "--filter", "label=lightflow.mark").split()

    def remove_labelled(self) -> None:
        if left := self.labelled():
            self.run("rm", "--force", *left)


def secret_files(db: Path) -> list[str]:
    """Return the folders of secrets that the attempts of a state file have left in memory."""
    if not db.exists():
        return []
    path = os.path.realpath(db)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        try:
            rows = connection.execute("SELECT run_id, task_id, map_index, try_number FROM liteflow_task_instances")
            last = rows.fetchall()
        except sqlite3.OperationalError:  # the run was killed before it had tables
            return []
    marks = [mark_of(path, *key, number) for *key, tries in last for number in range(1, tries + 1)]
    return [name for mark in marks if os.path.exists(name := f"/dev/shm/{mark}-{os.getuid()}")]


def unavailable(reason: str) -> None:
    """Skip the test; where everything has to be there, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextlib.contextmanager
def docker(*, has_python: bool = False) -> Iterator[Engine]:
    """Start a docker engine of its own, with the image of the shell and, if wanted, that of Python."""
    if os.getuid() != 0 or not all(map(shutil.which, ("dockerd", "docker", "busybox"))):
        unavailable("needs root, dockerd, docker and busybox (Debian: docker.io busybox-static)")
    folder = Path(tempfile.mkdtemp(prefix="lf-docker-"))
    host = f"unix://{folder}/docker.sock"
    words = ["dockerd", *_ENGINE_OPTIONS, "--host-gateway-ip=127.0.0.1", f"--data-root={folder}/data"]
    words += [f"--exec-root={folder}/exec", f"--pidfile={folder}/dockerd.pid", "-H", host]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    engine = Engine("docker", {"DOCKER_HOST": host})
    try:
        _await(engine, process, folder)
        _import(engine, _shell_root(folder), SHELL_IMAGE)
        if has_python:
            _import(engine, _python_root(folder), PYTHON_IMAGE)
        yield engine
    finally:
        with contextlib.suppress(AssertionError):
            engine.remove_labelled()
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _await(engine: Engine, process: subprocess.Popen[bytes], folder: Path) -> None:
    give_up = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < give_up:
        done = subprocess.run(["docker", "version"], env={**os.environ, **engine.env}, capture_output=True, check=False)
        if done.returncode == 0:
            return
        time.sleep(0.1)
    pytest.fail(f"the docker engine does not start: {(folder / 'log').read_text()[-2000:]}")


@contextlib.contextmanager
def podman() -> Iterator[Engine]:
    """Return podman with a store of its own, with the image of the shell."""
    if os.getuid() != 0 or not all(map(shutil.which, ("podman", "runc", "catatonit", "busybox"))):
        unavailable("needs root, podman, runc, catatonit and busybox (Debian packages of these names)")
    folder = Path(tempfile.mkdtemp(prefix="lf-podman-"))
    (folder / "containers.conf").write_text(_PODMAN)
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n'
    )
    engine = Engine(
        "podman",
        {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        },
    )
    try:
        _import(engine, _shell_root(folder), SHELL_IMAGE)
        yield engine
    finally:
        with contextlib.suppress(AssertionError):
            engine.remove_labelled()
        shutil.rmtree(folder, ignore_errors=True)


def _import(engine: Engine, archive: Path, image: str) -> None:
    """Make an image without a registry."""
    engine.run("import", str(archive), image)


def _shell_root(folder: Path) -> Path:
    archive = folder / "shell.tar"
    busybox = shutil.which("busybox")
    assert busybox is not None
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(archive, "w") as tar:
        _add_shell(tar, busybox, names)
    return archive


def _add_shell(tar: tarfile.TarFile, busybox: str, names: list[str]) -> None:
    for name in ("bin", "tmp", "etc", "run"):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
        tar.addfile(entry)
    tar.add(busybox, "bin/busybox")
    for name in names:
        if name != "busybox":
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)


def _python_root(folder: Path) -> Path:
    """Return an archive with the shell, the running interpreter, its standard library and what it links to."""
    archive = folder / "python.tar"
    busybox = shutil.which("busybox")
    assert busybox is not None
    binary = os.path.realpath(sys.executable)
    library = sysconfig.get_paths()["stdlib"]
    linked = {binary, *(str(path) for path in Path(library, "lib-dynload").glob("*.so"))}
    libraries: set[str] = set()
    for path in linked:
        for line in subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout.splitlines():
            libraries.update(word for word in line.split() if word.startswith("/") and os.path.exists(word))
    with tarfile.open(archive, "w") as tar:
        names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
        _add_shell(tar, busybox, names)
        tar.add(binary, binary.lstrip("/"))
        entry = tarfile.TarInfo("bin/python3")
        entry.type, entry.linkname = tarfile.SYMTYPE, binary
        tar.addfile(entry)
        tar.add(library, library.lstrip("/"), filter=_needed)
        for path in sorted(libraries):
            tar.add(os.path.realpath(path), path.lstrip("/"))
    return archive


def _needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = entry.name.split("/")
    unneeded = {"test", "site-packages", "__pycache__", "idlelib", "tkinter", "ensurepip", "lib2to3"}
    return None if unneeded & set(parts) else entry
