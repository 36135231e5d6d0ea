"""Programs of others read a scan to its end, live from its master."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas.file_names import scan_master_path
from tests.checklist.judges import ask
from tests.redis.test_many_segments import config
from tests.support.waiting import wait_until
from tests.support.writers import writer

pytestmark = [pytest.mark.redis, pytest.mark.slow]
N_POINTS = 200

BLISSDATA = """
    import pathlib
    from blissdata.h5api import dynamic_hdf5
    answer = {}
    with dynamic_hdf5.File(sys.argv[1], retry_timeout=60, retry_period=0.1) as file:
        for name in ("diode", "mca"):
            answer[name] = []
            for value in file["/1.1/measurement/" + name]:
                pathlib.Path(sys.argv[2]).touch()
                answer[name].append(float(value if value.ndim == 0 else value[0]))
"""
SILX = """
    import pathlib, time
    import silx.io
    from silx.io import nxdata
    answer, deadline, is_over = [], time.monotonic() + 200, False
    while not is_over and time.monotonic() < deadline:
        with silx.io.open(sys.argv[1]) as file:
            plot, entry = nxdata.get_default(file), file["1.1"]
            assert plot is not None and plot.is_valid
            counters = entry["measurement"]
            answer.append({name: len(counters[name]) for name in counters})
            is_over = "end_time" in entry
        pathlib.Path(sys.argv[2]).touch()
        time.sleep(1)
"""


def send(scan: Scan, start: int, stop: int) -> None:
    for point in range(start, stop):
        scan.send("diode", float(point))
        scan.send("mca", np.full(16, point, np.uint32))
        time.sleep(0.01)


def read_live(
    url: str, folder: Path, package: str, code: str, *, copied_bytes: int
) -> Any:
    """Return what a program says of a scan that ends only when it has seen points."""
    has_seen = folder / "seen"
    root = folder / "root"
    options = config(folder, master_s=0.5, copied_bytes=copied_bytes)
    with (
        writer(url, root, *options),
        Publisher(url, name="live") as publisher,
        ThreadPoolExecutor(1) as threads,
    ):
        with publisher.scan(session="20260101") as scan:
            scan.channel("diode")
            scan.channel("mca", dtype="uint32", shape=(16,))
            send(scan, 0, N_POINTS // 2)
            master = root / scan_master_path(scan.identity)
            wait_until(master.exists, what="the first master")
            answer = threads.submit(ask, package, code, master, has_seen)
            wait_until(lambda: has_seen.exists() or answer.done(), what="a point read")
            send(scan, N_POINTS // 2, N_POINTS)
        return answer.result()


@pytest.mark.parametrize("copied_bytes", [2**26, 1000])
def test_blissdata_iterates_over_all_points_and_ends(
    redis_url: str, tmp_path: Path, copied_bytes: int
) -> None:
    said = read_live(
        redis_url, tmp_path, "blissdata", BLISSDATA, copied_bytes=copied_bytes
    )
    assert said == {name: [*map(float, range(N_POINTS))] for name in ("diode", "mca")}


@pytest.mark.parametrize("copied_bytes", [2**26, 1000])
def test_silx_sees_counters_grow_and_their_plot(
    redis_url: str, tmp_path: Path, copied_bytes: int
) -> None:
    said = read_live(redis_url, tmp_path, "silx", SILX, copied_bytes=copied_bytes)
    for before, after in pairwise(said):
        assert all(after[name] >= before[name] for name in before)
    assert 0 < said[0]["diode"] < N_POINTS
    assert said[-1] == {"diode": N_POINTS, "mca": N_POINTS}
