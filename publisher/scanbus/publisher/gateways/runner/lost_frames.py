"""What a series lacks, and why, for the verdict on its scan. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from scanbus.publisher.gateways.runner.frame_numbers import span_text
from scanbus.publisher.recovery.lost_data import LostPoints
from scanbus.schemas.wording import counted

__all__ = ["lost_by_restarts", "why_without_frames"]


def lost_by_restarts(
    lost: Iterable[tuple[str, int, int]], first_number: int
) -> list[LostPoints]:
    """Return why points are missing that were lost when the gateway was killed.

    Parameters
    ----------
    lost : iterable of tuple
        Channel, number of the first frame that it lacks, and of the first since.
    first_number : int
        Number of the series' first frame.
    """
    return [
        LostPoints(
            channel,
            first - first_number,
            stop - first_number,
            f"the gateway was killed and started again: {span_text(first, stop)} "
            "on the way through it, or came meanwhile",
        )
        for channel, first, stop in lost
    ]


def why_without_frames(n_promised: int | None, n_refused: int) -> str:
    """Return why a series without any frame is not complete; empty if it is.

    It has no channel which could have gaps.

    Examples
    --------
    >>> why_without_frames(5, 0), why_without_frames(None, 0)
    ('0 of 5 frames of the series came', '')
    """
    if n_promised is not None:
        return f"0 of {counted(n_promised, 'frame')} of the series came"
    return f"no frame came that could be used; {n_refused} refused" if n_refused else ""
