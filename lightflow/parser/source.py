"""Read a workflow file, YAML or JSON, into a tree that knows where everything stands."""

from __future__ import annotations

import os

from lightflow.errors import WorkflowError
from lightflow.parser.files import WORKFLOW, FileKind, check_characters, read_text
from lightflow.parser.positions import Source, Unreadable, problem_at
from lightflow.parser.yaml_source import read_yaml
from liteflow.api import gc_paused


def read_source(path: str | os.PathLike[str], kind: FileKind = WORKFLOW) -> Source:
    """The tree of the file; `.json` is read as JSON, everything else as YAML.

    Raises:
        WorkflowError: nothing can be built from the file.
    """
    file = os.fspath(path)
    try:
        text = read_text(file, kind)
        return parse_text(file, text, kind)
    except Unreadable as error:
        raise WorkflowError([problem_at(file, error.mark, error.path, error.message)]) from None


def parse_text(file: str, text: str, kind: FileKind = WORKFLOW) -> Source:
    """As `read_source`, for text at hand.

    Raises:
        Unreadable: nothing can be built from the text.
    """
    check_characters(text)
    with gc_paused():
        if not file.lower().endswith(".json"):
            return read_yaml(file, text, kind)
        from lightflow.parser.json_source import read_json  # the rarer kind

        return read_json(file, text, kind)
