"""`python -m bench live`: the budget of the server, of its scheduler and of its pages, beside the servers of peers.

The history has RUNS runs of TASKS tasks, one run of 10,000 tasks, and two events an attempt; its rows are copies of
those of real runs. Ratios are compared with their limits; milliseconds are printed only, because machines are shared.
"""

from __future__ import annotations

import argparse
import datetime
import json
import select
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from bench import live_rows, pages, schedules, table
from bench.live_rows import Figure, Figures, Row
from bench.live_servers import BARE, PEERS, Peer, PeerFigures, ServerProcess, get, idle_percent, measure_peer
from bench.measure import ROOT, NotRun, descendants, memory_mb
from liteflow import Dag

RUNS: Final = 10_000
TASKS: Final = 100
CLIENTS: Final = 100
FOLLOWED_S: Final = 15
ENGINE_TASKS: Final = 10_000
ROUNDS: Final = 5
IDLE_S: Final = 30

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


#: The requests of the rows about reads.
READS: Final = (
    ("runs-page", "/api/v1/runs?limit=50"),
    ("grid", "/api/v1/workflows/nightly/grid?runs=25"),
    ("run-tasks", "/api/v1/runs/large/tasks"),
    ("workflows", "/api/v1/workflows"),
    ("geometry", "/api/v1/runs/large/geometry"),
    ("critical-path", "/api/v1/runs/large/critical-path"),
)
QUERY: Final = "{ runs(first: 20) { nodes { id state tasks(first: 10) { nodes { id state attempts { number } } } } } }"
LIVE_RUN: Final = f"""
import sys, time
from liteflow import Dag
def nap():
    time.sleep(0.04)
dag = Dag("live", sys.argv[1])
for number in range({FOLLOWED_S * 100}):
    dag.task(nap, f"t{{number}}")
dag.run(4, "thread", run_id="live")
"""


