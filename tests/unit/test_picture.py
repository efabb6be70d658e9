"""The model of drawings: what is derived from a graph, and that every state can be read by everybody."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import pytest
from picture_kit import from_dependencies

from liteflow.pictures.picture import (
    ALL_STYLES,
    PLAIN_STYLE,
    STATUS_STYLES,
    Colours,
    Node,
    caption,
    clean,
    duration_text,
    layer_sizes,
    prefers_left_to_right,
    shorten,
    status_style,
)
from liteflow.states import TASK_STATUSES


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(entry: str, other: str) -> float:
    dark, light = sorted((luminance(entry), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


ALL_COLOURS = [
    pytest.param(colours, paper, id=f"{look.name}-{shade}")
    for look in [PLAIN_STYLE, *ALL_STYLES.values()]
    for shade, colours, paper in (("light", look.light, "#ffffff"), ("dark", look.dark, "#12161b"))
]


@pytest.mark.parametrize(("colours", "paper"), ALL_COLOURS)
def test_text_is_legible_and_borders_are_visible(colours: Colours, paper: str) -> None:
    assert contrast(colours.ink, colours.fill) >= 4.5
    assert contrast(colours.stroke, paper) >= 3.0


def test_every_state_has_its_own_sign_word_and_class() -> None:
    assert set(STATUS_STYLES) == set(TASK_STATUSES)
    for part in ("name", "sign", "word", "light"):
        assert len({getattr(look, part) for look in STATUS_STYLES.values()}) == len(STATUS_STYLES), part


def test_every_state_of_runs_attempts_and_fires_has_its_own_sign_and_word() -> None:
    for part in ("name", "sign", "word"):
        assert len({getattr(look, part) for look in ALL_STYLES.values()}) == len(ALL_STYLES), part


#: What red, green and blue light becomes for people without one kind of cones (Machado, Oliveira, Fernandes 2009).
SIGHTS = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
MEANINGS = ("RUNNING", "SUCCESS", "FAILED", "UP_FOR_RETRY", "UPSTREAM_FAILED", "QUEUED")


def seen_as(colour: str, sight: str) -> tuple[float, float, float]:
    """Lightness and the two axes of colour (CIE Lab) of a colour in a sight."""
    linear = [luminance(f"#{colour[i : i + 2] * 3}") for i in (1, 3, 5)]
    red, green, blue = (
        min(1.0, max(0.0, sum(weight * part for weight, part in zip(row, linear, strict=True))))
        for row in SIGHTS[sight]
    )
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883
    fx, fy, fz = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("shade", ["light", "dark"])
def test_states_differ_for_every_sight(sight: str, shade: str) -> None:
    """Fill or border of the states that matter most differ by 10 in CIE Lab, or one of two borders is dashed.

    The signs and words of all states differ, too.
    """
    for first, second in itertools.combinations(MEANINGS, 2):
        looks = getattr(STATUS_STYLES[first], shade), getattr(STATUS_STYLES[second], shade)
        distances = [
            math.dist(seen_as(getattr(looks[0], part), sight), seen_as(getattr(looks[1], part), sight))
            for part in ("fill", "stroke")
        ]
        dashes = STATUS_STYLES[first].dashed != STATUS_STYLES[second].dashed
        assert max(distances) >= 10 or dashes, (first, second, distances)


def test_a_failure_is_darker_than_everything_else_in_grey() -> None:
    fills = {state: luminance(look.light.fill) for state, look in STATUS_STYLES.items()}
    failed = fills.pop("FAILED")
    assert min(fills.values()) - failed > 0.4


def test_a_state_of_a_later_version_keeps_its_word() -> None:
    look = status_style("UP_FOR_RESCHEDULE")
    assert (look.name, look.sign, look.word) == ("plain", "?", "up for reschedule")
    assert status_style(None) is PLAIN_STYLE


def test_from_dependencies_keeps_task_order_and_sorts_edges() -> None:
    picture = from_dependencies(
        "t", {"b": [], "a": ["b", "b"], "c": ["b", "a"]}, statuses={"a": "FAILED"}, durations={"a": 2.5}
    )
    assert [node.task_id for node in picture.nodes] == ["b", "a", "c"]
    assert [(edge.source, edge.target) for edge in picture.edges] == [("a", "c"), ("b", "a"), ("b", "c")]
    assert picture.nodes[1] == Node(task_id="a", label="a", status="FAILED", duration_s=2.5)
    assert picture.upstream() == {"b": [], "a": ["b"], "c": ["a", "b"]}


def test_a_dependency_that_is_not_a_task_is_shown_not_refused() -> None:
    picture = from_dependencies("t", {"a": ["ghost"]})
    assert picture.nodes[-1].task_id == "ghost"
    assert "not in this run" in caption(picture.nodes[-1])


def test_counts_follow_the_palette() -> None:
    statuses = {"a": "FAILED", "b": "SUCCESS", "c": "FAILED", "d": "ODD"}
    picture = from_dependencies("t", dict.fromkeys("abcde", ()), statuses=statuses)
    assert list(picture.counts().items()) == [("SUCCESS", 1), ("FAILED", 2), ("ODD", 1)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (float("inf"), ""),
        (-1.0, "0 ms"),
        (0.423, "423 ms"),
        (9.999, "10.0 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (273_600, "3 d 04 h"),
    ],
)
def test_duration_text(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


def test_clean_makes_one_safe_line() -> None:
    assert clean("a\n b\t\x00\x1b[31m\u202ec\ud800") == "a b \ufffd\ufffd[31m\ufffdc\ufffd"


def test_shorten_keeps_both_ends() -> None:
    assert shorten("abcdefghij", 7) == "abc…hij"
    assert shorten("abc", 3) == "abc"


def test_layers_and_direction() -> None:
    chain = from_dependencies("t", {f"t{i}": [f"t{i - 1}"] if i else [] for i in range(5)})
    assert layer_sizes(chain) == [1] * 5
    wide = from_dependencies("t", {"a": [], **{f"b{i}": ["a"] for i in range(40)}})
    assert layer_sizes(wide) == [1, 40]
    assert prefers_left_to_right(wide)
    deep = from_dependencies("t", {f"t{i}": [f"t{i - 1}"] if i else [] for i in range(300)})
    assert not prefers_left_to_right(deep)


def test_a_cycle_and_an_empty_graph_do_not_hang() -> None:
    assert layer_sizes(from_dependencies("t", {"a": ["b"], "b": ["a"], "c": []})) == [1]
    assert prefers_left_to_right(from_dependencies("t", {}))


def test_the_engine_side_imports_only_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import liteflow.pictures.page, liteflow.pictures.mermaid; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names) - {'liteflow'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
