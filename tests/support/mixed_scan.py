"""A scan with values, texts, series and frames, and its way through a writer."""

from pathlib import Path

import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np

from scanbus.bus.store import (
    read_cursor,
)
from scanbus.writer import WriterSettings, run_writer
from tests.support.raw_publisher import RawScan
from tests.support.roots import made_root
from tests.support.waiting import found_below

N_POINTS, N_FRAMES = 2500, 130


def fill(scan: RawScan, start: float = 0.0, stop: float = 1.0) -> RawScan:
    """Send a share of all points of a mixed scan."""
    for first in range(int(start * N_POINTS), int(stop * N_POINTS), 250):
        scan.send_group(first, first + 250)
    n_hits = scan.reached["hits"]
    for number in range(n_hits, n_hits + int((stop - start) * 100)):
        scan.send("hits", {"hits": [np.arange(number % 7, dtype=float)]})
    for first in range(scan.reached["eiger"], int(stop * N_FRAMES) // 2 * 2, 2):
        scan.send_frames(first, first + 2)
    return scan


def durable(scan: RawScan, point: int) -> bool:
    return read_cursor(scan.client, scan.uid, "eiger") >= point


def whole_scan(url: str, **options: object) -> RawScan:
    scan = fill(RawScan(url, **options).prepare())  # type: ignore[arg-type]
    scan.end()
    return scan


def write_once(url: str, root: Path) -> int:
    return run_writer(WriterSettings.load(redis=url, root=made_root(root)), once=True)


def master_of(root: Path, number: int = 1) -> Path:
    return found_below(root, f"scan{number:04d}.h5")[0]
