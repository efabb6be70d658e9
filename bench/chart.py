"""Draw the results: `python -m bench.chart results.json chart.png`, in an environment that has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.patches import Patch

mpl.use("Agg")

PANELS: Final = (
    ("wide", "1,000 Python tasks, 4 threads"),
    ("layered", "20 layers of 50, each task reads two values"),
    ("layered-processes", "the same layers, 4 processes"),
    ("shell", "500 shell commands, 4 at a time"),
)
OURS, DURABLE, STATELESS, INK = "#d9480f", "#4c6a92", "#c3ccd6", "#222b36"
#: Tasks per second from the left end of a panel to its right end.
SCALE: Final = (10, 300_000)
LEFT_OUT: Final = ("lightflow run",)


def tasks_per_second(result: dict[str, Any]) -> list[tuple[str, float, str]]:
    """Return name, tasks per second and colour of each bar, the slowest first."""
    found = []
    for one in result["entries"]:
        if "median" in one and one["name"] not in LEFT_OUT:
            ours = one["name"] == "Lightflow"
            colour = OURS if ours else DURABLE if one["durable"] else STATELESS
            found.append((one["name"], result["tasks"] / one["median"], colour))
    return sorted(found, key=lambda bar: bar[1])


def panel(axes: Any, title: str, bars: list[tuple[str, float, str]], places: int) -> None:
    """Draw horizontal bars with numbers; all panels have the same logarithmic scale and thickness."""
    names, numbers, colours = zip(*bars, strict=True)
    drawn = axes.barh(range(len(bars)), numbers, color=colours, height=0.72)
    axes.set_xscale("log")
    axes.set_xlim(*SCALE)
    axes.set_ylim(len(bars) - places - 0.5, len(bars) - 0.4)
    axes.bar_label(drawn, [f"{number:,.0f}" for number in numbers], padding=4, fontsize=9, color=INK)
    axes.set_yticks(range(len(bars)), names, fontsize=9.5, color=INK)
    for label in axes.get_yticklabels():
        if label.get_text() == "Lightflow":
            label.set_fontweight("bold")
            label.set_color(OURS)
    axes.set_title(title, fontsize=11, loc="left", color=INK, fontweight="bold")
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", which="both", labelsize=8.5, colors="#6b7683")
    axes.minorticks_off()
    axes.grid(axis="x", color="#e4e8ec", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def draw(results: dict[str, Any], target: Path) -> None:
    """Draw all measured panels, two in a row."""
    shown = [(results["workloads"][name], title) for name, title in PANELS if name in results["workloads"]]
    counts = [len(tasks_per_second(result)) for result, _ in shown]
    heights = [max(counts[row : row + 2]) for row in range(0, len(counts), 2)]
    figure, grid = plt.subplots(
        len(heights), 2, figsize=(12, 0.33 * sum(heights) + 2.2), squeeze=False, height_ratios=heights
    )
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for place, (result, title) in enumerate(shown):
        panel(grid.flat[place], title, tasks_per_second(result), heights[place // 2])
    legend = [
        Patch(color=OURS, label="Lightflow, durable"),
        Patch(color=DURABLE, label="keeps durable state"),
        Patch(color=STATELESS, label="keeps no state"),
    ]
    figure.suptitle(
        "Tasks per second (logarithmic, longer is better)",
        x=0.012,
        ha="left",
        fontsize=13,
        fontweight="bold",
        color=INK,
    )
    figure.legend(handles=legend, loc="upper right", ncols=3, frameon=False, fontsize=10)
    figure.tight_layout(rect=(0, 0, 1, 0.985), h_pad=2.0, w_pad=2.5)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=100, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
