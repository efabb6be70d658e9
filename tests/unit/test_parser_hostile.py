"""Broken, enormous and hostile files: each has one clear line, quickly."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from lightflow.errors import WorkflowError
from lightflow.parser.files import MAX_BYTES
from lightflow.parser.workflow_loader import load_workflow, loads_workflow
from lightflow.spec.model import WorkflowSpec

GOOD = (Path(__file__).parents[1] / "data" / "good.yaml").read_text(encoding="utf-8")
GOOD_JSON = json.dumps(
    {
        "workflow_name": "good",
        "tasks": {
            "a": {"run": 'echo "x" \\ \u00e9 \U0001f600', "env": {"N": 1.50}},
            "b": {"type": "python", "run": "print(1)\n", "depends_on": ["a"], "timeout": 1e2},
        },
        "settings": {"retries": 1, "fail_fast": True},
    },
    indent=1,
    ensure_ascii=False,
)


def problem_of(data: bytes | str, tmp_path: Path, name: str = "w.yaml") -> str:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(WorkflowError) as caught:
        load_workflow(path)
    return str(caught.value).replace(f"{tmp_path}{os.sep}", "")


@pytest.mark.parametrize("piece", ["[", "{a: ", "- ", "? ", "[[", "{? ", "&a [", "!!seq ["])
@pytest.mark.parametrize("times", [1_000, 100_000])
def test_deep_nesting_is_refused_before_it_costs_anything(piece: str, times: int, tmp_path: Path) -> None:
    began = time.process_time()
    message = problem_of(piece * times, tmp_path)
    assert message.startswith("w.yaml:1:")
    assert time.process_time() - began < 2


def test_nesting_inside_a_workflow(tmp_path: Path) -> None:
    deep = "tasks: {a: {type: python, call: 'm:f', args: " + "[" * 100_000 + "]" * 100_000 + "}}"
    assert problem_of(deep, tmp_path) == "w.yaml:1:75: nested more than 32 levels deep"
    block = "tasks:\n" + "".join(f"{' ' * depth}a:\n" for depth in range(1, 1_500))
    assert "nested more than 32 levels deep" in problem_of(block, tmp_path)
    flow = '{"tasks": ' + "[" * 100_000
    assert problem_of(flow, tmp_path, "w.json") == "w.json:1:42: nested more than 32 levels deep"


@pytest.mark.parametrize(
    "piece", ["[", "[[", "{a: ", "[{a: ", "&a [", "!!seq [", '{"a": ', "[ # x\n ", "['it''''s [', "]
)
@pytest.mark.parametrize(
    "before", ["", "it's: 1\n", '"{[": 2\n', "b:\n  - c: don't\n    d: [x]\n", "e: {f: [1, 2], g: [3]}\n"]
)
def test_nesting_is_reported_before_the_limit_of_the_library(piece: str, before: str, tmp_path: Path) -> None:
    shown = problem_of(f"{before}tasks:\n  a: {piece * 2_000}", tmp_path)
    assert shown.endswith(": nested more than 32 levels deep")
    line = before.count("\n") + 2
    assert shown.startswith(f"w.yaml:{line}:" if "\n" not in piece else "w.yaml:")


def test_alias_bomb(tmp_path: Path) -> None:
    rows = ["x-a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"x-a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert problem_of("\n".join(rows), tmp_path).endswith("the aliases stand for more than 1,000,000 values")


def test_too_many_aliases(tmp_path: Path) -> None:
    assert problem_of("x-a: &a 1\nx-b: [" + "*a, " * 100_001 + "]\n", tmp_path).endswith("more than 100,000 aliases")


def test_merge_bomb(tmp_path: Path) -> None:
    rows = ["x-a0: &a0 {k: 1}"]
    rows += [f"x-a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 20)}], k{n}: 1}}" for n in range(1, 30)]
    began = time.process_time()
    assert problem_of("\n".join(rows), tmp_path).endswith("the aliases stand for more than 1,000,000 values")
    assert time.process_time() - began < 2


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}"])
def test_recursive_anchor(text: str, tmp_path: Path) -> None:
    assert problem_of(text, tmp_path).endswith("alias *a is inside its own anchor")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "w.yaml: is empty; a workflow file holds keys such as `workflow_name:` and `tasks:`"),
        (b"# only a comment\n", "w.yaml: is empty; a workflow file holds keys such as `workflow_name:` and `tasks:`"),
        (b"a: caf\xe9\n", "w.yaml:1:7: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (b"\xef\xbb\xbfa: 1\nb: \xff\n", "w.yaml:2:4: byte 0xff is not UTF-8; save the file as UTF-8"),
        ("tasks: 1".encode("utf-16"), "w.yaml:1:1: is UTF-16; save it as UTF-8"),
        (
            b"a: 1\r\nb: x\x00y\n",
            "w.yaml:2:5: character U+0000 is not allowed; remove it, or write it as an escape in double quotes",
        ),
        (
            "a: x\u2028b: y".encode(),
            "w.yaml:1:5: character U+2028 is not allowed; remove it, or write it as an escape in double quotes",
        ),
    ],
)
def test_bytes_that_are_not_text(data: bytes, message: str, tmp_path: Path) -> None:
    assert problem_of(data, tmp_path) == message


def test_not_a_regular_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.yaml"
    os.mkfifo(fifo)
    for path, message in [(fifo, "is not a regular file"), (tmp_path, "is a folder, not a workflow file")]:
        with pytest.raises(WorkflowError, match=message):
            load_workflow(path)
    with pytest.raises(WorkflowError, match="is not a regular file"):
        load_workflow("/dev/zero")
    with pytest.raises(WorkflowError, match="cannot be read"):
        load_workflow("a\0b.yaml")


def test_too_large(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(WorkflowError, match="is larger than 16 MiB"):
        load_workflow(path)


def test_missing_file_with_a_similar_name(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").touch()
    with pytest.raises(WorkflowError) as caught:
        load_workflow(tmp_path / "pipelin.yml")
    assert str(caught.value).endswith(f'no such file, did you mean "{tmp_path}/pipeline.yaml"?')


def test_byte_order_mark_and_crlf_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert list(load_workflow(path).tasks) == ["fetch", "code", "last"]


def test_every_bad_task_of_many_costs_little() -> None:
    text = "tasks:\n" + "".join(f"  'bad id {number}': {{rnu: x, retries: -1}}\n" for number in range(10_000))
    began = time.process_time()
    with pytest.raises(WorkflowError) as caught:
        loads_workflow(text)
    assert time.process_time() - began < 10
    assert len(str(caught.value).splitlines()) == 51


def test_a_long_chain_a_wide_fan_and_a_huge_cycle() -> None:
    chain = "tasks:\n  t0: {run: x}\n" + "".join(f"  t{n}: {{run: x, needs: t{n - 1}}}\n" for n in range(1, 20_000))
    assert len(loads_workflow(chain).tasks) == 20_000
    with pytest.raises(WorkflowError) as caught:
        loads_workflow(chain.replace("t0: {run: x}", "t0: {run: x, needs: t19999}"))
    assert len(str(caught.value)) < 500


def test_control_characters_from_a_file_never_reach_the_terminal() -> None:
    with pytest.raises(WorkflowError) as caught:
        loads_workflow('tasks:\n  a: {run: x, "\\e[31mred\\u202e": 1}\n')
    assert str(caught.value) == 'workflow.yaml:2:15: tasks.a: unknown key "\\x1b[31mred\\u202e"'


def _mutated(text: str, chance: random.Random) -> str:
    pieces = [
        "\t",
        "\n",
        "  ",
        ":",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "*defaults",
        "<<: ",
        "!!str ",
        "!x ",
        "|",
        ">",
    ]
    pieces += [
        '"',
        "'",
        "\\",
        "\\ud800",
        "#",
        "%",
        "@",
        "---\n",
        "...",
        "null",
        "1e999",
        "0x" + "f" * 200,
        ".nan",
        "\0",
        "é",
    ]
    pieces += [",", "x-", "tasks", "run", "retry", "-1", "true", "~", "? ", "\r", "\u2028", "${{ x }}"]
    for _ in range(chance.randint(1, 6)):
        at, to = sorted(chance.randrange(len(text) + 1) for _ in range(2))
        kind = chance.random()
        if kind < 0.5:
            text = text[:at] + chance.choice(pieces) + text[at:]
        elif kind < 0.7:
            text = text[:at] + text[min(to, at + 8) :]
        elif kind < 0.85:
            text = text[:to] + text[at : min(to, at + 40)] + text[to:]
        else:
            lines = text.splitlines(True)
            chance.shuffle(lines[: chance.randint(0, len(lines))])
            lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines or [""]))
            text = "".join(lines)
    return text


@pytest.mark.parametrize(("file", "good"), [("w.yaml", GOOD), ("w.json", GOOD_JSON), ("j.yaml", GOOD_JSON)])
@pytest.mark.parametrize("seed", range(4))
def test_any_mutation_is_a_workflow_or_a_located_error(file: str, good: str, seed: int) -> None:
    assert isinstance(loads_workflow(good, file), WorkflowSpec)
    chance = random.Random(seed)
    loaded = 0
    for _ in range(400):
        text = _mutated(good, chance)
        error = error_of(text, file)
        if error is None:
            loaded += 1
            continue
        lines = text.count("\n") + text.count("\r") + 2
        assert error.problems
        assert all(str(problem).startswith(file) and "\n" not in str(problem) for problem in error.problems)
        assert all(0 <= problem.line <= lines for problem in error.problems)
    assert 0 < loaded < 400


def error_of(text: str, file: str) -> WorkflowError | None:
    try:
        loads_workflow(text, file)
    except WorkflowError as error:
        return error
    return None
