"""Names, values, state files and checkpoints that were made to do harm.

Proved: no name leads out of the folders it belongs to; a value never becomes shell text; no command that looks at a
state file unpickles, executes, follows a log to a device or a pipe, or obeys what is planted in it; a checkpoint that
is a bomb is refused in one line; and what is printed for people holds no control characters.

Not proved, because it is not promised: safety from the author of a workflow, who runs programs as you anyway.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import inprocess
import pytest
from lines import ENV, LIGHTFLOW, Figure, replay, scale, seed

from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import loads_workflow
from liteflow import Dag, LiteflowError

NAMES = [
    "..",
    ".",
    "",
    "../x",
    "../../x",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a\0b",
    "a\nb",
    "a\rb",
    "-rf",
    "--help",
    "~",
    "~root",
    "%2e%2e%2f",
    "..%2f",
    "..%252f",
    "x" * 129,
    "x" * 300,
    "x" * 5000,
    " a",
    "a ",
    "a b",
    "*",
    "?",
    "[a]",
    "$HOME",
    "$(touch canary)",
    "`touch canary`",
    ";touch canary",
    "|touch canary",
    "&&touch canary",
    "'",
    '"',
    "a'b",
    "\x1b[2J",
    "\u202eevil",
    "a\u200bb",
    "\ufeffa",
    "con:",
    "a:b",
    "é",
    "\uff41",
    "ﬀ",
    "\ud800",
    "\U000e0001",
    "a\u2028b",
    "<b>",
    "{{x}}",
    "${{ x }}",
    "file:///etc/passwd",
    "http://x",
    "../.lightflow-checkpoints/x",
    ".lock",
    ".-x",
    "@a",
    "#a",
    "!a",
    "=a",
]
VALUES = [
    "$(touch canary)",
    "`touch canary`",
    "; touch canary",
    "| touch canary",
    "&& touch canary",
    "\n touch canary\n",
    "'; touch canary; '",
    '"; touch canary; "',
    "\\'; touch canary #",
    "$((1/0))",
    "${IFS}",
    "*",
    "?",
    "~",
    "-n",
    "-e \\x41",
    "%s%s%n",
    "\\0",
    "\\n",
    "!!",
    "\t",
    " lead and trail ",
    "é ü \U0001f600",
    "a=b",
    "()",
    "{ :;}; touch canary",
    "() { :;}; touch canary",
    "#",
    "\\",
    "$$",
    "$@",
    "\x01\x02\x7f",
    "x" * 60_000,
    "line1\nline2\n",
    "\r\n",
    "<(touch canary)",
    ">canary",
    "2>canary",
    "$'\\x41'",
    "\u202e",
]


class Canary:
    """Unpickling it makes the file that must never be there."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture(scope="module", autouse=True)
def preloaded() -> None:
    inprocess.preload()


def tree_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_names_are_refused_or_stay_in_their_place(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """As task id, workflow name, dag id and run id, in YAML and in Python, and as what commands are asked for."""
    chance, figure = random.Random(seed(request.config)), Figure("names", request)
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "good.yaml").write_text("workflow_name: good\ntasks: {a: {run: 'true'}}\n")
    before = tree_of(tmp_path)
    names = NAMES + ["".join(chance.choices("./\\%-_ a$'\"\n\0é\u202e", k=chance.randint(1, 20))) for _ in range(120)]
    allowed = 0
    for name in names:
        for text in (
            json.dumps({"workflow_name": "w", "tasks": {name: {"run": "true"}}}),
            json.dumps({"workflow_name": name, "tasks": {"a": {"run": "true"}}}),
            json.dumps(
                {"workflow_name": "w", "tasks": {"a": {"run": "true"}, "b": {"run": "true", "depends_on": [name]}}}
            ),
        ):
            try:
                loads_workflow(text, "w.json")
                allowed += 1
            except WorkflowError as error:
                figure.add("refused" if str(error).replace("\n", "").isprintable() else "unprintable")
        for make in (
            lambda n=name: Dag(n, str(inner / "x.db")),
            lambda n=name: Dag("d", str(inner / "x.db")).task(print, task_id=n),
        ):
            try:
                make()
                allowed += 1
            except (LiteflowError, ValueError, TypeError):
                figure.add("refused")
        figure.add("names")
    assert tree_of(tmp_path) == before
    shown = [name for name in names if "\0" not in name and "\ud800" not in name and not name.startswith("-")][:80]
    for name in shown:
        looks = [
            ["status", name],
            ["logs", "a", "--run", name],
            ["why", name],
            ["runs", name],
            ["list-checkpoints", name],
            ["resume", name],
            ["cancel", name],
            ["clear", name],
            ["template", name],
            ["run", "good.yaml", "--run-id", name],
        ]
        with_db = ("status", "logs", "why", "runs", "resume", "cancel", "clear", "run")
        batch = inprocess.commands(
            [[words[0], "--db", "none.db", *words[1:]] if words[0] in with_db else words for words in looks], inner
        )
        assert not batch.died, f"{name!r}: signal {batch.died}; {replay(request)}"
        for entry in batch.said:
            assert "Traceback" not in entry.text, f"{name!r}: {entry}"
            assert entry.code in (0, 1, 2, 3), f"{name!r}: {entry}"
            figure.add("commands")
    outside = {path for path in tree_of(tmp_path) - before if not path.startswith("outer/inner/")}
    assert not outside, f"made outside of the folder: {outside}"
    assert not list(tmp_path.rglob("canary"))
    figure.tell(allowed=allowed, escaped=0)
    assert "unprintable" not in figure.counts


