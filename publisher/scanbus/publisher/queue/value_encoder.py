"""Make entries of the values that were gathered."""

from __future__ import annotations

from scanbus.publisher.buffers.entry_builder import freeze_values
from scanbus.publisher.queue.lane_queue import ValueLane
from scanbus.publisher.queue.scan_queue import Delivery

__all__ = ["MAX_BATCH_BYTES", "freeze_gathered"]

MAX_BATCH_BYTES = 8 * 2**20
"""What is sent, or made, at once."""


def freeze_gathered(delivery: Delivery, lane: ValueLane) -> None:
    """Make entries of what was gathered; one thread at a time does it for a lane."""
    taken = []
    with delivery.lock:
        before = n_bytes = lane.buffer.pending_bytes
        stop_at = max(0, n_bytes - MAX_BATCH_BYTES)
        while n_bytes >= stop_at and (each := lane.buffer.take()):
            taken.append(each)
            n_bytes = lane.buffer.pending_bytes
        lane.freezing_bytes = before - n_bytes
    entries = [
        freeze_values(lane.description, each, delivery.session) for each in taken
    ]
    with delivery.lock:
        lane.freezing_bytes = 0
        for entry in entries:
            lane.put(entry)
