"""The files of the spool: what was written is read back, what was cut is noticed."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.bus.protocol import EncodedEntry
from scanbus.publisher.spool import ScanSpool, find_scans
from scanbus.publisher.spool.lane_files import LaneFiles
from scanbus.schemas import Event, ScanAnnounced, ScanIdentity, ScanStarted, ScanUpdated
from scanbus.schemas.errors import SpoolError
from tests.support.raw_entries import frozen, frozen_seal

ANNOUNCED = ScanAnnounced(
    time=1.0,
    scan=ScanIdentity(
        uid="spooled1",
        proposal="p",
        beamline="b",
        session="20260101",
        collection="c",
        dataset="d",
        scan_number=1,
    ),
)


def written(
    folder: Path, count: int = 10, segment_bytes: int = 200
) -> list[EncodedEntry]:
    files = LaneFiles(folder, segment_bytes)
    entries = [frozen(n, 1, bytes([n]) * n) for n in range(count)]
    for entry in (*entries, frozen_seal(count)):
        files.append(entry)
    files.sync()
    files.close()
    return [*entries, frozen_seal(count)]


def test_entries_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    entries = written(tmp_path)
    files = LaneFiles(tmp_path, 200)
    found = files.recover()
    assert [entry.nbytes for entry in found] == [entry.nbytes for entry in entries]
    assert [files.load(entry) for entry in found] == entries
    assert len(list(tmp_path.iterdir())) > 3
    files.append(frozen(10, 1))
    files.close()


@given(cut=st.integers(1, 400), payloads=st.lists(st.binary(max_size=60), min_size=1))
def test_a_file_that_was_cut_anywhere_holds_what_was_whole(
    tmp_path_factory: pytest.TempPathFactory, cut: int, payloads: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("lane")
    files = LaneFiles(folder)
    ends, entries = [0], []
    for number, payload in enumerate(payloads):
        entries.append(frozen(number, 1, payload))
        files.append(entries[-1])
        ends.append(next(folder.iterdir()).stat().st_size)
    files.close()
    path = next(folder.iterdir())
    left = max(0, path.stat().st_size - cut)
    os.truncate(path, left)
    again = LaneFiles(folder)
    n_whole = sum(end <= left for end in ends) - 1
    assert [again.load(entry) for entry in again.recover()] == entries[:n_whole]
    assert path.stat().st_size == ends[n_whole]
    again.close()


def test_damage_before_the_end_is_an_error(tmp_path: Path) -> None:
    written(tmp_path)
    path = min(tmp_path.iterdir())
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)
    with pytest.raises(SpoolError, match=r"00000000\.spool: damaged before its end"):
        LaneFiles(tmp_path).recover()


def test_a_payload_that_was_damaged_since_is_not_sent(tmp_path: Path) -> None:
    files = LaneFiles(tmp_path)
    entry = frozen(0, 1, b"payload")
    files.append(entry)
    path = next(tmp_path.iterdir())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(SpoolError, match="is damaged"):
        files.load(entry.without_payload())
    files.close()


def test_files_are_removed_when_all_in_them_is_durable(tmp_path: Path) -> None:
    entries = written(tmp_path)
    files = LaneFiles(tmp_path, 200)
    files.recover()
    n_files = len(list(tmp_path.iterdir()))
    files.remove_durable(5)
    assert 1 < len(list(tmp_path.iterdir())) < n_files
    assert files.load(entries[5].without_payload()) == entries[5]
    with pytest.raises(SpoolError, match="is missing"):
        files.load(entries[1].without_payload())
    files.remove_durable(10)
    assert len(list(tmp_path.iterdir())) == 1
    files.close()


def test_a_scan_is_read_back_and_its_folder_belongs_to_one(tmp_path: Path) -> None:
    spool = ScanSpool.make(tmp_path, "spooled1")
    spool.write_identity(ANNOUNCED, "5-0", b"12345678")
    events: list[Event] = [ScanStarted(time=2.0), ScanUpdated(time=3.0, note="ä")]
    spool.append_events(events)
    spool.lane("late.d").append(frozen(0, 1))
    assert list(find_scans(tmp_path)) == []
    with pytest.raises(SpoolError, match="was not finished"):
        ScanSpool.make(tmp_path, "spooled1")
    spool.close()
    with (tmp_path / "spooled1/events.jsonl").open("ab") as file:
        file.write(b'{"type": "ended", "ti')

    [again] = find_scans(tmp_path)
    scan = again.recover()
    assert scan is not None
    assert (scan.announced, scan.announcement) == (ANNOUNCED, "5-0")
    assert scan.session == b"12345678"
    assert scan.events == events
    assert [entry.id for entry in scan.entries["late.d"]] == [b"0-1"]
    again.append_event(ScanStarted(time=4.0))
    assert again.recover() is not None
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_scan_that_never_began_is_none(tmp_path: Path) -> None:
    ScanSpool.make(tmp_path, "spooled1").close()
    [again] = find_scans(tmp_path)
    assert again.recover() is None
    again.close()


def test_a_scan_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    ScanSpool.make(tmp_path, "spooled1").close()
    (tmp_path / "spooled1/scan.json").write_text("{}")
    [again] = find_scans(tmp_path)
    with pytest.raises(SpoolError, match=r"scan\.json"):
        again.recover()
    again.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="Not a directory"):
        ScanSpool.make(tmp_path / "file", "spooled1")
