"""The program's promise on being interrupted: the run is stored as INTERRUPTED and resumable, nothing lives on.

Proved with real signals and a real terminal: SIGINT, SIGTERM and SIGHUP, once with polite tasks and twice with tasks
that ignore them (the second one does not wait for the grace, which is longer than this test waits), and a terminal that
is closed. A reader that goes away (`| head -1`) ends nothing: the run goes on to its end.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from crashkit import Harness

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "terminal": 129}
CASES = [*(f"{name}/{times}" for name in ("SIGINT", "SIGTERM", "SIGHUP") for times in ("once", "twice")), "terminal"]


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_program(case: str, harness: Harness, figure: Callable[..., str], seed: int) -> None:
    report = harness.run("interrupts", "--case", case, seed=seed)
    figure("signals", case=case, code=report["code"], survivors=len(report["survivors"]), took_ms=report["took_ms"])
    assert report["survivors"] == [], report
    assert (report["code"], report["status"]) == (CODES[case.split("/")[0]], "INTERRUPTED"), report
    assert report["tasks"]["a"] == "SUCCESS", report
    assert report["tasks"]["c"] == "PENDING", "it has not begun"
    assert (report["resumed"], report["end"], report["trail"]) == (0, "SUCCESS", ["a", "b", "c"]), report
    assert not any("Traceback" in line for line in report["errors"]), report["errors"]


def test_a_reader_that_goes_away(harness: Harness, seed: int) -> None:
    report = harness.run("interrupts", "--case", "pipe", seed=seed)
    assert (report["code"], report["status"], report["trail"]) == (0, "SUCCESS", ["a", "b", "c"]), report
    assert (report["survivors"], report["errors"]) == ([], []), report
