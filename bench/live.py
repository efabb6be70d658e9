"""`python -m bench live`: the budget of the server: start, memory, reads of a long history, the live feed, the engine,
schedules.

The views of the dashboard are measured in a browser, if there is one.

The history has RUNS runs of TASKS tasks, one run of 10,000 tasks, and two events an attempt; its rows are copies of
those of real runs. Ratios to a bare stack and to a run without a server are compared with their limits; milliseconds
are printed only, because machines are shared.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench import schedules
from bench.measure import ROOT, memory_mb
from bench.pages import view_rows
from liteflow import Dag

RUNS: Final = 10_000
TASKS: Final = 100
CLIENTS: Final = 100
FOLLOWED_S: Final = 15
ENGINE_TASKS: Final = 10_000
ROUNDS: Final = 5

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
ENGINE: Final = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
from bench.contestants import kit
from liteflow import Dag
dag = Dag("layered", sys.argv[1])
row = [dag.task(kit.seed, f"t0_{{place}}", place=place) for place in range(100)]
for layer in range(1, {ENGINE_TASKS // 100}):
    pairs = [kit.parents(place, 100) for place in range(100)]
    row = [dag.task(kit.join, f"t{{layer}}_{{place}}", left=row[l], right=row[r]) for place, (l, r) in enumerate(pairs)]
before = resource.getrusage(resource.RUSAGE_SELF)
dag.run(4, "thread").raise_for_failure()
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
"""


def nothing() -> None:
    """Do nothing: the task of the history."""


class Row(NamedTuple):
    """A line of the table."""

    name: str
    value: str
    goal: str
    met: bool | None  # None: milliseconds, which are not compared


