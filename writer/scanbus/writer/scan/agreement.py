"""Agreement of the disk and the bus about what is durable.

More on the disk than the cursor says is normal: a writer was killed before it said so.
Less is not. Points that are still on the bus are written again; if they are not, the
scan is paused, because the files may come back: a file system that is not mounted, a
backup. Only an operator accepts that they are lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scanbus.schemas import PointRange, Storage, Verdict
from scanbus.schemas.errors import FilesMissingError, NameTakenError
from scanbus.schemas.file_names import (
    SegmentName,
    parse_segment_file,
    segment_file_name,
)
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.scan.durable_state import DurableState
from scanbus.writer.scan.lane_writer import FinishedSegment, LaneWriter
from scanbus.writer.scan.shared_segments import SharedSegments
from scanbus.writer.scan.write_authority import WriteAuthority
from scanbus.writer.storage.segment_header import read_header

__all__ = ["fill_holes", "find_lost", "keep_on_bus", "refuse_absent_folder"]

log = get_logger()


def refuse_absent_folder(
    folder: Path, uid: str, lanes: Sequence[str], state: DurableState
) -> None:
    """Raise if files of a scan were written to a folder that does not exist.

    Before anything is created: the file system of the folder may not be mounted.

    Raises
    ------
    FilesMissingError
        If it does not exist, though an operator has not accepted that.
    """
    if folder.is_dir():
        return
    missing = {
        lane: f"0 to {written - 1}"
        for lane, written, lost in zip(
            lanes, state.cursors(lanes), state.lost(lanes), strict=True
        )
        if written > lost and state.first_on_bus(lane) != 0
    }
    if missing:
        raise FilesMissingError(uid, str(folder), missing)


def find_lost(
    uid: str,
    folder: Path,
    lanes: Sequence[LaneWriter],
    state: DurableState,
    shared: SharedSegments,
    *,
    done: Verdict | None = None,
) -> list[LaneWriter]:
    """Tell each lane what was durable; return those with files that are lost for good.

    Parameters
    ----------
    done : Verdict or None
        The verdict in the scan file, if it was written already.

    Raises
    ------
    FilesMissingError
        If files are missing, and their points are not on the bus.
    """
    missing: dict[str, str] = {}
    given_up: list[LaneWriter] = []
    names = [lane.lane.name for lane in lanes]
    found = zip(lanes, state.cursors(names), state.lost(names), strict=True)
    for lane, cursor, lost in found:
        if done is not None and not lane.has_own_files:
            lane.skip()
            continue
        name = lane.lane.name
        written = max(cursor, _expected(lane, done))
        lane.expect(written, lost)
        if not lane.is_behind:
            continue
        hole = f"{lane.stored} to {written - 1}"
        first = state.first_on_bus(name)
        if first is not None and first <= lane.stored:
            log.warning(LogEvent.WRITTEN_AGAIN, scan=uid, lane=name, points=hole)
        elif lost >= written:
            log.warning(LogEvent.LOSS_ACCEPTED, scan=uid, lane=name, points=hole)
            given_up.append(lane)
        else:
            missing[name] = _text(_holes(folder, lane, shared, written))
    if missing:
        raise FilesMissingError(uid, str(folder), missing)
    return given_up


def keep_on_bus(
    lanes: Sequence[LaneWriter], state: DurableState, authority: WriteAuthority
) -> bool:
    """Keep points on the bus that are written again, and cursors that it has lost.

    Nobody else knows how far the files reach: a publisher that saw an older cursor
    would wait for room, and send nothing from which a new one comes.

    Returns
    -------
    bool
        Whether it has lost some.
    """
    for lane in lanes:
        if lane.is_behind:
            state.first_on_bus(lane.lane.name)
    stored = {lane.lane.name: lane.stored for lane in lanes if lane.stored}
    cursors = state.cursors([*stored])
    behind = {
        name: point
        for (name, point), cursor in zip(stored.items(), cursors, strict=True)
        if cursor < point
    }
    if behind:
        authority.acknowledge(behind)
    return bool(behind)


def _expected(lane: LaneWriter, done: Verdict | None) -> int:
    """Return the point up to which files existed when the scan file was written."""
    if done is None or lane.lane.is_late:
        return 0
    names = [channel.name for channel in lane.lane.channels]
    ledgers = [done.channels[name] for name in names if name in done.channels]
    return max((ledger.expected for ledger in ledgers), default=0)


def fill_holes(
    folder: Path,
    lane: LaneWriter,
    shared: SharedSegments,
    publish: Callable[[FinishedSegment], None],
) -> bool:
    """Publish segments without points in the places of lost ones before others.

    The segments after them can then be used; lost ones at the end need nothing. Of a
    lane of small values, they are in the shared segment that is open then.

    Returns
    -------
    bool
        Whether there were any: the lane has to be looked at again.
    """
    if not lane.has_own_files:
        behind = shared.sections_behind(lane.lane.name, lane.stored)
        if behind:
            lane.fill_hole(behind[0].start)
        return bool(behind)
    later = _later(folder, lane)
    if not later:
        return False
    edge = read_header(folder / segment_file_name(*later[0])).start
    for n_left in range(later[0].number - lane.n_published, 0, -1):
        finished = lane.empty_segment(_stop(lane, edge, n_left))
        publish(finished)
        lane.published(finished)
    return True


def _stop(lane: LaneWriter, edge: int, n_left: int) -> int:
    """Return where the next of some segments ends that fill the points up to `edge`."""
    if n_left == 1:
        return edge
    is_frames = lane.lane.storage is Storage.FILES
    unit = lane.lane.points_per_chunk if is_frames else 1  # One file has a chunk.
    n_units = (edge - lane.stored) // n_left // unit
    return lane.stored + max(1, n_units) * unit


def _later(folder: Path, lane: LaneWriter) -> list[SegmentName]:
    """Return the segments behind the first one that is missing, by their names."""
    names = map(parse_segment_file, (path.name for path in folder.iterdir()))
    return sorted(
        name
        for name in names
        if name is not None
        and name.lane == lane.lane.name
        and name.number > lane.n_published
    )


def _holes(
    folder: Path, lane: LaneWriter, shared: SharedSegments, written: int
) -> list[PointRange]:
    """Return the points before `written` that no file holds."""
    holes: list[PointRange] = []
    reached = lane.stored
    for start, stop in _behind(folder, lane, shared):
        if start > reached:
            holes.append((reached, start))
        reached = max(reached, stop)
    if reached < written:
        holes.append((reached, written))
    return holes


def _behind(
    folder: Path, lane: LaneWriter, shared: SharedSegments
) -> Iterator[PointRange]:
    """Yield the points of files behind a hole, file by file."""
    if not lane.has_own_files:
        for section in shared.sections_behind(lane.lane.name, lane.stored):
            yield section.start, section.stop
        return
    for name in _later(folder, lane):
        try:
            header = read_header(folder / segment_file_name(*name))
        except NameTakenError:
            continue
        yield header.start, header.stop


def _text(holes: Sequence[PointRange]) -> str:
    return " and ".join(f"{start} to {stop - 1}" for start, stop in holes)
