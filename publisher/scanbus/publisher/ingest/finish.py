"""Finish a scan: flush everything that came, then send the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import time as wall_clock
from typing import Any

from scanbus.publisher.declare.arguments import sendable
from scanbus.publisher.declare.json_text import text_of
from scanbus.publisher.declare.positioners import (
    axes_metadata,
    motors_of,
    positioners_of,
)
from scanbus.publisher.ingest.numbered_points import give_up_holes
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import EndReason, Positioner, ScanEnded
from scanbus.schemas.documents import MAX_TEXT_LENGTH
from scanbus.schemas.errors import LaneConflictError
from scanbus.schemas.valid_names import plain_text

__all__ = ["ScanEnd", "end_scan", "reason_of"]


def reason_of(error: BaseException | None) -> tuple[EndReason, str]:
    """Return the end reason and text of a scan that ended with `error`."""
    if error is None:
        return EndReason.SUCCESS, ""
    if isinstance(error, KeyboardInterrupt):
        return EndReason.USER_ABORT, "interrupted from the keyboard"
    return EndReason.FAILURE, f"{type(error).__name__}: {text_of(error)}"


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
        self._given: dict[str, Any] = {}
        self.said: tuple[EndReason, str] | None = None

    def add_positioners(
        self, given: Mapping[str, Any], update: Callable[[Mapping[str, Any]], None]
    ) -> None:
        """Add positions of motors; raise DeclarationError if they cannot be sent.

        Parameters
        ----------
        update : callable
            Adds metadata: positions of several axes.
        """
        every = {**self._given, **dict(motors_of(given))}
        found = positioners_of(every)
        end = sendable(_end_of, EndReason.FAILURE, "," * MAX_TEXT_LENGTH, found)
        if axes := axes_metadata(given, ("positioners_end",)):
            update(axes)
        self._given, self.positioners = every, end.positioners

    def abort(self, text: str) -> None:
        """Have the scan end with USER_ABORT."""
        self.said = EndReason.USER_ABORT, text_of(text)


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
        end = _end_of(end_reason, plain_text(text, MAX_TEXT_LENGTH), positioners)
        queue.add_event(end.model_copy(update={"late": queue.late}))
    queue.close_input()
