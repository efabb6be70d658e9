"""The contract of all executors, for every backend."""

from __future__ import annotations

import asyncio
import contextvars
import faulthandler
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from far_kit import far_lane
from process_kit import is_alive

from liteflow.context import current_context
from liteflow.errors import DefinitionError, SkipTask
from liteflow.executors import Executor, open_executor
from liteflow.processes import tree
from liteflow.values.payload import decode, encode
from liteflow.work import Body, Call, Command, Outcome, Poll, Ref, RunInfo, Work

MODES = ["inline", "thread", "process", "async", "far"]
#: Modes in which each attempt has a process that can be killed: here, and by an agent.
PROCESSES = ["process", "far"]
LIMIT_S = 120.0


def until(executor: Executor, condition: Callable[[], bool]) -> None:
    """Let an executor work until a condition is true."""
    give_up = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < give_up
        executor.wait(0.01)


class Bench:
    """One open executor and what it takes to run tasks on it."""

    def __init__(self, folder: Path, mode: str, bodies: dict[str, Body], **options: Any) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        outs = folder / "outs"
        outs.mkdir(exist_ok=True)
        self.info = RunInfo(
            run_id="run-1",
            dag_id="flow",
            db_path=str(folder / "state.db"),
            log_dir=str(self.logs),
            params={"day": 3},
            outputs_dir=str(outs),
        )
        options = {"slots": 4, **options}
        lanes = far_lane(options["slots"]) if mode == "far" else {}
        self.executor: Executor = open_executor(bodies, self.info, mode=mode, lanes=lanes, **options)
        self.node = 0
        self._outcomes: list[Outcome] = []  # that are not collected yet
        if mode == "far":  # an attempt is submitted when its place has room
            self.executor.want("far", options["slots"])
            until(self.executor, lambda: self.executor.room()["far"] == options["slots"])

    def submit(self, task_id: str = "t", **fields: Any) -> int:
        self.node += 1
        log_path = str(self.logs / f"{task_id}-{self.node}.log")
        self.executor.submit(Work(node=self.node, task_id=task_id, attempt=1, log_path=log_path, **fields))
        self.executor.flush()
        return self.node

    def collect(self, count: int = 1) -> list[Outcome]:
        give_up = time.monotonic() + LIMIT_S
        while len(self._outcomes) < count and time.monotonic() < give_up:
            self._outcomes += self.executor.wait(1.0)
        outcomes, self._outcomes = self._outcomes, []
        assert len(outcomes) == count
        return outcomes

    def await_file(self, path: Path) -> str:
        """Return the text of a file, once it is there. Meanwhile agents are answered, as their leases need it."""
        give_up = time.monotonic() + LIMIT_S
        while not (path.exists() and path.read_text()):
            assert time.monotonic() < give_up, path
            self._outcomes += self.executor.wait(0.01)
        return path.read_text()

    def run(self, task_id: str = "t", **fields: Any) -> Outcome:
        node = self.submit(task_id, **fields)
        (outcome,) = self.collect()
        assert (outcome.node, outcome.attempt) == (node, 1)
        assert outcome.started_at <= outcome.ended_at
        return outcome

    def files(self) -> list[str]:
        return sorted(path.name for path in self.logs.iterdir()) if self.logs.exists() else []


Open = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Open]:
    opened: list[Bench] = []

    def make(mode: str, bodies: dict[str, Body] | Callable[..., Any] | Body, **options: Any) -> Bench:
        if isinstance(bodies, Call | Command):
            bodies = {"t": bodies}
        elif not isinstance(bodies, dict):
            bodies = {"t": Call(bodies)}
        made = Bench(tmp_path, mode, bodies, **options)
        opened.append(made)
        return made

    yield make
    for made in opened:
        made.executor.close()
    for made in opened:
        session = made.executor.session
        assert session is None or tree.find_survivors(session) == []
        assert not [name for name in made.files() if name.startswith(".")]
        assert not list((made.folder / "outs").iterdir())


def value_of(outcome: Outcome) -> Any:
    assert outcome.verdict == "SUCCESS", outcome
    return None if outcome.value is None else decode(outcome.value)


def message_of(outcome: Outcome) -> str:
    assert outcome.error is not None, outcome
    return outcome.error.message


def await_file(path: Path) -> str:
    give_up = time.monotonic() + LIMIT_S
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < give_up, path
        time.sleep(0.005)
    return path.read_text()


@pytest.mark.parametrize("mode", MODES)
def test_values_travel(bench: Open, mode: str) -> None:
    def add(a: int, many: dict[str, Any], missing: Any) -> Any:
        return {"sum": a + many["deep"][0][1], "missing": missing, "kept": many["kept"]}

    kwargs = {"a": Ref("x"), "many": {"deep": [(0, Ref("y", "k"))], "kept": (1, {2})}, "missing": Ref("gone")}
    inputs = {"x": encode(40), "y:k": encode(2)}
    outcome = bench(mode, Call(add, kwargs)).run(inputs=inputs)
    assert value_of(outcome) == {"sum": 42, "missing": None, "kept": (1, {2})}


@pytest.mark.parametrize("mode", MODES)
def test_large_values_travel(bench: Open, mode: str) -> None:
    def echo(x: str) -> str:
        return x + "!"

    text = "ä" * 3_000_000
    assert value_of(bench(mode, Call(echo, {"x": Ref("x")})).run(inputs={"x": encode(text)})) == text + "!"


