"""What is due, late, missed and caught up: tables of (declaration, watermark, now) and fires."""

from __future__ import annotations

from typing import Any

import pytest

from lightflow.instants import clock_of, instant_key, instant_of
from lightflow.scheduler.decisions import GRACE_S, MAX_ROWS, Decision, decide, run_id_of
from liteflow import Schedule
from liteflow.api import TriggerRecord

NOON = instant_of("2026-11-26T12:00:00Z")
HOUR = 3600.0


def row(watermark: str | float | None, **changes: Any) -> TriggerRecord:
    fields: dict[str, Any] = {
        "trigger_id": "n:schedule", "dag_id": "n", "source": "/n.yaml", "kind": "schedule", "spec": "{}", "digest": "",
        "watermark": instant_key(watermark) if isinstance(watermark, float) else watermark, "next_at": None,
        "paused_at": None, "paused_by": None, "seen_at": 0.0, "problem": None,
    }  # fmt: skip
    return TriggerRecord(**{**fields, **changes})


def decision(schedule: Schedule, watermark: str | float | None, now: float, **changes: Any) -> Decision:
    return decide(row(watermark, **changes), clock_of(schedule), now)


def statuses(result: Decision) -> list[tuple[str, str]]:
    return [(fire.key[11:16], fire.status) for fire in result.fires]


HOURLY = Schedule(cron="0 * * * *", timezone="UTC")


def test_nothing_is_due_before_the_instant() -> None:
    result = decision(HOURLY, NOON - HOUR, NOON - 1)
    assert (result.fires, result.next_at) == ((), NOON)
    assert result.watermark == instant_key(NOON - HOUR)


@pytest.mark.parametrize("late", [0, 1, GRACE_S])
def test_an_instant_is_due_once_and_late_is_only_late(late: float) -> None:
    result = decision(HOURLY, NOON - HOUR, NOON + late)
    assert statuses(result) == [("12:00", "CLAIMED")]
    assert (result.watermark, result.next_at) == (instant_key(NOON), NOON + HOUR)
    assert decision(HOURLY, result.watermark, NOON + late).fires == ()


def test_after_the_grace_it_is_missed() -> None:
    (fire,) = decision(HOURLY, NOON - HOUR, NOON + GRACE_S + 1).fires
    assert (fire.status, fire.run_id) == ("MISSED", None)
    assert fire.reason == "no scheduler worked when it was due"


@pytest.mark.parametrize(
    ("catchup", "expected"),
    [
        (False, "MMMMC"),
        ("latest", "MMMMC"),  # the instant that is only late serves
        (2.5 * HOUR, "MMWWC"),
        (True, "WWWWC"),
    ],
)
def test_catchup_with_an_instant_that_is_only_late(catchup: Any, expected: str) -> None:
    schedule = Schedule(cron="0 * * * *", timezone="UTC", catchup=catchup)
    result = decision(schedule, NOON - 5 * HOUR, NOON + 60)
    assert "".join(fire.status[0] for fire in result.fires) == expected


@pytest.mark.parametrize(
    ("catchup", "expected"), [(False, "MMMMM"), ("latest", "MMMMW"), (HOUR, "MMMMW"), (True, "WWWWW")]
)
def test_catchup_where_all_are_missed(catchup: Any, expected: str) -> None:
    schedule = Schedule(cron="0 * * * *", timezone="UTC", catchup=catchup)
    result = decision(schedule, NOON - 5 * HOUR, NOON + 1800)
    assert "".join(fire.status[0] for fire in result.fires) == expected


def test_a_long_gap_is_bounded() -> None:
    schedule = Schedule(every=60, catchup=True)
    result = decision(schedule, NOON - 7 * 86_400, NOON + 1)
    assert [fire.status for fire in result.fires].count("WAITING") <= MAX_ROWS
    first = result.fires[0]
    assert first.status == "MISSED"
    assert "instants from 2026-11-19" in str(first.reason)
    missed = int(str(first.reason).split(": ")[1].split()[0].replace(",", ""))
    assert missed + len(result.fires) - 1 == 7 * 1440


def test_a_gap_of_ten_years_is_counted_up_to_a_limit() -> None:
    result = decision(Schedule(cron="* * * * *", timezone="Europe/Berlin"), NOON - 3650 * 86_400, NOON)
    assert "more than 10,000 instants" in str(result.fires[0].reason)
    assert len(result.fires) <= 1 + MAX_ROWS + 7
    assert result.watermark == instant_key(NOON)


def test_a_problem_of_the_file_is_the_reason() -> None:
    (fire,) = decision(HOURLY, NOON - HOUR, NOON, problem="n.yaml:3:1: broken").fires
    assert (fire.status, fire.reason) == ("MISSED", "n.yaml:3:1: broken")


@pytest.mark.parametrize("watermark", [None, "", "yesterday"])
def test_a_watermark_that_cannot_be_read_means_now(watermark: str | None) -> None:
    assert decision(HOURLY, watermark, NOON + 30).fires == ()


def test_a_clock_that_goes_back_fires_nothing_again() -> None:
    result = decision(HOURLY, NOON, NOON - 30)
    assert (result.fires, result.next_at) == ((), NOON + HOUR)
    # Set back by years: the next instants are due again, where no fire has their key.
    result = decision(HOURLY, NOON + 3650 * 86_400, NOON + 1)
    assert (result.fires, result.next_at) == ((), NOON + HOUR)


def test_jitter_moves_the_start_and_not_the_instant() -> None:
    schedule = Schedule(cron="0 * * * *", timezone="UTC", jitter=600)
    delay = clock_of(schedule).delay("n:schedule", NOON)
    assert 0 < delay < 600
    assert decision(schedule, NOON - HOUR, NOON + delay - 0.01).fires == ()
    (fire,) = decision(schedule, NOON - HOUR, NOON + delay).fires
    assert (fire.at, fire.due_at, fire.key) == (NOON, NOON + delay, "2026-11-26T12:00:00Z")


def test_nothing_is_due_after_the_end() -> None:
    schedule = Schedule(cron="0 * * * *", timezone="UTC", end="2026-11-26T12:00")
    result = decision(schedule, NOON - HOUR, NOON)
    assert (statuses(result), result.next_at) == ([("12:00", "CLAIMED")], None)


def test_the_run_id_is_the_instant_and_a_digest() -> None:
    assert run_id_of("n:schedule", "2026-11-26T12:00:00Z", NOON).startswith("20261126T120000-")
    assert run_id_of("n:schedule", "a", NOON) != run_id_of("m:schedule", "a", NOON)
    (fire,) = decision(HOURLY, NOON - HOUR, NOON).fires
    assert fire.run_id == run_id_of("n:schedule", fire.key, NOON)
