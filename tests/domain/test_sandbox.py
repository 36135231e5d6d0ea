"""Entries that kill whoever unpacks them are refused, and the rest goes on."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanbus.bus.protocol import (
    Arrival,
    Entry,
    Kind,
    checksum_of,
    entry_id,
    pack_header,
    parse_entry,
)
from scanbus.schemas.errors import PayloadError
from scanbus.writer.scan.entry_sandbox import Sandbox
from scanbus.writer.scan.lane_writer import LaneWriter
from scanbus.writer.scan.shared_segments import SharedSegments
from scanbus.writer.storage.lane_values import LaneValues
from scanbus.writer.storage.shared_sections import OpenFiles, read_shared_segment
from tests.support.descriptions import channel, lane_of

LANE = lane_of(channel("c"), per_segment=100)
# A child that is killed by every payload that begins with a NaN.
KILLED_BY_NAN = """
import os, signal, sys
from scanbus.writer.scan import entry_sandbox as sandbox
unpack = sandbox._unpack
def deadly(lane, packed):
    if b"\\x00\\x00\\xf8\\x7f" in packed:
        os.kill(os.getpid(), signal.SIGSEGV)
    return unpack(lane, packed)
sandbox._unpack = deadly
sys.exit(sandbox.main())
"""


def points(first: int, values: list[float], codec: str = "none"):  # type: ignore[no-untyped-def]
    payload = np.array(values, "<f8").tobytes()
    header = pack_header(
        session=b"s" * 8, checksum=checksum_of(payload), codecs=(codec,)
    )
    name = entry_id(first, len(values))
    return parse_entry(LANE, name, {b"h": header, b"p": payload})


@pytest.fixture
def deadly():  # type: ignore[no-untyped-def]
    sandbox = Sandbox((sys.executable, "-c", KILLED_BY_NAN))
    yield sandbox
    sandbox.close()


def refusal(sandbox: Sandbox, entry: Entry) -> str | None:
    """Why an entry is refused, or None if it passes."""
    try:
        sandbox.check(LANE, entry)
    except PayloadError as error:
        return str(error)
    return None


def test_good_entries_pass() -> None:
    sandbox = Sandbox()
    try:
        entries = [points(0, [1.0, 2.0]), points(2, [3.0])]
        assert [refusal(sandbox, entry) for entry in entries] == [None, None]
    finally:
        sandbox.close()


def test_an_entry_that_does_not_unpack_says_why() -> None:
    sandbox = Sandbox()
    try:
        with pytest.raises(PayloadError):
            sandbox.check(LANE, points(0, [1.0], codec="zstd"))
        sandbox.check(LANE, points(0, [1.0]))
    finally:
        sandbox.close()


def test_an_entry_that_kills_the_child_is_refused_and_the_next_is_not(
    deadly: Sandbox,
) -> None:
    with pytest.raises(PayloadError, match=r"killed .* -11"):
        deadly.check(LANE, points(0, [np.nan]))
    deadly.check(LANE, points(1, [1.0]))


def test_a_killer_is_in_the_ledger_and_the_rest_in_the_file(
    tmp_path: Path, deadly: Sandbox
) -> None:
    shared = SharedSegments("uid00000", tmp_path, lambda name: tmp_path / name)
    lane = LaneWriter(
        "uid00000", LANE, tmp_path, lambda name: tmp_path / name, deadly, shared=shared
    )
    for entry in (points(0, [1.0]), points(1, [np.nan]), points(2, [3.0])):
        arrival = Arrival(Kind.POINTS, entry.first, entry.stop, entry)
        assert list(lane.take(arrival)) == []
        lane.reader.expected = entry.stop
    assert list(lane.take(Arrival(Kind.SEAL, 3, 3))) == []
    finished = shared.end([lane])
    assert finished is not None
    finished.close()
    shared.published(finished)

    ledger = lane.ledgers()["c"]
    assert (ledger.refused, ledger.missing) == (((1, 2),), ((1, 2),))
    section = read_shared_segment(tmp_path / finished.name).sections[LANE.name]
    with OpenFiles() as files:
        found: list[Any] = [one.blocks[0] for one in LaneValues(LANE, [section], files)]
    np.testing.assert_array_equal(np.concatenate(found), [1.0, np.nan, 3.0])
