"""`lightflow serve`: real servers, real files, real runs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from flow_folder import lightflow, write
from scheduler_kit import (
    COMMAND,
    ROOT,
    children,
    end,
    environment,
    fires,
    is_running,
    log,
    processes_of,
    rows,
    runs,
    serving,
    start,
    starter_of,
    until,
)  # fmt: skip

from lightflow.client import Client, ServerError
from liteflow.api import NewFire, request_fire


def test_a_schedule_runs_at_its_instants(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        workflow_name: tick
        params: {mode: fast, day: {type: date, default: today}}
        schedule: {every: 1s, params: {mode: full}}
        tasks:
          t: {run: "echo ${{ params.mode }} $LIGHTFLOW_SCHEDULED_AT ${{ run.logical_date }}"}
        """,
    )
    with serving(tmp_path):
        until(lambda: len([run for run in runs(tmp_path, "tick") if run[1] == "SUCCESS"]) >= 2)
    done = runs(tmp_path, "tick")
    assert len({run[0] for run in done}) == len({run[2] for run in done}) == len(done)
    run_id, _, instant, params = done[0]
    assert instant == int(instant)
    assert json.loads(params)["mode"] == "full"
    output = lightflow(tmp_path, "logs", "t", "--run", run_id).stdout
    key = next(fire[4] for fire in fires(tmp_path, "tick:schedule") if fire[1] == run_id)
    assert f"full {key} " in output
    until(lambda: not processes_of(tmp_path))


def test_files_start_runs_once_they_are_complete(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "old.csv").write_text("0")
    write(
        tmp_path,
        """
        workflow_name: load
        params: {input: {type: path}}
        on: {file: {path: "inbox/*.csv", settle: 0.3, param: input}}
        tasks: {t: {run: 'cat ${{ params.input }}'}}
        """,
    )
    with serving(tmp_path) as server:
        (tmp_path / "inbox" / "link.csv").symlink_to(tmp_path / "inbox" / "old.csv")
        (tmp_path / "inbox" / "name with $(touch x) 'quotes'.csv").write_text("1")
        until(lambda: [run for run in runs(tmp_path, "load") if run[1] == "SUCCESS"], server)
        (tmp_path / "inbox" / "old.csv").write_text("changed")
        until(lambda: len([run for run in runs(tmp_path, "load") if run[1] == "SUCCESS"]) == 2, server)
    with serving(tmp_path):
        pass  # after a restart nothing fires again
    first, *others = fires(tmp_path, "load:file")
    assert (first[0], first[2]) == ("SKIPPED", "existed when the trigger was new")
    paths = [json.loads(fire[3])["input"] for fire in others]
    assert [os.path.basename(path) for path in paths] == ["name with $(touch x) 'quotes'.csv", "old.csv"]
    assert not (tmp_path / "x").exists()


def test_one_run_for_all_files_that_are_complete(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(name)
    write(
        tmp_path,
        """
        workflow_name: load
        params: {inputs: {type: list}}
        on: {file: {path: "*.csv", settle: 0, param: inputs, each: false, initial: true}}
        tasks: {t: {run: "true"}}
        """,
    )
    with serving(tmp_path):
        until(lambda: runs(tmp_path, "load"))
    ((_, _, _, params),) = runs(tmp_path, "load")
    assert json.loads(params)["inputs"] == [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]


def test_a_run_follows_runs_of_other_workflows_also_those_by_hand(tmp_path: Path) -> None:
    write(tmp_path, "workflow_name: one\ntasks: {t: {run: 'true'}}", "one.yaml")
    write(tmp_path, "workflow_name: two\ntasks: {t: {run: 'exit 1'}}", "two.yaml")
    write(tmp_path, "on: {workflow: one}\ntasks: {t: {run: 'true'}}", "any.yaml")
    text = "on: {workflow: {name: [one, two], status: [SUCCESS, FAILED], all: true}}\ntasks: {t: {run: 'true'}}"
    write(tmp_path, text, "both.yaml")
    lightflow(tmp_path, "run", "one.yaml", "--run-id", "before")
    with serving(tmp_path) as server:
        lightflow(tmp_path, "run", "one.yaml", "--run-id", "first")
        until(lambda: runs(tmp_path, "any"), server)
        assert fires(tmp_path, "both:workflow") == []
        lightflow(tmp_path, "run", "two.yaml", "--run-id", "second")
        until(lambda: runs(tmp_path, "both"), server)
    assert [fire[4] for fire in fires(tmp_path, "any:workflow")] == ["first"]
    assert [fire[4] for fire in fires(tmp_path, "both:workflow")] == ["second"]


def test_a_circle_of_workflows_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, "on: {workflow: b}\ntasks: {t: {run: 'true'}}", "a.yaml")
    write(tmp_path, "on: {workflow: a}\ntasks: {t: {run: 'true'}}", "b.yaml")
    with serving(tmp_path) as server:
        lightflow(tmp_path, "run", "a.yaml")
        until(lambda: fires(tmp_path, "b:workflow"), server)
    assert "would start each other without end" in log(tmp_path)
    assert [fire[0] for fire in fires(tmp_path, "b:workflow")] == ["MISSED"]


