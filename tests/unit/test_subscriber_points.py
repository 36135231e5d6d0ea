"""Values of entries and what stands for missing points, without Redis."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.bus.protocol import (
    Entry,
    checksum_of,
    encode_block,
    entry_id,
    pack_variable,
)
from scanbus.schemas import ChannelDescription, LaneDescription, Storage
from scanbus.schemas.errors import PayloadError
from scanbus.subscriber.batch import Batch
from scanbus.subscriber.points import (
    MAX_MISSING_VARIABLE,
    entry_values,
    joined,
    missing_values,
)


def lane_of(dtype: str = "float64", **fields: Any) -> LaneDescription:
    channel = ChannelDescription(name="c", group="c", device="c", dtype=dtype, **fields)
    return LaneDescription(
        name="c",
        storage=Storage.VALUES,
        channels=(channel,),
        points_per_segment=1000,
        points_per_chunk=10,
    )


def entry_of(
    lane: LaneDescription, points: Any, first: int = 0, **fields: Any
) -> Entry:
    channel = lane.channels[0]
    block = pack_variable(channel, points) if channel.is_variable else points
    payload = b"".join(bytes(part) for part in encode_block(channel, block))
    return Entry(
        id=entry_id(first, len(points)),
        first=first,
        count=len(points),
        session=b"s",
        checksum=checksum_of(payload),
        payload=payload,
        codecs=("none",),
        sizes=(len(payload),),
        **fields,
    )


@given(
    count=st.integers(1, 30),
    gap=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    window=st.tuples(st.integers(0, 30), st.integers(0, 30)),
)
def test_a_batch_gives_its_points_and_names_exactly_the_missing_ones(
    count: int, gap: tuple[int, int], window: tuple[int, int]
) -> None:
    lane = lane_of("int32")
    first = 100
    gap_start, gap_stop = (first + min(count, edge) for edge in sorted(gap))
    start, stop = (first + min(count, edge) for edge in sorted(window))
    points = np.arange(first, first + count, dtype="<i4")
    gaps = {"c": ((gap_start, gap_stop),)}
    batch = Batch(lane, 0, start, stop, entry=entry_of(lane, points, first, gaps=gaps))

    named = [point for low, high in batch.missing for point in range(low, high)]
    assert named == [p for p in range(start, stop) if gap_start <= p < gap_stop]
    lowest = np.iinfo("i4").min
    expected = [lowest if p in named else p for p in range(start, stop)]
    assert batch.values.tolist() == expected
    assert batch.values is batch.values  # decoded once


@pytest.mark.parametrize(
    ("dtype", "fields", "expected"),
    [
        ("float64", {}, np.nan),
        ("complex64", {}, np.nan),
        ("bool", {}, False),
        ("uint16", {}, 65535),
        ("int8", {"fill_value": -1}, -1),
    ],
)
def test_missing_points_take_no_room(dtype: str, fields: Any, expected: Any) -> None:
    channel = lane_of(dtype, shape=(3, 2), **fields).channels[0]
    values = missing_values(channel, 2**40)
    assert values.shape == (2**40, 3, 2)
    assert values.dtype == channel.numpy_dtype
    np.testing.assert_array_equal(values[-1, 0, 0], np.asarray(expected, dtype))


def test_missing_points_of_differing_size_are_empty() -> None:
    text = lane_of("string", max_point_bytes=9).channels[0]
    ragged = lane_of("int8", shape=(-1,), max_point_bytes=9).channels[0]
    assert missing_values(text, 2) == ["", ""]
    assert [len(each) for each in missing_values(ragged, 2)] == [0, 0]
    with pytest.raises(PayloadError, match="consecutive points are missing"):
        missing_values(text, MAX_MISSING_VARIABLE + 1)


def test_gaps_among_texts() -> None:
    lane = lane_of("string", max_point_bytes=9)
    entry = entry_of(lane, ["a", "b", "é"], gaps={"c": ((1, 2),)})
    assert entry_values(lane, 0, entry) == ["a", "", "é"]


def test_only_the_points_of_a_padded_chunk_are_given() -> None:
    lane = lane_of("int16")
    points = np.arange(10, dtype="<i2")
    whole = entry_of(lane, points)
    padded = Entry(
        id=b"0-4",
        first=0,
        count=4,
        session=b"s",
        checksum=whole.checksum,
        payload=whole.payload,
        codecs=("none",),
        sizes=whole.sizes,
        is_padded=True,
    )
    assert entry_values(lane, 0, padded).tolist() == [0, 1, 2, 3]


def test_joined_parts_are_writable_and_bounded() -> None:
    channel = lane_of("float64", shape=(1000,)).channels[0]
    assert joined(channel, []).shape == (0, 1000)
    assert joined(channel, [missing_values(channel, 3)]).flags.writeable
    with pytest.raises(PayloadError, match="read fewer points"):
        joined(channel, [missing_values(channel, 2**30)])
    text = lane_of("string", max_point_bytes=9).channels[0]
    assert joined(text, [["a"], ["b", "c"]]) == ["a", "b", "c"]


def test_bytes_that_do_not_decode_are_an_error_when_they_are_looked_at() -> None:
    lane = lane_of("string", max_point_bytes=9)
    entry = entry_of(lane, ["a"])
    broken = Entry(
        id=entry.id,
        first=0,
        count=1,
        session=b"s",
        checksum=0,
        payload=b"\1\0\0\0\xff",
        codecs=("none",),
        sizes=(5,),
    )
    batch = Batch(lane, 0, 0, 1, entry=broken)
    assert batch.missing == ()
    with pytest.raises(PayloadError, match="UTF-8"):
        _ = batch.values
