"""The end of a scan: everything that came goes out, then the end is said."""

from __future__ import annotations

from collections.abc import Mapping
from time import time as wall_clock

from scanbus.publisher.ingest.numbered import give_up_holes
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import EndReason, Positioner, ScanEnded
from scanbus.schemas.errors import LaneConflictError

__all__ = ["end_scan", "reason_of"]

# What the document takes.
_MAX_TEXT = 65536


def reason_of(error: BaseException | None) -> tuple[EndReason, str]:
    """Return how a scan ends that ended with this error, and the text that says so."""
    if error is None:
        return EndReason.SUCCESS, ""
    if isinstance(error, KeyboardInterrupt):
        return EndReason.USER_ABORT, "interrupted from the keyboard"
    return EndReason.FAILURE, f"{type(error).__name__}: {error}"


def end_scan(
    queue: ScanQueue,
    end_reason: EndReason,
    text: str,
    positioners: Mapping[str, Positioner],
) -> None:
    """Take nothing more, let the lanes run out, and have the end said after them."""
    queue.close_input()
    give_up_holes(queue)
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
