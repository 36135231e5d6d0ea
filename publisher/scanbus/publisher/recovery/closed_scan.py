"""A scan that was closed in its publisher's place, by an operator or a writer.

If that publisher comes back nevertheless, the scan does not change any more: what only
the publisher has is published as a new scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scanbus.bus.protocol import SEAL_ID
from scanbus.bus.store import (
    Bus,
    ends_of_streams,
    load_record,
    sealed_length,
    stored_sessions,
)
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import Verdict, VerdictWord
from scanbus.schemas.errors import ScanClosedError

__all__ = ["ClosedScan", "closed_by_verdict", "find_closed", "is_sealed_by_other"]


@dataclass(frozen=True, slots=True)
class ClosedScan:
    """How a scan was closed.

    Attributes
    ----------
    uid : str
        The scan's uid.
    text : str
        Why it was closed; empty if that is not known.
    lengths : mapping
        Lane to its number of points; lanes that are not sealed are absent.
    """

    uid: str
    text: str
    lengths: Mapping[str, int]

    def left(self, queue: ScanQueue) -> dict[str, str]:
        """Return the points of each lane that only the publisher has, as text."""
        return {
            name: f"{length} to {queue.lanes[name].length - 1}"
            for name, length in self.lengths.items()
            if queue.lanes[name].length > length
        }

    def begins(self, queue: ScanQueue) -> dict[str, int]:
        """Return where each lane begins in the scan that goes on.

        Also of a lane whose length is not known: what the publisher keeps no more is
        in files of the closed scan, or of one before it.
        """
        return {
            name: max(self.lengths.get(name, 0), lane.first_kept)
            for name, lane in queue.lanes.items()
        }

    def error(self, queue: ScanQueue) -> ScanClosedError:
        """Return the error for a scan of which nothing is left to publish."""
        spool = "" if queue.spool is None else str(queue.spool.folder)
        return ScanClosedError(self.uid, self.text, spool)


def find_closed(client: Bus, queue: ScanQueue) -> ClosedScan | None:
    """Return how a scan was closed; None if its end is its publisher's, or absent."""
    announced = queue.announced
    uid = announced.scan.uid
    ended = load_record(client, announced).ended
    if ended is None or queue.watch.has_event(ended):
        return None
    lengths = {
        lane.name: sealed_length(client, uid, lane.description)
        for lane in queue.lanes.values()
    }
    known = {name: length for name, length in lengths.items() if length is not None}
    # Nobody reads a lane of late points that the end does not name.
    known |= {
        lane.name: 0
        for lane in queue.lanes.values()
        if lane.description.is_late
        and lane.description.channels[0].name not in ended.late
    }
    return ClosedScan(uid, ended.text, known)


def is_sealed_by_other(client: Bus, queue: ScanQueue) -> bool:
    """Whether somebody has begun to close a scan: there is a seal, but no end yet."""
    names = list(queue.lanes)
    ends = zip(names, ends_of_streams(client, queue.uid, names), strict=True)
    sealed = {name: SEAL_ID for name, found in ends if found and found[1] == SEAL_ID}
    sessions = stored_sessions(client, queue.uid, sealed).values()
    return any(session not in (None, queue.session) for session in sessions)


def closed_by_verdict(
    queue: ScanQueue, uid: str, verdict: Verdict
) -> ClosedScan | None:
    """Return that a scan was closed, if its final verdict lacks points that were sent.

    Redis may have lost the seals and the end that somebody added; the verdict, which
    the files have, still shows them.

    Parameters
    ----------
    uid : str
        The scan of the verdict; the queue may be that of a later one by now.
    """
    if not verdict.channels and verdict.verdict is VerdictWord.COMPLETE:
        return None  # From a writer that keeps no ledger.
    if verdict.is_dismissal:
        return None
    lengths = {
        lane.name: max(
            verdict.channels[channel.name].expected
            if channel.name in verdict.channels
            else 0
            for channel in lane.description.channels
        )
        for lane in queue.lanes.values()
        if not lane.description.is_late
    }
    closed = ClosedScan(uid, verdict.reason or verdict.end_reason, lengths)
    return closed if closed.left(queue) else None
