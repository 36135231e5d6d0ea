"""Have frames packed by threads, and keep their order.

What is put in comes out as entries of its lane in the same order, whichever thread is
done first. A large frame that the program may change afterwards is packed while the
program waits, by all threads that have nothing else to do: that spares its copy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from time import time as wall_clock
from typing import Any

import numpy.typing as npt

from scanbus.bus.codecs import ThreadPool, find_codec
from scanbus.publisher.buffers.chunk_buffer import Piece
from scanbus.publisher.buffers.entry_builder import frame_entry, gap_entry
from scanbus.publisher.queue.lane_queue import FrameLaneQueue, Slot

__all__ = ["EncoderPool"]


class EncoderPool:
    """Packs the frames of one scan.

    Whoever feeds a lane holds its `feeding`, but for `cut_idle`.

    Parameters
    ----------
    threads : ThreadPool
        The threads.
    room : threading.Condition
        Of the scan's lock; told when frames have become smaller.
    session : bytes
        Names this publisher in the headers of entries.
    on_error : callable
        Called with what a frame could not be packed for.
    """

    def __init__(
        self,
        threads: ThreadPool,
        room: threading.Condition,
        session: bytes,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._threads = threads
        self._room = room
        self._session = session
        self._begun_at = self._took_s = 0.0
        self._on_error = on_error

    def take(
        self,
        lane: FrameLaneQueue,
        frame: npt.NDArray[Any] | bytes,
        time: float,
        *,
        copy: bool,
    ) -> None:
        """Have a frame packed; one that is packed is taken as it is.

        Parameters
        ----------
        copy : bool
            Whether somebody may change the array afterwards.
        """
        if isinstance(frame, bytes):
            self._pack(lane, lane.chunks.push_packed(frame, time, len(frame)))
            return
        packed = self._packed_now(lane, frame) if copy else None
        if packed is not None:
            nbytes = frame.nbytes
            self._pack(lane, lane.chunks.push_packed(packed, time, nbytes))
        else:
            self._pack(lane, lane.chunks.push(frame, time, copy=copy))

    def _packed_now(
        self, lane: FrameLaneQueue, frame: npt.NDArray[Any]
    ) -> bytes | None:
        """Return a packed frame if that spares its copy, and does not take too long.

        Nothing is known of the frame yet: whoever is interrupted here has not sent it.
        """
        if frame.nbytes < 2 * self._threads.part_bytes:
            return None
        packer = find_codec(lane.description.channels[0].codec)
        if not packer.is_shared or not lane.chunks.is_chunk(frame):
            return None
        try:
            return bytes(packer.helped_by(self._threads).encode(frame))
        except Exception:  # noqa: BLE001 - an encoder will meet it too, and say so
            return None
        except BaseException:
            with self._room:
                lane.raw_bytes -= frame.nbytes
                self._room.notify_all()
            raise

    def skip(self, lane: FrameLaneQueue, count: int) -> None:
        """Say that the next frames will never come."""
        for piece in lane.chunks.skip(count, wall_clock()):
            self._pack(lane, piece)

    def end(self, lane: FrameLaneQueue) -> None:
        """Have the last chunk packed, full or not."""
        self._pack(lane, lane.chunks.end())

    def cut(self, lane: FrameLaneQueue) -> None:
        """Have what is held packed, though its chunk is not full."""
        self._pack(lane, lane.chunks.cut())

    def cut_idle(self, lane: FrameLaneQueue, patience_s: float) -> None:
        """Do so if it has waited for long, for those who look live."""
        if not lane.chunks.held or monotonic() - lane.held_since < patience_s:
            return
        if lane.feeding.acquire(blocking=False):
            try:
                self.cut(lane)
            finally:
                lane.feeding.release()

    def _pack(self, lane: FrameLaneQueue, piece: Piece | None) -> None:
        if piece is None:
            return
        slot = Slot(piece)
        with self._room:
            lane.slots.append(slot)
        try:
            self._threads.pool.submit(self._freeze_in_pool, lane, slot)
        except RuntimeError:  # The interpreter is leaving and takes no more work.
            self._freeze(lane, slot)

    def _freeze_in_pool(self, lane: FrameLaneQueue, slot: Slot) -> None:
        """Pack a frame, all threads together if frames come slowly.

        Where they follow each other closely it costs less if each has its own.
        """
        begun_at = monotonic()
        is_slow = begun_at - self._begun_at > 2 * self._took_s
        self._begun_at = begun_at
        self._freeze(lane, slot, self._threads if is_slow else None)
        self._took_s = monotonic() - begun_at

    def _freeze(
        self, lane: FrameLaneQueue, slot: Slot, threads: ThreadPool | None = None
    ) -> None:
        piece = slot.piece
        try:
            frozen = frame_entry(lane.description, piece, self._session, threads)
        except Exception as error:  # noqa: BLE001 - nobody looks at a pool's errors
            self._on_error(error)
            frozen = gap_entry(piece.first, piece.count, piece.times, self._session)
        lane.chunks.give_back(piece)
        with self._room:
            slot.frozen = frozen
            while lane.slots and lane.slots[0].frozen is not None:
                done = lane.slots.popleft()
                assert done.frozen is not None
                lane.note_packed(done.piece, done.frozen)
                lane.put(done.frozen)
            lane.wake()
            self._room.notify_all()
