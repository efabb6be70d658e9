"""Attempts on other machines: what dies with what, what is lost and when, and one sentence for what cannot work.

The agents are on this machine. The placer and the link are those of any machine.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from far_kit import AGENT, LIMIT_S, Far, agents_in, opened_executors
from process_kit import is_alive
from tls_kit import certificates

from liteflow.errors import DefinitionError, LiteflowError, ResourceError
from liteflow.processes import tree
from liteflow.record import fields_of, replace
from liteflow.remote.shipping import ByName
from liteflow.values.payload import decode, encode
from liteflow.values.secrets import Secrets
from liteflow.work import Call, Command, Outcome, Ref

SHORT_LEASE_S = 3.0  # an agent on a busy machine may not get the processor for a second
DAEMON = 'setsid sh -c \'trap "" TERM; echo $$ > "$0.new"; mv "$0.new" "$0"; sleep 1000\' "$0" & wait; sleep 1000'


Open = Callable[..., Far]


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    with opened_executors(tmp_path, monkeypatch) as make:
        yield make


def awaited(path: Path) -> int:
    """Return the process id in a file, once it is there."""
    give_up = time.monotonic() + LIMIT_S
    while not path.exists():
        assert time.monotonic() < give_up, path
        time.sleep(0.005)
    return int(path.read_text())


def message_of(outcome: Outcome) -> str:
    assert outcome.error is not None, outcome
    return outcome.error.message


def daemon(path: Path) -> Command:
    """Return a command that ignores signals, in a session of its own."""
    return Command(("/bin/sh", "-c", DAEMON, str(path)))


# What ends with what


@pytest.mark.parametrize("victim", ["agent", "guardian", "both", "keeper", "placer"])
def test_a_killed_part_leaves_nothing_and_the_attempt_is_lost_once_it_is_dead(
    far: Open, tmp_path: Path, victim: str
) -> None:
    made = far({"t": daemon(tmp_path / "pid"), "ok": Call(lambda: 3)})
    made.ready(2)
    made.submit("t")
    pid = made.awaited(tmp_path / "pid")
    ((keeper, agent),) = made.agents()
    guardian = next(row.pid for row in tree.processes().values() if row.parent == agent)
    placer = tree.processes()[keeper].parent
    if victim == "both":
        os.kill(agent, signal.SIGSTOP)  # else it may report the end of its guardian, and be given the next attempt
    for target in {"both": (guardian, agent)}.get(victim) or (locals()[victim],):
        os.kill(target, signal.SIGKILL)
    (outcome,) = made.collect()
    assert outcome.verdict == "LOST"
    assert not is_alive(pid), "an attempt is lost when nothing of it lives"
    assert outcome.host == "w1"
    made.submit("ok")
    (outcome,) = made.collect()
    assert outcome.verdict == "SUCCESS", outcome
    assert decode(outcome.value) == 3  # type: ignore[arg-type]


def test_the_lease_ends_what_a_stopped_owner_has_started(far: Open, tmp_path: Path) -> None:
    made = far({"t": daemon(tmp_path / "pid")}, lease_s=SHORT_LEASE_S)
    made.ready(1)
    made.submit("t")
    pid = made.awaited(tmp_path / "pid")
    give_up = time.monotonic() + LIMIT_S  # the owner does not answer: it does not even look
    while is_alive(pid):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    (outcome,) = made.collect()
    assert outcome.verdict == "LOST"


@pytest.mark.parametrize("victim", ["agent", "both"])
def test_a_stopped_agent_does_not_outlive_its_lease(far: Open, tmp_path: Path, victim: str) -> None:
    made = far({"t": daemon(tmp_path / "pid"), "ok": Call(lambda: 3)}, lease_s=SHORT_LEASE_S)
    made.ready(1)
    made.submit("t")
    pid = made.awaited(tmp_path / "pid")
    ((_, agent),) = made.agents()
    guardian = next(row.pid for row in tree.processes().values() if row.parent == agent)
    for target in (agent,) if victim == "agent" else (guardian, agent):
        os.kill(target, signal.SIGSTOP)
    (outcome,) = made.collect()
    assert (outcome.verdict, is_alive(pid)) == ("LOST", False)
    made.submit("ok")
    assert made.collect()[0].verdict == "SUCCESS", "another agent takes its place"


OWNER = """
import json, os, sys, time
from far_kit import cluster_of
from liteflow.executors import open_executor
from liteflow.remote.lane import lane_of
from liteflow.work import Command, RunInfo, Work

