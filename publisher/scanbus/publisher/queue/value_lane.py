"""Lanes of small values: buffered by group, put into entries when they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from time import time as wall_clock

from scanbus.bus.protocol import Times
from scanbus.publisher.buffers.entry_builder import values_entry
from scanbus.publisher.buffers.group_buffer import GroupBuffer, Run, Series
from scanbus.publisher.queue.backpressure import Backpressure
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.waker import Waker
from scanbus.schemas import LaneDescription

__all__ = ["MAX_BATCH_BYTES", "ValueLaneQueue"]

MAX_BATCH_BYTES = 8 * 2**20
"""Most bytes of entries that are sent, or made, at once."""
# Checking all kept bytes costs too much for every single value.
_LOOK_EVERY_POINTS = 256


class ValueLaneQueue(LaneQueue):
    """A lane of small values; other parameters are those of :class:`LaneQueue`.

    Parameters
    ----------
    backpressure : Backpressure
        The scan's; a send waits there for room.
    start : int
        The first point to come.
    """

    def __init__(
        self,
        description: LaneDescription,
        session: bytes,
        waker: Waker,
        spool_waker: Waker | None,
        *,
        backpressure: Backpressure,
        start: int = 0,
    ) -> None:
        super().__init__(description, session, waker, spool_waker)
        self._backpressure = backpressure
        self._buffer = GroupBuffer(description, start)
        self._encoding_bytes = 0

    @property
    def series(self) -> Mapping[str, Series]:
        """Points of each channel that are in no entry yet."""
        return self._buffer.series

    @property
    def kept_bytes(self) -> int:
        """Bytes in memory that are not known to be durable."""
        gathered = self._buffer.pending_bytes + self._encoding_bytes + self.held_bytes
        return super().kept_bytes + gathered

    @property
    def length(self) -> int:
        """Points taken into entries so far."""
        return self._buffer.taken

    @property
    def reached(self) -> int:
        """Points so far that all its channels have."""
        self._buffer.advance(wall_clock())
        return self._buffer.complete

    @property
    def next_point(self) -> int:
        """The point after the last one that came."""
        return self._buffer.length

    @property
    def has_complete(self) -> bool:
        """Whether a point that all channels have is in no entry yet."""
        self._buffer.advance(wall_clock())
        return self._buffer.has_complete

    @property
    def is_drained(self) -> bool:
        """Whether all complete points are in entries."""
        return not self.has_complete and not self._encoding_bytes

    @property
    def has_work(self) -> bool:
        """Whether its sender has work."""
        return super().has_work or self.has_complete

    @property
    def why_incomplete(self) -> str:
        """Which channel of its group is behind which; empty if none is."""
        ahead, behind, points = self._buffer.longest_and_shortest()
        if not points or self._buffer.has_complete:
            return ""
        return f"{ahead} is {points} points ahead of {behind} in its group"

    # ------------------------------------------------------ the program's threads

    def admit(self, nbytes: int) -> None:
        """Wait until there is room for points; see `Backpressure.admit`."""
        self._backpressure.admit(self, nbytes)

    def note_scalar(self, series: Series) -> bool:
        """Note when a value came that may complete points; return whether it is time.

        It is time to call `settle`, and to look whether there is room, now and then.
        """
        count = series.count
        self._buffer.note_reached(count, wall_clock())
        self.wake()
        return not count % _LOOK_EVERY_POINTS

    # ---------------------------------------------------------- takes the lock

    def check_times(self, name: str, times: Times | None) -> None:
        """Refuse times of a channel's next points if another channel gave others.

        Raises
        ------
        ValueError
            If it did; nothing was taken then.
        """
        if times is not None and len(self.description.channels) > 1:
            with self._backpressure.lock:
                self._buffer.check_times(name, times)

    def gather(
        self,
        name: str,
        run: Run,
        times: Times | None,
        now: float | None = None,
    ) -> None:
        """Add checked values of one channel to the buffer, without a copy.

        Parameters
        ----------
        now : float, optional
            When they came, in seconds since 1970, by default now.
        """
        with self._backpressure.lock:
            buffer = self._buffer
            buffer.append(name, run, times)
            then = wall_clock() if now is None else now
            if buffer.series[name].is_awaited:
                # Its sender counts what is complete, once for many of these.
                buffer.note_reached(buffer.series[name].count, then)
                self.wake()
            elif buffer.advance(then):
                self.wake()

    def settle(self) -> None:
        """Keep single values as arrays where they have become many."""
        with self._backpressure.lock:
            if self._buffer.advance(wall_clock()):
                self.wake()
            self._buffer.compact()

    def encode_gathered(self) -> None:
        """Make entries of buffered values; one thread at a time may call it."""
        taken = []
        with self._backpressure.lock:
            self._buffer.advance(wall_clock())
            before = n_bytes = self._buffer.pending_bytes
            stop_at = max(0, n_bytes - MAX_BATCH_BYTES)
            while n_bytes >= stop_at and (each := self._buffer.take()):
                taken.append(each)
                n_bytes = self._buffer.pending_bytes
            self._encoding_bytes = before - n_bytes
        entries = [
            values_entry(self.description, each, self._session) for each in taken
        ]
        with self._backpressure.lock:
            self._encoding_bytes = 0
            for entry in entries:
                self.put(entry)

    # --------------------------------------------------------- the lock is held

    def end(self) -> None:
        """Accept no more points; channels shorter than others end with gaps."""
        self._buffer.end(wall_clock())
        super().end()
