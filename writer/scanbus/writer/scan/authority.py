"""In whose name a scan is written: a lease holder's, or a replay's.

The scan writer is the same code in both cases; what differs is whether it may
acknowledge, announce and trim.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from scanbus.bus.store import (
    Bus,
    Lease,
    acknowledge,
    append_fenced_event,
    begin_attempt,
    end_attempt,
    hold_scan,
    release_lease,
    release_quota,
    renew_lease,
    shrink_quota,
)
from scanbus.schemas import ScanJudged, Verdict
from scanbus.schemas.errors import LeaseLostError
from scanbus.writer.steps import step

__all__ = ["LeaseAuthority", "ReplayAuthority", "WriteAuthority"]


class WriteAuthority(Protocol):
    """The right to write a scan's files."""

    fence: int

    def check(self) -> None:
        """Raise LeaseLostError if the right is over."""

    def acknowledge(self, lane: str, point: int) -> None:
        """Say that all points of a lane before `point` are durable."""

    def announce(self, verdict: Verdict) -> None:
        """Say what became of the scan."""

    def shrink(self, lanes: Iterable[str]) -> None:
        """Free the room that a scan without a publisher reserves and does not use."""


class LeaseAuthority:
    """The right of a writer that holds the lease.

    Parameters
    ----------
    client : Bus
        A connection of its own.
    lease : Lease
        As acquired.
    ttl_ms : int
        For how long each renewal counts.
    """

    def __init__(self, client: Bus, lease: Lease, ttl_ms: int) -> None:
        self._client = client
        self._lease = lease
        self._ttl_ms = ttl_ms
        self.fence = lease.fence

    def renew(self, client: Bus | None = None) -> bool:
        """Keep the lease for another while; False if it is lost.

        Parameters
        ----------
        client : Bus or None
            The caller's connection, where it is not the owner of this authority: the
            owner closes its own when it likes.
        """
        with step("renew"):
            return renew_lease(client or self._client, self._lease, self._ttl_ms)

    def check(self) -> None:
        """Renew the lease, or raise."""
        if not self.renew():
            raise LeaseLostError(self._lease.uid, self._lease.fence)

    def acknowledge(self, lane: str, point: int) -> None:
        """Move the writer's cursor; it only grows, so this needs no fence."""
        with step("acknowledge"):
            acknowledge(self._client, self._lease.uid, lane, point)

    def announce(self, verdict: Verdict) -> None:
        """Append the verdict to the scan's events; free the quota if it is final."""
        event = ScanJudged(time=time.time(), verdict=verdict)
        with step("verdict"):
            if not append_fenced_event(self._client, self._lease, event):
                raise LeaseLostError(self._lease.uid, self._lease.fence)
        if not verdict.provisional:
            release_quota(self._client, verdict.uid)

    def shrink(self, lanes: Iterable[str]) -> None:
        """Reserve only what the scan holds: its publisher is gone and sends no more."""
        shrink_quota(self._client, self._lease.uid, lanes)

    def begin(self) -> int:
        """Count this attempt; return how many ended in a kill, and this one.

        Only an orderly end forgets them, whatever became durable meanwhile: other
        lanes may get on although one entry kills every attempt.
        """
        return begin_attempt(self._client, self._lease.uid)

    def give_back(self) -> None:
        """End the lease, so that nobody waits for it to expire."""
        end_attempt(self._client, self._lease.uid)
        release_lease(self._client, self._lease)


class ReplayAuthority:
    """The right of a replay: it keeps the scan on the bus, and says nothing.

    Parameters
    ----------
    client : Bus
        A connection of its own.
    uid : str
        The scan.
    hold_ms : int
        For how long each check keeps the scan from being trimmed.
    """

    fence = 0

    def __init__(self, client: Bus, uid: str, hold_ms: int = 30_000) -> None:
        self._client = client
        self._uid = uid
        self._hold_ms = hold_ms

    def check(self) -> None:
        """Keep the scan from being trimmed for another while."""
        hold_scan(self._client, self._uid, self._hold_ms)

    def acknowledge(self, lane: str, point: int) -> None:
        """Say nothing: the files of a replay are not the ones that were promised."""

    def announce(self, verdict: Verdict) -> None:
        """Say nothing: the verdict is returned to whoever replays."""

    def shrink(self, lanes: Iterable[str]) -> None:
        """Leave it to the writer."""
