"""Room on the bus for the data of scans: asked for, waited for, grown and given back.

A scan reserves what its data may use before the writer has them in files. A living
publisher follows its data: more while the writer is behind and there is room, what is
left as soon as everything was sent. The writer does so for publishers that are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic, sleep

from scanbus.bus.store import Bus, lower_quota, reserve_quota
from scanbus.publisher.queue.scan_queue import ScanQueue
from scanbus.publisher.transport.redis_link import Link
from scanbus.schemas.errors import DeadlineError, QuotaRefusedError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["follow_data", "wait_for_room"]

log = get_logger()

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.1
_LOG_AFTER_S, _LOG_EVERY_S = 1.0, 5.0
# Smaller changes of a reservation are not worth a command.
_LEAST_CHANGE_BYTES = 2**16
_LEAST_CHANGE_SHARE = 8


def wait_for_room(
    uid: str,
    quotas: Iterable[int],
    reserve: Callable[[int], None],
    *,
    budget: int,
    deadline_s: float,
    why: Callable[[], str],
) -> int:
    """Reserve the first of some quotas that fits; wait until one does.

    Parameters
    ----------
    uid : str
        The scan, for messages.
    quotas : iterable of int
        In bytes, the best first; later ones are only looked at if it does not fit.
    reserve : callable
        Reserves a quota, or raises QuotaRefusedError.
    budget : int
        Bytes that all scans together may reserve.
    deadline_s : float
        Longest wait, in seconds.
    why : callable
        Returns why other scans do not give room back, for messages.

    Returns
    -------
    int
        What was reserved, in bytes.

    Raises
    ------
    QuotaRefusedError
        If none can ever fit.
    DeadlineError
        If none fits in time.
    """
    choices = iter(quotas)
    known: list[int] = []
    started, next_log_s, pause_s = monotonic(), _LOG_AFTER_S, _FIRST_PAUSE_S
    while True:
        refused = None
        for quota in (*known, *choices):
            if quota not in known:
                known.append(quota)
            if quota > budget:
                raise QuotaRefusedError(uid, quota, _never_fits(budget))
            try:
                reserve(quota)
            except QuotaRefusedError as error:
                refused = error
            else:
                return quota
        assert refused is not None
        waited_s = monotonic() - started
        if waited_s >= deadline_s:
            what = f"scan {uid}: waiting for room on the bus"
            raise DeadlineError(what, waited_s, f"{refused.reason}; {why()}")
        if waited_s >= next_log_s:
            next_log_s = waited_s + _LOG_EVERY_S
            log.warning(
                LogEvent.WAITING_FOR_QUOTA,
                scan=uid,
                quota_bytes=refused.quota_bytes,
                waited_s=round(waited_s, 1),
                reason=f"{refused.reason}; {why()}",
            )
        sleep(min(pause_s, max(0.0, deadline_s - waited_s)))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _never_fits(budget: int) -> str:
    return (
        f"all scans together may reserve {budget / 2**20:.1f} MiB, so it never fits; "
        "ask for less (quota_bytes), or give Redis more memory"
    )


def follow_data(client: Bus, link: Link, queue: ScanQueue) -> None:
    """Have a scan reserve what its data need now: less at its end, more meanwhile."""
    watch = queue.watch
    reserved, wanted = watch.reserved_bytes, watch.wanted_bytes
    if not reserved or wanted == reserved:
        return
    least = max(_LEAST_CHANGE_BYTES, reserved // _LEAST_CHANGE_SHARE)
    if reserved - least < wanted < reserved:
        return
    with watch.restoring() as is_needed:
        if not is_needed:
            return
        if wanted < reserved:
            lower_quota(client, queue.uid, wanted)
            watch.note_reserved(wanted)
        elif _grow(client, link, queue.uid, wanted):
            watch.note_reserved(wanted)


def _grow(client: Bus, link: Link, uid: str, wanted: int) -> bool:
    try:
        reserve_quota(client, uid, wanted, link.budget_bytes)
    except QuotaRefusedError:
        return False
    return True
