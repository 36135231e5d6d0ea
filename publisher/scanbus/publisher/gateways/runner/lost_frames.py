"""What a series lacks, and why, for the verdict on its scan. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from scanbus.publisher.gateways.runner.frame_numbers import FrameNumbers, span_text
from scanbus.publisher.recovery.lost_data import LostPoints
from scanbus.schemas.wording import counted

__all__ = [
    "came_first_text",
    "goes_on_text",
    "lost_at_start",
    "lost_by_restarts",
    "never_came_text",
    "why_without_frames",
]

# A note has room for so many ranges.
_MAX_NAMED = 50


def came_first_text(came: int, first: int, *, is_learnt: bool) -> str:
    """Return a note on the frame that came first; empty if nothing is to be said.

    A sender that counts from 1 and one whose frame 0 was lost look alike.

    Parameters
    ----------
    came : int
        Number of the frame that came first.
    first : int
        Number with which the series is taken to begin.
    is_learnt : bool
        Whether `first` is concluded from the frames, not said by sender or user.

    Examples
    --------
    >>> came_first_text(0, 0, is_learnt=True)
    ''
    >>> came_first_text(7, 5, is_learnt=False)
    'frame 7 came first: frames 5 to 6 were lost, or late'
    """
    if came == first:
        if came == 0 or not is_learnt:
            return ""
        return (
            f"frame {came} came first: the sender is taken to count from {came}; if it "
            "counts from 0, frame 0 was lost (--first-number 0)"
        )
    text = f"frame {came} came first: {span_text(first, came)} lost, or late"
    if not is_learnt:
        return text
    return f"{text}; if the sender counts from 1, say --first-number 1"


def goes_on_text(numbers: FrameNumbers) -> str:
    """Return a note on a gateway that goes on with what a dead one began.

    Examples
    --------
    >>> goes_on_text(FrameNumbers(3, 8, came=8))
    'the gateway was killed and started again: it goes on with frame 8'
    """
    text = (
        f"the gateway was killed and started again: it goes on with frame {numbers.end}"
    )
    if numbers.stop == numbers.end:
        return text
    span = span_text(numbers.stop, numbers.end)
    return f"{text}; {span} published, and values beside may be lost"


def never_came_text(numbers: FrameNumbers) -> str:
    """Return a note on the frames that never came; empty if all did.

    Examples
    --------
    >>> numbers = FrameNumbers(0, 2, came=5)
    >>> never_came_text(numbers), numbers.add(7).value, never_came_text(numbers)
    ('', 'new', 'frames that never came: 5 to 6')
    """
    spans = [f"{low} to {high - 1}" for low, high in numbers.missing()[:_MAX_NAMED]]
    return f"frames that never came: {', '.join(spans)}" if spans else ""


def lost_at_start(
    channels: Iterable[str],
    numbers: FrameNumbers,
    came: int | None,
    n_promised: int | None,
) -> list[LostPoints]:
    """Return which points may be missing because the first number was learnt.

    Parameters
    ----------
    channels : iterable of str
        Those of frames.
    numbers : FrameNumbers
        Frames that came.
    came : int, optional
        Number of the frame that came first, if the first number was learnt.
    n_promised : int, optional
        Frames that the start of the series promised.
    """
    first, start, end, text = numbers.first, 0, 0, ""
    missing = numbers.missing()
    if came is None:
        return []
    if missing and missing[0][0] == first < came:
        stop = min(missing[0][1], came)  # The rest is lost for another reason.
        end = stop - first
        text = f"frame {came} came first: {span_text(first, stop)} lost before it"
        if n_promised is not None and numbers.stop > first + n_promised:
            text = (
                f"frame {came} came first, and {numbers.stop - 1} last of "
                f"{n_promised}: the sender counts from 1, and frame 0 never was "
                "(--first-number 1)"
            )
    elif first and n_promised is not None and numbers.stop == n_promised:
        start, end = n_promised - 1, n_promised
        text = (
            f"frame {came} came first, and {n_promised - 1} last: lost is frame 0 if "
            f"the sender counts from 0, or else frame {n_promised}"
        )
    return [LostPoints(channel, start, end, text) for channel in channels if text]


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
