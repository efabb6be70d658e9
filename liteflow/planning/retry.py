"""When a failed attempt is tried again, and how long to wait before. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class RetryPolicy(NamedTuple):
    """`retries` extra attempts, `delay_s` apart.

    The n-th wait is `delay_s * backoff ** (n - 1)`, lengthened by up to `jitter` (a fraction) so that many
    tasks do not come back at the same instant, and never longer than `max_delay_s`.
    With `on_exceptions` (class names, bases included) or `on_exit_codes` only such failures are tried again.
    """

    retries: int = 0
    delay_s: float = 0.0
    backoff: float = 1.0
    max_delay_s: float | None = None
    jitter: float = 0.0
    on_exceptions: tuple[str, ...] = ()
    on_exit_codes: tuple[int, ...] = ()

    def covers(self, error_types: Sequence[str], exit_code: int | None) -> bool:
        """Is this kind of failure one to try again?"""
        if not self.on_exceptions and not self.on_exit_codes:
            return True
        if exit_code is not None and exit_code in self.on_exit_codes:
            return True
        return any(name in self.on_exceptions for name in error_types)

    def wait_s(self, retry: int, seed: str) -> float:
        """Seconds before the `retry`-th extra attempt (1 is the first).

        The jitter is a hash of `seed` and `retry`, so the same run waits the same after a crash.
        """
        try:
            wait = self.delay_s * self.backoff ** (retry - 1)
        except OverflowError:
            wait = float("inf")
        if self.jitter:
            import zlib

            wait *= 1 + self.jitter * (zlib.crc32(f"{seed}:{retry}".encode()) / 2**32)
        if self.max_delay_s is not None:
            wait = min(wait, self.max_delay_s)
        return min(wait, 10 * 365 * 86400.0)


NEVER = RetryPolicy()
