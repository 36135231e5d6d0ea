"""The entrance: a connection, the scans that there are, and those that come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import (
    DEFAULT_URL,
    announcements,
    describe_server,
    find_scan,
    last_announcement,
    load_announced,
    wait_for_announcement,
)
from scanbus.schemas import ScanAnnounced
from scanbus.subscriber.connection import Link
from scanbus.subscriber.deadline import Deadline
from scanbus.subscriber.scan import ScanReader
from scanbus.subscriber.status import BusStatus, ScanInfo, gather_status, scan_info

__all__ = ["Subscriber"]


class Subscriber:
    """Scans on one bus.

    May be shared between threads; a :class:`ScanReader` may not.

    Parameters
    ----------
    url : str
        ``redis://host:port``, ``rediss://…`` (TLS) or ``unix:///path``. Connects with
        the first question.
    name : str or None
        Shown by Redis's ``CLIENT LIST``.
    reconnect_s : float
        How long to try again after a connection that worked was lost.
    lapse_s : float
        How long a publisher without a heartbeat is waited for before a scan counts
        as interrupted.

    Raises
    ------
    ValueError
        If `url` is not of these forms.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        name: str | None = None,
        reconnect_s: float = 60.0,
        lapse_s: float = 5.0,
    ) -> None:
        self._url = url
        self._lapse_s = lapse_s
        client_name = name or f"scanbus-subscriber-{os.getpid()}"
        self._link = Link(url, client_name, reconnect_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def scans(self, limit: int | None = None) -> list[ScanInfo]:
        """Return the scans on the bus, the newest last.

        Parameters
        ----------
        limit : int or None
            Only the newest ones.

        Raises
        ------
        BusUnavailableError
            If Redis does not answer.
        """
        known = self._announced()
        newest = known if limit is None else known[max(0, len(known) - limit) :]
        found = (scan_info(self._link, *each) for each in newest)
        return [info for info in found if info is not None]

    def _announced(self) -> list[tuple[str, ScanAnnounced]]:
        """Return every scan once, oldest first; a scan may be announced again."""
        lines = self._link.ask(lambda client: list(announcements(client)))
        found: dict[str, tuple[str, ScanAnnounced]] = {}
        for line in lines:
            if line.document is not None:
                found[line.document.scan.uid] = line.id, line.document
        return list(found.values())

    def status(self) -> BusStatus:
        """Return the state of the bus.

        Raises
        ------
        BusUnavailableError, BusUnsuitableError
            If Redis does not answer, or is too old.
        """
        report = self._link.ask(lambda client: describe_server(client, self._url))
        scans = self.scans()
        still_open = tuple(scan for scan in scans if scan.is_open)
        return gather_status(self._link, report, len(scans), still_open)

    def scan(self, name: str | int) -> ScanReader:
        """Return a scan by its uid, the start of it, its number, or ``last``.

        The newest, where several fit.

        Raises
        ------
        UnknownScanError
            If none fits.
        """
        record = self._link.ask(lambda client: find_scan(client, str(name)))
        return ScanReader(self._link, record, lapse_s=self._lapse_s)

    def follow(
        self, *, from_now: bool = True, timeout_s: float | None = None
    ) -> Iterator[ScanReader]:
        """Return an iterator over scans as they are announced.

        Parameters
        ----------
        from_now : bool
            Only scans that are announced after this call; else all that there are,
            oldest first, and then these.
        timeout_s : float or None
            Longest wait for the next scan; None for no deadline, as a display needs.

        Raises
        ------
        DeadlineError
            By the iterator, if no scan came for `timeout_s`.
        """
        after = self._link.ask(last_announcement) if from_now else "0-0"
        return self._follow(after, timeout_s)

    def _follow(self, after: str, timeout_s: float | None) -> Iterator[ScanReader]:
        seen: set[str] = set()
        deadline = Deadline("the next scan", timeout_s)
        while True:
            for line in self._link.ask(_announced_after(after)):
                after = line.id
                if line.document and line.document.scan.uid not in seen:
                    seen.add(line.document.scan.uid)
                    record = self._record(line.id, line.document)
                    if record is not None:
                        yield ScanReader(self._link, record, lapse_s=self._lapse_s)
                    deadline.restart()
            if not self._link.ask(_waits_after(after, deadline.block_ms())):
                deadline.check()

    def _record(self, announcement: str, announced: ScanAnnounced) -> ScanRecord | None:
        return self._link.ask(
            lambda client: load_announced(client, announcement, announced)
        )


def _announced_after(after: str) -> Any:
    return lambda client: list(announcements(client, after))


def _waits_after(after: str, block_ms: int) -> Any:
    return lambda client: wait_for_announcement(client, after, block_ms)