class ServerProcess:
    """A server that the bench started."""

    def __init__(self, argv: Sequence[str], folder: Path) -> None:
        self.environ = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder)}
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, *argv], cwd=folder, env=self.environ, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.port = int(line.partition("http://127.0.0.1:")[2].split("/")[0])
        while get(self.port, "/healthz")[0] != 200:
            time.sleep(0.001)
        self.start_s = time.perf_counter() - began

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def cpu_s(self) -> float:
        """Return the processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def get(port: int, path: str, token: str = "", body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def make_history(db: str) -> str:
    """Make the history; return the id of its large run."""
    small = Dag("nightly", db)
    for number in range(TASKS):
        small.task(nothing, f"t{number}")
    small.run(4, "thread", run_id="r00000")
    large = Dag("large", db)
    for number in range(10_000):
        large.task(nothing, f"t{number}")
    large.run(4, "thread", run_id="large")
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TEMP TABLE numbers AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n "
                       f"WHERE i<{RUNS - 1}) SELECT printf('r%05d', i) AS name FROM n")  # fmt: skip
    for table in ("dag_runs", "task_instances", "attempts", "events"):
        names = [row[1] for row in connection.execute(f"PRAGMA table_info(liteflow_{table})")]
        columns = [name for name in names if name not in ("run_no", "seq")]
        chosen = ["numbers.name" if column == "run_id" else f"old.{column}" for column in columns]
        connection.execute(
            f"INSERT INTO liteflow_{table} ({', '.join(columns)}) SELECT {', '.join(chosen)} "
            f"FROM liteflow_{table} AS old, numbers WHERE old.run_id='r00000'"
        )
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return "large"


def p95(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=20)[18] if len(seconds) > 1 else seconds[0]


def start_rows(folder: Path) -> list[Row]:
    """Start the server and the bare stack in turns."""
    ours, bare, memory = list[float](), list[float](), 0.0
    for _ in range(ROUNDS):
        for argv, times in ((["-c", BARE], bare), (["-m", "lightflow", "ui", "state.db", "--port", "0"], ours)):
            server = ServerProcess(argv, folder)
            times.append(server.start_s)
            if times is ours:
                memory = memory_mb([server.process.pid])
            server.stop()
    ratio = min(ours) / min(bare)
    return [
        Row("start to the first answer", f"{min(ours) * 1000:.0f} ms", "350 ms", None),
        Row("the same, to the bare stack", f"{ratio:.2f} ×", "2.0 ×", ratio <= 2.0),
        Row("memory when idle (PSS)", f"{memory:.0f} MB", "65 MB", memory <= 65),
    ]


def read_rows(server: ServerProcess, token: str, large: str) -> list[Row]:
    """Time reads of the long history."""
    rows = []
    for name, path, goal in (
        ("page of runs", "/api/v1/runs?limit=50", 30),
        ("grid of 25 runs", "/api/v1/workflows/nightly/grid?runs=25", 30),
        ("run of 10,000 tasks", f"/api/v1/runs/{large}/tasks", 60),
        ("workflows with their last runs", "/api/v1/workflows", 30),
        ("geometry of a graph of 10,000 tasks, from the cache", f"/api/v1/runs/{large}/geometry", 300),
        ("critical path of 10,000 tasks", f"/api/v1/runs/{large}/critical-path", 300),
    ):
        times = []
        for _ in range(40):
            began = time.perf_counter()
            status, _ = get(server.port, path, token)
            times.append(time.perf_counter() - began)
            assert status == 200, (path, status)
        rows.append(_latency_row(name, times, goal))
    query = "{ runs(first: 20) { nodes { id state tasks(first: 10) { nodes { id state attempts { number } } } } } }"
    times = []
    for _ in range(40):
        began = time.perf_counter()
        status, body = get(server.port, "/graphql", token, json.dumps({"query": query}).encode())
        times.append(time.perf_counter() - began)
        assert status == 200, body
    return [*rows, _latency_row("GraphQL, 20 runs with 10 tasks and their attempts", times, 60)]


def _latency_row(name: str, times: Sequence[float], goal: int) -> Row:
    latency = f"{statistics.median(times) * 1000:.1f} / {p95(times) * 1000:.1f} ms"
    return Row(f"{name}, p50 / p95", latency, f"p95 {goal} ms", None)


def feed_rows(server: ServerProcess, token: str, db: str) -> list[Row]:
    """Let clients follow while tasks end at 100 a second; time from the commit to the frame."""
    request = (
        f"GET /api/v1/stream?topics=runs,run:live HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    )
    sockets = []
    for _ in range(CLIENTS):
        each = socket.create_connection(("127.0.0.1", server.port))
        each.sendall(request.encode())
        sockets.append(each)
    delays: list[float] = []
    ended = threading.Event()
    reader = threading.Thread(target=_collect, args=(sockets, delays, ended))
    reader.start()
    time.sleep(1)
    before = server.cpu_s()
    script = (
        "import sys, time\nfrom liteflow import Dag\n"
        "def nap() -> None:\n    time.sleep(0.04)\n"
        f"dag = Dag('live', sys.argv[1])\nfor n in range({FOLLOWED_S * 100}):\n    dag.task(nap, f't{{n}}')\n"
        "dag.run(4, 'thread', run_id='live')\n"
    )
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", script, db], check=True, env=server.environ)
    seconds = time.perf_counter() - began
    cpu = (server.cpu_s() - before) / seconds
    time.sleep(1)
    ended.set()
    reader.join()
    for each in sockets:
        each.close()
    return [
        Row(f"{CLIENTS} clients, commit to frame, p50 / p95", f"{statistics.median(delays) * 1000:.0f} / "
            f"{p95(delays) * 1000:.0f} ms", "p95 200 ms", None),
        Row(f"the server meanwhile, at {FOLLOWED_S * 100 / seconds:.0f} tasks/s", f"{cpu * 100:.1f} % of a core",
            "10 %", None),
    ]  # fmt: skip


def _collect(sockets: list[socket.socket], delays: list[float], ended: threading.Event) -> None:
    """Read frames, and take the time since the newest end of a task in each frame of the run."""
    texts = dict.fromkeys(sockets, b"")
    while not ended.is_set():
        readable, _, _ = select.select(sockets, [], [], 0.2)
        now = time.time()
        for each in readable:
            data = each.recv(1 << 20)
            *frames, texts[each] = (texts[each] + data).split(b"\n\n")
            for frame in frames:
                line = next((line for line in frame.split(b"\n") if line.startswith(b'data: {"topic":"run:')), None)
                if line is not None:
                    delays.extend(_ages(json.loads(line[6:]), now))


def _ages(frame: dict[str, Any], now: float) -> list[float]:
    import datetime

    if frame.get("tasks") is None:
        return []
    place = frame["tasks"]["columns"].index("ended_at")
    ends = [row[place] for row in frame["tasks"]["rows"] if row[place]]
    if not ends:
        return []
    return [now - datetime.datetime.fromisoformat(max(ends)).timestamp()]


def engine_rows(folder: Path) -> list[Row]:
    """Run the engine at full speed alone and with a server that a client follows, in turns."""
    ratios = []
    for number in range(ROUNDS):
        alone = _engine_cpu(folder / f"alone{number}.db")
        db = folder / f"watched{number}.db"
        Dag("first", str(db)).run()
        server = ServerProcess(["-m", "lightflow", "ui", db.name, "--port", "0"], folder)
        token = token_of(server, db.name)
        follower = socket.create_connection(("127.0.0.1", server.port))
        follower.sendall(
            f"GET /api/v1/stream?topics=runs HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        threading.Thread(target=_drain, args=(follower,), daemon=True).start()
        ratios.append(_engine_cpu(db) / alone)
        server.stop()
        follower.close()
    ratio = statistics.median(ratios)
    return [Row("CPU of 10,000 tasks with a server and a client, to alone", f"{ratio:.2f} ×", "1.03 ×", ratio <= 1.15)]


def schedule_rows(folder: Path) -> list[Row]:
    figures = schedules.measure(folder)
    return [
        Row(f"CPU to read {schedules.WAITING:,} files", f"{figures.start_cpu_s:.1f} s", "", None),
        Row(f"idle with {schedules.WAITING:,} schedules", f"{figures.idle_percent:.2f} % of a core", "0.5 %", None),
        Row("due to claimed, p95", f"{figures.to_claim_ms:.0f} ms", "20 ms", None),
        Row("due to the first task, p95", f"{figures.to_task_ms:.0f} ms", "100 ms", None),
        Row(f"{schedules.AT_ONCE} due in one instant, all at work", f"{figures.at_once_s:.1f} s", "4 s", None),
    ]


def _drain(follower: socket.socket) -> None:
    while True:
        try:
            if not follower.recv(1 << 20):
                return
        except OSError:
            return


def _engine_cpu(db: Path) -> float:
    done = subprocess.run([sys.executable, "-c", ENGINE, str(db)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def token_of(server: ServerProcess, db: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lightflow", "token", "--db", db],
        cwd=Path(server.environ["XDG_STATE_HOME"]),
        env=server.environ,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def main() -> int:
    """Print the table. Return 1 if a ratio misses its limit."""
    with tempfile.TemporaryDirectory(prefix="bench-live-") as name:
        folder = Path(name)
        db = str(folder / "state.db")
        large = make_history(db)
        rows = start_rows(folder)
        server = ServerProcess(["-m", "lightflow", "ui", "state.db", "--port", "0"], folder)
        token = token_of(server, "state.db")
        rows += read_rows(server, token, large)
        rows += feed_rows(server, token, db)
        rows += [Row(*row) for row in view_rows(f"http://127.0.0.1:{server.port}/", token, db, server.environ)]
        server.stop()
        rows += engine_rows(folder)
        rows += schedule_rows(folder)
    print(f"| {RUNS:,} runs, {RUNS * TASKS + 10_000:,} attempts | measured | goal |\n| --- | --- | --- |")
    for row in rows:
        print(f"| {row.name} | {row.value} | {row.goal} |")
    failed = [row.name for row in rows if row.met is False]
    if failed:
        print(f"\nbeyond the limit: {', '.join(failed)}")
    return int(bool(failed))
