"""Entries come back as they were packed; anything else is a BadEntryError."""

import struct
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scanbus.bus.codecs import find_codec
from scanbus.bus.protocol import (
    MAX_HEADER_BYTES,
    SEAL_ID,
    Entry,
    checksum_of,
    entry_id,
    pack_header,
    parse_entry,
)
from scanbus.schemas import MAX_POINTS, LaneDescription, Storage
from scanbus.schemas.errors import BadEntryError
from tests.support.descriptions import bytes_lane, channel, lane_of
from tests.support.raw_entries import SESSION, header_of

LANE = bytes_lane()
MIXED = lane_of(
    channel("x", dtype="float64"),
    channel("s", dtype="string", max_point_bytes=2**20),
    channel("m", dtype="uint16", shape=(3,)),
)


def parse(
    stream_id: bytes,
    header: dict[str, Any] | bytes,
    payload: bytes = b"",
    lane: LaneDescription = LANE,
) -> Entry:
    packed = header if isinstance(header, bytes) else msgpack.packb(header)
    fields = {b"h": packed, b"p": payload} if payload else {b"h": packed}
    return parse_entry(lane, stream_id, fields)


def good(payload: bytes, **more: Any) -> dict[str, Any]:
    return {"session": SESSION, "checksum": checksum_of(payload), **more}


@given(
    first=st.integers(0, 99),
    count=st.integers(1, 100),
    times=st.none() | st.tuples(st.floats(-1e10, 1e10), st.floats(-1e10, 1e10)),
    with_gap=st.booleans(),
)
def test_an_entry_comes_back_as_it_was_packed(
    first: int, count: int, times: tuple[float, float] | None, with_gap: bool
) -> None:
    count = min(count, 100 - first)
    payload = bytes(number % 256 for number in range(count))
    gaps = {"a": ((first, first + 1),)} if with_gap else {}
    header = header_of(payload, ends=times, gaps=gaps)

    entry = parse(entry_id(first, count), header, payload)

    assert (entry.first, entry.count, entry.stop) == (first, count, first + count)
    assert (entry.session, entry.checksum) == (SESSION, checksum_of(payload))
    assert bytes(entry.block(0)) == payload
    assert entry.ends == times
    assert len(entry.times) == count
    assert np.isnan(entry.times).all() == (times is None)
    assert dict(entry.gaps) == gaps
    flags = (entry.is_gap, entry.is_durable, entry.is_padded, entry.is_seal)
    assert flags == (False,) * 4


def test_times_follow_the_blocks_and_have_a_checksum_of_their_own() -> None:
    block = bytes(range(3))
    times = struct.pack("<3d", 100.0, 0.5, float("nan"))
    header = header_of(block, times_checksum=checksum_of(times))

    entry = parse(b"0-3", header, block + times)

    assert bytes(entry.block(0)) == bytes(entry.payload) == block
    assert entry.checksum == checksum_of(block)
    assert entry.times.tobytes() == times


@pytest.mark.parametrize("bit", [0, 63, 24 * 8 - 1])
def test_a_single_flipped_bit_of_the_times_is_seen(bit: int) -> None:
    times = bytearray(struct.pack("<3d", 100.0, 0.5, 7.0))
    header = header_of(b"abc", times_checksum=checksum_of(bytes(times)))
    times[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadEntryError, match="times") as caught:
        parse(b"0-3", header, b"abc" + bytes(times))
    assert caught.value.is_damaged


def test_more_times_than_the_payload_has_bytes_are_refused_unread() -> None:
    header = header_of(b"", times_checksum=checksum_of(b"12345678"))
    with pytest.raises(BadEntryError, match="too few for 99 times"):
        parse(b"0-99", header, b"12345678")


def test_the_times_of_a_gap_take_no_memory() -> None:
    entry = parse(b"50-9999999999", header_of(is_durable=True))
    assert len(entry.times) == 9_999_999_999
    assert np.isnan(entry.times[-1])


def test_the_blocks_of_a_group_stand_one_after_the_other() -> None:
    blocks = (struct.pack("<2d", 1, 2), struct.pack("<2I", 1, 2) + b"abb", bytes(12))
    payload = b"".join(blocks)
    sizes = tuple(len(block) for block in blocks)

    entry = parse(b"4-2", header_of(payload, sizes=sizes), payload, MIXED)

    assert tuple(bytes(entry.block(index)) for index in range(3)) == blocks
    assert entry.codecs == ("none",) * 3


