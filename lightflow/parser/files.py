"""Read a YAML or JSON file into a raw tree with positions. Everything but a regular file of text is an error."""

from __future__ import annotations

import codecs
import os
import re
import stat

from lightflow.errors import WorkflowError
from lightflow.parser.positions import (
    NAME_KEYS,
    WORKFLOW_FILE,
    FileKind,
    Position,
    Source,
    UnreadableFile,
    position_after,
    problem_at,
)
from lightflow.text import did_you_mean, quoted
from liteflow.api import gc_paused

MAX_BYTES = 16 * 1024 * 1024

# Everything that YAML does not count as printable, plus the characters that YAML 1.1 takes for line ends.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def split_reference(path: str) -> tuple[str, str]:
    """Return the file and the workflow that `FILE#NAME` means; the workflow is empty where none is named."""
    file, mark, name = path.rpartition("#")
    return (path, "") if not mark or os.path.exists(path) else (file, name)


def read_source(path: str | os.PathLike[str], kind: FileKind = WORKFLOW_FILE) -> Source:
    """Return the tree of a file, or of the workflow in it that `FILE#NAME` means: by default the first.

    Raises:
        WorkflowError: the file cannot be read, has no tree, or has no workflow of this name.
    """
    file, name = split_reference(os.fspath(path))
    sources = read_sources(file, kind)
    if not name:
        return sources[0]
    names = [source.name or os.path.basename(file).split(".")[0] for source in sources]
    if name in names:
        return sources[names.index(name)]
    hint = did_you_mean(name, names) or f"; there is {', '.join(names)}"
    raise WorkflowError([problem_at(file, None, "", f"no workflow {quoted(name)}{hint}")])


def read_sources(path: str | os.PathLike[str], kind: FileKind = WORKFLOW_FILE) -> list[Source]:
    """Return the tree of each workflow in a file. A name that ends with `.json` means JSON, every other name YAML.

    Raises:
        WorkflowError: the file cannot be read, has no tree, or has two workflows of one name.
    """
    file = os.fspath(path)
    try:
        sources = parse_text(file, read_text(file, kind), kind)
        _check_names(sources)
        return sources
    except UnreadableFile as error:
        raise WorkflowError([problem_at(file, error.mark, error.path, error.message)]) from None


def _check_names(sources: list[Source]) -> None:
    """Raise UnreadableFile where several workflows of a file have the same name or none."""
    names: dict[str, int] = {}
    for source in sources if len(sources) > 1 else ():
        key = next((key for key in NAME_KEYS if key in source.tree), "")
        place = source.positions.value(source.tree, key) if key else source.start
        if not source.name:
            raise UnreadableFile('each workflow of a file with several needs its "workflow_name"', place)
        if source.name in names:
            line = names[source.name]
            raise UnreadableFile(f"a second workflow {quoted(source.name)}; the first is on line {line}", place)
        names[source.name] = (place or source.start).line + 1


def parse_text(file: str, text: str, kind: FileKind = WORKFLOW_FILE) -> list[Source]:
    """Return the tree of each workflow in a text; `file` is its name in messages.

    Raises:
        UnreadableFile: the text has no tree.
    """
    check_characters(text)
    with gc_paused():
        if file.lower().endswith(".json"):
            from lightflow.parser.json_source import read_json

            return [read_json(file, text, kind)]
        from lightflow.parser.yaml_source import read_yaml  # imports PyYAML: 15 ms

        return read_yaml(file, text, kind)


def read_text(path: str, kind: FileKind) -> str:
    """Return the text of a regular file in UTF-8, without its byte order mark.

    Raises:
        UnreadableFile: it does not exist, is not a regular file, is too large, or is not UTF-8.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if os.path.islink(path):
            raise UnreadableFile("is a link to a file that does not exist") from None
        raise UnreadableFile(f"no such file{_similar(path)}") from None
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableFile(f"is a folder, not a {kind.name}")
        if not stat.S_ISREG(mode):
            raise UnreadableFile("is not a regular file")
        with open(descriptor, "rb", closefd=False) as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableFile(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise UnreadableFile(f"is larger than {MAX_BYTES // 1024 // 1024} MiB")
    return decode(data)


def decode(data: bytes) -> str:
    """Return the text of bytes in UTF-8.

    Raises:
        UnreadableFile: they are not UTF-8; with the position.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UnreadableFile("is UTF-16; save it as UTF-8", Position(0, 0))
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        # `start` counts from after the byte order mark, if there is one.
        before = error.object[: error.start].decode("utf-8", "replace")
        raise UnreadableFile(
            f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8", position_after(before)
        ) from None
    return text


def check_characters(text: str) -> None:
    """Refuse characters that are invisible, or that only some readers count as line ends.

    Raises:
        UnreadableFile: with the position of the first such character.
    """
    if match := _FORBIDDEN.search(text):
        raise UnreadableFile(
            f"character U+{ord(match[0]):04X} is not allowed; remove it, or write it as an escape in double quotes",
            position_after(text[: match.start()]),
        )


def _similar(path: str) -> str:
    import difflib

    folder, name = os.path.split(path)
    try:
        names = os.listdir(folder or ".")[:10_000]
    except (OSError, ValueError):
        return ""
    complete = [name + suffix for suffix in (".yaml", ".yml", ".json", ".py") if name + suffix in names]
    near = complete or difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return f', did you mean "{os.path.join(folder, near[0])}"?' if near else ""
