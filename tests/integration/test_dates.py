"""The day of a run: words for days, `--date`, and what keeps it."""

from __future__ import annotations

import datetime
import json
import sqlite3
import time
import zoneinfo
from pathlib import Path
from typing import Any

import pytest
from flow_folder import lightflow, status, write

from lightflow.expressions.language import evaluate
from liteflow import Dag, DefinitionError, Param, ParamError, current_context
from liteflow.errors import InputError
from liteflow.values.dates import current_day, epoch_of, moment_from_epoch, shown
from liteflow.values.params import resolve

FLOW = """\
workflow_name: daily
params:
  day: {type: date, default: yesterday}
  until: {type: date, default: today}
tasks:
  t:
    run: echo ${{ params.day }} ${{ params.until }} ${{ run.logical_date }} $LIGHTFLOW_LOGICAL_DATE
  gate: {run: test -e open, depends_on: t}
  again:
    depends_on: gate
    run: echo ${{ params.day }} ${{ run.logical_date | date_add(days=-1) }} ${{ run.logical_date | date('%d.%m.%Y') }}
"""


def day_in(zone: str) -> str:
    return str(datetime.datetime.now(zoneinfo.ZoneInfo(zone)).date())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, FLOW)
    return tmp_path


def test_a_run_is_for_the_requested_day_and_a_resumed_one_keeps_it(folder: Path) -> None:
    lightflow(folder, "run", "flow.yaml", "--date", "2026-03-01")
    assert lightflow(folder, "logs", "t").stdout == "2026-02-28 2026-03-01 2026-03-01 2026-03-01\n"
    view = status(folder)
    assert (view["logical_date"], view["params"]) == ("2026-03-01", {"day": "2026-02-28", "until": "2026-03-01"})
    assert "2026-03-01" in lightflow(folder, "status").stdout
    assert "DATE" in lightflow(folder, "runs").stdout

    (folder / "open").touch()
    other = lightflow(folder, "resume", "flow.yaml", "--date", "2026-03-02")
    assert other.returncode == 2
    assert "is for 2026-03-01, not for 2026-03-02, and a run keeps its day" in other.stderr
    assert lightflow(folder, "resume", "flow.yaml", "-p", "day=yesterday", "--date", "2026-03-01").returncode == 0
    assert lightflow(folder, "logs", "again").stdout == "2026-02-28 2026-02-28 01.03.2026\n"


def test_without_a_date_a_run_is_for_the_day_on_which_it_starts(folder: Path) -> None:
    (folder / "open").touch()
    before = shown(current_day())
    assert lightflow(folder, "run", "flow.yaml").returncode == 0
    words = lightflow(folder, "logs", "t").stdout.split()
    assert words[1] in (before, shown(current_day()))
    assert words[1:] == [words[1]] * 3
    assert datetime.date.fromisoformat(words[0]) == datetime.date.fromisoformat(words[1]) - datetime.timedelta(1)
    assert "DATE" not in lightflow(folder, "runs").stdout


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_day_is_that_of_the_local_time_zone_and_stays_it_in_another(folder: Path, zone: str) -> None:
    (folder / "open").touch()
    before = day_in(zone)
    assert lightflow(folder, "run", "flow.yaml", extra_env={"TZ": zone}).returncode == 0
    assert lightflow(folder, "logs", "t").stdout.split()[1] in (before, day_in(zone))
    stored = status(folder)["logical_date"]
    for other in ("Pacific/Kiritimati", "UTC", "Pacific/Pago_Pago"):
        view = json.loads(lightflow(folder, "status", "--json", extra_env={"TZ": other}).stdout)
        assert view["logical_date"] == stored


def test_a_day_may_be_given_as_a_word(folder: Path) -> None:
    (folder / "open").touch()
    done = lightflow(folder, "run", "flow.yaml", "--date", "2026-01-01", "-p", "day=today", "-p", "until=yesterday")
    assert done.returncode == 0
    assert lightflow(folder, "logs", "t").stdout.split()[:2] == ["2026-01-01", "2025-12-31"]
    (folder / "params.yaml").write_text("day: yesterday\n")
    lightflow(folder, "run", "flow.yaml", "--date", "2026-01-01", "--params-file", "params.yaml")
    assert lightflow(folder, "logs", "t").stdout.split()[:2] == ["2025-12-31", "2026-01-01"]
    plan = lightflow(folder, "run", "flow.yaml", "--date", "2026-01-01", "-n", "--json").stdout
    assert json.loads(plan)["params"] == {"day": "2025-12-31", "until": "2026-01-01"}


