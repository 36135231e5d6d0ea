"""Publish the spooled data of a closed scan as a new scan."""

from __future__ import annotations

import uuid
from pathlib import Path

from scanbus.bus.store import connect, find_scan, next_scan_number, translated
from scanbus.publisher.spool import ScanSpool
from scanbus.schemas import ScanIdentity
from scanbus.schemas.errors import ScanStateError, SpoolError

__all__ = ["renew_scan"]


def renew_scan(url: str, root: Path, uid: str) -> str:
    """Move a closed scan's spool to a new scan of the same dataset; return its uid.

    The new scan is resumed as any other. It lacks the points that were removed from the
    spool because they are in files; points still in the spool may be in both scans.

    Parameters
    ----------
    url : str
        Address of Redis.
    root : pathlib.Path
        Folder of the spool.
    uid : str
        Uid of the scan that was closed.

    Returns
    -------
    str
        Uid of the new scan.

    Raises
    ------
    SpoolError
        If the spool has no such scan, another process uses it, or it cannot be read or
        moved.
    ScanStateError
        If the scan was not closed: resume it unchanged.
    UnknownScanError, BusUnavailableError
        If the scan is not on the bus, or Redis does not answer.
    """
    folder = root / uid
    spool = ScanSpool.take(folder) if folder.is_dir() else None
    if spool is None:
        raise SpoolError(str(folder), "it does not exist, or another process uses it")
    try:
        scan = spool.recover()
        if scan is None:
            raise SpoolError(str(folder), "its scan was never announced")
        old = scan.announced.scan
        with connect(url, name="scanbus-renew") as client, translated(url):
            if not find_scan(client, uid).ended:
                raise ScanStateError(
                    f"scan {uid} was not closed: resume it without --as-new"
                )
            number = next_scan_number(client, old.dataset_folder)
        update = {"uid": uuid.uuid4().hex, "scan_number": number}
        identity: ScanIdentity = old.model_copy(update=update)
        spool.move_to(identity, scan)
        return identity.uid
    finally:
        spool.close()
