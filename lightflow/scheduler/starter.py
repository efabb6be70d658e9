"""The starter: a process that starts runs for the server, each as a process of its own.

It has the engine imported, and no socket, no lock and no database open, so a run that is forked from it costs little
and inherits nothing. It ends when the server does; the runs continue. A line of JSON on its input is an order to start
a run; for each run whose process has ended it writes a line to its output.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final, NamedTuple, NoReturn

from lightflow.service.runs import prepare_forks
from liteflow.api import EMPTY_MAPPING, Record, replace

#: So much of the output of a run that did not begin is its reason.
_TAIL_BYTES: Final = 4096
#: The exit code of a process that another process has forestalled.
FORESTALLED: Final = 4


class StartOrder(Record):
    """An order to start the run of a fire."""

    key: str  #: identifies the order
    run_id: str
    source: str  #: the workflow file
    dag: str | None  #: the dag of a Python file
    db: str
    folder: str  #: the working directory
    params: Mapping[str, Any]
    date: float | None  #: the logical date
    day: float | None  #: the day that `today` means
    scheduled_at: str | None  #: the instant of a schedule
    overlap: str | None  #: of a schedule
    selection: Mapping[str, Any] = EMPTY_MAPPING  #: the tasks that run, as fields of `SelectionOptions`; empty: all


class RerunOrder(Record):
    """An order to resume a run, to run a part of it again, or to fork it.

    Attributes:
        run_id: of a fork the id of the new run.
        origin: the run that is forked; None: the run itself continues.
        tasks: those that run again, with what follows them; none of them means all that did not succeed.
        params: of a fork: what differs from the parameters of its origin.
    """

    key: str  #: identifies the order
    run_id: str
    db: str
    folder: str  #: the working directory
    origin: str | None = None
    tasks: Sequence[str] = ()
    only: bool = False  #: whether what follows the tasks stays as it is
    changed: bool = False  #: whether the tasks whose definition has changed run again, too
    ignore_upstream: bool = False
    params: Mapping[str, Any] = EMPTY_MAPPING
    parks: bool = False  #: whether the run ends again when only long waits are left
    requested_by: str | None = None  #: the person or program; None: the user of this process
    request_detail: str | None = None  #: what identifies the request, so that it changes the run once


Order = StartOrder | RerunOrder
_ORDERS: Final[Mapping[str, type[StartOrder] | type[RerunOrder]]] = {"start": StartOrder, "rerun": RerunOrder}


class ProcessEnd(NamedTuple):
    """The end of the process that an order has started."""

    key: str  #: of the order
    code: int
    output: str  #: the end of its output

    @property
    def failure(self) -> str:
        """Why the process ended before a run began."""
        if self.output.strip():
            return self.output.strip()
        if self.code < 0:
            return f"its process was ended by signal {-self.code}"
        return f"its process ended with exit code {self.code}"


def _line(order: Order) -> bytes:
    """Return an order as a line for the starter."""
    name = next(name for name, kind in _ORDERS.items() if isinstance(order, kind))
    fields = {field: getattr(order, field) for field in type(order)._fields}
    return json.dumps([name, {**fields, "params": dict(order.params)}]).encode() + b"\n"


def _order_of(line: bytes) -> Order:
    name, fields = json.loads(line)
    return _ORDERS[name](**fields)


class RunStarter:
    """The connection of a server to its starter."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-m", "lightflow.scheduler.starter"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([_home(), os.environ.get("PYTHONPATH", "")])}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input: IO[bytes] = self._process.stdin
        self._output: IO[bytes] = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._partial = b""
        self.pid = self._process.pid

    def fileno(self) -> int:
        """Return the descriptor that is readable when a run has ended, or the starter."""
        return self._output.fileno()

    def start(self, order: Order) -> bool:
        """Send an order. Returns False when the starter has ended."""
        try:
            self._input.write(_line(order))
            self._input.flush()
        except OSError:
            return False
        return True

    def ended(self) -> list[ProcessEnd] | None:
        """Return the processes that have ended since the last call; None when the starter itself has."""
        ends: list[ProcessEnd] = []
        while True:
            try:
                data = os.read(self.fileno(), 1 << 16)
            except BlockingIOError:
                return ends
            if not data:
                return None
            *lines, self._partial = (self._partial + data).split(b"\n")
            ends += [ProcessEnd(*json.loads(line)) for line in lines]

    def close(self) -> None:
        """End the starter; the runs continue."""
        with contextlib.suppress(OSError):
            self._input.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()


