"""The secrets of a run: declared by name, fetched when the run starts, and stored nowhere.

    Dag("sync", secrets=["API_TOKEN", Secret("DB_PASSWORD", file="~/.secrets/db"), Secret("PIN", command="pass pin")])

`Secrets` holds the values while the run goes on. It shows names only, also where a program prints it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from liteflow.errors import ParamError, SecretError
from liteflow.masking import SHORTEST, Masker
from liteflow.shell import shell_words

NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
#: The largest value.
LARGEST: Final = 64 * 1024
_COMMAND_S: Final = 60.0


class Secret(NamedTuple):
    """A secret and where its value comes from: the environment variable of its name, unless one of these is given.

    `env` names another variable; `file` holds the value, without the line break at its end; `command` is a shell
    command that prints the value, again without the last line break. Relative paths, and the command, start from
    `folder`, or else the current one. `shell` is the command's, in the sense of `liteflow.shell`.
    """

    name: str
    env: str | None = None
    file: str | None = None
    command: str | None = None
    folder: str | None = None
    shell: str | tuple[str, ...] | None = None

    def problem(self) -> str | None:
        """What is wrong with the declaration."""
        if not isinstance(self.name, str) or not re.fullmatch(NAME, self.name):
            return "is no name for a secret: use letters, digits and '_', not beginning with a digit"
        if sum(one is not None for one in (self.env, self.file, self.command)) > 1:
            return "comes from one place: give one of env, file and command"
        return None

    def fetch(self, environ: Mapping[str, str]) -> str:
        """Its value. Raises ValueError; the message never shows the value."""
        if self.file is not None:
            value = _from_file(os.path.join(self.folder or "", os.path.expanduser(self.file)))
        elif self.command is not None:
            value = _from_command(shell_words(self.shell, self.command), self.folder)
        else:
            variable = self.env or self.name
            if variable not in environ:
                raise ValueError(f"the environment variable {variable} is not set")
            value = environ[variable]
        return checked(value)


class Secrets(Mapping[str, str]):
    """The secrets of a run by name."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)
        self.masker = Masker(self._values)

    def __getitem__(self, name: str) -> str:
        if name not in self._values:
            raise KeyError(unknown(name, self._values))
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
        """Some of them, as environment variables."""
        return {name: self._values[name] for name in names}


def unknown(name: str, known: Mapping[str, object]) -> str:
    """What to say of a name that is not there."""
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    there = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}" if known else ""
    return f"there is no secret {name!r}{there or ': none are declared'}"


def checked(value: object) -> str:
    """A value itself, if it can be a secret's. Raises ValueError; the message does not show the value."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {type(value).__name__}")
    if not value:
        raise ValueError("is empty")
    if "\0" in value:
        raise ValueError("holds a NUL character, which no program can be given")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text; keep it in base64") from None
    if size > LARGEST:
        raise ValueError(f"has {size:,} bytes; {LARGEST:,} are the most")
    return value


def declared_secrets(given: Sequence[str | Secret]) -> dict[str, Secret]:
    """Declarations by name, from what a program gives.

    Raises:
        SecretError: everything that is wrong with them.
    """
    found: dict[str, Secret] = {}
    problems: dict[str, str] = {}
    for one in [given] if isinstance(given, str) else given:
        secret = one if isinstance(one, Secret) else Secret(one)
        wrong = secret.problem() or ("is declared twice" if secret.name in found else None)
        if wrong is not None:
            problems[str(secret.name)] = wrong
        found[str(secret.name)] = secret
    if problems:
        raise SecretError(problems)
    return found


def fetch(
    declared: Mapping[str, Secret], given: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> Secrets | None:
    """The values of secrets, where they are not `given`; None: there are none to have.

    Raises:
        SecretError: everything that is wrong or missing; no value is shown.
    """
    given = given or {}
    environ = os.environ if environ is None else environ
    problems = {name: unknown(name, declared) for name in given if name not in declared}
    values: dict[str, str] = {}
    for name, secret in declared.items():
        try:
            values[name] = checked(given[name]) if name in given else secret.fetch(environ)
        except ValueError as error:
            problems[name] = str(error)
    if problems:
        raise SecretError(problems)
    short = [name for name, value in values.items() if len(value) < SHORTEST and name not in given]
    if short:
        import logging

        logging.getLogger(__name__).warning(
            "secret %s: shorter than %d characters, so it is not masked in logs", ", ".join(short), SHORTEST
        )
    return Secrets(values) if values else None


def resolve_secrets(
    declared: Mapping[str, Secret], given: Mapping[str, str] | None, params: Mapping[str, Any]
) -> Secrets | None:
    """The secrets of a run with these parameters: those that are `given`, and the others fetched.

    Raises:
        SecretError: see `fetch`.
        ParamError: see `refuse_in`.
    """
    found = given if isinstance(given, Secrets) else fetch(declared, given)
    if found is not None:
        refuse_in(params, found)
    return found


def refuse_in(params: Mapping[str, Any], secrets: Secrets) -> None:
    """Refuse parameters that hold a secret: they are stored with the run.

    Raises:
        ParamError: names them, and shows no value.
    """
    import json

    problems = {}
    for name, value in params.items():
        secret = secrets.masker.found(json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace"))
        if secret is not None:
            problems[name] = f"holds the secret {secret}, and parameters are stored; use the secret itself instead"
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
    """What a command prints; its complaints go where ours go."""
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
        raise ValueError("is not UTF-8 text; keep it in base64") from None
    return text.removesuffix("\n").removesuffix("\r")
