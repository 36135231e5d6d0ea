"""Entry point for readers: a connection, the list of scans, and new scans."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from scanbus.bus.protocol import ScanRecord
from scanbus.bus.store import (
    Announced,
    address_of,
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
    """Reads scans from one bus.

    Safe to share between threads; a :class:`ScanReader` is not.

    Parameters
    ----------
    url : str, optional
        ``redis://host:port``, ``rediss://…`` (TLS) or ``unix:///path``; by default that
        in ``SCANBUS_REDIS``, else ``redis://127.0.0.1:6379``. The first command
        connects.
    name : str or None
        Name in Redis's ``CLIENT LIST``; derived from the process id if not given.
    reconnect_s : float
        How long to try to reconnect after a working connection was lost, in seconds.
    lapse_s : float
        How long a publisher must be without a heartbeat before its scan counts as
        interrupted, in seconds.
    external_roots : iterable of path
        Folders below which :meth:`ScanReader.frames` opens files of detectors, to which
        frames by reference refer; by default none.

    Raises
    ------
    ServerAddressError
        If `url` does not have one of these forms.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        name: str | None = None,
        reconnect_s: float = 60.0,
        lapse_s: float = 5.0,
        external_roots: Iterable[str | Path] = (),
    ) -> None:
        # Rebound: a traceback that shows variables then shows it without password.
        self._url = url = address_of(url)
        self._lapse_s = lapse_s
        self._external_roots = tuple(map(Path, external_roots))
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
        """Return summaries of the scans on the bus, the newest last.

        Parameters
        ----------
        limit : int or None
            Largest number of scans: the newest ones; None for all.

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
        """Return each scan once, although it may be announced again; oldest first."""
        found: dict[str, tuple[str, ScanAnnounced]] = {}
        for line in self._lines():
            if line.document is not None:
                found[line.document.scan.uid] = line.id, line.document
        return list(found.values())

    def _lines(self) -> list[Announced]:
        return self._link.ask(lambda client: list(announcements(client)))

    def status(self) -> BusStatus:
        """Return the status of the bus.

        Raises
        ------
        BusUnavailableError
            If Redis does not answer.
        BusUnsuitableError
            If Redis is too old or refuses a command to this user.
        """
        report = self._link.ask(lambda client: describe_server(client, self._url))
        scans = self.scans()
        still_open = tuple(scan for scan in scans if scan.is_open)
        later = tuple(line for line in self._lines() if line.document is None)
        return gather_status(self._link, report, len(scans), still_open, later)

    def scan(self, name: str | int) -> ScanReader:
        """Return a scan by its uid, a prefix of its uid, its number, or ``last``.

        The newest one if several match.

        Raises
        ------
        BusUnavailableError
            If Redis does not answer.
        UnknownScanError
            If no scan matches.
        """
        record = self._link.ask(lambda client: find_scan(client, str(name)))
        return self._reader(record)

    def _reader(self, record: ScanRecord) -> ScanReader:
        return ScanReader(
            self._link,
            record,
            lapse_s=self._lapse_s,
            external_roots=self._external_roots,
        )

    def follow(
        self, *, from_now: bool = True, timeout_s: float | None = None
    ) -> Iterator[ScanReader]:
        """Return an iterator over scans as they are announced.

        Parameters
        ----------
        from_now : bool
            Only scans that are announced after this call; else first all scans on the
            bus, oldest first.
        timeout_s : float or None
            Longest wait for the next scan, in seconds; None for no deadline, e.g. for
            a live display.

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
                        yield self._reader(record)
                    deadline.restart()
            if not self._link.ask(_wait_after(after, deadline.block_ms())):
                deadline.check()

    def _record(self, announcement: str, announced: ScanAnnounced) -> ScanRecord | None:
        return self._link.ask(
            lambda client: load_announced(client, announcement, announced)
        )


def _announced_after(after: str) -> Any:
    return lambda client: list(announcements(client, after))


def _wait_after(after: str, block_ms: int) -> Any:
    return lambda client: wait_for_announcement(client, after, block_ms)
