"""Tasks in containers, with a real engine: their program, values, secrets and failures, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import container_kit
import pytest
from container_kit import PYTHON_IMAGE, SHELL_IMAGE, Engine
from flow_folder import COMMAND, environment, lightflow, status, write

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with container_kit.docker(has_python=True) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path, engine: Engine) -> Iterator[Path]:
    yield tmp_path
    left = engine.labelled()
    engine.remove_labelled()
    assert left == [], "a container with our label is left"
    assert container_kit.secret_files(tmp_path / "lightflow.db") == []


def run(folder: Path, engine: Engine, text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    write(folder, text.replace("SHELL_IMAGE", SHELL_IMAGE).replace("PYTHON_IMAGE", PYTHON_IMAGE))
    return lightflow(folder, "run", "flow.yaml", extra_env={**engine.env, **variables})


def test_a_shell_task_runs_in_a_container_with_its_values(folder: Path, engine: Engine) -> None:
    done = run(
        folder,
        engine,
        """
        params: {word: {type: string, default: "it's; rm -rf $HOME"}}
        tasks:
          first:
            run: |
              echo "n=42" >> "$LIGHTFLOW_OUTPUT"
              echo ${{ params.word }} > made
              test ! -e /usr/bin/env
              test -z "$CALLER"
              test "$LEVEL" = 3
              id -u
            env: {LEVEL: "3", PATH: /bin}
            output: last_line
            container: SHELL_IMAGE
          second:
            type: docker
            image: SHELL_IMAGE
            args: [sh, -c, 'echo "got $1" && cat made', sh, "${{ tasks.first.outputs.n }}"]
            network: none
            read_only: true
            memory: 64m
            cpus: 0.5
          third:
            type: python
            run: |
              import json, sys
              print(json.dumps(sys.version_info[:1]))
            container: {image: PYTHON_IMAGE, network: none}
        """,
        CALLER="here",
    )
    assert done.returncode == 0, done.stdout
    assert "got 42" in done.stdout
    assert "it's; rm -rf $HOME" in done.stdout
    assert (folder / "made").stat().st_uid == os.getuid()
    first = lightflow(folder, "outputs", "first", "--key", "return_value").stdout.strip()
    assert first == str(os.getuid())
    assert "[3]" in lightflow(folder, "logs", "third").stdout


def test_exit_codes_and_codes_of_failures(folder: Path, engine: Engine) -> None:
    done = run(
        folder,
        engine,
        """
        tasks:
          own:
            run: exit 125
            container: SHELL_IMAGE
            retries: 1
            retry: {on_exit_codes: [125]}
          memory:
            type: docker
            image: PYTHON_IMAGE
            args: [python3, -c, "x = bytearray(200_000_000); print(len(x))"]
            memory: 32m
            retries: 1
            retry: {on_codes: ["docker:oom"]}
          missing: {type: docker, image: "lightflow/none:1", pull: never, retries: 3}
          nowhere: {type: docker, image: "no-such-host.invalid/none:1"}
          program: {type: docker, image: SHELL_IMAGE, args: [no-such-program]}
          volume: {type: docker, image: SHELL_IMAGE, args: [ls], volumes: ["./none:/none"], retries: 3}
        """,
    )
    assert done.returncode == 1, done.stdout
    why = {name: lightflow(folder, "why", name).stdout for name in ("own", "memory", "missing", "nowhere", "program")}
    assert "exit code 125" in why["own"]
    tasks = {task["task"]: task for task in status(folder)["tasks"]}
    assert {name: len(task["attempts"]) for name, task in tasks.items()} == {
        "own": 2, "memory": 2, "missing": 1, "nowhere": 1, "program": 1, "volume": 1,
    }  # fmt: skip
    assert "docker:oom" in why["memory"]
    assert "exceeded its memory limit" in why["memory"]
    assert "docker:image" in why["missing"]
    assert "docker:image" in why["nowhere"]
    assert "docker:not_found" in why["program"]


def test_secrets_are_files_in_memory_and_nowhere_else(folder: Path, engine: Engine) -> None:
    text = """
        secrets: [TOKEN]
        tasks:
          use:
            secrets: [TOKEN]
            container: {image: SHELL_IMAGE, keep: always}
            run: |
              test "$(wc -c < /run/secrets/TOKEN)" = 14
              test -z "$TOKEN"
              touch /run/secrets/TOKEN || echo read-only
        """
    done = run(folder, engine, text, TOKEN="open-sesame-77")
    assert done.returncode == 0, done.stdout
    assert "read-only" in done.stdout
    (container,) = engine.labelled()
    assert "open-sesame" not in engine.run("inspect", container)
    engine.remove_labelled()
    in_env = text.replace("keep: always", "secrets_as: env").replace('test -z "$TOKEN"', 'test -n "$TOKEN"')
    in_env = in_env.replace("wc -c < /run/secrets/TOKEN", "printf %s $TOKEN | wc -c").replace("touch", "#")
    assert run(folder, engine, in_env, TOKEN="open-sesame-77").returncode == 0


def test_no_process_of_the_client_has_a_secret(folder: Path, engine: Engine) -> None:
    """Arguments are readable for every user of the machine, the environment for this one."""
    write(
        folder,
        f"""
        secrets: [TOKEN]
        tasks:
          work:
            secrets: [TOKEN]
            container: {SHELL_IMAGE}
            run: |
              touch ready
              while ! test -e stop; do sleep 0.05; done
        """,
    )
    token = "open-sesame-4711"
    process = start(folder, engine, "ready", variables={"TOKEN": token})
    try:
        clients, own = 0, {f"{name}={value}".encode() for name, value in engine.env.items()}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                arguments, variables = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            assert token.encode() not in arguments, arguments
            if b"start\0--attach" in arguments and own <= set(variables.split(b"\0")):
                clients += 1
                assert token.encode() not in variables
        assert clients == 1
    finally:
        (folder / "stop").touch()
    assert process.wait(60) == 0


def test_a_cancelled_container_ends_politely_or_by_force(folder: Path, engine: Engine) -> None:
    write(
        folder,
        f"""
        tasks:
          polite:
            run: "trap 'echo stopped > stopped; exit 3' TERM; touch ready1; while :; do sleep 0.1; done"
            container: {SHELL_IMAGE}
            kill_grace: 60
          stubborn:
            run: "trap '' TERM; touch ready2; while :; do sleep 0.1; done"
            container: {SHELL_IMAGE}
            kill_grace: 0.5
        """,
    )
    process = start(folder, engine, "ready1", "ready2")
    assert len(engine.labelled()) == 2
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0
    assert {task["status"] for task in status(folder)["tasks"]} == {"CANCELLED"}
    assert (folder / "stopped").read_text() == "stopped\n"


def start(folder: Path, engine: Engine, *files: str, variables: Mapping[str, str] = {}) -> subprocess.Popen[bytes]:
    """Start the workflow, and wait until these files exist."""
    process = subprocess.Popen(
        [*COMMAND, "run", "flow.yaml"],
        cwd=folder,
        env=environment({**engine.env, **variables}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    give_up = time.monotonic() + 60
    while not all((folder / name).exists() for name in files):
        assert process.poll() is None
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return process


def test_a_container_may_stay_after_a_failure(folder: Path, engine: Engine) -> None:
    assert (
        run(folder, engine, "tasks: {a: {run: exit 3, container: {image: SHELL_IMAGE, keep: on_failure}}}").returncode
        == 1
    )
    (container,) = engine.labelled()
    state = json.loads(engine.run("inspect", "--format", "{{json .State}}", container))
    assert (state["Running"], state["ExitCode"]) == (False, 3)
    labels = json.loads(engine.run("inspect", "--format", "{{json .Config.Labels}}", container))
    assert labels["lightflow.task"] == "a"
    report = lightflow(folder, "doctor", extra_env=engine.env).stdout
    assert f"of task a, run {labels['lightflow.run']}, exists without its run" in " ".join(report.split())
    prune = ["prune", "--older-than", "0", "--keep", "0"]
    assert "would delete 1 container" in lightflow(folder, *prune, "--dry-run", extra_env=engine.env).stdout
    assert len(engine.labelled()) == 1
    pruned = json.loads(lightflow(folder, *prune, "--json", extra_env=engine.env).stdout)
    assert len(pruned["containers"]) == 1
    assert engine.labelled() == []


def test_the_same_in_python(folder: Path, engine: Engine) -> None:
    (folder / "sub").mkdir()
    (folder / "program.py").write_text(
        textwrap.dedent(f"""
        from lightflow.tasks import docker, python, shell
        from liteflow import Dag, Secret

        def number():
            return 42

        with Dag("containers", "lightflow.db", secrets=[Secret("TOKEN")]) as dag:
            first = dag.task(number)
            program = ["-c", 'test $(wc -c < /run/secrets/TOKEN) = 14 && echo "$1 $LEVEL"', "sh", first]
            dag.add(
                "second",
                docker("{SHELL_IMAGE}", entrypoint="sh", args=program, env={{"LEVEL": "3"}}, secrets=["TOKEN"],
                       output="last_line"),
            )
            values = {{"ROWS": first}}
            dag.add("third", shell("echo $ROWS", container="{SHELL_IMAGE}", env=values, output="last_line"))
            program = "import os; open('rows', 'w').write(os.environ['ROWS'] + ' ' + os.path.basename(os.getcwd()))"
            dag.add("fourth", python(run=program, container="{PYTHON_IMAGE}", env=values, cwd="sub"))
        run = dag.run(log_dir="logs")
        print(run.status, run.value("second"), run.value("third"), open("sub/rows").read())
        """)
    )
    done = subprocess.run(
        [COMMAND[0], "program.py"],
        cwd=folder,
        env=environment({**engine.env, "TOKEN": "open-sesame-77"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "SUCCESS 42 3 42 42 sub\n", done.stderr


def test_no_engine_is_named(tmp_path: Path) -> None:
    write(tmp_path, f"tasks: {{a: {{type: docker, image: '{SHELL_IMAGE}', engine: docker}}}}")
    done = lightflow(tmp_path, "run", "flow.yaml", extra_env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert done.returncode == 1
    assert "no answer from docker at" in done.stdout
    assert "none.sock" in done.stdout
    only = tmp_path / "bin"
    only.mkdir()
    for name in ("sh", "env"):
        (only / name).symlink_to(f"/bin/{name}")
    done = lightflow(tmp_path, "run", "flow.yaml", extra_env={"PATH": str(only)})
    assert "docker is not installed" in done.stdout
