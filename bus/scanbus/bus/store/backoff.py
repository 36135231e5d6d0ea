"""Back-off: pauses between attempts while Redis is unavailable or full."""

from __future__ import annotations

from scanbus.bus.store.lazy_redis import redis

__all__ = ["Backoff"]

_MOST_FAILURES = 64


class Backoff:
    """Exponential back-off: redis-py's policy and the number of failures so far.

    Not safe to share between threads.

    Parameters
    ----------
    first_s, longest_s : float
        The first and the longest pause, in seconds.
    """

    def __init__(self, first_s: float = 0.05, longest_s: float = 1.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._failures = 0

    @property
    def is_first(self) -> bool:
        """Whether there was no failure since the last success."""
        return self._failures == 0

    def next_s(self) -> float:
        """Count one more failure; return the pause after it, in seconds."""
        policy = redis.backoff.ExponentialBackoff(self._longest_s, self._first_s)
        pause_s = float(policy.compute(self._failures))
        # redis-py computes 2 ** failures, which overflows a float at 1024.
        self._failures = min(self._failures + 1, _MOST_FAILURES)
        return pause_s

    def reset(self) -> None:
        """Start again with the first pause, after a success."""
        self._failures = 0
