"""Many lanes at once on real servers: each fares as it would alone, in few commands.

Programs declare thousands of channels one by one, and each is a lane.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanbus.bus.protocol import (
    SEAL_ID,
    EncodedEntry,
    LaneReader,
    ScanRecord,
    lane_key,
)
from scanbus.bus.store import (
    Bus,
    NoRoomError,
    VanishedError,
    acknowledge_all,
    append_each,
    append_entries,
    connect,
    end_for_publisher,
    ends_of_streams,
    make_lanes,
    read_cursors,
    read_lanes,
    sealed_length,
    stored_session,
    stored_sessions,
    stream_ends,
)
from scanbus.schemas.errors import LaneConflictError
from tests.redis.conftest import AnyRedis
from tests.support.descriptions import UID, channel, identity, lane_of, prepared
from tests.support.raw_entries import frozen, frozen_seal

pytestmark = pytest.mark.redis
MIB = 2**20
N_MANY = 100


@pytest.fixture
def full_bus(any_redis: AnyRedis) -> Iterator[Bus]:
    """A client of a Redis with two lanes that takes no data any more."""
    server = any_redis({"maxmemory-policy": "noeviction"})
    with connect(server.url, name="test") as client:
        make_lanes(client, UID, ["a", "b"])
        append_entries(client, UID, "a", [frozen(0, 5)])
        client.config_set("maxmemory", "1kb")
        yield client


def names_of(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def ids(client: Bus, lane: str) -> list[bytes]:
    found: Any = client.xrange(lane_key(UID, lane))
    return [stream_id for stream_id, _ in found]


def n_calls(client: Bus) -> int:
    """How many commands, those inside scripts not included."""
    info: Any = client.info("stats")
    return int(info["total_commands_processed"])


# -------------------------------------------------------------------- making them


def test_lanes_are_made_empty_and_those_that_exist_stay(any_bus: Bus) -> None:
    make_lanes(any_bus, UID, ["b"])
    append_entries(any_bus, UID, "b", [frozen(0, 5)])

    make_lanes(any_bus, UID, ["a", "b", "c"])

    assert [ids(any_bus, name) for name in "abc"] == [[], [b"0-5"], []]
    for name in "abc":
        assert any_bus.type(lane_key(UID, name)) == b"stream"
        assert any_bus.xinfo_groups(lane_key(UID, name)) == []


def test_no_lanes_are_made_of_none(any_bus: Bus) -> None:
    make_lanes(any_bus, UID, [])
    assert any_bus.keys() == []


def test_something_else_in_the_place_of_a_lane_is_replaced(any_bus: Bus) -> None:
    for number, name in enumerate("abc"):
        any_bus.set(lane_key(UID, name), number)
    any_bus.hset(lane_key(UID, "d"), "field", "1")

    make_lanes(any_bus, UID, ["a", "b", "c", "d"])

    assert [ids(any_bus, name) for name in "abcd"] == [[], [], [], []]


def test_a_full_redis_makes_no_lane_and_leaves_those_that_exist(full_bus: Bus) -> None:
    make_lanes(full_bus, UID, ["a", "b"])
    with pytest.raises(NoRoomError, match="OOM"):
        make_lanes(full_bus, UID, ["a", "new", "b"])
    assert ids(full_bus, "a") == [b"0-5"]
    assert stream_ends(full_bus, UID, "new") is None


# --------------------------------------------------------------------- sending


def test_each_lane_gets_its_entry(any_bus: Bus) -> None:
    names = names_of(N_MANY)
    make_lanes(any_bus, UID, names)
    first = [(name, frozen(0, n + 1)) for n, name in enumerate(names)]
    seals = [(name, frozen_seal(n + 1)) for n, name in enumerate(names)]

    assert append_each(any_bus, UID, first) == [None] * N_MANY
    assert append_each(any_bus, UID, seals) == [None] * N_MANY

    for n, name in enumerate(names):
        assert ids(any_bus, name) == [b"0-%d" % (n + 1), SEAL_ID]


def test_nothing_is_sent_of_nothing(any_bus: Bus) -> None:
    assert append_each(any_bus, UID, []) == []


def test_the_trouble_of_one_lane_is_not_that_of_others(any_bus: Bus) -> None:
    """Whoever sends must know of each lane: sent twice, or never, points are lost."""
    make_lanes(any_bus, UID, ["fine", "again", "taken", "sealed", "last"])
    append_entries(any_bus, UID, "again", [frozen(0, 5)])
    append_entries(any_bus, UID, "taken", [frozen(0, 5, b"other")])
    append_entries(any_bus, UID, "sealed", [frozen_seal(0)])

    lanes = ["fine", "vanished", "again", "taken", "sealed", "last"]
    outcomes = append_each(any_bus, UID, [(name, frozen(0, 5)) for name in lanes])

    kinds = [None if one is None else type(one) for one in outcomes]
    conflict = LaneConflictError
    assert kinds == [None, VanishedError, None, conflict, conflict, None]
    assert [ids(any_bus, name) for name in ("fine", "again", "last")] == [[b"0-5"]] * 3
    assert not any_bus.exists(lane_key(UID, "vanished"))


def test_a_full_redis_refuses_each_entry_with_its_reason(full_bus: Bus) -> None:
    """And takes them as soon as there is room again."""
    entries = [("b", frozen(0, 1)), ("a", frozen(5, 1)), ("gone", frozen(0, 1))]
    outcomes = append_each(full_bus, UID, entries)

    assert [type(one) for one in outcomes] == [NoRoomError] * 3
    assert all("OOM" in one.reason for one in outcomes if isinstance(one, NoRoomError))
    full_bus.config_set("maxmemory", 0)
    sent = append_each(full_bus, UID, entries)
    assert [None if one is None else type(one) for one in sent] == [
        None,
        None,
        VanishedError,
    ]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    before=st.lists(st.sampled_from(["absent", "empty", "same", "other", "ahead"])),
    entry=st.sampled_from([frozen(3, 2), frozen_seal(5)]),
)
def test_many_lanes_fare_as_each_alone(
    any_bus: Bus, before: Sequence[str], entry: EncodedEntry
) -> None:
    """The outcome, and what stands there, are those of `append_entries`."""
    any_bus.flushall()
    for kind, state in (("one", before), ("all", before)):
        for number, word in enumerate(state):
            _prepare(any_bus, f"{kind}{number}", word, entry)
    alone: list[type] = []
    for number in range(len(before)):
        try:
            append_entries(any_bus, UID, f"one{number}", [entry])
        except (VanishedError, LaneConflictError) as error:
            alone.append(type(error))
        else:
            alone.append(type(None))

    together = append_each(
        any_bus, UID, [(f"all{number}", entry) for number in range(len(before))]
    )

    assert [type(one) for one in together] == alone
    for number in range(len(before)):
        assert ids(any_bus, f"all{number}") == ids(any_bus, f"one{number}")


def _prepare(client: Bus, lane: str, word: str, entry: EncodedEntry) -> None:
    if word == "absent":
        return
    make_lanes(client, UID, [lane])
    there = {
        "same": [entry],
        "other": [EncodedEntry(entry.id, entry.stop, frozen(0, 1).header, b"?")],
        "ahead": [frozen(2**40, 1), frozen_seal(2**40 + 1)],
    }
    append_entries(client, UID, lane, there.get(word, []) or [frozen(0, 3)])


# -------------------------------------------------------------------- looking


def test_the_ends_and_sessions_of_many_are_those_of_each(any_bus: Bus) -> None:
    make_lanes(any_bus, UID, ["empty", "some", "sealed", "trimmed"])
    append_entries(any_bus, UID, "some", [frozen(0, 5), frozen(5, 2)])
    append_entries(any_bus, UID, "sealed", [frozen_seal(0)])
    append_entries(any_bus, UID, "trimmed", [frozen(0, 5), frozen(5, 2)])
    any_bus.xtrim(lane_key(UID, "trimmed"), maxlen=0, approximate=False)
    any_bus.set(lane_key(UID, "text"), "no stream")
    names = ["some", "absent", "sealed", "text", "trimmed", "empty"]

    ends = ends_of_streams(any_bus, UID, names)

    assert ends == [stream_ends(any_bus, UID, name) for name in names]
    assert [None if end is None else end[1] for end in ends] == [
        b"5-2",
        None,
        SEAL_ID,
        None,
        b"5-2",
        b"0-0",
    ]
    last = dict.fromkeys(("some", "trimmed", "absent", "empty"), b"5-2")
    sessions = stored_sessions(any_bus, UID, last)
    assert sessions == {
        name: stored_session(any_bus, UID, name, b"5-2") for name in last
    }
    assert [name for name, session in sessions.items() if session] == ["some"]


def test_of_no_lanes_nothing_is_asked(any_bus: Bus) -> None:
    assert ends_of_streams(any_bus, UID, []) == []
    assert stored_sessions(any_bus, UID, {}) == {}


def test_many_lanes_are_acknowledged_at_once_and_no_cursor_moves_back(
    any_bus: Bus,
) -> None:
    pairs = [(UID, "a"), (UID, "b"), (UID, "c")]
    acknowledge_all(any_bus, dict(zip(pairs, (0, 7, 3), strict=True)))
    assert read_cursors(any_bus, pairs) == [0, 7, 3]
    acknowledge_all(any_bus, dict(zip(pairs, (5, 0, 4), strict=True)))
    assert read_cursors(any_bus, pairs) == [5, 7, 4]
    acknowledge_all(any_bus, {})


@pytest.mark.parametrize("n_busy", [0, 1, 3, 40, N_MANY])
def test_readers_of_many_lanes_get_all_that_came(any_bus: Bus, n_busy: int) -> None:
    """Whether few or all have news, which are read in different ways."""
    names = names_of(N_MANY)
    make_lanes(any_bus, UID, names)
    readers = [
        LaneReader(UID, lane_of(channel(name, name, dtype="uint8"), per_segment=100))
        for name in names
    ]
    entries = [frozen(0, 2), frozen(2, 1), frozen_seal(3)]
    for name in names[:n_busy]:
        append_entries(any_bus, UID, name, entries)

    reached: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    while found := read_lanes(any_bus, readers, max_bytes=MIB, block_ms=0):
        for reader, arrivals in found:
            reached[reader.lane.name] += [(a.start, a.stop) for a in arrivals]

    assert [len(set(reached[name])) for name in names[:n_busy]] == [3] * n_busy
    assert all(reached[name] == [] for name in names[n_busy:])
    assert [reader.is_over for reader in readers].count(True) == n_busy


def test_an_idle_reader_of_many_lanes_asks_with_one_command(any_bus: Bus) -> None:
    names = names_of(N_MANY)
    make_lanes(any_bus, UID, names)
    readers = [
        LaneReader(UID, lane_of(channel(name, name, dtype="uint8"))) for name in names
    ]
    before = n_calls(any_bus)
    for _ in range(10):
        assert read_lanes(any_bus, readers, max_bytes=MIB, block_ms=0) == []
    assert n_calls(any_bus) - before < 15  # With that of counting.


# --------------------------------------------------------------------- closing


def test_whoever_closes_a_scan_seals_each_lane_where_it_stands(any_bus: Bus) -> None:
    """By what is there, or by what is durable, whichever is more."""
    lanes = [
        lane_of(channel(name, name, dtype="uint8"))
        for name in ("empty", "some", "lost", "sealed", "absent")
    ]
    record = ScanRecord(identity())
    record.fold(prepared(*lanes))
    make_lanes(any_bus, UID, [lane.name for lane in lanes[:-1]])
    append_entries(any_bus, UID, "some", [frozen(0, 5), frozen(5, 2)])
    append_entries(any_bus, UID, "sealed", [frozen(0, 5), frozen_seal(9)])
    acknowledge_all(any_bus, {(UID, "lost"): 4, (UID, "some"): 5})

    assert end_for_publisher(any_bus, record, "closed")

    lengths = {lane.name: sealed_length(any_bus, UID, lane) for lane in lanes}
    assert lengths == {"empty": 0, "some": 7, "lost": 4, "sealed": 9, "absent": 0}