def test_each_block_may_have_its_own_codec() -> None:
    lane = lane_of(channel("a", dtype="uint8"), channel("b", dtype="uint8"))
    packed = bytes(find_codec("zstd").encode(np.zeros(100, "u1")))
    payload = bytes(100) + packed
    header = header_of(payload, sizes=(100, len(packed)), codecs=("none", "zstd"))

    assert parse(b"0-100", header, payload, lane).codecs == ("none", "zstd")


def test_a_gap_has_no_payload_and_no_codec() -> None:
    entry = parse(b"7-3", header_of(is_gap=True))
    assert entry.is_gap
    assert (entry.first, entry.stop, entry.codecs, entry.sizes) == (7, 10, (), ())


def test_a_stand_in_for_durable_points_may_cross_segments() -> None:
    entry = parse(b"50-5000", header_of(is_durable=True))
    assert entry.is_durable
    assert entry.stop == 5050


def test_the_seal_carries_the_length() -> None:
    entry = parse(SEAL_ID, header_of(length=1234))
    assert entry.is_seal
    assert (entry.first, entry.count) == (1234, 0)


def test_the_last_chunk_may_be_padded() -> None:
    entry = parse(b"30-4", header_of(bytes(10), is_padded=True), bytes(10))
    assert entry.is_padded
    assert (entry.first, entry.stop, len(entry.payload)) == (30, 34, 10)


def test_unknown_words_in_a_header_are_ignored() -> None:
    header = msgpack.packb(good(b"x", colour="blue", later=[1, {"a": None}]))
    assert parse(b"0-1", header, b"x").count == 1


def test_many_texts_that_could_be_long_but_are_short_fit_an_entry() -> None:
    """The declared maximum bounds each point; the block is as large as it is."""
    lane = lane_of(
        channel("s", dtype="string", max_point_bytes=2**24), per_segment=1000
    )
    payload = struct.pack("<1000I", *[1] * 1000) + b"x" * 1000
    assert parse(b"0-1000", header_of(payload), payload, lane).count == 1000


@pytest.mark.parametrize(
    ("stream_id", "reason"),
    [
        (b"5-0", "out of range"),
        (b"%d-1" % MAX_POINTS, "out of range"),
        (b"0-18446744073709551615", "out of range"),
        (b"18446744073709551615-1", "out of range"),
        (b"99-2", "boundary of a segment"),
        (b"100-101", "boundary of a segment"),
        (b"", "FIRST-COUNT"),
        (b"5", "FIRST-COUNT"),
        (b"-1-1", "FIRST-COUNT"),
        (b"1-1\n", "FIRST-COUNT"),
        (b"9" * 5000 + b"-1", "FIRST-COUNT"),
        (b"\xff-1", "FIRST-COUNT"),
        ("\u0661-\u0661".encode(), "FIRST-COUNT"),
    ],
)
def test_an_id_that_cannot_be_is_refused(stream_id: bytes, reason: str) -> None:
    with pytest.raises(BadEntryError, match=reason):
        parse(stream_id, good(b"x"), b"x")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"session": None}, "no valid session"),
        ({"session": "text"}, "no valid session"),
        ({"session": b""}, "no valid session"),
        ({"session": b"x" * 65}, "no valid session"),
        ({"checksum": None}, "no valid checksum"),
        ({"checksum": -1}, "no valid checksum"),
        ({"checksum": True}, "no valid checksum"),
        ({"checksum": 1.5}, "no valid checksum"),
        ({"checksum": 0}, "damaged in transit"),
        ({"codecs": "gzip"}, "unknown codec 'gzip'"),
        ({"codecs": "x" * 10**5}, "unknown codec 'x{40}'"),
        ({"codecs": ["none", "none"]}, "2 codecs for 1"),
        ({"codecs": [["none"]]}, "unknown codec"),
        ({"codecs": b"n"}, "unknown codec"),
        ({"codecs": 7}, "entry 0-1: "),
        ({"sizes": []}, "0 blocks for 1"),
        ({"sizes": [1, 1]}, "2 blocks for 1"),
        ({"sizes": [2]}, "payload of 1"),
        ({"sizes": [2**64 - 1]}, "payload of 1"),
        ({"sizes": [-1]}, "not a number of bytes"),
        ({"sizes": [True]}, "not a number of bytes"),
        ({"sizes": [1.0]}, "not a number of bytes"),
        ({"sizes": "1"}, "not a number of bytes"),
        ({"sizes": 1}, "entry 0-1: "),
        ({"times": 1.0}, "times"),
        ({"times": [1.0]}, "times"),
        ({"times": ["1", "2"]}, "seconds"),
        ({"times": [None, 1.0]}, "seconds"),
        ({"times_checksum": "1"}, "checksum of times"),
        ({"times_checksum": True}, "checksum of times"),
        ({"times_checksum": 1, "times": [1.0, 2.0]}, "times twice"),
        ({"times_checksum": 1}, "too few for 1 times"),
        ({"times": {"a": 1, "b": 2}}, "times"),
        ({"gaps": []}, "not a map"),
        ({"gaps": "a"}, "not a map"),
        ({"gaps": {"b": [[0, 1]]}}, "does not have"),
        ({"gaps": {b"a": [[0, 1]]}}, "does not have"),
        ({"gaps": {"a": 5}}, "entry 0-1: "),
        ({"gaps": {"a": [5]}}, "entry 0-1: "),
        ({"gaps": {"a": [[0, 1, 2]]}}, "entry 0-1: "),
        ({"gaps": {"a": ["ab"]}}, "ascending"),
        ({"gaps": {"a": [[1, 0]]}}, "ascending"),
        ({"gaps": {"a": [[0.0, 1.0]]}}, "ascending"),
        ({"gaps": {"a": [[0, 2]]}}, "outside"),
        ({"gaps": {"a": [[-1, 0]]}}, "outside"),
        ({"padded": True}, "10 points"),
        ({"gap": True}, "gap has a payload"),
        ({"durable": True}, "entry for durable points has a payload"),
    ],
)
def test_a_header_that_cannot_be_is_refused(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadEntryError, match=reason):
        parse(b"0-1", good(b"x", **changes), b"x")


