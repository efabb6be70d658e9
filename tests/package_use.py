"""Which test files depend on the versions of packages: those that use `lightflow`, or a package of requirements.txt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
#: The folders from which test files import modules of the tests.
_FOLDERS: Final = (ROOT / "tests", *(ROOT / "tests" / name for name in ("unit", "contracts", "integration")))
#: Our own packages that use others; the engine needs none.
_OURS: Final = frozenset({"lightflow", "bench"})
#: What a file imports, or starts by `python -m`, in the scripts and commands in its texts too.
_IMPORT: Final = re.compile(r"(?:\bfrom|\bimport|-m\b)\W+(\w+)")
_REQUIREMENT: Final = re.compile(r"^[\w.-]+", re.MULTILINE)


def uses_packages(path: Path) -> bool:
    """Return whether a test file, or a module of the tests that it imports, imports `lightflow` or a package.

    A test of `liteflow` alone has the same result with all versions.
    """
    return any((_OURS | bounded_modules()) & set(_imports(file)) for file in _with_imported(path))


@cache
def bounded_modules() -> frozenset[str]:
    """Return the modules of the installed packages for which requirements.txt has the lowest version."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    bounded = {_plain(name) for name in _REQUIREMENT.findall(text)}
    owners = packages_distributions().items()
    return frozenset(module for module, names in owners if bounded & set(map(_plain, names)))


def _plain(distribution: str) -> str:
    return re.sub("[-_.]+", "-", distribution).lower()


def _with_imported(path: Path) -> Iterator[Path]:
    """Yield a test file, and the modules of the tests that it imports, directly or not."""
    waiting, seen = [path], set[Path]()
    while waiting:
        file = waiting.pop()
        if file not in seen and file.exists():
            seen.add(file)
            yield file
            waiting += [folder / f"{module}.py" for module in _imports(file) for folder in _FOLDERS]


@cache
def _imports(file: Path) -> tuple[str, ...]:
    """Return the first words of the names of the modules that a file uses."""
    return tuple(_IMPORT.findall(file.read_text(encoding="utf-8")))
