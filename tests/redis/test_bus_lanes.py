"""Lanes on real servers: made once, appended whole, read bounded in bytes."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from scanbus.bus.protocol import SEAL_ID, EncodedEntry, Kind, LaneReader, lane_key
from scanbus.bus.store import (
    Bus,
    Evictor,
    NoRoomError,
    VanishedError,
    announce,
    append_entries,
    append_event,
    connect,
    find_entry_start,
    make_lane,
    read_entry,
    read_lanes,
    read_newest,
    read_seal,
    sealed_length,
    stream_ends,
)
from scanbus.schemas import LaneDescription, Storage
from scanbus.schemas.errors import BadEntryError, LaneConflictError
from tests.redis.conftest import AnyRedis
from tests.support.descriptions import (
    UID,
    announced,
    bytes_lane,
    channel,
    lane_of,
    prepared,
)
from tests.support.published import safe_and_shown
from tests.support.raw_entries import frozen, frozen_seal

pytestmark = pytest.mark.redis
LANE = bytes_lane()
KEY = lane_key(UID, "group")
MIB = 2**20


@pytest.fixture
def lane(any_bus: Bus) -> Bus:
    """A client of a Redis with one empty lane."""
    make_lane(any_bus, UID, "group")
    return any_bus


@pytest.fixture
def full_bus(any_redis: AnyRedis) -> Iterator[Bus]:
    """A client of a Redis with one lane, 32 MiB and no eviction."""
    server = any_redis({"maxmemory": "32mb", "maxmemory-policy": "noeviction"})
    with connect(server.url, name="test") as client:
        make_lane(client, UID, "group")
        yield client


def ids(client: Bus) -> list[bytes]:
    found: Any = client.xrange(KEY)
    return [stream_id for stream_id, _ in found]


def test_a_lane_is_made_once_and_stays_as_it_is(lane: Bus) -> None:
    assert stream_ends(lane, UID, "group") == (b"0-0", b"0-0")
    assert lane.xinfo_groups(KEY) == []

    append_entries(lane, UID, "group", [frozen(0, 5)])
    make_lane(lane, UID, "group")

    assert ids(lane) == [b"0-5"]


def test_a_lane_that_nobody_made_has_no_ends(any_bus: Bus) -> None:
    assert stream_ends(any_bus, UID, "group") is None


def test_the_ends_of_a_lane_remember_what_was_trimmed(lane: Bus) -> None:
    append_entries(lane, UID, "group", [frozen(0, 5), frozen(5, 5), frozen(10, 90)])
    lane.xtrim(KEY, minid="5-0", approximate=False)
    assert stream_ends(lane, UID, "group") == (b"5-5", b"10-90")
    lane.xtrim(KEY, maxlen=0, approximate=False)
    assert stream_ends(lane, UID, "group") == (b"0-0", b"10-90")


def test_entries_that_are_sent_again_stand_once(lane: Bus) -> None:
    entries = [frozen(0, 5), frozen(5, 5), frozen(10, 5)]
    append_entries(lane, UID, "group", entries[:2])
    append_entries(lane, UID, "group", entries)
    append_entries(lane, UID, "group", [frozen_seal(15)])
    append_entries(lane, UID, "group", [frozen_seal(15)])
    append_entries(lane, UID, "group", [*entries, frozen_seal(15)])

    assert ids(lane)[:3] == [b"0-5", b"5-5", b"10-5"]
    assert len(ids(lane)) == 4


def test_what_somebody_else_stored_in_our_place_is_a_conflict(lane: Bus) -> None:
    append_entries(lane, UID, "group", [frozen(0, 5, b"other")])
    with pytest.raises(LaneConflictError, match="0-5"):
        append_entries(lane, UID, "group", [frozen(0, 5)])


def test_a_lane_that_is_ahead_of_us_is_a_conflict(lane: Bus) -> None:
    append_entries(lane, UID, "group", [frozen(50, 5)])
    with pytest.raises(LaneConflictError, match="20-5"):
        append_entries(lane, UID, "group", [frozen(20, 5)])


def test_redis_takes_entries_that_overlap_so_readers_must_look(lane: Bus) -> None:
    append_entries(lane, UID, "group", [frozen(0, 50), frozen(0, 100), frozen(50, 50)])
    reader = LaneReader(UID, LANE)
    ((_, arrivals),) = read_lanes(lane, [reader], max_bytes=MIB, block_ms=0)
    assert [one.kind for one in arrivals] == [Kind.POINTS, Kind.OVERLAP, Kind.POINTS]


def test_nothing_follows_a_seal(lane: Bus) -> None:
    append_entries(lane, UID, "group", [frozen(0, 5), frozen_seal(5)])
    with pytest.raises(LaneConflictError):
        append_entries(lane, UID, "group", [frozen(5, 5)])
    with pytest.raises(LaneConflictError):
        append_entries(lane, UID, "group", [frozen_seal(6)])


@pytest.mark.parametrize("count", [1, 3])
def test_a_lane_that_is_gone_is_not_made_again(any_bus: Bus, count: int) -> None:
    entries = [frozen(number, 1) for number in range(count)]
    with pytest.raises(VanishedError):
        append_entries(any_bus, UID, "group", entries)
    assert not any_bus.exists(KEY)


def test_a_full_redis_takes_a_batch_whole_or_not_at_all(full_bus: Bus) -> None:
    """Were one refused and the next taken, the lane would have a hole for ever."""
    payload = bytes(MIB)
    batches = [
        [frozen(first + number, 1, payload) for number in range(3)]
        for first in range(0, 300, 3)
    ]
    first, batch = send_until_full(full_bus, batches)

    assert first > 10
    assert ids(full_bus) == [b"%d-1" % number for number in range(first)]

    announce(full_bus, announced())
    append_event(full_bus, UID, prepared(bytes_lane(100, 10)))
    safe_and_shown(full_bus, UID, "group", 10)
    assert Evictor().free(full_bus, 1).entries == 10

    append_entries(full_bus, UID, "group", batch)
    assert ids(full_bus) == [b"%d-1" % number for number in range(10, first + 3)]


def send_until_full(
    client: Bus, batches: list[list[EncodedEntry]]
) -> tuple[int, list[EncodedEntry]]:
    """Return how many points were taken, and the batch that was not."""
    for number, batch in enumerate(batches):
        try:
            append_entries(client, UID, "group", batch)
        except NoRoomError as error:
            assert "OOM" in error.reason  # noqa: PT017
            return number * len(batch), batch
    raise AssertionError("Redis never became full")


def test_one_call_brings_what_was_asked_for_and_hardly_more(any_bus: Bus) -> None:
    """Two hundred entries of a mebibyte, after many small ones and before them."""
    make_lane(any_bus, UID, "group")
    lane = lane_of(channel("a", dtype="string", max_point_bytes=MIB), per_segment=10**6)
    text = (MIB - 8).to_bytes(4, "little") + b"x" * (MIB - 8)
    small = b"\1\0\0\0x"
    for start in range(0, 600, 100):
        payload = text if 200 <= start < 400 else small
        entries = [frozen(start + number, 1, payload) for number in range(100)]
        for at in range(0, 100, 10):
            append_entries(any_bus, UID, "group", entries[at : at + 10])
    reader = LaneReader(UID, lane)

    most, calls = 0, 0
    while reader.expected < 600:
        ((_, arrivals),) = read_lanes(any_bus, [reader], max_bytes=4 * MIB, block_ms=0)
        assert {one.kind for one in arrivals} == {Kind.POINTS}
        entries_read = [one.entry for one in arrivals if one.entry is not None]
        most = max(most, sum(len(entry.payload) for entry in entries_read))
        calls += 1

    assert most <= 4 * MIB
    assert calls < 80


def test_large_values_are_not_copied_by_a_script(any_bus: Bus) -> None:
    """Redis's Lua hashes every byte of an entry; small ones come by the hundred."""
    make_lane(any_bus, UID, "group")
    lane = lane_of(channel("a", dtype="string", max_point_bytes=MIB), per_segment=10**6)
    text = (MIB - 8).to_bytes(4, "little") + b"x" * (MIB - 8)
    for number in range(20):
        append_entries(any_bus, UID, "group", [frozen(number, 1, text)])
    for number in range(20, 40):
        append_entries(any_bus, UID, "group", [frozen(number, 1, b"\1\0\0\0x")])
    reader = LaneReader(UID, lane)
    any_bus.config_resetstat()
    scripts = []
    while reader.expected < 40:
        read_lanes(any_bus, [reader], max_bytes=4 * MIB, block_ms=0)
        stats: Any = any_bus.info("commandstats")
        scripts.append((reader.expected, stats.get("cmdstat_eval", {}).get("calls", 0)))

    assert [calls for reached, calls in scripts if reached <= 20][-1] == 1
    # One call may have brought small ones by count; the rest came by the script.
    assert scripts[-1][1] == 2


