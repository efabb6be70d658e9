"""Commands and their parameters as data: click is made of it, and what needs no click is read without.

click knows help, completion, abbreviations and how to complain; importing it and parsing takes 35 ms, more than
anything else a command does (docs/adr/0016). A command line that is *plain* - every option spelt as declared, its value
behind it, nothing missing, nothing twice - is read by `Command.plain`; any other is left to `Command.to_click`. What is
plain means the same to both: a property test says so.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Final


class NotPlain(Exception):
    """Only click can tell what is meant."""


class Misuse(Exception):
    """The command line is wrong in a way that only the command itself can tell; click adds how to get help."""

    exit_code: ClassVar[int] = 2


class Text:
    """Any text; also the type of paths, whose existence is asked by whoever reads them: he has the better words."""

    def __init__(self, *, is_path: bool = False) -> None:
        self._is_path = is_path

    def read(self, text: str) -> Any:
        """The value of a plain text. Raises NotPlain."""
        return text

    def to_click(self) -> Any:
        import click

        return click.Path(path_type=str) if self._is_path else click.STRING


class Choice(Text):
    """One of some words."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def read(self, text: str) -> Any:
        if text not in self._words:
            raise NotPlain
        return text

    def to_click(self) -> Any:
        import click

        return click.Choice(self._words)


class Whole(Text):
    """A whole number, from 1."""

    def __init__(self) -> None:
        pass

    def read(self, text: str) -> Any:
        if not (text.isascii() and text.isdecimal()) or not 0 < len(text) < 10 or int(text) < 1:
            raise NotPlain
        return int(text)

    def to_click(self) -> Any:
        import click

        return click.IntRange(min=1)


class Seconds(Text):
    """A number of seconds, from 0."""

    def __init__(self) -> None:
        pass

    def read(self, text: str) -> Any:
        raise NotPlain

    def to_click(self) -> Any:
        import click

        return click.FloatRange(min=0)


TEXT: Final = Text()
PATH: Final = Text(is_path=True)


class Parameter:
    """An option or argument. `more` is what click alone needs: help, metavar, completion."""

    def __init__(
        self,
        spelling: Sequence[str],
        *,
        type: Text = TEXT,  # noqa: A002 - click's word
        is_flag: bool = False,
        default: Any = None,
        envvar: str | None = None,
        required: bool = True,
        many: bool = False,
        **more: Any,
    ) -> None:
        self.is_option = spelling[0].startswith("-")
        names = [name for name in spelling if not name.startswith("-")]
        longest = max(spelling, key=len).partition("/")[0]
        self.name = (names[0] if names else longest.lstrip("-")).replace("-", "_")
        #: what is written on the command line -> the flag's value, or None where a value follows
        self.spellings: dict[str, bool | None] = {}
        self.is_flag = is_flag or "/" in spelling[-1]
        for name in spelling if self.is_option else ():
            if name.startswith("-"):
                on, _, off = name.partition("/")
                self.spellings[on] = True if self.is_flag else None
                if off:
                    self.spellings[off] = False
        self.type, self.envvar, self.many = type, envvar, many
        self.required = required and not self.is_option
        self.default = False if is_flag else default
        self._click: dict[str, Any] = {**more, **({} if default is None else {"default": default})}
        self._spelling = spelling

    def absent(self) -> Any:
        """The value when it is not given. Raises NotPlain."""
        found = os.environ.get(self.envvar) if self.envvar else None
        if found:
            return self.type.read(found)
        if self.required:
            raise NotPlain
        return () if self.many else self.default

    def decorate(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import click

        if self.is_option:
            kind = {} if self.is_flag else {"type": self.type.to_click()}
            if self.many:
                kind["multiple"] = True
            if self.is_flag:
                kind["is_flag"] = True
                self._click.setdefault("default", self.default)
            return click.option(*self._spelling, envvar=self.envvar, **kind, **self._click)(function)
        number = -1 if self.many else 1
        kind = {"type": self.type.to_click()}
        return click.argument(*self._spelling, nargs=number, required=self.required, **kind, **self._click)(function)


#: An option of every command: where its paths start.
_DIRECTORY: Final = Parameter(
    ("-C", "--directory"),
    type=PATH,
    metavar="DIR",
    help="Change to this folder first, as make does: all paths start there.",
)


class Command:
    """A command: what it does, and its parameters in the order in which they are declared."""

    #: The folder that `-C` has led to, as it was written, while a command is at work.
    entered: ClassVar[str] = ""

    def __init__(self, function: Callable[..., Any], name: str | None, epilog: str) -> None:
        self.function, self.name, self.epilog = function, name, epilog
        self.parameters: list[Parameter] = [*reversed(function.__dict__.pop("parameters", [])), _DIRECTORY]

    def call(self, *, directory: str | None, **values: Any) -> Any:
        """Do the command's work, in the folder of `-C`.

        Raises:
            Misuse: only the command can tell what is wrong; the folder is as it was.
            OSError: there is no such folder.
        """
        if directory is None:
            return self.function(**values)
        before = os.getcwd()
        os.chdir(directory)
        Command.entered = directory
        try:
            return self.function(**values)
        except Misuse:
            os.chdir(before)
            raise
        finally:
            Command.entered = ""

    def plain(self, arguments: Sequence[str]) -> dict[str, Any]:
        """The parameters by name, as click would give them.

        Raises:
            NotPlain: that takes click to tell.
        """
        options = {text: one for one in self.parameters for text in one.spellings}
        values: dict[str, Any] = {}
        words: list[str] = []
        rest = iter(arguments)
        for text in rest:
            if not text.startswith("-"):
                words.append(text)
                continue
            option = options.get(text)
            if option is None or (option.name in values and not option.many):
                raise NotPlain
            flag = option.spellings[text]
            if option.many:
                values[option.name] = (*values.get(option.name, ()), option.type.read(_value(rest)))
                continue
            values[option.name] = option.type.read(_value(rest)) if flag is None else flag
        for one in self.parameters:
            if not one.is_option and words:
                values[one.name] = tuple(one.type.read(word) for word in words) if one.many else one.type.read(words[0])
                words = [] if one.many else words[1:]
            elif one.name not in values:
                values[one.name] = one.absent()
        if words:
            raise NotPlain
        return values

    def to_click(self) -> Any:
        """The click command."""
        import click

        @functools.wraps(self.function)
        def call(**values: Any) -> Any:
            try:
                return self.call(**values)
            except Misuse as error:
                raise click.UsageError(str(error), click.get_current_context()) from None

        made: Callable[..., Any] = call
        for parameter in reversed(self.parameters):
            made = parameter.decorate(made)
        return click.command(self.name, epilog=self.epilog)(made)


def _value(rest: Iterator[str]) -> str:
    """The next word, where it is certainly the value of the option before it."""
    text = next(rest, "-")
    if text.startswith("-"):
        raise NotPlain
    return text


def command(name: str | None = None, *, epilog: str) -> Callable[[Callable[..., Any]], Command]:
    """Make a command of a function, whose docstring is the help."""
    return lambda function: Command(function, name, epilog)


def option(*spelling: str, **attributes: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option of the command below it: `Parameter`'s keywords, and click's."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__dict__.setdefault("parameters", []).append(Parameter(spelling, **attributes))
        return function

    return add


argument = option
