"""R22-zones: the instants of schedules around changes of the clock agree with an oracle, in all zones.

Proved: for each zone, around each of its changes in some years, the instants of several expressions are those that a
look at each minute finds. The quick form takes a part of the zones, another part for each seed.
Not proved: zones whose rules change after the release of `tzdata`.

    pytest tests/crash/test_r22_zones.py --crash-seed 7 --crash-scale 25
"""

from __future__ import annotations

import itertools
import random
import sys
import zoneinfo
from collections.abc import Callable
from pathlib import Path

import pytest

from lightflow.instants import clock_of
from liteflow import Schedule

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from test_instants import EXPRESSIONS, Oracle, transitions

ZONES, YEARS, AROUND_S = 24, (1999, 2011, 2018, 2026), 30_000


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r22_all_zones(figure: Callable[..., str], scaled: Callable[[int], int], seed: int) -> None:
    names = sorted(zoneinfo.available_timezones())
    chosen = sorted(random.Random(seed).sample(names, min(len(names), scaled(ZONES))))
    changes, compared, wrong = 0, 0, []
    for name in chosen:
        zone = zoneinfo.ZoneInfo(name)
        for change in itertools.chain.from_iterable(transitions(zone, year) for year in YEARS):
            changes += 1
            begin, end = change - AROUND_S, change + AROUND_S
            for expression in EXPRESSIONS:
                clock = clock_of(Schedule(cron=expression, timezone=name))
                actual = list(itertools.takewhile(lambda t, end=end: t < end, clock.after(begin)))
                compared += 1
                if actual != Oracle(expression, zone).instants(begin, end):
                    wrong.append((name, change, expression))
    figure("R22-zones", zones=len(chosen), changes=changes, compared=compared, wrong=len(wrong), seed=seed)
    assert not wrong, wrong[:10]