@pytest.mark.parametrize("mode", MODES)
def test_none_is_not_stored_and_pushed_values_are(bench: Open, mode: str) -> None:
    def push() -> None:
        context = current_context()
        context.xcom_push("k", {1, 2})
        context.xcom_push("where", [context.run_id, context.task_id, context.attempt, context.params["day"]])

    outcome = bench(mode, push).run()
    assert outcome.value is None
    assert outcome.pushed is not None
    assert decode(outcome.pushed["k"]) == {1, 2}
    assert decode(outcome.pushed["where"]) == ["run-1", "t", 1, 3]
    with pytest.raises(RuntimeError):
        current_context()


@pytest.mark.parametrize("mode", MODES)
def test_coroutines_run(bench: Open, mode: str) -> None:
    async def hello() -> str:
        await asyncio.sleep(0)
        print("in the loop")
        return current_context().task_id

    made = bench(mode, hello)
    outcome = made.run()
    assert value_of(outcome) == "t"
    assert outcome.log_path is not None
    assert Path(outcome.log_path).read_text() == "in the loop\n"


@pytest.mark.parametrize("mode", MODES)
def test_many_tasks_each_have_one_outcome(bench: Open, mode: str) -> None:
    made = bench(mode, lambda: os.getpid())
    nodes = {made.submit() for _ in range(50)}
    outcomes = made.collect(50)
    assert {outcome.node for outcome in outcomes} == nodes
    assert made.executor.wait(0) == []


# Errors


class Hostile(Exception):
    def __init__(self, entry: int, two: int) -> None:
        super().__init__("line one\nline two")
        self.lock = threading.Lock()


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


def raise_hostile() -> None:
    raise Hostile(1, 2)


def raise_mute() -> None:
    raise Mute


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def recurse() -> None:
    recurse()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("func", "message", "kind"),
    [
        (raise_hostile, "Hostile: line one ⏎ line two", "Hostile"),
        (raise_mute, "Mute: <its __str__ raised ValueError>", "Mute"),
        (raise_interrupt, "KeyboardInterrupt", "KeyboardInterrupt"),
        (recurse, "RecursionError: ", "RecursionError"),
        (lambda: threading.Lock(), "PayloadError: a value of type lock cannot be stored", "PayloadError"),
        (lambda nope: None, "TypeError: ", "TypeError"),
    ],
)
def test_errors_become_words(bench: Open, mode: str, func: Any, message: str, kind: str) -> None:
    outcome = bench(mode, func).run()
    assert outcome.verdict == "FAILED"
    assert message_of(outcome).startswith(message)
    assert outcome.error is not None
    assert outcome.error.types[0] == kind
    assert len(outcome.error.traceback) <= 64 * 1024
    assert "liteflow/executors" not in outcome.error.traceback or kind in ("PayloadError", "TypeError")


@pytest.mark.parametrize("mode", MODES)
def test_skip_and_exit(bench: Open, mode: str) -> None:
    def skip() -> None:
        raise SkipTask("not today")

    made = bench(
        mode,
        {
            "skip": Call(skip),
            "ok": Call(lambda: sys.exit(0)),
            "three": Call(lambda: sys.exit(3)),
            "text": Call(lambda: sys.exit("why")),
        },
    )
    skipped = made.run("skip")
    assert (skipped.verdict, message_of(skipped)) == ("SKIPPED", "not today")
    assert made.run("ok").verdict == "SUCCESS"
    assert made.run("three")[2:7:4] == ("FAILED", 3)
    assert message_of(made.run("text")) == "SystemExit: why"


def test_unknown_mode() -> None:
    with pytest.raises(DefinitionError, match="inline"):
        open_executor(
            {"t": Call(print)}, RunInfo(run_id="r", dag_id="d", db_path="/nowhere", log_dir=None), slots=1, mode="magic"
        )


# Output


@pytest.mark.parametrize("mode", MODES)
def test_output_goes_to_the_log_and_silence_costs_no_file(bench: Open, mode: str) -> None:
    def speak() -> None:
        print("out", "put")
        print("err", file=sys.stderr)
        sys.stdout.buffer.write(b"\xff\n")
        print("no newline", end="")

    made = bench(mode, {"loud": Call(speak), "quiet": Call(lambda: None)})
    assert made.run("quiet").log_path is None
    outcome = made.run("loud")
    assert outcome.log_path is not None
    assert Path(outcome.log_path).read_bytes() == b"out put\nerr\n\xff\nno newline"
    assert made.run("quiet").log_path is None
    assert [name for name in made.files() if not name.startswith(".")] == [Path(outcome.log_path).name]


@pytest.mark.parametrize("mode", ["thread", "process", "async", "far"])
def test_prints_do_not_mix(bench: Open, mode: str) -> None:
    barrier = threading.Barrier(2) if mode not in PROCESSES else None

    def speak(word: str) -> None:
        for _ in range(100):
            print(word)
            if barrier is not None:
                barrier.wait(LIMIT_S)

    made = bench(mode, {word: Call(speak, {"word": word}) for word in "ab"})
    for word in "ab":
        made.submit(word)
    texts = {Path(str(outcome.log_path)).read_text() for outcome in made.collect(2)}
    assert texts == {"a\n" * 100, "b\n" * 100}


@pytest.mark.parametrize("mode", PROCESSES)
def test_output_of_child_processes_reaches_the_log(bench: Open, mode: str) -> None:
    outcome = bench(mode, lambda: os.system("echo from a shell")).run()
    assert Path(str(outcome.log_path)).read_text() == "from a shell\n"


@pytest.mark.parametrize("mode", ["thread", "process", "command", "far"])
def test_huge_output_is_bounded(bench: Open, mode: str) -> None:
    def shout() -> None:
        for number in range(110):
            sys.stdout.write(f"{number:07}\n" * 131_072)

    command = Command(("/bin/sh", "-c", "seq 1000000000 1010000000"))
    outcome = bench("thread", command).run() if mode == "command" else bench(mode, shout).run()
    assert outcome.verdict == "SUCCESS"
    path = Path(str(outcome.log_path))
    assert path.stat().st_size < 65 * 1024 * 1024
    data = path.read_bytes()
    assert " bytes dropped …\n".encode() in data
    assert data.endswith(b"1010000000\n" if mode == "command" else b"0000109\n")


