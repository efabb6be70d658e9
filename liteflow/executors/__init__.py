"""Executors: they take Work and give back Outcomes, and know nothing of graphs or databases."""

from liteflow.executors.dispatch import Executor, open_executor

__all__ = ["Executor", "open_executor"]
