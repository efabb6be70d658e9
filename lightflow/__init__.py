"""The application: workflows in YAML, JSON or Python, from the command line, on top of the engine `liteflow`."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    # On demand: importing the engine takes longer than all that `lightflow --help` does.
    if name == "__version__":
        from liteflow.version import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
