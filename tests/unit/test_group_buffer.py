"""Groups: every value once and in order, entries within segments and bytes."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scanbus.bus.protocol import (
    HEADER_FIELD,
    PAYLOAD_FIELD,
    EncodedEntry,
    Entry,
    Variable,
    decode_block,
    parse_entry,
)
from scanbus.bus.protocol.lane_reader import GATHERED_BYTES
from scanbus.publisher.buffers.entry_builder import values_entry
from scanbus.publisher.buffers.group_buffer import Gap, GroupBuffer
from scanbus.publisher.declare.values import points_of
from scanbus.schemas import ChannelDescription, LaneDescription, Storage

SESSION = b"12345678"


def group(per_segment: int = 100, **more: Any) -> LaneDescription:
    scalars = [
        ChannelDescription(name=name, group="g", device="x", **more) for name in "ab"
    ]
    text = ChannelDescription(
        name="t", group="g", device="x", dtype="string", max_point_bytes=99
    )
    return LaneDescription(
        name="g",
        storage=Storage.VALUES,
        channels=(*scalars, text),
        points_per_segment=per_segment,
        points_per_chunk=per_segment,
    )


def alone(**more: Any) -> LaneDescription:
    """A channel that is a group of its own."""
    channel = ChannelDescription(name="a", group="a", device="x", **more)
    return LaneDescription(
        name="a",
        storage=Storage.VALUES,
        channels=(channel,),
        points_per_segment=10**6,
        points_per_chunk=10**6,
    )


def parsed(lane: LaneDescription, frozen: EncodedEntry) -> Entry:
    fields = {HEADER_FIELD: frozen.header, PAYLOAD_FIELD: bytes(frozen.payload)}
    return parse_entry(lane, frozen.id, fields)


def values_of(lane: LaneDescription, entry: Entry, index: int) -> list[Any]:
    channel = lane.channels[index]
    if entry.is_gap:
        return [channel.missing_value] * entry.count
    points = decode_block(channel, entry.block(index), entry.count)
    return points.texts() if isinstance(points, Variable) else list(points)


steps = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "t"]),
        st.sampled_from(["scalar", "array", "gap", "take"]),
        st.integers(1, 9),
    ),
    max_size=40,
)


@given(steps=steps, per_segment=st.integers(1, 20))
def test_entries_joined_are_what_was_sent(
    steps: list[tuple[str, str, int]], per_segment: int
) -> None:
    lane = group(per_segment)
    buffer = GroupBuffer(lane)
    sent: dict[str, list[Any]] = {"a": [], "b": [], "t": []}
    missing: dict[str, set[int]] = {"a": set(), "b": set(), "t": set()}
    entries: list[Entry] = []

    def take() -> None:
        while taken := buffer.take():
            entries.append(parsed(lane, values_entry(lane, taken, SESSION)))

    channels = {channel.name: channel for channel in lane.channels}
    for name, kind, count in steps:
        so_far = sent[name]
        if kind == "take":
            take()
        elif kind == "gap":
            missing[name] |= set(range(len(so_far), len(so_far) + count))
            so_far.extend([channels[name].missing_value] * count)
            buffer.append(name, Gap(count))
        elif kind == "scalar" and name != "t":
            so_far.append(float(len(so_far)))
            buffer.series[name].scalars.append(so_far[-1])
        else:
            new: list[Any] = [float(len(so_far) + number) for number in range(count)]
            new = [str(value) for value in new] if name == "t" else new
            so_far.extend(new)
            buffer.append(name, points_of(channels[name], new))
        buffer.advance(1.0)
    length = buffer.length
    buffer.end(2.0)
    take()

    assert buffer.taken == length == max(map(len, sent.values()))
    assert buffer.pending_bytes == 0
    for index, channel in enumerate(lane.channels):
        values = [value for e in entries for value in values_of(lane, e, index)]
        expected = sent[channel.name]
        expected += [channel.missing_value] * (length - len(expected))
        if channel.is_string:
            assert values == expected
        else:
            np.testing.assert_array_equal(values, expected)
        named = {
            point
            for e in entries
            for start, stop in (
                ((e.first, e.stop),) if e.is_gap else e.gaps.get(channel.name, ())
            )
            for point in range(start, stop)
        }
        assert missing[channel.name] <= named


@given(counts=st.lists(st.integers(1, 300_000), min_size=1, max_size=4))
def test_no_entry_is_larger_than_gathered_bytes(counts: list[int]) -> None:
    lane = group(10**6)
    buffer = GroupBuffer(lane)
    for count in counts:
        for name in "ab":
            buffer.append(name, np.zeros(count))
        buffer.append("t", Gap(count))
    buffer.advance(0.0)
    while taken := buffer.take():
        entry = values_entry(lane, taken, SESSION)
        assert len(entry.payload) <= GATHERED_BYTES


@given(
    counts=st.lists(
        st.one_of(st.integers(1, 3000), st.sampled_from([0, 131_072, 200_000])),
        min_size=1,
        max_size=8,
    ),
    dtype=st.sampled_from(["float64", "float32"]),
    data=st.data(),
)
def test_arrays_come_out_in_their_order(
    counts: list[int], dtype: str, data: st.DataObject
) -> None:
    """Whatever is taken in between, and however arrays lie in memory."""
    lane = alone(dtype=dtype)
    buffer = GroupBuffer(lane)
    entries: list[EncodedEntry] = []
    sent = 0
    for count in counts:
        array = np.arange(sent, sent + count, dtype=np.float64)
        buffer.append("a", array)
        sent += count
        buffer.advance(0.0)
        if data.draw(st.booleans()) and (taken := buffer.take()):
            entries.append(values_entry(lane, taken, SESSION))
    while taken := buffer.take():
        entries.append(values_entry(lane, taken, SESSION))

    assert buffer.pending_bytes == 0
    values = b"".join(bytes(entry.payload) for entry in entries)
    np.testing.assert_array_equal(np.frombuffer(values, dtype), np.arange(sent))
    for entry in entries:
        assert len(entry.payload) <= GATHERED_BYTES
        parsed(lane, entry)


def test_single_numbers_that_waited_for_long_make_no_larger_entries() -> None:
    lane = alone()
    buffer = GroupBuffer(lane)
    buffer.series["a"].scalars.extend([1.0] * 300_000)
    buffer.advance(0.0)
    sizes = []
    while taken := buffer.take():
        sizes.append(len(values_entry(lane, taken, SESSION).payload))
    assert sum(sizes) == 8 * 300_000
    assert max(sizes) <= GATHERED_BYTES


def test_numbers_are_no_text() -> None:
    lane = alone(dtype="string", max_point_bytes=99)
    series = GroupBuffer(lane).series["a"]
    assert series.plain(np.array(65, np.uint8)) is None
    assert series.plain(np.array([65, 66], np.uint8)) is None


def test_an_entry_of_a_slow_channel_keeps_little_memory() -> None:
    buffer = GroupBuffer(alone())
    for _ in range(3000):
        buffer.append("a", np.zeros(100))
        buffer.advance(0.0)
        taken = buffer.take()
        assert taken is not None
        for run in taken.runs[0]:
            assert isinstance(run, np.ndarray)
            assert run.base is not None
            assert run.base.nbytes <= 2**14


def test_times_that_the_program_gave_stay_as_they_are() -> None:
    """What comes within a millisecond is one run, but not with those."""
    lane = group(per_segment=4)
    buffer = GroupBuffer(lane)
    for name in "ab":
        buffer.append(name, np.zeros(4), np.array([100.0, 100.0001, 7.0, 100.0003]))
    buffer.append("t", Gap(4))
    buffer.advance(100.0005)
    for now in (100.0006, 100.0008):
        for name in "abt":
            buffer.append(name, Gap(2))
        buffer.advance(now)
    first, second = buffer.take(), buffer.take()
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.times, [100.0, 100.0001, 7.0, 100.0003])
    assert second.times == (100.0006, 100.0008)


def test_only_the_channel_that_completes_a_point_is_looked_at() -> None:
    buffer = GroupBuffer(group())
    awaited = [name for name, series in buffer.series.items() if series.is_awaited]
    assert awaited == ["t"]
    buffer.append("t", points_of(group().channels[2], "x"))
    assert not buffer.advance(0.0)
    assert buffer.series["b"].is_awaited


def test_a_point_has_its_own_time_or_that_when_it_was_complete() -> None:
    lane = group()
    buffer = GroupBuffer(lane)
    buffer.append("a", np.zeros(11), 100.0 + np.arange(11.0))
    buffer.append("b", np.zeros(11))
    buffer.append("t", Gap(4))
    buffer.advance(5.0)
    first = buffer.take()
    buffer.append("t", Gap(7))
    buffer.append("a", np.zeros(1))
    buffer.append("b", np.zeros(1))
    buffer.append("t", Gap(1))
    buffer.advance(500.0)
    second = buffer.take()
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.times, [100.0, 101.0, 102.0, 103.0])
    expected = [104.0, 105.0, 106.0, 107.0, 108.0, 109.0, 110.0, 500.0]
    np.testing.assert_array_equal(second.times, expected)


def test_many_single_numbers_are_kept_as_an_array() -> None:
    buffer = GroupBuffer(group())
    scalars = buffer.series["a"].scalars
    scalars.extend([1.0] * 5000)
    buffer.compact()
    assert not scalars
    assert buffer.series["a"].count == 5000
    assert buffer.pending_bytes == 40_000
