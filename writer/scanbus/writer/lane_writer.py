"""One lane on its way into segments: what is open, what is finished, what is next.

Arrivals in, finished segments out. The disk is the truth: a lane begins after the
segments that stand under their final names, whatever a cursor says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from scanbus.bus.reader import Arrival, Kind, LaneReader
from scanbus.schemas import ChannelLedger, LaneDescription, Storage
from scanbus.schemas.errors import NameTakenError, PayloadError
from scanbus.writer.account import SegmentAccount, lane_ledgers
from scanbus.writer.contents import SegmentFile
from scanbus.writer.examiner import Examiner
from scanbus.writer.frame_segment import FrameSegment
from scanbus.writer.paths import segment_file_name
from scanbus.writer.segment_files import read_header, read_late_points
from scanbus.writer.value_segment import ValueSegment

__all__ = ["FinishedSegment", "LaneWriter", "OpenSegment"]

OpenSegment = FrameSegment | ValueSegment
log = structlog.get_logger("scanbus.writer")


@dataclass(frozen=True, slots=True)
class FinishedSegment:
    """A segment to be closed, verified and published.

    Attributes
    ----------
    segment : OpenSegment
        Holds all its points; nothing is added any more.
    name : str
        Its final name in the scan's folder.
    stop : int
        The point after its last one.
    """

    segment: OpenSegment
    name: str
    stop: int


class LaneWriter:
    """The state of writing one lane; one scan writer owns it.

    Parameters
    ----------
    uid : str
        The scan.
    lane : LaneDescription
        What to write.
    scan_folder : pathlib.Path
        Where finished segments stand.
    make_path : callable
        Returns where a segment of that final name is made.
    examiner : Examiner or None
        Unpacks entries in a child process first, where something kills this one.
    """

    def __init__(
        self,
        uid: str,
        lane: LaneDescription,
        scan_folder: Path,
        make_path: Callable[[str], Path],
        examiner: Examiner | None = None,
    ) -> None:
        self.lane = lane
        self._uid = uid
        self._folder = scan_folder
        self._make_path = make_path
        self._examiner = examiner
        self._accounts: list[SegmentAccount] = []
        self._stray = SegmentAccount()
        self._open: OpenSegment | None = None
        self.segments: list[SegmentFile] = []
        self.problems: list[str] = []
        self._take_stock()
        self.reader = LaneReader(uid, lane, self.stored)
        self._submitted = self._reached = self.stored

    @property
    def stored(self) -> int:
        """The point after the last one under a final name."""
        return self.segments[-1].stop if self.segments else 0

    @property
    def is_over(self) -> bool:
        """Whether the lane is sealed and all its segments are published."""
        return self.reader.is_over and self.stored >= self._submitted

    def take(self, arrival: Arrival) -> list[FinishedSegment]:
        """Take what came from the lane; return the segments that it finished."""
        finished = self._take(arrival)
        self._reached = max(self._reached, arrival.stop)
        return finished

    def _take(self, arrival: Arrival) -> list[FinishedSegment]:
        match arrival.kind:
            case Kind.POINTS:
                return self._points(arrival)
            case Kind.JUMP:
                return self._mark("missing", arrival.start, arrival.stop)
            case Kind.BAD:
                return self._bad(arrival)
            case Kind.OVERLAP:
                self._note_overlap(arrival)
                return []
            case Kind.SEAL:
                return self._seal(arrival.start)

    def flush(self) -> None:
        """Have what came so far survive a kill of this process."""
        if self._open is not None:
            self._open.flush()

    def published(self, finished: FinishedSegment) -> None:
        """Take note that a segment stands under its final name."""
        start = finished.segment.start
        self.segments.append(SegmentFile(finished.name, start, finished.stop))
        self._accounts.append(finished.segment.account)

    def discard(self) -> None:
        """Close what is open; it is made again from the bus."""
        if self._open is not None:
            self._open.discard()

    def keep(self) -> None:
        """Close what is open with all that came, for salvage if the bus is lost."""
        if self._open is None:
            return
        try:
            self._open.close(max(self._reached, self._open.start))
        except (OSError, RuntimeError) as error:
            # The bus has these points; why the attempt ends is not to be hidden.
            log.warning("not_kept", lane=self.lane.name, reason=str(error))

    def late_points(self) -> list[int]:
        """Return which points the published arrivals are, in a lane of late ones."""
        points: list[int] = []
        for one in self.segments:
            points += read_late_points(self._folder / one.name)
        return points

    def ledgers(self) -> dict[str, ChannelLedger]:
        """Return the accounts of the lane's channels, as far as they are published."""
        length = self.reader.length
        return lane_ledgers(
            self.lane,
            [*self._accounts, self._stray],
            expected=max(self._submitted, length or 0, self.reader.expected),
            stored=self.stored,
            sealed=length is not None,
        )

    def _take_stock(self) -> None:
        while True:
            name = segment_file_name(self.lane.name, len(self.segments))
            path = self._folder / name
            if not path.exists():
                return
            header = read_header(path)
            if (header.uid, header.lane, header.start) != (
                self._uid,
                self.lane.name,
                self.stored,
            ):
                raise NameTakenError(
                    str(path), f"scan {header.uid}, lane {header.lane}"
                )
            self.segments.append(SegmentFile(name, header.start, header.stop))
            self._accounts.append(header.account)

    def _segment(self, point: int) -> OpenSegment:
        if self._open is None:
            length = self.lane.points_per_segment
            start = point // length * length
            path = self._make_path(segment_file_name(self.lane.name, start // length))
            kind = FrameSegment if self.lane.storage is Storage.FILES else ValueSegment
            self._open = kind(path, self._uid, self.lane, start)
        return self._open

    def _points(self, arrival: Arrival) -> list[FinishedSegment]:
        entry = arrival.entry
        if entry is None or entry.is_gap or entry.is_durable:
            # Durable points stand in our files, and this lane begins after those.
            return self._mark("missing", arrival.start, arrival.stop)
        try:
            if self._examiner is not None:
                self._examiner.check(self.lane, entry)
            self._segment(entry.first).put(entry)
        except PayloadError:
            self._segment(entry.first).mark("refused", arrival.start, arrival.stop)
            return self._mark("missing", arrival.start, arrival.stop)
        return self._finish_at(arrival.stop)

    def _bad(self, arrival: Arrival) -> list[FinishedSegment]:
        if arrival.start == arrival.stop:
            self.problems.append(f"{self.lane.name}: {arrival.reason}")
            return []
        kind = "corrupt" if arrival.is_damaged else "refused"
        self._segment(arrival.start).mark(kind, arrival.start, arrival.stop)
        return self._mark("missing", arrival.start, arrival.stop)

    def _mark(self, kind: str, start: int, stop: int) -> list[FinishedSegment]:
        """Note points of one kind, segment by segment."""
        finished: list[FinishedSegment] = []
        while start < stop:
            length = self.lane.points_per_segment
            edge = min(stop, (start // length + 1) * length)
            self._segment(start).mark(kind, start, edge)
            finished += self._finish_at(edge)
            start = edge
        return finished

    def _note_overlap(self, arrival: Arrival) -> None:
        within = self._open is not None and arrival.start >= self._open.start
        account = self._open.account if within and self._open else self._stray
        account.duplicate.append((arrival.start, arrival.stop))

    def _finish_at(self, point: int) -> list[FinishedSegment]:
        if point % self.lane.points_per_segment:
            return []
        return self._finish(point)

    def _finish(self, stop: int) -> list[FinishedSegment]:
        segment, self._open = self._open, None
        if segment is None:
            return []
        self._submitted = stop
        index = segment.start // self.lane.points_per_segment
        name = segment_file_name(self.lane.name, index)
        return [FinishedSegment(segment, name, stop)]

    def _seal(self, length: int) -> list[FinishedSegment]:
        if length < self.reader.expected:
            self.problems.append(
                f"{self.lane.name}: sealed at {length} points, but "
                f"{self.reader.expected} came"
            )
        return self._finish(self.reader.expected)
