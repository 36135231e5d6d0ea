"""Read what is said of a dataset from its files, and whether scans are still written.

A dataset is what stands in its folder: scans with a scan file are finished, others
with a work folder are being written or were interrupted. What was announced and no
writer has begun is on the bus alone, and not known here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import Storage, VerdictWord, merged
from scanbus.schemas.errors import (
    DatasetOpenError,
    IcatMessageError,
    NameTakenError,
)
from scanbus.schemas.file_names import (
    WORK_FOLDER,
    parse_scan_folder,
    parse_session_path,
    parse_work_folder,
    values_file_name,
)
from scanbus.schemas.icat_names import ICAT_FOLDER, split_dataset
from scanbus.schemas.wording import counted
from scanbus.writer.icat.contents import (
    NEVER_S,
    Activity,
    DatasetContents,
    DatasetPlace,
    FinishedScan,
)
from scanbus.writer.masters.rebuild import read_contents
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.storage.amendments import read_amendments, with_amendments
from scanbus.writer.storage.data_root import inside
from scanbus.writer.storage.event_journal import EVENTS_FILE, read_journals
from scanbus.writer.storage.paths_below import names_in
from scanbus.writer.storage.regular_file import check_folder, is_there, kind_of
from scanbus.writer.storage.scan_file import read_scan_file
from scanbus.writer.storage.work_folder import work_folders

__all__ = [
    "place_of",
    "read_activity",
    "read_dataset",
    "scan_numbers",
]

# A folder without files may be of a scan that begins.
_BEGINS_S: Final = 60.0


def place_of(folder: Path) -> DatasetPlace:
    """Return which dataset a folder belongs to.

    Raises
    ------
    IcatMessageError
        If it is not the folder of a dataset.
    RootUnusableError
        If symbolic links lead out of the root.
    """
    absolute = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay as they are
    parts = absolute.parts
    if len(parts) > 6:
        session = parse_session_path("/".join(parts[-6:-2]))
        collection = parts[-2]
        dataset = split_dataset(collection, parts[-1])
        if session is not None and dataset is not None and collection != ICAT_FOLDER:
            root = Path(*parts[:-6])
            if not absolute.is_dir():
                raise IcatMessageError(str(folder), "there is no such folder")
            inside(root, absolute)
            if absolute.is_symlink():
                reason = "it is a symbolic link; name the folder of the dataset"
                raise IcatMessageError(str(folder), reason)
            return DatasetPlace(root, absolute, *session, collection, dataset)
    raise IcatMessageError(
        str(folder),
        "it is no folder of a dataset, such as "
        "…/PROPOSAL/BEAMLINE/SESSION/RAW_DATA/SAMPLE/SAMPLE_DATASET",
    )


def read_activity(folder: Path, *, now_s: float | None = None) -> Activity:
    """Return what moves in a dataset's folder; of the scans, one file is opened.

    Raises
    ------
    NameTakenError
        If something that is no file or folder of a scan has the name of one.
    OSError
        If the file system refuses.
    """
    now_s = time.time() if now_s is None else now_s
    finished: dict[int, Path] = {}
    bare: list[Path] = []
    changed_s = NEVER_S
    for number, scan in _scan_folders(folder):
        values = scan / values_file_name(number)
        if is_there(values):
            finished[number] = values
            changed_s = max(changed_s, values.lstat().st_mtime)
        else:
            bare.append(scan)
    began_s = _began(finished[max(finished)]) if finished else NEVER_S
    unfinished = dict(_in_work(folder, finished.values()))
    for scan in bare:
        made_s = scan.lstat().st_mtime
        if now_s - made_s < _BEGINS_S and not unfinished:
            unfinished[scan.name] = made_s
    return Activity(
        len(finished),
        max([began_s, *unfinished.values()]),
        changed_s,
        tuple(sorted(unfinished)),
    )


def scan_numbers(folder: Path) -> set[int]:
    """Return the numbers of a dataset's finished scans."""
    return {
        number
        for number, scan in _scan_folders(folder)
        if is_there(scan / values_file_name(number))
    }


