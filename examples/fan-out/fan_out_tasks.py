"""What the workflow beside this file calls."""

from __future__ import annotations


def report(texts: list[dict[str, str]], words: list[str]) -> dict[str, int]:
    """How many words each text has."""
    return {text["name"]: int(number) for text, number in zip(texts, words, strict=True)}
