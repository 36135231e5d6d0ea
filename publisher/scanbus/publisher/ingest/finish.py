"""The end of a scan: everything that came goes out, then the end is said."""

from __future__ import annotations

from collections.abc import Mapping
from time import time as wall_clock

from scanbus.publisher.ingest.numbered import settle
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import EndReason, Positioner, ScanEnded
from scanbus.schemas.errors import LaneConflictError

__all__ = ["end_scan"]

# What the document takes.
_MAX_TEXT = 65536


def end_scan(
    queue: ScanQueue,
    end_reason: EndReason,
    text: str,
    positioners: Mapping[str, Positioner],
) -> None:
    """Take nothing more, let the lanes run out, and have the end said after them."""
    queue.close_entrance()
    settle(queue)
    queue.end_lanes()
    # The events of a scan that somebody else publishes are not ours to end.
    if isinstance(queue.error, LaneConflictError):
        return
    queue.add_event(
        ScanEnded(
            time=wall_clock(),
            end_reason=end_reason,
            text=text[:_MAX_TEXT],
            positioners=dict(positioners),
            late=queue.late,
        )
    )
