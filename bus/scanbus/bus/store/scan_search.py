"""Find one scan among the announced ones by what people call it."""

from __future__ import annotations

import re
from typing import Final

from scanbus.bus.protocol.scan_record import ScanRecord
from scanbus.bus.store.connection import Bus
from scanbus.bus.store.scans import Announced, announcements, load_announced
from scanbus.schemas import ScanAnnounced, ScanIdentity
from scanbus.schemas.errors import AmbiguousScanError, UnknownScanError
from scanbus.schemas.valid_names import scan_uid

__all__ = ["LAST", "find_later", "find_scan"]

LAST: Final = "last"
"""Name of the scan that was announced last."""
# Ranks of matches, a larger one for a better one.
_BY_BEGINNING, _BY_NUMBER, _BY_UID = 1, 2, 3


def find_later(client: Bus, name: str) -> Announced | None:
    """Return the announcement of a later protocol with this uid or its beginning."""
    for line in announcements(client):
        if name and line.later_uid.startswith(name):
            return line
    return None


def find_scan(client: Bus, name: str, *, only_one: bool = False) -> ScanRecord:
    """Return a scan by its uid, its number, a prefix of its uid, or ``last``.

    A match of the uid is preferred, then one of the number. Of several equal matches,
    the scan announced last is returned: a number is unique in its dataset only.

    Parameters
    ----------
    only_one : bool
        Refuse a name that matches several scans, for operations that cannot be undone.

    A scan has the number that the writer gave it, if its own one was taken.

    Raises
    ------
    UnknownScanError
        If no scan matches.
    AmbiguousScanError
        If several scans match equally well and `only_one` is set.
    """
    found: dict[int, dict[str, tuple[str, ScanAnnounced]]] = {}
    for line in announcements(client):
        if line.document is not None:
            scan = line.document.scan
            same = found.setdefault(_fit(scan, name), {})
            same[scan.uid] = line.id, line.document
    # Before the beginning of a uid comes a number, also one that a writer gave.
    for rank in (_BY_UID, _BY_NUMBER, _BY_BEGINNING):
        fits = found.get(rank, {})
        if only_one and len(fits) > 1 and name != LAST:
            raise AmbiguousScanError(name, tuple(fits))
        if rank == _BY_NUMBER and name.isdecimal():
            record = _numbered(client, name, list(fits.values()))
        elif fits:
            record = load_announced(client, *list(fits.values())[-1])
        else:
            continue
        if record is not None:
            return record
        if rank != _BY_NUMBER:
            break  # It was removed just now; another one is not meant.
    raise UnknownScanError(name)


def _numbered(
    client: Bus, name: str, found: list[tuple[str, ScanAnnounced]]
) -> ScanRecord | None:
    """Return the last scan that has a number now; `found` were announced with it."""
    lines = announcements(client)
    others = [(line.id, line.document) for line in lines if line.document is not None]
    for is_announced, group in ((True, found), (False, others)):
        for each in reversed(group):
            record = load_announced(client, *each)
            is_it = record and str(record.identity.scan_number) == name
            if record and is_it and (is_announced or record.renumbered):
                return record
    return None


def _fit(scan: ScanIdentity, name: str) -> int:
    """Return the rank of a match, larger for a better one; 0 for no match."""
    if scan.uid in {name, scan_uid(name)}:
        return _BY_UID
    if str(scan.scan_number) == name:
        return _BY_NUMBER
    if name == LAST:
        return _BY_BEGINNING
    # A uid has no other characters; the program's name of the scan may.
    start = re.sub(r"[^0-9A-Za-z]", "", name)
    return _BY_BEGINNING if start and scan.uid.startswith(start) else 0
