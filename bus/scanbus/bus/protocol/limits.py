"""How much scans may reserve of a Redis of which size. Pure."""

from __future__ import annotations

from typing import Final

__all__ = [
    "BUDGET_FRACTION",
    "DEFAULT_MEMORY_BYTES",
    "budget_bytes",
    "default_quota",
]

BUDGET_FRACTION: Final = 0.6
"""Share of Redis's memory that scans may reserve; the rest is for buffers and forks."""


DEFAULT_MEMORY_BYTES: Final = 4 * 2**30
"""Taken as Redis's memory where it has no maxmemory."""


DEFAULT_QUOTA_BYTES: Final = 2**30


def budget_bytes(memory_bytes: int) -> int:
    """Return what all scans together may reserve of a Redis of that size."""
    return int(memory_bytes * BUDGET_FRACTION)


def default_quota(budget: int) -> int:
    """Return the quota of a scan that does not state one: 1 GiB or half the budget."""
    return min(DEFAULT_QUOTA_BYTES, budget // 2)
