"""The packages of the extra `ui`, without which there is no web server. Importing this module loads none of them."""

from __future__ import annotations

import importlib.util
from typing import Final

from liteflow import DefinitionError

_NEEDS: Final = ("starlette", "uvicorn", "graphql")


def missing_packages() -> list[str]:
    """Return the packages of the extra `ui` that are not installed."""
    return [name for name in _NEEDS if importlib.util.find_spec(name) is None]


def check_installed() -> None:
    """Check that the packages of the extra `ui` are installed.

    Raises:
        DefinitionError: one is missing.
    """
    if missing := missing_packages():
        raise DefinitionError(f"the server needs {', '.join(missing)}: pip install 'lightflow-workflows[ui]'")
