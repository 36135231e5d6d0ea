"""Tell where a run of frames begins and ends, in a stream that does not say it.

The receiver's thread does that, as silence is seen there alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from scanbus.publisher.gateways.runner.frame_numbers import MAX_JUMP, begins_anew
from scanbus.publisher.gateways.runner.gateway import RawMessage, Source
from scanbus.publisher.gateways.runner.messages import SeriesEnded, SeriesStarted
from scanbus.publisher.gateways.zmq.arrays import array_number, decode_arrays
from scanbus.schemas.errors import MessageError

__all__ = ["ArrayRuns", "RunSource", "is_run"]

# Of the keys of runs, which no sender gives.
_KEY = "run "
# So far ahead, frames were lost, or the number is wrong.
_FAR = 64


class ArrayRuns:
    """Numbers of frames, split into runs: a sender that starts again counts anew.

    Examples
    --------
    >>> runs = ArrayRuns()
    >>> for number in (5, 6, 8, 7, 0, 2, 1, 0, 1):
    ...     if runs.begins(number):
    ...         print(number, end=" ")
    ...     runs.add(number)
    5 0 0
    """

    def __init__(self) -> None:
        self._first: int | None = None
        self._greatest = 0

    @property
    def is_open(self) -> bool:
        """Whether a run has begun and did not end."""
        return self._first is not None

    def begins(self, number: int) -> bool:
        """Whether a frame with this number is the first one of a run."""
        first = self._first
        return first is None or begins_anew(number, first, self._greatest)

    def is_far(self, number: int) -> bool:
        """Whether a number is far ahead, so that frames were lost, or it is wrong."""
        return number > self._greatest + _FAR

    def add(self, number: int) -> None:
        """Note a frame."""
        if self.begins(number):
            self._first = self._greatest = number
        elif number - self._greatest <= MAX_JUMP:  # Others are refused later.
            self._greatest = max(self._greatest, number)

    def end(self) -> None:
        """End the run."""
        self._first = None


class RunSource:
    """Adds starts and ends of runs to a source of ``array-1.0`` messages.

    Messages of other kinds pass: their senders say where a series begins and ends.

    Parameters
    ----------
    source : Source
        The socket.
    idle_s : float
        A run is over when nothing came for so long, in seconds.
    has_left : callable
        Returns whether the scan of a run is open that a killed gateway left.
    """

    def __init__(
        self, source: Source, idle_s: float, has_left: Callable[[], bool]
    ) -> None:
        self._source = source
        self._idle_s = idle_s
        self._has_left = has_left
        self._runs = ArrayRuns()
        self._n_runs = 0
        self._waiting: deque[RawMessage] = deque()
        # Of waiting only: time in which the queue was full is no silence.
        self._silent_s = 0.0

    def receive(self, timeout_s: float) -> RawMessage | None:
        """Return the next message, or where a run begins or ends; None if neither."""
        if self._waiting:
            return self._waiting.popleft()
        raw = self._source.receive(timeout_s)
        if raw is None:
            return self._silence(timeout_s)
        self._silent_s = 0.0
        number = array_number(raw.content)
        if number is None:
            return raw
        runs = self._runs
        begins, was_open = runs.begins(number), runs.is_open
        if (begins or runs.is_far(number)) and not _is_usable(raw.content):
            return raw  # A damaged message begins nothing; decoding it says why.
        runs.add(number)
        if not begins:
            return raw
        if was_open:
            self._waiting.append(RawMessage(SeriesEnded(""), 0, raw.arrival))
        moment = datetime.fromtimestamp(raw.arrival, UTC)
        self._n_runs += 1  # Several may begin in one millisecond.
        name = f"{moment.isoformat(timespec='milliseconds')} {self._n_runs}"
        # 0 and 1 are both usual; with those, the runner learns which it is.
        first = number if number > 1 else None
        found_at = number if self._n_runs == 1 else None
        started = SeriesStarted(
            name, key=f"{_KEY}{name}", first_number=first, found_at=found_at
        )
        self._waiting += [RawMessage(started, 0, raw.arrival), raw]
        return self._waiting.popleft()

    def _silence(self, waited_s: float) -> RawMessage | None:
        self._silent_s += waited_s
        is_left = not self._n_runs and self._has_left()
        if self._silent_s < self._idle_s or not (self._runs.is_open or is_left):
            return None
        if is_left:
            self._n_runs = 1  # What comes now is another one.
        self._runs.end()
        return RawMessage(SeriesEnded(""), 0, 0.0)

    def close(self) -> None:
        """Disconnect."""
        self._source.close()


def is_run(key: str) -> bool:
    """Whether the key of a series is that of a run."""
    return key.startswith(_KEY)


def _is_usable(content: Any) -> bool:
    try:
        decode_arrays(content)
    except MessageError:
        return False
    return True
