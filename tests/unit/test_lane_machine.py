"""A lane from entries to files as a state machine, killed at any moment.

The model is the account of the simulated publisher, made from the protocol's rules; the
writer's own code meets real segment files, but neither Redis nor a clock.
"""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from scanbus.bus.protocol import SEAL_ID
from scanbus.publisher.faulty.expected_ledger import Effect, LaneLedgers, Means
from scanbus.publisher.faulty.raw_entries import (
    FORMS_AT_THE_EDGE,
    FORMS_WITHIN,
    RawEntryBuilder,
)
from scanbus.schemas import ChannelLedger, LaneDescription, Storage
from scanbus.schemas.file_names import parse_segment_file, segment_file_name
from scanbus.writer.model.ledger import SegmentAccount, joined, without
from scanbus.writer.model.scan_contents import SegmentFile
from scanbus.writer.recovery.shared_recovery import accounts_of, find_sections
from scanbus.writer.scan.lane_writer import FinishedSegment, LaneWriter
from scanbus.writer.scan.shared_segments import FinishedShared, SharedSegments
from scanbus.writer.storage.entry_values import parts_of
from scanbus.writer.storage.joined_segment import join_segments
from scanbus.writer.storage.lane_values import LaneValues
from scanbus.writer.storage.segment_header import digest_of_checksums, read_header
from scanbus.writer.storage.shared_sections import OpenFiles, Section
from tests.support.descriptions import UID, channel, lane_of

PER_SEGMENT = 4
Raw = tuple[bytes, list[bytes]]


def value_lane(segment_bytes: int | None = None) -> LaneDescription:
    text = channel("label", dtype="string", max_point_bytes=64)
    lane = lane_of(channel("th"), text, per_segment=PER_SEGMENT, per_chunk=PER_SEGMENT)
    return lane.model_copy(update={"segment_bytes": segment_bytes})


def frame_lane(segment_bytes: int | None = None) -> LaneDescription:
    frames = channel("group", dtype="uint16", shape=(3, 2), codec="bitshuffle-lz4")
    lane = lane_of(frames, per_segment=PER_SEGMENT, per_chunk=2, storage=Storage.FILES)
    return lane.model_copy(update={"segment_bytes": segment_bytes})


def numbers_of(stream_id: bytes) -> tuple[int, int]:
    first, _, second = stream_id.partition(b"-")
    return int(first), int(second)


class Disk:
    """Where one writer after the other makes and publishes the segments of a lane."""

    def __init__(self, lane: LaneDescription, *, is_shared: bool = False) -> None:
        self.lane = lane
        self.is_shared = is_shared
        self.root = Path(tempfile.mkdtemp(prefix="lane-machine-"))
        self.folder = self.root / "final"
        self.folder.mkdir()
        self.n_attempts = 0
        self.pending: list[FinishedSegment | FinishedShared] = []
        self.writer = self._new_writer()

    def _new_writer(self) -> LaneWriter:
        self.n_attempts += 1
        made = self.root / f"attempt{self.n_attempts}"
        made.mkdir()
        self.made = made
        self.shared = SharedSegments(UID, self.folder, lambda name: made / name)
        self.shared.find()
        shared = self.shared if self.is_shared else None
        return LaneWriter(
            UID, self.lane, self.folder, lambda name: made / name, shared=shared
        )

    def kill(self) -> None:
        """Forget all that has no final name."""
        self.writer.discard()
        self.shared.discard([])
        for finished in self.pending:
            finished.segment.discard()
        self.pending.clear()
        self.writer = self._new_writer()

    def read(self, stream: list[Raw], count: int) -> None:
        reader = self.writer.reader
        after = numbers_of(reader.last_id)
        unread = [entry for entry in stream if numbers_of(entry[0]) > after]
        for arrival in reader.take(unread[:count]):
            self.pending += self.writer.take(arrival)
        shared = self.shared.end([self.writer])
        self.pending += [] if shared is None else [shared]

    def publish(self) -> None:
        finished = self.pending.pop(0)
        finished.close()
        finished.segment.verify()
        (self.made / finished.name).rename(self.folder / finished.name)
        if isinstance(finished, FinishedShared):
            self.shared.published(finished)
        else:
            self.writer.published(finished)

    def flush(self) -> None:
        self.writer.flush()
        self.shared.flush()

    def salvaged(self) -> list[Section]:
        """What salvage finds, if the writer is killed and the bus is lost now."""
        made = sorted(self.root.glob("attempt*"))
        found, unusable = find_sections(UID, [self.lane], self.folder, made)
        assert unusable == []
        return found[self.lane.name]

    def join(self, place: slice, removed: Iterable[SegmentFile]) -> None:
        segments = self.writer.segments[place]
        first = parse_segment_file(segments[0].name)
        assert first is not None
        last = segments[-1].next_number - 1
        name = segment_file_name(self.lane.name, first.number, last)
        paths = [self.folder / one.name for one in segments]
        joined = join_segments(self.made / name, UID, self.lane, paths)
        joined.verify()
        joined.path.rename(self.folder / name)
        found = SegmentFile(name, joined.start, joined.stop)
        digest = digest_of_checksums(joined.checksums)
        self.writer.replace(found, joined.account, digest)
        for one in removed:
            (self.folder / one.name).unlink()

    def finish(self, stream: list[Raw]) -> None:
        self.read(stream, len(stream))
        rest = self.shared.end([self.writer], is_due=True)
        self.pending += [] if rest is None else [rest]
        while self.pending:
            self.publish()

    def close(self) -> None:
        self.writer.discard()
        self.shared.discard([])
        for finished in self.pending:
            finished.segment.discard()
        shutil.rmtree(self.root)


