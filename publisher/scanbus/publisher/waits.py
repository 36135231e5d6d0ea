"""Waiting for what the keeper reports: points that are durable, the verdict."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from scanbus.publisher.delivery import Delivery
from scanbus.publisher.outgoing import FrameLane
from scanbus.schemas import Verdict
from scanbus.schemas.errors import DeadlineError, ScanStateError

__all__ = ["wait_durable", "wait_for_verdict"]


def wait_durable(delivery: Delivery, timeout_s: float) -> None:
    """Wait until everything sent so far is in the writer's files.

    Raises
    ------
    DeadlineError
        If it is not so in time; it names lanes and points.
    """
    with delivery.lock:
        wanted = {
            name: lane.chunks.count
            if isinstance(lane, FrameLane)
            else lane.buffer.complete
            for name, lane in delivery.lanes.items()
        }

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
