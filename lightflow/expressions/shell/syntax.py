"""Parse shell scripts with shfmt. Its parser knows the grammar of bash, which includes that of `sh`.

shfmt is a program. It is started once for many scripts, which are joined with a marker command between them. If each
marker is a statement of its own in the tree, no script reaches into the next one.
"""

from __future__ import annotations

import json
import os
import re
import sysconfig
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from liteflow import InputError
from liteflow.api import LONGEST_WORD

#: A node of the tree: `Type` and the fields of that type. A node whose place allows one type only has no `Type`. `Pos`
#: and `End` are offsets in bytes.
Node = dict[str, Any]

_TOGETHER: Final = 32 * 1024
_MARKER: Final = b": lightflow-next-script"
_PACKAGE: Final = "shfmt-py"
#: A position in the tree, of which only the offset is used. In a JSON string its quotes would have backslashes.
_POSITION: Final = re.compile(rb'\{\s*"Offset": (\d+),\s*"Line": \d+,\s*"Col": \d+\s*\}')
#: An operator as a number, as in the tree of shfmt before 3.14.
_NUMBERED: Final = re.compile(rb'"Op": ?\d')


class Unparsable(ValueError):
    """The text is not a valid shell script. `offset` is the byte with the mistake."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


class ShellTree(NamedTuple):
    """A parsed script: the bytes of `source` from `start` to `end`. Offsets in nodes are offsets in `source`."""

    source: bytes
    start: int
    end: int
    statements: list[Node]
    last: list[Node]  #: comments after the last statement


class Scripts:
    """Scripts, in about the order in which their trees are used. They are parsed in batches, as late as possible."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._waiting = list(texts)[::-1]
        self._trees: dict[str, ShellTree | Unparsable] = {}

    def tree(self, text: str) -> ShellTree:
        """Return the tree of one script.

        Raises:
            Unparsable: it is not a valid shell script.
            InputError: shfmt is not installed, or cannot be started.
        """
        if text not in self._trees:
            batch = self._batch(text)
            self._trees = dict(zip(batch, _parse(batch), strict=True))
        tree = self._trees[text]
        if isinstance(tree, Unparsable):
            raise tree
        return tree

    def _batch(self, text: str) -> list[str]:
        """Return the text, and the texts after it that are parsed with it."""
        batch, size = {text: None}, len(text)
        while self._waiting and self._waiting[-1] != text:
            self._waiting.pop()
        while self._waiting and (self._waiting[-1] in batch or size + len(self._waiting[-1]) < _TOGETHER):
            size += len(self._waiting[-1]) if self._waiting[-1] not in batch else 0
            batch[self._waiting.pop()] = None
        return list(batch)


def _parse(texts: Sequence[str]) -> Iterator[ShellTree | Unparsable]:
    scripts = [text.encode("utf-8", "surrogatepass") for text in texts]
    if len(scripts) > 1:
        try:
            yield from list(_parted(scripts))
            return
        except Unparsable:
            pass  # parse each alone, to find the invalid script
    for script in scripts:
        try:
            root = _run(script)
        except Unparsable as error:
            yield error
        else:
            yield ShellTree(script, 0, len(script), root.get("Stmts", []), root.get("Last", []))


def _parted(scripts: Sequence[bytes]) -> Iterator[ShellTree]:
    """Yield the trees of several scripts. Raises Unparsable if one is invalid, or reaches into the next one."""
    source = b"".join(script + b"\n" + _MARKER + b"\n" for script in scripts)
    statements = _run(source).get("Stmts", [])
    start = number = 0
    for script in scripts:
        end = start + len(script)
        first = number
        while number < len(statements) and statements[number]["Pos"] <= end:
            number += 1
        if number == len(statements) or statements[number]["Pos"] != end + 1:
            raise Unparsable("the script is not complete")
        yield ShellTree(source, start, end, statements[first:number], statements[number].get("Comments", []))
        number += 1
        start = end + len(_MARKER) + 2


def _run(source: bytes) -> Node:
    if len(source) >= LONGEST_WORD:  # it is one argument of the shell
        limit = f"a shell can be given {LONGEST_WORD // 1024} KiB"
        raise Unparsable(f"the script is {len(source):,} bytes long; {limit}")
    import subprocess  # most workflows have no expressions in scripts

    program = _program()
    try:
        done = subprocess.run([program, "-ln", "bash", "--to-json"], input=source, capture_output=True, check=False)
    except OSError as error:
        raise InputError(f"cannot start {program}, which reads shell scripts: {error.strerror}") from None
    if done.returncode:
        raise _mistake(done.stderr.decode("utf-8", "replace"), source)
    try:
        root = json.loads(_POSITION.sub(rb"\1", done.stdout))
    except RecursionError:
        raise Unparsable("the script is nested too deeply") from None
    if _NUMBERED.search(done.stdout):
        raise InputError(f"{program} is too old; install a newer one: python -m pip install --upgrade {_PACKAGE}")
    assert isinstance(root, dict)
    return root


def _mistake(text: str, source: bytes) -> Unparsable:
    place = re.search(r"(\d+):(\d+): (.*)", text)
    if place is None:
        return Unparsable(text.strip()[:200] or "shfmt failed")
    line, column = int(place[1]), int(place[2])
    lines = source.split(b"\n")
    where = sum(len(entry) + 1 for entry in lines[: line - 1]) + column - 1
    return Unparsable(place[3], where)


@lru_cache(maxsize=1)
def _program() -> str:
    """Return the path of shfmt: next to the running Python, in the files of its package, or on PATH."""
    path = os.path.join(sysconfig.get_path("scripts"), "shfmt")
    if os.path.exists(path):
        return path
    import shutil
    from importlib import metadata

    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    paths = [str(entry.locate()) for entry in files if entry.name == "shfmt"]
    path = next(filter(os.path.exists, paths), None) or shutil.which("shfmt") or ""
    if not path:
        raise InputError(
            f"expressions in shell scripts need the program shfmt; install it: python -m pip install {_PACKAGE}"
        )
    return path