def test_a_broken_file_hurts_only_itself(tmp_path: Path) -> None:
    good = "workflow_name: good\nschedule: {every: 1s}\ntasks: {t: {run: 'true'}}"
    bad = "workflow_name: bad\nschedule: {every: 1s}\ntasks: {t: {run: 'true'}}"
    write(tmp_path, good, "good.yaml")
    write(tmp_path, bad, "bad.yaml")
    (tmp_path / "other.json").write_text('{"name": "no workflow"}')
    (tmp_path / "script.py").write_text("open('executed', 'w')")
    with serving(tmp_path) as server:
        until(lambda: runs(tmp_path, "bad"), server)
        write(tmp_path, bad.replace("run:", "rn:"), "bad.yaml")
        until(lambda: [fire for fire in fires(tmp_path, "bad:schedule") if fire[0] == "MISSED"], server)
        count = len(runs(tmp_path, "good"))
        until(lambda: len(runs(tmp_path, "good")) > count + 1, server)
        write(tmp_path, bad, "bad.yaml")
        count = len(runs(tmp_path, "bad"))
        until(lambda: len(runs(tmp_path, "bad")) > count, server)
        (tmp_path / "bad.yaml").unlink()
        until(lambda: "was removed" in log(tmp_path), server)
    missed = next(fire for fire in fires(tmp_path, "bad:schedule") if fire[0] == "MISSED")
    assert "bad.yaml:3:13: tasks.t: unknown key" in missed[2]
    assert "other.json" not in log(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_a_schedule_that_was_changed_counts_although_nothing_else_happens(tmp_path: Path) -> None:
    yearly = "workflow_name: tick\nschedule: '0 0 1 1 *'\ntasks: {t: {run: 'true'}}"
    write(tmp_path, yearly)
    with serving(tmp_path) as server:
        until(lambda: rows(tmp_path, "SELECT 1 FROM liteflow_triggers WHERE next_at IS NOT NULL"), server)
        write(tmp_path, yearly.replace("'0 0 1 1 *'", "{every: 1s}"))
        until(lambda: fires(tmp_path, "tick:schedule"), server, limit_s=120)


def test_a_schedule_never_starts_another_workflow(tmp_path: Path) -> None:
    """The file has another workflow when the run starts than when the server has read it."""
    write(tmp_path, "workflow_name: first\nschedule: {every: 1s}\ntasks: {t: {run: 'true'}}\n")
    with serving(tmp_path):
        until(lambda: runs(tmp_path, "first"))
        (tmp_path / "flow.yaml").write_text("workflow_name: second\nschedule: '@yearly'\ntasks: {t: {run: 'true'}}\n")
        until(lambda: rows(tmp_path, "SELECT 1 FROM liteflow_triggers WHERE dag_id='second'"))
    assert runs(tmp_path, "second") == []
    failed = {reason for status, _, reason, *_ in fires(tmp_path, "first:schedule") if status == "FAILED"}
    assert all('no workflow "first"; there is second' in reason for reason in failed)


def test_several_workflows_of_a_file_are_served(tmp_path: Path) -> None:
    text = "workflow_name: {}\nschedule: {{every: 1s}}\ntasks: {{t: {{run: 'true'}}}}\n"
    write(tmp_path, f"{text.format('first')}---\n{text.format('second')}")
    with serving(tmp_path) as server:
        until(lambda: [run for run in runs(tmp_path, "second") if run[1] == "SUCCESS"], server)
        until(lambda: [run for run in runs(tmp_path, "first") if run[1] == "SUCCESS"], server)


def test_a_python_file_is_served_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "from liteflow import Dag, Schedule\n"
        "def work():\n    return 1\n"
        "with Dag('first', schedule=Schedule(every=1)) as first:\n    first.task(work)\n"
        "with Dag('second') as second:\n    second.task(work)\n"
    )
    with serving(tmp_path, "flow.py") as server:
        until(lambda: [run for run in runs(tmp_path, "first") if run[1] == "SUCCESS"], server)
    assert runs(tmp_path, "second") == []


