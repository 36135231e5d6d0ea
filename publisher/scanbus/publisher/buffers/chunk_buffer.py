"""Buffer frames into whole chunks, and cut incomplete ones.

The payload of a whole chunk is stored in HDF5 unchanged, so frames are buffered until
a chunk is full. Frames that cannot wait, or begin in the middle of a chunk, become a
partial piece that the writer compresses again. Pure: no codec, no Redis, no clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import Times, evenly_spaced
from scanbus.publisher.buffers.point_times import EVEN_S
from scanbus.schemas import LaneDescription

__all__ = ["ChunkBuffer", "Piece"]


_MAX_SPARE = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive points of a detector that become one entry.

    Attributes
    ----------
    first, count : int
        The points ``[first, first + count)``.
    frames : numpy.ndarray, bytes or None
        ``(count, *shape)``, or a whole chunk if padded; compressed already if bytes;
        None for points that will never come.
    times : numpy.ndarray
        Time of each point, in seconds since 1970; of none for points that never come.
    is_padded : bool
        Whether `frames` is a whole chunk of which only `count` points are valid.
    raw_bytes : int
        Bytes that it counts as until it is compressed.
    is_copy : bool
        Whether `frames` is memory of the chunk buffer, not of the program.
    """

    first: int
    count: int
    frames: npt.NDArray[Any] | bytes | None
    times: Times
    is_padded: bool = False
    raw_bytes: int = 0
    is_copy: bool = False


class ChunkBuffer:
    """The frames of one detector that are not in a piece yet.

    Not safe to share between threads, except for `private_copy` and `recycle`.

    Parameters
    ----------
    lane : LaneDescription
        The detector's lane.
    start : int
        The first point to come: those before it are in entries already.
    """

    def __init__(self, lane: LaneDescription, start: int = 0) -> None:
        self._channel = lane.channels[0]
        self._per_chunk = lane.points_per_chunk
        self._per_segment = lane.points_per_segment
        self._frames: npt.NDArray[Any] | None = None
        # Allocating fresh memory takes as long as the copy, so memory is reused.
        self._spare: deque[npt.NDArray[Any]] = deque(maxlen=_MAX_SPARE)
        self._spare_frames: deque[npt.NDArray[Any]] = deque(maxlen=_MAX_SPARE)
        self._times: list[float] = []
        self._has_given_time = False
        self._first = self.count = start

    @property
    def held(self) -> int:
        """Frames of the chunk that is not full."""
        return self.count - self._first

    def private_copy(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a copy as declared: the program may change its frame."""
        spare = self._spare_frame()
        spare[...] = frame
        return spare

    def _spare_frame(self) -> npt.NDArray[Any]:
        try:
            return self._spare_frames.pop()
        except IndexError:
            return np.empty(self._channel.shape, self._channel.numpy_dtype)

    def push(
        self,
        frame: npt.NDArray[Any],
        time: float,
        *,
        copy: bool = True,
        is_given: bool = True,
        is_private: bool = False,
    ) -> Piece | None:
        """Add one frame; return the piece that it completes, if any.

        Parameters
        ----------
        is_given : bool
            Whether the program gave the time. If not, it may be changed by up to
            `EVEN_S`: two times then stand for all of a chunk, and it is not copied.
        copy : bool
            Whether the caller may change the frame afterwards. If not, a frame that is
            a whole chunk is not copied.
        is_private : bool
            Whether it is a `private_copy`, whose memory can be used again.
        """
        self._times.append(time)
        self._has_given_time |= is_given
        if self._frames is None:
            if not copy and self.is_chunk(frame):
                self.count += 1
                return self._piece(frame[np.newaxis], is_private=is_private)
            self._frames = self._new_frames()
        self._frames[self.held] = frame
        if is_private:
            self._spare_frames.append(frame)
        self.count += 1
        return self.cut() if self.held == len(self._frames) else None

    def is_chunk(self, frame: npt.NDArray[Any]) -> bool:
        """Return whether a frame is a whole chunk without a copy or a conversion."""
        return (
            self._per_chunk == 1
            and frame.flags.c_contiguous
            and frame.dtype == self._channel.numpy_dtype
        )

    def _new_frames(self) -> npt.NDArray[Any]:
        space = self._per_chunk - self.count % self._per_chunk
        if space == self._per_chunk and self._spare:
            return self._spare.pop()
        return np.empty((space, *self._channel.shape), self._channel.numpy_dtype)

    def recycle(self, piece: Piece) -> None:
        """Reuse the memory of a compressed piece for the next one."""
        frames = piece.frames
        if not isinstance(frames, np.ndarray) or not piece.is_copy:
            return
        # Without a codec, the entry still refers to the frames.
        if self._channel.codec == "none":
            return
        if self._per_chunk == 1:
            self._spare_frames.append(frames[0])
        elif len(frames) == self._per_chunk:
            self._spare.append(frames)

    def push_packed(self, packed: bytes, time: float, raw_bytes: int) -> Piece:
        """Return the piece of one compressed frame; chunks must be of one frame.

        Parameters
        ----------
        raw_bytes : int
            Bytes that were reserved for it.
        """
        piece = Piece(self.count, 1, packed, np.array([time]), raw_bytes=raw_bytes)
        self.count += 1
        self._first = self.count
        return piece

    def cut(self) -> Piece | None:
        """Return the held frames as a piece; None if there are none."""
        if self._frames is None:
            return None
        return self._piece(self._frames[: self.held])

    def skip(self, count: int) -> list[Piece]:
        """Return pieces of the held frames, and of `count` points that never come."""
        held = self.cut()
        pieces = [held] if held else []
        while count:
            space = self._per_segment - self.count % self._per_segment
            part = min(count, space)
            pieces.append(Piece(self.count, part, None, np.empty(0)))
            self.count += part
            self._first = self.count
            count -= part
        return pieces

    def end(self) -> Piece | None:
        """Return the held frames as a piece, padded if they begin a chunk."""
        if self._frames is None or self._first % self._per_chunk:
            return self.cut()
        self._frames[self.held :] = self._channel.missing_value
        return self._piece(self._frames, is_padded=True)

    def _piece(
        self,
        frames: npt.NDArray[Any],
        *,
        is_padded: bool = False,
        is_private: bool = False,
    ) -> Piece:
        piece = Piece(
            first=self._first,
            count=self.held,
            frames=frames,
            times=self._piece_times(),
            is_padded=is_padded,
            raw_bytes=self.held * self._channel.point_bytes,
            is_copy=is_private or self._frames is not None,
        )
        self._frames = None
        self._times = []
        self._has_given_time = False
        self._first = self.count
        return piece

    def _piece_times(self) -> Times:
        times = np.array(self._times)
        if self._has_given_time or len(times) < 3:
            return times
        even = evenly_spaced(self._times[0], self._times[-1], len(times))
        return even if np.abs(even - times).max() <= EVEN_S else times
