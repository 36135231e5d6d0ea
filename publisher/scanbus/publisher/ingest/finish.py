"""Finish a scan: flush everything that came, then send the end."""

from __future__ import annotations

from collections.abc import Mapping
from time import time as wall_clock

from scanbus.publisher.ingest.numbered_points import give_up_holes
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import EndReason, Positioner, ScanEnded
from scanbus.schemas.errors import LaneConflictError

__all__ = ["end_scan", "reason_of"]

# The limit of the document.
_MAX_TEXT = 65536


def reason_of(error: BaseException | None) -> tuple[EndReason, str]:
    """Return the end reason and text of a scan that ended with `error`."""
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
    """Accept no more points, end all lanes, and queue the end to be sent after them."""
    queue.close_input()
    give_up_holes(queue)
    queue.end_lanes()
    # If another publisher publishes this scan, its events are not ours to end.
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