def read_dataset(
    place: DatasetPlace,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> DatasetContents:
    """Return what the files say of a dataset.

    Parameters
    ----------
    progress : callable, optional
        Called with ``("scans", number done, total)``.

    Raises
    ------
    DatasetOpenError
        If scans are being written, or were interrupted.
    IcatMessageError
        If it has no finished scan.
    NameTakenError, VerificationError, DocumentError
        If the files of a finished scan are damaged.
    """
    activity = read_activity(place.folder)
    if activity.unfinished:
        some = ", ".join(activity.unfinished[:5])
        n_scans = counted(len(activity.unfinished), "scan")
        raise DatasetOpenError(
            place.name, f"{n_scans} being written, or interrupted ({some})"
        )
    folders = [
        scan
        for number, scan in _scan_folders(place.folder)
        if is_there(scan / values_file_name(number))
    ]
    if not folders:
        raise IcatMessageError(place.name, "it has no finished scan")
    scans: list[FinishedScan] = []
    codecs: dict[str, str] = {}
    metadata: dict[str, Any] = {}
    starts: list[float] = []
    ends: list[float] = []
    record: ScanRecord | None = None
    for n_done, folder in enumerate(folders, start=1):
        contents = with_amendments(read_contents(folder), read_amendments(folder))
        record = contents.record
        scans.append(_summary(record))
        codecs |= _codecs(contents)
        tree = record.metadata()
        metadata = merged(metadata, tree)
        start_s = _moment(tree.get("start_time"), _start_s(record))
        end_s = _moment(tree.get("end_time"), _end_s(record))
        if end_s < start_s:  # One of them is wrong; events know.
            start_s, end_s = _start_s(record), _end_s(record)
        starts.append(start_s)
        ends.append(max(start_s, end_s))
        if progress is not None:
            progress("scans", n_done, len(folders))
    if record is None:
        raise IcatMessageError(place.name, "it has no finished scan")
    return DatasetContents(
        place,
        record.folder_as_given("proposal"),
        record.folder_as_given("beamline"),
        record.folder_as_given("collection"),
        datetime.fromtimestamp(min(starts)).astimezone(),
        datetime.fromtimestamp(max(ends)).astimezone(),
        tuple(scans),
        metadata,
        codecs,
    )


def _scan_folders(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield the folders of scans by number; no links are followed."""
    with os.scandir(folder) as entries:
        names = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
    numbers = {parse_scan_folder(name): name for name in names}
    for number in sorted(number for number in numbers if number is not None):
        yield number, folder / numbers[number]


def _in_work(folder: Path, finished: Any) -> Iterator[tuple[str, float]]:
    """Yield the name of each scan with a work folder, and when it began."""
    base = folder / WORK_FOLDER
    check_folder(base)
    names = map(parse_work_folder, names_in(base))
    uids = {one.uid for one in names if one and not one.is_salvaged}
    if not uids:
        return
    uids -= {read_scan_file(path).uid for path in finished}
    for uid in sorted(uids):
        folders = work_folders(folder, uid)
        record = read_journals(one / EVENTS_FILE for one in reversed(folders))
        if record is not None and record.uid == uid:
            yield f"scan {record.identity.scan_number}", _start_s(record)
        elif folders:
            # It may be renamed now, by a writer that goes on with it.
            with suppress(FileNotFoundError):
                yield uid, min(one.lstat().st_mtime for one in folders)


def _began(values: Path) -> float:
    """Return when the scan of a scan file began."""
    mode = values.lstat().st_mode
    if kind_of(mode) != "a file":
        raise NameTakenError(str(values), kind_of(mode))
    times = [event.time for event in read_scan_file(values).events]
    return min(times, default=values.lstat().st_mtime)


def _summary(record: ScanRecord) -> FinishedScan:
    verdict = record.final_verdict
    number = record.identity.scan_number
    if verdict is None:
        return FinishedScan(number, record.uid, VerdictWord.FAILED, "no verdict")
    return FinishedScan(number, record.uid, verdict.verdict, verdict.reason)


def _codecs(contents: ScanContents) -> dict[str, str]:
    """Return the codec of the frames of each detector that are in our files."""
    prepared = contents.record.prepared
    return {
        channel.name: channel.codec
        for lane in (prepared.lanes if prepared else ())
        if lane.storage is Storage.FILES
        for channel in lane.channels
        if not channel.is_reference
    }


def _start_s(record: ScanRecord) -> float:
    said = record.started or record.prepared
    return said.time if said else 0.0


def _end_s(record: ScanRecord) -> float:
    if record.ended:
        return record.ended.time
    return max([_start_s(record), *(update.time for update in record.updates)])


def _moment(given: object, otherwise_s: float) -> float:
    """Return when something was acquired, as metadata say it, or events."""
    if isinstance(given, str) and "T" in given:
        try:
            found = datetime.fromisoformat(given).timestamp()
            datetime.fromtimestamp(found).astimezone()  # Years 1 and 9999 have edges.
        except (ValueError, OverflowError, OSError):
            return otherwise_s
        else:
            return found
    return otherwise_s
