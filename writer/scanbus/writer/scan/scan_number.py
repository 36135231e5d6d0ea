"""The number of a scan: settled with the disk before its first file.

Numbers belong to the disk. A counter in Redis may be lost, and programs may give the
same number twice, so a scan whose number is taken gets another one, by an event; no
scan waits for a name.
"""

from __future__ import annotations

from pathlib import Path

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas.errors import NameTakenError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.scan.write_authority import WriteAuthority
from scanbus.writer.storage.number_claims import last_number
from scanbus.writer.storage.number_holders import number_holder, number_of
from scanbus.writer.storage.work_folder import WorkFolder

__all__ = ["Renumbered", "claim_number", "settle_number"]

log = get_logger()


class Renumbered(Exception):  # noqa: N818 - it is no error
    """The scan has another number now: it is written elsewhere."""


def settle_number(dataset: Path, record: ScanRecord, authority: WriteAuthority) -> None:
    """Compare the number of a scan with the disk, before anything is written.

    Parameters
    ----------
    dataset : pathlib.Path
        Folder of its dataset.

    Raises
    ------
    Renumbered
        If the scan has another number now; the event is on the bus.
    NameTakenError
        If its number is taken, and the authority must not change it.
    """
    asked = record.identity.scan_number
    holder = number_holder(dataset, record.uid, asked)
    if authority.is_replay and not holder:
        return  # Of a scan that has files under another number.
    found = number_of(dataset, record.uid, asked)
    if found == asked:
        return
    text = f"scan number {asked} is taken by {holder or 'another scan'}"
    last = last_number(dataset)
    folder = record.identity.dataset_folder
    authority.renumber(folder, last, found or 0, text[:4000])
    log.warning(LogEvent.SCAN_RENUMBERED, scan=record.uid, number=asked, reason=text)
    raise Renumbered


def claim_number(
    work_folder: WorkFolder, record: ScanRecord, authority: WriteAuthority
) -> None:
    """Claim the number of a scan, so that no other scan takes it meanwhile.

    Raises
    ------
    Renumbered
        If another scan has claimed it since it was settled: that is done again.
    NameTakenError
        The same, in a replay.
    """
    try:
        work_folder.claim(record.identity.scan_number)
    except NameTakenError as error:
        if authority.is_replay:
            raise
        raise Renumbered from error
