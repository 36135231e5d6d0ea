"""A scan that is still on the bus, written again: the same code, the same files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scanbus.bus.protocol import SEAL_ID, ScanRecord
from scanbus.bus.store import (
    Bus,
    connect,
    describe_server,
    find_scan,
    read_cursor,
    stream_ends,
    translated,
)
from scanbus.schemas import LaneDescription, Verdict
from scanbus.schemas.errors import NameTakenError, NoLongerError
from scanbus.schemas.naming import values_file_name
from scanbus.writer.scan.authority import ReplayAuthority
from scanbus.writer.scan.scan_writer import ScanWriter
from scanbus.writer.storage.scan_paths import check_root, scan_folder

__all__ = ["replay"]

_LARGEST = int(SEAL_ID.partition(b"-")[0])


def replay(
    url: str,
    scan: str,
    root: Path,
    *,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> Verdict:
    """Write a scan from the bus into files below `root`; follow it if it still runs.

    The scan is kept from being trimmed meanwhile. Nothing is acknowledged, announced or
    overwritten.

    Parameters
    ----------
    scan : str
        Its uid, the beginning of it, or its number.

    Raises
    ------
    UnknownScanError, BusUnavailableError
        If the scan or the bus is not there.
    NoLongerError
        If points of it were trimmed; names the first and the file that has it.
    NameTakenError
        If its files stand below `root` already.
    RootUnusableError
        If `root` cannot be written.
    """
    check_root(root)
    client = connect(url, name="scanbus-replay")
    with translated(url):
        describe_server(client, url)
        record = find_scan(client, scan)
        authority = ReplayAuthority(client, record.uid)
        authority.check()
        _refuse_trimmed(client, record)
        path = scan_folder(root, record.identity) / values_file_name(
            record.identity.scan_number
        )
        if path.exists():
            raise NameTakenError(str(path), "a finished scan")
        writer = ScanWriter(client, record, root, authority, on_points=progress)
        return writer.run()


def _refuse_trimmed(client: Bus, record: ScanRecord) -> None:
    for lane in record.prepared.lanes if record.prepared else ():
        ends = stream_ends(client, record.uid, lane.name)
        first = int(ends[0].partition(b"-")[0]) if ends else 0
        durable = read_cursor(client, record.uid, lane.name)
        if first == _LARGEST:
            first = durable
        # Only what is durable is trimmed; anything else before the first entry is lost,
        # and a replay says so as the writer did.
        is_trimmed = 0 < first <= durable and not _is_lost(record, lane, first)
        if is_trimmed or ends is None:
            master = record.verdict.master if record.verdict else ""
            raise NoLongerError(lane.name, 0, master)


def _is_lost(record: ScanRecord, lane: LaneDescription, stop: int) -> bool:
    """Whether the verdict says that no point of a lane before `stop` ever came."""
    ledgers = record.verdict.channels if record.verdict else {}
    return all(
        channel.name in ledgers
        and ledgers[channel.name].missing[:1]
        and ledgers[channel.name].missing[0][0] == 0
        and ledgers[channel.name].missing[0][1] >= stop
        for channel in lane.channels
    )