# Ends that are not the task's own


def daemonize(folder: Path) -> None:
    """Leave behind a daemon in a session of its own, without environment, that ignores signals."""
    script = 'trap "" TERM INT HUP; echo $$ > "$0"; while :; do sleep 1000; done'
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.closerange(0, 100)
            os.execve("/bin/sh", ["sh", "-c", script, str(folder / "daemon")], {})
        os._exit(0)
    os.wait()
    await_file(folder / "daemon")


def hang(folder: Path) -> None:
    daemonize(folder)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / "ready").write_text("yes")
    while True:
        time.sleep(1000)


HANG = 'setsid sh -c \'trap "" TERM; echo $$ > "$0"; sleep 1000\' "$0/daemon" & trap "" TERM; wait; sleep 1000'


def hanging(kind: str, folder: Path) -> Body:
    if kind == "command":
        return Command(("/bin/sh", "-c", HANG, str(folder)))
    return Call(hang, {"folder": folder})


@pytest.mark.parametrize("mode", ["thread", "far"])
@pytest.mark.parametrize("kind", ["process", "command"])
@pytest.mark.parametrize("grace_s", [0.0, 0.1])
def test_timeout_kills_the_whole_tree(bench: Open, tmp_path: Path, mode: str, kind: str, grace_s: float) -> None:
    made = bench(mode, hanging(kind, tmp_path), timeouts={"t"})
    outcome = made.run(timeout_s=3.0, grace_s=grace_s)  # a busy machine starts a task late
    assert (outcome.verdict, message_of(outcome)) == ("TIMED_OUT", "timed out after 3 s")
    assert not is_alive(int((tmp_path / "daemon").read_text()))


@pytest.mark.parametrize("mode", PROCESSES)
@pytest.mark.parametrize("kind", ["process", "command"])
def test_cancel_kills_the_whole_tree(bench: Open, tmp_path: Path, mode: str, kind: str) -> None:
    made = bench(mode, hanging(kind, tmp_path))
    node = made.submit()
    daemon = int(made.await_file(tmp_path / "daemon"))
    made.executor.cancel(node, 0.05)
    (outcome,) = made.collect()
    assert outcome.verdict == "CANCELLED"
    assert not is_alive(daemon)
    made.executor.cancel(node, 0.0)


@pytest.mark.parametrize("mode", PROCESSES)
@pytest.mark.parametrize("kind", ["process", "command"])
def test_processes_that_a_task_leaves_running_are_killed(bench: Open, tmp_path: Path, mode: str, kind: str) -> None:
    command = Command(("/bin/sh", "-c", 'setsid sleep 1000 & echo $! > "$0/daemon"', str(tmp_path)))
    made = bench(mode, command if kind == "command" else Call(daemonize, {"folder": tmp_path}))
    assert made.run().verdict == "SUCCESS"
    assert not is_alive(int((tmp_path / "daemon").read_text()))


@pytest.mark.parametrize("mode", PROCESSES)
def test_polite_end_runs_finally_blocks(bench: Open, tmp_path: Path, mode: str) -> None:
    def tidy() -> None:
        try:
            (tmp_path / "ready").write_text("yes")
            time.sleep(1000)
        finally:
            (tmp_path / "tidied").write_text("yes")

    made = bench(mode, tidy)
    node = made.submit()
    made.await_file(tmp_path / "ready")
    made.executor.cancel(node, LIMIT_S)
    assert made.collect()[0].verdict == "CANCELLED"
    assert (tmp_path / "tidied").exists()


@pytest.mark.parametrize("mode", PROCESSES)
def test_a_polite_close_lets_tasks_end(bench: Open, tmp_path: Path, mode: str) -> None:
    def tidy() -> None:
        try:
            (tmp_path / "worker-ready").write_text("yes")
            time.sleep(1000)
        finally:
            print("half a line", end="")
            (tmp_path / "worker-tidied").write_text("yes")

    script = "cd $0; trap 'echo yes > tidied; exit' TERM; echo yes > ready; while :; do sleep 0.01; done"
    made = bench(mode, {"w": Call(tidy), "c": Command(("/bin/sh", "-c", script, str(tmp_path)))})
    made.submit("w")
    made.submit("c")
    made.await_file(tmp_path / "ready")
    made.await_file(tmp_path / "worker-ready")
    made.executor.close(LIMIT_S)
    assert (tmp_path / "tidied").exists()
    assert (tmp_path / "worker-tidied").exists()
    assert (made.logs / "w-1.log").read_text() == "half a line"


