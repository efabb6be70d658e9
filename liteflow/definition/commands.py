"""Commands that are written in Python: shell scripts, and values of other tasks as arguments and variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from liteflow.definition.mapping import MapRef
from liteflow.errors import DefinitionError, InputError, LiteflowError
from liteflow.processes.spawn import LONGEST_WORD, encoded
from liteflow.record import Record
from liteflow.shell import shell_words
from liteflow.values.params import as_text
from liteflow.values.payload import decode, is_pickled
from liteflow.work import Command, Item, Ref, RunInfo, Work, input_name

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*\Z"
_TASK: Final = r"<Task '[^']*'>|Ref\(task_id='[^']*', key='[^']*'\)"

_Word = str | Ref | Item


class CommandInputs(Record):
    """The deferred part of a command that takes values of other tasks (see `liteflow.work.DeferredBody`).

    A value is one whole argument or one variable: no shell splits it or reads it as text of the script.
    """

    argv: tuple[_Word, ...]
    env: Mapping[str, _Word]

    @property
    def reads(self) -> Sequence[Ref]:
        """The values of other tasks that it takes."""
        return tuple({word: None for word in (*self.argv, *self.env.values()) if isinstance(word, Ref)})

    def complete(self, body: Any, info: RunInfo, work: Work) -> Any:
        """Return the command of an attempt. Raises InputError."""
        argv = tuple(_text(word, work, f"argument {number}") for number, word in enumerate(self.argv))
        env = {name: _text(word, work, f"variable {name}", len(name) + 1) for name, word in self.env.items()}
        return body._replace(argv=argv, env=env, late=None)


def with_values(command: Command, task_id: str) -> Command:
    """Return the command with its words and variables as text, and with values of tasks as its deferred part.

    Raises:
        DefinitionError: a word or a variable is neither text, a number, a path nor a value of a task.
    """
    argv = tuple(_word(word, f"task {task_id!r}: argument {number}") for number, word in enumerate(command.argv))
    env = {name: _word(word, f"task {task_id!r}: variable {name!r}") for name, word in command.env.items()}
    if all(isinstance(word, str) for word in (*argv, *env.values())):
        return command._replace(argv=argv, env=env)  # type: ignore[arg-type]  # all is text here
    if command.late is not None:
        raise DefinitionError(f"task {task_id!r}: a command with a `late` of its own cannot take values of tasks")
    placeholders = {name: _placeholder(word) for name, word in env.items()}
    late = CommandInputs(argv=argv, env=env)
    return command._replace(argv=tuple(map(_placeholder, argv)), env=placeholders, late=late)


def pasted_task(script: str) -> str:
    """Return what to do about the text of a task in a script, such as an f-string makes; empty: there is none."""
    if not (pasted := re.search(_TASK, script)):
        return ""
    return (
        f"{pasted[0]}: the value of a task cannot be put into the text of a script; "
        'hand it over as a variable: echo "$ROWS", with env={"ROWS": task}'
    )


def shell_command(
    script: str,
    task_id: str,
    *,
    env: Mapping[str, Any],
    cwd: str | os.PathLike[str] | None,
    shell: str | Sequence[str] | None,
    output: str | None,
    skip_on_exit_codes: Sequence[int],
) -> Command:
    """Return the command that runs a script.

    Raises:
        DefinitionError: an invalid argument; names the task.
    """

    def wrong(problem: str) -> DefinitionError:
        return DefinitionError(f"task {task_id!r}: {problem}")

    if not isinstance(script, str) or not script.strip():
        raise wrong("a shell task needs a script, as text")
    if problem := pasted_task(script):
        raise wrong(f"the script holds {problem}")
    if "\0" in script:
        raise wrong("the script holds a NUL character, which no program can be given")
    for name in env:
        if not isinstance(name, str) or not re.match(_NAME, name):
            raise wrong(f"{name!r} cannot be the name of an environment variable: use letters, digits and '_'")
    if shell is not None and (
        not shell or not (isinstance(shell, str) or all(isinstance(word, str) for word in shell))
    ):
        raise wrong(f"shell={shell!r} must be the name of a shell, or a list of the words before the script")
    if output not in (None, "last_line", "json"):
        raise wrong(f"output={output!r} must be 'last_line', 'json' or None")
    folder = None if cwd is None else os.path.abspath(os.path.expanduser(cwd))
    words = shell_words(shell, script)
    return Command(words, folder, dict(env), tuple(skip_on_exit_codes), output)  # type: ignore[arg-type]  # checked above


def _word(value: Any, where: str) -> _Word:
    if isinstance(value, Ref | Item):
        if isinstance(value, Item) and value.maps:
            raise DefinitionError(f"{where}: the functions of map() run in Python tasks only, not in a command")
        return value
    if isinstance(value, MapRef):
        raise DefinitionError(f"{where}: {value.ref.task_id}.map(…) stands for a list to expand over")
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str | bool | int | float):
        return as_text(value)
    raise DefinitionError(f"{where} must be text, a number, a path, a task or an output of a task, not {value!r}")


def _placeholder(word: _Word) -> str:
    """Return the text in place of a value before a run, and in the digest of the task."""
    match word:
        case Ref(task_id, key):
            return f"<{task_id}.{key}>"
        case Item(name=name):
            return f"<item {name}>"
    return word


def _text(word: _Word, work: Work, what: str, name_bytes: int = 0) -> str:
    """Return a word of the command of an attempt as text. Raises InputError."""
    if isinstance(word, str):
        return word
    if isinstance(word, Item):
        source, payload = f"the item {word.name!r}", (work.items or {}).get(word.name)
    else:
        source, payload = f"{_value_name(word)} of task {word.task_id!r}", (work.inputs or {}).get(input_name(word))
    if payload is None:
        raise InputError(f"{what}: there is no {source.removeprefix('the ')}")
    if is_pickled(payload):
        raise InputError(f"{what}: {source} is a Python object (it was pickled), which only Python tasks can take")
    try:
        value = decode(payload)
        if isinstance(value, set | frozenset):
            value = sorted(value, key=repr)
        text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes | bytearray) else as_text(value)
        size = len(encoded(text))
    except UnicodeEncodeError:
        raise InputError(
            f"{what}: {source} holds half of a character (a lone surrogate), which no program can be given"
        ) from None
    except (LiteflowError, TypeError, ValueError) as error:
        raise InputError(f"{what}: {source}: {error}") from None
    if "\0" in text:
        raise InputError(f"{what}: {source} holds a NUL character, which no program can be given")
    if size + name_bytes + 1 > LONGEST_WORD:
        raise InputError(
            f"{what}: {source} is {size:,} bytes long; a program can be given {LONGEST_WORD // 1024} KiB, "
            "so hand it over in a file"
        )
    return text


def _value_name(ref: Ref) -> str:
    return "the value" if ref.key == "return_value" else f"the output {ref.key!r}"