def test_values_are_never_shell_text(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each value goes into `env` of a command and comes out of it byte for byte."""
    chance, figure = random.Random(seed(request.config)), Figure("shell-values", request)
    values = list(VALUES)
    letters = "$`'\"\\;|&<>(){}*?!~# \n\taé="
    values += [
        "".join(chance.choices(letters, k=chance.randint(1, 40))) for _ in range(round(160 * scale(request.config)))
    ]
    values = [value for value in values if "${{" not in value]  # which begins an expression
    tasks = {
        f"t{number}": {"run": f'printf %s "$VALUE" > out/{number}', "env": {"VALUE": value}}
        for number, value in enumerate(values)
    }
    (tmp_path / "out").mkdir()
    (tmp_path / "flow.json").write_text(json.dumps({"workflow_name": "flow", "tasks": tasks}))
    done = subprocess.run(
        [*LIGHTFLOW, "run", "flow.json", "--db", "state.db", "-q"],
        cwd=tmp_path,
        env=ENV,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for number, value in enumerate(values):
        assert (tmp_path / "out" / str(number)).read_bytes() == value.encode(), repr(value)
    assert not list(tmp_path.rglob("canary"))
    figure.tell(values=len(values), changed=0, executed=0)


def _plant(db: str, folder: Path, chance: random.Random) -> str:
    """Something bad in a sound state file; returns what."""
    canary = str(folder / "canary")
    pickled = pickle.dumps(Canary(canary))
    odd = [
        "\x1b[2J\x1b]0;owned\x07",
        "a\nb\rc",
        "\u202eevil",
        "x" * 100_000,
        "",
        "../../../etc/passwd",
        "$(touch canary)",
        f"<script>x</script>{canary}",
        "[" * 100_000,
        '{"a":' * 3_000,
        '{"tasks": 5}',
        '{"tasks": [5, {"id": []}, {}]}',
        '{"tasks": [{"id": "a", "depends_on": ["a", 5], "rule": [], "kind": {}}]}',
        "[1, null, {}]",
        "1e999",
        "NaN",
        '{"log_dir": 5, "mode": [], "max_workers": "x"}',
    ]
    numbers = [1e308, -1e308, 1e18, float("inf"), float("-inf"), 0.0, -1.0]
    whole = [2**63 - 1, -(2**63), -1, 0, 10**12]
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("DROP TRIGGER IF EXISTS liteflow_attempt_is_final")
    kind = chance.randrange(8)
    what = ""
    try:
        if kind < 4:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type='table'")]
            table = chance.choice([name for name in tables if name.startswith("liteflow_")])
            columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
            _, column, declared, *_ = chance.choice(columns)
            value = chance.choice({"TEXT": odd, "REAL": numbers, "INTEGER": whole}.get(declared, [pickled, *odd]))
            what = f"{table}.{column} = {value!r:.60}"
            connection.execute(f"UPDATE OR IGNORE {table} SET {column}=?", (value,))
        elif kind == 4:
            what = "pickles"
            for encoding in ("pickle", "json", "tagged"):
                connection.execute(
                    "INSERT OR REPLACE INTO liteflow_xcom SELECT run_id, 'a', -1, ?, ?, ?, 5, NULL, "
                    "NULL, 0.0 FROM liteflow_dag_runs",
                    (f"k{encoding}", encoding, pickled),
                )
        elif kind == 5:
            path = chance.choice(
                ["/dev/zero", "/proc/self/mem", str(folder / "fifo"), str(folder), "/dev/tty", "a\0b", ""]
            )
            what = f"log_path = {path!r}"
            connection.execute("UPDATE liteflow_attempts SET log_path=?", (path,))
        elif kind == 6:
            file = chance.choice(["../../../../etc/passwd", "/etc/passwd", "x/../../..", "nowhere", "a\0b"])
            what = f"xcom file = {file!r}"
            connection.execute(
                "INSERT OR REPLACE INTO liteflow_xcom SELECT run_id, 'a', -1, 'return_value', 'json', "
                "NULL, 5, ?, 'x', 0.0 "
                "FROM liteflow_dag_runs",
                (file,),
            )
        else:
            what = "a view and triggers in place of tables"
            connection.execute("ALTER TABLE liteflow_attempts RENAME TO stolen")
            connection.execute("CREATE VIEW liteflow_attempts AS SELECT *, load_extension('x') AS extra FROM stolen")
        connection.commit()
    finally:
        connection.close()
    return what


LOOKS = [
    ["status"],
    ["status", "--json"],
    ["runs"],
    ["runs", "--json"],
    ["list"],
    ["logs", "a"],
    ["why", "b"],
    ["doctor"],
    ["dag", "--run", "latest", "--format", "mmd"],
    ["dag", "--run", "latest", "--format", "dot"],
    ["dag", "--run", "latest", "--output", "page.html"],
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    (folder / "flow.yaml").write_text(
        "workflow_name: flow\ntasks:\n  a: {run: echo said a}\n  b: {run: exit 3, depends_on: [a]}\n"
        "  c: {run: x, depends_on: [b]}\n"
    )
    done = subprocess.run(
        [*LIGHTFLOW, "run", "flow.yaml", "--db", "state.db", "-q"],
        cwd=folder,
        env=ENV,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    connection = sqlite3.connect(folder / "state.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    return folder


def test_planted_state_files(sound: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Sound databases with bad contents, shown by every command that looks."""
    chance, figure = random.Random(seed(request.config)), Figure("planted", request)
    os.mkfifo(tmp_path / "fifo")
    db = tmp_path / "state.db"
    for number in range(round(150 * scale(request.config))):
        db.write_bytes((sound / "state.db").read_bytes())
        what = f"{number}: {_plant(str(db), tmp_path, chance)}; {replay(request)}"
        looks = LOOKS if "log_path" in what else chance.sample(LOOKS, 6)
        batch = inprocess.commands([[*words, "--db", "state.db"] for words in looks], tmp_path)
        assert not batch.died, f"signal {batch.died}: {what}"
        for entry in batch.said:
            assert "Traceback" not in entry.text, f"{entry}: {what}"
            assert entry.code in (0, 1, 2, 3), f"{entry.arguments} {entry.code} {entry.text[-500:]}: {what}"
            if entry.arguments[0] not in ("logs", "dag"):
                shown = entry.text.replace("\n", "")
                assert "--json" in entry.arguments or shown.isprintable(), f"{entry.text[:2000]!r}: {what}"
            figure.add("looks")
        assert not (tmp_path / "canary").exists(), what
        for left in tmp_path.glob("state.db*"):
            left.unlink()
        figure.add("files")
    figure.tell(executed=0, unpickled=0, hung=0, tracebacks=0)


def test_control_the_planted_pickle_is_live(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The negative control: unpickled once, it does make the file."""
    pickle.loads(pickle.dumps(Canary(str(tmp_path / "canary"))))
    assert (tmp_path / "canary").exists()
    Figure("planted-control", request).tell(unpickled=1, executed=1)


CHECKPOINTS = {
    "deep": "[" * 200_000,
    "deep_object": '{"a":' * 200_000,
    "inside": '{"workflow_name": "flow", "completed_tasks": ' + "[" * 100_000,
    "digits": '{"workflow_name": "flow", "completed_tasks": {}, "total_tasks": ' + "9" * 100_000 + "}",
    "not_a_number": '{"workflow_name": "flow", "completed_tasks": {"a": {"success": true, "duration": NaN}}}',
    "infinite": '{"workflow_name": "flow", "completed_tasks": {"a": {"success": true, "duration": 1e999}}}',
    "types": '{"workflow_name": [], "run_id": {}, "timestamp": 5, "status": null, '
    '"completed_tasks": {"a": 5, "b": []}}',
    "names": '{"workflow_name": "flow", "completed_tasks": {"../../x": {"success": true}, '
    '"\\u0000": {"success": true}}}',
    "escapes": '{"workflow_name": "\\u001b[2J", "status": "\\u001b]0;x\\u0007", "timestamp": "\\u202e", '
    '"completed_tasks": {}}',
    "surrogate": '{"workflow_name": "\\ud800", "completed_tasks": {"\\ud800": {"success": true}}}',
    "version": '{"version": "99.0", "completed_tasks": {}}',
    "version_type": '{"version": {"a": []}, "completed_tasks": {}}',
    "many": '{"workflow_name": "flow", "completed_tasks": {'
    + ",".join(f'"t{n}": {{"success": true}}' for n in range(50_000))
    + "}}",
    "list": "[]",
    "text": "hello",
    "empty": "",
    "null": "null",
    "bytes": "\xff\xfe\0",
}


def cpu_of_children() -> float:
    """Return the seconds of processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_checkpoints_that_are_bombs(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Listed, and resumed from: one line each, in no time; what is said to be done but unknown is passed over."""
    figure = Figure("checkpoints", request)
    folder = tmp_path / ".lightflow-checkpoints"
    folder.mkdir()
    (tmp_path / "flow.yaml").write_text("workflow_name: flow\ntasks: {a: {run: 'echo a >> trail'}}\n")
    for name, text in CHECKPOINTS.items():
        path = folder / f"{name}.lightflow-checkpoint.json"
        path.write_bytes(text.encode("latin-1") if name == "bytes" else text.encode())
        before_s = cpu_of_children()
        batch = inprocess.commands(
            [
                ["list-checkpoints"],
                ["list-checkpoints", "--json"],
                ["list-checkpoints", "flow"],
                ["resume", "flow.yaml", "--db", f"{name}.db", "--from-checkpoint", str(path), "-q"],
                ["run", "flow.yaml", "--db", f"{name}2.db", "--resume", "-q"],
            ],
            tmp_path,
        )
        assert not batch.died, f"{name}: signal {batch.died}"
        for entry in batch.said:
            assert "Traceback" not in entry.text, f"{name}: {entry}"
            assert entry.code in (0, 2, 3), f"{name}: {entry.arguments} {entry.code} {entry.text[-800:]}"
            figure.add("commands")
            if "--json" not in entry.arguments:
                assert entry.text.replace("\n", "").isprintable(), f"{name}: {entry.text!r}"
        assert cpu_of_children() - before_s < 20
        path.unlink()
        figure.add("files")
    link = folder / f"link{'.lightflow-checkpoint.json'}"
    link.symlink_to("/dev/zero")
    os.mkfifo(folder / "fifo.lightflow-checkpoint.json")
    batch = inprocess.commands(
        [["list-checkpoints"], ["run", "flow.yaml", "--db", "last.db", "--resume", "-q"]], tmp_path
    )
    assert not batch.died, "a checkpoint that is a device or a pipe: it hangs"
    assert [entry.code for entry in batch.said] == [0, 0]
    figure.tell(tracebacks=0, hung=0, escaped=len(tree_of(tmp_path) & {"x"}))


def test_output_of_a_task_does_nothing_to_a_terminal(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Escape sequences in output and in reasons: on a terminal they are shown, not obeyed."""
    import pexpect

    (tmp_path / "flow.yaml").write_text(
        "workflow_name: flow\ntasks:\n"
        "  a: {run: \"printf '\\\\033]0;owned\\\\007\\\\033[2J\\\\033]52;c;eA==\\\\007\\\\233m done\\\\n'; exit 3\"}\n"
    )
    screen = pexpect.spawn(
        sys.executable,
        ["-m", "lightflow", "run", "flow.yaml", "--db", "state.db"],
        cwd=str(tmp_path),
        env={**ENV, "TERM": "xterm", "COLUMNS": "200"},
        timeout=200,
    )
    try:
        shown = screen.read()
    finally:
        screen.close(force=True)
    logs = pexpect.run(
        f"{sys.executable} -m lightflow logs a --db state.db",
        cwd=str(tmp_path),
        env={**ENV, "TERM": "xterm"},
        timeout=200,
    )
    for text in (shown, logs):
        assert b"done" in text
        for bad in (b"\x1b]", b"\x1b[2J", b"\x9b"):
            assert bad not in text, text
    Figure("terminal", request).tell(obeyed=0)


def test_what_a_run_writes_is_for_its_owner_alone(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """State file, its log and locks, output, checkpoints: they hold values, parameters and output."""
    (tmp_path / "flow.yaml").write_text("workflow_name: flow\ntasks: {a: {run: echo said}}\n")
    (tmp_path / "flow.py").write_text(
        "from liteflow import Dag\nwith Dag('big') as dag:\n    dag.task(lambda: 'x' * 11_000_000, task_id='big')\n"
    )
    before = tree_of(tmp_path)
    for file in ("flow.yaml", "flow.py"):
        done = subprocess.run(
            ["sh", "-c", f"umask 000; exec {sys.executable} -m lightflow run {file} --db state.db -q"],
            cwd=tmp_path,
            env=ENV,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    made = [path for path in tmp_path.rglob("*") if str(path.relative_to(tmp_path)) not in before]
    open_to_others = [
        str(path.relative_to(tmp_path)) for path in made if path.is_file() and path.stat().st_mode & 0o077
    ]
    assert len(made) >= 6
    Figure("modes", request).tell(files=len(made), open_to_others=len(open_to_others))
    assert not open_to_others
