"""Authority to write a scan: that of a lease holder, or that of a replay.

The scan writer is the same in both cases. They differ in whether the cursor, the
verdict and the quota on the bus may be changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Protocol

from scanbus.bus.store import (
    Bus,
    Lease,
    acknowledge_all,
    append_fenced_event,
    end_attempt,
    hold_scan,
    release_lease,
    release_quota,
    renew_lease,
    show_all,
    shrink_quota,
    take_number_after,
)
from scanbus.schemas import ScanIdentity, ScanJudged, ScanRenumbered, Verdict
from scanbus.schemas.claim_names import replay_owner
from scanbus.schemas.errors import LeaseLostError, NameTakenError

__all__ = ["LeaseAuthority", "ReplayAuthority", "WriteAuthority"]

# Share of its duration after which a lease that nobody renewed has to be: some time
# after the service should have done so.
_FRESH = 0.7


class WriteAuthority(Protocol):
    """Authority to write a scan's files, and to change its state on the bus.

    Attributes
    ----------
    fence : int
        That of the lease; 0 without one.
    owner : str
        Whose the claims and work folders are; a replay has its own.
    """

    fence: int
    is_replay: bool
    owner: str

    def check(self) -> None:
        """Renew the authority; raise LeaseLostError if it has ended."""

    def keep(self) -> None:
        """Renew it if nobody else did of late: for a scan to which nothing comes.

        Raises
        ------
        LeaseLostError
            If it has ended.
        """

    def acknowledge(self, points: Mapping[str, int]) -> None:
        """Acknowledge that all points of lanes before these are durable."""

    def show(self, points: Mapping[str, int]) -> None:
        """State up to which points a master shows lanes: these may be trimmed."""

    def announce(self, verdict: Verdict) -> None:
        """Publish the verdict on the scan."""

    def shrink(self, lanes: Iterable[str]) -> None:
        """Release the unused part of the quota of a scan without a publisher."""

    def renumber(self, dataset: str, last: int, number: int, text: str) -> None:
        """Give the scan another number, by an event: its own one is taken.

        Parameters
        ----------
        dataset : str
            Folder of the dataset, relative to the root.
        last : int
            The largest number on the disk.
        number : int
            The number under which it has files already; 0 for a new one.
        text : str
            Why, in one sentence.

        Raises
        ------
        NameTakenError
            If this authority must not.
        """


class LeaseAuthority:
    """Authority of a writer that holds the scan's lease.

    Parameters
    ----------
    client : Bus
        A connection used by this attempt only.
    lease : Lease
        The acquired lease.
    ttl_ms : int
        Lease duration after each renewal, in milliseconds.
    """

    is_replay = False

    def __init__(self, client: Bus, lease: Lease, ttl_ms: int) -> None:
        self._client = client
        self.lease = lease
        self.ttl_ms = ttl_ms
        self.fence = lease.fence
        self.owner = lease.uid
        self._renewed_at = 0.0

    @property
    def age(self) -> float:
        """How long ago it was renewed, as a share of its duration."""
        return (time.monotonic() - self._renewed_at) * 1000 / self.ttl_ms

    def note_renewed(self, at: float) -> None:
        """Note that somebody else renewed the lease at a monotonic time."""
        self._renewed_at = at

    def renew(self, client: Bus | None = None) -> bool:
        """Renew the lease; return False if it is lost.

        Parameters
        ----------
        client : Bus or None
            The connection to use; this authority's own by default. Other threads pass
            their own connection, because the attempt may close its one at any time.
        """
        started = time.monotonic()
        is_held = renew_lease(client or self._client, self.lease, self.ttl_ms)
        self._renewed_at = started if is_held else 0.0
        return is_held

    def check(self) -> None:
        """Renew the lease; raise LeaseLostError if it is lost."""
        if not self.renew():
            raise LeaseLostError(self.lease.uid, self.lease.fence)

    def keep(self) -> None:
        """Renew the lease unless the service did; raise LeaseLostError if it is lost.

        The service renews those of all scans together.
        """
        if self.age >= _FRESH:
            self.check()

    def acknowledge(self, points: Mapping[str, int]) -> None:
        """Advance the writer's cursors; they only grow, so no fence is needed."""
        uid = self.lease.uid
        durable = {(uid, lane): point for lane, point in points.items()}
        acknowledge_all(self._client, durable)

    def show(self, points: Mapping[str, int]) -> None:
        """Advance the cursors of what masters show; they only grow, too."""
        uid = self.lease.uid
        show_all(self._client, {(uid, lane): point for lane, point in points.items()})

    def announce(self, verdict: Verdict) -> None:
        """Append the verdict to the scan's events; release the quota if it is final.

        Raises
        ------
        LeaseLostError
            If another writer has the lease.
        """
        event = ScanJudged(time=time.time(), verdict=verdict)
        if not append_fenced_event(self._client, self.lease, event):
            raise LeaseLostError(self.lease.uid, self.lease.fence)
        if not verdict.provisional:
            release_quota(self._client, verdict.uid)

    def shrink(self, lanes: Iterable[str]) -> None:
        """Reduce the quota to the data on the bus: a dead publisher sends no more."""
        shrink_quota(self._client, self.lease.uid, lanes)

    def renumber(self, dataset: str, last: int, number: int, text: str) -> None:
        """Take the next number of the dataset, and say so in the scan's events.

        Raises
        ------
        NoNumberLeftError
            If there is none that is counted.
        LeaseLostError
            If another writer has the lease.
        """
        number = number or take_number_after(self._client, dataset, last)
        event = ScanRenumbered(
            time=time.time(),
            scan_number=number,
            text=f"{text}; its number is {number} now",
        )
        if not append_fenced_event(self._client, self.lease, event):
            raise LeaseLostError(self.lease.uid, self.lease.fence)

    def give_back(self) -> None:
        """Reset the count of attempts and release the lease before it expires."""
        end_attempt(self._client, self.lease.uid)
        self.release()

    def release(self) -> None:
        """Release the lease of an attempt that was killed: it stays in the count."""
        release_lease(self._client, self.lease)


