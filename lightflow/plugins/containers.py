"""Containers, by the command line of docker or podman: create, start, inspect and remove one for an attempt.

The name of the container is the mark of the attempt, and its labels have the run and the task. So any process that has
the state file finds it, in every state in which a killed client can leave it. See docs/adr/0050.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple, NoReturn

from lightflow.plugins.container_keys import split_volume
from lightflow.plugins.programs import run_program
from liteflow import TaskFailed
from liteflow.api import Record

#: The engines, in the order in which they are tried.
ENGINES: Final = ("docker", "podman")
LABEL: Final = "lightflow.mark"
#: Variables that the client of an engine reads itself: a task cannot change them for the client.
_OF_CLIENT: Final = ("PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "LD_LIBRARY_PATH")
_OF_CLIENT_PREFIXES: Final = ("DOCKER_", "CONTAINER_", "CONTAINERS_", "BUILDAH_", "PODMAN_", "LD_")
_SECRETS: Final = "/run/secrets"
_SHARED_MEMORY: Final = "/dev/shm"
_SEARCH_PAUSE_S: Final = 0.3
_POLL_S: Final = 0.05
_QUERY_S: Final = 30.0
#: Words of a client that has no answer from its engine, and of an engine that has none from a registry.
_NO_ENGINE: Final = ("cannot connect to the docker daemon", "is the docker daemon running", "error during connect",
                     "unable to connect to podman", "connection refused")  # fmt: skip
_NO_REGISTRY: Final = ("timeout", "timed out", "no such host", "connection refused", "connection reset", "eof",
                       "temporary failure", "toomanyrequests", "service unavailable", "bad gateway", "tls handshake",
                       "i/o error")  # fmt: skip
_NAME_IN_USE: Final = ("already in use", "is in use")
#: Codes of failures, by the exit code that shells, init processes and engines have for them.
_CODES: Final[Mapping[int, str]] = {126: "docker:not_executable", 127: "docker:not_found"}
#: Options of `create`, by the key.
_OPTIONS: Final[Mapping[str, str]] = {
    "network": "--network",
    "memory": "--memory",
    "cpus": "--cpus",
    "shm_size": "--shm-size",
    "gpus": "--gpus",
    "platform": "--platform",
    "entrypoint": "--entrypoint",
}


class ContainerAttempt(Record):
    """The attempt that a container belongs to."""

    mark: str
    task_id: str
    attempt: int
    run_id: str
    db_path: str
    output_path: str | None


class ContainerWork(Record):
    """The work of a container: the keys of the task, the arguments of its program, and its environment."""

    keys: Mapping[str, Any]
    words: Sequence[str]  #: after the image
    folder: str  #: of the workflow file
    env: Mapping[str, str]
    secrets: Mapping[str, str]


class ContainerEnd(NamedTuple):
    """How a container has ended."""

    code: int
    out_of_memory: bool
    error: str  # of the engine, if it could not start the program


# -- the engine ------------------------------------------------------------------------------------------------------


def is_of_client(name: str) -> bool:
    """Return whether the client of an engine reads an environment variable itself."""
    return name in _OF_CLIENT or name.startswith(_OF_CLIENT_PREFIXES)


def client_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables, those of this process by default, that the client of an engine reads."""
    return {name: value for name, value in environ.items() if is_of_client(name)}