@pytest.mark.parametrize(("overlap", "states"), [("skip", {"STARTED", "SKIPPED"}), ("allow", {"STARTED"})])
def test_overlap(tmp_path: Path, overlap: str, states: set[str]) -> None:
    write(
        tmp_path,
        f"""
        workflow_name: slow
        schedule: {{every: 1s, overlap: {overlap}}}
        tasks: {{t: {{run: "while ! test -e go; do sleep 0.05; done"}}}}
        """,
    )
    with serving(tmp_path) as server:
        until(lambda: len([fire for fire in fires(tmp_path, "slow:schedule") if fire[0] in states]) >= 3, server)
        (tmp_path / "go").touch()
    found = fires(tmp_path, "slow:schedule")
    assert {fire[0] for fire in found} - {"CLAIMED"} == states
    if overlap == "skip":
        reason = next(fire[2] for fire in found if fire[0] == "SKIPPED")
        assert "is running in group 'slow'" in reason
    until(lambda: not processes_of(tmp_path))


def test_a_run_by_hand_counts_for_overlap(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        workflow_name: slow
        schedule: {every: 1s}
        tasks: {t: {run: "touch started; while ! test -e go; do sleep 0.05; done"}}
        """,
    )
    by_hand = subprocess.Popen(
        [*COMMAND, "run", "flow.yaml"], cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL
    )
    until((tmp_path / "started").exists)
    with serving(tmp_path) as server:
        until(lambda: fires(tmp_path, "slow:schedule"), server)
        until(lambda: fires(tmp_path, "slow:schedule")[0][0] == "SKIPPED", server)
        (tmp_path / "go").touch()
        assert by_hand.wait(60) == 0


def test_a_run_that_cannot_start_is_a_failed_fire(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        workflow_name: needy
        secrets: [MISSING_FOR_THIS_TEST]
        schedule: {every: 1s}
        tasks: {t: {run: "true"}}
        """,
    )
    with serving(tmp_path) as server:
        fire = until(lambda: [fire for fire in fires(tmp_path, "needy:schedule") if fire[0] == "FAILED"], server)[0]
    assert "MISSING_FOR_THIS_TEST" in fire[2]
    assert runs(tmp_path, "needy") == []