@pytest.mark.parametrize("mode", PROCESSES)
@pytest.mark.parametrize(
    ("func", "code", "message"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -9, "worker killed by SIGKILL"),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), -11, "worker killed by SIGSEGV"),
        (lambda: os._exit(3), 3, "worker exited with code 3"),
    ],
)
def test_a_dead_worker_costs_its_own_task_only(
    bench: Open, tmp_path: Path, mode: str, func: Any, code: int, message: str
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def innocent() -> str:
        return fifo.read_text()

    def die() -> None:
        print("last words", flush=True)
        faulthandler.disable()
        func()

    made = bench(mode, {"innocent": Call(innocent), "die": Call(die)})
    made.submit("innocent")
    outcome = made.run("die")
    assert (outcome.verdict, message_of(outcome), outcome.exit_code) == ("FAILED", message, code)
    assert Path(str(outcome.log_path)).read_text() == "last words\n"
    fifo.write_text("fine")
    assert value_of(made.collect()[0]) == "fine"


@pytest.mark.parametrize("mode", PROCESSES)
def test_an_idle_worker_that_dies_costs_nothing(bench: Open, mode: str) -> None:
    made = bench(mode, os.getpid)
    os.kill(value_of(made.run()), signal.SIGKILL)
    made.executor.wait(0.05)
    assert made.run().verdict == "SUCCESS"


def test_a_killed_guardian_loses_attempts_and_leaves_nothing(bench: Open, tmp_path: Path) -> None:
    made = bench(
        "process",
        {"c": hanging("command", tmp_path), "w": hanging("process", tmp_path), "ok": Call(lambda: 1)},
    )
    made.submit("c")
    daemon = int(made.await_file(tmp_path / "daemon"))
    (tmp_path / "daemon").unlink()
    made.submit("w")
    made.await_file(tmp_path / "ready")
    session = made.executor.session
    assert session is not None
    os.kill(made.executor.guardian_pid, signal.SIGKILL)  # type: ignore[attr-defined]
    outcomes = made.collect(2)
    assert {(o.verdict, message_of(o)) for o in outcomes} == {("LOST", "the guardian process was killed")}
    assert tree.find_survivors(session) == []
    assert not is_alive(daemon)
    assert value_of(made.run("ok")) == 1
    assert made.executor.session != session


def test_a_hanging_thread_is_abandoned(bench: Open) -> None:
    release = threading.Event()

    def stuck() -> None:
        release.wait(LIMIT_S)

    made = bench("thread", {"stuck": Call(stuck), "ok": Call(lambda: 1)})
    node = made.submit("stuck")
    made.executor.cancel(node, 0.0)
    outcome = made.collect()[0]
    assert outcome.verdict == "CANCELLED"
    assert "abandoned" in message_of(outcome)
    assert value_of(made.run("ok")) == 1
    made.submit("stuck")
    made.executor.close(0.0)
    assert not release.is_set()
    release.set()


def test_a_coroutine_is_cancelled(bench: Open) -> None:
    started = threading.Event()

    async def sleep() -> None:
        started.set()
        await asyncio.sleep(1000)

    made = bench("async", sleep)
    node = made.submit()
    assert started.wait(LIMIT_S)
    made.executor.cancel(node, LIMIT_S)
    assert made.collect()[0].verdict == "CANCELLED"


# Outputs


def outputs_of(outcome: Outcome) -> dict[str, Any]:
    assert outcome.verdict == "SUCCESS", outcome
    named = {key: decode(payload) for key, payload in (outcome.pushed or {}).items()}
    return named if outcome.value is None else {**named, "return_value": decode(outcome.value)}


@pytest.mark.parametrize("mode", MODES)
def test_a_python_task_has_an_output_file(bench: Open, mode: str) -> None:
    def write() -> None:
        context = current_context()
        assert context.output_path is not None
        context.xcom_push("both", "pushed")
        lines = "n<<E; one; two; E; both=written; return_value=r".replace("; ", "\n")
        Path(context.output_path).write_text(lines)

    def fail() -> None:
        write()
        raise ValueError

    def mistake() -> None:
        Path(current_context().output_path or "").write_text("oops")

    def returns() -> int:
        write()
        return 3

    made = bench(mode, {task.__name__: Call(task) for task in (write, fail, mistake, returns)})
    assert outputs_of(made.run("write")) == {"n": "one\ntwo", "both": "pushed", "return_value": "r"}
    assert made.run("fail").pushed is None
    outcome = made.run("mistake")
    assert (outcome.verdict, outcome.value, outcome.pushed) == ("FAILED", None, None)
    assert message_of(outcome).startswith("$LIGHTFLOW_OUTPUT, line 1: expected")
    assert outputs_of(made.run("returns"))["return_value"] == 3
    assert outputs_of(made.run("write"))["n"] == "one\ntwo"


@pytest.mark.parametrize("mode", MODES)
def test_a_coroutine_has_an_output_file(bench: Open, mode: str) -> None:
    async def write() -> None:
        Path(current_context().output_path or "").write_text("a=1")

    assert outputs_of(bench(mode, write).run()) == {"a": "1"}


@pytest.mark.parametrize("mode", PROCESSES)
def test_a_worker_finds_its_output_file_in_the_environment(bench: Open, mode: str) -> None:
    def write(text: str) -> str:
        assert os.environ["GITHUB_OUTPUT"] == os.environ["LIGHTFLOW_OUTPUT"]
        os.system(f"echo {text} >> $LIGHTFLOW_OUTPUT")
        return os.environ["LIGHTFLOW_OUTPUT"]

    made = bench(mode, {"a": Call(write, {"text": "a=1"}), "b": Call(write, {"text": "b=2"})})
    first, second = outputs_of(made.run("a")), outputs_of(made.run("b"))
    assert first.pop("return_value") != second.pop("return_value")
    assert (first, second) == ({"a": "1"}, {"b": "2"})


@pytest.mark.parametrize("mode", PROCESSES)
def test_a_worker_that_dies_has_no_outputs(bench: Open, mode: str) -> None:
    def write(die: bool) -> None:
        os.system("echo a=1 >> $LIGHTFLOW_OUTPUT")
        if die:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)

    made = bench(mode, {"dies": Call(write, {"die": True}), "late": Call(write, {"die": False})})
    assert made.run("dies").pushed is None
    outcome = made.run("late", timeout_s=0.3, grace_s=0.1)
    assert (outcome.verdict, outcome.pushed) == ("TIMED_OUT", None)


def sh(script: str, **fields: Any) -> Command:
    return Command(("/bin/sh", "-c", script), **fields)


