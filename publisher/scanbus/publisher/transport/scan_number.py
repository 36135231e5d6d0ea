"""The number of a new scan: by the counter in Redis, which the disk fills.

Redis may have lost the counter of a dataset, and does not see files that were copied
there. So a living writer is asked, with a deadline: it raises the counter to the
numbers on the disk. Without an answer the scan opens nevertheless, and the writer gives
it another number if its own one is taken.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from scanbus.bus.store import (
    Bus,
    announcements,
    ask_writers,
    claim_scan_number,
    count_scan,
    next_scan_number,
    release_scan_number,
    translated,
    writers_alive,
)
from scanbus.schemas import MAX_COUNTED_NUMBER, ScanIdentity
from scanbus.schemas.errors import BusUnavailableError, ScanNumberTakenError
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["counted_number", "release_number", "take_given_number"]

log = get_logger()

_ANSWER_S: Final = 5.0
# A writer answers at once. After a loss Redis knows of none for a heartbeat interval.
_UNKNOWN_WRITER_S: Final = 0.1


def counted_number(client: Bus, dataset: str, uid: str, known: int = 0) -> int:
    """Return the next number of a dataset, claimed for a scan.

    Parameters
    ----------
    dataset : str
        Folder of the dataset.
    uid : str
        Uid of the scan.
    known : int
        The largest number that this process knows of; 0 for none.

    Raises
    ------
    NoNumberLeftError
        If the largest one that is counted is taken.
    """
    number = count_scan(client, dataset, uid, known=known)
    if number is None:
        _ask(client, dataset)
        number = next_scan_number(client, dataset, uid, known=known)
    return number


def take_given_number(client: Bus, identity: ScanIdentity) -> None:
    """Claim a number that the program gave.

    Raises
    ------
    ScanNumberTakenError
        If a scan on the bus or on the disk has it.
    """
    dataset, number = identity.dataset_folder, identity.scan_number
    claim = claim_scan_number(client, dataset, identity.uid, number)
    if claim.holder:
        raise ScanNumberTakenError(number, dataset, f"scan {claim.holder}")
    # Only now: a scan that was opened meanwhile is announced, or has the claim.
    may_be_there = number <= claim.known or number > MAX_COUNTED_NUMBER
    holder = _holder_on_bus(client, identity) if may_be_there else ""
    holder = holder or _ask(client, dataset, number)
    if holder:
        release_scan_number(client, dataset, identity.uid, number, is_taken=True)
        raise ScanNumberTakenError(number, dataset, holder)


def release_number(client: Bus, url: str, scan: ScanIdentity) -> int | None:
    """Let others have the number of a scan that could not be announced.

    Returns
    -------
    int or None
        What the counter is again; None if it stays.
    """
    folder, number = scan.dataset_folder, scan.scan_number
    with suppress(BusUnavailableError), translated(url):
        return release_scan_number(client, folder, scan.uid, number)
    return None


def _ask(client: Bus, dataset: str, number: int = 0) -> str:
    """Have the counter filled; return what has a number on the disk, if anything."""
    can_answer = any(map(_answers, writers_alive(client).values()))
    wait_s = _ANSWER_S if can_answer else _UNKNOWN_WRITER_S
    answer = ask_writers(client, dataset, number, wait_s=wait_s)
    if answer is not None:
        return answer.holder
    if can_answer:
        log.warning(LogEvent.NUMBERS_UNKNOWN, dataset=dataset, waited_s=wait_s)
    return ""


def _answers(writer: dict[str, Any]) -> bool:
    return bool(writer.get("answers_requests"))


def _holder_on_bus(client: Bus, identity: ScanIdentity) -> str:
    for line in announcements(client):
        scan = None if line.document is None else line.document.scan
        if (
            scan is not None
            and scan.uid != identity.uid
            and scan.scan_number == identity.scan_number
            and scan.dataset_folder == identity.dataset_folder
        ):
            return f"scan {scan.uid}"
    return ""
