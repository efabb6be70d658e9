"""Servers that the bench starts: Lightflow's, the smallest one of the same stack, and those of peers."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench.environments import AIRFLOW, DAGSTER, PREFECT, Environment
from bench.measure import QUIET, ROOT, NotRun, descendants, memory_mb

_PEER_LIMIT_S: Final = 240
_SETTLE_S: Final = 10
_IDLE_S: Final = 20

#: The smallest server of the same stack.
BARE: Final = """
import socket, sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
app = Starlette(routes=[Route("/healthz", lambda request: PlainTextResponse("ok"))])
listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen()
print(f"serving on http://127.0.0.1:{listener.getsockname()[1]}/,", flush=True)
uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, http="h11")).run(sockets=[listener])
"""


def environment(folder: Path) -> dict[str, str]:
    """Return the variables for programs of this tree. They may store bytecode, as installed programs have it."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LIGHTFLOW_", "PYTHON"))}
    return {**plain, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder)}


class ServerProcess:
    """A server that the bench started, once it answers."""

    def __init__(self, argv: Sequence[str], folder: Path) -> None:
        self.environ, self.folder = environment(folder), folder
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, *argv], cwd=folder, env=self.environ, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = next(line for line in self.process.stdout if "http://127.0.0.1:" in line)
        self.port = int(line.partition("http://127.0.0.1:")[2].split("/")[0])
        while get(self.port, "/healthz")[0] != 200:
            time.sleep(0.001)
        self.start_s = time.perf_counter() - began
        self.start_cpu_s = self.cpu_s()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def cpu_s(self) -> float:
        """Return the processor time that it has used."""
        return cpu_s([self.process.pid])

    def token(self, db: str = "lightflow.db") -> str:
        """Return the token of an operator."""
        command = [sys.executable, "-m", "lightflow", "token", "--db", db]
        done = subprocess.run(command, cwd=self.folder, env=self.environ, check=True, capture_output=True, text=True)
        return done.stdout.strip()


def get(port: int, path: str, token: str = "", body: bytes | None = None) -> tuple[int, bytes]:
    """Request a path. Returns the status and the body; 0 where there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def cpu_s(pids: Sequence[int]) -> float:
    """Return the processor time of processes and of their children that have ended."""
    ticks = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        ticks += sum(int(word) for word in text.rpartition(")")[2].split()[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def idle_percent(pid: int, seconds: float) -> float:
    """Return the share of a core that a process and its descendants take, in percent."""
    pids = [pid, *descendants(pid)]
    before = cpu_s(pids)
    time.sleep(seconds)
    return 100 * (cpu_s(pids) - before) / seconds


# -- peers -------------------------------------------------------------------------------------------------------------


class Peer(NamedTuple):
    """The server of a peer, with its scheduler."""

    name: str
    environment: Environment
    command: Callable[[Path, int], Sequence[str]]  # for a folder and a port
    variables: Callable[[Path, int], Mapping[str, str]]
    health: str  # the path that is answered by 200 once the server is ready
    page: str = "/runs"  # the path of its list of runs


class PeerFigures(NamedTuple):
    """What was measured of a peer."""

    start_s: float
    processes: int
    memory_mb: float
    idle_percent: float


_DAGSTER_FLOW: Final = """from dagster import Definitions, ScheduleDefinition, job, op
@op
def one(): pass
@job
def flow(): one()
defs = Definitions(jobs=[flow], schedules=[ScheduleDefinition(job=flow, cron_schedule="0 2 * * *")])
"""


def _dagster(folder: Path, port: int) -> Sequence[str]:
    (folder / "defs.py").write_text(_DAGSTER_FLOW, encoding="utf-8")
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    return ["dagster", "dev", "-f", "defs.py", "-h", "127.0.0.1", "-p", str(port)]


def _airflow_variables(folder: Path, port: int) -> Mapping[str, str]:
    return {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
    }


PEERS: Final = (
    Peer(
        name="Prefect",
        environment=PREFECT,
        command=lambda folder, port: ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        variables=lambda folder, port: {"PREFECT_HOME": str(folder)},
        health="/api/health",
    ),
    Peer(
        name="Dagster",
        environment=DAGSTER,
        command=_dagster,
        variables=lambda folder, port: {"DAGSTER_HOME": str(folder)},
        health="/server_info",
    ),
    Peer(
        name="Airflow",
        environment=AIRFLOW,
        command=lambda folder, port: ["airflow", "standalone"],
        variables=_airflow_variables,
        health="/api/v2/monitor/health",
        page="/",
    ),
)


def measure_peer(peer: Peer, folder: Path, look: Callable[[str], object] | None) -> tuple[PeerFigures, object]:
    """Start a peer twice, and measure the second start: the first one makes its database.

    `look` is called with the address of its page; what it returns is the second part of the answer.

    Raises:
        NotRun: it cannot be installed, or does not start.
    """
    peer.environment.set_up()
    process, _, _ = _start_peer(peer, folder)
    _stop_peer(process)
    process, port, start_s = _start_peer(peer, folder)
    try:
        time.sleep(_SETTLE_S)
        seen = look(f"http://127.0.0.1:{port}{peer.page}") if look is not None else None
        time.sleep(_SETTLE_S)
        idle = idle_percent(process.pid, _IDLE_S)
        pids = [process.pid, *descendants(process.pid)]
        return PeerFigures(start_s, len(pids), memory_mb(pids), idle), seen
    finally:
        _stop_peer(process)


def _start_peer(peer: Peer, folder: Path) -> tuple[subprocess.Popen[bytes], int, float]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environ = {
        "PATH": f"{peer.environment.bin}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        **QUIET,
        **peer.variables(folder, port),
    }
    name, *arguments = peer.command(folder, port)
    began = time.perf_counter()
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(
            [str(peer.environment.bin / name), *arguments],
            cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    while get(port, peer.health)[0] != 200:
        if process.poll() is not None or time.perf_counter() - began > _PEER_LIMIT_S:
            _stop_peer(process)
            raise NotRun(f"{peer.name} does not answer at {peer.health}")
        time.sleep(0.01)
    return process, port, time.perf_counter() - began


def _stop_peer(process: subprocess.Popen[bytes]) -> None:
    """End a peer with all its processes, which have become descendants of this one if their parent has ended."""
    before = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in before:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
