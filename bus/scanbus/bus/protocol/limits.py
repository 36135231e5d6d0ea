"""Memory limits: how much of Redis's memory scans may reserve. Pure."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ALLOCATED_SHARE",
    "BUDGET_FRACTION",
    "DEFAULT_MEMORY_BYTES",
    "LEAST_MEMORY_BYTES",
    "MOST_WATERMARK",
    "budget_bytes",
    "quota_range",
]

BUDGET_FRACTION: Final = 0.6
"""Share of Redis's memory that scans may reserve; the rest is for buffers and forks."""


ALLOCATED_SHARE: Final = 1.25
"""What Redis may allocate for a byte: jemalloc rounds up, by a quarter at most."""


MOST_WATERMARK: Final = 0.4
"""Largest share of the budget for data in files: with all quotas, 99 % of Redis."""


LEAST_MEMORY_BYTES: Final = 16 * 2**20
"""Smallest Redis: what it uses for itself and its clients is small against a quarter.

That is what quotas leave of it, as they are allocated.
"""


DEFAULT_MEMORY_BYTES: Final = 4 * 2**30
"""Assumed memory of a Redis without maxmemory, in bytes."""


_LEAST_QUOTA_BYTES: Final = 4 * 2**20
_MOST_QUOTA_BYTES: Final = 2**30


def budget_bytes(memory_bytes: int) -> int:
    """Return how many bytes all scans together may reserve of a Redis of that size."""
    return int(memory_bytes * BUDGET_FRACTION)


def quota_range(budget: int) -> tuple[int, int]:
    """Return the least and the most that a scan reserves by default, in bytes.

    From 4 MiB to 1 GiB, and never more than a quarter of the budget.
    """
    most = min(_MOST_QUOTA_BYTES, budget // 4)
    return min(_LEAST_QUOTA_BYTES, most), most
