"""The application: workflows in YAML, JSON or Python, from the command line, on top of the engine `liteflow`."""

from liteflow import __version__

__all__ = ["__version__"]
