"""The specification of a valid file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from lightflow.engine.executor import options_for
from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import load_workflow, loads_workflow
from lightflow.spec.model import RetrySpec, Settings, WorkflowSpec
from liteflow.api import DEFAULT_WORKERS

FULL = """\
name: nightly
description: All of it
env: {STAGE: production, PORT: 08080, DEBUG: true, EMPTY: , HALF: 1.50}
x-retry: &retry {retries: 2, retry_delay: 5s, x-note: free}
tasks:
  fetch:
    <<: *retry
    command: curl example.org
    working-directory: data
    env: {PORT: 1_000, ANSWER: no}
    timeout_seconds: 1h30m
    kill_grace: 1.5
    description: Get it
  train:
    type: python
    run: |
      import os
      print(os.getpid())
    needs: fetch
    retry: {max: 3, delay: 2, backoff: 2, max_delay: 1m, jitter: 0.2, on_exit_codes: [75], on_exceptions: [OSError]}
    trigger_rule: all_done
    mode: process
  report: {run: echo, depends_on: [fetch, train, fetch]}
settings: {max_workers: 8, retries: 1, log_dir: out, mode: async, fail_fast: true, resume: auto, checkpoint_dir: c}
"""


def task_digests(spec: WorkflowSpec) -> dict[str, str]:
    return {task_id: task.digest for task_id, task in spec.tasks.items()}


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_a_workflow_file_has_the_same_number_of_workers_in_every_mode(mode: str) -> None:
    settings = loads_workflow(f"{{workflow_name: w, tasks: {{a: {{run: echo}}}}, settings: {{mode: {mode}}}}}").settings
    assert settings.max_parallel_tasks == DEFAULT_WORKERS == 4
    assert options_for(settings).max_workers == 4
    assert options_for(settings, mode="async").max_workers == 4


def test_every_key_is_in_the_specification(tmp_path: Path) -> None:
    path = tmp_path / "any.yaml"
    path.write_text(FULL)
    spec = load_workflow(path)
    assert (spec.name, spec.description, spec.path, spec.plugins) == ("nightly", "All of it", str(path), ())
    assert spec.env == {"STAGE": "production", "PORT": "08080", "DEBUG": "true", "EMPTY": "", "HALF": "1.50"}
    assert spec.settings == Settings(
        max_parallel_tasks=8,
        retries=1,
        log_dir="out",
        mode="async",
        fail_fast=True,
        resume="auto",
        checkpoint_dir="c",
    )
    fetch, train, report = spec.tasks.values()
    assert (fetch.id, fetch.type, fetch.config) == ("fetch", "shell", {"run": "curl example.org"})
    assert (fetch.cwd, fetch.timeout_s, fetch.grace_s, fetch.description) == ("data", 5400, 1.5, "Get it")
    assert fetch.env == {**spec.env, "PORT": "1_000", "ANSWER": "no"}
    assert fetch.retry == RetrySpec(2, 5.0)
    assert (fetch.line, fetch.lines, fetch.file) == (6, {"run": 8}, str(path))
    assert (train.depends_on, train.trigger_rule, train.mode) == (("fetch",), "all_done", "process")
    assert train.retry == RetrySpec(3, 2.0, 2.0, 60.0, 0.2, ("OSError",), (75,))
    assert train.lines == {"run": 17}
    assert report.depends_on == ("fetch", "train")
    assert report.retry == RetrySpec(1)


def test_defaults() -> None:
    spec = loads_workflow("tasks:\n  a: {run: x}\n", "some/daily.build.yaml")
    assert (spec.name, spec.settings) == ("daily", Settings())
    task = spec.tasks["a"]
    assert (task.type, task.depends_on, task.cwd, task.env, task.timeout_s) == ("shell", (), None, {}, None)
    assert (task.grace_s, task.retry, task.trigger_rule, task.mode) == (10.0, RetrySpec(), "all_success", None)


def test_json_yaml_mappings_and_lists_are_equal() -> None:
    tree = {"workflow_name": "w", "tasks": {"a": {"run": "x\ty"}, "b": {"run": "é😀", "depends_on": ["a"]}}}
    items = [{"id": task_id, **task} for task_id, task in tree["tasks"].items()]  # type: ignore[attr-defined]
    texts = [
        (json.dumps(tree), "w.json"),
        (json.dumps(tree, indent="\t"), "w.json"),
        (yaml.safe_dump(tree), "w.yaml"),
        (yaml.safe_dump({**tree, "tasks": items}, allow_unicode=True), "w.yaml"),
    ]
    digests = {loads_workflow(text, file).digest for text, file in texts}
    assert len(digests) == 1


def test_words_of_yaml_1_1_are_text() -> None:
    spec = loads_workflow(
        "tasks:\n  on: {run: yes}\n  no: {run: 12:30:45, depends_on: [on]}\n  off: {run: 2024-01-01}\n"
    )
    assert {task_id: task.config["run"] for task_id, task in spec.tasks.items()} == {
        "on": "yes",
        "no": "12:30:45",
        "off": "2024-01-01",
    }


def test_the_digest_covers_only_what_a_task_does() -> None:
    before = task_digests(loads_workflow(FULL))
    same = re.sub(r"kill_grace: 1.5|description: Get it|retry_delay: 5s, ", "", "# comment\n\n" + FULL)
    assert task_digests(loads_workflow(same.replace("max_workers: 8", "max_workers: 9"))) == before
    for old, new, changed in [
        ("curl example.org", "curl example.com", {"fetch"}),
        ("working-directory: data", "cwd: other", {"fetch"}),
        ("ANSWER: no", "ANSWER: off", {"fetch"}),
        ("print(", "print(1, ", {"train"}),
        ("needs: fetch", "needs: []", {"train"}),
        ("STAGE: production", "STAGE: test", {"fetch", "train", "report"}),
    ]:
        after = task_digests(loads_workflow(FULL.replace(old, new)))
        assert {task_id for task_id in before if after[task_id] != before[task_id]} == changed, new


def test_keys_that_begin_with_x_are_free_everywhere() -> None:
    spec = loads_workflow("x-a: 1\ntasks:\n  x-base: &b {run: x, x-c: [1]}\n  a: *b\nsettings: {x-d: {}}\n")
    assert list(spec.tasks) == ["a"]


def test_one_name_may_be_shared_by_env_and_args() -> None:
    text = "x-v: &v {N: 010, M: 1.50}\ntasks:\n  a: {type: python, call: 'm:f', args: *v, env: *v}\n"
    task = loads_workflow(text).tasks["a"]
    assert (task.env, task.config["args"]) == ({"N": "010", "M": "1.50"}, {"N": "010", "M": 1.5})


def test_a_wrong_number_is_text_in_env() -> None:
    assert loads_workflow("tasks: {a: {run: x, env: {A: .inf, B: 1e999}}}").tasks["a"].env == {
        "A": ".inf",
        "B": "1e999",
    }


def test_a_file_name_that_cannot_be_a_name() -> None:
    with pytest.raises(WorkflowError, match='the file name is not a valid workflow name; add "workflow_name"'):
        loads_workflow("tasks: {a: {run: x}}", "-.yaml")


def test_ten_thousand_tasks_load() -> None:
    text = "workflow_name: big\ntasks:\n" + "".join(
        f"  task_{n}:\n    type: shell\n    run: step --n {n} && echo done\n    depends_on: [task_{max(n - 1, 0)}]\n"
        f"    cwd: /tmp\n    env: {{PORT: 08080}}\n    timeout: 30\n    retries: 2\n"
        for n in range(10_000)
    ).replace("[task_0]", "[]", 1)
    assert len(loads_workflow(text).tasks) == 10_000


def seed_workflows() -> list[str]:
    """The workflows of the first documentation, as they stood there."""
    folder = Path(__file__).parents[1] / "data" / "seed"
    return sorted(str(path) for path in folder.glob("*.yaml"))


@pytest.mark.parametrize("path", seed_workflows())
def test_documented_workflows_load(path: str) -> None:
    assert load_workflow(path).tasks


def test_a_list_of_tasks_may_call_the_id_name() -> None:
    spec = loads_workflow("steps:\n  - name: fetch\n    run: echo\n  - name: load\n    run: echo\n    needs: fetch\n")
    assert list(spec.tasks) == ["fetch", "load"]
    assert spec.tasks["load"].depends_on == ("fetch",)
    assert (spec.tasks["fetch"].line, spec.tasks["load"].line) == (2, 4)


def test_a_task_in_a_list_has_an_id_or_a_name() -> None:
    with pytest.raises(WorkflowError) as caught:
        loads_workflow("steps:\n  - id: fetch\n    name: Fetch data\n    run: echo\n", "w.yaml")
    assert str(caught.value) == (
        'w.yaml:3:5: tasks.0: "name" and "id" mean the same; keep "id", and put words for people under "description"'
    )


def test_retries_may_have_the_names_of_dagu() -> None:
    text = "{where}retry_policy: {{limit: 3, interval_sec: 5, backoff: 2, max_interval_sec: 60{codes}}}\n"
    spec = loads_workflow(
        text.format(where="", codes="")
        + "tasks:\n  a:\n    run: echo\n"
        + text.format(where="    ", codes=", exit_code: [75]")
    )
    assert spec.tasks["a"].retry == RetrySpec(3, 5.0, 2.0, 60.0, on_exit_codes=(75,))
    assert spec.limits.retry == RetrySpec(3, 5.0, 2.0, 60.0)
