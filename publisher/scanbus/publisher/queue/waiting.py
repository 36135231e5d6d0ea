"""Waiting for what the keeper reports: points that are durable, the verdict."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from scanbus.publisher.queue.lane_queue import FrameLane, ValueLane
from scanbus.publisher.queue.scan_queue import Delivery
from scanbus.schemas import Verdict
from scanbus.schemas.errors import DeadlineError, ScanStateError

__all__ = ["finish_spool", "wait_durable", "wait_flushed", "wait_for_verdict"]


def wait_durable(delivery: Delivery, timeout_s: float) -> None:
    """Wait until everything sent so far is in the writer's files.

    Raises
    ------
    DeadlineError
        If it is not so in time; it names lanes and points.
    """
    with delivery.lock:
        wanted = _reached(delivery)

        def behind() -> list[str]:
            return [
                f"{name} at {delivery.lanes[name].outbox.durable} of {point}"
                for name, point in wanted.items()
                if delivery.lanes[name].outbox.durable < point
            ]

        _settle(
            delivery,
            timeout_s,
            is_so=lambda: delivery.verdict is not None or not behind(),
            what="waiting until it is durable",
            why=lambda: ", ".join(behind()),
        )


def wait_for_verdict(delivery: Delivery, timeout_s: float) -> Verdict:
    """Return the writer's final verdict.

    Raises
    ------
    DeadlineError
        If there is none in time.
    ScanStateError
        If nobody waits for it any more.
    """
    with delivery.lock:
        _settle(
            delivery,
            timeout_s,
            is_so=lambda: delivery.verdict is not None,
            what="waiting for the verdict",
            why=lambda: _why_no_verdict(delivery),
        )
    assert delivery.verdict is not None
    return delivery.verdict


def wait_flushed(delivery: Delivery, timeout_s: float) -> None:
    """Wait until everything sent so far is on the bus, or in the spool.

    Raises
    ------
    DeadlineError
        If it is not so in time; it names lanes and points.
    """
    for lane in delivery.lanes.values():
        if isinstance(lane, FrameLane):
            with lane.feeding:
                delivery.encoders.cut(lane)
    with delivery.lock:
        wanted = _reached(delivery)

        def behind() -> list[str]:
            at = {name: _handed_over(delivery, name) for name in wanted}
            return [
                f"{name} at {at[name]} of {point}"
                for name, point in wanted.items()
                if at[name] < point
            ]

        _settle(
            delivery,
            timeout_s,
            is_so=lambda: not behind(),
            what="flushing",
            why=lambda: ", ".join(behind()),
        )


def finish_spool(delivery: Delivery, timeout_s: float) -> None:
    """Wait until the spool has all there is, at most so long."""
    if delivery.spool is None:
        return
    deadline = monotonic() + timeout_s
    with delivery.lock:
        while not delivery.is_spooled and (left_s := deadline - monotonic()) > 0:
            delivery.settled.wait(min(left_s, 0.5))


def _reached(delivery: Delivery) -> dict[str, int]:
    """Return how many points each lane has so far, of its last channel to have them."""
    return {
        name: lane.buffer.complete if isinstance(lane, ValueLane) else lane.length
        for name, lane in delivery.lanes.items()
    }


def _handed_over(delivery: Delivery, name: str) -> int:
    outbox = delivery.lanes[name].outbox
    return outbox.sent_stop if delivery.spool is None else outbox.stop


def _why_no_verdict(delivery: Delivery) -> str:
    if not delivery.is_over:
        return "the scan goes on"
    return delivery.trouble or delivery.why_full()


def _settle(
    delivery: Delivery,
    timeout_s: float,
    *,
    is_so: Callable[[], bool],
    what: str,
    why: Callable[[], str],
) -> None:
    """Wait for something that the keeper reports; the lock is held."""
    started = monotonic()
    while not is_so():
        if delivery.is_lost and delivery.error is not None:
            raise delivery.error
        if delivery.is_released:
            raise ScanStateError(
                f"scan {delivery.uid}: the publisher was closed before a verdict came"
            )
        waited_s = monotonic() - started
        if waited_s >= timeout_s:
            raise DeadlineError(f"scan {delivery.uid}: {what}", waited_s, why())
        delivery.settled.wait(min(timeout_s - waited_s, 0.5))