class ContainerEngine:
    """A container engine, by its command line."""

    def __init__(self, name: str, program: str, environ: Mapping[str, str]) -> None:
        self.name = name
        self._program = program
        self._environ = environ

    @classmethod
    def installed(
        cls, client: Mapping[str, str], name: str | None = None, without: Collection[str] = ()
    ) -> list[ContainerEngine]:
        """Return the engines whose command is installed: the one with this name, or all.

        `client` are the variables that the client reads itself, `without` those that it does not get.
        """
        of_process = {key: value for key, value in os.environ.items() if not is_of_client(key) and key not in without}
        environ = {**of_process, **client}
        names = ENGINES if name is None else (name,)
        programs = ((each, shutil.which(each, path=client.get("PATH"))) for each in names)
        return [cls(each, program, environ) for each, program in programs if program is not None]

    def query(self, *words: str, limit_s: float = _QUERY_S) -> subprocess.CompletedProcess[str]:
        """Run a command of the engine, and return what it prints. Raises TaskFailed: it does not answer."""
        late = f"{self.name} does not answer: `{self.name} {words[0]}`"
        try:
            return run_program([self._program, *words], self._environ, limit_s, late=late, codes=["docker:engine"])
        except OSError as error:
            raise TaskFailed(f"{self.name} cannot be started: {error}", codes=["docker:engine"]) from None

    def start(self, *words: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
        """Start a command of the engine whose output is that of this process, or goes to `stdout`."""
        return subprocess.Popen(
            [self._program, *words],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=None if stdout is None else subprocess.STDOUT,
            process_group=0,  # a client that gets SIGTERM passes it on only once it is attached
        )

    def create(self, words: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Create a container. The values of variables do not appear in the arguments of the client."""
        names = [word for name in env for word in ("--env", f"{name}={env[name]}" if is_of_client(name) else name)]
        passed = {name: value for name, value in env.items() if not is_of_client(name)}
        return ContainerEngine(self.name, self._program, {**self._environ, **passed}).query("create", *names, *words)

    @property
    def place(self) -> str:
        """The place at which the client looks for the engine, in words."""
        host = self._environ.get("DOCKER_HOST" if self.name == "docker" else "CONTAINER_HOST")
        return host or {"docker": "unix:///var/run/docker.sock"}.get(self.name, "this machine")

    def fail(self, what: str, done: subprocess.CompletedProcess[str]) -> NoReturn:
        """Raise the failure of a command of the engine."""
        text = _last_words(done.stderr or done.stdout)
        if _has(text, _NO_ENGINE):
            raise TaskFailed(f"no answer from {self.name} at {self.place}: {text}", codes=["docker:engine"])
        raise TaskFailed(f"{what}: {text}", codes=["docker:engine"])


def choose(client: Mapping[str, str], name: str | None, without: Collection[str] = ()) -> ContainerEngine:
    """Return the engine with this name, or the first one that answers; see `installed`. Raises TaskFailed."""
    engines = ContainerEngine.installed(client, name, without)
    if not engines:
        wanted = name or " or ".join(ENGINES)
        raise TaskFailed(
            f"there is no container engine: {wanted} is not installed (not found in PATH)",
            codes=["docker:engine"],
            final=True,
        )
    if len(engines) == 1:
        return engines[0]
    tried = []
    for engine in engines:
        done = engine.query("version", "--format", "{{.Client.Version}} {{.Server.Version}}")
        if done.returncode == 0 or (engine.name == "podman" and engine.query("info").returncode == 0):
            return engine
        tried.append(f"{engine.name} at {engine.place}: {_last_words(done.stderr or done.stdout)}")
    raise TaskFailed(f"no container engine answers: {'; '.join(tried)}", codes=["docker:engine"])


# -- one container ---------------------------------------------------------------------------------------------------


def run(engine: ContainerEngine, work: ContainerWork, attempt: ContainerAttempt) -> ContainerEnd:
    """Run a container to its end, and remove it unless it stays. It writes where this process writes."""
    ended: ContainerEnd | None = None
    provide_image(engine, work.keys)
    try:
        with _secret_files(attempt.mark, _in_files(work)) as folder:
            _create(engine, work, attempt, folder)
            client = engine.start("start", "--attach", attempt.mark)
            try:
                if folder is not None:
                    _await_start(engine, attempt.mark, client)
                    shutil.rmtree(folder, ignore_errors=True)
                client.wait()
            except BaseException:  # SIGTERM: the attempt is being ended
                if engine.query("kill", "--signal", "TERM", attempt.mark).returncode != 0:
                    engine.query("rm", "--force", "--volumes", attempt.mark)  # it does not run yet
                client.wait()
                raise
        ended = _inspect(engine, attempt.mark, client.returncode)
    finally:
        if not _stays(work.keys, ended):
            engine.query("rm", "--force", "--volumes", attempt.mark)
    return ended


def _stays(keys: Mapping[str, Any], ended: ContainerEnd | None) -> bool:
    """Return whether a container that has ended is not removed."""
    keep = keys.get("keep", "never")
    return keep == "always" or (keep == "on_failure" and (ended is None or ended.code != 0))


def remove(engine: ContainerEngine, mark: str, *, stays: bool) -> None:
    """End the container of an attempt, and remove it unless it stays.

    A client that was killed may have requested a container that does not exist yet. So it is searched by its name, then
    by its label, until two searches in a row find nothing.
    """
    shutil.rmtree(_secrets_folder(mark), ignore_errors=True)
    words = ("kill",) if stays else ("rm", "--force", "--volumes")
    engine.query(*words, mark)
    empty_searches = 0
    while empty_searches < 2:
        listing = ("ps", "--quiet", "--no-trunc", "--filter", f"label={LABEL}={mark}")
        done = engine.query(*listing, *(() if stays else ("--all",)))
        if done.returncode != 0:
            engine.fail("the containers cannot be listed", done)
        names = done.stdout.split()
        if names:
            empty_searches = 0
            engine.query(*words, *names)
        else:
            empty_searches += 1
            if empty_searches < 2:
                time.sleep(_SEARCH_PAUSE_S)


class ContainerRecord(NamedTuple):
    """A container with our labels."""

    engine: str
    name: str
    run_id: str
    task_id: str
    status: str


def labelled(engine: ContainerEngine, db_path: str, limit_s: float) -> list[ContainerRecord]:
    """Return the containers of the runs of a state file, in any state. Raises TaskFailed: the engine has no answer."""
    form = '{{.Names}}\t{{.Label "lightflow.run"}}\t{{.Label "lightflow.task"}}\t{{.Status}}'
    if engine.name == "podman":
        form = '{{.Names}}\t{{index .Labels "lightflow.run"}}\t{{index .Labels "lightflow.task"}}\t{{.Status}}'
    words = ("ps", "--all", "--no-trunc", "--filter", f"label=lightflow.db={db_path}", "--format", form)
    done = engine.query(*words, limit_s=limit_s)
    if done.returncode != 0:
        engine.fail("the containers cannot be listed", done)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return [ContainerRecord(engine.name, *row) for row in rows if len(row) == 4]


class PrunedContainers(Record):
    """The names of containers that were removed, or would be, and those that the engine did not remove, with why."""

    removed: list[str]
    left: dict[str, str]


def remove_of_runs(db_path: str, run_ids: Collection[str], *, dry_run: bool = False) -> PrunedContainers:
    """Remove the containers that deleted runs of a state file have left.

    An engine that does not answer is left out: `lightflow doctor` lists what it has.
    """
    containers = PrunedContainers(removed=[], left={})
    for engine in ContainerEngine.installed(client_environment()):
        with suppress(TaskFailed):
            names = _of_runs(engine, db_path, run_ids)
            left = {} if dry_run or not names else _remove_all(engine, names)
            if left:
                now = _of_runs(engine, db_path, run_ids)
                left = {name: why for name, why in left.items() if name in now}
            containers.removed.extend(name for name in names if name not in left)
            containers.left.update(left)
    return containers


def _of_runs(engine: ContainerEngine, db_path: str, run_ids: Collection[str]) -> list[str]:
    return [each.name for each in labelled(engine, db_path, _QUERY_S) if each.run_id in run_ids]


def _remove_all(engine: ContainerEngine, names: Sequence[str]) -> dict[str, str]:
    """Remove containers. Return why the engine may not have removed some of them, by name; empty: it has."""
    try:
        done = engine.query("rm", "--force", "--volumes", *names)
        why = _last_words(done.stderr or done.stdout) if done.returncode != 0 else ""
    except TaskFailed as error:
        why = str(error)
    return dict.fromkeys(names, why) if why else {}


def provide_image(engine: ContainerEngine, keys: Mapping[str, Any]) -> None:
    """Pull the image, as the key `pull` says; the progress goes to the log. Raises TaskFailed."""
    image, pull = keys["image"], keys.get("pull", "missing")
    if pull != "always" and engine.query("image", "inspect", image).returncode == 0:
        return
    if pull == "never":
        done = engine.query("version")
        if done.returncode != 0 and engine.name == "docker":
            engine.fail("", done)
        text = f"the image {image} is not on this machine, and `pull: never` forbids to pull it"
        raise TaskFailed(text, codes=["docker:image"], final=True)
    platform = ["--platform", str(keys["platform"])] if "platform" in keys else []
    process = engine.start("pull", *platform, image, stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        sys.stdout.write(line.decode("utf-8", "replace"))
        lines = [*lines[-4:], line.decode("utf-8", "replace").strip()]
    if process.wait() == 0:
        return
    # The error is not always the last line: a client writes it before what it still has for its output.
    text = next((line for line in lines if _has(line, _NO_ENGINE[:4])), _last_words("\n".join(lines)))
    if _has(text, _NO_ENGINE[:4]):
        raise TaskFailed(f"no answer from {engine.name} at {engine.place}: {text}", codes=["docker:engine"])
    no_answer = _has(text, _NO_REGISTRY)
    message = f"the image {image} cannot be pulled by {engine.name}: {text}"
    raise TaskFailed(message, codes=["docker:image"], final=not no_answer)


def _create(engine: ContainerEngine, work: ContainerWork, attempt: ContainerAttempt, secrets: str | None) -> None:
    keys = work.keys
    words = ["--name", attempt.mark, "--init", "--log-driver", "none", "--pull", "never"]
    for name, value in (
        ("mark", attempt.mark),
        ("db", attempt.db_path),
        ("run", attempt.run_id),
        ("task", attempt.task_id),
        ("attempt", str(attempt.attempt)),
    ):
        words += ["--label", f"lightflow.{name}={value}"]
    for key, option in _OPTIONS.items():
        if key in keys:
            words += [option, str(keys[key])]
    if keys.get("read_only"):
        words += ["--read-only", "--tmpfs", "/tmp"]
    words += [*_user(engine, keys.get("user", "self")), *map(str, keys.get("options", ()))]
    words += ["--workdir", str(keys.get("workdir") or os.getcwd())]
    for mount in _mounts(work, attempt, secrets):
        words += ["--mount", mount]
    words += [keys["image"], *work.words]
    env = {**work.env, **(work.secrets if keys.get("secrets_as") == "env" else {})}
    done = engine.create(words, env)
    if done.returncode != 0 and any(text in done.stderr.lower() for text in _NAME_IN_USE):
        remove(engine, attempt.mark, stays=False)  # of the same attempt, before its orchestrator died
        done = engine.create(words, env)
    if done.returncode != 0:
        if "no such image" in done.stderr.lower() or "image not known" in done.stderr.lower():
            raise TaskFailed(f"the image {keys['image']} has disappeared from {engine.name}", codes=["docker:image"])
        engine.fail(f"{engine.name} cannot create a container of {keys['image']}", done)


def _user(engine: ContainerEngine, user: Any) -> list[str]:
    if user == "image":
        return []
    if user != "self":
        return ["--user", str(user)]
    if engine.name == "podman" and os.getuid() != 0:
        return ["--userns", "keep-id"]
    return ["--user", f"{os.getuid()}:{os.getgid()}"]


def _mounts(work: ContainerWork, attempt: ContainerAttempt, secrets: str | None) -> Iterator[str]:
    """Yield the mounts: the folder of the task and its output file under their own paths, then those of the task."""
    folder = os.getcwd()
    if folder == "/":
        raise TaskFailed("a container cannot have / as its folder: set `cwd`", final=True)
    yield _mount(folder, folder)
    if attempt.output_path is not None:
        with open(attempt.output_path, "ab"):
            os.chmod(attempt.output_path, 0o666)  # its folder is closed to other users of this machine
        yield _mount(attempt.output_path, attempt.output_path)
    for name in work.secrets if secrets is not None else ():
        yield _mount(os.path.join(secrets or "", name), f"{_SECRETS}/{name}", read_only=True)
    for volume in work.keys.get("volumes", ()):
        try:
            source, target, mode = split_volume(volume)
        except ValueError as error:
            raise TaskFailed(str(error), final=True) from None
        path = os.path.normpath(os.path.join(work.folder, os.path.expanduser(source)))
        if not os.path.exists(path):
            raise TaskFailed(f"the source {path} of the volume {volume!r} does not exist", final=True)
        yield _mount(path, target, read_only=mode == "ro")


def _mount(source: str, target: str, *, read_only: bool = False) -> str:
    fields = ["type=bind", f"source={source}", f"target={target}", *(["readonly"] if read_only else [])]
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()


def _inspect(engine: ContainerEngine, mark: str, client_code: int) -> ContainerEnd:
    done = engine.query("inspect", "--type", "container", "--format", "{{json .State}}", mark)
    if done.returncode != 0:
        engine.fail(f"{engine.name} has lost the container (its client ended with code {client_code})", done)
    state = json.loads(done.stdout)
    return ContainerEnd(int(state["ExitCode"]), bool(state.get("OOMKilled")), str(state.get("Error") or ""))


# -- secrets -----------------------------------------------------------------------------------------------------


def _in_files(work: ContainerWork) -> Mapping[str, str]:
    return {} if work.keys.get("secrets_as") == "env" else work.secrets


def _secrets_folder(mark: str) -> str:
    return os.path.join(_SHARED_MEMORY, f"{mark}-{os.getuid()}")


@contextmanager
def _secret_files(mark: str, secrets: Mapping[str, str]) -> Iterator[str | None]:
    """Write secrets into files in memory, which only this user can reach, for as long as the container starts."""
    if not secrets:
        yield None
        return
    folder = _secrets_folder(mark)
    if not os.path.isdir(_SHARED_MEMORY):
        text = f"there is no {_SHARED_MEMORY} for files in memory: set `secrets_as: env`, or run without secrets"
        raise TaskFailed(text, final=True)
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
    try:
        os.mkdir(folder, 0o700)
        for name, value in secrets.items():
            path = os.path.join(folder, name)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:
                file.write(value.encode("utf-8", "surrogateescape"))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _await_start(engine: ContainerEngine, mark: str, client: subprocess.Popen[bytes]) -> None:
    """Wait until a container has its mounts."""
    while client.poll() is None:
        done = engine.query("inspect", "--type", "container", "--format", "{{.State.Status}}", mark)
        if done.stdout.strip() not in ("created", "initialized", "configured", ""):
            return
        time.sleep(_POLL_S)


def _has(text: str, parts: Sequence[str]) -> bool:
    return any(part in text.lower() for part in parts)


def _last_words(text: str) -> str:
    """Return the last line of an error, without the prefixes and the advice of a client."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [
        line for line in lines if not line.startswith(("See '", "Run 'docker", "For more help", "Using default tag"))
    ] or ["no reason"]
    line = lines[-1]
    for prefix in ("docker: ", "Error: ", "Error response from daemon: ", "error during connect: "):
        line = line.removeprefix(prefix)
    return line[:500]


# -- the failures of a program ---------------------------------------------------------------------------------------


def raise_for(ended: ContainerEnd, image: str) -> None:
    """Raise the failure of a program that has not ended with 0."""
    if ended.code == 0 and not ended.out_of_memory:
        return
    code = _CODES.get(ended.code)
    if ended.error:
        text = f"the program cannot be started in a container of {image}: {ended.error[:500]}"
        codes = [code or "docker:engine"]
        raise TaskFailed(text, codes=codes, final=code is not None, exit_code=ended.code)
    if ended.out_of_memory:
        text = f"exit code {ended.code}: the container exceeded its memory limit"
        raise TaskFailed(text, codes=["docker:oom"], exit_code=ended.code)
    # The init process of the container reports a program that is missing by these codes, as shells do.
    raise TaskFailed(f"exit code {ended.code}", codes=[code] if code else (), exit_code=ended.code)