class LaneMachine(RuleBasedStateMachine):
    """One publisher that does anything, one writer that is killed at any moment."""

    lane: LaneDescription
    disk: ClassVar[Any] = None

    @initialize(
        lane=st.sampled_from(
            [value_lane(), frame_lane(), value_lane(600), frame_lane(300)]
        ),
        is_shared=st.booleans(),
    )
    def open(self, lane: LaneDescription, is_shared: bool) -> None:
        self.lane = lane
        self.is_shared = is_shared and lane.storage is Storage.VALUES
        self.disk = Disk(lane, is_shared=self.is_shared)  # type: ignore[misc]
        self.expected = LaneLedgers(self.lane)
        self.crafter = RawEntryBuilder(self.lane, seed=3, session=b"one")
        self.other = RawEntryBuilder(self.lane, seed=4, session=b"other")
        self.stream: list[Raw] = []
        self.point = 0
        self.is_sealed = False

    # What the publisher does

    def put(self, entry: Any, effect: Effect) -> bool:
        """Append as Redis does: only ids that are larger than all before."""
        last = numbers_of(self.stream[-1][0]) if self.stream else (0, 0)
        if self.is_sealed or numbers_of(entry.id) <= last:
            return False
        payload = [b"p", bytes(entry.payload)] if len(entry.payload) else []
        self.stream.append((entry.id, [b"h", entry.header, *payload]))
        self.expected.add(effect)
        return True

    def stop_of(self, count: int) -> int:
        boundary = (self.point // PER_SEGMENT + 1) * PER_SEGMENT
        return min(self.point + count, boundary)

    @rule(count=st.integers(1, PER_SEGMENT))
    def send(self, count: int) -> None:
        stop = self.stop_of(count)
        effect = Effect(Means.POINTS, self.point, stop)
        if self.put(self.crafter.good(self.point, stop), effect):
            self.point = stop

    @rule()
    def fill_the_segment(self) -> None:
        self.send(PER_SEGMENT)

    @rule(count=st.integers(1, PER_SEGMENT))
    def declare_a_gap(self, count: int) -> None:
        stop = self.stop_of(count)
        effect = Effect(Means.GAP, self.point, stop)
        if self.put(self.crafter.gap(self.point, stop), effect):
            self.point = stop

    @rule(count=st.integers(1, PER_SEGMENT))
    def declare_a_gap_of_one_channel(self, count: int) -> None:
        stop = self.stop_of(count)
        gaps = {self.lane.channels[-1].name: ((self.point, stop),)}
        effect = Effect(Means.POINTS, self.point, stop, gaps)
        if self.put(self.crafter.good(self.point, stop, gaps), effect):
            self.point = stop

    @rule(count=st.integers(1, 3 * PER_SEGMENT))
    def drop(self, count: int) -> None:
        self.point += count

    @rule(back=st.integers(1, 2 * PER_SEGMENT), count=st.integers(1, PER_SEGMENT))
    def send_again(self, back: int, count: int) -> None:
        first = max(0, self.point - back)
        boundary = (first // PER_SEGMENT + 1) * PER_SEGMENT
        stop = min(first + count, boundary)
        self.put(self.other.good(first, stop), Effect(Means.POINTS, first, stop))
        self.point = max(self.point, stop)

    @rule(count=st.integers(1, PER_SEGMENT), bit=st.integers(0, 10**6))
    def corrupt(self, count: int, bit: int) -> None:
        stop = self.stop_of(count)
        effect = Effect(Means.CORRUPT, self.point, stop)
        if self.put(self.crafter.corrupt(self.point, stop, bit), effect):
            self.point = stop

    @rule(count=st.integers(1, PER_SEGMENT), data=st.data())
    def send_what_cannot_be_stored(self, count: int, data: st.DataObject) -> None:
        stop = self.stop_of(count)
        edge = self.crafter.forms(FORMS_AT_THE_EDGE)
        form = data.draw(st.sampled_from(edge + self.crafter.forms(FORMS_WITHIN)))
        means = Means.REFUSED_AT_THE_EDGE if form in edge else Means.REFUSED_WITHIN
        entry = self.crafter.wrong(form, self.point, stop)
        if self.put(entry, Effect(means, self.point, stop)):
            self.point = stop

    @rule(count=st.integers(1, PER_SEGMENT))
    def cross_a_boundary(self, count: int) -> None:
        stop = (self.point // PER_SEGMENT + 1) * PER_SEGMENT + count
        effect = Effect(Means.REFUSED_AT_THE_EDGE, self.point, stop)
        if self.put(self.crafter.good(self.point, stop), effect):
            self.point = stop

    @rule(more=st.integers(-3, 2 * PER_SEGMENT))
    @precondition(lambda self: self.point > 0 and not self.is_sealed)
    def seal(self, more: int) -> None:
        length = max(0, self.point + more)
        self.put(self.crafter.seal(length), Effect(Means.SEAL, length, length))
        self.is_sealed = True

    # What happens to the writer

    @rule(count=st.integers(1, 4))
    def read(self, count: int) -> None:
        self.disk.read(self.stream, count)

    @rule()
    @precondition(lambda self: self.disk is not None and self.disk.pending)
    def publish(self) -> None:
        self.disk.publish()

    @rule()
    def catch_up(self) -> None:
        self.disk.finish(self.stream)

    @rule()
    def kill(self) -> None:
        self.disk.kill()

    @precondition(lambda self: self.can_join)
    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        """Join neighbours; some of them are removed, as if a writer was killed then."""
        segments = self.disk.writer.segments
        start = data.draw(st.integers(0, len(segments) - 2))
        stop = data.draw(st.integers(start + 2, len(segments)))
        parts = data.draw(st.sets(st.sampled_from(segments[start:stop])))
        self.disk.join(slice(start, stop), parts)

    @property
    def can_join(self) -> bool:
        is_files = self.lane.storage is Storage.FILES
        return is_files and len(self.disk.writer.segments) > 1

    @rule()
    def flush(self) -> None:
        self.disk.flush()
        if self.is_shared:
            self._nothing_flushed_is_lost()

    def _nothing_flushed_is_lost(self) -> None:
        """Salvage has all that was read, in order; what is missing is noted."""
        found = self.disk.salvaged()
        reached = found[-1].stop if found else 0
        assert reached >= self.disk.writer.reader.expected
        with OpenFiles() as files:
            points = list(LaneValues(self.lane, found, files))
        rows = [row for one in points for row in one.rows]
        assert sum(len(one.times) for one in points) == reached
        missing = joined(r for one in accounts_of(found) for r in one.missing)
        stored = [(int(row["first"]), int(row["first"] + row["count"])) for row in rows]
        assert stored == sorted(stored)
        assert joined(stored) == without([(0, reached)] if reached else [], missing)

    # What must hold

    @invariant()
    def segments_follow_each_other_from_the_first_point(self) -> None:
        if self.disk is None or self.is_shared:
            return
        edges = [(one.start, one.stop) for one in self.disk.writer.segments]
        stops = [0, *(stop for _, stop in edges)]
        assert [start for start, _ in edges] == stops[:-1]
        parts = [one.n_parts for one in self.disk.writer.segments]
        assert all(
            0 < stop - start <= PER_SEGMENT * n_parts
            for (start, stop), n_parts in zip(edges, parts, strict=True)
        )
        if self.lane.storage is Storage.FILES:
            assert all(stop % self.lane.points_per_chunk == 0 for _, stop in edges[:-1])
        if self.lane.segment_bytes is None:
            assert all(stop % PER_SEGMENT == 0 for _, stop in edges[:-1])

    @invariant()
    def every_point_is_either_written_or_missing(self) -> None:
        if self.disk is None:
            return
        for ledger in self.disk.writer.ledgers().values():
            missing = [p for start, stop in ledger.missing for p in range(start, stop)]
            assert len(set(missing)) == len(missing)
            assert ledger.written + len(missing) == ledger.expected

    def teardown(self) -> None:
        if self.disk is None:
            return
        undisturbed = Disk(self.lane, is_shared=self.is_shared)
        try:
            self.disk.finish(self.stream)
            undisturbed.finish(self.stream)
            expected = self.expected.ledgers(
                has_ended=True, stored_stop=self.disk.writer.stored
            )
            # Without a seal, what is in no file is on the bus, not missing.
            found = self.disk.writer.ledgers(is_open=not self.is_sealed)
            assert without_names(found) == without_names(expected)
            assert self.disk.writer.is_over == self.is_sealed
            self._compare_with(undisturbed)
        finally:
            self.disk.close()
            undisturbed.close()

    def _compare_with(self, undisturbed: Disk) -> None:
        """The one that was killed came to the same, file by file."""
        ours, theirs = self.disk.writer, undisturbed.writer
        assert ours.problems == theirs.problems
        if self.is_shared:
            assert ours.stored == theirs.stored
            assert all_points(self.disk) == all_points(undisturbed)
            return
        headers = [
            read_header(undisturbed.folder / one.name) for one in theirs.segments
        ]
        for one in ours.segments:
            found = read_header(self.disk.folder / one.name)
            parts, headers = headers[: one.n_parts], headers[one.n_parts :]
            assert (found.start, found.stop) == (parts[0].start, parts[-1].stop)
            merged = SegmentAccount.merged(part.account for part in parts)
            assert found.account.to_json() == merged.to_json()
        assert headers == []


def all_points(disk: Disk) -> list[Any]:
    """All published rows, times and points, however they are divided."""
    disk.shared.find()
    with OpenFiles() as files:
        sections = disk.shared.sections_of(disk.lane.name)
        points = list(LaneValues(disk.lane, sections, files))
    rows = [row for one in points for row in one.rows.tolist()]
    times = b"".join(one.times.tobytes() for one in points)
    blocks = [
        b"".join(
            part.tobytes()
            for one in points
            for part in parts_of(one.blocks[place])[-1:]
        )
        for place in range(len(disk.lane.channels))
    ]
    return [rows, times, blocks]


def without_names(ledgers: dict[str, ChannelLedger]) -> dict[str, dict[str, Any]]:
    """As plain values: what differs is short to read."""
    return {name: ledger.model_dump() for name, ledger in ledgers.items()}


LaneMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None
)
TestLaneMachine = LaneMachine.TestCase


def raw(entry: Any) -> Raw:
    return entry.id, [b"h", entry.header, b"p", bytes(entry.payload)]


def test_what_comes_between_two_segments_is_not_lost_with_the_writer() -> None:
    crafter = RawEntryBuilder(value_lane(), seed=3)
    again = crafter.good(2, PER_SEGMENT)
    stream = [raw(crafter.good(0, PER_SEGMENT)), raw(again)]
    disk = Disk(value_lane())
    try:
        disk.finish(stream)
        disk.kill()
        stream.append((b"3-0", [b"h", b"nonsense"]))
        disk.finish(stream)
        disk.kill()
        disk.finish([*stream, raw(crafter.good(PER_SEGMENT, 2 * PER_SEGMENT))])
        disk.kill()
        assert disk.writer.ledgers()["th"].duplicate == ((2, PER_SEGMENT),)
        assert disk.writer.problems == ["group: unpack(b) received extra data."]
    finally:
        disk.close()


def test_a_whole_chunk_that_declares_another_size_is_refused() -> None:
    crafter = RawEntryBuilder(frame_lane(), seed=3)
    disk = Disk(frame_lane())
    try:
        disk.finish([raw(crafter.wrong("shape", 0, 2)), raw(crafter.good(2, 4))])
        ledger = disk.writer.ledgers()["group"]
        assert (ledger.refused, ledger.missing) == (((0, 2),), ((0, 2),))
    finally:
        disk.close()


def test_a_segment_of_values_ends_with_the_entry_that_makes_it_heavy() -> None:
    crafter = RawEntryBuilder(value_lane(), seed=3)
    entries = [raw(crafter.good(point, point + 1)) for point in range(PER_SEGMENT)]
    two = 2 * 256 + sum(len(fields[-1]) for _, fields in entries[:2])
    disk = Disk(value_lane(two))
    try:
        disk.finish(entries)
        stops = [one.stop for one in disk.writer.segments]
    finally:
        disk.close()
    assert stops == [2, 4]


def test_the_seal_is_the_largest_id() -> None:
    """The machine orders ids as Redis does."""
    assert numbers_of(SEAL_ID) > (2**48, 2**48)
