"""The master of a running scan shows its values, whatever happens to the writer."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.bus.protocol import lane_key
from scanbus.bus.protocol.keys import cursors_key, hold_key
from scanbus.bus.store import (
    Evictor,
    acknowledge,
    announce,
    append_entries,
    append_event,
    find_scan,
    hold_scan,
    make_lane,
    show_all,
    shown_points,
)
from scanbus.schemas import VerdictWord
from scanbus.schemas.file_names import scan_master_path
from scanbus.writer import check_files, rebuild
from tests.redis.test_many_segments import config
from tests.support.descriptions import UID, announced, bytes_lane, prepared
from tests.support.onlooking import Looking
from tests.support.raw_entries import frozen
from tests.support.raw_publisher import RawScan, frames, mixed_lanes
from tests.support.trees import differences
from tests.support.waiting import found_below, wait_until
from tests.support.writers import WriterProcess, final_verdict, writer

pytestmark = pytest.mark.redis
NAMES = ("th", "c1", "label", "hits", "hits__length", "eiger")
FAST = {"master_s": 0.3, "lease_s": 1, "grace_s": 600}


def hits(start: int, stop: int) -> list[Any]:
    return [np.arange(number % 5) + number / 8 for number in range(start, stop)]


def send(scan: RawScan, n_points: int) -> None:
    """Send so many points of every lane, in one entry of each."""
    start = scan.reached["g"]
    scan.send_group(start, start + n_points)
    scan.send("hits", {"hits": hits(start, start + n_points)})
    chunk = scan.lanes["eiger"].points_per_chunk
    while scan.reached["eiger"] + chunk <= start + n_points:
        first = scan.reached["eiger"]
        scan.send_frames(first, first + chunk)


def expected(name: str, n_points: int) -> Any:
    """Return what the master must have as the first points of a dataset."""
    numbers = np.arange(n_points)
    if name == "th":
        return numbers * 0.5
    if name == "c1":
        return (numbers * 10).astype(np.int32)
    if name == "label":
        return [f"point {number}" for number in numbers]
    if name == "eiger":
        return frames(0, n_points)
    lengths = numbers % 5
    if name == "hits__length":
        return lengths
    padded = np.full((n_points, max(1, int(lengths.max(initial=0)))), np.nan)
    for point, values in enumerate(hits(0, n_points)):
        padded[point, : len(values)] = values
    return padded


def read(master: Path) -> dict[str, int]:
    """Compare all that a master has with what was sent; return the lengths."""
    lengths: dict[str, int] = {}
    with h5py.File(master, locking=False) as file:
        entry = file["1.1"]
        found = {name: entry["measurement"][name] for name in entry["measurement"]}
        if "hits" in found:
            found["hits__length"] = entry["instrument/h/data__length"]
        for name, node in found.items():
            values = node.asstr()[()] if name == "label" else node[()]
            lengths[name] = len(values)
            assert len(values), f"{name} is there without a point"
            np.testing.assert_array_equal(values, expected(name, len(values)), name)
    return lengths


class Onlooker(Looking):
    """A reader that looks at a master all the time, until it has seen a fault."""

    def __init__(self, master: Path) -> None:
        super().__init__()
        self._master = master
        self.seen: list[dict[str, int]] = []

    def look(self) -> None:
        """Read the master; it never has fewer points than before."""
        if self._master.exists() or self.seen:
            lengths = read(self._master)
            before = self.seen[-1] if self.seen else {}
            for name, length in before.items():
                assert lengths.get(name, 0) >= length, f"{name} became shorter"
            self.seen.append(lengths)


def shown(master: Path, name: str) -> int:
    return read(master).get(name, 0) if master.exists() else 0


def test_a_reader_sees_all_values_grow_while_the_scan_runs(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    root = tmp_path / "root"
    master = root / scan_master_path(scan.identity)
    with writer(redis_url, root, *config(tmp_path, **FAST)):
        for n_points in (1, 9, 90):
            send(scan, n_points)
            n_sent = scan.reached["g"]
            wait_until(lambda: shown(master, "th") == n_sent)  # noqa: B023
            lengths = read(master)
            assert {lengths[name] for name in NAMES if name != "eiger"} == {n_sent}
        with h5py.File(master, locking=False) as file:
            assert "end_time" not in file["1.1"]
            assert not file["1.1/measurement/th"].is_virtual
            assert len(file["1.1/scanbus/times/g"]) == 100
        assert check_files([master]).ok
        scan.end()
        assert final_verdict(redis_url, scan.uid).verdict is VerdictWord.COMPLETE
    assert read(master)["eiger"] == 100


@pytest.mark.parametrize("is_relative", [False, True])
def test_values_of_a_scan_whose_publisher_is_gone_are_in_files(
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_relative: bool,
) -> None:
    """Also if the root is given relative to the current folder."""
    scan = RawScan(redis_url, heartbeat_s=0.5).prepare()
    send(scan, 405)
    monkeypatch.chdir(tmp_path)
    root = Path("root") if is_relative else tmp_path / "root"
    master = root / scan_master_path(scan.identity)
    with writer(redis_url, root, *config(tmp_path, master_s=600)):
        wait_until(
            lambda: find_scan(scan.client, scan.uid).verdict is not None, what="verdict"
        )
        lengths = read(master)
    assert {lengths[name] for name in NAMES if name != "eiger"} == {405}


@pytest.mark.sampled(1)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("copied_bytes", [2**26, 3000, 0])
def test_no_kill_of_the_writer_shows_a_reader_a_wrong_or_a_shorter_scan(
    redis_url: str, tmp_path: Path, copied_bytes: int
) -> None:
    scan = RawScan(redis_url).prepare()
    root = tmp_path / "root"
    master = root / scan_master_path(scan.identity)
    chance = random.Random(copied_bytes)
    options = config(tmp_path, copied_bytes=copied_bytes, **FAST)
    onlooker = Onlooker(master)
    with onlooker.looking():
        for _ in range(4):
            one = WriterProcess(redis_url, root, *options)
            before = scan.reached["g"]
            deadline = time.monotonic() + 60
            while shown(master, "th") <= before and time.monotonic() < deadline:
                send(scan, 4)
                time.sleep(0.02)
            for _ in range(chance.randrange(30)):
                send(scan, 4)
                time.sleep(0.02)
            one.kill()
            one.close()
        with writer(redis_url, root, *options):
            scan.end()
            assert final_verdict(redis_url, scan.uid).verdict is VerdictWord.COMPLETE
            wait_until(
                lambda: (
                    onlooker.fault is not None
                    or onlooker.seen[-1]["th"] == scan.reached["g"]
                )
            )
    assert len({one.get("th", 0) for one in onlooker.seen}) > 4
    report = check_files([master], everything=True)
    assert report.ok, report.findings
    before_rebuild = tmp_path / "before"
    shutil.copytree(root, before_rebuild)
    rebuild(root)
    assert differences(before_rebuild, root) == []


def test_replaced_masters_stay_for_the_grace_period(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    root = tmp_path / "root"
    master = root / scan_master_path(scan.identity)
    options = config(tmp_path, master_s=0.2, grace_s=3, copied_bytes=0)
    with writer(redis_url, root, *options):
        send(scan, 4)
        wait_until(lambda: shown(master, "th") == 4)
        with h5py.File(master, locking=False) as first:
            th = first["1.1/measurement/th"]
            assert th.is_virtual
            send(scan, 4)
            wait_until(lambda: shown(master, "th") == 8)
            (old,) = found_below(master.parent, ".scan0001.h5.*.old")
            assert old.samefile(f"/proc/self/fd/{first.id.get_vfd_handle()}")
            scan.end()
            final_verdict(redis_url, scan.uid)
            np.testing.assert_array_equal(th[()], expected("th", 4))
        wait_until(lambda: not found_below(master.parent, ".*.old"))
        wait_until(lambda: not found_below(master.parent, "values-*"))
    assert shown(master, "th") == 8


def test_points_that_no_master_shows_are_not_trimmed(any_bus: Any) -> None:
    announce(any_bus, announced(UID))
    make_lane(any_bus, UID, "group")
    append_event(any_bus, UID, prepared(bytes_lane(), uid=UID))
    append_entries(any_bus, UID, "group", [frozen(0, 2), frozen(2, 2)])
    acknowledge(any_bus, UID, "group", 4)

    nothing = Evictor().free(any_bus, 1)
    assert (nothing.entries, nothing.needs_masters) == (0, True)

    show_all(any_bus, {(UID, "group"): 2})
    some = Evictor().free(any_bus, 1)
    assert (some.entries, some.needs_masters) == (1, True)

    show_all(any_bus, {(UID, "group"): 4})
    rest = Evictor().free(any_bus, 1)
    assert (rest.entries, rest.needs_masters) == (1, False)


def test_a_redis_that_needs_room_has_the_master_written_at_once(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    root = tmp_path / "root"
    master = root / scan_master_path(scan.identity)
    settings = {"master_s": 600, "watermark": 1e-6}
    with writer(redis_url, root, *config(tmp_path, **settings)):
        send(scan, 20)  # One segment of frames, which is durable at once.
        for lane in ("g", "hits", "eiger"):
            key = lane_key(scan.uid, lane)
            wait_until(lambda: scan.client.xlen(key) == 0, what=f"{lane} trimmed")  # noqa: B023
        assert {shown(master, name) for name in NAMES} == {20}
        scan.end()
        assert final_verdict(redis_url, scan.uid).verdict is VerdictWord.COMPLETE


def test_a_redis_that_lost_what_masters_show_is_told_again(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    settings = {"master_s": 600, "watermark": 1e-6, "lease_s": 1}
    with writer(redis_url, tmp_path / "root", *config(tmp_path, **settings)):
        hold_scan(scan.client, scan.uid, 600_000)
        scan.send_group(0, 20)
        place = scan.uid, "g"
        wait_until(lambda: shown_points(scan.client, [place]) == [20])
        scan.client.hdel(cursors_key(*place), "shown")
        scan.client.delete(hold_key(scan.uid))
        # Nothing new comes, for which a master would be written.
        wait_until(lambda: scan.client.xlen(lane_key(*place)) == 0)


def test_frames_of_more_files_than_a_master_names_are_trimmed(
    redis_url: str, tmp_path: Path
) -> None:
    """Forty detectors with fifteen files each: they are too few to be joined."""
    eiger = mixed_lanes()[-1]
    lanes = [
        eiger.model_copy(
            update={
                "name": name,
                "points_per_segment": 4,
                "channels": (
                    eiger.channels[0].model_copy(
                        update={"name": name, "group": name, "device": name}
                    ),
                ),
            }
        )
        for name in (f"camera{number}" for number in range(40))
    ]
    scan = RawScan(redis_url, lanes=tuple(lanes)).prepare()
    root = tmp_path / "root"
    with writer(redis_url, root, *config(tmp_path, master_s=1, watermark=1e-6)):
        for start in range(0, 60, 4):
            for name in list(scan.lanes):
                scan.send(name, {name: frames(start, start + 4)})
        for name in scan.lanes:
            key = lane_key(scan.uid, name)
            wait_until(lambda: scan.client.xlen(key) == 0, what=f"{name} trimmed")  # noqa: B023
        scan.end()
        assert final_verdict(redis_url, scan.uid).verdict is VerdictWord.COMPLETE


@pytest.mark.parametrize("fault", ["damaged", "removed", "removed while it writes"])
def test_a_part_that_is_not_there_any_more_costs_no_point(
    redis_url: str, tmp_path: Path, fault: str
) -> None:
    scan = RawScan(redis_url).prepare()
    root = tmp_path / "root"
    master = root / scan_master_path(scan.identity)
    options = config(tmp_path, copied_bytes=0, **FAST)
    one = WriterProcess(redis_url, root, *options)
    try:
        send(scan, 5)
        wait_until(lambda: shown(master, "th") == 5)
        send(scan, 10)
        wait_until(lambda: shown(master, "th") == 15)
        part, *_ = sorted(found_below(master.parent, "values-*.h5"))
        if fault != "removed while it writes":
            one.kill()
        if fault == "damaged":
            part.write_bytes(part.read_bytes()[:1000])
        else:
            part.unlink()
        if one.process.returncode is not None:
            one.close()
            one = WriterProcess(redis_url, root, *options)
        send(scan, 5)

        def is_whole() -> bool:
            try:  # The master from before maps the damaged part.
                with h5py.File(master, locking=False) as file:
                    values = file["1.1/measurement/th"][()]
            except OSError:
                return False
            return np.array_equal(values, expected("th", 20))

        wait_until(is_whole)
        assert read(master)["label"] == 20
        scan.end()
        assert final_verdict(redis_url, scan.uid).verdict is VerdictWord.COMPLETE
    finally:
        one.close()
