"""Lanes of frames: buffered into chunks, compressed by threads, kept in order.

Entries leave in the order of the frames, whichever thread finishes first. A large frame
that the program may change afterwards is compressed while the program waits, by all
idle threads, before it is handed over: that saves the copy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import numpy.typing as npt

from scanbus.bus.codecs import ThreadPool, find_codec
from scanbus.bus.protocol import EncodedEntry
from scanbus.publisher.buffers.chunk_buffer import ChunkBuffer, Piece
from scanbus.publisher.buffers.entry_builder import frame_entry, gap_entry
from scanbus.publisher.queue.backpressure import Backpressure
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.locks import ScanLock, Waiters
from scanbus.publisher.queue.waker import Waker
from scanbus.schemas import LaneDescription

__all__ = ["EncoderPool", "FrameLaneQueue"]


class _Slot:
    """The place of a piece in its lane's order while it is compressed."""

    __slots__ = ("entry", "piece")

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.entry: EncodedEntry | None = None


class FrameLaneQueue(LaneQueue):
    """A lane of frames; other parameters are those of :class:`LaneQueue`.

    Parameters
    ----------
    backpressure : Backpressure
        The scan's; a send waits there for room.
    compression : float
        Expected compression ratio, raw over compressed bytes.
    start : int
        The first point to come.

    Attributes
    ----------
    chunks : ChunkBuffer
        Frames of the chunk that is not full; guarded by `input_lock`.
    point_bytes : int
        Raw bytes of one frame.
    """

    def __init__(
        self,
        description: LaneDescription,
        session: bytes,
        waker: Waker,
        spool_waker: Waker | None,
        *,
        backpressure: Backpressure,
        compression: float,
        start: int = 0,
    ) -> None:
        super().__init__(description, session, waker, spool_waker)
        self._backpressure = backpressure
        self.chunks = ChunkBuffer(description, start)
        # Cached: the description computes it at each access.
        self.point_bytes = description.point_bytes
        packs = description.channels[0].codec != "none"
        self._compression = compression if packs else 1.0
        self._slots: deque[_Slot] = deque()
        self._raw_bytes = 0
        self._held_since = 0.0

    @property
    def kept_bytes(self) -> int:
        """Bytes in memory that are not known to be durable, raw until compressed."""
        return super().kept_bytes + self._raw_bytes

    @property
    def length(self) -> int:
        """Points so far, in entries or still to be put into one."""
        return self.chunks.count

    @property
    def is_drained(self) -> bool:
        """Whether all points are in entries."""
        return not self._slots

    @property
    def is_packing(self) -> bool:
        """Whether frames are being compressed, and will take less memory soon."""
        return bool(self._slots)

    def packed_bytes(self, raw_bytes: int) -> float:
        """Return the expected compressed size of frames, in bytes."""
        return raw_bytes / self._compression

    @property
    def saved_bytes(self) -> int:
        """Bytes by which compression is expected to reduce what is kept."""
        return int(self._raw_bytes * (1 - 1 / self._compression))

    def admit(self, nbytes: int) -> None:
        """Wait until there is room for a frame; see `Backpressure.admit`."""
        self._backpressure.admit(self, nbytes)

    def admits(self, nbytes: int, gathered: int) -> bool:
        """Return whether there is room at once; see `Backpressure.admits`."""
        return self._backpressure.admits(self, nbytes, gathered)

    def count_raw(self, raw_bytes: int) -> None:
        """Count a frame that came, until it is compressed; takes the lock."""
        with self._backpressure.lock:
            self._raw_bytes += raw_bytes
            if not self.chunks.held:
                self._held_since = monotonic()
                if self.description.points_per_chunk > 1:
                    self.wake()  # The chunk must be flushed if it stays incomplete.

    def unreserve(self, raw_bytes: int) -> None:
        """Release the room reserved for a frame that did not come."""
        self._raw_bytes -= raw_bytes

    def is_held_for(self, duration_s: float) -> bool:
        """Return whether a frame has waited for its chunk for `duration_s`."""
        return bool(self.chunks.held) and monotonic() - self._held_since >= duration_s

    def add_slot(self, piece: Piece) -> _Slot:
        """Reserve the place of a piece in the order of the lane."""
        slot = _Slot(piece)
        self._slots.append(slot)
        return slot

    def fill_slot(self, slot: _Slot, entry: EncodedEntry) -> None:
        """Set the entry of a slot, and queue all entries that are next in order."""
        slot.entry = entry
        while self._slots and (done := self._slots[0].entry) is not None:
            self._raw_bytes -= self._slots.popleft().piece.raw_bytes
            self.put(done)
        self.wake()