def test_the_bytes_of_a_call_are_shared_between_lanes(any_bus: Bus) -> None:
    readers = []
    for name in ("a", "b", "c", "d"):
        frame = channel(name, name, dtype="uint8", shape=(1024, 1024))
        lane = lane_of(frame, per_chunk=1, storage=Storage.FILES)
        make_lane(any_bus, UID, name)
        frames = [frozen(number, 1, bytes(MIB)) for number in range(10)]
        append_entries(any_bus, UID, name, frames)
        readers.append(LaneReader(UID, lane))

    found = read_lanes(any_bus, readers, max_bytes=9 * MIB, block_ms=0)

    assert [len(arrivals) for _, arrivals in found] == [2, 2, 2, 2]


def test_an_entry_is_read_even_if_it_is_larger_than_asked(lane: Bus) -> None:
    append_entries(lane, UID, "group", [frozen(0, 100)])
    found = read_lanes(lane, [LaneReader(UID, LANE)], max_bytes=1, block_ms=0)
    assert len(found) == 1


def test_a_waiting_reader_wakes_when_something_comes(lane: Bus) -> None:
    frames = lane_of(
        channel("f", "frames", dtype="uint8"), per_chunk=1, storage=Storage.FILES
    )
    make_lane(lane, UID, "frames")
    readers = [LaneReader(UID, LANE), LaneReader(UID, frames)]
    assert read_lanes(lane, readers, max_bytes=MIB, block_ms=20) == []

    sender = threading.Timer(0.2, append_entries, (lane, UID, "frames", [frozen(0, 1)]))
    sender.start()
    begun = time.monotonic()
    ((reader, arrivals),) = read_lanes(lane, readers, max_bytes=MIB, block_ms=5000)
    waited = time.monotonic() - begun
    sender.join()

    assert reader is readers[1]
    assert [one.kind for one in arrivals] == [Kind.POINTS]
    assert waited < 2


