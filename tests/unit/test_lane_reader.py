"""A lane is read in order; what is missing, twice or damaged is named, once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.bus.protocol import MAX_COUNT, Arrival, Kind, LaneReader
from scanbus.schemas import Storage
from tests.support.descriptions import UID, bytes_lane, channel, lane_of
from tests.support.raw_entries import gap, header_of, points, seal

Short = tuple[str, int, int]


def short(arrivals: list[Arrival]) -> list[Short]:
    return [(one.kind.value, one.start, one.stop) for one in arrivals]


def read(*entries: Any, start: int = 0) -> list[Short]:
    return short(LaneReader(UID, bytes_lane(), start).take(entries))


def damaged(first: int, count: int) -> tuple[bytes, list[bytes]]:
    stream_id, fields = points(first, count)
    return stream_id, [*fields[:3], b"?" * count]


def test_consecutive_entries_are_points() -> None:
    reader = LaneReader(UID, bytes_lane())
    arrivals = reader.take([points(0, 50), gap(50, 50), seal(100)])

    assert short(arrivals) == [
        ("points", 0, 50),
        ("points", 50, 100),
        ("seal", 100, 100),
    ]
    assert arrivals[1].entry is not None
    assert arrivals[1].entry.is_gap
    assert (reader.expected, reader.length, reader.is_over) == (100, 100, True)


def test_reading_goes_on_after_the_last_entry_that_was_taken() -> None:
    reader = LaneReader(UID, bytes_lane(), 20)
    assert reader.last_id == b"20-0"
    reader.take([points(20, 5)])
    assert (reader.last_id, reader.expected) == (b"20-5", 25)


def test_a_jump_is_named_before_what_follows_it() -> None:
    assert read(points(0, 10), points(30, 10)) == [
        ("points", 0, 10),
        ("jump", 10, 30),
        ("points", 30, 40),
    ]


def test_a_trimmed_beginning_is_a_jump() -> None:
    assert read(points(30, 10)) == [("jump", 0, 30), ("points", 30, 40)]


def test_overlap_is_never_taken_as_points() -> None:
    """Redis takes 0-50, 0-100 and 50-50, one after the other."""
    assert read(points(0, 50), points(0, 100), points(50, 50)) == [
        ("points", 0, 50),
        ("overlap", 0, 50),
        ("points", 50, 100),
    ]
    assert read(points(0, 50), points(20, 10), points(20, 40)) == [
        ("points", 0, 50),
        ("overlap", 20, 30),
        ("overlap", 20, 50),
    ]


def test_a_seal_behind_missing_points_names_them_first() -> None:
    assert read(points(0, 10), seal(30)) == [
        ("points", 0, 10),
        ("jump", 10, 30),
        ("seal", 30, 30),
    ]


def test_a_seal_with_fewer_points_than_came_is_called_bad() -> None:
    reader = LaneReader(UID, bytes_lane())
    arrivals = reader.take([points(0, 10), seal(5)])

    assert short(arrivals) == [("points", 0, 10), ("bad", 10, 10), ("seal", 5, 5)]
    assert arrivals[1].reason == "sealed at 5 points, after 10 came"
    assert reader.length == 5


def test_a_bad_entry_takes_the_points_that_its_id_names() -> None:
    reader = LaneReader(UID, bytes_lane())
    arrivals = reader.take([points(0, 10), damaged(10, 10), points(20, 1)])

    assert short(arrivals) == [
        ("points", 0, 10),
        ("bad", 10, 20),
        ("points", 20, 21),
    ]
    assert "damaged" in arrivals[1].reason


def test_a_bad_entry_behind_missing_points_is_missing_with_them() -> None:
    assert read(points(0, 10), damaged(20, 10), points(30, 1)) == [
        ("points", 0, 10),
        ("bad", 10, 10),
        ("jump", 10, 30),
        ("points", 30, 31),
    ]


@pytest.mark.parametrize(
    "stream_id",
    [
        b"5-0",
        b"5-20",
        b"95-10",
        b"18446744073709551615-1",
        b"10-18446744073709551615",
    ],
)
def test_a_bad_entry_whose_id_cannot_be_takes_no_points(stream_id: bytes) -> None:
    """Else one entry with a large number in its id would swallow the lane."""
    reader = LaneReader(UID, bytes_lane())
    reader.take([points(0, 10)])
    arrivals = reader.take([(stream_id, [b"h", b"nonsense"])])

    assert short(arrivals) == [("bad", 10, 10)]
    assert reader.expected == 10
    assert reader.last_id == stream_id


def test_a_bad_seal_leaves_the_lane_open() -> None:
    reader = LaneReader(UID, bytes_lane())
    arrivals = reader.take([(seal(1)[0], [b"h", b"nonsense"])])
    assert short(arrivals) == [("bad", 0, 0)]
    assert not reader.is_over


@pytest.mark.parametrize("fields", [[], [b"h"], [b"x", b"y"], [b"oversize", b"9"]])
def test_entries_without_the_fields_of_one_are_bad(fields: list[bytes]) -> None:
    assert read((b"0-5", fields)) == [("bad", 0, 5)]


def test_frames_are_asked_for_by_number_so_that_they_fit() -> None:
    frame = channel("f", "f", dtype="uint8", shape=(2**20, 8))
    lane = lane_of(frame, per_chunk=1, storage=Storage.FILES)
    reader = LaneReader(UID, lane)

    assert reader.count_for(64 * 2**20) == 7
    assert reader.count_for(1) == 1
    assert LaneReader(UID, bytes_lane()).count_for(2**40) == MAX_COUNT


def test_the_size_of_the_last_entries_says_nothing_about_the_next() -> None:
    """Small entries while Redis answers quickly, gathered ones after it did not."""
    reader = LaneReader(UID, bytes_lane())
    before = reader.count_for(64 * 2**20)
    reader.take([points(number, 1) for number in range(100)])
    assert reader.count_for(64 * 2**20) == before < 64


pieces = st.tuples(
    st.sampled_from(["points", "gap", "bad", "nonsense"]),
    st.integers(0, 220),
    st.integers(1, 120),
)


def raw_of(kind: str, first: int, count: int) -> tuple[bytes, list[bytes]]:
    if kind == "gap":
        return gap(first, count)
    if kind == "bad":
        return damaged(first, count)
    if kind == "nonsense":
        return b"%d-%d" % (first, count), [b"h", header_of(b"", checksum=1)]
    return points(first, count)


@given(st.lists(pieces, max_size=12), st.integers(0, 300), st.integers(1, 5))
def test_every_point_up_to_the_seal_is_accounted_for_exactly_once(
    found: list[tuple[str, int, int]], length: int, per_call: int
) -> None:
    """Whatever stands in the stream, in any calls: as Redis would order it."""
    ordered = sorted(found, key=lambda piece: (piece[1], piece[2]))
    entries = [raw_of(*piece) for piece in ordered] + [seal(length)]
    reader = LaneReader(UID, bytes_lane())

    arrivals: list[Arrival] = []
    for at in range(0, len(entries), per_call):
        arrivals += reader.take(entries[at : at + per_call])

    accounted = [
        point
        for one in arrivals
        if one.kind in {Kind.POINTS, Kind.JUMP, Kind.BAD}
        for point in range(one.start, one.stop)
    ]
    assert accounted == list(range(max(length, reader.expected)))
    assert arrivals[-1].kind is Kind.SEAL
    assert reader.length == length
    too_short = [one for one in arrivals if "sealed at" in one.reason]
    assert bool(too_short) == (length < reader.expected)
    for one in arrivals:
        assert (one.entry is None) == (one.kind in {Kind.JUMP, Kind.BAD})
