"""The secrets of a run: declared by name, read when the run starts, and never stored.

    Dag("sync", secrets=["API_TOKEN", Secret("DB_PASSWORD", file="~/.secrets/db"), Secret("PIN", command="pass pin")])

`Secrets` has the values during the run. Where a program prints it, it shows names only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from liteflow.errors import ParamError, SecretError
from liteflow.identifiers import did_you_mean
from liteflow.masking import SHORTEST, Masker
from liteflow.record import Record
from liteflow.shell import shell_words

NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
#: The largest value.
LARGEST: Final = 64 * 1024
_COMMAND_S: Final = 60.0


class Secret(Record, kw_only=False):
    """A secret and the source of its value: the environment variable of its name, unless another source is given.

    `env` names another variable; `file` contains the value, and `command` is a shell command that prints the value; a
    line break at the end is removed. Relative paths are relative to `folder`, by default the current folder; the
    command runs there. `shell` is the shell of the command (see `liteflow.shell`).
    """

    name: str
    env: str | None = None
    file: str | None = None
    command: str | None = None
    folder: str | None = None
    shell: str | tuple[str, ...] | None = None

    def problem(self) -> str | None:
        """Return the error in the declaration; None when there is none."""
        if not isinstance(self.name, str) or not re.fullmatch(NAME, self.name):
            return "is not a valid secret name: use letters, digits and '_', and no digit first"
        if sum(source is not None for source in (self.env, self.file, self.command)) > 1:
            return "has one source: give only one of env, file and command"
        return None

    def fetch(self, environ: Mapping[str, str]) -> str:
        """Return the value. Raises ValueError; the message never contains the value."""
        if self.file is not None:
            value = _from_file(os.path.join(self.folder or "", os.path.expanduser(self.file)))
        elif self.command is not None:
            value = _from_command(shell_words(self.shell, self.command), self.folder)
        else:
            variable = self.env or self.name
            if variable not in environ:
                raise ValueError(f"the environment variable {variable} is not set")
            value = environ[variable]
        return check_secret(value)


class Secrets(Mapping[str, str]):
    """The secrets of a run by name."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)
        self.masker = Masker(self._values)

    def __getitem__(self, name: str) -> str:
        if name not in self._values:
            raise KeyError(unknown_secret_message(name, self._values))
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Secrets: {', '.join(self._values)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._values,)

    def select(self, names: Sequence[str]) -> dict[str, str]:
        """Return some of the secrets, as environment variables."""
        return {name: self._values[name] for name in names}


def unknown_secret_message(name: str, declared: Mapping[str, object]) -> str:
    """Return the message for a secret that is not declared."""
    if not declared:
        return f"there is no secret {name!r}: none are declared"
    return f"there is no secret {name!r}{did_you_mean(name, declared) or '; there are ' + ', '.join(declared)}"


def check_secret(value: object) -> str:
    """Return a value itself, if it can be that of a secret. Raises ValueError, without the value in its message."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {type(value).__name__}")
    if not value:
        raise ValueError("is empty")
    if "\0" in value:
        raise ValueError("holds a NUL character, which no program can be given")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text; store it in base64") from None
    if size > LARGEST:
        raise ValueError(f"has {size:,} bytes; {LARGEST:,} are the most")
    return value


def declared_secrets(declarations: Sequence[str | Secret]) -> dict[str, Secret]:
    """Return the declarations of a program by name.

    Raises:
        SecretError: all errors in the declarations.
    """
    declared: dict[str, Secret] = {}
    problems: dict[str, str] = {}
    for declaration in [declarations] if isinstance(declarations, str) else declarations:
        secret = declaration if isinstance(declaration, Secret) else Secret(declaration)
        problem = secret.problem() or ("is declared twice" if secret.name in declared else None)
        if problem is not None:
            problems[str(secret.name)] = problem
        declared[str(secret.name)] = secret
    if problems:
        raise SecretError(problems)
    return declared


def fetch(
    declared: Mapping[str, Secret], supplied: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> Secrets | None:
    """Return the secrets, reading those that are not `supplied`; None when none are declared.

    Raises:
        SecretError: all errors and missing values; the message contains no value.
    """
    supplied = supplied or {}
    environ = os.environ if environ is None else environ
    problems = {name: unknown_secret_message(name, declared) for name in supplied if name not in declared}
    values: dict[str, str] = {}
    for name, secret in declared.items():
        try:
            values[name] = check_secret(supplied[name]) if name in supplied else secret.fetch(environ)
        except ValueError as error:
            problems[name] = str(error)
    if problems:
        raise SecretError(problems)
    short = [name for name, value in values.items() if len(value) < SHORTEST and name not in supplied]
    if short:
        import logging

        logging.getLogger(__name__).warning(
            "secret %s: shorter than %d characters, so it is not masked in logs", ", ".join(short), SHORTEST
        )
    return Secrets(values) if values else None


def resolve_secrets(
    declared: Mapping[str, Secret], supplied: Mapping[str, str] | None, params: Mapping[str, Any]
) -> Secrets | None:
    """Return the secrets of a run with these parameters: those that are `supplied`; the others are read.

    Raises:
        SecretError: see `fetch`.
        ParamError: see `reject_secrets_in`.
    """
    secrets = supplied if isinstance(supplied, Secrets) else fetch(declared, supplied)
    if secrets is not None:
        reject_secrets_in(params, secrets)
    return secrets


def reject_secrets_in(params: Mapping[str, Any], secrets: Secrets) -> None:
    """Reject parameters that contain a secret, because parameters are stored with the run.

    Raises:
        ParamError: the message names the parameters, and contains no value.
    """
    import json

    problems = {}
    for name, value in params.items():
        secret = secrets.masker.secret_in(json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace"))
        if secret is not None:
            problems[name] = f"contains the secret {secret}, and parameters are stored; use the secret itself instead"
    if problems:
        raise ParamError(problems)


def _from_file(path: str) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read(LARGEST + 3)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(f"cannot read {path}: {reason}") from None
    return _text(raw)


def _from_command(words: Sequence[str], folder: str | None) -> str:
    """Return the output of a command, whose stderr is that of this process."""
    from liteflow.processes.guarded_command import CommandNotStarted, run_guarded

    try:
        code, raw = run_guarded(words, folder, _COMMAND_S)
    except TimeoutError:
        raise ValueError(f"its command takes longer than {_COMMAND_S:g} s") from None
    except (CommandNotStarted, OSError) as error:
        raise ValueError(f"its command cannot be started: {getattr(error, 'strerror', None) or error}") from None
    if code:
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        raise ValueError(f"its command failed with {how}; run it by hand to see why")
    return _text(raw)


def _text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text; store it in base64") from None
    return text.removesuffix("\n").removesuffix("\r")