@pytest.mark.parametrize(
    ("stream_id", "count"), [(b"31-4", 10), (b"30-11", 10), (b"95-5", 10)]
)
def test_a_padded_chunk_begins_where_a_chunk_begins(
    stream_id: bytes, count: int
) -> None:
    with pytest.raises(BadEntryError, match="not begin where a chunk begins"):
        parse(stream_id, header_of(bytes(count), is_padded=True), bytes(count))


def test_variable_points_are_neither_packed_nor_padded() -> None:
    payload = struct.pack("<I", 0)
    lane = lane_of(channel("s", dtype="string", max_point_bytes=9))
    for changes, reason in (
        ({"codecs": ("zstd",)}, "cannot be packed"),
        ({"is_padded": True}, "variable points"),
    ):
        with pytest.raises(BadEntryError, match=reason):
            parse(b"0-1", header_of(payload, **changes), payload, lane)
    with pytest.raises(BadEntryError, match="too few for"):
        parse(b"0-2", header_of(payload), payload, lane)


def test_an_entry_that_would_unpack_to_too_much_is_refused() -> None:
    """Nothing is allocated by what an id or a codec claims."""
    lane = lane_of(
        channel("f", dtype="float64", shape=(1000, 1000)),
        per_segment=2**20,
        per_chunk=32,
        storage=Storage.FILES,
    )
    header = header_of(b"x", codecs=("zstd",))
    with pytest.raises(BadEntryError, match="unpacks to more"):
        parse(b"0-%d" % 2**20, header, b"x", lane)


@pytest.mark.parametrize(
    ("storage", "per_segment"), [(Storage.FILES, 2**40), (Storage.VALUES, 2**20)]
)
def test_segments_that_no_writer_could_hold_are_refused(
    storage: Storage, per_segment: int
) -> None:
    with pytest.raises(ValueError, match="the limit"):
        lane_of(
            channel("f", dtype="float64", shape=(1000,)),
            per_segment=per_segment,
            per_chunk=1,
            storage=storage,
        )


@pytest.mark.parametrize("length", [None, -1, 1.0, True, "5", MAX_POINTS + 1])
def test_a_seal_without_a_length_is_refused(length: object) -> None:
    with pytest.raises(BadEntryError, match="no valid length"):
        parse(SEAL_ID, good(b"", length=length))


def nested(levels: int, opening: bytes) -> bytes:
    return opening * levels + b"\xc0"


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        b"\xc0",
        b"\x01",
        b"\x90",
        nested(5000, b"\x91"),
        nested(500_000, b"\x91"),
        b"\x81\xa1a" + nested(50_000, b"\x91"),
        nested(5000, b"\x81\xa1a"),
        b"\x81\x91\x01\x01",  # A list as a key.
        b"\x81\x01\x01",  # A number as a key.
        b"\x81\xa1\xff\x01",  # A key that is no UTF-8.
        b"\x81\xa1a\xdd\xff\xff\xff\xff",  # A list of four billion.
        b"\x81\xa1a\xc6\xff\xff\xff\xff",  # Four gigabytes.
        b"\x81\xa1a\xdb\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa1a\xd6\xff\x00\x00\x00\x00",  # A time stamp.
        b"\x81\xa1a\xc7\x0c\xff" + b"\xff" * 12,  # One that cannot be.
        b"\x80\x80",
        msgpack.packb(good(b"x")) + b"x",
        b"\x00" * (MAX_HEADER_BYTES + 1),
    ],
)
def test_what_is_no_header_is_refused(packed: bytes) -> None:
    for stream_id in (b"0-1", SEAL_ID):
        with pytest.raises(BadEntryError):
            parse(stream_id, packed, b"x")


