"""Finish a scan: flush everything that came, then send the end."""

from __future__ import annotations

from collections.abc import Mapping
from time import time as wall_clock
from typing import Any

from scanbus.publisher.declare.arguments import positioners_of, sendable
from scanbus.publisher.ingest.numbered_points import give_up_holes
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import EndReason, Positioner, ScanEnded
from scanbus.schemas.errors import LaneConflictError

__all__ = ["ScanEnd", "end_scan", "reason_of"]

# The limit of the document.
_MAX_TEXT = 65536


def reason_of(error: BaseException | None) -> tuple[EndReason, str]:
    """Return the end reason and text of a scan that ended with `error`."""
    if error is None:
        return EndReason.SUCCESS, ""
    if isinstance(error, KeyboardInterrupt):
        return EndReason.USER_ABORT, "interrupted from the keyboard"
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - an error of the program's; the end must be sent
        said = "cannot be shown"
    return EndReason.FAILURE, f"{type(error).__name__}: {said}"


class ScanEnd:
    """What a program said about the end of its scan; checked where it says so.

    Attributes
    ----------
    positioners : mapping
        Positions of motors at the end.
    said : tuple or None
        The reason and text of the end, whatever else happens.
    """

    def __init__(self) -> None:
        self.positioners: Mapping[str, Positioner] = {}
        self.said: tuple[EndReason, str] | None = None

    def add_positioners(self, given: Mapping[str, Any]) -> None:
        """Add positions of motors; raise DeclarationError if they cannot be sent."""
        merged = {**self.positioners, **positioners_of(given)}
        end = sendable(_end_of, EndReason.FAILURE, "," * _MAX_TEXT, merged)
        self.positioners = end.positioners

    def abort(self, text: str) -> None:
        """Have the scan end with USER_ABORT; raise DeclarationError as above."""
        end = sendable(_end_of, EndReason.USER_ABORT, text, {})
        self.said = end.end_reason, end.text


def _end_of(
    end_reason: EndReason, text: str, positioners: Mapping[str, Positioner]
) -> ScanEnded:
    return ScanEnded(
        time=wall_clock(),
        end_reason=end_reason,
        text=text,
        positioners=dict(positioners),
    )


def end_scan(
    queue: ScanQueue,
    end_reason: EndReason,
    text: str,
    positioners: Mapping[str, Positioner],
) -> None:
    """End all lanes after what came, and queue the end to be sent after them.

    In the worker's thread, after everything that the program handed over.
    """
    give_up_holes(queue)
    queue.end_lanes()
    # If another publisher publishes this scan, its events are not ours to end.
    if not isinstance(queue.error, LaneConflictError):
        end = _end_of(end_reason, _storable(text), positioners)
        queue.add_event(end.model_copy(update={"late": queue.late}))
    queue.close_input()


def _storable(text: str) -> str:
    """Return text that can be sent, whatever an error said: the end must come."""
    known = text[:_MAX_TEXT].encode("utf-8", "replace").decode()
    return known.replace("\0", "\N{REPLACEMENT CHARACTER}")
