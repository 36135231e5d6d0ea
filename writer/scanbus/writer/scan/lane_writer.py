"""Write one lane into segments: arrivals in, finished segments out.

The files on the disk are authoritative: a lane starts after its published segments. If
the bus says that more points were durable, their files are gone: they are written again
from the bus, and only an operator may give up what is not there any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scanbus.bus.protocol import Arrival, Entry, Kind, LaneReader
from scanbus.schemas import ChannelLedger, LaneDescription, Storage
from scanbus.schemas.errors import (
    FilesMissingError,
    PayloadError,
    UnknownCodecError,
)
from scanbus.schemas.file_names import segment_file_name
from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger
from scanbus.writer.model.ledger import SegmentAccount, lane_ledgers
from scanbus.writer.model.scan_contents import SegmentFile
from scanbus.writer.model.segment_length import is_segment_full
from scanbus.writer.scan.entry_sandbox import Sandbox
from scanbus.writer.scan.shared_segments import SharedSegments
from scanbus.writer.storage.frame_segment import FrameSegment
from scanbus.writer.storage.late_points import read_late_points
from scanbus.writer.storage.placed_segment import PlacedSegment
from scanbus.writer.storage.segment_header import read_headers
from scanbus.writer.storage.shared_segment import LaneSection
from scanbus.writer.storage.value_segment import ValueSegment

__all__ = ["FinishedSegment", "LaneWriter", "OpenSegment"]

OpenSegment = FrameSegment | ValueSegment
log = get_logger()


@dataclass(frozen=True, slots=True)
class FinishedSegment:
    """A complete segment, to be closed, verified and published.

    Attributes
    ----------
    segment : OpenSegment
        The segment, with all its points.
    name : str
        Its final name in the scan's folder.
    lane : str
        Name of its lane.
    stop : int
        The point after its last one.
    """

    segment: OpenSegment
    name: str
    lane: str
    stop: int

    @property
    def stops(self) -> dict[str, int]:
        """Lane name to the point after its last one."""
        return {self.lane: self.stop}

    def close(self) -> None:
        """Write everything and close the file."""
        self.segment.close(self.stop)


class LaneWriter:
    """Writes one lane; one scan writer owns it.

    Parameters
    ----------
    uid : str
        Uid of the scan.
    lane : LaneDescription
        The lane to write.
    scan_folder : pathlib.Path
        Folder of published segments.
    make_path : callable
        Returns the temporary path of a segment, given its final name.
    sandbox : Sandbox or None
        Unpacks entries in a child process first, after attempts that ended in a kill.
    shared : SharedSegments or None
        The files of a lane of small values, which it shares with others; None for a
        lane with files of its own.

    Raises
    ------
    NameTakenError
        If a file with a segment's final name is not that segment.
    """

    def __init__(
        self,
        uid: str,
        lane: LaneDescription,
        scan_folder: Path,
        make_path: Callable[[str], Path],
        sandbox: Sandbox | None = None,
        *,
        shared: SharedSegments | None = None,
    ) -> None:
        self.lane = lane
        self._uid = uid
        self._folder = scan_folder
        self._make_path = make_path
        self._sandbox = sandbox
        self._shared = shared
        self._accounts: list[SegmentAccount] = []
        # Records made between two segments; they go into the next one.
        self._pending_account = SegmentAccount()
        self._open: OpenSegment | LaneSection | None = None
        self.segments: list[SegmentFile] = []
        self._placed: list[PlacedSegment] = []
        self._find_published()
        self._last_id = self._accounts[-1].last_id if self._accounts else ""
        self.reader = LaneReader(uid, lane, self.stored, self._last_id.encode())
        self._submitted = self._reached = self.stored
        self._next_number = self.segments[-1].next_number if self.segments else 0
        # The points before the first were durable; files before the second may be lost.
        self.expected = self.stored, self.stored
        # Size on the bus of the entries since the last segment.
        self._bus_bytes = 0

    @property
    def has_own_files(self) -> bool:
        """Whether masters name its segments; others are in the scan file at the end."""
        return self._shared is None

    @property
    def stored(self) -> int:
        """The point after the last published one."""
        return self.segments[-1].stop if self.segments else 0

    @property
    def n_published(self) -> int:
        """Number of published segments, those included that were joined."""
        return self.segments[-1].next_number if self.segments else 0

    @property
    def is_over(self) -> bool:
        """Whether the lane is sealed and all its segments are published."""
        return self.reader.is_over and self.stored >= self._submitted

    @property
    def problems(self) -> list[str]:
        """Problems of the lane that concern no particular points, each once."""
        found = [text for one in self._all_accounts() for text in one.problems]
        return [f"{self.lane.name}: {text}" for text in dict.fromkeys(found)]

    def expect(self, written: int, lost: int) -> None:
        """State which points were durable, in files or not.

        Parameters
        ----------
        written : int
            All points before it were durable once.
        lost : int
            Files with points before it may be missing.
        """
        self.expected = written, lost

    def skip(self) -> None:
        """Read nothing: the points of this lane are in the scan file already."""
        self.reader.length = self.stored

    def fill_hole(self, stop: int) -> None:
        """Have all points up to `stop` missing in the next shared segment."""
        self._segment().mark("missing", self._submitted, stop)

    def empty_segment(self, stop: int) -> FinishedSegment:
        """Return the next segment, up to point `stop`, with all its points missing."""
        self._segment().mark("missing", self._submitted, stop)
        (finished,) = self._finish(stop)
        return finished

    @property
    def is_behind(self) -> bool:
        """Whether points that were durable are in no file."""
        return self.stored < self.expected[0]

    def confirm(self) -> None:
        """Check that every segment of its own is in its place, by its identity.

        A file that has not changed since the last time is not read again.

        Raises
        ------
        VerificationError
            If one is gone, or another segment is in its place.
        NameTakenError
            If something else is in its place.
        """
        if self._shared is not None:
            return
        for one, found in zip(self.segments, self._placed, strict=True):
            found.confirm(self._folder / one.name)

    def take(self, arrival: Arrival) -> Iterator[FinishedSegment]:
        """Process an arrival from the lane; yield the segments that it completes.

        Each is open until it is published, and a jump may complete thousands: the
        next one is opened when the caller asks for it.

        Raises
        ------
        UnknownCodecError
            If a declared codec's library is not installed.
        OSError
            If the file system refuses.
        """
        self._last_id = arrival.last_id.decode()
        self._bus_bytes += arrival.nbytes
        yield from self._take(arrival)
        self._reached = max(self._reached, arrival.stop)

    def _take(self, arrival: Arrival) -> Iterable[FinishedSegment]:
        match arrival.kind:
            case Kind.POINTS:
                return self._store_points(arrival)
            case Kind.JUMP:
                self._refuse_loss(arrival.start, min(arrival.stop, self.expected[0]))
                return self._mark("missing", arrival.start, arrival.stop)
            case Kind.BAD:
                return self._reject(arrival)
            case Kind.OVERLAP:
                self._account.note_duplicate(arrival.start, arrival.stop)
                return []
            case Kind.SEAL if self._shared is not None:
                self._shared.is_due = True
                return []
            case Kind.SEAL:
                return self._finish(self.reader.expected)

    def _refuse_loss(self, start: int, stop: int) -> None:
        """Raise if points that were durable are neither in files nor on the bus."""
        start = max(start, self.expected[1])
        if start < stop:
            missing = {self.lane.name: f"{start} to {stop - 1}"}
            raise FilesMissingError(self._uid, str(self._folder), missing)

    def flush(self) -> None:
        """Flush its open file, so that its points survive a kill of this process."""
        if self._own is not None:
            self._own.flush()

    def published(self, finished: FinishedSegment) -> None:
        """Record that a segment is published."""
        start = finished.segment.start
        self.segments.append(SegmentFile(finished.name, start, finished.stop))
        self._accounts.append(finished.segment.account)
        identity = self._uid, self.lane.name, start, finished.stop
        self._placed.append(PlacedSegment((*identity, finished.segment.digest)))

    def end_section(self) -> LaneSection | None:
        """End and return its section of the open shared segment, if it has one."""
        section = self._open
        if not isinstance(section, LaneSection):
            return None
        self._open = None
        self._submitted = section.stop
        section.account.read_up_to(self._last_id)
        self._bus_bytes = 0
        return section

    def published_section(self, name: str, section: LaneSection) -> None:
        """Record that a shared segment is published which has this section."""
        self._note_section(name, section.start, section.stop, section.account)

    def _note_section(
        self, name: str, start: int, stop: int, account: SegmentAccount
    ) -> None:
        """Keep the last one, and one account: a scan has very many sections."""
        self.segments = [SegmentFile(name, start, stop)]
        self._accounts = [SegmentAccount.merged([*self._accounts, account])]

    def replace(
        self, joined: SegmentFile, account: SegmentAccount, digest: int
    ) -> None:
        """Record that a joined segment has the points of published ones."""
        inside = [
            index
            for index, one in enumerate(self.segments)
            if joined.start <= one.start and one.stop <= joined.stop
        ]
        place = slice(inside[0], inside[-1] + 1)
        self.segments[place] = [joined]
        self._accounts[place] = [account]
        identity = self._uid, self.lane.name, joined.start, joined.stop, digest
        self._placed[place] = [PlacedSegment(identity)]

    def discard(self, finished: Iterable[FinishedSegment] = ()) -> None:
        """Close unpublished segments without completing them.

        Parameters
        ----------
        finished : iterable of FinishedSegment, optional
            Unpublished segments of this lane, no longer used by another thread.
        """
        for segment, _ in self._unpublished(finished):
            segment.discard()

    def keep(self, finished: Iterable[FinishedSegment] = ()) -> None:
        """Complete and close unpublished segments, for salvage if the bus is lost.

        Parameters
        ----------
        finished : iterable of FinishedSegment, optional
            As for `discard`.
        """
        for segment, stop in self._unpublished(finished):
            if segment.is_closed:
                continue
            try:
                segment.close(stop)
            except (OSError, RuntimeError, ValueError) as error:
                # Not raised: the bus has these points, and the error that ended the
                # attempt must not be hidden.
                log.warning(LogEvent.NOT_KEPT, lane=self.lane.name, reason=str(error))
                segment.discard()

    def _unpublished(
        self, finished: Iterable[FinishedSegment]
    ) -> Iterator[tuple[OpenSegment, int]]:
        for each in finished:
            yield each.segment, each.stop
        if self._own is not None:
            yield self._own, max(self._reached, self._own.start)

    @property
    def _own(self) -> OpenSegment | None:
        """The open segment that is a file of its own."""
        return None if isinstance(self._open, LaneSection) else self._open

    def late_points(self) -> list[int]:
        """Return the point numbers of the published points of a late lane."""
        points: list[int] = []
        for one in self.segments:
            points += read_late_points(self._folder / one.name)
        return points

    def ledgers(self, *, is_open: bool = False) -> dict[str, ChannelLedger]:
        """Return the ledgers of the lane's channels.

        Unpublished points are missing, unless the scan is open: they are on the bus.
        """
        length = self.reader.length
        return lane_ledgers(
            self.lane,
            self._all_accounts(),
            expected=max(self._submitted, length or 0, self.reader.expected),
            stored=self.stored,
            sealed=length is not None,
            is_open=is_open,
        )

    def _all_accounts(self) -> list[SegmentAccount]:
        """Return the accounts of published segments, and that of the open one."""
        return [*self._accounts, self._account]

    @property
    def _account(self) -> SegmentAccount:
        """The account for new records.

        Never that of a finished segment, which may be published already.
        """
        return self._pending_account if self._open is None else self._open.account

    def _find_published(self) -> None:
        if self._shared is not None:
            for section in self._shared.sections_of(self.lane.name):
                name, start, stop = section.path.name, section.start, section.stop
                self._note_section(name, start, stop, section.account)
            return
        headers = read_headers(self._folder, self._uid, self.lane.name)
        for name, header in headers.items():
            self._placed.append(PlacedSegment(header.identity))
            self.segments.append(SegmentFile(name, header.start, header.stop))
            self._accounts.append(header.account)

    def _segment(self) -> OpenSegment | LaneSection:
        if self._open is None and self._shared is not None:
            start, account = self._submitted, self._pending_account
            self._open = self._shared.section(self.lane, start, account)
            self._pending_account = SegmentAccount()
        elif self._open is None:
            name = segment_file_name(self.lane.name, self._next_number)
            kind = FrameSegment if self.lane.storage is Storage.FILES else ValueSegment
            start = self._submitted
            path = self._make_path(name)
            self._open = kind(path, self._uid, self.lane, start, self._pending_account)
            self._pending_account = SegmentAccount()
        return self._open

    def _store_points(self, arrival: Arrival) -> Iterable[FinishedSegment]:
        entry = arrival.entry
        if entry is not None and entry.is_durable:
            # Not in our files, after which this lane starts.
            self._refuse_loss(arrival.start, arrival.stop)
        if entry is None or entry.is_gap or entry.is_durable:
            return self._mark("missing", arrival.start, arrival.stop)
        try:
            if self._sandbox is not None:
                self._sandbox.check(self.lane, entry)
            self._segment().put(entry)
        except (PayloadError, UnknownCodecError) as error:
            if isinstance(error, UnknownCodecError) and self._declares(entry):
                raise  # The scan is paused until the library is installed.
            self._segment().mark("refused", arrival.start, arrival.stop)
            return self._mark("missing", arrival.start, arrival.stop)
        return self._finish_at(arrival.stop)

    def _declares(self, entry: Entry) -> bool:
        """Whether an entry uses only its channels' declared codecs, or none."""
        known = {channel.codec for channel in self.lane.channels} | {"none"}
        return known.issuperset(entry.codecs)

    def _reject(self, arrival: Arrival) -> Iterable[FinishedSegment]:
        if arrival.start == arrival.stop:
            self._account.note_problem(arrival.reason)
            return []
        kind = "corrupt" if arrival.is_damaged else "refused"
        self._segment().mark(kind, arrival.start, arrival.stop)
        return self._mark("missing", arrival.start, arrival.stop)

    def _mark(self, kind: str, start: int, stop: int) -> Iterator[FinishedSegment]:
        """Record points of one kind, segment by segment."""
        if self._shared is not None:
            self._segment().mark(kind, start, stop)
            length = self.lane.points_per_segment
            self._shared.is_due |= start // length < stop // length
            return
        while start < stop:
            length = self.lane.points_per_segment
            edge = min(stop, (start // length + 1) * length)
            self._segment().mark(kind, start, edge)
            yield from self._finish_at(edge)
            start = edge

    def _finish_at(self, point: int) -> list[FinishedSegment]:
        is_full = is_segment_full(self.lane, self._submitted, point, self._bus_bytes)
        if self._shared is not None:
            self._shared.is_due |= is_full
            return []
        return self._finish(point) if is_full else []

    def _finish(self, stop: int) -> list[FinishedSegment]:
        segment, self._open = self._own, None
        if segment is None:
            return []
        self._submitted = stop
        segment.account.read_up_to(self._last_id)
        name = segment_file_name(self.lane.name, self._next_number)
        self._next_number += 1
        self._bus_bytes = 0
        return [FinishedSegment(segment, name, self.lane.name, stop)]