folder, argv = sys.argv[1], tuple(json.loads(sys.argv[2]))
info = RunInfo(run_id="r", dag_id="d", db_path=f"{folder}/db", log_dir=f"{folder}/logs")
cluster = cluster_of({"w1": 1}, lease_s=60.0)
lanes = {"far": lane_of("far", cluster)}
executor = open_executor({"t": Command(argv)}, info, mode="far", slots=1, lanes=lanes)
executor.submit(Work(node=1, task_id="t", attempt=1, log_path=f"{folder}/logs/t.log"))
while True:
    executor.wait(1.0)
"""


def test_a_killed_owner_takes_everything_along(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = daemon(tmp_path / "pid")
    owner = start(f"import sys; sys.path[:0] = {sys.path!r}\n" + OWNER, str(tmp_path), json.dumps(command.argv))
    pid = awaited(tmp_path / "pid")
    os.kill(owner.pid, signal.SIGKILL)
    give_up = time.monotonic() + LIMIT_S
    while is_alive(pid) or agents_in(str(tmp_path)):
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_slots_that_are_idle_are_given_back_and_an_agent_that_leaves_ends(far: Open) -> None:
    made = far({"ok": Call(lambda: 1)}, {"w1": 1, "w2": 1})
    made.ready(2)
    assert len(made.agents()) == 2
    made.executor._backends["far"]._fleet.want(1)  # type: ignore[attr-defined]  # as after ten idle seconds
    made.until(lambda: len(made.agents()) == 1)
    made.submit("ok")
    assert made.collect()[0].verdict == "SUCCESS"


def test_a_line_that_comes_with_the_ticket_counts(far: Open) -> None:
    argv = with_python(
        "import liteflow.remote.agent as a; whole = a._read_ticket\n"
        "a._read_ticket = lambda: (whole()[0], b'{\"slots\": 3}\\n')"
    )
    made = far({"ok": Call(os.getpid)}, argv=argv)
    made.executor.want("far", 1)
    made.until(lambda: made.executor.room()["far"] == 3)


# Attempts that are sent before there is a slot


def wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.01)


def test_attempts_queued_behind_a_long_one_go_to_an_agent_with_a_free_slot(far: Open, tmp_path: Path) -> None:
    gates = [str(tmp_path / "gate1"), str(tmp_path / "gate2")]
    made = far(
        {
            "long": Call(wait_for, {"path": gates[0]}),
            "short": Call(wait_for, {"path": gates[1]}),
            "q": Call(os.getpid),
        },
        {"w1": 1, "w2": 1},
    )
    made.ready(2)
    made.submit("long")
    made.submit("short")
    nodes = [made.submit("q") for _ in range(6)]
    assert made.executor.room()["far"] == -6
    Path(gates[1]).touch()
    outcomes = made.collect(7)
    assert {outcome.node for outcome in outcomes} == {2, *nodes}
    assert {outcome.verdict for outcome in outcomes} == {"SUCCESS"}
    assert len({outcome.host for outcome in outcomes}) == 1, "the other machine is busy"
    Path(gates[0]).touch()
    assert made.collect()[0].verdict == "SUCCESS"


def test_an_attempt_that_is_queued_at_an_agent_can_be_cancelled(far: Open, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    made = far({"long": Call(wait_for, {"path": gate}), "q": Call(os.getpid)}, {"w1": 1})
    made.ready(1)
    made.submit("long")
    node = made.submit("q")
    made.executor.cancel(node, 0.0)
    (outcome,) = made.collect()
    assert (outcome.node, outcome.verdict, outcome.started_at) == (node, "CANCELLED", None)
    node = made.submit("q")
    for _ in range(60):  # it is given back meanwhile
        made.executor.wait(0.01)
    made.executor.cancel(node, 0.0)
    (outcome,) = made.collect()
    assert (outcome.node, outcome.verdict, outcome.started_at) == (node, "CANCELLED", None)
    Path(gate).touch()
    assert made.collect()[0].verdict == "SUCCESS"


def test_attempts_queued_at_an_agent_that_leaves_run_elsewhere(far: Open, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    made = far({"long": Call(wait_for, {"path": gate}), "q": Call(os.getpid)}, {"w1": 1, "w2": 1})
    made.ready(2)
    for _ in range(2):
        made.submit("long")
    for _ in range(4):
        made.submit("q")
    ((_, first), _) = made.agents()
    os.kill(first, signal.SIGTERM)
    Path(gate).touch()
    outcomes = made.collect(6)
    assert {outcome.verdict for outcome in outcomes} == {"SUCCESS"}


# TLS


def test_a_link_of_tls_brings_secrets_values_and_logs(far: Open, tmp_path: Path) -> None:
    secrets = Secrets({"TOKEN": "s3cret-value"})
    made = far(
        {"t": Call(large, {"x": Ref("x")}), "c": Command(("/bin/sh", "-c", "yes far | head -c 3000000"))},
        secrets=secrets,
        certificates=certificates(tmp_path, trustme.CA()),
        address="0.0.0.0",
        argv=with_python("import os"),
    )
    value = "ä" * 6_000_000
    made.submit("t", inputs={"x": encode(value, str(tmp_path / "values"))})
    node = made.submit("c")
    outcomes = made.collect(2)
    assert {outcome.verdict for outcome in outcomes} == {"SUCCESS"}
    first = next(outcome for outcome in outcomes if outcome.value is not None)
    assert first.value is not None
    assert decode(first.value) == value + "!"
    assert (made.logs / f"c-{node}.log").stat().st_size == 3_000_000


def test_an_agent_with_a_certificate_of_another_authority_is_not_let_in(far: Open, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    own, other = certificates(tmp_path, trustme.CA()), certificates(tmp_path / "other", trustme.CA())
    argv = with_python(
        "import liteflow.remote.agent as a; from liteflow.record import replace; whole = a._read_ticket\n"
        f"files = {fields_of(other)!r}\n"
        "a._read_ticket = lambda: (replace(whole()[0], **files), b'')"
    )
    made = far({"ok": Call(os.getpid)}, argv=argv, certificates=own)
    with pytest.raises(ResourceError, match=r"w1 cannot reach the owner of the run at .*certificate verify failed"):
        made.ready(1)


def test_a_certificate_that_is_not_there_is_named(far: Open, tmp_path: Path) -> None:
    wrong = replace(certificates(tmp_path, trustme.CA()), certificate_file=str(tmp_path / "none.pem"))
    with pytest.raises(LiteflowError, match=r"the certificate .*none\.pem of the cluster cannot be used: No such file"):
        far({"ok": Call(os.getpid)}, certificates=wrong)


# Values, logs, bodies


def large(x: str) -> str:
    return x + "!"


def test_large_values_pass_as_files_in_both_directions(far: Open, tmp_path: Path) -> None:
    made = far({"t": Call(large, {"x": Ref("x")})})
    value = "ä" * 6_000_000
    inputs = {"x": encode(value, str(tmp_path / "values"))}
    for _ in range(2):
        made.submit("t", inputs=inputs)
    first, second = made.collect(2)
    assert first.verdict == second.verdict == "SUCCESS"
    assert first.value is not None
    assert first.value.file is not None
    assert first.value.file.startswith(str(tmp_path / "values"))
    assert decode(first.value) == value + "!"
    assert sorted(path.name for path in (tmp_path / "values").iterdir()) == sorted(
        {Path(str(payload.file)).name for payload in (inputs["x"], first.value)}
    )


def test_a_log_arrives_while_it_is_written(far: Open, tmp_path: Path) -> None:
    made = far(
        {"t": Command(("/bin/sh", "-c", f"echo first; while [ ! -e {tmp_path}/gate ]; do sleep 0.01; done; echo last"))}
    )
    node = made.submit("t")
    log = made.logs / f"t-{node}.log"
    made.until(lambda: log.exists() and log.read_text() == "first\n")
    (tmp_path / "gate").touch()
    (outcome,) = made.collect()
    assert outcome.verdict == "SUCCESS"
    assert log.read_text() == "first\nlast\n"


def test_a_cancel_reaches_an_attempt_whose_values_are_still_on_their_way(far: Open, tmp_path: Path) -> None:
    made = far({"t": Call(large, {"x": Ref("x")})})
    made.ready(1)
    node = made.submit("t", inputs={"x": encode("ä" * 12_000_000, str(tmp_path / "values"))})
    made.executor.cancel(node, 0.0)
    (outcome,) = made.collect()
    assert outcome.verdict == "CANCELLED"


def test_a_body_that_cannot_be_imported_there_fails_its_task_and_not_the_agent(
    far: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def work() -> int:\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]

    made = far({"t": Call(only_here.work), "ok": Call(os.getpid)}, shipping=ByName())
    (tmp_path / "only_here.py").unlink()
    for _ in range(2):
        made.submit("t")
        (outcome,) = made.collect()
        assert outcome.verdict == "FAILED"
        assert message_of(outcome).startswith("the function cannot be loaded on w1: No module named 'only_here'")
    made.submit("ok")
    assert made.collect()[0].verdict == "SUCCESS"


def test_a_function_that_cannot_be_sent_fails_its_task(far: Open) -> None:
    made = far({"t": Call(lambda: 1)}, shipping=ByName())
    made.submit("t")
    (outcome,) = made.collect()
    assert outcome.verdict == "FAILED"
    assert "so another machine cannot find it" in message_of(outcome)


# A full disk: here files may not be longer than some bytes

FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))"


@pytest.mark.parametrize("what", ["value", "function"])
def test_a_machine_that_cannot_store_what_an_attempt_needs_leaves_it_to_the_others(
    far: Open, tmp_path: Path, what: str
) -> None:
    padding = "x" * (10_000 if what == "function" else 0)
    value = encode("ä" * (10 if what == "function" else 6_000_000), str(tmp_path / "values"))

    def work(x: str) -> int:
        return len(x) + len(padding)

    made = far({"t": Call(work, {"x": Ref("x")})}, {"full": 1, "w2": 1}, others={"full": with_python(FULL)})
    made.ready(2)
    for _ in range(4):
        made.submit("t", inputs={"x": value})
    assert [(outcome.verdict, outcome.host) for outcome in made.collect(4)] == [("SUCCESS", "w2")] * 4


def test_a_cluster_whose_disks_are_full_says_so(far: Open, tmp_path: Path) -> None:
    made = far({"t": Call(large, {"x": Ref("x")})}, argv=with_python(FULL), patience_s=0.0)
    made.ready(1)
    made.submit("t", inputs={"x": encode("ä" * 6_000_000, str(tmp_path / "values"))})
    with pytest.raises(ResourceError, match=r"w1: a value cannot be written into .*: File too large"):
        made.collect()


def test_a_folder_of_an_agent_that_cannot_be_made_is_named(far: Open, tmp_path: Path) -> None:
    argv = with_python(f"import os; os.environ['TMPDIR'] = {str(tmp_path / 'none')!r}")
    text = refusal(far({"t": Command(("true",))}, argv=argv))
    assert f"w1 cannot make the folder {tmp_path}/none/lightflow-agent-" in text


# One sentence for what cannot work


def refusal(made: Far) -> str:
    """Return the error of an executor that gets no agent."""
    made.submit("t")
    with pytest.raises(ResourceError) as error:
        made.collect()
    return str(error.value)


def with_python(code: str) -> tuple[str, ...]:
    """Return the command line of an agent that runs this first."""
    return (sys.executable, "-c", f"{code}\nfrom liteflow.remote.agent import main\nmain()")


def test_another_version_is_refused(far: Open) -> None:
    argv = with_python("import liteflow.version; liteflow.version.__version__ = '9.9'")
    text = refusal(far({"t": Command(("true",))}, argv=argv))
    assert "the cluster 'far' has no machine that can run a task: w1 (" in text
    assert "has Lightflow 9.9 on Python" in text
    assert text.endswith("install the same there")


def test_a_machine_that_is_refused_costs_nothing_where_another_one_works(far: Open, tmp_path: Path) -> None:
    """The wrong one comes first: the other one waits for its end."""
    mark = tmp_path / "refused"
    wrong = with_python("import liteflow.version; liteflow.version.__version__ = '9.9'")
    others = {
        "wrong": ("/bin/sh", "-c", f'"$@"; code=$?; touch {mark}; exit $code', "sh", *wrong),
        "right": with_python(f"import os, time\nwhile not os.path.exists({str(mark)!r}): time.sleep(0.01)"),
    }
    made = far({"t": Command(("true",))}, {"wrong": 1, "right": 1}, others=others)
    made.executor.want("far", 2)
    made.submit("t")
    assert [(outcome.verdict, outcome.host) for outcome in made.collect()] == [("SUCCESS", "right")]


def test_a_wrong_key_is_named(far: Open) -> None:
    argv = with_python(
        "import liteflow.remote.ticket as t; whole = t.ticket_from\n"
        "from liteflow.record import replace\n"
        "t.ticket_from = lambda line: replace(whole(line), key='00' * 32)"
    )
    text = refusal(far({"t": Command(("true",))}, argv=argv))
    assert "does not have the key of the ticket" in text


def test_an_address_that_is_not_reached_is_named(far: Open) -> None:
    argv = with_python(
        "import liteflow.remote.ticket as t; whole = t.ticket_from\n"
        "from liteflow.record import replace\n"
        "t.ticket_from = lambda line: replace(whole(line), port=1)"
    )
    text = refusal(far({"t": Command(("true",))}, argv=argv))
    assert "w1 cannot reach the owner of the run at 127.0.0.1:1: Connection refused" in text


def test_a_program_that_cannot_be_started_is_named(far: Open) -> None:
    text = refusal(far({"t": Command(("true",))}, argv=("no-such-program",)))
    assert "w1: 'no-such-program' cannot be started: No such file or directory" in text
    text = refusal(far({"t": Command(("true",))}, argv=("/bin/sh", "-c", "echo Permission denied >&2; exit 255")))
    assert text.endswith("w1: Permission denied")


@pytest.mark.parametrize("before", ["Welcome to w1", '{"failed": ', "3", "[" * 5000, '["failed"]'])
def test_what_a_shell_prints_first_does_not_hide_the_reason_of_an_agent(far: Open, tmp_path: Path, before: str) -> None:
    reason = "no room " * 20_000  # longer than what is read at once
    (tmp_path / "out").write_text(f"{before}\n{json.dumps({'failed': reason})}\n")
    text = refusal(far({"t": Command(("true",))}, argv=("/bin/sh", "-c", f"cat {tmp_path}/out; exit 2")))
    assert text.strip().endswith(reason.strip())


def test_an_owner_may_have_an_address_of_ipv6(far: Open) -> None:
    made = far({"ok": Call(os.getpid)}, address="::1")
    made.submit("ok")
    (outcome,) = made.collect()
    assert outcome.verdict == "SUCCESS"


def test_a_missing_folder_is_named(far: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "flow"
    folder.mkdir()
    monkeypatch.chdir(folder)
    made = far({"t": Command(("true",))})
    folder.rmdir()
    monkeypatch.chdir(tmp_path)
    text = refusal(made)
    assert f"w1 has no folder {folder}, in which the run was started" in text


def test_secrets_need_a_connection_that_others_cannot_read(far: Open) -> None:
    with pytest.raises(DefinitionError, match="the connection to the cluster 'far' is not encrypted"):
        far({"t": Command(("true",))}, secrets=Secrets({"TOKEN": "hunter22"}), address="0.0.0.0")


def test_secrets_reach_a_task_and_are_masked_in_its_log(far: Open) -> None:
    made = far(
        {"t": Command(("/bin/sh", "-c", "echo $TOKEN"), secrets=("TOKEN",))}, secrets=Secrets({"TOKEN": "hunter22"})
    )
    made.submit("t")
    (outcome,) = made.collect()
    assert outcome.log_path is not None
    assert Path(outcome.log_path).read_text() == "***\n"


def test_a_placer_that_is_killed_before_it_has_an_agent_is_started_again(far: Open, tmp_path: Path) -> None:
    killed_once = f'[ -e {tmp_path}/killed ] || {{ touch {tmp_path}/killed; kill -9 $$; }}; exec "$@"'
    made = far({"ok": Call(os.getpid)}, before=("/bin/sh", "-c", killed_once, "sh"))
    made.submit("ok")
    (outcome,) = made.collect()
    assert outcome.verdict == "SUCCESS"
    assert (tmp_path / "killed").exists()


def test_a_host_without_an_agent_leaves_its_slots_to_the_others(far: Open) -> None:
    made = far({"ok": Call(os.getpid)}, {"w1": 4, "w2": 4}, others={"w1": ("false",)})
    made.submit("ok")
    (outcome,) = made.collect()
    assert (outcome.verdict, outcome.host) == ("SUCCESS", "w2")


def test_an_agent_on_another_host_takes_over(far: Open, tmp_path: Path) -> None:
    made = far({"ok": Call(lambda: time.sleep(0.05))}, {"w1": 1, "w2": 1})
    made.ready(2)
    nodes = {made.submit("ok") for _ in range(8)}
    outcomes = made.collect(8)
    assert {outcome.node for outcome in outcomes} == nodes
    assert {outcome.host for outcome in outcomes} == {"w1", "w2"}
    assert AGENT[0] == sys.executable
