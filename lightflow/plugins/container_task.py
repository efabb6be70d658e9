"""The work of a task in a container: what the engine runs, and its undo. Top-level functions, for any process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from lightflow.plugins import containers
from lightflow.plugins.base import absolute, with_secrets
from lightflow.plugins.variables import computed, constant, texts
from lightflow.spec.model import TaskSpec
from liteflow import Call, TaskFailed, current_context
from liteflow.api import Record

#: Variables of the engine that the program gets too.
_PASSED: tuple[str, ...] = ("GITHUB_OUTPUT",)
_PASSED_PREFIX = "LIGHTFLOW_"
_NOT_PASSED = ("LIGHTFLOW_PROCESS_TAG",)  # by it the processes of a task are recognised, outside containers


class ContainerEnvironment(Record):
    """The environment of a container: the names that the task declares, and the variables of the engine's client."""

    names: tuple[str, ...]
    secrets: tuple[str, ...]
    client: Mapping[str, str]


def container_call(
    task: TaskSpec,
    keys: Mapping[str, Any],
    words: Sequence[Any],
    *,
    output: Literal["last_line", "json"] | None = None,
) -> Call:
    """Return the call that runs a program in a container. `words` follow the image."""
    layers: Iterable[Mapping[str, Any]] = () if task.expressions is None else task.expressions.layers
    names = dict.fromkeys([*task.env, *(name for layer in layers for name in layer)])
    client = containers.client_environment()
    environment = ContainerEnvironment(names=tuple(names), secrets=task.secrets, client=client)
    arguments = {
        "keys": {key: value for key, value in keys.items() if not key.startswith("x-")},
        "words": list(words),
        "environment": environment,
        "folder": os.path.dirname(task.file),
        "variables": computed(task.env),
    }
    undo_arguments = {name: arguments[name] for name in ("keys", "environment")}
    cwd, env = absolute(task.cwd), constant(task.env)
    return Call(
        run_in_container,
        arguments,
        cwd,
        env,
        lane="process",
        undo=Call(undo_container, undo_arguments, cwd, env),
        output=output,
    )


def with_program(keys: Mapping[str, Any], words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the keys and words that run a program in place of that of the image."""
    return {**keys, "entrypoint": words[0]}, list(words[1:])


def run_in_container(
    keys: Mapping[str, Any],
    words: Sequence[Any],
    environment: ContainerEnvironment,
    folder: str,
    variables: Mapping[str, Any],
) -> None:
    """Run a program in a container, and fail as the program does."""
    context = current_context()
    words = [word if isinstance(word, str) else str(word) for word in with_secrets(words)]
    env = {**_environment(environment.names), **texts(with_secrets(variables))}
    secrets = {name: context.secrets[name] for name in environment.secrets}
    in_env = keys.get("secrets_as") == "env"
    shown = [*words, *map(str, keys.values()), *(() if in_env else env.values())]
    for name, value in context.secrets.items():
        if value and any(value in text for text in shown):
            text = (
                f"the engine would show and store the secret {name}, which the arguments or the environment of the "
                f"container contain: list it under `secrets`, and read /run/secrets/{name}"
            )
            raise TaskFailed(text, final=True)
    engine = _engine(keys, environment)
    work = containers.ContainerWork(keys=keys, words=words, folder=context.local_path(folder), env=env, secrets=secrets)
    attempt = containers.ContainerAttempt(
        mark=context.mark,
        task_id=context.task_id,
        attempt=context.attempt,
        run_id=context.run_id,
        db_path=context.db_path,
        output_path=os.environ.get("LIGHTFLOW_OUTPUT"),
    )
    containers.raise_for(containers.run(engine, work, attempt), keys["image"])


def undo_container(keys: Mapping[str, Any], environment: ContainerEnvironment) -> None:
    """End the container of an attempt."""
    try:
        engine = _engine(keys, environment)
    except TaskFailed as error:
        if error.final:  # no engine is installed, so it has started nothing
            return
        raise
    containers.remove(engine, current_context().mark, stays=keys.get("keep", "never") != "never")


def _engine(keys: Mapping[str, Any], environment: ContainerEnvironment) -> containers.ContainerEngine:
    """Return the engine of this machine. Raises TaskFailed."""
    agent = current_context().agent
    if agent is None:
        return containers.choose(environment.client, keys.get("engine"), _secret_variables())
    try:
        client = containers.client_environment(agent.environ)
        return containers.choose(client, keys.get("engine"), _secret_variables())
    except TaskFailed as error:
        raise TaskFailed(f"{agent.host}: {error}", codes=error.codes, final=error.final) from None


def _environment(names: Iterable[str]) -> dict[str, str]:
    """Return the variables of this process that the program gets."""
    of_run = [name for name in os.environ if name.startswith(_PASSED_PREFIX) and name not in _NOT_PASSED]
    return {name: os.environ[name] for name in dict.fromkeys([*of_run, *_PASSED, *names]) if name in os.environ}


def _secret_variables() -> list[str]:
    """Return the names of the variables of this process that hold a secret: the client of an engine needs none."""
    secrets = [value for value in current_context().secrets.values() if value]
    return [
        name
        for name, text in os.environ.items()
        if not name.startswith(_PASSED_PREFIX) and any(value in text for value in secrets)
    ]
