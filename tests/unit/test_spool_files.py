"""The files of the spool: what was written is read back, what was cut is noticed."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanbus.bus.protocol import EncodedEntry
from scanbus.publisher.spool import Loss, ScanSpool, check_spool, find_scans
from scanbus.publisher.spool.lane_files import LaneFiles
from scanbus.publisher.spool.marks import Mark, Marks, packed_json, unpacked_json
from scanbus.publisher.spool.records import (
    HEAD_BYTES,
    Record,
    Stretch,
    packed_head,
    scan_records,
)
from scanbus.schemas import Event, ScanAnnounced, ScanIdentity, ScanStarted, ScanUpdated
from scanbus.schemas.errors import SpoolError
from tests.support.damage import DAMAGE, Damage, inflict
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


SESSION = b"12345678"
NAME = "lane"


def lane_files(folder: Path, segment_bytes: int = 2**20) -> LaneFiles:
    return LaneFiles(folder / NAME, SESSION, segment_bytes)


def taken(root: Path) -> ScanSpool:
    [found] = find_scans(root)
    assert isinstance(found, ScanSpool)
    return found


def written(
    folder: Path, count: int = 10, segment_bytes: int = 300
) -> list[EncodedEntry]:
    files = lane_files(folder, segment_bytes)
    entries = [frozen(n, 1, bytes([n]) * n) for n in range(count)]
    for entry in (*entries, frozen_seal(count)):
        files.append(entry)
    files.records.sync()
    files.records.close()
    return [*entries, frozen_seal(count)]


def paths_of(folder: Path) -> list[Path]:
    return sorted((folder / NAME).iterdir())


def loaded(files: LaneFiles, mark: Mark | None = None) -> list[EncodedEntry | Loss]:
    return [
        files.load(each) if isinstance(each, EncodedEntry) else each
        for each in files.recover(mark)
    ]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_entries_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    entries = written(tmp_path)
    files = lane_files(tmp_path, 300)
    found = [each for each in files.recover() if isinstance(each, EncodedEntry)]
    assert [entry.nbytes for entry in found] == [entry.nbytes for entry in entries]
    assert [files.load(entry) for entry in found] == entries
    assert len(paths_of(tmp_path)) > 3
    files.append(frozen(10, 1))
    files.records.close()


@given(cut=st.integers(1, 400), payloads=st.lists(st.binary(max_size=60), min_size=1))
def test_a_file_that_was_cut_anywhere_holds_what_was_whole(
    tmp_path_factory: pytest.TempPathFactory, cut: int, payloads: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("lane")
    files = lane_files(folder)
    ends, entries = [0], []
    for number, payload in enumerate(payloads):
        entries.append(frozen(number, 1, payload))
        files.append(entries[-1])
        ends.append(paths_of(folder)[0].stat().st_size)
    unmarked, marked = Mark(), files.records.mark
    files.records.close()
    path = paths_of(folder)[0]
    left = max(0, path.stat().st_size - cut)
    os.truncate(path, left)
    n_whole = sum(end <= left for end in ends) - 1

    torn = lane_files(folder)
    assert loaded(torn, unmarked) == entries[:n_whole]
    assert not torn.records.is_damaged
    torn.append(frozen(n_whole, 1))
    torn.records.close()
    again = lane_files(folder)
    assert loaded(again, unmarked) == [*entries[:n_whole], frozen(n_whole, 1)]
    again.records.close()
    for other in set(paths_of(folder)) - {path}:
        other.unlink()

    cut_off = lane_files(folder)
    *found, loss = loaded(cut_off, marked)
    assert found == entries[:n_whole]
    assert isinstance(loss, Loss)
    assert (loss.first, loss.stop) == (n_whole, len(payloads))
    assert cut_off.records.is_damaged
    cut_off.records.close()


@given(
    payloads=st.lists(st.binary(max_size=120), min_size=1, max_size=12),
    damages=st.lists(DAMAGE, min_size=1, max_size=3),
    is_sealed=st.booleans(),
)
@settings(max_examples=300)
def test_whatever_is_damaged_the_rest_is_read_and_the_damage_is_named(
    tmp_path_factory: pytest.TempPathFactory,
    payloads: list[bytes],
    damages: list[Damage],
    is_sealed: bool,
) -> None:
    folder = tmp_path_factory.mktemp("lane")
    files = lane_files(folder, 300)
    entries = [frozen(2 * n, 2, payload) for n, payload in enumerate(payloads)]
    places = []
    for entry in [*entries, *([frozen_seal(2 * len(entries))] if is_sealed else [])]:
        files.append(entry)
        path = paths_of(folder)[-1]
        places.append((path, path.stat().st_size))
    files.records.sync()
    mark = files.records.mark
    files.records.close()
    before = {path: path.read_bytes() for path in paths_of(folder)}
    for damage in damages:
        inflict(damage, sorted(before))

    again = lane_files(folder)
    found = loaded(again, mark)
    whole = [each for each in found if isinstance(each, EncodedEntry)]
    losses = [each for each in found if isinstance(each, Loss)]
    points = [p for each in losses for p in range(each.first, each.stop)]
    read = [each for each in whole if not each.is_seal]
    assert read == [entry for entry in entries if entry in read]
    assert sorted(points) == [
        p
        for n in range(len(entries))
        if entries[n] not in read
        for p in (2 * n, 2 * n + 1)
    ]
    # Of the records whose bytes still stand where they stood, none is lost.
    starts = [
        0 if not n or places[n - 1][0] != path else places[n - 1][1]
        for n, (path, _) in enumerate(places)
    ]
    for entry, start, (path, end) in zip(entries, starts, places, strict=False):
        data = path.read_bytes() if path.exists() else b""
        if before[path][start:end] in data:
            assert entry in read
    assert again.records.is_damaged or not losses
    # What was there stays, whatever becomes durable.
    there = paths_of(folder)
    if losses:
        assert again.records.durable_files(10**6) == 0
    again.append(frozen_seal(2 * len(entries)))
    again.records.close()
    once_more = lane_files(folder)
    assert [
        e
        for e in loaded(once_more, mark)
        if not (isinstance(e, EncodedEntry) and e.is_seal)
    ] == [e for e in found if not (isinstance(e, EncodedEntry) and e.is_seal)]
    once_more.records.close()
    assert set(there) <= set(paths_of(folder))


def test_files_that_changed_places_are_read_in_order(tmp_path: Path) -> None:
    entries = written(tmp_path)
    first, second, *_ = paths_of(tmp_path)
    other = first.with_name("other")
    first.rename(other)
    second.rename(first)
    other.rename(second)
    files = lane_files(tmp_path)
    assert loaded(files) == entries
    files.records.close()


def test_a_file_of_another_lane_is_an_error_and_stays(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / NAME).rename(tmp_path / "other")
    with pytest.raises(SpoolError, match="another lane or scan"):
        LaneFiles(tmp_path / "other", SESSION).recover()
    with pytest.raises(SpoolError, match="another lane or scan"):
        LaneFiles(tmp_path / "other", b"another").recover()


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_what_is_no_regular_file_is_an_error_and_stalls_nobody(
    tmp_path: Path, kind: str
) -> None:
    written(tmp_path)
    path = paths_of(tmp_path)[1]
    path.rename(tmp_path / "kept")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "kept")
    else:
        path.mkdir()
    with pytest.raises(SpoolError, match=r"\.spool: it is no regular file"):
        lane_files(tmp_path).recover()


def test_bytes_that_the_disk_does_not_return_cost_their_records_alone() -> None:
    def read(offset: int, nbytes: int) -> bytes:
        if offset < 8192 and offset + nbytes > 4096:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return data[offset : offset + nbytes]

    data = b""
    for number in range(40):
        body = bytes([number]) * 300
        data += packed_head(7, number, number + 1, body)[0] + body
    found = list(scan_records(read, len(data)))
    records = [each for each in found if isinstance(each, Record)]
    [stretch] = [each for each in found if isinstance(each, Stretch)]
    size = 300 + HEAD_BYTES
    lost = set(range(4096 // size, -(-8192 // size)))
    assert {each.head.sequence for each in records} == set(range(40)) - lost
    assert stretch.start == 4096 // size * size
    assert all(each.body == bytes([each.head.sequence]) * 300 for each in records)


def test_a_payload_that_was_damaged_since_is_not_sent(tmp_path: Path) -> None:
    files = lane_files(tmp_path)
    entry = frozen(0, 1, b"payload")
    files.append(entry)
    flip(paths_of(tmp_path)[0], -1)
    with pytest.raises(SpoolError, match="damaged at byte 0"):
        files.load(entry.without_payload())
    assert files.records.is_damaged
    files.records.close()


def test_files_are_removed_when_all_in_them_is_durable(tmp_path: Path) -> None:
    entries = written(tmp_path)
    files = lane_files(tmp_path)
    files.recover()
    n_files = len(paths_of(tmp_path))
    files.records.remove(files.records.durable_files(5))
    assert 1 < len(paths_of(tmp_path)) < n_files
    assert files.load(entries[5].without_payload()) == entries[5]
    with pytest.raises(SpoolError, match="is missing"):
        files.load(entries[1].without_payload())
    files.records.remove(files.records.durable_files(10))
    assert len(paths_of(tmp_path)) == 1
    files.records.close()


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
    events_file = next((tmp_path / "spooled1/events").iterdir())
    with events_file.open("ab") as file:  # As a process that dies leaves it.
        file.write(events_file.read_bytes()[:80])

    again = taken(tmp_path)
    scan = again.recover()
    assert scan is not None
    assert (scan.announced, scan.announcement) == (ANNOUNCED, "5-0")
    assert scan.session == b"12345678"
    assert scan.events == events
    assert [getattr(each, "id", each) for each in scan.entries["late.d"]] == [b"0-1"]
    again.append_event(ScanStarted(time=4.0))
    assert again.recover() is not None
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_scan_that_never_began_is_none(tmp_path: Path) -> None:
    ScanSpool.make(tmp_path, "spooled1").close()
    again = taken(tmp_path)
    assert again.recover() is None
    again.close()


def test_a_scan_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    spool = ScanSpool.make(tmp_path, "spooled1")
    spool.write_identity(ANNOUNCED, "5-0", SESSION)
    spool.append_event(ScanStarted(time=2.0))
    spool.close()
    path = tmp_path / "spooled1/scan.json"
    whole = path.read_bytes()
    other = packed_json({**unpacked_json(whole), "format": 1})
    cases = {
        "its checksum is wrong": whole.replace(b"spooled1", b"spoofed1"),
        "format 1 is not the one that is known, 3": other,
        "it is damaged": b"",
        "is missing": None,
    }
    for reason, data in cases.items():
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)
        again = taken(tmp_path)
        with pytest.raises(SpoolError, match=rf"scan\.json: .*{reason}"):
            again.recover()
        again.close()
        assert (tmp_path / "spooled1/events").exists()


def test_marks_of_which_one_copy_is_damaged_are_those_of_the_other(
    tmp_path: Path,
) -> None:
    marks = Marks(tmp_path)
    for stop in (1, 2):
        assert marks.write("d", Mark(0, 0, stop, stop))
    assert marks.write("e", Mark(3, 4, 5, 6), sync=True)
    marks.close()
    known = {"d": Mark(0, 0, 2, 2), "e": Mark(3, 4, 5, 6)}
    whole = (tmp_path / "marks.a").read_bytes()
    for name in ("marks.a", "marks.b"):
        for damage in (lambda path: flip(path, 20), Path.unlink, truncate):
            damage(tmp_path / name)
            again = Marks(tmp_path)
            assert again.read() == known
            assert not again.is_damaged
            (tmp_path / name).write_bytes(whole)
    for name in ("marks.a", "marks.b"):
        flip(tmp_path / name, 20)
    again = Marks(tmp_path)
    assert again.read() == {"e": Mark(3, 4, 5, 6)}
    assert again.is_damaged
    assert again.write("d", Mark(0, 0, 7, 7))
    again.close()
    assert Marks(tmp_path).read() == {"e": Mark(3, 4, 5, 6), "d": Mark(0, 0, 7, 7)}
    for name in ("marks.a", "marks.b"):  # A crash of the machine kept them back.
        (tmp_path / name).write_bytes(bytes(4096))
    again = Marks(tmp_path)
    assert again.read() == {}
    assert not again.is_damaged


def truncate(path: Path) -> None:
    os.truncate(path, 700)


@given(
    written=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 2**63)), min_size=1
    ),
    copy=st.sampled_from(["marks.a", "marks.b"]),
    damage=st.lists(st.integers(0, 1600), max_size=5),
)
def test_any_damage_to_one_copy_of_the_marks_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    written: list[tuple[str, int]],
    copy: str,
    damage: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("scan")
    marks, known = Marks(folder), {}
    for name, stop in written:
        known[name] = Mark(1, 2, 3, stop)
        assert marks.write(name, known[name])
    marks.close()
    size = (folder / copy).stat().st_size
    for offset in damage:
        flip(folder / copy, offset % size)
    again = Marks(folder)
    assert again.read() == known
    assert not again.is_damaged


def test_what_is_no_scan_of_a_spool_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "home/documents").mkdir(parents=True)
    (tmp_path / "home/letter").write_text("dear")
    (tmp_path / "file").write_text("")
    assert list(find_scans(tmp_path)) == []
    with pytest.raises(SpoolError, match="no publisher's spool"):
        check_spool(tmp_path)
    with pytest.raises(SpoolError, match="there is no such folder"):
        check_spool(tmp_path / "nowhere")
    assert (tmp_path / "home/letter").read_text() == "dear"
    assert [path.name for path in (tmp_path / "home").iterdir() if path.is_dir()] == [
        "documents"
    ]


def test_a_folder_whose_lock_is_missing_or_odd_is_an_error(tmp_path: Path) -> None:
    ScanSpool.make(tmp_path, "spooled1").close()
    lock = tmp_path / "spooled1/lock"
    (tmp_path / "spooled1/scan.json").write_text("{}")
    lock.unlink()
    os.mkfifo(lock)
    (tmp_path / "linked").symlink_to(tmp_path / "spooled1")
    for reason in ("no regular file", "No such file"):
        found = list(find_scans(tmp_path))
        assert [type(each) for each in found] == [SpoolError, SpoolError]
        assert "it is no folder" in str(found[0])
        assert reason in str(found[1])
        lock.unlink(missing_ok=True)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="Not a directory"):
        ScanSpool.make(tmp_path / "file", "spooled1")
