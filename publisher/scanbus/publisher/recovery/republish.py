"""Making a new scan of what a spool holds, where its own scan takes nothing more."""

from __future__ import annotations

import uuid
from pathlib import Path

from scanbus.bus.store import connect, find_scan, next_scan_number, translated
from scanbus.publisher.spool import ScanSpool
from scanbus.schemas import ScanIdentity
from scanbus.schemas.errors import ScanStateError, SpoolError

__all__ = ["renew_scan"]


def renew_scan(url: str, root: Path, uid: str) -> str:
    """Give a closed scan's spool to a new scan of the same dataset; return its uid.

    It is resumed as any other. What the spool has forgotten, because files have it,
    is missing in the new scan; what it still has may stand in both.

    Parameters
    ----------
    root : pathlib.Path
        Folder of the spool.
    uid : str
        The scan that was closed.

    Raises
    ------
    SpoolError
        If the spool has no such scan, or it cannot be read.
    ScanStateError
        If the scan was not closed: then it is resumed as it is.
    UnknownScanError, BusUnavailableError
        If the scan is not on the bus, or the bus not there.
    """
    folder = root / uid
    spool = ScanSpool.take(folder) if folder.is_dir() else None
    if spool is None:
        raise SpoolError(str(folder), "there is none, or another process has it")
    try:
        scan = spool.recover()
        if scan is None:
            raise SpoolError(str(folder), "its scan never began")
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