class Bench:
    """A folder for the measurements, and the server of the long history, which is made when it is first needed."""

    def __init__(self, folder: Path, minutes: float) -> None:
        self.folder = folder
        self.minutes = minutes  # how long a page is open on a busy engine

    @cached_property
    def history(self) -> ServerProcess:
        """A server of the long history."""
        make_history(self.history_db)
        return ServerProcess(["-m", "lightflow", "ui", "history.db", "--port", "0"], self.folder)

    @property
    def history_db(self) -> str:
        """The path of the long history."""
        return str(self.folder / "history.db")

    def new_folder(self, name: str) -> Path:
        """Return a new folder."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def close(self) -> None:
        """End the server."""
        if "history" in self.__dict__:
            self.history.stop()


def nothing() -> None:
    """Do nothing: the task of the history."""


def make_history(db: str) -> None:
    """Make the history; the id of its large run is `large`."""
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
    for rows in ("dag_runs", "task_instances", "attempts", "events"):
        names = [row[1] for row in connection.execute(f"PRAGMA table_info(liteflow_{rows})")]
        columns = [name for name in names if name not in ("run_no", "seq")]
        chosen = ["numbers.name" if column == "run_id" else f"old.{column}" for column in columns]
        connection.execute(
            f"INSERT INTO liteflow_{rows} ({', '.join(columns)}) SELECT {', '.join(chosen)} "
            f"FROM liteflow_{rows} AS old, numbers WHERE old.run_id='r00000'"
        )
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def p95(seconds: Sequence[float]) -> float:
    return statistics.quantiles(seconds, n=20)[18] if len(seconds) > 1 else seconds[0]


def latency(seconds: Sequence[float]) -> Figure:
    """Return the median and the 95th percentile, in milliseconds."""
    digits = 0 if p95(seconds) > 0.1 else 1
    return Figure(f"{statistics.median(seconds) * 1000:.{digits}f} / {p95(seconds) * 1000:.{digits}f} ms")


# -- the measurements --------------------------------------------------------------------------------------------------


def start_figures(bench: Bench) -> Figures:
    """Start the server and the bare one in turns; the first round stores bytecode."""
    folder = schedules.write_flows(bench.new_folder("start"), ["'0 2 * * *'"] * 5)
    ours, bare, ready = list[ServerProcess](), list[ServerProcess](), list[float]()
    for _ in range(ROUNDS + 1):
        for argv, servers in ((["-c", BARE], bare), (["-m", "lightflow", "serve", "flows", "--port", "0"], ours)):
            server = ServerProcess(argv, folder)
            servers.append(server)
            server.stop()
        began = time.perf_counter()
        with schedules.serving(folder):
            ready.append(time.perf_counter() - began)
    start_s = min(server.start_s for server in ours)
    ratio = min(server.start_cpu_s for server in ours) / min(server.start_cpu_s for server in bare)
    return {
        "start": Figure(f"{start_s * 1000:.0f} ms"),
        "start-ratio": Figure(f"{ratio:.2f} ×", ratio),
        "ready": Figure(f"{min(ready) * 1000:.0f} ms"),
    }


def idle_figures(bench: Bench) -> Figures:
    """Let a server with its starter, pages and schedules that are not due wait."""
    never = [f'"{number % 60} {number % 24} 1 1 *"' for number in range(schedules.WAITING)]
    folder = schedules.write_flows(bench.new_folder("idle"), never)
    server = ServerProcess(["-m", "lightflow", "serve", "flows", "--port", "0"], folder)
    try:
        read_s = server.cpu_s()
        time.sleep(5)
        pids = [server.process.pid, *descendants(server.process.pid)]
        used = memory_mb(pids)
        percent = idle_percent(server.process.pid, IDLE_S)
    finally:
        server.stop()
    return {
        "memory": Figure(f"{used:.0f} MB, {len(pids)}", used),
        "idle": Figure(f"{percent:.2f} %"),
        "read-files": Figure(f"{read_s:.1f} s"),
    }


def page_figures(bench: Bench) -> Figures:
    """Load the first page of a server with five workflows."""
    folder = schedules.write_flows(bench.new_folder("page"), ["'0 2 * * *'"] * 5)
    server = ServerProcess(["-m", "lightflow", "serve", "flows", "--port", "0"], folder)
    try:
        load = pages.first_load(server.address, pages.login(server.token()))
    finally:
        server.stop()
    return {} if load is None else {"page": Figure(str(load), load.requests)}


def due_figures(bench: Bench) -> Figures:
    seconds = schedules.steady_delays(bench.new_folder("due"))
    claims, starts = zip(*seconds, strict=True)
    return {"claim": Figure(f"{p95(claims) * 1000:.0f} ms"), "task": Figure(f"{p95(starts) * 1000:.0f} ms")}


def at_once_figures(bench: Bench) -> Figures:
    return {"at-once": Figure(f"{schedules.at_once_s(bench.new_folder('at-once')):.1f} s")}


def take_over_figures(bench: Bench) -> Figures:
    seconds = [schedules.take_over_s(bench.new_folder("take-over")) for _ in range(ROUNDS)]
    return {"take-over": Figure(f"{max(seconds):.2f} s")}


def run_figures(bench: Bench) -> Figures:
    ratio = schedules.run_ratio(bench.new_folder("run"))
    return {"run-ratio": Figure(f"{ratio:.0f} ×", ratio)}


def read_figures(bench: Bench) -> Figures:
    """Time reads of the long history."""
    server = bench.history
    token = server.token("history.db")
    query = json.dumps({"query": QUERY}).encode()
    requests = [*((name, path, None) for name, path in READS), ("graphql", "/graphql", query)]
    figures: Figures = {}
    for name, path, body in requests:
        times = []
        for _ in range(40):
            began = time.perf_counter()
            status, answer = get(server.port, path, token, body)
            times.append(time.perf_counter() - began)
            assert status == 200, (path, status, answer[:200])
        figures[name] = latency(times)
    return figures


def feed_figures(bench: Bench) -> Figures:
    """Let clients follow while tasks end at 100 a second; time from the commit to the frame."""
    server = bench.history
    sockets = [_follow(server, server.token("history.db"), "runs,run:live") for _ in range(CLIENTS)]
    delays: list[float] = []
    ended = threading.Event()
    reader = threading.Thread(target=_collect, args=(sockets, delays, ended))
    reader.start()
    time.sleep(1)
    before, began = server.cpu_s(), time.perf_counter()
    subprocess.run([sys.executable, "-c", LIVE_RUN, bench.history_db], check=True, env=server.environ)
    seconds = time.perf_counter() - began
    cpu = (server.cpu_s() - before) / seconds
    time.sleep(1)
    ended.set()
    reader.join()
    for each in sockets:
        each.close()
    rate = FOLLOWED_S * 100 / seconds
    return {"clients": latency(delays), "clients-cpu": Figure(f"{cpu * 100:.1f} % at {rate:.0f} tasks/s")}


def _follow(server: ServerProcess, token: str, topics: str) -> socket.socket:
    """Open a stream."""
    follower = socket.create_connection(("127.0.0.1", server.port))
    follower.sendall(
        f"GET /api/v1/stream?topics={topics} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    return follower


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
    if frame.get("tasks") is None:
        return []
    place = frame["tasks"]["columns"].index("ended_at")
    ends = [row[place] for row in frame["tasks"]["rows"] if row[place]]
    if not ends:
        return []
    return [now - datetime.datetime.fromisoformat(max(ends)).timestamp()]


def engine_figures(bench: Bench) -> Figures:
    """Run the engine at full speed alone and with a server that a client follows, in turns."""
    ratios, folder = [], bench.new_folder("engine")
    for number in range(ROUNDS):
        alone = _engine_cpu(folder / f"alone{number}.db")
        db = folder / f"watched{number}.db"
        Dag("first", str(db)).run()
        server = ServerProcess(["-m", "lightflow", "ui", db.name, "--port", "0"], folder)
        follower = _follow(server, server.token(db.name), "runs")
        threading.Thread(target=_drain, args=(follower,), daemon=True).start()
        ratios.append(_engine_cpu(db) / alone)
        server.stop()
        follower.close()
    ratio = statistics.median(ratios)
    return {"engine": Figure(f"{ratio:.2f} ×", ratio)}


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


def view_figures(bench: Bench) -> Figures:
    """Measure the heavy views in a browser."""
    server = bench.history
    return pages.view_figures(server.address, server.token("history.db"), bench.history_db, server.environ)


def hour_figures(bench: Bench) -> Figures:
    """Leave a page open while runs come and go."""
    if not bench.minutes:
        return {}
    folder = bench.new_folder("hour")
    Dag("first", str(folder / "lightflow.db")).run()
    server = ServerProcess(["-m", "lightflow", "ui", "lightflow.db", "--port", "0"], folder)
    try:
        return pages.heap_figures(server.address, server.token(), folder / "lightflow.db", bench.minutes)
    finally:
        server.stop()


MEASUREMENTS: Final[tuple[tuple[Sequence[Row], Callable[[Bench], Figures]], ...]] = (
    (live_rows.START, start_figures),
    (live_rows.IDLE, idle_figures),
    (live_rows.PAGE, page_figures),
    (live_rows.DUE, due_figures),
    (live_rows.AT_ONCE, at_once_figures),
    (live_rows.TAKE_OVER, take_over_figures),
    (live_rows.RUN, run_figures),
    (live_rows.READS, read_figures),
    (live_rows.FEED, feed_figures),
    (live_rows.VIEWS, view_figures),
    (live_rows.ENGINE, engine_figures),
    (live_rows.HEAP_HOUR, hour_figures),
)
#: The rows that peers have too.
SHARED: Final = ("start", "memory", "idle", "page")


def peer_figures(peer: Peer, folder: Path, wanted: Iterable[str]) -> Figures:
    """Return the figures of a peer; a text that says why where there are none."""
    look = pages.first_load if "page" in wanted else None
    try:
        measured, load = measure_peer(peer, folder, look)
    except NotRun as error:
        return {row: Figure(f"not run: {error}") for row in wanted}
    figures = _figures_of(measured) | ({} if load is None else {"page": Figure(str(load))})
    return {name: figure for name, figure in figures.items() if name in wanted}


def _figures_of(measured: PeerFigures) -> Figures:
    return {
        "start": Figure(f"{measured.start_s:.1f} s"),
        "memory": Figure(f"{measured.memory_mb:.0f} MB, {measured.processes}"),
        "idle": Figure(f"{measured.idle_percent:.1f} %"),
    }


def measure(names: Sequence[str], peers: Sequence[Peer], minutes: float) -> dict[str, Figures]:
    """Measure rows, all if none is named; return the figures of Lightflow and of each peer."""
    wanted = set(names or [row.name for row in live_rows.ROWS])
    columns: dict[str, Figures] = {"Lightflow": {}}
    with tempfile.TemporaryDirectory(prefix="bench-live-", ignore_cleanup_errors=True) as name:
        bench = Bench(Path(name), minutes)
        try:
            for rows, measurement in MEASUREMENTS:
                if chosen := wanted & {row.name for row in rows}:
                    figures = {row: figure for row, figure in measurement(bench).items() if row in chosen}
                    columns["Lightflow"] |= figures
                    _report("Lightflow", figures)
        finally:
            bench.close()
        shared = [row for row in SHARED if row in wanted]
        for peer in peers if shared else ():
            columns[peer.name] = peer_figures(peer, bench.new_folder(peer.name), shared)
            _report(peer.name, columns[peer.name])
    return columns


def _report(column: str, figures: Mapping[str, Figure]) -> None:
    for row, figure in figures.items():
        print(f"{column}: {row}: {figure.text}", file=sys.stderr, flush=True)


def main(options: argparse.Namespace) -> int:
    """Print the table. Return 1 if a ratio misses its limit."""
    peers = options.peers.lower().split(",")
    selected = [peer for peer in PEERS if options.peers == "all" or peer.name.lower() in peers]
    columns = measure(options.row or (), selected, options.minutes)
    texts = {name: {row: figure.text for row, figure in figures.items()} for name, figures in columns.items()}
    print(f"Reads: {RUNS:,} runs, {RUNS * TASKS + 10_000:,} attempts\n\n{live_rows.table(texts)}")
    failed = live_rows.exceeded(columns["Lightflow"])
    if failed:
        print(f"\nbeyond the limit: {', '.join(row.title for row in failed)}")
    elif options.write:
        for page in table.write({"live": live_rows.documentation(live_rows.record(texts))}):
            print(f"wrote {page.relative_to(ROOT)}", file=sys.stderr)
    return int(bool(failed))
