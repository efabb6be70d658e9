"""Read a YAML or JSON file into a tree with positions."""

from __future__ import annotations

import os

from lightflow.errors import WorkflowError
from lightflow.parser.files import WORKFLOW_FILE, FileKind, check_characters, read_text
from lightflow.parser.positions import Source, UnreadableFile, problem_at
from liteflow.api import gc_paused


def read_source(path: str | os.PathLike[str], kind: FileKind = WORKFLOW_FILE) -> Source:
    """Return the tree of a file. A name that ends with `.json` means JSON, every other name YAML.

    Raises:
        WorkflowError: the file cannot be read, or has no tree.
    """
    file = os.fspath(path)
    try:
        text = read_text(file, kind)
        return parse_text(file, text, kind)
    except UnreadableFile as error:
        raise WorkflowError([problem_at(file, error.mark, error.path, error.message)]) from None


def parse_text(file: str, text: str, kind: FileKind = WORKFLOW_FILE) -> Source:
    """Return the tree of a text; `file` is its name in messages.

    Raises:
        UnreadableFile: the text has no tree.
    """
    check_characters(text)
    with gc_paused():
        if file.lower().endswith(".json"):
            from lightflow.parser.json_source import read_json

            return read_json(file, text, kind)
        from lightflow.parser.yaml_source import read_yaml  # imports PyYAML: 15 ms

        return read_yaml(file, text, kind)