class EncoderPool:
    """Compresses the frames of one scan.

    Callers hold the `input_lock` of the lane, except of `flush_idle`, which takes it,
    and of `private`.

    Parameters
    ----------
    threads : ThreadPool
        The threads.
    lock : ScanLock
        The scan's lock.
    room : Waiters
        Notified when frames have become smaller.
    session : bytes
        Names this publisher in the headers of entries.
    on_error : callable
        Called with the error if a frame could not be compressed.
    """

    def __init__(
        self,
        threads: ThreadPool,
        lock: ScanLock,
        room: Waiters,
        session: bytes,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._threads = threads
        self._lock = lock
        self._room = room
        self._session = session
        self._begun_at = self._took_s = 0.0
        self._on_error = on_error

    def private(
        self, lane: FrameLaneQueue, frame: npt.NDArray[Any]
    ) -> npt.NDArray[Any] | bytes:
        """Return a frame that the program cannot change: compressed, or a copy."""
        packed = self._packed_now(lane, frame)
        return lane.chunks.private_copy(frame) if packed is None else packed

    def _packed_now(
        self, lane: FrameLaneQueue, frame: npt.NDArray[Any]
    ) -> bytes | None:
        """Return a frame compressed at once if that saves its copy, else None."""
        if frame.nbytes < 2 * self._threads.part_bytes:
            return None
        packer = find_codec(lane.description.channels[0].codec)
        if not packer.is_shared or not lane.chunks.is_chunk(frame):
            return None
        try:
            return bytes(packer.with_threads(self._threads).encode(frame))
        except Exception:  # noqa: BLE001 - an encoder will meet it too, and say so
            return None

    def take(
        self,
        lane: FrameLaneQueue,
        frame: npt.NDArray[Any] | bytes,
        time: float,
        raw_bytes: int,
        *,
        is_private: bool,
        is_given: bool,
    ) -> None:
        """Queue a frame for compression; bytes are compressed already.

        Parameters
        ----------
        frame : numpy.ndarray or bytes
            Nobody changes it any more.
        raw_bytes : int
            Bytes that it was counted as.
        is_private : bool
            Whether an array is a `private` copy.
        is_given : bool
            Whether the program gave the time.
        """
        if isinstance(frame, bytes):
            piece: Piece | None = lane.chunks.push_packed(frame, time, raw_bytes)
        else:
            piece = lane.chunks.push(
                frame, time, copy=False, is_given=is_given, is_private=is_private
            )
        self._pack(lane, piece)

    def skip(self, lane: FrameLaneQueue, count: int) -> None:
        """Declare that the next frames will never come."""
        for piece in lane.chunks.skip(count):
            self._pack(lane, piece)

    def end(self, lane: FrameLaneQueue) -> None:
        """Queue the last chunk for compression, full or not."""
        self._pack(lane, lane.chunks.end())

    def flush(self, lane: FrameLaneQueue) -> None:
        """Queue the held frames for compression, though their chunk is not full."""
        self._pack(lane, lane.chunks.cut())

    def flush_idle(self, lane: FrameLaneQueue, max_wait_s: float) -> None:
        """Flush frames held for `max_wait_s`, for live readers; skip a lane in use."""
        if lane.is_held_for(max_wait_s) and lane.input_lock.acquire(blocking=False):
            try:
                self.flush(lane)
            finally:
                lane.input_lock.release()

    def _pack(self, lane: FrameLaneQueue, piece: Piece | None) -> None:
        if piece is None:
            return
        with self._lock:
            slot = lane.add_slot(piece)
        if self._threads.submit(partial(self._encode_in_pool, lane, slot)) is None:
            self._encode(lane, slot)

    def _encode_in_pool(self, lane: FrameLaneQueue, slot: _Slot) -> None:
        """Compress a frame, with all threads if frames come slowly.

        If they come quickly, one thread per frame costs less.
        """
        begun_at = monotonic()
        is_slow = begun_at - self._begun_at > 2 * self._took_s
        self._begun_at = begun_at
        self._encode(lane, slot, self._threads if is_slow else None)
        self._took_s = monotonic() - begun_at

    def _encode(
        self, lane: FrameLaneQueue, slot: _Slot, threads: ThreadPool | None = None
    ) -> None:
        piece = slot.piece
        try:
            entry = frame_entry(lane.description, piece, self._session, threads)
        except Exception as error:  # noqa: BLE001 - the pool would drop the error
            self._on_error(error)
            entry = gap_entry(piece.first, piece.count, self._session)
        lane.chunks.recycle(piece)
        with self._lock:
            lane.fill_slot(slot, entry)
            self._room.notify()
