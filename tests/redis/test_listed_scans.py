"""Scans are in the masters above them soon after their verdict, and never delay it."""

from __future__ import annotations

import os
import random
import shutil
import time
from contextlib import suppress
from pathlib import Path

import h5py
import pytest

from scanbus.bus.store import connect, writers_alive
from scanbus.publisher import Publisher, Scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.file_names import dataset_path, scan_master_path
from scanbus.writer import amend, rebuild
from tests.redis.test_many_segments import config
from tests.support.listed_scans import links_of
from tests.support.trees import differences
from tests.support.waiting import found_below, wait_until
from tests.support.writers import writer

pytestmark = pytest.mark.redis
LISTED_S = 10.0
SESSION = "20260101"
DATASETS = (("a", "0001"), ("a", "0002"), ("a-b", "0001"))


def problems(url: str) -> str:
    with connect(url, name="test") as client:
        found = writers_alive(client).values()
        return "; ".join(text for info in found for text in info["problems"])


def send(publisher: Publisher, chance: random.Random) -> Scan:
    """Send a scan to a random dataset; its program may be interrupted."""
    collection, dataset = chance.choice(DATASETS)
    names = {"collection": collection, "dataset": dataset, "session": SESSION}
    scan = publisher.scan(**names)  # type: ignore[arg-type]
    with suppress(KeyboardInterrupt), scan:
        scan.channel("counter")
        for number in range(chance.randrange(1, 20)):
            scan.send("counter", float(number))
        if chance.random() < 0.3:
            raise KeyboardInterrupt
    return scan


def is_listed(root: Path, scan: Scan) -> bool:
    folder = root / dataset_path(scan.identity)
    master = folder / f"{folder.name}.h5"
    name = (root / scan_master_path(scan.identity)).relative_to(folder)
    return master.is_file() and str(name) in links_of(master).values()


def assert_rebuilt_equal(root: Path) -> None:
    copy = root.with_name("copy")
    shutil.copytree(root, copy)
    for path in found_below(copy, "*.h5"):
        if not path.name.endswith("_values.h5"):
            path.unlink()
    rebuild(copy)
    assert differences(copy, root) == []


@pytest.mark.sampled(1)
@pytest.mark.parametrize("seed", range(2))
def test_scans_of_writers_killed_after_the_verdict_are_listed_by_the_next_one(
    redis_url: str, tmp_path: Path, seed: int
) -> None:
    root, chance = tmp_path / "root", random.Random(seed)
    scans: list[Scan] = []
    with Publisher(redis_url, close_timeout_s=60.0) as publisher:
        for _ in range(3):
            with writer(redis_url, root, *config(tmp_path, lease_s=1)) as one:
                scans += [send(publisher, chance) for _ in range(4)]
                for scan in scans:
                    assert scan.verdict(90.0).verdict is VerdictWord.COMPLETE
                time.sleep(chance.random())
                one.kill()
        # A correction: the scan has another master, and stays where it is.
        master = root / scan_master_path(scans[0].identity)
        amend(master, {"title": "corrected"}, reason="a slip", author="me")
        with writer(redis_url, root, *config(tmp_path, lease_s=1)) as one:
            wait_until(lambda: "writer_started" in one.said)
            started = time.monotonic()
            wait_until(lambda: all(is_listed(root, scan) for scan in scans))
            assert time.monotonic() - started < LISTED_S, one.said
            assert one.leave() == 0
    assert_rebuilt_equal(root)


def test_what_is_in_the_place_of_a_dataset_master_delays_no_verdict(
    redis_url: str, tmp_path: Path
) -> None:
    root, chance = tmp_path / "root", random.Random(0)
    with (
        Publisher(redis_url, close_timeout_s=60.0) as publisher,
        writer(redis_url, root) as one,
    ):
        with publisher.scan(session=SESSION) as scan:
            folder = root / dataset_path(scan.identity)
            folder.mkdir(parents=True)
            fifo = folder / f"{folder.name}.h5"
            os.mkfifo(fifo)
            scan.channel("counter")
            scan.send("counter", 1.0)
        assert scan.verdict(90.0).verdict is VerdictWord.COMPLETE
        wait_until(lambda: "a FIFO" in problems(redis_url))
        assert fifo.is_fifo()
        # Neither other scans nor masters above that one are affected.
        other = send(publisher, chance)
        assert other.verdict(90.0).verdict is VerdictWord.COMPLETE
        wait_until(lambda: is_listed(root, other))
        (proposal,) = root.glob("*/*/*/*/proposal_id00.h5")
        assert "sample_0001_1.1" in links_of(proposal)
        fifo.unlink()
        wait_until(lambda: is_listed(root, scan))
        wait_until(lambda: problems(redis_url) == "")
        assert one.leave() == 0
    with h5py.File(fifo) as file:
        assert file["1.1/measurement/counter"][()] == [1.0]
