"""Rebuild master files from the disk alone, without Redis.

The scan file has the events and the verdict, the segments have their points; a scan
master is built from these. Scans without a scan file are still being written, or were
interrupted; their masters are left to their writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    ConfigurationError,
    DocumentError,
    NameTakenError,
    RootUnusableError,
    VerificationError,
)
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.file_names import (
    SCAN_FOLDERS_GLOB,
    late_lane_name,
    parse_scan_folder,
    parse_segment_file,
    segment_file_name,
    values_file_name,
)
from scanbus.writer.masters.above import rebuild_masters
from scanbus.writer.masters.layout_notes import current_notes
from scanbus.writer.masters.write import foreign_layouts, write_scan_master
from scanbus.writer.model.layout_choice import LayoutChoice
from scanbus.writer.model.scan_contents import ScanContents, SegmentFile
from scanbus.writer.storage.added_layouts import add_layouts, with_added_layouts
from scanbus.writer.storage.amendments import read_amendments, with_amendments
from scanbus.writer.storage.data_root import allow_links_to, check_tree, inside
from scanbus.writer.storage.layout_templates import choice_of, read_templates
from scanbus.writer.storage.paths_below import paths_below
from scanbus.writer.storage.references import allow_references_below
from scanbus.writer.storage.regular_file import is_there
from scanbus.writer.storage.scan_file import read_scan_file
from scanbus.writer.storage.segment_header import read_headers

__all__ = [
    "RebuildReport",
    "SkippedScan",
    "finished_segments",
    "has_references",
    "late_lanes",
    "read_contents",
    "rebuild",
    "scan_folders",
]


@dataclass(frozen=True, slots=True)
class SkippedScan:
    """A scan that was skipped.

    Attributes
    ----------
    scan : str
        Its folder or uid, or the name given by the user.
    reason : str
        The reason, one sentence.
    is_damaged : bool
        Whether the reason is an error; False, e.g., for a scan still being written.
    """

    scan: str
    reason: str
    is_damaged: bool = False


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """Result of a rebuild.

    Attributes
    ----------
    masters : tuple of pathlib.Path
        All masters written, scan masters first.
    skipped : tuple of SkippedScan
        Scans whose master was not rebuilt.
    notes : tuple of str
        What scans lack of the layouts that were added.
    """

    masters: tuple[Path, ...] = ()
    skipped: tuple[SkippedScan, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """``PARTIAL`` if finished scans are damaged, else ``COMPLETE``."""
        is_damaged = any(scan.is_damaged for scan in self.skipped)
        return ExitCode.PARTIAL if is_damaged else ExitCode.COMPLETE


def rebuild(
    root: Path,
    *,
    progress: Callable[[str, int, int | None], None] | None = None,
    allowed_roots: Sequence[Path] = (),
    external_roots: Sequence[Path] = (),
    layouts: Sequence[str] = (),
    templates: Sequence[Path] = (),
    scans: Sequence[Path] = (),
) -> RebuildReport:
    """Rebuild all master files below a root.

    Parameters
    ----------
    progress : callable, optional
        Called with ``("scans", number done, total)``.
    allowed_roots : sequence of pathlib.Path
        Other roots, to which symbolic links below the root may lead.
    external_roots : sequence of pathlib.Path
        Folders below which files of frames by reference are looked at. Without any,
        masters of scans with such frames stay as they are.
    layouts : sequence of str
        Layouts to add to all finished scans. A file beside each keeps them, so that
        they are rebuilt from then on.
    templates : sequence of pathlib.Path
        Files with layouts of the site, of which these may be some.
    scans : sequence of pathlib.Path
        Folders of the only scans whose masters are rebuilt; by default all.

    Raises
    ------
    ConfigurationError
        If one of these folders is not of a scan below the root.
    LayoutError
        If a layout does not exist, or a template is wrong.
    NameTakenError
        If the name of a dataset's, collection's or proposal's master is taken by a
        file that scanbus did not write.
    NoRootError
        If the folder does not exist, or is no root and has no scans; if an allowed one
        is no root.
    RootUnusableError
        If the file system refuses.
    """
    added = choice_of(layouts, read_templates(templates))
    check_tree(root, allowed_roots)
    allow_links_to(allowed_roots)
    allow_references_below(external_roots)
    masters: list[Path] = []
    skipped: list[SkippedScan] = []
    notes: list[str] = []
    folders = _selected(list(scan_folders(root)), scans)
    for n_done, folder in enumerate(folders, start=1):
        done = _rebuild_scan(folder, added, looks_at_files=bool(external_roots))
        if isinstance(done, SkippedScan):
            skipped.append(done)
        else:
            masters.append(done[0])
            notes += (f"{folder}: {note}" for note in done[1])
        if progress is not None:
            progress("scans", n_done, len(folders))
    return RebuildReport(
        (*masters, *rebuild_masters(root)), tuple(skipped), tuple(notes)
    )


def _selected(folders: list[Path], scans: Sequence[Path]) -> list[Path]:
    """Return the folders of some scans only, if any are named."""
    known = {folder.resolve(): folder for folder in folders}
    for scan in scans:
        if scan.resolve() not in known:
            reason = f"{scan} is no folder of a scan below the root, such as scan0001"
            raise ConfigurationError("scan", reason)
    return [known[scan.resolve()] for scan in scans] if scans else folders


def scan_folders(root: Path) -> Iterator[Path]:
    """Yield all scan folders below a root; links out of the root are not followed."""
    for folder in sorted(paths_below(root, SCAN_FOLDERS_GLOB)):
        if parse_scan_folder(folder.name) is None:
            continue
        try:
            inside(root, folder)
        except RootUnusableError:
            continue
        if folder.is_dir():
            yield folder


def _rebuild_scan(
    folder: Path, added: LayoutChoice, *, looks_at_files: bool
) -> tuple[Path, tuple[str, ...]] | SkippedScan:
    if not is_there(_scan_file(folder)):
        reason = "no scan file: it is still being written, or was interrupted"
        return SkippedScan(str(folder), reason)
    try:
        contents = read_contents(folder)
        if not looks_at_files and has_references(contents):
            reason = "it has frames by reference: name their external roots"
            return SkippedScan(str(folder), reason)
        notes: tuple[str, ...] = ()
        if added.names:
            choice = add_layouts(folder, contents.choice, added)
            contents = replace(contents, choice=choice)
            corrected = with_amendments(contents, read_amendments(folder))
            notes = current_notes(corrected)
        path = write_scan_master(folder, contents)
        foreign = foreign_layouts(folder, contents) if contents.choice.names else ()
    except (NameTakenError, VerificationError, DocumentError) as error:
        return SkippedScan(str(folder), str(error), is_damaged=True)
    if foreign:
        return SkippedScan(str(folder), "; ".join(foreign), is_damaged=True)
    return path, notes


def has_references(contents: ScanContents) -> bool:
    """Whether a scan has frames in files of a detector."""
    prepared = contents.record.prepared
    lanes = prepared.lanes if prepared else ()
    return any(channel.is_reference for lane in lanes for channel in lane.channels)


def _scan_file(folder: Path) -> Path:
    number = parse_scan_folder(folder.name)
    if number is None:
        raise ValueError(f"{folder} is not named as the folder of a scan")
    return folder / values_file_name(number)


def read_contents(folder: Path) -> ScanContents:
    """Return the contents of a finished scan, from its files.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder, with its standard name.

    Raises
    ------
    NameTakenError
        If the scan file or a segment is not one, or belongs to another scan.
    VerificationError
        If a segment is missing.
    DocumentError
        If the events contradict each other.
    ValueError
        If the folder does not have the name of a scan folder.
    """
    path = _scan_file(folder)
    record, prepared, verdict, choice = _read_record(path)
    segments: dict[str, tuple[SegmentFile, ...]] = {}
    for lane in (*prepared.lanes, *record.static.values()):
        if lane.storage is Storage.FILES:
            files = finished_segments(folder, record.uid, lane)
            _check_extent(folder, lane, files, verdict.channels)
            segments[lane.name] = files
    late = {
        lane.channels[0].name: tuple(
            one.name for one in finished_segments(folder, record.uid, lane)
        )
        for lane in late_lanes(prepared, [folder])
    }
    choice = with_added_layouts(folder, choice)
    return ScanContents(record, segments, path.name, late, choice=choice)


def _read_record(
    path: Path,
) -> tuple[ScanRecord, ScanPrepared, Verdict, LayoutChoice]:
    found = read_scan_file(path)
    said = (event for event in found.events if isinstance(event, ScanPrepared))
    prepared = next(said, None)
    if prepared is None or prepared.scan.uid != found.uid:
        raise NameTakenError(
            str(path), "a scan file whose events do not identify the scan"
        )
    record = ScanRecord(prepared.scan, problems=[*found.problems])
    for event in found.events:
        record.fold(event)
    record.verdict = found.verdict
    number = record.identity.scan_number
    if path.name != values_file_name(number):
        raise NameTakenError(str(path), f"scan number {number}")
    choice = found.choice
    if choice is None:  # A file of a version without layouts.
        choice = LayoutChoice().chosen(prepared.layouts)
    return record, prepared, found.verdict, choice


def late_lanes(
    prepared: ScanPrepared, folders: Iterable[Path]
) -> tuple[LaneDescription, ...]:
    """Return the lanes of late points that have files in some folders.

    The files tell, because the event ``ended``, which names these lanes, may be lost.
    """
    files = (path.name for folder in folders for path in folder.iterdir())
    found = {name.lane for name in map(parse_segment_file, files) if name is not None}
    return tuple(
        lane.late_lane(channel)
        for lane in prepared.lanes
        for channel in lane.channels
        if late_lane_name(channel.name) in found
    )


def finished_segments(
    folder: Path, uid: str, lane: LaneDescription
) -> tuple[SegmentFile, ...]:
    """Return the published segments of a lane, up to the first missing one.

    Raises
    ------
    NameTakenError
        If a file with a segment's final name is not that segment.
    """
    headers = read_headers(folder, uid, lane.name)
    return tuple(
        SegmentFile(name, header.start, header.stop) for name, header in headers.items()
    )


def _check_extent(
    folder: Path,
    lane: LaneDescription,
    files: tuple[SegmentFile, ...],
    ledgers: Mapping[str, ChannelLedger],
) -> None:
    """Raise if segments are missing: the master would be shorter than the scan."""
    stop = files[-1].stop if files else 0
    for channel in lane.channels:
        ledger = ledgers.get(channel.name)
        if ledger is not None and stop < _last_written(ledger):
            number = files[-1].next_number if files else 0
            name = segment_file_name(lane.name, number)
            reason = f"not there; it would hold the points from {stop} on"
            raise VerificationError(str(folder / name), reason)


def _last_written(ledger: ChannelLedger) -> int:
    """Return the end of the last range of points that is in the files."""
    last = ledger.missing[-1] if ledger.missing else None
    is_at_the_end = last is not None and last[1] >= ledger.expected
    return last[0] if is_at_the_end and last is not None else ledger.expected