class ReplayAuthority:
    """Authority of a replay: it holds the scan on the bus and changes nothing else.

    Parameters
    ----------
    client : Bus
        A connection used by this replay only.
    scan : ScanIdentity
        The scan, with the number under which it is written.
    hold_ms : int
        Duration for which each check prevents trimming, in milliseconds.
    """

    fence = 0
    is_replay = True

    def __init__(self, client: Bus, scan: ScanIdentity, hold_ms: int = 30_000) -> None:
        self._client = client
        self.owner = replay_owner(scan.uid, scan.scan_number)
        self._uid = scan.uid
        self._hold_ms = hold_ms

    def check(self) -> None:
        """Renew the hold that prevents trimming."""
        hold_scan(self._client, self._uid, self._hold_ms)

    def keep(self) -> None:
        """Renew the hold: nobody else does."""
        self.check()

    def acknowledge(self, points: Mapping[str, int]) -> None:
        """Do nothing: a replay's files do not count as the scan's durable files."""

    def show(self, points: Mapping[str, int]) -> None:
        """Do nothing: nobody looks for a scan's points in a replay."""

    def announce(self, verdict: Verdict) -> None:
        """Do nothing: the verdict is returned to the caller of the replay."""

    def shrink(self, lanes: Iterable[str]) -> None:
        """Do nothing: the quota belongs to the scan's writer."""

    def renumber(self, dataset: str, last: int, number: int, text: str) -> None:
        """Refuse it: a replay changes nothing on the bus.

        Raises
        ------
        NameTakenError
            Always; with ``--as-number`` another number is used.
        """
        del last, number
        raise NameTakenError(dataset, text)
