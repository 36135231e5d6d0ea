"""Pauses between tries at a Redis that is away or full."""

from __future__ import annotations

from scanbus.bus.store.lazy_redis import redis

__all__ = ["Backoff"]

_MOST_FAILURES = 64


class Backoff:
    """Pauses that double up to a longest one; redis-py's, with the count kept here.

    Not safe to share between threads.

    Parameters
    ----------
    first_s, longest_s : float
        The first pause, and the bound of all.
    """

    def __init__(self, first_s: float = 0.05, longest_s: float = 1.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._failures = 0

    @property
    def is_first(self) -> bool:
        """Whether nothing failed since the last success."""
        return self._failures == 0

    def next_s(self) -> float:
        """Return how long to pause after one more failure."""
        policy = redis.backoff.ExponentialBackoff(self._longest_s, self._first_s)
        pause_s = float(policy.compute(self._failures))
        # redis-py raises two to this power, and a float ends at 2 ** 1024.
        self._failures = min(self._failures + 1, _MOST_FAILURES)
        return pause_s

    def reset(self) -> None:
        """Begin with the first pause again: something worked."""
        self._failures = 0