@pytest.mark.parametrize("mode", ["thread", "far"])
@pytest.mark.parametrize(
    ("script", "values"),
    [
        ("true", {}),
        ('echo "a=1 2" >> "$LIGHTFLOW_OUTPUT"; echo b=3 >> "$GITHUB_OUTPUT"', {"a": "1 2", "b": "3"}),
        ('printf "a<<X\\n1\\n2\\nX\\n" > "$LIGHTFLOW_OUTPUT"', {"a": "1\n2"}),
        ("""echo '{"n": [1, 2.5], "return_value": {"k": null}}' > "$LIGHTFLOW_OUTPUT\"""",
         {"n": [1, 2.5], "return_value": {"k": None}}),
        ('echo a=1 > "$LIGHTFLOW_OUTPUT"; rm "$LIGHTFLOW_OUTPUT"', {}),
        ('echo a=1 > x; mv x "$LIGHTFLOW_OUTPUT"', {"a": "1"}),
        # What is left in the background is ended before the file is read.
        ('echo a=1 > "$LIGHTFLOW_OUTPUT"; (setsid sh -c \'sleep 0.3; echo b=2 >> "$LIGHTFLOW_OUTPUT"\' &)', {"a": "1"}),
    ],
)  # fmt: skip
def test_a_command_writes_its_values(
    bench: Open, tmp_path: Path, mode: str, script: str, values: dict[str, Any]
) -> None:
    assert outputs_of(bench(mode, sh(script, cwd=str(tmp_path))).run()) == values


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('echo "no value" > "$LIGHTFLOW_OUTPUT"', "line 1: expected name=value"),
        ('ln -s /dev/zero "$LIGHTFLOW_OUTPUT"', "has become a symbolic link"),
        ('ln -s /nowhere "$LIGHTFLOW_OUTPUT"', "has become a symbolic link"),
        ('mkfifo "$LIGHTFLOW_OUTPUT"', "is no longer a regular file"),
        ('truncate -s 65M "$LIGHTFLOW_OUTPUT"', "pass large data in a file"),
        ('printf "a=1\\nb=\\0" > "$LIGHTFLOW_OUTPUT"', "line 2: holds a NUL byte"),
    ],
)
def test_a_file_that_cannot_be_understood_fails_the_command(bench: Open, script: str, words: str) -> None:
    outcome = bench("thread", sh(script)).run()
    assert (outcome.verdict, outcome.exit_code, outcome.pushed, outcome.value) == ("FAILED", 0, None, None)
    assert words in message_of(outcome)
    assert outcome.error is not None
    assert "PayloadError" in outcome.error.types


@pytest.mark.parametrize("end", ["exit 1", "exit 9", "kill -9 $$", "sleep 600"])
def test_a_command_that_does_not_succeed_has_no_outputs(bench: Open, end: str) -> None:
    body = sh(
        f'echo "return_value=1" > "$LIGHTFLOW_OUTPUT"; echo x; {end}', skip_on_exit_codes=(9,), output="last_line"
    )
    outcome = bench("thread", body, timeouts=["t"]).run(timeout_s=0.5, grace_s=0.1)
    assert outcome.verdict != "SUCCESS"
    assert (outcome.value, outcome.pushed) == (None, None)


@pytest.mark.parametrize("mode", ["thread", "far"])
@pytest.mark.parametrize(
    ("output", "script", "value"),
    [
        ("last_line", "echo one; echo two words; echo", "two words"),
        ("last_line", "echo one; echo err >&2", "err"),
        ("last_line", "true", None),
        ("last_line", "yes line | head -c 80000000; echo; echo end", "end"),
        ("last_line", 'echo one; echo "return_value=two" > "$LIGHTFLOW_OUTPUT"', "two"),
        ("json", """printf '{"a":\n[1,2]}\n'""", {"a": [1, 2]}),
        ("json", "echo 3", 3),
        (None, "echo 3", None),
    ],
)
def test_a_command_may_print_its_value(bench: Open, mode: str, output: Any, script: str, value: Any) -> None:
    assert value_of(bench(mode, sh(script, output=output)).run()) == value


def test_a_command_that_prints_no_json_fails(bench: Open) -> None:
    outcome = bench("thread", sh("echo oops", output="json")).run()
    assert (outcome.verdict, outcome.exit_code) == ("FAILED", 0)
    assert message_of(outcome).startswith("output: the printed text is not JSON: line 1")


def test_a_printed_value_needs_a_log(tmp_path: Path) -> None:
    info = RunInfo(run_id="r", dag_id="d", db_path=str(tmp_path / "db"), log_dir=None)
    with pytest.raises(DefinitionError, match="the value of task 't' is its printed output"):
        open_executor({"t": sh("true", output="json")}, info, slots=1)


# A worker is clean for each task


@pytest.mark.parametrize("mode", PROCESSES)
def test_workers_are_put_right_after_each_task(bench: Open, mode: str) -> None:
    def mess() -> int:
        os.chdir("/")
        os.umask(0o777)
        os.environ["STRAY"] = "1"
        sys.argv = ["other"]
        return os.getpid()

    def look() -> list[Any]:
        mask = os.umask(0)
        os.umask(mask)
        return [os.getpid(), os.getcwd(), mask, os.environ.get("STRAY"), sys.argv[0]]

    mask = os.umask(0)
    os.umask(mask)
    made = bench(mode, {"mess": Call(mess), "look": Call(look)})
    pid = value_of(made.run("mess"))
    assert value_of(made.run("look")) == [pid, os.getcwd(), mask, None, sys.argv[0]]


