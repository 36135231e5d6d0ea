"""Segments that lanes of small values share: written, damaged, cut off, overlapping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanbus.bus.protocol import Arrival, Kind, Variable
from scanbus.schemas import LaneDescription
from scanbus.schemas.errors import NameTakenError, VerificationError
from scanbus.schemas.file_names import shared_segment_name
from scanbus.writer.check import check_files
from scanbus.writer.model.ledger import SegmentAccount
from scanbus.writer.recovery.shared_recovery import accounts_of, find_sections
from scanbus.writer.scan.lane_writer import FinishedSegment, LaneWriter
from scanbus.writer.scan.shared_segments import SharedSegments
from scanbus.writer.storage.entry_values import unpacked_checksum
from scanbus.writer.storage.lane_values import LaneValues
from scanbus.writer.storage.shared_sections import (
    OpenFiles,
    Section,
    read_shared_segment,
    recover_shared_segment,
)
from scanbus.writer.storage.shared_segment import SharedSegment
from tests.support.written_scans import (
    UID,
    entries_of,
    frame_lane,
    points_of,
    value_lane,
)

N_POINTS = 30


def other_lane() -> LaneDescription:
    lane = value_lane()
    channels = tuple(
        channel.model_copy(update={"group": "other"}) for channel in lane.channels
    )
    return lane.model_copy(update={"name": "other", "channels": channels})


def fill(
    segment: SharedSegment,
    lane: LaneDescription,
    start: int = 0,
    stop: int = N_POINTS,
    *,
    flush: bool = True,
) -> None:
    section = segment.section(lane, start, SegmentAccount())
    for entry in entries_of(lane, N_POINTS):
        if start <= entry.first < stop:
            section.put(entry)
            if flush:
                segment.flush()


def written(
    folder: Path, number: int = 0, start: int = 0, stop: int = N_POINTS
) -> Path:
    path = folder / shared_segment_name(number)
    segment = SharedSegment(path, UID)
    for lane in (value_lane(), other_lane()):
        fill(segment, lane, start, stop)
    segment.close()
    segment.verify()
    return path


def points(lane: LaneDescription, sections: list[Section]) -> list[list[Any]]:
    """Return the points of each channel, as lists."""
    with OpenFiles() as files:
        found = list(LaneValues(lane, sections, files))
    for one in found:
        assert len(one.times) == len(one.blocks[0])
        first = int(one.rows["first"][0]) if len(one.rows) else 0
        for row in one.rows:
            place, count = int(row["first"]) - first, int(row["count"])
            inside = [cut(block, place, place + count) for block in one.blocks]
            assert unpacked_checksum(inside) == int(row["checksum"])
    return [
        [point for one in found for point in plain(one.blocks[place])]
        for place in range(len(lane.channels))
    ]


def cut(block: Any, start: int, stop: int) -> Any:
    if not isinstance(block, Variable):
        return block[start:stop]
    parts = block.split()[start:stop]
    values = np.concatenate(parts) if parts else block.values[:0]
    return Variable(block.lengths[start:stop], values)


def plain(block: Any) -> list[Any]:
    parts = block.split() if isinstance(block, Variable) else block
    return [np.asarray(part).tolist() for part in parts]


def expected(lane: LaneDescription, start: int = 0, stop: int = N_POINTS) -> Any:
    found = []
    for channel in lane.channels:
        values = points_of(channel, start, stop - start)
        if channel.is_string:
            values = [list(text.encode()) for text in values]
        found.append([np.asarray(value).tolist() for value in values])
    return found


def test_each_lane_reads_back_from_its_section(tmp_path: Path) -> None:
    found = read_shared_segment(written(tmp_path))
    assert found.uid == UID
    for lane in (value_lane(), other_lane()):
        section = found.sections[lane.name]
        assert (section.start, section.stop) == (0, N_POINTS)
        assert points(lane, [section]) == expected(lane)


def test_a_lane_without_a_point_has_no_section(tmp_path: Path) -> None:
    segment = SharedSegment(tmp_path / shared_segment_name(0), UID)
    segment.section(value_lane(), 0, SegmentAccount())
    fill(segment, other_lane())
    segment.close()
    found = read_shared_segment(tmp_path / shared_segment_name(0))
    assert [*found.sections] == ["other"]


def test_a_jump_over_any_number_of_points_is_short(tmp_path: Path) -> None:
    path = tmp_path / shared_segment_name(0)
    segment = SharedSegment(path, UID)
    lane = value_lane()
    section = segment.section(lane, 0, SegmentAccount())
    section.put(entries_of(lane, 3)[0])
    section.mark("missing", 3, 10**7)
    segment.close()
    assert path.stat().st_size < 10_000
    found = read_shared_segment(path).sections[lane.name]
    assert found.stop == 10**7
    assert found.account.missing == [(3, 10**7)]


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_any_flipped_bit_is_found_before_it_is_published(
    tmp_path: Path, place: int
) -> None:
    path = tmp_path / shared_segment_name(0)
    segment = SharedSegment(path, UID)
    fill(segment, value_lane())
    segment.close()
    flip(path, place)
    with pytest.raises(VerificationError, match="not what was written"):
        segment.verify()


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_the_check_finds_any_flipped_bit_afterwards(tmp_path: Path, place: int) -> None:
    path = written(tmp_path)
    assert check_files([path]).ok
    flip(path, place)
    assert not check_files([path]).ok


def flip(path: Path, percent: int) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * percent // 100] ^= 4
    path.write_bytes(content)


def test_a_file_that_was_cut_off_gives_its_whole_records(tmp_path: Path) -> None:
    """Whatever byte a killed writer came to, and nothing that was not written."""
    lane = value_lane()
    content = written(tmp_path).read_bytes()
    path = tmp_path / shared_segment_name(7)
    most = 0
    for size in range(100, len(content), 61):
        path.write_bytes(content[:size])
        with pytest.raises(NameTakenError):
            read_shared_segment(path)
        found = [
            one
            for one in recover_shared_segment(path, UID)
            if one.description == lane.model_dump_json()
        ]
        for section in found:
            assert section.stop >= most
            most = section.stop
            assert points(lane, [section]) == expected(lane, 0, section.stop)
            assert section.account.missing == []
    assert most == N_POINTS


def test_points_of_a_damaged_record_are_corrupt_and_no_others(tmp_path: Path) -> None:
    lane = value_lane()
    path = written(tmp_path)
    with OpenFiles() as files:
        record = files.places(read_shared_segment(path).sections[lane.name])[2]
    content = bytearray(path.read_bytes())
    content[record.offset + record.n_bytes - 1] ^= 1
    path.write_bytes(content)

    (found, *_) = recover_shared_segment(path, UID)

    hit = (record.first, record.first + record.count)
    assert found.account.missing == found.account.corrupt == [hit]
    values = points(lane, [found])[0]
    wanted = expected(lane)[0]
    assert values[: hit[0]] == wanted[: hit[0]]
    assert np.isnan(values[hit[0] : hit[1]]).all()
    assert values[hit[1] :] == wanted[hit[1] :]


def test_another_scan_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(VerificationError, match="another scan"):
        recover_shared_segment(path, "fedcba9876543210")
    with pytest.raises(NameTakenError, match=UID):
        SharedSegments("fedcba9876543210", tmp_path, tmp_path.joinpath).find()


@pytest.mark.parametrize("start", [9, 12, 18])
def test_sections_that_overlap_give_each_point_once(tmp_path: Path, start: int) -> None:
    """As when files were lost and their points written again up to anywhere."""
    written(tmp_path, 0, 0, 18)
    written(tmp_path, 1, start, N_POINTS)
    shared = SharedSegments(UID, tmp_path, tmp_path.joinpath)
    shared.find()
    for lane in (value_lane(), other_lane()):
        sections = shared.sections_of(lane.name)
        assert points(lane, sections) == expected(lane)


def test_an_entry_that_a_piece_cuts_has_a_checksum_of_its_own(tmp_path: Path) -> None:
    lane = value_lane()
    section = read_shared_segment(written(tmp_path)).sections[lane.name]
    for start, stop in ((1, 29), (2, 4), (4, 5), (7, 14)):
        piece = section.clipped(start, stop)
        assert points(lane, [piece])[0][start:] == expected(lane, start, stop)[0]


def test_behind_a_hole_nothing_counts_until_it_is_filled(tmp_path: Path) -> None:
    written(tmp_path, 0, 0, 9)
    written(tmp_path, 1, 15, N_POINTS)
    shared = SharedSegments(UID, tmp_path, tmp_path.joinpath)
    shared.find()
    (section,) = shared.sections_of("fast")
    assert (section.start, section.stop) == (0, 9)
    (behind,) = shared.sections_behind("fast", 9)
    assert (behind.start, behind.stop) == (15, N_POINTS)


def test_a_segment_that_is_replaced_or_removed_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path)
    shared = SharedSegments(UID, tmp_path, tmp_path.joinpath)
    shared.find()
    shared.confirm()
    path.unlink()
    with pytest.raises(VerificationError, match="not there any more"):
        shared.confirm()
    written(tmp_path, 0, 0, 9)
    with pytest.raises(VerificationError, match="another segment"):
        shared.confirm()


def test_salvage_joins_what_several_attempts_have_flushed(tmp_path: Path) -> None:
    """One published [0, 9); one flushed up to 21; another began at 24."""
    lane = value_lane()
    folder, first, second = (tmp_path / name for name in ("scan", "first", "second"))
    for each in (folder, first, second):
        each.mkdir()
    written(folder, 0, 0, 9)
    for made, start, stop in ((first, 0, 21), (second, 24, 27)):
        segment = SharedSegment(made / shared_segment_name(0), UID)
        fill(segment, lane, start, stop)
        segment.discard()

    found, unusable = find_sections(UID, [lane], folder, [first, second])

    assert unusable == []
    sections = found[lane.name]
    assert [one.path.parent.name for one in sections][-1] == "second"
    assert [r for one in accounts_of(sections) for r in one.missing] == [(21, 24)]
    values = points(lane, sections)[0]
    wanted = expected(lane)[0]
    assert values[:21] == wanted[:21]
    assert np.isnan(values[21:24]).all()
    assert values[24:] == wanted[24:27]


def test_one_unusable_file_does_not_hide_the_others(tmp_path: Path) -> None:
    folder, made = tmp_path / "scan", tmp_path / "made"
    folder.mkdir()
    made.mkdir()
    written(made, 0, 0, 9)
    (made / shared_segment_name(1)).write_bytes(b"nonsense")
    (made / shared_segment_name(2)).touch()
    found, (sentence,) = find_sections(UID, [value_lane()], folder, [made])
    assert "cannot be used" in sentence or "no record" in sentence
    assert found["fast"][-1].stop == 9


def test_a_shared_segment_ends_without_those_of_other_lanes(tmp_path: Path) -> None:
    """A detector's segment goes on, with all its points, when the shared one ends."""
    folder, made = tmp_path / "scan", tmp_path / "made"
    folder.mkdir()
    made.mkdir()
    shared = SharedSegments(UID, folder, made.joinpath)
    detector, values = frame_lane(), value_lane()
    eiger = LaneWriter(UID, detector, folder, made.joinpath)
    fast = LaneWriter(UID, values, folder, made.joinpath, shared=shared)
    taken: list[FinishedSegment] = []
    frames, numbers = entries_of(detector, 12), entries_of(values, 12)
    for number in range(3):
        for lane, entries in ((fast, numbers), (eiger, frames)):
            entry = entries[number]
            arrival = Arrival(Kind.POINTS, entry.first, entry.stop, entry)
            taken += lane.take(arrival)
        shared.is_due = True
        finished = shared.end([eiger, fast])
        assert finished is not None
        assert [lane.lane.name for lane, _ in finished.sections] == ["fast"]
    (segment,) = taken
    assert (segment.lane, segment.stop) == ("eiger", 12)
    segment.close()
    segment.segment.verify()