def test_lanes_that_are_over_are_not_asked_again(lane: Bus) -> None:
    append_entries(lane, UID, "group", [frozen(0, 1), frozen_seal(1)])
    reader = LaneReader(UID, LANE)
    read_lanes(lane, [reader], max_bytes=MIB, block_ms=0)
    assert reader.is_over
    assert read_lanes(lane, [reader], max_bytes=MIB, block_ms=5000) == []


def test_a_lane_that_is_gone_is_read_as_empty(any_bus: Bus) -> None:
    assert read_lanes(any_bus, [LaneReader(UID, LANE)], max_bytes=1, block_ms=1) == []


@pytest.mark.parametrize(
    ("point", "start"), [(0, 0), (4, 0), (5, 5), (54, 5), (55, 55), (60, 60)]
)
def test_the_entry_of_any_point_is_found(lane: Bus, point: int, start: int) -> None:
    append_entries(lane, UID, "group", [frozen(0, 5), frozen(5, 50), frozen(55, 2)])
    append_entries(lane, UID, "group", [frozen_seal(57)])
    assert find_entry_start(lane, UID, "group", point) == start


@pytest.mark.parametrize(
    ("point", "points"), [(0, (0, 5)), (4, (0, 5)), (7, (7, 57)), (56, (7, 57))]
)
def test_the_entry_that_holds_a_point_is_read(
    lane: Bus, point: int, points: tuple[int, int]
) -> None:
    append_entries(lane, UID, "group", [frozen(0, 5), frozen(7, 50), frozen_seal(57)])
    entry = read_entry(lane, UID, LANE, point)
    assert entry is not None
    assert (entry.first, entry.stop) == points


@pytest.mark.parametrize("point", [5, 6, 57, 10**6])
def test_a_point_that_no_entry_holds_is_none(lane: Bus, point: int) -> None:
    append_entries(lane, UID, "group", [frozen(0, 5), frozen(7, 50)])
    assert read_entry(lane, UID, LANE, point) is None


def test_an_entry_that_cannot_be_used_is_refused(lane: Bus) -> None:
    lane.xadd(KEY, {"h": b"nonsense"}, id="3-1")
    with pytest.raises(BadEntryError):
        read_entry(lane, UID, LANE, 3)


def test_a_seal_says_the_length(lane: Bus) -> None:
    assert read_seal(lane, UID, LANE) is None
    assert sealed_length(lane, UID, LANE) is None
    append_entries(lane, UID, "group", [frozen(0, 5), frozen_seal(7)])
    seal = read_seal(lane, UID, LANE)
    assert seal is not None
    assert seal.is_seal
    assert seal.first == sealed_length(lane, UID, LANE) == 7


def test_a_seal_that_cannot_be_used_says_no_length(lane: Bus) -> None:
    lane.xadd(KEY, {"h": b"nonsense"}, id=SEAL_ID.decode())
    with pytest.raises(BadEntryError):
        read_seal(lane, UID, LANE)
    assert sealed_length(lane, UID, LANE) is None


def test_the_newest_entries_come_first_and_those_of_all_lanes_at_once(
    lane: Bus,
) -> None:
    append_entries(lane, UID, "group", [frozen(0, 5), frozen(5, 50), frozen_seal(55)])
    other = lane_of(channel("f", "frames", dtype="uint8"))
    readers = [LaneReader(UID, LANE), LaneReader(UID, other)]

    newest, none = read_newest(lane, readers, count=2)

    assert [bytes(stream_id) for stream_id, _ in newest] == [SEAL_ID, b"5-50"]
    assert none == []
    assert (readers[0].expected, readers[0].last_id) == (0, b"0-0")


def reader_from(lane: LaneDescription, start: int) -> LaneReader:
    return LaneReader(UID, lane, start)


def test_reading_from_the_middle_begins_with_the_entry_there(lane: Bus) -> None:
    append_entries(lane, UID, "group", [frozen(0, 5), frozen(5, 50), frozen(55, 2)])
    reader = reader_from(LANE, find_entry_start(lane, UID, "group", 20))
    ((_, arrivals),) = read_lanes(lane, [reader], max_bytes=MIB, block_ms=0)
    assert [(one.start, one.stop) for one in arrivals] == [(5, 55), (55, 57)]
