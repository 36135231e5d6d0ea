"""docs/protocol.md is enough: a scan published from it alone reads back whole."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanbus.bus.protocol import (
    SEAL_ID,
    Entry,
    Kind,
    LaneReader,
    ScanRecord,
    Variable,
    decode_block,
    pack_header,
    parse_entry,
)
from scanbus.bus.store import (
    Bus,
    announcements,
    find_scan,
    publisher_is_alive,
    read_lanes,
)
from scanbus.bus.store.cursors import _ACKNOWLEDGE
from scanbus.bus.store.heartbeats import _BEAT
from scanbus.bus.store.scans import _APPEND_EVENT
from scanbus.schemas import ChannelDescription, LaneDescription, parse_event
from tests.support.page_publisher import (
    SESSION,
    PagePublisher,
    bslz4,
    ragged_block,
    text_block,
)

pytestmark = pytest.mark.redis
PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
SCAN = {
    "uid": "fromthepage1",
    "proposal": "hg-123",
    "beamline": "id00",
    "session": "20250101",
    "collection": "sample",
    "dataset": "0001",
    "scan_number": 4,
}
N_POINTS = 25
N_FRAMES = 9
RNG = np.random.default_rng(1)
TH = np.linspace(0, 1, N_POINTS)
COUNTS = RNG.integers(0, 2**31, N_POINTS).astype("<i4")
NOTES = ["", "näher", *[f"point {number}" for number in range(2, N_POINTS)]]
SERIES = [RNG.random(number % 7).astype("<f4").tolist() for number in range(N_POINTS)]
FRAMES = RNG.poisson(3, (N_FRAMES, 33, 47)).astype("<u2")
MASK = RNG.integers(0, 2, (50, 30), np.uint8)
# Evenly spaced up to point 20, then not.
TIMES = [1.7e9 + point + (point >= 20) * point % 3 / 7 for point in range(N_POINTS)]


def described(name: str, group: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "group": group, "device": name, **more}


LANES: list[dict[str, Any]] = [
    {
        "name": "group",
        "storage": "values",
        "points_per_chunk": 20,
        "points_per_segment": 20,
        "channels": [
            described("th", "group", role="axis", dtype="float64", units="deg"),
            described("counts", "group", dtype="int32", fill_value=-1),
            described("note", "group", dtype="string", max_point_bytes=100),
            described("mca", "group", dtype="float32", shape=[-1], max_point_bytes=400),
        ],
    },
    {
        "name": "eiger",
        "storage": "files",
        "points_per_chunk": 2,
        "points_per_segment": 8,
        "channels": [
            described(
                "eiger",
                "eiger",
                role="detector",
                dtype="uint16",
                shape=[33, 47],
                codec="bitshuffle-lz4",
            )
        ],
    },
    {
        "name": "camera",
        "storage": "files",
        "points_per_chunk": 1,
        "points_per_segment": 100,
        "segment_bytes": 10_000,
        "channels": [described("camera", "camera", dtype="uint16", shape=[33, 47])],
    },
    {
        "name": "pilatus",
        "storage": "values",
        "points_per_chunk": 100,
        "points_per_segment": 100,
        "channels": [
            described(
                "pilatus",
                "pilatus",
                role="detector",
                dtype="string",
                max_point_bytes=1024,
                codec="reference",
                frames={"dtype": "int32", "shape": [619, 487]},
            )
        ],
    },
]
RUNS: list[dict[str, Any]] = [
    {"file": "/data/a b.h5", "path": "/entry/data", "first": 5, "count": 2},
    {"count": 1},
    {"file": "/data/näher.cbf", "first": 0, "count": 1},
]


def publish(client: Bus) -> None:
    publisher = PagePublisher(client, SCAN)
    publisher.open(LANES, 10**7, title="from the page", metadata={"a": float("nan")})
    for start, stop in ((0, 1), (1, 20), (20, N_POINTS)):  # No entry crosses 20.
        points = slice(start, stop)
        blocks = [
            TH[points].tobytes(),
            COUNTS[points].tobytes(),
            text_block(NOTES[points]),
            ragged_block(SERIES[points]),
        ]
        gaps = {"gaps": {"counts": [[3, 5]]}} if start == 1 else {}
        publisher.send("group", blocks, TIMES[points], **gaps)
    for start in range(0, 8, 2):
        packed = bslz4(FRAMES[start : start + 2])
        times = TIMES[start : start + 2]
        publisher.send("eiger", [packed], times, codecs="bitshuffle-lz4")
    last = np.concatenate([FRAMES[8:], np.zeros((1, 33, 47), "<u2")])
    more = {"codecs": "bitshuffle-lz4", "padded": True}
    publisher.send("eiger", [bslz4(last)], TIMES[8:9], **more)
    publisher.send("camera", [FRAMES[0].tobytes()], TIMES[:1])
    publisher.send_gap("camera", 2)
    publisher.send("camera", [FRAMES[3].tobytes()], TIMES[3:4])
    runs = json.dumps(RUNS).encode()
    more = {"codecs": "reference", "gaps": {"pilatus": [[2, 3]]}}
    publisher.send("pilatus", [runs], TIMES[:4], **more)
    publisher.update({"sample": {"name": "LaB6"}})
    mask = {"dtype": "uint8", "shape": [50, 30], "codec": "bitshuffle-lz4"}
    publisher.update({"mask": {"array": {**mask, "lane": "static.mask_1"}}})
    publisher.make("static.mask_1")
    packed = bslz4(MASK[np.newaxis])
    publisher.send("static.mask_1", [packed], TIMES[:1], codecs="bitshuffle-lz4")
    publisher.seal()
    publisher.end("SUCCESS", "fine")


def entries_of(client: Bus, lane: LaneDescription) -> list[Entry]:
    reader = LaneReader(SCAN["uid"], lane)  # type: ignore[arg-type]
    found = []
    while not reader.is_over:
        for _, arrivals in read_lanes(client, [reader], max_bytes=10_000, block_ms=0):
            assert {one.kind for one in arrivals} <= {Kind.POINTS, Kind.SEAL}
            found += [one.entry for one in arrivals if one.entry is not None]
    assert found[-1].is_seal
    return found


def values_of(
    lane: LaneDescription, channel: ChannelDescription, entries: list[Entry]
) -> list[Any]:
    """Every point of a channel; None where there is none."""
    place = lane.channels.index(channel)
    points: list[Any] = []
    for entry in entries[:-1]:
        if entry.is_gap:
            points += [None] * entry.count
            continue
        count = lane.points_per_chunk if entry.is_padded else entry.count
        came = decode_block(channel, entry.block(place), count, entry.codecs[place])
        if isinstance(came, Variable):
            points += came.texts() if channel.is_string else came.split()
        else:
            points += list(came[: entry.count])
        for start, stop in entry.gaps.get(channel.name, ()):
            points[start:stop] = [None] * (stop - start)
    return points


@pytest.fixture
def record(any_bus: Bus) -> ScanRecord:
    """The scan, published and found."""
    pytest.importorskip("bitshuffle", reason="it has no wheel for CPython 3.13")
    publish(any_bus)
    return find_scan(any_bus, "fromthepage1")


def test_the_scan_is_announced_and_says_what_was_said(
    any_bus: Bus, record: ScanRecord
) -> None:
    (line,) = announcements(any_bus)
    assert line.problem == ""
    assert record.problems == []
    assert record.state == "ended"
    assert record.title == "from the page"
    assert record.identity.scan_number == 4
    assert record.prepared is not None
    assert record.prepared.quota_bytes == 10**7
    assert np.isnan(record.metadata()["a"])
    assert record.metadata()["sample"] == {"name": "LaB6"}
    assert publisher_is_alive(any_bus, record.uid)
    assert any_bus.hget("scanbus:reserved", record.uid) == b"10000000"


def test_every_point_reads_back(any_bus: Bus, record: ScanRecord) -> None:
    assert record.prepared is not None
    came: dict[str, list[Any]] = {}
    for lane in record.prepared.lanes:
        entries = entries_of(any_bus, lane)
        for channel in lane.channels:
            came[channel.name] = values_of(lane, channel, entries)
            assert entries[-1].first == len(came[channel.name])

    counts: list[Any] = COUNTS.tolist()
    counts[3:5] = [None, None]
    assert came["th"] == TH.tolist()
    assert came["counts"] == counts
    assert came["note"] == NOTES
    assert [series.tolist() for series in came["mca"]] == SERIES
    np.testing.assert_array_equal(np.stack(came["eiger"]), FRAMES)
    assert came["camera"][1:3] == [None, None]
    np.testing.assert_array_equal(came["camera"][0], FRAMES[0])
    np.testing.assert_array_equal(came["camera"][3], FRAMES[3])
    assert came["pilatus"] == [
        "silx:///data/a b.h5?path=/entry/data&slice=5",
        "silx:///data/a b.h5?path=/entry/data&slice=6",
        None,
        "fabio:///data/näher.cbf?slice=0",
    ]


def test_a_static_array_reads_back(any_bus: Bus, record: ScanRecord) -> None:
    (lane,) = record.static.values()
    assert lane.name == "static.mask_1"
    entries = entries_of(any_bus, lane)
    (mask,) = values_of(lane, lane.channels[0], entries)
    np.testing.assert_array_equal(mask, MASK)
    assert entries[-1].first == 1


def test_times_and_flags_read_back(any_bus: Bus, record: ScanRecord) -> None:
    assert record.prepared is not None
    group, eiger, camera, _ = record.prepared.lanes
    first, second, third, seal = entries_of(any_bus, group)
    assert [entry.id for entry in (first, second, third)] == [b"0-1", b"1-19", b"20-5"]
    assert second.ends == (1.7e9 + 1, 1.7e9 + 19)
    assert third.ends is None
    found = [time for one in (first, second, third) for time in one.times.tolist()]
    assert found == TIMES
    assert dict(second.gaps) == {"counts": ((3, 5),)}
    assert {entry.session for entry in (first, seal)} == {SESSION}
    assert [entry.is_padded for entry in entries_of(any_bus, eiger)] == [
        *[False] * 4,
        True,
        False,
    ]
    assert [entry.is_gap for entry in entries_of(any_bus, camera)] == [
        False,
        True,
        False,
        False,
    ]


def listing(heading: str) -> str:
    """The first listing on the page after some words."""
    text = PAGE.read_text(encoding="utf-8")
    return re.split(r"```\w*\n", text[text.rindex(heading) :])[1].split("```")[0]


def test_the_example_on_the_page_is_what_it_says() -> None:
    event = parse_event(listing("\n`prepared`:").encode())
    lane = event.lanes[0]  # type: ignore[union-attr]
    payload = bytes.fromhex(listing("\nPAYLOAD"))
    header = bytes.fromhex(listing("\nHEADER"))
    seal = bytes.fromhex(listing("\nSEAL"))

    entry = parse_entry(lane, b"0-2", {b"h": header, b"p": payload})

    values = [
        decode_block(channel, entry.block(place), 2)
        for place, channel in enumerate(lane.channels)
    ]
    assert [list(np.asarray(value)) for value in values] == [[0.5, 1.5], [7, 9]]
    assert header == pack_header(
        session=SESSION,
        checksum=0x3C4FAC8524496A94,
        sizes=(16, 8),
        ends=(1700000000.0, 1700000000.5),
    )
    assert parse_entry(lane, SEAL_ID, {b"h": seal}).first == 2


def test_the_scripts_on_the_page_are_the_ones_in_use() -> None:
    from scanbus.bus.store import quota

    page = PAGE.read_text(encoding="utf-8")
    plain = re.sub(r"\s+", " ", page)
    for script in (
        quota._RESERVE,
        _ACKNOWLEDGE,
        _APPEND_EVENT,
        _BEAT,
    ):
        assert re.sub(r"\s+", " ", script).strip() in plain
