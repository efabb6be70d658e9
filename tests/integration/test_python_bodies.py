"""What a dag in Python can do that a workflow file does by task types: programs, waits, hooks, and their options."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from http_kit import Server, serving

from lightflow.tasks import connection, docker, http, mail, notify, python, shell, sql, wait
from liteflow import Call, Command, Dag, DagRun, DefinitionError, Secret, task
from liteflow.api import History, Item


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def number() -> int:
    return 42


def run(dag: Dag, **options: Any) -> DagRun:
    return dag.run(log_dir="logs", **options)


def log_of(result: DagRun, name: str) -> str:
    with History("state.db") as history:
        path = history.attempts(result.run_id, name)[-1].log_path
    return "" if path is None else Path(path).read_text()


# -- programs --------------------------------------------------------------------------------------------------------


def test_programs_in_an_environment_take_values_and_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "open-sesame-77")
    (folder / "prices.py").write_text(
        "import os, sys\n"
        "def load(rows, token):\n"
        "    print(token, os.environ['LEVEL'], sys.prefix != sys.base_prefix)\n"
        "    return {'rows': rows + 1}\n"
    )
    (folder / "sub").mkdir()
    with Dag("programs", "state.db", secrets=[Secret("TOKEN")]) as dag:
        count = dag.task(number)
        same: dict[str, Any] = {"environment": {}, "env": {"ROWS": count, "LEVEL": 3}}
        dag.add("function", python(call="prices:load", args={"rows": count, "token": Secret("TOKEN")}, **same))
        code = "import os; print(os.environ['ROWS'], os.environ['TOKEN'], os.path.basename(os.getcwd()))"
        dag.add("code", python(run=code, secrets=["TOKEN"], cwd="sub", **same))
        dag.add("variable", python(run="import os; print(os.environ['T'])", environment={}, env={"T": Secret("TOKEN")}))
    result = run(dag)
    assert result.failures() == {}
    assert result.value("function") == {"rows": 43}
    assert log_of(result, "function").endswith("*** 3 True\n")
    assert log_of(result, "code").endswith("42 *** sub\n")
    assert log_of(result, "variable").endswith("***\n")
    assert all(b"open-sesame" not in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_file_runs_as_a_program(folder: Path) -> None:
    (folder / "clean.py").write_text("import os; open(os.environ['LIGHTFLOW_OUTPUT'], 'a').write('rows=3\\n')\n")
    with Dag("file", "state.db") as dag:
        dag.add("clean", python(file="clean.py"))
    assert run(dag).value("clean", "rows") == "3"


def test_a_shell_body_without_a_container_is_a_command(folder: Path) -> None:
    with Dag("script", "state.db") as dag:
        count = dag.task(number)
        body = shell("echo rows $ROWS", env={"ROWS": count}, output="last_line")
        assert isinstance(body, Command)
        dag.add("script", body)
    assert run(dag).value("script") == "rows 42"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda dag: python(run="pass"), "needs environment, container or file"),
        (lambda dag: python(run="x =", environment={}), "run: not valid Python"),
        (lambda dag: python(run="#" * 140_000, environment={}), "run: code of 128 KiB and more"),
        (lambda dag: python(call="a:b", container="shop:1", environment={}), "environment: the image"),
        (lambda dag: python(call="a:b", container="shop:1"), "container: a function cannot run in a container"),
        (lambda dag: python(file="a.py", env={"A=B": "1"}), "'A=B' is not the name of a variable"),
        (lambda dag: shell(f"echo {dag.task(number)}"), "the script holds <Task 'number'>.*hand it over"),
        (lambda dag: shell("make", container="Shop:1"), "container.image: the name of an image is in lower case"),
        (lambda dag: shell("make", shell=["bash", "-e"]), 'end with "-c"'),
        (lambda dag: wait(), "needs exactly one of file"),
        (lambda dag: wait(file="a", url="b"), "there is no key 'url'"),
        (lambda dag: wait(http={"url": "h"}), "http.url: "),
        (lambda dag: wait(http={"url": "http://h/"}, every="0.1s"), "every: must be 1s or more"),
    ],
)
def test_mistakes_in_bodies(make: Callable[[Dag], Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        make(Dag("mistakes"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"container": "python:3"}, r"docker\(IMAGE, args=\[…\]\), or shell\(SCRIPT, container=IMAGE\)"),
        ({"environment": {"packages": ["a==1"]}}, r'python\(call="MODULE:FUNCTION", environment='),
    ],
)
def test_a_function_cannot_run_elsewhere(option: dict[str, Any], message: str) -> None:
    with Dag("functions"), pytest.raises(DefinitionError, match=message):
        task(**option)(number)()


# -- waits -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def test_a_wait_ends_when_it_has_what_it_waits_for(folder: Path, server: Server) -> None:
    server.answers = [(404, {}, b""), (200, {}, b'{"state": "done"}')]
    shop = connection("http", url=server.url(""), proxy="none")
    with Dag("waits", "state.db") as dag:
        made = dag.shell("touch in.csv", task_id="make")
        ready = dag.add("file", wait(file="*.csv"), depends_on=made)
        job = {"connection": shop, "url": "/scripted", "expect": {"json": {"$.state": "done"}}}
        dag.add("job", wait(http=job, every=1), depends_on=ready)
        dag.add("late", wait(file="none", on_timeout="skip", every=0.1), timeout=2)
    result = run(dag)
    assert result.statuses() == {"make": "SUCCESS", "file": "SUCCESS", "job": "SUCCESS", "late": "SKIPPED"}
    assert result.value("file")["path"] == "in.csv"
    assert result.value("job")["content"] == {"state": "done"}


# -- options and hooks -----------------------------------------------------------------------------------------------


def test_a_task_has_the_timeout_of_its_type_unless_it_says_otherwise() -> None:
    dag = Dag("timeouts")
    body = http("http://h/")
    assert dag.add("of_type", body).timeout == 300
    assert dag.add("own", body, timeout=7).timeout == 7
    assert dag.add("none", body, timeout=None).timeout is None
    assert dag.add("mail", mail("smtp://h", sender="a@h", to="b@h", text="")).timeout == 120
    assert dag.add("wait", wait(file="a")).timeout == 7 * 86_400
    assert dag.add("container", docker("shop:1")).timeout is None
    assert dag.add("plain", Call(number)).timeout is None


def test_a_body_is_a_hook_of_a_run_and_of_a_task(folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_URL", server.url("/hook"))
    webhook = {"url": Secret("HOOK_URL")}
    dag = Dag("hooks", "state.db", secrets=["HOOK_URL"], on_failure=notify(webhook=webhook))
    count = dag.task(number)
    hook = notify("no luck", webhook={**webhook, "json": {"rows": count}})
    dag.shell("exit 3", task_id="bad", depends_on=count, on_failure=hook)
    dag.shell("true", task_id="good", depends_on=count, on_success=Command(("/bin/sh", "-c", "echo done > done")))
    result = run(dag)
    assert result.failures() == {"bad": "exit code 3"}
    assert (folder / "done").read_text() == "done\n"
    messages = [json.loads(each.body) for each in server.received]
    assert messages[0] == {"rows": 42}
    assert messages[1]["text"] == f"hooks ({result.run_id}): FAILED: failed: bad"
    task_of_hook = dag.hooks["on_failure"]
    assert (task_of_hook.timeout, task_of_hook.options.retry.retries) == (20, 1)


def test_a_hook_that_fails_is_tried_again(folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_URL", server.url("/status?code=503"))
    dag = Dag("hooks", "state.db", secrets=["HOOK_URL"], on_success=notify(webhook={"url": Secret("HOOK_URL")}))
    dag.task(number)
    assert run(dag).status == "SUCCESS"
    assert len(server.received) == 2


# -- lists -----------------------------------------------------------------------------------------------------------


def paths() -> list[str]:
    return ["a", "b c"]


def test_a_body_is_expanded_over_lists(folder: Path, server: Server) -> None:
    with Dag("lists", "state.db") as dag:
        found = dag.task(paths)
        body = http(server.url("/echo"), query={"path": Item(name="path")}, json={"n": [Item(name="n")]}, proxy="none")
        dag.add("fetch", body, expand={"path": found, "n": [1, 2]}, map_key="{path}-{n}")
        dag.add("say", Command(("echo", Item(name="word")), output="last_line"), expand={"word": ["x", "y"]})  # type: ignore[arg-type]
    result = run(dag)
    assert [value["path"] for value in result.value("fetch")] == ["/echo?path=a"] * 2 + ["/echo?path=b+c"] * 2
    assert [json.loads(value["body"])["n"] for value in result.value("fetch")] == [[1], [2]] * 2
    assert result.value("say") == ["x", "y"]


def test_mistakes_in_the_lists_of_a_body() -> None:
    dag = Dag("lists")
    with pytest.raises(DefinitionError, match=r"'a': its body has Item\(name='url'\), and expand has no such list"):
        dag.add("a", http(Item(name="url")), expand={"urls": ["http://h/"]})
    with pytest.raises(DefinitionError, match=r"map\(\) run in tasks that are functions: url"):
        dag.add("b", http(Item(name="url")), expand={"url": dag.task(paths).map(str)})


# -- changes ---------------------------------------------------------------------------------------------------------


def counted(label: str, count: object = None) -> None:
    with Path("ran").open("a") as file:
        file.write(f"{label}\n")


def test_a_changed_argument_is_a_changed_definition(folder: Path) -> None:
    def dag_of(statement: str, label: str) -> Dag:
        dag = Dag("changes", "state.db", secrets=[Secret("TOKEN", env="HOME")])
        with dag:
            rows = dag.add("rows", sql("sqlite:///a.db", statement, rows="value"))
            first = dag.task(counted, "first", label="first")
            count = {"rows": rows, "token": Secret("TOKEN"), 3: {4}}
            first >> dag.task(counted, "second", label=label, count=count)
        return dag

    assert run(dag_of("SELECT 1", "old")).value("rows") == 1
    assert dag_of("SELECT 1", "old").retry(changed=True).status == "SUCCESS"
    assert Path("ran").read_text().split() == ["first", "old"], "nothing has changed"
    assert dag_of("SELECT 2", "old").retry(changed=True).value("rows") == 2
    assert Path("ran").read_text().split() == ["first", "old", "old"], "what follows runs, too"
    dag_of("SELECT 2", "new").retry(changed=True)
    assert Path("ran").read_text().split() == ["first", "old", "old", "new"]
