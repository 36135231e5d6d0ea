"""Replay: write a scan that is still on the bus again, with the writer's own code."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from scanbus.bus.protocol import SEAL_ID, ScanRecord
from scanbus.bus.store import (
    Bus,
    connect,
    describe_server,
    find_scan,
    read_cursor,
    read_root,
    stream_ends,
    translated,
)
from scanbus.schemas import ScanRenumbered, Verdict
from scanbus.schemas.errors import (
    FilesMissingError,
    LeaseLostError,
    NameTakenError,
    NoLongerError,
    NoRootError,
    RootUnusableError,
)
from scanbus.schemas.file_names import values_file_name
from scanbus.writer.scan.durable_state import ReplayState
from scanbus.writer.scan.pace import Pace
from scanbus.writer.scan.scan_writer import ScanWriter
from scanbus.writer.scan.write_authority import ReplayAuthority
from scanbus.writer.storage.data_root import scan_folder
from scanbus.writer.storage.file_system import check_file_system
from scanbus.writer.storage.layout_templates import choice_of, read_templates
from scanbus.writer.storage.references import allow_references_below
from scanbus.writer.storage.regular_file import is_there
from scanbus.writer.storage.root_identity import read_root_id

__all__ = ["replay"]

_FINISHED: Final = "a finished scan"
_OF_THE_WRITER: Final = "this scan, which a writer has not finished"
_OF_A_REPLAY: Final = "this scan, which a later replay writes there now"
_LARGEST: Final = int(SEAL_ID.partition(b"-")[0])


def replay(
    url: str,
    scan: str,
    root: Path,
    *,
    as_number: int | None = None,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
    external_roots: Sequence[Path] = (),
    layouts: Sequence[str] = (),
    templates: Sequence[Path] = (),
) -> Verdict:
    """Write a scan from the bus into files below `root`; follow it while it runs.

    The folder `root` is created if the one above it exists. It need not be a root of
    scanbus: a replay takes nothing off the bus. A hold prevents trimming of the scan
    meanwhile. Nothing is acknowledged, announced or overwritten.

    Parameters
    ----------
    url : str
        URL of the Redis server.
    scan : str
        Uid of the scan, the beginning of it, or the scan number.
    as_number : int or None
        Scan number to use instead of the scan's own.
    progress : callable
        Called with ``(channel, points stored, points expected or None)``.
    external_roots : sequence of pathlib.Path
        Folders below which files of frames by reference are looked at.
    layouts : sequence of str
        Layouts of its files, instead of those that it asks for.
    templates : sequence of pathlib.Path
        Files with layouts of the site.

    Returns
    -------
    Verdict
        Final; or provisional, if the publisher is gone and did not end the scan.

    Raises
    ------
    UnknownScanError, BusUnavailableError
        If the scan does not exist, or the bus cannot be reached.
    NoLongerError
        If points of it were trimmed, or lost by Redis after they were in files; names
        the first one and the file that has it.
    NameTakenError
        If its files, or those of another scan of that number, exist below `root`; or
        if a writer will write it there, or another replay does so now.
    LayoutError
        If a layout does not exist, or a template is wrong.
    RootUnusableError
        If files cannot be written below `root`.
    """
    choice = choice_of(layouts, read_templates(templates))
    _make_output(root)
    allow_references_below(external_roots)
    client = connect(url, name="scanbus-replay")
    with translated(url):
        describe_server(client, url)
        record = find_scan(client, scan)
        own_number = record.identity.scan_number
        if as_number is not None:
            text = f"replayed as scan number {as_number}"
            record.fold(
                ScanRenumbered(time=time.time(), scan_number=as_number, text=text)
            )
        authority = ReplayAuthority(client, record.identity)
        authority.check()
        _refuse_trimmed(client, record)
        number = record.identity.scan_number
        folder = scan_folder(root, record.identity)
        if is_there(folder / values_file_name(number)):
            raise NameTakenError(str(folder / values_file_name(number)), _FINISHED)
        if number == own_number and _is_written_below(client, record, root):
            raise NameTakenError(str(folder), _OF_THE_WRITER)
        # Nobody has an older master of these files open.
        pace = Pace(grace_s=0.0, choice=choice)
        writer = ScanWriter(
            client, record, root, authority, pace=pace, on_points=progress
        )
        try:
            return writer.run()
        except FilesMissingError as error:
            # Redis lost points that the scan's own files have; something stands in.
            lane, points = next(iter(error.missing.items()))
            first = int(points.partition(" ")[0])
            raise NoLongerError(lane, first, _master_of(record)) from error
        except LeaseLostError as error:
            raise NameTakenError(str(folder), _OF_A_REPLAY) from error


def _make_output(folder: Path) -> None:
    """Create the folder of the files; it need not be a root, which has one bus."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RootUnusableError(str(folder), error.strerror or str(error)) from error
    check_file_system(folder)


def _is_written_below(client: Bus, record: ScanRecord, root: Path) -> bool:
    """Return whether a writer writes the scan below this root, now or later."""
    known = read_root(client)
    if known is None or record.final_verdict is not None:
        return False
    try:
        return read_root_id(root) == known.id
    except NoRootError:
        return False


def _refuse_trimmed(client: Bus, record: ScanRecord) -> None:
    state = ReplayState(record)
    lanes = record.lanes
    lost = state.lost([lane.name for lane in lanes])
    for lane, accepted in zip(lanes, lost, strict=True):
        ends = stream_ends(client, record.uid, lane.name)
        first = int(ends[0].partition(b"-")[0]) if ends else 0
        durable = read_cursor(client, record.uid, lane.name)
        if first == _LARGEST:
            first = durable
        # Only durable points are trimmed; others before the first entry are lost, and
        # the replay records them as missing, like the writer.
        is_trimmed = accepted < first <= durable
        if is_trimmed or ends is None:
            raise NoLongerError(lane.name, 0, _master_of(record))


def _master_of(record: ScanRecord) -> str:
    return record.verdict.master if record.verdict else ""
