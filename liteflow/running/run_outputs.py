"""The outputs of a run, computed from its stored values when it has succeeded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from liteflow.errors import LiteflowError, ResourceError, StoreError
from liteflow.masking import Masker
from liteflow.record import Record
from liteflow.state.output_history import outputs_text


class RunOutputs(Record):
    """How the outputs of a run are computed."""

    compute: Callable[[], Mapping[str, Any]] | None  #: values and `Ref`s by name; None: the run has no outputs
    masker: Masker | None

    @property
    def any(self) -> bool:
        return self.compute is not None

    def stored(self) -> tuple[str | None, str | None]:
        """Return the text to store, and why there is none. The values of the run are committed by now."""
        if self.compute is None:
            return None, None
        try:
            return outputs_text(self.compute(), self.masker), None
        except LiteflowError as error:
            if type(error) in (StoreError, ResourceError):
                raise  # a resume computes them
            return None, f"its outputs cannot be computed: {error}"