def test_an_entry_without_header_is_refused() -> None:
    for stream_id in (b"0-1", SEAL_ID):
        with pytest.raises(BadEntryError, match="no header"):
            parse_entry(LANE, stream_id, {b"p": b"x"})


def test_a_single_flipped_bit_of_the_payload_is_seen() -> None:
    payload = bytes(range(50))
    for at in range(0, 400, 7):
        damaged = bytearray(payload)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(BadEntryError, match="damaged"):
            parse(b"0-50", header_of(payload), bytes(damaged))


def judged(make: Callable[[], Entry]) -> Entry | None:
    """The entry, or None if it was refused; any other error fails the test."""
    try:
        return make()
    except BadEntryError as error:
        assert len(str(error)) < 1000  # noqa: PT017
        return None


WORDS = ["session", "checksum", "codecs", "sizes", "times", "gaps", "gap", "durable"]
WORDS.append("times_checksum")
words = st.sampled_from([*WORDS, "padded", "length"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.sampled_from(["a", "x", "none", "zstd", SESSION, checksum_of(b"x"), 0, 1]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=3) | st.binary(max_size=3), inner, max_size=2
        )
    ),
    max_leaves=6,
)


@given(
    stream_id=st.sampled_from([b"0-1", b"10-1", b"0-10", SEAL_ID, b"18-18"])
    | st.binary(max_size=30),
    changes=st.dictionaries(words, values, max_size=4),
    payload=st.sampled_from([b"", b"x", bytes(10)]),
    lane=st.sampled_from([LANE, MIXED]),
)
@example(b"0-1", {"gaps": {"x": [[0, 1]]}}, b"x", LANE)
def test_whatever_a_header_says_is_an_entry_or_a_bad_one(
    stream_id: bytes, changes: dict[str, Any], payload: bytes, lane: LaneDescription
) -> None:
    header = msgpack.packb({**good(payload), **changes})
    entry = judged(lambda: parse(stream_id, header, payload, lane))
    if entry is not None:
        assert 0 <= entry.first <= entry.stop <= MAX_POINTS
        assert sum(entry.sizes) in {0, len(payload)}
        # What was understood says the same again.
        assert isinstance(hash(entry.id), int)


@given(st.binary(max_size=300), st.binary(max_size=30))
def test_bytes_are_no_header(packed: bytes, payload: bytes) -> None:
    assert judged(lambda: parse(b"0-1", packed, payload)) is None


@given(st.data())
def test_a_header_with_a_flipped_byte_is_never_another_error(data: Any) -> None:
    payload = b"x"
    header = bytearray(header_of(payload, ends=(1.0, 2.0), gaps={"a": ((0, 1),)}))
    at = data.draw(st.integers(0, len(header) - 1))
    header[at] = data.draw(st.integers(0, 255))

    entry = judged(lambda: parse(b"0-1", bytes(header), payload))

    # Refused, or still the entry that its id says, with the payload that came.
    assert entry is None or (entry.first, entry.stop) == (0, 1)
    assert entry is None or bytes(entry.payload) == payload


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_the_checksum_of_parts_is_that_of_the_whole(parts: list[bytes]) -> None:
    assert checksum_of(*parts) == checksum_of(b"".join(parts))


def test_the_checksum_is_xxh3_of_64_bits() -> None:
    """From the reference implementation: other languages must come to the same."""
    assert checksum_of(b"") == 0x2D06800538D394C2


def test_a_frame_is_known_by_its_exact_size() -> None:
    lane = lane_of(
        channel("f", "f", dtype="uint16", shape=(3, 4)),
        per_chunk=1,
        storage=Storage.FILES,
    )
    assert parse(b"0-1", header_of(bytes(24)), bytes(24), lane).count == 1
    for size in (0, 23, 25, 48):
        payload = bytes(size)
        with pytest.raises(BadEntryError, match="instead of 24 for 1 points"):
            parse(b"0-1", header_of(payload), payload, lane)


def test_a_header_leaves_out_what_is_not_there() -> None:
    assert msgpack.unpackb(pack_header(session=b"s", checksum=1)) == {
        "session": b"s",
        "checksum": 1,
    }
