"""The quota of a scan that asks for none: as much as its data are expected to need.

Half of a quota is for open segments, so twice the expected bytes let a short scan be
one segment. What nobody declared is small for small values, whose reservation grows if
the writer is behind, and as much as a scan may have for frames, whose quota decides on
the length of the segments.
Pure: descriptions and numbers in, numbers out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scanbus.bus.protocol import quota_range
from scanbus.publisher.declare.lane_plan import (
    Declared,
    LaneRequest,
    holds_all,
    lane_requests,
)
from scanbus.schemas import Storage

__all__ = ["default_quota", "smaller_quotas"]

# Lanes of small values without declared length: all together, and each at least.
_UNKNOWN_BYTES = 8 * 2**20
_UNKNOWN_LANE_BYTES = 2**18


def default_quota(declared: Sequence[Declared], compression: float, budget: int) -> int:
    """Return the quota with which a scan starts, in bytes.

    Parameters
    ----------
    declared : sequence of Declared
        Its channels.
    compression : float
        Expected compression ratio of the frames.
    budget : int
        Bytes that all scans together may reserve.

    Returns
    -------
    int
        Between the limits of `quota_range`; more if they do not hold one chunk of every
        lane, but not more than the budget.
    """
    least, most = quota_range(budget)
    requests = lane_requests(declared, compression)
    wanted = int(_wanted_bytes(requests, most))
    quota = max(1, least, min(wanted, most))
    while quota < budget and not holds_all(requests, quota):
        quota = min(2 * quota, budget)
    return quota


def smaller_quotas(
    declared: Sequence[Declared], compression: float, quota: int, budget: int
) -> Iterator[int]:
    """Yield smaller quotas that still hold one chunk of every lane, largest first."""
    least, _ = quota_range(budget)
    requests = lane_requests(declared, compression)
    while quota > least:
        quota = max(least, quota // 2)
        if not holds_all(requests, quota):
            return
        yield quota


def _wanted_bytes(requests: Sequence[LaneRequest], most: int) -> float:
    wanted = 0.0
    n_unknown = 0
    for request in requests:
        if request.expected_points is not None:
            wanted += 2 * request.expected_points * request.cost_bytes
        elif request.storage is Storage.FILES:
            return most
        else:
            n_unknown += 1
    if n_unknown:
        wanted += max(_UNKNOWN_BYTES, n_unknown * _UNKNOWN_LANE_BYTES)
    return wanted
