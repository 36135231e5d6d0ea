"""Scans whose writer and Redis are gone, and what a salvage must make of them."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np

from scanbus.bus.store import append_event, read_cursor, shown_points
from scanbus.cli.private_redis import PrivateRedis
from scanbus.schemas import LaneDescription, ScanUpdated, Verdict, VerdictWord
from scanbus.schemas.errors import NameTakenError, VerificationError
from scanbus.schemas.file_names import WORK_FOLDER
from scanbus.writer import salvage
from scanbus.writer.storage.shared_sections import (
    read_shared_segment,
    recover_shared_segment,
    uid_of_shared_segment,
)
from tests.support.raw_publisher import RawScan, frames
from tests.support.waiting import found_below
from tests.support.writers import wait_until, writer

# One whole segment of each lane and a good part of the next ones.
N_FULL, N_POINTS, N_FRAMES, N_HITS = 1000, 1250, 50, 40


FILL = np.iinfo(np.uint16).max


def partly_sent(url: str) -> RawScan:
    """A scan of which not all was sent yet."""
    scan = RawScan(url).prepare()
    update = ScanUpdated(time=time.time(), metadata={"sample": {"name": "lysozyme"}})
    append_event(scan.client, scan.uid, update)
    for first in range(0, N_FULL, 250):
        scan.send_group(first, first + 250)
    for first in range(0, N_FRAMES, 2):
        scan.send_frames(first, first + 2)
    return scan


def work_folders(root: Path) -> list[Path]:
    # Not rglob: it stumbles over the folder with which a writer tries the root.
    found = root.glob(f"hg123/id00/*/*/*/*/{WORK_FOLDER}/*")
    return sorted(one for one in found if one.is_dir())  # Claims of numbers are files.


def rows_in(path: Path, dataset: str) -> int:
    """Rows of a file that another process may be writing; 0 if it cannot be read."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return len(file[f"/entry_0000/measurement/{dataset}"])
    except (OSError, KeyError, RuntimeError):
        return 0


def temporary_rows(root: Path, name: str, dataset: str = "data") -> int:
    return max([rows_in(f / name, dataset) for f in work_folders(root)], default=0)


def temporary_points(root: Path, lane: str) -> int:
    """The point after the last one of a lane in a shared segment of a work folder."""
    stops = [0]
    for folder in work_folders(root):
        for path in folder.glob("*.segment"):
            with suppress(VerificationError):
                for section in recover_shared_segment(path, read_uid(path)):
                    description = LaneDescription.model_validate_json(
                        section.description
                    )
                    stops += [section.stop] if description.name == lane else []
    return max(stops)


def read_uid(path: Path) -> str:
    try:
        return uid_of_shared_segment(path)
    except (NameTakenError, OSError):
        return ""


def send_rest(scan: RawScan) -> None:
    """Send small values that no full segment has, once a master shows all others."""
    wait_until(lambda: read_cursor(scan.client, scan.uid, "g") == N_FULL)
    wait_until(lambda: shown_points(scan.client, [(scan.uid, "g")]) == [N_FULL])
    scan.send_group(N_FULL, N_POINTS)
    for number in range(N_HITS):
        scan.send("hits", {"hits": [np.arange(number % 7, dtype=float)]})


def wait_for_flush(scan: RawScan, root: Path, n_frames: int = N_FRAMES) -> None:
    """Return when all was sent, and the temporary segments hold it."""
    send_rest(scan)
    wait_until(lambda: temporary_rows(root, "eiger_0002.h5") == n_frames - 40)
    wait_until(lambda: temporary_points(root, "g") == N_POINTS)
    wait_until(lambda: temporary_points(root, "hits") == N_HITS)


def killed_writer(server: PrivateRedis, root: Path) -> RawScan:
    """Kill a writer in the middle of a scan, and then Redis."""
    scan = partly_sent(server.url)
    with writer(server.url, root) as one:
        wait_for_flush(scan, root)
        one.kill()
    scan.close()
    server.kill()
    return scan


def make_silent(root: Path) -> None:
    """Have all work folders look as if nobody wrote there for two minutes."""
    then = time.time() - 120
    for path in found_below(root, f"{WORK_FOLDER}/**/*"):
        os.utime(path, (then, then))


def only_scan(root: Path, *names: str, force: bool = True) -> Verdict:
    report = salvage(root, names, force=force)
    assert report.skipped == ()
    (scan,) = report.scans
    assert report.exit_code == VerdictWord.PARTIAL.exit_code
    return scan.verdict


def written(verdict: Verdict, channel: str) -> list[int]:
    """The points that a verdict names as written."""
    ledger = verdict.channels[channel]
    lost = {p for start, stop in ledger.missing for p in range(start, stop)}
    points = [p for p in range(ledger.expected) if p not in lost]
    assert len(points) == ledger.written
    return points


def assert_as_sent(root: Path, verdict: Verdict) -> None:
    """What is named as written equals what was sent; the rest is the fill value."""
    with h5py.File(root / verdict.master) as file:
        data: Any = file["1.1/measurement"]
        points = written(verdict, "eiger")
        found = data["eiger"][()]
        np.testing.assert_array_equal(found[points], frames(0, N_FRAMES)[points])
        lost = np.delete(found, points, axis=0)
        assert (lost == FILL).all()
        points = written(verdict, "th")
        np.testing.assert_array_equal(data["th"][()][points], np.array(points) * 0.5)
        np.testing.assert_array_equal(data["c1"][()][points], np.array(points) * 10)
        labels = data["label"].asstr()[()]
        assert [labels[p] for p in points] == [f"point {p}" for p in points]
        for point in written(verdict, "hits"):
            row = data["hits"][point]
            assert row[~np.isnan(row)].tolist() == list(range(point % 7))


def is_closed(root: Path, name: str) -> bool:
    for folder in work_folders(root):
        if name.endswith(".segment"):
            with suppress(NameTakenError, OSError):
                return bool(read_shared_segment(folder / name).uid)
            continue
        try:
            with h5py.File(folder / name, "r", locking=False) as file:
                return "account" in file["/entry_0000/scanbus"]
        except (OSError, KeyError, RuntimeError):
            continue
    return False