def test_each_task_has_its_variables_whatever_the_last_one_did_to_them(bench: Open) -> None:
    def mess() -> tuple[int, str | None]:
        before = os.environ.get("LIGHTFLOW_TASK")
        os.environ["LIGHTFLOW_TASK"] = "other"
        return os.getpid(), before

    def remove() -> tuple[int, str | None]:
        return os.getpid(), os.environ.pop("LIGHTFLOW_TASK", None)

    made = bench("process", {"mess": Call(mess), "remove": Call(remove)})
    pid, _ = value_of(made.run("mess"))
    for task in ("mess", "remove", "remove", "mess"):
        assert value_of(made.run(task)) == (pid, task)


@pytest.mark.parametrize("mode", PROCESSES)
def test_a_worker_that_cannot_be_put_right_is_replaced(bench: Open, mode: str) -> None:
    def handlers() -> int:
        signal.signal(signal.SIGALRM, lambda *_: None)
        return os.getpid()

    def closes() -> int:
        os.close(1)
        return os.getpid()

    made = bench(mode, {"handlers": Call(handlers), "closes": Call(closes)})
    pids = [value_of(made.run(task)) for task in ("handlers", "closes", "handlers")]
    assert len(set(pids)) == 3


@pytest.mark.parametrize("mode", ["thread", "far"])
def test_call_with_folder_and_environment_gets_a_process(bench: Open, tmp_path: Path, mode: str) -> None:
    def look() -> list[Any]:
        names = ("EXTRA", "LIGHTFLOW_TASK", "LIGHTFLOW_RUN_ID", "LIGHTFLOW_IDEMPOTENCY_KEY", "LIGHTFLOW_ATTEMPT")
        return [os.getcwd(), os.getpid(), *[os.environ.get(name) for name in names]]

    made = bench(mode, Call(look, cwd=str(tmp_path), env={"EXTRA": "1"}))
    cwd, pid, *rest = value_of(made.run())
    assert (cwd, rest) == (str(tmp_path), ["1", "t", "run-1", "run-1:t", "1"])
    assert pid != os.getpid()


# Commands


@pytest.mark.parametrize("mode", ["thread", "far"])
@pytest.mark.parametrize(
    ("argv", "verdict", "message", "code"),
    [
        (("true",), "SUCCESS", None, 0),
        (("sh", "-c", "exit 3"), "FAILED", "exit code 3", 3),
        (("sh", "-c", "exit 9"), "SKIPPED", "exit code 9", 9),
        (("sh", "-c", "kill -9 $$"), "FAILED", "killed by SIGKILL", -9),
        (("no-such-program",), "FAILED", "command not found: 'no-such-program'", 127),
        (("/etc/passwd",), "FAILED", "cannot start '/etc/passwd': it is not executable", 126),
        (("/bin/echo", "x" * 3_000_000), "FAILED", "cannot start '/bin/echo': argument 1 has 3,000,000 bytes", 126),
        (("/bin/echo", "\0"), "FAILED", "cannot start '/bin/echo': embedded null byte", 126),
        (("/bin/cat",), "SUCCESS", None, 0),
    ],
)
def test_commands(bench: Open, mode: str, argv: tuple[str, ...], verdict: str, message: str | None, code: int) -> None:
    outcome = bench(mode, Command(argv, skip_on_exit_codes=(9,))).run()
    assert (outcome.verdict, outcome.exit_code) == (verdict, code)
    assert message is None or message_of(outcome).startswith(message)
    assert outcome.log_path is None


@pytest.mark.parametrize("mode", ["thread", "far"])
def test_command_folder_environment_and_output(bench: Open, tmp_path: Path, mode: str) -> None:
    script = 'echo "$PWD $A $LIGHTFLOW_TASK $LIGHTFLOW_WORKFLOW $LIGHTFLOW_IDEMPOTENCY_KEY"; echo err >&2; (sleep 99 &)'
    made = bench(
        mode,
        {
            "t": Command(("/bin/sh", "-c", script), cwd=str(tmp_path), env={"A": "b"}),
            "lost": Command(("true",), cwd=str(tmp_path / "missing")),
        },
    )
    outcome = made.run()
    assert Path(str(outcome.log_path)).read_text() == f"{tmp_path} b t flow run-1:t\nerr\n"
    assert message_of(made.run("lost")).startswith(f"cannot start in the folder '{tmp_path}/missing'")


# A caller with threads


