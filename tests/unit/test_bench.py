"""The parts of the benchmark that only compute: medians, ratios, goals, tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import goals, live_rows, quick, rounds, table
from bench.contestants import kit
from bench.environments import OWN, Environment
from bench.far import cost
from bench.goals import Goal
from bench.live_rows import Figure
from bench.measure import Sample
from bench.own import OWN_WORKLOADS
from bench.results import load, ratio_of_rounds, result, save
from bench.rounds import Turns
from bench.workloads import WORKLOADS, Entry, Workload

OURS = Entry("Lightflow", OWN, ("python",), durable=True, peer=False)
BASE = Entry("bare", OWN, ("python",), peer=False)
PEER = Entry("peer", Environment("peer"), ("peer",), note="one by one")
WORK = Workload("wide", "much work", (OURS, BASE, PEER), "bare", 1000)


def sample(seconds: float, **said: float) -> Sample:
    return Sample(seconds, seconds + 1, seconds / 2, seconds / 4, None, dict(said))


def turns(ours: list[float], base: list[float]) -> Turns:
    made = Turns()
    made.samples = {"Lightflow": [sample(element) for element in ours], "bare": [sample(element) for element in base]}
    made.peaks = {"Lightflow": 20.0, "bare": 10.0}
    made.failed = {"peer": "cannot be installed"}
    return made


def measured(ours: list[float], base: list[float]) -> Any:
    return result(WORK, [OURS, BASE, PEER], turns(ours, base))


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    assert ratio_of_rounds([2, 4, 90], [1, 2, 3]) == 2
    assert ratio_of_rounds([2, 4], [1]) == 2  # of the rounds that both have


def test_a_result_has_medians_ratios_and_programs_that_did_not_run() -> None:
    outcome = measured([0.3, 0.2, 0.9], [0.1, 0.2, 0.1])
    base, ours, peer = outcome["entries"]
    assert (base["name"], base["median"], base["ratio"]) == ("bare", 0.1, 1.0)
    assert (ours["median"], ours["ratio"], ours["wall"], ours["peak_mb"]) == (0.3, 3.0, 1.3, 20.0)
    assert peer["failed"] == "cannot be installed"
    assert "median" not in peer


def test_what_a_program_reports_can_be_what_is_measured() -> None:
    made = Turns()
    made.samples = {"Lightflow": [sample(1.0, us_per_task=30.0), sample(1.0, us_per_task=50.0)]}
    made.peaks = {"Lightflow": 1.0}
    entry = result(WORK._replace(measure="us_per_task", baseline="Lightflow"), [OURS], made)["entries"][0]
    assert (entry["median"], entry["said"]) == (40.0, {"us_per_task": 40.0})


def judged(ours: list[Sample], base: list[Sample]) -> quick.Verdict:
    """Judge the first goal of the workload."""
    return quick.judge(WORK, {"Lightflow": ours, "bare": base})[0]


def test_the_quick_form_judges_the_least_processor_times_of_all_rounds() -> None:
    limit = quick.ratios("wide")[0].quick_limit
    base = [sample(1.0), sample(1.0)]
    busy = judged([sample(40.0 * limit), sample(0.9 * limit)], base)
    assert (busy.ratio, busy.has_failed) == (pytest.approx(0.9 * limit), False)
    assert judged([sample(1.1 * limit), sample(1.2 * limit)], base).has_failed


def test_a_goal_whose_side_did_not_run_has_failed() -> None:
    assert judged([], [sample(1.0)]).has_failed


def test_each_ratio_of_the_quick_form_has_a_limit() -> None:
    assert all(goal.quick_limit for element in quick.workloads() for goal in quick.ratios(element.name))


def test_goals_can_be_numbers_of_their_own() -> None:
    outcome = measured([0.3], [0.1])
    assert goals.measured(Goal("wide", "", 60, less=True), outcome) == pytest.approx(100)
    outcome["entries"][1]["said"] = {"cpu_s": 2.5}
    assert goals.measured(Goal("wide", "", 3.0, said="cpu_s"), outcome) == 2.5


def test_every_goal_names_a_workload_and_a_contestant() -> None:
    entries = {element.name: {entry.name for entry in element.entries} for element in (*WORKLOADS, *OWN_WORKLOADS)}
    for goal in goals.GOALS:
        assert goal.ours in entries[goal.workload], goal
        assert not goal.beside or goal.beside in entries[goal.workload], goal


def test_every_workload_has_its_baseline_and_lightflow() -> None:
    for workload in (*WORKLOADS, *OWN_WORKLOADS):
        names = [entry.name for entry in workload.entries]
        assert workload.baseline in names
        assert len(set(names)) == len(names)
        assert any(table.is_ours(name) for name in names)


def test_the_quick_form_needs_nothing_installed_and_checks_ratios_only() -> None:
    workloads = quick.workloads()
    assert not [entry for element in workloads for entry in element.entries if entry.environment.requirements]
    checked = [goal for element in workloads for goal in quick.ratios(element.name)]
    assert len(checked) >= 12
    assert all(goal.is_ratio for goal in checked)


def test_turns_rotate_and_slow_contestants_get_fewer() -> None:
    entries = [OURS, BASE, PEER]
    assert [rounds.rotated(entries, turn)[0] for turn in range(4)] == [OURS, BASE, PEER, OURS]
    assert rounds.quota(5, 0.1) == 5
    assert rounds.quota(5, 6.0) == 2
    assert rounds.quota(5, 60.0) == 0


def test_durations_have_three_digits() -> None:
    shown = [table.duration(element) for element in (0.0000123, 0.00123, 0.0456, 0.789, 1.234, 1234.0)]
    assert shown == ["12.3 µs", "1.23 ms", "45.6 ms", "789 ms", "1.23 s", "1,234 s"]


def test_tables() -> None:
    long = table.long(measured([0.3], [0.1]))
    assert "| **Lightflow** | yes | 300 ms | 3.00 | 3,333 | 1.30 s | 150 ms | 20 MB | 1 |" in long
    assert "| peer (one by one) |  | not run: cannot be installed |" in long
    assert len({line.count("|") for line in long.splitlines()}) == 1
    short = table.short({"workloads": {"wide": measured([0.3], [0.1])}})
    assert "| **Lightflow, from Python** | yes | 300 ms (3 ×) |" in short
    assert "| peer | no | not run |" in short


def test_goals_are_shown_with_what_was_measured() -> None:
    shown = table.goals({"workloads": {"wide": measured([0.3], [0.1])}}, [Goal("wide", "fast", 2.0, beside="bare")])
    assert "| fast | 2 × | **3.00** × |" in shown


def test_it_is_reported_when_the_machine_was_busy() -> None:
    outcome = measured([0.3], [0.1])
    results = {"machine": {**dict.fromkeys(("lightflow", "python", "sqlite", "linux", "cores"), "1")}}
    assert "Other programs" not in table.conditions({**results, "workloads": {"wide": {**outcome, "others": 0.05}}})
    assert "Other programs" in table.conditions({**results, "workloads": {"wide": {**outcome, "others": 0.5}}})


def test_pages_keep_what_is_outside_the_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x:start -->\nold\n<!-- x:end -->\nafter\n", encoding="utf-8")
    monkeypatch.setitem(table.PAGES, "x", (page,))
    assert table.write({"x": "new"}) == [page]
    assert page.read_text(encoding="utf-8") == "before\n<!-- x:start -->\nnew\n<!-- x:end -->\nafter\n"
    assert table.write({"x": "new"}) == []
    page.write_text("no markers\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has no"):
        table.write({"x": "new"})


def test_results_are_preserved(tmp_path: Path) -> None:
    results = {"machine": {}, "workloads": {"wide": measured([0.3], [0.1])}}
    save(results, tmp_path / "results.json")
    assert load(tmp_path / "results.json") == results
    assert load(tmp_path / "none.json")["workloads"] == {}


def test_the_values_of_the_last_layer() -> None:
    assert kit.expected(1, 3) == [0, 1, 2]
    # The task at place p reads p and 7p+1 of three.
    assert kit.expected(2, 3) == [0 + 1 + 1, 1 + 2 + 1, 2 + 0 + 1]


def test_simulated_machines_answer() -> None:
    costs = cost("layered", 200, "simulated", 2, 2)
    assert set(costs) == {"build_s", "seconds", "cpu_s", "busy_s", "kb_per_task"}


def test_a_row_of_the_server_is_recorded_in_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    record = tmp_path / "live.json"
    live_rows.record({"Lightflow": {"start": "300 ms", "engine": "1.01 ×"}, "Prefect": {"start": "10.8 s"}}, record)
    facts = live_rows.record({"Lightflow": {"start": "200 ms"}}, record)
    text = live_rows.documentation(facts)
    assert "| `serve` to the first answer | 200 ms | 350 ms | 10.8 s |" in text
    assert "| CPU of 10,000 tasks with a server and a client, to alone | 1.01 × | 1.03 × |  |" in text
    assert "300 ms" not in text
    assert "due to claimed" not in text, "it was not measured"
    assert live_rows.load(record) == facts


def test_only_a_ratio_beyond_its_limit_fails() -> None:
    figures = {"start": Figure("9 s"), "engine": Figure("1.10 ×", 1.10), "start-ratio": Figure("9.00 ×", 9.0)}
    assert [row.name for row in live_rows.exceeded(figures)] == ["start-ratio"]


def test_the_table_of_the_server_in_the_documentation_is_that_of_the_record() -> None:
    if not live_rows.RECORD.exists():
        pytest.skip("nothing is recorded")
    text = live_rows.documentation(live_rows.load())
    for page in table.PAGES["live"]:
        assert text in page.read_text(encoding="utf-8")
