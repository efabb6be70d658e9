"""Retries: whether a failed attempt is tried again, and after which delay. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from liteflow.record import Record

#: How often a task instance is started again because its process died; after that it is FAILED.
MAX_LOST: Final = 3
#: The error code of an attempt that was lost because its place had to end: a walltime, a node that is taken away.
PLACE_LEFT: Final = "place:left"
_LONGEST_S: Final = 10 * 365 * 86400.0
#: The longest wait that a failure can require where the policy has no `max_delay_s`.
_LONGEST_REQUIRED_S: Final = 3600.0


class Failure(Record, kw_only=False):
    """The failure of an attempt, as far as a retry depends on it."""

    error_types: Sequence[str] = ()  # class names, the nearest class first
    exit_code: int | None = None
    codes: Sequence[str] = ()  # such as "http:503"
    retry_after_s: float | None = None  # the least wait before the next attempt
    final: bool = False  # another attempt would not help, or would do harm


NO_FAILURE: Final = Failure()


class RetryPolicy(Record, kw_only=False):
    """`retries` extra attempts, `delay_s` apart.

    The n-th delay is `delay_s * backoff ** (n - 1)`, lengthened by up to `jitter` (a fraction) so that many tasks are
    not tried again at the same instant, and never longer than `max_delay_s`. With `on_exceptions` (class names, bases
    included), `on_exit_codes` or `on_codes` (patterns such as "http:5??") only such failures are tried again.
    """

    retries: int = 0
    delay_s: float = 0.0
    backoff: float = 1.0
    max_delay_s: float | None = None
    jitter: float = 0.0
    on_exceptions: tuple[str, ...] = ()
    on_exit_codes: tuple[int, ...] = ()
    on_codes: tuple[str, ...] = ()

    def covers(self, failure: Failure) -> bool:
        """Return whether this kind of failure is tried again."""
        if self.on_codes and self._names(failure.codes):
            return True
        if failure.final:
            return False
        if not self.on_exceptions and not self.on_exit_codes and not self.on_codes:
            return True
        if failure.exit_code is not None and failure.exit_code in self.on_exit_codes:
            return True
        return any(name in self.on_exceptions for name in failure.error_types)

    def _names(self, codes: Sequence[str]) -> bool:
        from fnmatch import fnmatchcase

        return any(fnmatchcase(code, pattern) for code in codes for pattern in self.on_codes)

    def wait_s(self, retry: int, seed: str) -> float:
        """Return the seconds before the `retry`-th extra attempt (1 is the first).

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
        return min(wait, _LONGEST_S)

    def required_wait_s(self, failure: Failure) -> float:
        """Return the seconds that the failure itself requires before the next attempt."""
        longest = _LONGEST_REQUIRED_S if self.max_delay_s is None else self.max_delay_s
        return min(failure.retry_after_s or 0.0, longest)


NEVER = RetryPolicy()


class RetryTracker:
    """Failed and lost attempts of each task instance since the run was started or resumed."""

    def __init__(self, policies: Mapping[int, RetryPolicy], seed: str) -> None:
        self._policies = dict(policies)  # by task, and by hook
        self._seed = seed
        self._failed: dict[int, int] = {}
        self._lost: dict[int, int] = {}
        self._repeated: set[int] = set()  # instances whose last attempt was an iteration before the last

    def set_policy(self, node: int, policy: RetryPolicy) -> None:
        """Set the policy of a hook."""
        if policy != NEVER:
            self._policies[node] = policy

    def after_failure(self, node: int, task: int, name: str, failure: Failure) -> float | None:
        """Count a failed attempt. Return the seconds before the next one; None: there is no further attempt."""
        failed = self._failed[node] = self._failed.get(node, 0) + 1
        policy = self._policies.get(task, NEVER)
        if failed > policy.retries or not policy.covers(failure):
            return None
        return max(policy.wait_s(failed, f"{self._seed}:{name}"), policy.required_wait_s(failure))

    def explain(self, node: int, task: int, failure: Failure, wait: float | None) -> str:
        """Explain the decision about a failure with codes, or a final one; empty where it needs no explanation."""
        policy = self._policies.get(task, NEVER)
        if wait is not None:
            requires = bool(failure.retry_after_s) and wait == policy.required_wait_s(failure)
            return "as the service requires" if requires else ""
        if self._failed[node] > policy.retries:
            return ""
        if failure.final:
            return "not tried again: the failure is final"
        return "not tried again: `retry` does not name it" if failure.codes else ""

    def after_loss(self, node: int, failure: Failure) -> int:
        """Count an attempt whose process died, unless its place had to end. Return how many count so far."""
        lost = self._lost[node] = self._lost.get(node, 0) + (PLACE_LEFT not in failure.codes)
        return lost

    def is_retry(self, node: int) -> bool:
        """Return whether an attempt of the instance has failed or has been lost."""
        return node in self._failed or node in self._lost

    def repeat(self, node: int) -> None:
        """Note that an iteration has ended, and that another follows, with retries of its own."""
        self.forget(node)
        self._repeated.add(node)

    def repeats(self, node: int) -> bool:
        """Return whether the next attempt of the instance is an iteration that follows another."""
        return node in self._repeated

    def ended(self, node: int) -> None:
        """Note that an attempt has ended."""
        self._repeated.discard(node)

    def forget(self, node: int) -> None:
        """Forget the attempts of a hook that is triggered once more."""
        self._failed.pop(node, None)
        self._lost.pop(node, None)
