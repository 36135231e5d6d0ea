"""What only an operator decides: another root for a bus, and files that are lost."""

from __future__ import annotations

from pathlib import Path

from scanbus.bus.store import (
    Bus,
    BusRoot,
    accept_loss,
    change_root,
    find_scan,
    open_bus,
    read_cursor,
    sealed_length,
    stream_ends,
    writers_alive,
)
from scanbus.schemas import LaneDescription
from scanbus.schemas.errors import RootConflictError, ScanStateError
from scanbus.writer.scan.admission import own_root

__all__ = ["accept_lost_files", "use_root"]


def use_root(url: str, root: Path) -> BusRoot:
    """Let the scans of a bus be written below another root from now on.

    Open scans with files below the old one are paused until these files are below the
    new one, or an operator accepts that they are lost.

    Parameters
    ----------
    url : str
        Address of Redis.

    Raises
    ------
    NoRootError, RootUnusableError
        If the folder is no root.
    RootConflictError
        If a writer with another root is alive.
    BusUnavailableError
        If Redis does not answer.
    """
    own = own_root(root)
    with open_bus(url, name="scanbus-root") as client:
        others = [
            f"{name} below {info.get('root')}"
            for name, info in writers_alive(client).items()
            if info.get("root_id") != own.id
        ]
        if others:
            reason = f"writers of this bus with another root are alive ({others[0]})"
            raise RootConflictError(str(root), f"{reason}; stop them first")
        change_root(client, own)
    return own


def accept_lost_files(url: str, scan: str) -> tuple[str, dict[str, int]]:
    """Let a scan go on without files that are gone; its verdict will be partial.

    Of files that are there, and of points on the bus, nothing is lost by it.

    Parameters
    ----------
    url : str
        Address of Redis.
    scan : str
        Uid of the scan, the beginning of it, or its number.

    Returns
    -------
    str
        The uid of the scan.
    dict
        Lane to the point before which files may be missing.

    Raises
    ------
    UnknownScanError, AmbiguousScanError, BusUnavailableError
        If no or several scans match, or Redis does not answer.
    ScanStateError
        If the scan has its final verdict, or was never prepared.
    """
    with open_bus(url, name="scanbus-root") as client:
        record = find_scan(client, scan, only_one=True)
        prepared = record.prepared
        if prepared is None:
            raise ScanStateError(f"scan {record.uid} was never prepared")
        if record.final_verdict is not None:
            raise ScanStateError(f"scan {record.uid} has its final verdict already")
        accepted: dict[str, int] = {}
        for lane in record.lanes:
            cursor = read_cursor(client, record.uid, lane.name)
            # A publisher's stand-in for durable points may reach beyond the cursor, if
            # Redis lost that.
            point = max(cursor, _end(client, record.uid, lane))
            accept_loss(client, record.uid, lane.name, point)
            accepted[lane.name] = point
        return record.uid, accepted


def _end(client: Bus, uid: str, lane: LaneDescription) -> int:
    """Return the point after the last one that was sent."""
    length = sealed_length(client, uid, lane)
    if length is not None:
        return length
    ends = stream_ends(client, uid, lane.name)
    return sum(map(int, ends[1].split(b"-"))) if ends else 0
