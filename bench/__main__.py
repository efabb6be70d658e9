"""The command line: `python -m bench`, with the name of a measurement such as `quick`, `waits` or `children`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from bench import children, environments, far, live, live_rows, profile, quick, requests, retention, table, waits
from bench.measure import ROOT, NotRun, adopt_orphans
from bench.own import OWN_WORKLOADS
from bench.results import RECORD, Results, load, machine, result, save
from bench.rounds import play, to_stderr
from bench.workloads import WORKLOADS, Entry, Workload

CHART = ROOT / "docs" / "images" / "bench.png"
LATEST = environments.FOLDER / "results.json"


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    names = [one.name for one in (*WORKLOADS, *OWN_WORKLOADS)]
    parser = argparse.ArgumentParser(prog="python -m bench", description="Lightflow beside others.")
    parser.add_argument(
        "what",
        nargs="?",
        default="run",
        choices=["run", "quick", "profile", "pages", "retention", "waits", "children", "far", "http", "live"],
    )
    parser.add_argument("--only", choices=["shared", "own"], help="only what others can do too, or only our own rows")
    parser.add_argument("--workload", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--peers", default="all", help="all (the default), none, or names with commas: doit,parsl")
    parser.add_argument("--rounds", type=int, default=5, help="how many, for those that are fast enough (5)")
    parser.add_argument("--write", action="store_true", help="record it, and put tables and chart into the docs")
    live_options = parser.add_argument_group("for `live`")
    live_options.add_argument("--row", action="append", choices=[row.name for row in live_rows.ROWS], metavar="NAME",
                              help=", ".join(row.name for row in live_rows.ROWS))  # fmt: skip
    live_options.add_argument("--minutes", type=float, default=0, help="how long `heap-hour` leaves a page open (0)")
    far_options = parser.add_argument_group("for `far`")
    far_options.add_argument("--tasks", type=int, default=far.FEW, help=f"of the simulation: {far.FEW} or {far.MANY}")
    return parser.parse_args()


def chosen(options: argparse.Namespace) -> list[Workload]:
    """Return the selected workloads."""
    found = [*(WORKLOADS if options.only != "own" else ()), *(OWN_WORKLOADS if options.only != "shared" else ())]
    return [one for one in found if not options.workload or one.name in options.workload]


def contestants(workload: Workload, peers: str) -> list[Entry]:
    """Return the selected contestants."""
    names = peers.split(",")
    return [one for one in workload.entries if not one.peer or peers == "all" or one.environment.name in names]


def run(options: argparse.Namespace) -> Results:
    """Measure the workloads, and print each when it is done."""
    results: Results = {"machine": machine(), "workloads": {}}
    for workload in chosen(options):
        entries = contestants(workload, options.peers)
        rounds = options.rounds if workload.tasks < 100_000 else min(options.rounds, 3)
        done = result(workload, entries, play(workload, entries, rounds, to_stderr))
        results["workloads"][workload.name] = done
        print(f"\n## {workload.title}\n\n{table.long(done)}", flush=True)
        save(results, LATEST)
    print(f"\n{table.goals(results)}\n\n{table.conditions(results)}")
    return results


def texts(results: Results) -> dict[str, str]:
    """Return the texts for the documentation."""
    conditions = table.conditions(results)
    parts = [conditions]
    for workload in WORKLOADS:
        if workload.name in results["workloads"]:
            found = results["workloads"][workload.name]
            parts += [f"### {found['title'][0].upper()}{found['title'][1:]}", table.long(found)]
    parts += ["### Lightflow alone", table.own(results, [one.name for one in OWN_WORKLOADS])]
    parts += ["### Goals", table.goals(results)]
    return {"bench:short": f"{table.short(results)}\n\n{conditions}", "bench": "\n\n".join(parts)}


def draw(source: Path, target: Path) -> None:
    """Draw the chart, in the environment with matplotlib.

    Raises:
        NotRun: it cannot be set up.
    """
    environments.CHART.set_up()
    command = [environments.CHART.python, "-m", "bench.chart", str(source), str(target)]
    subprocess.run(command, cwd=ROOT, check=True)


def main() -> int:
    options = arguments()
    adopt_orphans()
    if options.what == "quick":
        return quick.main()
    if options.what == "profile":
        return profile.main()
    if options.what == "http":
        return requests.main()
    if options.what == "retention":
        return retention.main()
    if options.what == "waits":
        return waits.main()
    if options.what == "children":
        return children.main()
    if options.what == "far":
        return far.main(options)
    if options.what == "live":
        return live.main(options)
    record = load()
    if options.what == "run":
        results = run(options)
        if not options.write:
            to_stderr(f"\nAlso in {LATEST.relative_to(ROOT)}. With --write it goes into the documentation.")
            return 0
        record["machine"] = results["machine"]
        record["workloads"].update(results["workloads"])
        save(record)
    try:
        draw(RECORD, CHART)
    except (NotRun, subprocess.CalledProcessError) as error:
        to_stderr(f"the chart is not drawn: {error}")
    for page in table.write(texts(record)):
        to_stderr(f"wrote {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