def test_instances_for_each_day_are_known_before_a_run(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        workflow_name: days
        params: {day: {type: date, default: yesterday}}
        tasks:
          t:
            foreach: ["${{ params.day | date_add(days=-1) }}", "${{ params.day }}"]
            run: echo ${{ item | date }}
        """,
    )
    assert "t ×2" in lightflow(tmp_path, "dag", "flow.yaml", "--format", "mmd").stdout
    assert lightflow(tmp_path, "run", "flow.yaml", "--date", "2026-03-02").returncode == 0
    assert [lightflow(tmp_path, "logs", f"t[{index}]").stdout for index in (0, 1)] == ["2026-02-28\n", "2026-03-01\n"]


@pytest.mark.parametrize("date", ["tomorrow", "31.01.2026", "2026-02-30", "20260131", ""])
def test_what_is_not_a_day_is_refused(folder: Path, date: str) -> None:
    done = lightflow(folder, "run", "flow.yaml", f"--date={date}")
    assert done.returncode == 2
    assert "--date must be a date such as 2026-01-31, a time such as 2026-01-31T08:30" in done.stderr
    assert f'not "{date}"' in done.stderr


def test_a_run_that_retries_by_itself_is_left_for_a_new_one_on_another_day(folder: Path) -> None:
    write(folder, FLOW + "settings: {resume: auto}\n")
    lightflow(folder, "run", "flow.yaml", "--date", "2026-03-01")
    first = status(folder)["run_id"]
    lightflow(folder, "run", "flow.yaml", "--date", "2026-03-01")
    assert status(folder)["run_id"] == first
    lightflow(folder, "run", "flow.yaml", "--date", "2026-03-02")
    assert status(folder)["run_id"] != first
    assert status(folder)["logical_date"] == "2026-03-02"


def test_the_day_survives_the_loss_of_the_state_file(folder: Path) -> None:
    lightflow(folder, "run", "flow.yaml", "--date", "2026-03-01")
    for name in folder.glob("lightflow.db*"):
        if name.is_file():
            name.unlink()
    (folder / "open").touch()
    assert lightflow(folder, "resume", "flow.yaml").returncode == 0
    assert lightflow(folder, "logs", "again").stdout == "2026-02-28 2026-02-28 01.03.2026\n"


def test_a_damaged_day_of_a_run_is_shown_as_a_question_mark(folder: Path) -> None:
    lightflow(folder, "run", "flow.yaml", "--date", "2026-03-01")
    for damage in (1e300, -1e300):
        with sqlite3.connect(folder / "lightflow.db") as file:
            file.execute("UPDATE liteflow_dag_runs SET logical_date = ?", (damage,))
        file.close()
        assert lightflow(folder, "status").returncode == 0
        assert status(folder)["logical_date"] == "?"
        assert lightflow(folder, "runs").returncode == 0
        again = lightflow(folder, "resume", "flow.yaml")
        assert (again.returncode, "its logical date in the state file is corrupt" in again.stderr) == (2, True)


def test_a_python_script_has_the_same_words_and_the_same_day(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "from liteflow import Dag, Param, current_context\n"
        "def show():\n"
        "    print(current_context().params['day'], current_context().logical_date)\n"
        "with Dag('p', params={'day': Param('date', 'yesterday', maximum='today')}) as dag:\n"
        "    dag.task(show)\n"
    )
    assert lightflow(tmp_path, "run", "flow.py", "--date", "2026-03-01").returncode == 0
    epoch = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC).timestamp()
    assert lightflow(tmp_path, "logs", "show").stdout == f"2026-02-28 {epoch}\n"
    refused = lightflow(tmp_path, "run", "flow.py", "--date", "2026-03-01", "-p", "day=2026-03-02")
    assert "must be at most 2026-03-01, not 2026-03-02" in refused.stderr


@pytest.mark.parametrize(
    "given",
    [datetime.date(2026, 3, 1), datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC), 1772323200, 1772323200.0],
)
def test_a_program_gives_the_day_as_a_date_or_in_seconds(db: str, given: Any) -> None:
    seen: list[Any] = []
    with Dag("d", db, params={"day": Param("date", "today")}) as dag:
        dag.task(lambda: seen.append((current_context().logical_date, current_context().params["day"])), task_id="t")
    dag.run(mode="inline", logical_date=given).raise_for_failure()
    assert seen == [(1772323200.0, datetime.date(2026, 3, 1))]


@pytest.mark.parametrize("given", ["2026-03-01", True, float("nan"), [2026], 1e300])
def test_a_program_that_gives_something_else_is_reported(db: str, given: Any) -> None:
    with Dag("d", db) as dag:
        dag.task(print, task_id="t")
    with pytest.raises(DefinitionError, match=r"logical_date (must be a date, a time or epoch seconds|1e\+300 is not)"):
        dag.run(mode="inline", logical_date=given)


def test_words_are_seen_from_the_day_of_the_run() -> None:
    day = epoch_of(datetime.date(2024, 3, 1))
    params = {"a": Param("date", "today"), "b": Param("date", "yesterday"), "c": Param("date", minimum="yesterday")}
    values = resolve(params, {"c": "2024-02-29"}, day)
    assert [str(values[name]) for name in "abc"] == ["2024-03-01", "2024-02-29", "2024-02-29"]
    with pytest.raises(ParamError, match="must be at least 2024-02-29"):
        resolve(params, {"c": "2024-02-28"}, day)
    assert params["a"].parse("today") == moment_from_epoch(current_day())
    assert not list(Param("date", "today").problems())
    assert dict(Param("date", "tomorrow").problems()) == {
        "default": 'must be a date such as 2026-01-31, not "tomorrow"'
    }


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("d | date_add(days=1)", "2024-02-01"),
        ("d | date_add(days=-31)", "2023-12-31"),
        ("d | date_add(weeks=-1)", "2024-01-24"),
        ("d | date_add(months=1)", "2024-02-29"),
        ("d | date_add(months=-2)", "2023-11-30"),
        ("d | date_add(months=13, days=1)", "2025-03-01"),
        ("d | date_add(years=-1)", "2023-01-31"),
        ("'2024-02-29' | date_add(years=1)", "2025-02-28"),
        ("d | date_add(days=-n)", "2024-01-28"),
        ("d | date_add(days=-1) | date('%Y%m%d')", "20240130"),
        ("(d | date_add(days=-1)).year", "2024"),
        ("'2024-01-31T22:30:00+00:00' | date_add(hours=2, minutes=-15) | date('%F %H:%M')", "2024-02-01 00:15"),
        ("0 | date_add(days=1) | date", "1970-01-02"),
        ("(d | date_add(months=-1)) < d", "True"),
    ],
)
def test_dates_are_moved(expression: str, text: str) -> None:
    assert str(evaluate(expression, {"d": datetime.date(2024, 1, 31), "n": 3})) == text


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("d | date_add(hours=1)", "date_add: a date has no hours; use days"),
        ("d | date_add(days='1')", "date_add: days must be a whole number, not '1'"),
        ("d | date_add(days=1.5)", "must be a whole number"),
        ("d | date_add(fortnights=1)", "date_add: there is no 'fortnights'; there are years, months"),
        ("d | date_add", "date_add: say how much"),
        ("d | date_add(years=9999)", "out of range"),
        ("d | date_add(days=10**12)", "out of range"),
        ("'soon' | date_add(days=1)", "date_add: 'soon' is not a date"),
        ("[1] | date_add(days=1)", "is not a date"),
        ("true | date", "is not a date"),
        ("1e300 | date", "is not a date"),
    ],
)
def test_what_cannot_be_moved_is_reported(expression: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(expression, {"d": datetime.date(2024, 1, 31)})
    assert message in str(caught.value)


def test_the_midnight_of_a_day_is_no_moment_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        day = epoch_of(datetime.date(2026, 3, 29))
        assert (day % 86_400, shown(day), moment_from_epoch(day)) == (0, "2026-03-29", datetime.date(2026, 3, 29))
        assert current_day() % 86_400 == 0
    monkeypatch.undo()
    time.tzset()
