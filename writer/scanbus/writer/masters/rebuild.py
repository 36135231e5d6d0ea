"""Masters made again from the disk alone: no Redis, nothing that only a writer knew.

The scan file says what was said and how it came out, the segments say which points
they hold; that is all that a scan master is made from. Scans without a scan file are
still being written, or were interrupted: their masters are their writer's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import (
    ChannelLedger,
    LaneDescription,
    ScanPrepared,
    Storage,
    Verdict,
)
from scanbus.schemas.errors import (
    DocumentError,
    NameTakenError,
    RootUnusableError,
    VerificationError,
)
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.naming import (
    SCAN_FOLDERS_GLOB,
    parse_scan_folder,
    segment_file_name,
    values_file_name,
)
from scanbus.writer.masters.write import rebuild_masters, write_scan_master
from scanbus.writer.model.scan_contents import ScanContents, SegmentFile
from scanbus.writer.storage.scan_file import read_scan_file
from scanbus.writer.storage.scan_paths import inside
from scanbus.writer.storage.segment_header import read_header

__all__ = [
    "RebuildReport",
    "SkippedScan",
    "finished_segments",
    "read_contents",
    "rebuild",
    "scan_folders",
]


@dataclass(frozen=True, slots=True)
class SkippedScan:
    """A scan that was left as it is.

    Attributes
    ----------
    scan : str
        Its folder, or the name by which it was asked for.
    reason : str
        One sentence.
    is_damaged : bool
        Whether something is wrong with it; else it is only not finished.
    """

    scan: str
    reason: str
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild wrote and what it left alone.

    Attributes
    ----------
    masters : tuple of pathlib.Path
        All masters that were written, those of scans first.
    skipped : tuple of SkippedScan
        Scans without a new master.
    """

    masters: tuple[Path, ...] = ()
    skipped: tuple[SkippedScan, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """Partial if finished scans are damaged, else complete."""
        is_damaged = any(scan.is_damaged for scan in self.skipped)
        return ExitCode.PARTIAL if is_damaged else ExitCode.COMPLETE


def rebuild(
    root: Path, *, progress: Callable[[str, int, int | None], None] | None = None
) -> RebuildReport:
    """Make all masters below a root again.

    Parameters
    ----------
    progress : callable, optional
        Told how many scans are done, and of how many.

    Raises
    ------
    NameTakenError
        If a file that scanbus did not write has the name of a master above scans.
    RootUnusableError
        If the root is not there, or the file system refuses.
    """
    if not root.is_dir():
        raise RootUnusableError(str(root), "there is no such folder")
    masters: list[Path] = []
    skipped: list[SkippedScan] = []
    folders = list(scan_folders(root))
    for n_done, folder in enumerate(folders, start=1):
        done = _rebuild_scan(folder)
        if isinstance(done, SkippedScan):
            skipped.append(done)
        else:
            masters.append(done)
        if progress is not None:
            progress("scans", n_done, len(folders))
    return RebuildReport((*masters, *rebuild_masters(root)), tuple(skipped))


def scan_folders(root: Path) -> Iterator[Path]:
    """Yield the folders of all scans below a root; links out of it are not followed."""
    for folder in sorted(root.glob(SCAN_FOLDERS_GLOB)):
        if parse_scan_folder(folder.name) is None:
            continue
        try:
            inside(root, folder)
        except RootUnusableError:
            continue
        if folder.is_dir():
            yield folder


def _rebuild_scan(folder: Path) -> Path | SkippedScan:
    if not _scan_file(folder).exists():
        reason = "no scan file: it is still being written, or was interrupted"
        return SkippedScan(str(folder), reason)
    try:
        return write_scan_master(folder, read_contents(folder))
    except (NameTakenError, VerificationError, DocumentError) as error:
        return SkippedScan(str(folder), str(error), is_damaged=True)


def _scan_file(folder: Path) -> Path:
    number = parse_scan_folder(folder.name)
    if number is None:
        raise ValueError(f"{folder} is not named as the folder of a scan")
    return folder / values_file_name(number)


def read_contents(folder: Path) -> ScanContents:
    """Return a finished scan as its files tell it.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder, named as scanbus names it.

    Raises
    ------
    NameTakenError
        If the scan file or a segment is none, or another scan's.
    VerificationError
        If a segment is not there.
    DocumentError
        If the events contradict each other.
    """
    path = _scan_file(folder)
    record, prepared, verdict = _read_record(path)
    segments: dict[str, tuple[SegmentFile, ...]] = {}
    for lane in prepared.lanes:
        if lane.storage is Storage.FILES:
            files = finished_segments(folder, record.uid, lane)
            _check_extent(folder, lane, files, verdict.channels)
            segments[lane.name] = files
    late = {
        lane.channels[0].name: tuple(
            one.name for one in finished_segments(folder, record.uid, lane)
        )
        for lane in prepared.late_lanes(record.ended)
    }
    n_points = {name: one.expected for name, one in verdict.channels.items()}
    return ScanContents(record, segments, path.name, n_points, late)


def _read_record(path: Path) -> tuple[ScanRecord, ScanPrepared, Verdict]:
    found = read_scan_file(path)
    said = (event for event in found.events if isinstance(event, ScanPrepared))
    prepared = next(said, None)
    if prepared is None or prepared.scan.uid != found.uid:
        raise NameTakenError(
            str(path), "a scan file that does not say what the scan is"
        )
    if path.name != values_file_name(prepared.scan.scan_number):
        raise NameTakenError(str(path), f"scan number {prepared.scan.scan_number}")
    record = ScanRecord(
        prepared.scan, verdict=found.verdict, problems=[*found.problems]
    )
    for event in found.events:
        record.fold(event)
    return record, prepared, found.verdict


def finished_segments(
    folder: Path, uid: str, lane: LaneDescription
) -> tuple[SegmentFile, ...]:
    """Return the segments of a lane that stand under their final names, up to a hole.

    Raises
    ------
    NameTakenError
        If a file of such a name is something else.
    """
    segments: list[SegmentFile] = []
    while (path := folder / segment_file_name(lane.name, len(segments))).exists():
        header = read_header(path)
        start = segments[-1].stop if segments else 0
        if (header.uid, header.lane, header.start) != (uid, lane.name, start):
            raise NameTakenError(str(path), f"scan {header.uid}, lane {header.lane}")
        segments.append(SegmentFile(path.name, header.start, header.stop))
    return tuple(segments)


def _check_extent(
    folder: Path,
    lane: LaneDescription,
    files: tuple[SegmentFile, ...],
    ledgers: Mapping[str, ChannelLedger],
) -> None:
    """Refuse to make a master that is silently shorter than the scan was."""
    stop = files[-1].stop if files else 0
    for channel in lane.channels:
        ledger = ledgers.get(channel.name)
        if ledger is not None and stop < _last_written(ledger):
            name = segment_file_name(lane.name, len(files))
            reason = f"not there; it would hold the points from {stop} on"
            raise VerificationError(str(folder / name), reason)


def _last_written(ledger: ChannelLedger) -> int:
    """Return the point after the last one that is in the files."""
    last = ledger.missing[-1] if ledger.missing else None
    is_at_the_end = last is not None and last[1] >= ledger.expected
    return last[0] if is_at_the_end and last is not None else ledger.expected
