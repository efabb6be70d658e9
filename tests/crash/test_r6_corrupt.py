"""R6: state files that are damaged, cut short, or something else altogether.

Proved: no command that looks (`status`, `runs`, `list`, `logs`, `why`, `outputs`, `dag`, `doctor`) changes such a file
by a byte, ends by a signal, hangs, or shows a traceback; each ends with a documented exit code and says what to do.
`resume` and the readers of `History` raise errors of ours only.

Not proved: that damage is always noticed. SQLite has no checksums: a flipped letter in a text is another text.
"""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import inprocess
import pytest
from lines import ENV, LIGHTFLOW, Figure, replay, scale, seed

from liteflow.errors import LiteflowError
from liteflow.state.history import History

FLOW = """\
workflow_name: flow
description: To be damaged
tasks:
  a: {run: "echo said a; echo a=1 >> $LIGHTFLOW_OUTPUT; echo '{\\"n\\": [1, 2]}' >> $LIGHTFLOW_OUTPUT"}
  b: {run: "echo said b; exit 3", depends_on: [a]}
  c: {type: python, run: "print('said c')", depends_on: [a]}
  d: {run: "true", depends_on: [b, c]}
settings: {retries: 1, log_dir: logs}
"""
LOOKS = [
    ["status"],
    ["runs"],
    ["list"],
    ["logs", "a"],
    ["why", "d"],
    ["outputs"],
    ["outputs", "a", "--json"],
    ["doctor"],
    ["status", "--json"],
    ["dag", "flow.yaml", "--run", "latest", "--format", "mmd"],
]
READERS = {0, 2, 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a state file of three runs, whole and in one file."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "flow.yaml").write_text(FLOW)
    for _ in range(3):
        command = [*LIGHTFLOW, "run", "flow.yaml", "--db", "whole.db", "-q"]
        done = subprocess.run(command, cwd=folder, env=ENV, capture_output=True, check=False)
        assert done.returncode == 1, done.stderr
    connection = sqlite3.connect(folder / "whole.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    for left in ("whole.db-wal", "whole.db-shm"):
        (folder / left).unlink(missing_ok=True)
    inprocess.preload()
    return folder


def _flip(data: bytes, chance: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        result[chance.randrange(len(result))] = chance.randrange(256)
    return bytes(result)


def _flip_header(data: bytes, chance: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        result[chance.randrange(16, 116)] = chance.randrange(256)
    return bytes(result)


def _flip_page_head(data: bytes, chance: random.Random) -> bytes:
    result = bytearray(data)
    page = chance.randrange(len(data) // 4096)
    for _ in range(chance.randint(1, 4)):
        result[page * 4096 + (100 if page == 0 else 0) + chance.randrange(40)] = chance.randrange(256)
    return bytes(result)


def _blank_page(data: bytes, chance: random.Random) -> bytes:
    page = chance.randrange(len(data) // 4096) * 4096
    return data[:page] + chance.choice((b"\0", b"\xff")) * 4096 + data[page + 4096 :]


def _swap_pages(data: bytes, chance: random.Random) -> bytes:
    entry, two = sorted(chance.sample(range(len(data) // 4096), 2))
    pages = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    pages[entry], pages[two] = pages[two], pages[entry]
    return b"".join(pages)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) // 64) * 64]


def _foreign(data: bytes, chance: random.Random) -> bytes:
    return chance.choice(
        (
            b"",
            b"\0" * 8192,
            b"workflow_name: text\n" * 200,
            b"\x1f\x8b\x08" + chance.randbytes(3000),
            b"SQLite format 3\0" + chance.randbytes(chance.choice((10, 84, 4080, 9000))),
            data[:100] + chance.randbytes(len(data) - 100),
            chance.randbytes(5000),
            struct.pack(">II", 0x7F454C46, 1) * 900,
        )
    )


def _other_words(data: bytes, chance: random.Random) -> bytes:
    """Texts replaced by others of the same length: the file is a good database with bad contents."""
    word = chance.choice((b"SUCCESS", b"FAILED", b"RUNNING", b"echo", b"tasks", b"depends_on", b"liteflow_", b"flow"))
    letters = chance.choice((b"\xff\xfe", b"\0", b"[", b"{", b'"', b"\x1b[2J", b"9"))
    return data.replace(word, (letters * len(word))[: len(word)], chance.choice((-1, 1, 2)))


DAMAGE: list[Callable[[bytes, random.Random], bytes]] = [
    _flip, _flip_header, _flip_page_head, _blank_page, _swap_pages, _cut, _cut, _foreign, _other_words,
]  # fmt: skip


@pytest.mark.parametrize("part", range(2))
def test_damaged_state_files(made: Path, tmp_path: Path, part: int, request: pytest.FixtureRequest) -> None:
    config = request.config
    chance, figure = random.Random(seed(config) * 2 + part), Figure("R6", request)
    whole = (made / "whole.db").read_bytes()
    path = tmp_path / "state.db"
    (tmp_path / "flow.yaml").write_text(FLOW)
    for number in range(round(500 * scale(config))):
        kind = DAMAGE[number % len(DAMAGE)]
        data = kind(whole, chance)
        path.write_bytes(data)
        again = f"{kind.__name__} {number}; {replay(request)}"
        looks = [LOOKS[0], *chance.sample(LOOKS[1:], 3)]
        _look(tmp_path, path, data, looks, figure, again)
        if number % 4 == 0:
            _resume(tmp_path, figure, again)
        for left in tmp_path.glob("state.db*"):
            left.unlink()
        figure.add("files")
    figure.tell(tracebacks=0, crashes=0, changed=0)
    assert figure.counts["refused"] > figure.counts["files"] // 4  # most of the damage was there to be seen


def _look(folder: Path, path: Path, data: bytes, looks: list[list[str]], figure: Figure, again: str) -> None:
    batch = inprocess.commands([[*words, "--db", "state.db"] for words in looks], folder)
    assert not batch.died, f"ended by signal {batch.died}: {again}"
    assert len(batch.said) == len(looks), again
    for entry in batch.said:
        figure.add("looks")
        assert "Traceback" not in entry.text, f"{entry}: {again}"
        allowed = READERS | {1} if entry.arguments[0] == "doctor" else READERS
        assert entry.code in allowed, f"{entry}: {again}"
        if entry.code and entry.arguments[0] != "doctor":
            assert entry.text.startswith("error: "), f"{entry}: {again}"
            figure.add("refused", entry.arguments[0] == "status")
    assert path.read_bytes() == data, f"changed by looking: {again}"


def _resume(folder: Path, figure: Figure, again: str) -> None:
    batch = inprocess.commands(
        [["resume", "flow.yaml", "--db", "state.db", "-q"], ["clear", "flow", "--db", "state.db"]], folder
    )
    assert not batch.died, f"resume ended by signal {batch.died}: {again}"
    for entry in batch.said:
        assert "Traceback" not in entry.text, f"{entry}: {again}"
        assert entry.code in (0, 1, 2, 3, 5), f"{entry}: {again}"
        figure.add("resumes", entry.arguments[0] == "resume")


def test_readers_raise_errors_of_the_engine_only(made: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Every method of `History`, on damaged files; in one process, as a dashboard would."""
    config = request.config
    chance, figure = random.Random(seed(config)), Figure("R6-history", request)
    whole = (made / "whole.db").read_bytes()
    with History(str(made / "whole.db")) as history:
        run_id, digest = history.latest().run_id, history.latest().graph_digest
    for number in range(round(400 * scale(config))):
        data = DAMAGE[number % len(DAMAGE)](whole, chance)
        path = tmp_path / f"{number}.db"
        path.write_bytes(data)
        try:
            with History(str(path)) as history:
                for read in (
                    lambda h=history: [h.counts(entry.run_id) for entry in h.runs()],
                    lambda h=history: h.run(run_id),
                    lambda h=history: h.instances(run_id),
                    lambda h=history: h.attempts(run_id),
                    lambda h=history: h.events(),
                    lambda h=history: h.values(run_id),
                    lambda h=history: h.value(run_id, "c"),
                    lambda h=history: h.graph(digest),
                    lambda h=history: h.dags(),
                    lambda h=history: list(h.run_ids("flow")),
                ):
                    try:
                        read()
                        figure.add("read")
                    except LiteflowError as error:
                        figure.add("refused" if str(path) in str(error) else "nameless")
        except LiteflowError as error:
            figure.add("not_opened" if str(path) in str(error) else "nameless")
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(data).digest()
        for left in tmp_path.glob(f"{number}.db*"):
            os.unlink(left)
    figure.tell(other_errors=0)
    assert "nameless" not in figure.counts


def test_control_a_reader_without_the_defences_fails(
    made: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The negative control: plain `sqlite3` on the same files raises what no command may show."""
    chance, bad = random.Random(seed(request.config)), 0
    whole = (made / "whole.db").read_bytes()
    for number in range(150):
        path = tmp_path / "plain.db"
        path.write_bytes(DAMAGE[number % len(DAMAGE)](whole, chance))
        connection = sqlite3.connect(path)
        try:
            connection.execute("SELECT * FROM liteflow_dag_runs").fetchall()
        except (sqlite3.Error, UnicodeDecodeError):
            bad += 1
        finally:
            connection.close()
        for left in tmp_path.glob("plain.db*"):
            left.unlink()
    Figure("R6-control", request).tell(files=150, raised=bad)
    assert bad > 20
