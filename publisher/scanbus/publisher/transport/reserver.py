"""Reserve room on the bus for a scan, and wait for it if need be.

A scan reserves what its data may use before the writer has them in files.
"""

from __future__ import annotations

# As a module: a program may patch it by gevent after it imported this.
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from time import monotonic

from scanbus.bus.store import Bus, reserve_quota, translated, writers_alive
from scanbus.publisher.declare.lane_plan import Declared
from scanbus.publisher.declare.scan_options import ScanOptions
from scanbus.publisher.transport.redis_link import Link
from scanbus.publisher.transport.retry import retry_until_room
from scanbus.publisher.transport.scan_monitor import ScanMonitor
from scanbus.schemas import ScanIdentity, ScanPrepared
from scanbus.schemas.errors import (
    BusUnavailableError,
    DeadlineError,
    QuotaRefusedError,
)
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["Reserver", "wait_for_room"]

log = get_logger()

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.1
_LOG_AFTER_S, _LOG_EVERY_S = 1.0, 5.0


class Reserver:
    """Reserves room for the scans of one publisher, in the program's threads.

    Parameters
    ----------
    client : Bus
        The connection of the program's threads.
    link : Link
        Connection parameters.
    monitor : ScanMonitor
        Knows what the writers say.
    deadline_s : float
        Longest wait for room, in seconds.
    """

    def __init__(
        self, client: Bus, link: Link, monitor: ScanMonitor, deadline_s: float
    ) -> None:
        self._client = client
        self._link = link
        self._monitor = monitor
        self._deadline_s = deadline_s

    def reserve(
        self,
        scan: ScanIdentity,
        options: ScanOptions,
        declared: Sequence[Declared],
        *,
        spooled: bool,
    ) -> ScanPrepared:
        """Return the document of a scan for whose data room is reserved.

        Parameters
        ----------
        spooled : bool
            Whether its data are written to a spool.

        Raises
        ------
        QuotaRefusedError
            If its quota can never fit, or does not hold a chunk of every lane.
        DeadlineError
            If it does not fit beside other scans in time, or Redis is full.
        BusUnavailableError
            If Redis does not answer in time.
        ValueError
            If an option is invalid.
        """
        budget = self._link.budget_bytes
        choices = options.quotas(declared, budget)
        first = next(choices)
        prepared = options.prepared(scan, declared, first, spooled=spooled)
        n_bytes = len(prepared.to_json())
        quota_bytes = wait_for_room(
            scan.uid,
            (
                options.with_documents(each, n_bytes, budget)
                for each in chain([first], choices)
            ),
            partial(self._reserve, scan.uid),
            budget=budget,
            deadline_s=self._deadline_s,
            why=self._why_held,
        )
        if quota_bytes == first:
            return prepared
        return options.replanned(prepared, declared, quota_bytes)

    def _reserve(self, uid: str, quota_bytes: int) -> None:
        budget = self._link.budget_bytes
        retry_until_room(
            partial(reserve_quota, self._client, uid, quota_bytes, budget),
            what=f"reserving room for scan {uid}",
            url=self._link.url,
            deadline_s=self._deadline_s,
            retry_unavailable=True,
        )

    def _why_held(self) -> str:
        """Return why other scans keep what they have reserved."""
        with suppress(BusUnavailableError), translated(self._link.url):
            self._monitor.note_writers(writers_alive(self._client))
        return self._monitor.why_held()


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
        for quota in chain(tuple(known), choices):
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
        time.sleep(min(pause_s, max(0.0, deadline_s - waited_s)))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _never_fits(budget: int) -> str:
    return (
        f"all scans together may reserve {budget / 2**20:.1f} MiB, so it never fits; "
        "ask for less (quota_bytes), or give Redis more memory"
    )
