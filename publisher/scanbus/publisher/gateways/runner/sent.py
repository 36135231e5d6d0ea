"""Wait until scans are on the bus to their ends, before a gateway disconnects."""

from __future__ import annotations

import time
from collections.abc import Iterable

from scanbus.bus.store import Bus, find_scan, open_bus
from scanbus.schemas.errors import (
    BusUnavailableError,
    DeadlineError,
    UnknownScanError,
)

__all__ = ["wait_sent"]

# Covers the send deadline of a publisher.
_TIMEOUT_S = 90.0
_POLL_S = 0.01
_RETRY_S = 0.5


def wait_sent(url: str, uids: Iterable[str]) -> None:
    """Return when the ends of all these scans are on the bus.

    Redis may be away meanwhile: what it lacks is in the publisher's memory.

    Raises
    ------
    DeadlineError
        If Redis has no room for one of them in time.
    BusUnavailableError
        If it does not answer in time.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    left = list(uids)
    was_away = False
    while left:
        try:
            with open_bus(url, name="scanbus-gateway") as client:
                _wait_sent(client, left, deadline, was_away=was_away)
        except BusUnavailableError:
            was_away = True
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)


def _wait_sent(
    client: Bus, left: list[str], deadline: float, *, was_away: bool
) -> None:
    """Remove the scans that are on the bus to their ends, until all are."""
    while left:
        if _is_sent(client, left[0], was_away=was_away):
            del left[0]
        elif time.monotonic() > deadline:
            reason = "is there room in Redis, and a writer that makes some?"
            what = f"scan {left[0]}: waiting until all is on the bus"
            raise DeadlineError(what, _TIMEOUT_S, reason)
        else:
            time.sleep(_POLL_S)


def _is_sent(client: Bus, uid: str, *, was_away: bool) -> bool:
    try:
        return find_scan(client, uid).ended is not None
    except UnknownScanError:
        # It was refused before it was announced, or is evicted already; or Redis came
        # back empty, and the publisher is about to announce it again.
        return not was_away