def _home() -> str:
    """Return the folder with the packages."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


# -- in the starter ---------------------------------------------------------------------------------------------------


class _Children:
    """The processes of runs, each with the file that has its output."""

    def __init__(self) -> None:
        self._outputs: dict[int, tuple[str, IO[bytes]]] = {}

    def start(self, order: Order) -> None:
        output = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed when the process has ended
        pid = os.fork()
        if pid == 0:
            _become_run(order, output.fileno())
        self._outputs[pid] = (order.key, output)

    def reap(self) -> list[ProcessEnd]:
        """Return the processes that have ended."""
        ends = []
        while self._outputs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid not in self._outputs:
                continue
            key, output = self._outputs.pop(pid)
            with output:
                size = output.seek(0, os.SEEK_END)
                output.seek(max(0, size - _TAIL_BYTES))
                text = output.read().decode("utf-8", "replace")
            ends.append(ProcessEnd(key, os.waitstatus_to_exitcode(status), text))
        return ends


def main() -> None:
    """Start runs until the server ends."""
    prepare_forks()
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children, partial = _Children(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
            for end in children.reap():
                _answer(end)
            if 0 in ready:
                data = os.read(0, 1 << 16)
                if not data:
                    return
                *lines, partial = (partial + data).split(b"\n")
                for line in lines:
                    children.start(_order_of(line))


def _answer(end: ProcessEnd) -> None:
    data = json.dumps(end).encode() + b"\n"
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        sys.exit()  # the server has ended


def _become_run(order: Order, output: int) -> NoReturn:
    """Turn a fork of the starter into the process of a run."""
    code = 70
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        code = execute(order)
    except BaseException as error:  # noqa: BLE001 - the last frame of the process
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def execute(order: Order) -> int:
    """Execute an order in this process and return its exit code."""
    os.chdir(order.folder)
    os.environ.pop("LIGHTFLOW_SCHEDULED_AT", None)
    return _start(order) if isinstance(order, StartOrder) else _rerun(order)


def _start(order: StartOrder) -> int:
    """Execute the run of a fire."""
    from lightflow.engine.choices import SelectionOptions
    from lightflow.errors import LightflowError
    from lightflow.service import runs
    from lightflow.service.parameters import ParamArguments
    from liteflow import LiteflowError, RunOwned
    from liteflow.api import end_fire, overlap_limit

    if order.scheduled_at is not None:
        os.environ["LIGHTFLOW_SCHEDULED_AT"] = order.scheduled_at
    options = runs.RunOptions(
        db=order.db,
        run_id=order.run_id,
        dag=order.dag,
        params=ParamArguments(values=order.params),
        selection=SelectionOptions(**order.selection),
        date=order.date,
        day=order.day,
        concurrency=overlap_limit(order.overlap) if order.scheduled_at is not None else None,
        claim_children=True,
    )
    try:
        with runs.captured_streams():
            run = runs.start(order.source, options, notify=print)
    except RunOwned as error:  # another process has forestalled this one, which writes nothing
        print(error, file=sys.stderr)
        return FORESTALLED
    except (LightflowError, LiteflowError, OSError) as error:
        print(error, file=sys.stderr)
        end_fire(order.db, order.run_id, "FAILED", str(error)[:_TAIL_BYTES])
        return int(getattr(error, "exit_code", 2))
    if run.status == "SKIPPED":
        end_fire(order.db, order.run_id, "SKIPPED", str(run.reason))
    return 0 if run.status in ("SUCCESS", "SKIPPED") else 1


def _rerun(order: RerunOrder) -> int:
    """Resume a run, run a part of it again, or fork it."""
    from lightflow.errors import LightflowError
    from lightflow.service import reruns, runs
    from lightflow.service.parameters import ParamArguments
    from liteflow import LiteflowError, RunOwned
    from liteflow.api import acting_for

    params = ParamArguments(values=order.params)
    options = runs.RunOptions(db=order.db, params=params, claim_children=True, park=order.parks)
    try:
        with runs.captured_streams(), acting_for(order.requested_by, order.request_detail):
            if order.origin is not None:
                forked = replace(options, run_id=order.run_id)
                run = reruns.fork(order.origin, forked, order.tasks, file=None, notify=_unheard)
            else:
                chosen = reruns.RerunOptions(
                    start=tuple(order.tasks),
                    only=order.only,
                    changed=order.changed,
                    ignore_upstream=order.ignore_upstream,
                )
                run = reruns.retry(order.run_id, options, chosen, notify=_unheard)
    except (LightflowError, LiteflowError, OSError) as error:
        print(error, file=sys.stderr)
        return FORESTALLED if isinstance(error, RunOwned) else int(getattr(error, "exit_code", 2))
    return 0 if run.status == "SUCCESS" or (order.parks and run.status == "INTERRUPTED") else 1


def _unheard(notice: str) -> None:
    """Drop a notice: what the process prints is its failure."""


if __name__ == "__main__":
    main()