def _guardian_command_line() -> str:
    return Path(f"/proc/{os.getppid()}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_a_caller_with_threads_gets_a_fresh_interpreter_where_that_can_work(bench: Open) -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        made = bench("process", {"t": Call(os.getpid), "c": Command(("true",))})
        assert value_of(made.run("t")) != os.getpid()
        assert made.run("c").verdict == "SUCCESS"
        made.executor.close()
        made = bench("process", Call(_guardian_command_line))
        assert "liteflow.processes.guardian" in value_of(made.run("t"))
        made.executor.close()
        lock = threading.Lock()
        made = bench("process", Call(lambda lock: lock.locked(), {"lock": lock}))  # forked: there is no other way
        assert value_of(made.run("t")) is False
    finally:
        release.set()
        thread.join()


def test_wake_ends_the_wait(bench: Open) -> None:
    made = bench("inline", lambda: None)
    made.executor.wake()
    assert made.executor.wait(LIMIT_S) == []


# The queue


def _short() -> None:
    """End at once."""


QUEUES = ["thread", "process", "far"]


def _with_a_queue(bench: Open, mode: str, tmp_path: Path) -> tuple[Bench, Path, Path]:
    """Return an executor with two slots, the file that ends its long tasks, and the file to which each adds an x."""
    gate, started = tmp_path / "gate", tmp_path / "started"

    def wait_for_gate() -> None:
        with started.open("a") as file:
            file.write("x")
        while not gate.exists():
            time.sleep(0.002)

    opened = bench(mode, {"short": Call(_short), "long": Call(wait_for_gate)}, slots=2)
    assert opened.executor.queues
    return opened, gate, started


async def _coroutine() -> None:
    """End at once."""


def test_only_executors_of_one_backend_queue(bench: Open) -> None:
    assert not bench("thread", {"a": Call(_short), "b": Command(("true",))}).executor.queues
    assert not bench("async", Call(_coroutine)).executor.queues
    assert not bench("inline", Call(_short)).executor.queues


@pytest.mark.parametrize("mode", QUEUES)
def test_attempts_beyond_the_slots_run_when_a_slot_is_free(bench: Open, mode: str, tmp_path: Path) -> None:
    opened, _, _ = _with_a_queue(bench, mode, tmp_path)
    nodes = [opened.submit("short") for _ in range(66)]
    assert sorted(outcome.node for outcome in opened.collect(len(nodes))) == nodes


@pytest.mark.parametrize("mode", QUEUES)
def test_room_is_the_number_of_slots_without_an_attempt(bench: Open, mode: str, tmp_path: Path) -> None:
    opened, gate, _ = _with_a_queue(bench, mode, tmp_path)
    place = "far" if mode == "far" else ""
    assert opened.executor.room()[place] == 2
    opened.submit("long")
    assert opened.executor.room()[place] == 1
    opened.submit("long")
    opened.submit("short")
    expected = -1 if mode == "far" else 0  # a place far away says how many attempts have no slot
    assert opened.executor.room()[place] == expected, "a queued attempt takes no second slot"
    gate.touch()
    opened.collect(3)
    assert opened.executor.room()[place] == 2


def test_a_poll_takes_no_room(bench: Open) -> None:
    sensor = Call(_short, poll=Poll(func=_short))
    opened = bench("process", sensor, slots=2)
    work = Work(node=1, task_id="t", attempt=1, handle="null")
    opened.executor.poll([work])
    assert opened.executor.room() == {"": 2}
    opened.collect()
    opened.executor.want("", 5)
    assert opened.executor.room() == {"": 2}, "the slots of this machine do not grow"


@pytest.mark.parametrize("mode", QUEUES)
def test_no_more_attempts_run_than_there_are_slots(bench: Open, mode: str, tmp_path: Path) -> None:
    opened, gate, started = _with_a_queue(bench, mode, tmp_path)
    nodes = [opened.submit("long") for _ in range(10)]
    until(opened.executor, lambda: started.exists() and started.read_text() == "xx")
    assert opened.executor.wait(0.05) == []
    assert started.read_text() == "xx"
    gate.touch()
    outcomes = opened.collect(len(nodes))
    assert sorted(outcome.node for outcome in outcomes) == nodes
    first, second = nodes[:2]
    ended_at = min(outcome.ended_at for outcome in outcomes if outcome.node in (first, second))
    later = [outcome.started_at for outcome in outcomes if outcome.node not in (first, second)]
    assert all(started_at is not None and started_at >= ended_at for started_at in later)


@pytest.mark.parametrize("mode", QUEUES)
def test_queued_attempts_can_be_cancelled(bench: Open, mode: str, tmp_path: Path) -> None:
    opened, gate, started = _with_a_queue(bench, mode, tmp_path)
    nodes = [opened.submit("long") for _ in range(6)]
    until(opened.executor, lambda: started.exists() and started.read_text() == "xx")
    for node in nodes[2:]:
        opened.executor.cancel(node, 30.0)
    cancelled = opened.collect(4)
    assert sorted(outcome.node for outcome in cancelled) == nodes[2:]
    assert {(outcome.verdict, outcome.started_at) for outcome in cancelled} == {("CANCELLED", None)}
    assert {message_of(outcome) for outcome in cancelled} == {"cancelled before it started"}
    gate.touch()
    assert sorted(outcome.node for outcome in opened.collect(2)) == nodes[:2]


@pytest.mark.parametrize("mode", QUEUES)
def test_an_abandoned_task_makes_room_for_a_queued_one(bench: Open, mode: str, tmp_path: Path) -> None:
    opened, _, _ = _with_a_queue(bench, mode, tmp_path)
    stuck = [opened.submit("long") for _ in range(2)]
    waiting = opened.submit("short")
    for node in stuck:
        opened.executor.cancel(node, 0.0)
    outcomes = {outcome.node: outcome.verdict for outcome in opened.collect(3)}
    assert outcomes == {**dict.fromkeys(stuck, "CANCELLED"), waiting: "SUCCESS"}


@pytest.mark.parametrize("mode", PROCESSES)
def test_a_dying_worker_costs_its_own_task_and_no_queued_one(bench: Open, tmp_path: Path, mode: str) -> None:
    ran = tmp_path / "ran"

    def note() -> None:
        with ran.open("a") as file:
            file.write("x")

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    entry = bench(mode, {"note": Call(note), "die": Call(die)}, slots=2)
    words = ["note", "die", "note", "note", "die", "note", "note", "note", "note", "note"]
    nodes = {entry.submit(word): word for word in words}
    outcomes = {outcome.node: outcome for outcome in entry.collect(len(nodes))}
    assert {node: outcome.verdict for node, outcome in outcomes.items()} == {
        node: "FAILED" if word == "die" else "SUCCESS" for node, word in nodes.items()
    }
    assert ran.read_text() == "x" * words.count("note"), "each ran once"
    assert {message_of(outcomes[node]) for node, word in nodes.items() if word == "die"} == {"worker killed by SIGKILL"}


def test_a_killed_guardian_costs_what_ran_and_not_what_is_queued(bench: Open, tmp_path: Path) -> None:
    opened, gate, started = _with_a_queue(bench, "process", tmp_path)
    nodes = [opened.submit("long") for _ in range(6)]
    until(opened.executor, lambda: started.exists() and started.read_text() == "xx")
    os.kill(opened.executor.guardian_pid, signal.SIGKILL)  # type: ignore[attr-defined]
    lost = opened.collect(2)  # so that no queued attempt runs before the guardian is dead
    gate.touch()
    outcomes = lost + opened.collect(4)
    assert sorted(outcome.node for outcome in outcomes) == nodes
    assert {outcome.verdict for outcome in outcomes if outcome.node in nodes[2:]} == {"SUCCESS"}


# Descriptors that are not the task's


def sleeps(seconds: float) -> None:
    time.sleep(seconds)


def write_junk(junk: bytes, wait_s: float) -> str:
    for fd in range(3, 100):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):  # a pipe may be pytest's own
                os.write(fd, junk)
        except OSError:
            continue
    time.sleep(wait_s)
    return "done"


