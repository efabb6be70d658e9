"""Python environments of tasks: built by uv from what they hold, shared by tasks and runs, and complete or absent.

An environment is a folder whose name is the digest of its content: the requirements, the lock, the version of Python
and the platform. It is built next to its place under a lock, and renamed when it is complete. While a task uses it, a
shared lock is held, so that nothing removes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from lightflow.plugins.programs import run_program
from liteflow import TaskFailed
from liteflow.api import Record, sha256_hex

#: The limit of one step of building an environment.
BUILD_S: Final = 600.0
_FOLDER: Final = os.path.join(".lightflow", "envs")
_PACKAGES: Final = "lightflow-packages.json"  # in an environment: its packages and their versions
_BLOCK: Final = r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s?)+)^# ///$"
_LAST_LINES: Final = 20
NO_BLOCK: Final = "`environment: script` needs a block `# /// script` with the dependencies in the code"


class Requirements(Record):
    """The content of an environment."""

    python: str = ""  #: a version such as "3.12" or ">=3.12"; empty: the version that runs the workflow
    packages: tuple[str, ...] = ()
    lock: str = ""  #: the content of a file with exact versions, which is installed as it is


# -- requirements ----------------------------------------------------------------------------------------------------


def script_block(code: str) -> Mapping[str, Any] | None:
    """Return the metadata in the comments of a script (PEP 723), or None. Raises ValueError: it is not valid."""
    blocks = list(re.finditer(_BLOCK, code))
    if not blocks:
        return None
    if len(blocks) > 1:
        raise ValueError("there are two blocks `# /// script`")
    import tomllib  # only for scripts with a block

    lines = blocks[0]["content"].splitlines(keepends=True)
    try:
        return tomllib.loads("".join(line[2:] if line.startswith("# ") else line[1:] for line in lines))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the block `# /// script` is not valid TOML: {error}") from None


def requirements(environment: Any, code: str | None, folder: str) -> Requirements:
    """Return the requirements of a task: those of its key, or of the block of its code. Raises TaskFailed."""
    if environment != "script":
        lock = environment.get("lock", "")
        text = _read(os.path.join(folder, lock), "the lock") if lock else ""
        packages = tuple(environment.get("packages", ()))
        return Requirements(python=str(environment.get("python", "")), packages=packages, lock=text)
    try:
        block = script_block(code or "")
    except ValueError as error:
        raise TaskFailed(str(error), final=True) from None
    if block is None:
        raise TaskFailed(NO_BLOCK, final=True)
    return Requirements(
        python=str(block.get("requires-python", "")), packages=tuple(map(str, block.get("dependencies", ())))
    )


def _read(path: str, what: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise TaskFailed(f"{what} {path} cannot be read: {error}", final=True) from None


def digest(wanted: Requirements) -> str:
    """Return the name of an environment: the same for the same content."""
    version = wanted.python or f"{sys.version_info[0]}.{sys.version_info[1]}"
    content = [version, sorted(wanted.packages), wanted.lock, sysconfig.get_platform(), sys.implementation.name]
    return sha256_hex(json.dumps(content).encode("utf-8", "surrogateescape"))[:32]


# -- environments ----------------------------------------------------------------------------------------------------


def find_uv() -> str | None:
    """Return the path of uv: the one in PATH, or that of the package."""
    if (path := shutil.which("uv")) is not None:
        return path
    try:
        import uv
    except ImportError:
        return None
    try:
        return str(uv.find_uv_bin())
    except FileNotFoundError:
        return None


def environments_folder(db_path: str) -> str:
    """Return the folder of the environments, which is next to the state file."""
    return os.path.join(os.path.dirname(db_path), _FOLDER)


@contextmanager
def environment_in(folder: str, wanted: Requirements) -> Iterator[str]:
    """Yield the path of an environment, which stays as long as the block runs; it is built if it does not exist.

    Raises:
        TaskFailed: there is no uv, or the environment cannot be built.
    """
    name = digest(wanted)
    path = os.path.join(folder, name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while not _is_usable(path):
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_usable(path):
                _build(path, wanted)
            fcntl.flock(lock, fcntl.LOCK_SH)  # another process may get the lock in between: look again
        os.utime(path)  # its last use
        yield path


def _is_usable(path: str) -> bool:
    """Return whether an environment is there, with a Python: it is a link to one that may have been removed."""
    return os.path.isfile(os.path.join(path, "bin", "python"))


def _build(path: str, wanted: Requirements) -> None:
    """Build an environment next to its place, and rename it. The caller has the lock."""
    uv = find_uv()
    if uv is None:
        text = "a Python environment needs uv, which is neither in PATH nor installed: pip install uv"
        raise TaskFailed(text, codes=["environment:uv"], final=True)
    building = f"{path}.building"
    shutil.rmtree(building, ignore_errors=True)  # of a process that was killed
    if os.path.isdir(path):  # without its Python
        os.rename(path, building)
        shutil.rmtree(building, ignore_errors=True)
    try:
        version = wanted.python or sys.executable
        _run_uv(uv, ["venv", "--no-project", "--relocatable", "--python", version, building], "no Python for it")
        python = os.path.join(building, "bin", "python")
        if wanted.lock:
            lock = os.path.join(building, "lightflow-lock.txt")
            with open(lock, "w", encoding="utf-8") as file:
                file.write(wanted.lock)
            _run_uv(uv, ["pip", "sync", "--python", python, lock], "its lock cannot be installed")
        elif wanted.packages:
            _run_uv(uv, ["pip", "install", "--python", python, *wanted.packages], "its packages cannot be installed")
        listed = _run_uv(uv, ["pip", "list", "--python", python, "--format", "json"], "its packages cannot be listed")
        packages = {each["name"]: each["version"] for each in json.loads(listed or "[]")}
        with open(os.path.join(building, _PACKAGES), "w", encoding="utf-8") as file:
            json.dump(packages, file)
        os.rename(building, path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _run_uv(uv: str, words: Sequence[str], what: str) -> str:
    """Run a command of uv, and return its standard output; messages go to the log. Raises TaskFailed."""
    environ = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    late = f"the environment cannot be built: uv {words[0]}"
    done = run_program([uv, "--color", "never", *words], environ, BUILD_S, late=late, codes=["environment:timeout"])
    sys.stdout.write(done.stderr)
    if done.returncode == 0:
        return done.stdout
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    text = f"the environment cannot be built, {what}:\n" + "\n".join(lines[-_LAST_LINES:])
    raise TaskFailed(text, codes=["environment:build"])


def packages_of(path: str) -> dict[str, str]:
    """Return the packages of an environment with their versions."""
    with open(os.path.join(path, _PACKAGES), encoding="utf-8") as file:
        packages: dict[str, str] = json.load(file)
    return packages


def remove_unused(folder: str, age_s: float, *, dry_run: bool = False) -> list[str]:
    """Remove the environments that no task has used for so long, and what killed processes have left of others.

    Returns the paths. An environment that a task uses now is never removed.
    """
    removed = []
    oldest = time.time() - age_s
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    for name in names:
        if not name.endswith(".lock"):
            continue
        path = os.path.join(folder, name.removesuffix(".lock"))
        with suppress(OSError), open(os.path.join(folder, name), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            building = f"{path}.building"
            if not dry_run:
                shutil.rmtree(building, ignore_errors=True)
            if os.path.isdir(path) and os.stat(path).st_mtime < oldest:
                removed.append(path)
                if not dry_run:
                    os.rename(path, building)  # never half an environment under its name
                    shutil.rmtree(building, ignore_errors=True)
    return removed
