"""Wait until scans are on the bus to their ends, before a gateway disconnects."""

from __future__ import annotations

import time
from collections.abc import Iterable

from scanbus.bus.store import Bus, find_scan, open_bus
from scanbus.schemas.errors import DeadlineError, UnknownScanError

__all__ = ["wait_sent"]

# Covers the send deadline of a publisher.
_TIMEOUT_S = 90.0
_POLL_S = 0.01


def wait_sent(url: str, uids: Iterable[str]) -> None:
    """Return when the ends of all these scans are on the bus.

    Raises
    ------
    DeadlineError
        If Redis has no room for one of them in time.
    """
    with open_bus(url, name="scanbus-gateway") as client:
        deadline = time.monotonic() + _TIMEOUT_S
        for uid in uids:
            while not _is_sent(client, uid):
                if time.monotonic() > deadline:
                    reason = "is there room in Redis, and a writer that makes some?"
                    what = f"scan {uid}: waiting until all is on the bus"
                    raise DeadlineError(what, _TIMEOUT_S, reason)
                time.sleep(_POLL_S)


def _is_sent(client: Bus, uid: str) -> bool:
    try:
        return find_scan(client, uid).ended is not None
    except UnknownScanError:
        return True  # It was refused before it was announced, or is evicted already.
