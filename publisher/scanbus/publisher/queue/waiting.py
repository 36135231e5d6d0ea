"""Waiting for what the monitor reports: points that are durable, the verdict."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from scanbus.publisher.queue.lane_queue import FrameLaneQueue, ValueLaneQueue
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.schemas import Verdict
from scanbus.schemas.errors import DeadlineError, ScanStateError

__all__ = ["finish_spool", "wait_durable", "wait_flushed", "wait_for_verdict"]


def wait_durable(queue: ScanQueue, timeout_s: float) -> None:
    """Wait until everything sent so far is in the writer's files.

    Raises
    ------
    DeadlineError
        If it is not so in time; it names lanes and points.
    """
    with queue.lock:
        wanted = _reached(queue)

        def behind() -> list[str]:
            return [
                f"{name} at {queue.lanes[name].retransmit.durable} of {point}"
                for name, point in wanted.items()
                if queue.lanes[name].retransmit.durable < point
            ]

        _settle(
            queue,
            timeout_s,
            is_so=lambda: queue.verdict is not None or not behind(),
            what="waiting until it is durable",
            why=lambda: ", ".join(behind()),
        )


def wait_for_verdict(queue: ScanQueue, timeout_s: float) -> Verdict:
    """Return the writer's final verdict.

    Raises
    ------
    DeadlineError
        If there is none in time.
    ScanStateError
        If nobody waits for it any more.
    """
    with queue.lock:
        _settle(
            queue,
            timeout_s,
            is_so=lambda: queue.verdict is not None,
            what="waiting for the verdict",
            why=lambda: _why_no_verdict(queue),
        )
    assert queue.verdict is not None
    return queue.verdict


def wait_flushed(queue: ScanQueue, timeout_s: float) -> None:
    """Wait until everything sent so far is on the bus, or in the spool.

    Raises
    ------
    DeadlineError
        If it is not so in time; it names lanes and points.
    """
    for lane in queue.lanes.values():
        if isinstance(lane, FrameLaneQueue):
            with lane.feeding:
                queue.encoders.cut(lane)
    with queue.lock:
        wanted = _reached(queue)

        def behind() -> list[str]:
            at = {name: _handed_over(queue, name) for name in wanted}
            return [
                f"{name} at {at[name]} of {point}"
                for name, point in wanted.items()
                if at[name] < point
            ]

        _settle(
            queue,
            timeout_s,
            is_so=lambda: not behind(),
            what="flushing",
            why=lambda: ", ".join(behind()),
        )


def finish_spool(queue: ScanQueue, timeout_s: float) -> None:
    """Wait until the spool has all there is, at most so long."""
    if queue.spool is None:
        return
    deadline = monotonic() + timeout_s
    with queue.lock:
        while not queue.is_spooled and (left_s := deadline - monotonic()) > 0:
            queue.settled.wait(min(left_s, 0.5))


def _reached(queue: ScanQueue) -> dict[str, int]:
    """Return how many points each lane has so far, of its last channel to have them."""
    return {
        name: lane.buffer.complete if isinstance(lane, ValueLaneQueue) else lane.length
        for name, lane in queue.lanes.items()
    }


def _handed_over(queue: ScanQueue, name: str) -> int:
    retransmit = queue.lanes[name].retransmit
    return retransmit.sent_stop if queue.spool is None else retransmit.stop


def _why_no_verdict(queue: ScanQueue) -> str:
    if not queue.is_over:
        return "the scan goes on"
    return queue.trouble or queue.why_full()


def _settle(
    queue: ScanQueue,
    timeout_s: float,
    *,
    is_so: Callable[[], bool],
    what: str,
    why: Callable[[], str],
) -> None:
    """Wait for something that the monitor reports; the lock is held."""
    started = monotonic()
    while not is_so():
        if queue.is_lost and queue.error is not None:
            raise queue.error
        if queue.is_released:
            raise ScanStateError(
                f"scan {queue.uid}: the publisher was closed before a verdict came"
            )
        waited_s = monotonic() - started
        if waited_s >= timeout_s:
            raise DeadlineError(f"scan {queue.uid}: {what}", waited_s, why())
        queue.settled.wait(min(timeout_s - waited_s, 0.5))
