"""State of a scan that is being written: contents for masters, ledgers, verdict.

Pure, except for checks which files exist, and reads of late segments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from scanbus.bus.protocol import ScanRecord
from scanbus.schemas import ChannelLedger, Storage, Verdict, VerdictWord, ranges
from scanbus.schemas.errors import NameTakenError
from scanbus.schemas.file_names import WORK_FOLDER, values_file_name
from scanbus.writer.model.layout_choice import LayoutChoice
from scanbus.writer.model.ledger import judge, losses
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.model.sources import named_files
from scanbus.writer.scan.durable_state import DurableState
from scanbus.writer.scan.lane_writer import LaneWriter
from scanbus.writer.scan.pace import Pace
from scanbus.writer.scan.shared_segments import SharedSegments
from scanbus.writer.storage.data_root import scan_master
from scanbus.writer.storage.references import (
    NOTHING_FOUND,
    Found,
    examine_references,
    reference_files,
)
from scanbus.writer.storage.regular_file import is_there
from scanbus.writer.storage.scan_file import read_scan_file
from scanbus.writer.storage.work_folder import work_folders

__all__ = [
    "amended",
    "contents_of",
    "ledgers_of",
    "look_for_references",
    "report_points",
    "segment_paths",
    "unprepared",
    "verdict_on",
    "verdict_on_disk",
]

_LOST_EVENTS = (
    "Redis has lost what the scan is, and points of it are {}: its publisher puts the "
    "events back. If that is gone, `scanbus salvage` makes files of what is on the "
    "disk, and `scanbus close {} --dismiss` gives up the rest"
)


def contents_of(
    record: ScanRecord, lanes: Sequence[LaneWriter], folder: Path, choice: LayoutChoice
) -> ScanContents:
    """Return the current contents of the scan, from which its master is built.

    Parameters
    ----------
    folder : pathlib.Path
        The scan's folder.
    choice : LayoutChoice
        That of the writer's settings; the scan may ask for others.
    """
    path = folder / values_file_name(record.identity.scan_number)
    own = [lane for lane in lanes if not lane.lane.is_late]
    # Segments of small values are removed once the scan file exists, so no master may
    # refer to them: masters of running scans copy what is in them.
    segments = named_files(
        {
            lane.lane.name: lane.segments
            for lane in own
            if lane.lane.storage is Storage.FILES
        }
    )
    late = {
        lane.lane.channels[0].name: tuple(one.name for one in lane.segments)
        for lane in lanes
        if lane.lane.is_late and lane.segments
    }
    values = path.name if path.exists() else None
    if record.prepared is not None:
        choice = choice.chosen(record.prepared.layouts)
    return ScanContents(record, segments, values, late, choice=choice)


def segment_paths(lanes: Sequence[LaneWriter], folder: Path) -> dict[str, list[Path]]:
    """Return the segments of frames, whose times the scan file has, by lane name."""
    return {
        lane.lane.name: [folder / one.name for one in lane.segments]
        for lane in lanes
        if lane.lane.storage is Storage.FILES and not lane.lane.is_late
    }


def report_points(
    lanes: Sequence[LaneWriter],
    stops: Mapping[str, int],
    on_points: Callable[[str, int, int | None], None],
) -> None:
    """Report up to which points lanes are in files, and how many they will have."""
    for lane in lanes:
        if lane.lane.name not in stops:
            continue
        length = lane.reader.length
        for channel in lane.lane.channels:
            total = channel.points if length is None else length
            on_points(channel.name, stops[lane.lane.name], total)


def ledgers_of(
    lanes: Sequence[LaneWriter], *, is_open: bool = False
) -> dict[str, ChannelLedger]:
    """Return the ledger of every channel, including its late points.

    Parameters
    ----------
    is_open : bool
        Whether the scan may go on: what is in no file is on the bus.
    """
    ledgers: dict[str, ChannelLedger] = {}
    for lane in lanes:
        if not lane.lane.is_late:
            ledgers |= lane.ledgers(is_open=is_open)
            continue
        for name in lane.ledgers():
            late = ranges(sorted(set(lane.late_points())))
            ledgers[name] = ledgers[name].model_copy(update={"late": late})
    return ledgers


def unprepared(record: ScanRecord, folder: Path, state: DurableState) -> Verdict:
    """Return the verdict on a scan that ends, or lapses, before it was prepared.

    Or so it seems: Redis may have lost its events, which an operator can delete alone.
    Disk and lanes tell, and no verdict is final while one of them knows points of it.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of its files.
    state : DurableState
        What the bus knows of its points; the disk may not be mounted now.
    """
    problems = list(record.problems)
    is_open = record.ended is None or bool(problems)
    if not problems:
        with suppress(NameTakenError):
            done = verdict_on_disk(record, folder)
            if done is not None:
                return done
        where = "on the bus" if state.has_lanes() else ""
        if work_folders(folder.parent, record.uid):
            where = f"in {folder.parent / WORK_FOLDER}"
        if where:
            is_open = True
            problems = [_LOST_EVENTS.format(where, record.uid)]
    return Verdict(
        uid=record.uid,
        verdict=VerdictWord.FAILED if record.problems else VerdictWord.PARTIAL,
        provisional=is_open,
        reason="; ".join(problems or ["the scan was announced, never prepared"]),
        end_reason=record.ended.end_reason if record.ended else "",
    )


def verdict_on_disk(record: ScanRecord, folder: Path) -> Verdict | None:
    """Return the verdict of a scan that has a scan file already, else None.

    Raises
    ------
    NameTakenError
        If something else has the name of the scan file.
    """
    path = folder / values_file_name(record.identity.scan_number)
    if not is_there(path):
        return None
    found = read_scan_file(path)
    if found.uid != record.uid:
        raise NameTakenError(str(path), f"scan {found.uid}")
    return found.verdict


def amended(done: Verdict, record: ScanRecord, lanes: Sequence[LaneWriter]) -> Verdict:
    """Return the verdict of a scan file, without files that were lost since then."""
    ledgers = dict(done.channels)
    files = [one for one in lanes if one.has_own_files and not one.lane.is_late]
    for name, found in ledgers_of(files).items():
        late = ledgers[name].late if name in ledgers else ()
        ledgers[name] = found.model_copy(update={"late": late})
    if ledgers == done.channels:
        return done
    ended = record.ended
    return judge(
        done.uid,
        ledgers,
        end_reason=ended.end_reason if ended else None,
        master=done.master,
        notes=done.notes,
        problems=[*record.problems, *(text for one in lanes for text in one.problems)],
    )


def look_for_references(
    lanes: Sequence[LaneWriter],
    shared: SharedSegments,
    pace: Pace,
    tick: Callable[[], None],
) -> Found:
    """Look for the files of frames by reference, and wait for those that may come."""
    described = [lane.lane for lane in lanes]
    channels = [channel for lane in described for channel in lane.channels]
    if not any(channel.is_reference for channel in channels):
        return NOTHING_FOUND
    files = reference_files(described, shared.read_all(lanes))
    return examine_references(channels, files, wait_s=pace.reference_wait_s, tick=tick)


def verdict_on(
    record: ScanRecord,
    lanes: Sequence[LaneWriter],
    root: Path,
    references: Found = NOTHING_FOUND,
    *,
    provisional: bool = False,
) -> Verdict:
    """Return the verdict on the scan as written so far."""
    problems = [*record.problems, *references.problems]
    for lane in lanes:
        problems += lane.problems
    ledgers, ended = ledgers_of(lanes, is_open=provisional), record.ended
    if ended is not None:
        problems += losses(ended.lost, [lane.lane for lane in lanes], ledgers)
    master = scan_master(root, record.identity)
    return judge(
        record.uid,
        ledgers,
        end_reason=ended.end_reason if ended else None,
        master=str(master.relative_to(root)),
        problems=problems,
        notes=references.notes,
        provisional=provisional,
    )
