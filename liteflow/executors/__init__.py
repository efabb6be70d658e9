"""Executors: they run attempts and return outcomes, and know nothing of graphs or databases."""

from liteflow.executors.open import open_executor
from liteflow.executors.protocol import Executor

__all__ = ["Executor", "open_executor"]