@pytest.mark.parametrize("mode", PROCESSES)
@pytest.mark.parametrize("junk", [b"a line of a log\n", b"\0", b"N", b"i\1\0\0\0", b"[" + b"\xff" * 40, b"x" * 40_000])
@pytest.mark.parametrize("wait_s", [0.0, 30.0])
def test_a_worker_whose_socket_holds_junk_costs_its_own_task_at_most(
    bench: Open, mode: str, junk: bytes, wait_s: float
) -> None:
    opened = bench(
        mode,
        {
            "junk": Call(write_junk, {"junk": junk, "wait_s": wait_s}),
            "neighbour": Call(sleeps, {"seconds": 0.3}),
            "after": Call(os.getpid),
        },
        slots=2,
    )
    nodes = {opened.submit(task_id): task_id for task_id in ("junk", "neighbour")}
    outcomes = {nodes[outcome.node]: outcome for outcome in opened.collect(2)}
    assert outcomes["neighbour"].verdict == "SUCCESS"
    if wait_s or outcomes["junk"].verdict != "SUCCESS":
        assert "not its own" in message_of(outcomes["junk"])
    assert opened.run("after").verdict == "SUCCESS"


# An exit that is not the task's


class ExitsWhenPickled:
    def __reduce__(self) -> Any:
        raise SystemExit(0)


def _exit_now() -> None:
    raise SystemExit(0)


class ExitsWhenUnpickled:
    def __reduce__(self) -> Any:
        return _exit_now, ()


def returns_odd() -> Any:
    return ExitsWhenPickled()


def pushes_odd() -> None:
    current_context().xcom_push("side", ExitsWhenPickled())


def takes(value: Any) -> Any:
    return repr(value)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("call", [Call(returns_odd), Call(pushes_odd), Call(takes, {"value": Ref("up")})])
def test_sys_exit_in_the_code_of_a_value_is_not_a_success(bench: Open, mode: str, call: Call) -> None:
    outcome = bench(mode, call).run(inputs={"up": encode(ExitsWhenUnpickled())})
    assert outcome.verdict == "FAILED"
    assert "SystemExit" in message_of(outcome)


# What a coroutine leaves in the background, and cancels itself


async def exits_in_the_background(how: str) -> str:
    async def background() -> None:
        if how == "exit":
            sys.exit(3)
        raise KeyboardInterrupt

    def callback() -> None:
        sys.exit(3)

    if how == "callback":
        asyncio.get_running_loop().call_soon(callback)
    else:
        task = asyncio.create_task(background())
        assert task
    await asyncio.sleep(600)
    return "never"


async def naps() -> str:
    await asyncio.sleep(0.3)
    return "rested"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["exit", "interrupt", "callback"])
def test_an_exit_in_the_background_of_a_coroutine_fails_that_task(bench: Open, mode: str, how: str) -> None:
    bodies: dict[str, Body] = {"exits": Call(exits_in_the_background, {"how": how}), "naps": Call(naps)}
    opened = bench(mode, bodies, slots=2)
    names = {opened.submit("naps"): "naps", opened.submit("exits"): "exits"}
    outcomes = {names[outcome.node]: outcome for outcome in opened.collect(2)}
    assert value_of(outcomes["naps"]) == "rested"
    assert outcomes["exits"].verdict == "FAILED"
    assert outcomes["exits"].exit_code == (None if how == "interrupt" else 3)
    assert value_of(opened.run("naps")) == "rested"


async def cancels(how: str) -> None:
    if how == "raises":
        raise asyncio.CancelledError
    if how == "itself":
        current = asyncio.current_task()
        assert current
        current.cancel()
        await asyncio.sleep(600)
    other = asyncio.create_task(asyncio.sleep(600))
    other.cancel()
    await other


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["raises", "itself", "another"])
def test_a_coroutine_that_was_not_cancelled_is_not_a_cancelled_task(bench: Open, mode: str, how: str) -> None:
    outcome = bench(mode, Call(cancels, {"how": how})).run()
    assert (outcome.verdict, message_of(outcome)) == ("FAILED", "CancelledError")


async def doubles(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_a_coroutine_runs_inline_where_a_loop_runs_already(bench: Open) -> None:
    opened = bench("inline", Call(doubles, {"number": 4}))

    async def notebook() -> Outcome:
        return opened.run()

    assert value_of(asyncio.run(notebook())) == 8


# What a task sets in its context


_noted: contextvars.ContextVar[int] = contextvars.ContextVar("noted", default=0)


def note(number: int) -> int:
    if number:
        _noted.set(number)
    return _noted.get()


@pytest.mark.parametrize("mode", MODES)
def test_context_variables_of_a_task_do_not_reach_the_next_task(bench: Open, mode: str) -> None:
    opened = bench(mode, {"sets": Call(note, {"number": 3}), "asks": Call(note, {"number": 0})}, slots=1)
    assert [value_of(opened.run(task_id)) for task_id in ("sets", "asks")] == [3, 0]
