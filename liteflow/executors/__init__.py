"""Executors: they run attempts and return outcomes, and know nothing of graphs or databases."""

from liteflow.executors.open import HostProgram, open_executor
from liteflow.executors.protocol import CANCEL_SIGNAL, Backend, BackendContext, BackendFactory, Executor

__all__ = ["CANCEL_SIGNAL", "Backend", "BackendContext", "BackendFactory", "Executor", "HostProgram", "open_executor"]
