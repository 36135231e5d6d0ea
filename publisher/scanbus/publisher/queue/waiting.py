"""Wait until points are on the bus or durable, and for the verdict."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from scanbus.publisher.queue.frame_lane import FrameLaneQueue
from scanbus.publisher.queue.lane_queue import LaneQueue
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import Verdict

__all__ = ["wait_durable", "wait_flushed", "wait_for_verdict"]


def wait_durable(queue: ScanQueue, timeout_s: float) -> None:
    """Wait until everything sent so far is in the writer's files.

    Raises
    ------
    DeadlineError
        If it is not durable in time; the message names lanes and points.
    """
    queue.inbox.ask(lambda: None)  # What was handed over is in the lanes then.
    behind = _behind(queue, lambda lane: lane.durable)
    queue.watch.wait_until(
        lambda: queue.verdict is not None or not behind(),
        timeout_s,
        what="waiting until it is durable",
        why=lambda: f"{', '.join(behind())}; {queue.why_waiting}",
    )


def wait_for_verdict(queue: ScanQueue, timeout_s: float) -> Verdict:
    """Return the writer's final verdict.

    Raises
    ------
    DeadlineError
        If there is none in time.
    ScanStateError
        If the publisher was closed before.
    """
    queue.watch.wait_until(
        lambda: queue.verdict is not None,
        timeout_s,
        what="waiting for the verdict",
        why=lambda: queue.why_waiting if queue.is_over else "the scan has not ended",
    )
    assert queue.verdict is not None
    return queue.verdict


def wait_flushed(queue: ScanQueue, timeout_s: float) -> None:
    """Wait until everything sent so far is on the bus, or in the spool.

    Also what was said of the scan: an array without the metadata that refer to it would
    be found by nobody.

    Raises
    ------
    DeadlineError
        If it is not there in time; the message names lanes and points.
    """
    queue.inbox.ask(partial(_flush_chunks, queue))
    behind = _behind(queue, lambda lane: lane.handed_over)
    n_events = queue.watch.n_events()
    queue.watch.wait_until(
        lambda: not behind() and queue.watch.has_handed_over(n_events),
        timeout_s,
        what="flushing",
        why=lambda: ", ".join(behind()) or "metadata",
    )


def _flush_chunks(queue: ScanQueue) -> None:
    for lane in queue.lanes.values():
        if isinstance(lane, FrameLaneQueue):
            with lane.input_lock:
                queue.encoders.flush(lane)


def _behind(
    queue: ScanQueue, point_of: Callable[[LaneQueue], int]
) -> Callable[[], list[str]]:
    """Return a function that lists the lanes that lack points they have now.

    Parameters
    ----------
    point_of : callable
        Returns how far a lane is: its first point that is not durable, or not flushed.
    """
    wanted = queue.watch.reached()

    def behind() -> list[str]:
        at = {name: point_of(queue.lanes[name]) for name in wanted}
        return [
            f"{name} at {at[name]} of {point}"
            for name, point in wanted.items()
            if at[name] < point
        ]

    return behind
