"""Make entries of the values that were gathered."""

from __future__ import annotations

from scanbus.publisher.buffers.entry_builder import values_entry
from scanbus.publisher.queue.lane_queue import ValueLaneQueue
from scanbus.publisher.queue.scan_queue import ScanQueue

__all__ = ["MAX_BATCH_BYTES", "encode_gathered"]

MAX_BATCH_BYTES = 8 * 2**20
"""What is sent, or made, at once."""


def encode_gathered(queue: ScanQueue, lane: ValueLaneQueue) -> None:
    """Make entries of what was gathered; one thread at a time does it for a lane."""
    taken = []
    with queue.lock:
        before = n_bytes = lane.buffer.pending_bytes
        stop_at = max(0, n_bytes - MAX_BATCH_BYTES)
        while n_bytes >= stop_at and (each := lane.buffer.take()):
            taken.append(each)
            n_bytes = lane.buffer.pending_bytes
        lane.encoding_bytes = before - n_bytes
    entries = [values_entry(lane.description, each, queue.session) for each in taken]
    with queue.lock:
        lane.encoding_bytes = 0
        for entry in entries:
            lane.put(entry)
