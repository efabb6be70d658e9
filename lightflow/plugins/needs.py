"""The modules that task types need: whether they are installed, and what to do if not. Nothing is imported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def missing_modules(modules: Iterable[str]) -> list[str]:
    """Return the modules that are not installed."""
    return [module for module in modules if not _is_installed(module)]


def needs_text(type_name: str, missing: Sequence[str], extra: str) -> str:
    """Return what to do about the missing modules of a type; `extra` is the distribution that has them."""
    command = f"pip install '{extra}'" if extra else f"pip install {' '.join(missing)}"
    return f"type {type_name} needs {', '.join(missing)}: {command}"


def _is_installed(module: str) -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False
