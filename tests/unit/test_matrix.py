"""The combinations of a matrix: what GitHub Actions documents, and the corners of it."""

from __future__ import annotations

from typing import Any

import pytest

from lightflow.expressions.matrix import combinations


def test_all_values_are_combined_with_the_last_axis_fastest() -> None:
    assert combinations({"os": ["a", "b"], "version": [1, 2]}, [], []) == [
        {"os": "a", "version": 1},
        {"os": "a", "version": 2},
        {"os": "b", "version": 1},
        {"os": "b", "version": 2},
    ]


def test_the_example_of_includes_in_the_documentation_of_github() -> None:
    include: list[dict[str, Any]] = [
        {"color": "green"},
        {"color": "pink", "animal": "cat"},
        {"fruit": "apple", "shape": "circle"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]
    assert combinations({"fruit": ["apple", "pear"], "animal": ["cat", "dog"]}, include, []) == [
        {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
        {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
        {"fruit": "pear", "animal": "cat", "color": "pink"},
        {"fruit": "pear", "animal": "dog", "color": "green"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]


def test_an_include_that_adds_to_one_combination() -> None:
    axes = {"os": ["windows-latest", "ubuntu-latest"], "node": [14, 16]}
    result = combinations(axes, [{"os": "windows-latest", "node": 16, "npm": 6}], [])
    assert len(result) == 4
    assert [entry for entry in result if "npm" in entry] == [{"os": "windows-latest", "node": 16, "npm": 6}]


def test_an_include_that_adds_a_combination() -> None:
    result = combinations({"os": ["a", "b"]}, [{"os": "c", "version": 17}], [])
    assert result == [{"os": "a"}, {"os": "b"}, {"os": "c", "version": 17}]


def test_includes_alone_are_the_combinations() -> None:
    assert combinations({}, [{"site": "x"}, {"site": "x", "datacenter": "y"}], []) == [
        {"site": "x"},
        {"site": "x", "datacenter": "y"},
    ]


def test_an_exclude_removes_all_combinations_with_its_values() -> None:
    axes = {"os": ["macos", "windows"], "version": [12, 14, 16], "environment": ["staging", "production"]}
    exclude: list[dict[str, Any]] = [
        {"os": "macos", "version": 12, "environment": "production"},
        {"os": "windows", "version": 16},
    ]
    result = combinations(axes, [], exclude)
    assert len(result) == 12 - 3
    assert {"os": "macos", "version": 12, "environment": "production"} not in result
    assert not [entry for entry in result if entry["os"] == "windows" and entry["version"] == 16]


def test_includes_are_added_after_excludes() -> None:
    result = combinations({"os": ["a", "b"]}, [{"os": "a", "again": True}], [{"os": "a"}])
    assert result == [{"os": "b"}, {"os": "a", "again": True}]


@pytest.mark.parametrize(
    ("value", "excluded", "out"),
    [
        (3, "3", True),
        ("3", 3, True),
        (True, "true", True),
        (3.11, "3.1", False),
        ({"name": "x", "tag": 1}, {"name": "x"}, True),
        ({"name": "x"}, {"name": "x", "tag": 1}, False),
        ([1, 2], [1, 2], True),
        ([1, 2], [1], False),
        ([1], "[1]", False),
    ],
)
def test_values_are_compared_as_they_are_written(value: Any, excluded: Any, out: bool) -> None:
    assert combinations({"axis": [value]}, [], [{"axis": excluded}]) == ([] if out else [{"axis": value}])


def test_an_axis_without_values_gives_no_combinations() -> None:
    assert combinations({"os": ["a"], "version": []}, [], []) == []


def test_the_arguments_are_not_changed() -> None:
    include = [{"os": "c"}]
    first = combinations({"os": ["a"]}, include, [])
    first[-1]["more"] = 1
    assert include == [{"os": "c"}]