def test_the_end_of_server_and_starter_ends_no_run(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        workflow_name: long
        schedule: {every: 1s}
        tasks: {t: {run: "echo $$ > pid; while ! test -e go; do sleep 0.05; done; echo done > result"}}
        """,
    )
    server = start(tmp_path)
    until((tmp_path / "pid").exists, server)
    for pid in (server.pid, starter_of(server)):
        os.kill(pid, signal.SIGKILL)
    server.wait(120)
    (tmp_path / "go").touch()
    until((tmp_path / "result").exists)
    until(lambda: runs(tmp_path, "long")[0][1] == "SUCCESS")
    until(lambda: not processes_of(tmp_path))


def test_a_starter_that_is_killed_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, "workflow_name: tick\nschedule: {every: 1s}\ntasks: {t: {run: 'true'}}")
    with serving(tmp_path) as server:
        until(lambda: runs(tmp_path, "tick"), server)
        before = starter_of(server)
        os.kill(before, signal.SIGKILL)
        until(lambda: children(server.pid) not in ([], [before]), server)
        count = len(runs(tmp_path, "tick"))
        until(lambda: len(runs(tmp_path, "tick")) > count, server)
        starter = starter_of(server)
    assert not is_running(starter)


def open_files(pid: int) -> list[str]:
    """Return what a process has open."""
    names = list[str]()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(str(entry.readlink()))
    return names


def test_the_starter_has_nothing_of_the_server_and_is_replaced_after_an_upgrade(tmp_path: Path) -> None:
    package = tmp_path / "site" / "liteflow"
    package.mkdir(parents=True)
    for entry in (ROOT / "liteflow").iterdir():
        if entry.name == "__init__.py":
            shutil.copy(entry, package)
        else:
            (package / entry.name).symlink_to(entry)
    write(tmp_path, "workflow_name: tick\nschedule: {every: 1s}\ntasks: {t: {run: 'true'}}")
    options = ("--port", "0", "--token-file", "tokens.json")
    server = start(tmp_path, *options, ui=True, first_path=str(tmp_path / "site"))
    try:
        until(lambda: runs(tmp_path, "tick"), server)
        before = starter_of(server)
        files = open_files(before)
        assert any(name.startswith("pipe:") for name in files)
        assert not [name for name in files if name.startswith("socket:") or "lightflow.db" in name]
        os.utime(package / "__init__.py")
        until(lambda: "the program has changed: the starter is replaced" in log(tmp_path), server)
        count = len(runs(tmp_path, "tick"))
        until(lambda: len(runs(tmp_path, "tick")) > count, server)
        assert starter_of(server) != before
    finally:
        end(server)


def wakes(pid: int) -> int:
    """Return how often the main thread of a process has waited so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_a_second_server_waits_and_takes_over(tmp_path: Path) -> None:
    write(tmp_path, "workflow_name: tick\nschedule: {every: 1s}\ntasks: {t: {run: 'true'}}")
    with serving(tmp_path) as first:
        until(lambda: runs(tmp_path, "tick"), first)
        second = start(tmp_path)
        until(lambda: "standby" in log(tmp_path), second)
        before, since = (wakes(second.pid), len(runs(tmp_path, "tick"))), time.monotonic()
        until(lambda: len(runs(tmp_path, "tick")) >= before[1] + 3, first)  # seconds
        seconds = time.monotonic() - since  # many more on a busy machine
        assert wakes(second.pid) - before[0] < 10 * seconds, "a standby looks once a second"
        first.kill()
        first.wait(120)
        count = len(runs(tmp_path, "tick"))
        until(lambda: len(runs(tmp_path, "tick")) > count + 1, second)
        assert end(second, signal.SIGINT) == 0
    keys = [fire[4] for fire in fires(tmp_path, "tick:schedule")]
    assert len(keys) == len(set(keys))


def test_what_was_due_without_a_server_is_recorded_and_caught_up(tmp_path: Path) -> None:
    write(tmp_path, "workflow_name: a\nschedule: {cron: '* * * * *'}\ntasks: {t: {run: 'true'}}", "a.yaml")
    text = "workflow_name: b\nschedule: {cron: '* * * * *', catchup: latest}\ntasks: {t: {run: 'true'}}"
    write(tmp_path, text, "b.yaml")
    with serving(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "lightflow.db") as connection:
        connection.execute(
            "UPDATE liteflow_triggers SET watermark=strftime('%Y-%m-%dT%H:%M:00Z', 'now', '-10 minutes')"
        )
    connection.close()
    with serving(tmp_path) as server:
        until(lambda: len(fires(tmp_path, "a:schedule")) >= 9, server)
        until(lambda: len(runs(tmp_path, "a")) >= 4, server)
    states = [status for _, status in sorted((fire[4], fire[0]) for fire in fires(tmp_path, "a:schedule"))]
    assert states.count("MISSED") >= 4
    assert states[0] == "MISSED", "the oldest"


def test_paused_triggers_start_nothing_and_forget_the_past(tmp_path: Path) -> None:
    write(tmp_path, "workflow_name: tick\nschedule: {every: 1s}\ntasks: {t: {run: 'true'}}")
    with serving(tmp_path) as server:
        until(lambda: runs(tmp_path, "tick"), server)
        assert "tick:schedule: paused" in lightflow(tmp_path, "schedule", "pause", "tick").stdout
        view = json.loads(lightflow(tmp_path, "schedule", "--json").stdout)
        assert view["scheduler"] is True
        assert view["triggers"][0]["state"] == "paused"
        assert "@" in view["triggers"][0]["paused_by"]
        fired = json.loads(lightflow(tmp_path, "schedule", "fire", "tick:schedule", "--json").stdout)
        until(lambda: [run for run in runs(tmp_path, "tick") if run[0] == fired["run_id"]], server)
        last = fires(tmp_path, "tick:schedule")[-1][4]
        until(lambda: fires(tmp_path, "tick:schedule")[-1][4].startswith("by hand"), server)
        assert "active" in lightflow(tmp_path, "schedule", "unpause", "tick").stdout
        until(lambda: not fires(tmp_path, "tick:schedule")[-1][4].startswith("by hand"), server)
    assert "MISSED" not in {fire[0] for fire in fires(tmp_path, "tick:schedule")}
    assert last.startswith("by hand")
    history = json.loads(lightflow(tmp_path, "schedule", "history", "tick", "--json").stdout)
    requested = next(entry for entry in history if entry["run_id"] == fired["run_id"])
    assert "@" in requested["started_by"]
    date = json.loads(lightflow(tmp_path, "status", fired["run_id"], "--json").stdout)["logical_date"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00", date)  # no fraction, as of an instant
    for command in (("runs",), ("status", fired["run_id"]), ("why", fired["run_id"], "t")):
        assert requested["started_by"] in lightflow(tmp_path, *command).stdout
    assert "NEXT" in lightflow(tmp_path, "list").stdout


@pytest.mark.parametrize(
    ("trigger", "at", "words"),
    [
        ("old:schedule", "9999-12-31T23:00+00:00", "in the years from 1000 to 9999"),
        ("old:schedule", "0999-01-01", "in the years from 1000 to 9999"),
        ("old:manual", "2026-01-01", "only runs of schedules"),
    ],
)
def test_a_run_cannot_be_for_each_moment(tmp_path: Path, trigger: str, at: str, words: str) -> None:
    write(tmp_path, "workflow_name: old\nschedule: '0 3 * * *'\ntasks: {t: {run: 'true'}}")
    with serving(tmp_path):
        refused = lightflow(tmp_path, "schedule", "fire", trigger, "--at", at)
    assert (refused.returncode, words in refused.stderr) == (2, True), refused.stderr
    assert fires(tmp_path, trigger) == []


def test_a_fire_for_an_impossible_moment_does_not_end_the_server(tmp_path: Path) -> None:
    write(tmp_path, "workflow_name: old\nschedule: '0 3 * * *'\ntasks: {t: {run: 'true'}}")
    with serving(tmp_path) as server:
        altered = NewFire(trigger_id="old:schedule", key="altered", at=1e15, due_at=0.0, status="WAITING", run_id="x")
        assert request_fire(str(tmp_path / "lightflow.db"), altered)
        until(lambda: [fire for fire in fires(tmp_path, "old:schedule") if fire[0] == "FAILED"], server)
    assert runs(tmp_path, "old") == []


def test_a_state_file_that_is_replaced_is_opened_again(tmp_path: Path) -> None:
    write(tmp_path, "workflow_name: tick\nschedule: {every: 1s}\ntasks: {t: {run: 'true'}}")
    with serving(tmp_path) as server:
        until(lambda: runs(tmp_path, "tick"), server)
        for name in ("lightflow.db", "lightflow.db-wal", "lightflow.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        until(lambda: "deleted, moved or replaced" in log(tmp_path), server)
        until(lambda: runs(tmp_path, "tick"), server)


def test_the_flip_lets_one_process_through(tmp_path: Path) -> None:
    """The run of a fire that was decided otherwise is not created."""
    write(tmp_path, "workflow_name: w\ntasks: {t: {run: 'touch ran'}}")
    lightflow(tmp_path, "run", "flow.yaml", "--run-id", "first")
    with sqlite3.connect(tmp_path / "lightflow.db") as connection:
        connection.execute(
            "INSERT INTO liteflow_fires (trigger_id, key, at, status, run_id) VALUES ('t','k',0,'MISSED','x')"
        )
    connection.close()
    (tmp_path / "ran").unlink()
    refused = lightflow(tmp_path, "run", "flow.yaml", "--run-id", "x")
    assert refused.returncode == 4
    assert "its fire was decided" in refused.stderr
    assert not (tmp_path / "ran").exists()
    assert rows(tmp_path, "SELECT count(*) FROM liteflow_dag_runs") == [(1,)]


def test_requests_start_check_pause_and_resume(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    write(
        tmp_path,
        """
        workflow_name: w
        schedule: "0 0 1 1 *"
        params: {rows: {type: integer, default: 1, maximum: 9}}
        tasks: {t: {run: "test -e ok && echo ${{ params.rows }}"}}
        """,
    )
    server = start(tmp_path, "--port", "0", "--token-file", str(tmp_path / "tokens"), ui=True)
    try:
        url = until(lambda: re.search(r"answers requests at (http\S+);", log(tmp_path)), server)[1]
        done = lightflow(tmp_path, "token", "--token-file", str(tmp_path / "tokens"))
        client = Client(url, done.stdout.split()[-1])
        with pytest.raises(ServerError, match="rows"):
            client.start("w", {"rows": 10})
        first = client.start("w", {"rows": 3}, key="same")
        assert client.start("w", {"rows": 3}, key="same")["run_id"] == first["run_id"]
        until(lambda: [run for run in runs(tmp_path, "w") if run[1] == "FAILED"], server)
        (tmp_path / "ok").touch()
        client.resume(first["run_id"])
        until(lambda: [run for run in runs(tmp_path, "w") if run[1] == "SUCCESS"], server)
    finally:
        assert end(server) == 0
    assert [json.loads(run[3]) for run in runs(tmp_path, "w")] == [{"rows": 3}]
