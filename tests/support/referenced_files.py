"""Files as detectors write them themselves, and scans that refer to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt

from scanbus.publisher import Scan
from scanbus.schemas import Verdict
from tests.support.published import unjudged_scan
from tests.support.writers import final_verdict, writer

SHAPE = (6, 8)
LIMA_PATH = "/entry_0000/measurement/data"


def frames(first: int, count: int) -> npt.NDArray[np.uint16]:
    numbers = np.arange(first, first + count, dtype=np.uint16)
    return np.broadcast_to(numbers[:, None, None], (count, *SHAPE)).copy()


def lima_file(folder: Path, index: int, data: npt.NDArray[np.uint16]) -> Path:
    """A file as LImA's HDF5 saving makes them: a series of files of equal length."""
    path = folder / f"eiger_{index:04d}.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "entry_0000/ESRF-ID00/eiger/data",
            data=data,
            chunks=(1, *SHAPE),
            **hdf5plugin.Bitshuffle(cname="lz4"),
        )
        file["entry_0000/measurement/data"] = h5py.SoftLink(
            "/entry_0000/ESRF-ID00/eiger/data"
        )
    return path


def odin_file(folder: Path, index: int, data: npt.NDArray[np.uint16]) -> Path:
    """A file as Odin makes them: each of its writers has every n-th frame."""
    path = folder / f"run_{index:06d}.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset(
            "data", data=data, maxshape=(None, *SHAPE), chunks=(1, *SHAPE)
        )
        file.swmr_mode = True
        file.flush()
    return path


def lima_scan(url: str, files: Sequence[Path], per_file: int) -> Scan:
    with unjudged_scan(url, proposal="hg123", scan_number=1) as scan:
        scan.external_detector("eiger", shape=SHAPE, dtype="uint16", fill_value=9)
        scan.channel("i0")
        for path in files:
            scan.reference("eiger", path, LIMA_PATH, count=per_file)
            scan.send("i0", np.arange(per_file, dtype=float))
        return scan


def written(url: str, root: Path, scan: Scan) -> tuple[Path, Verdict]:
    with writer(url, root):
        verdict = final_verdict(url, scan.uid)
    return root / verdict.master, verdict


def read(master: Path) -> npt.NDArray[np.uint16]:
    with h5py.File(master) as file:
        found: npt.NDArray[np.uint16] = file["1.1/measurement/eiger"][()]
        return found


def single_scan(url: str, files: Sequence[Path], path: str, count: int = 1) -> Scan:
    with unjudged_scan(url, proposal="hg123", scan_number=1) as scan:
        scan.external_detector("eiger", shape=SHAPE, dtype="uint16")
        for file in files:
            scan.reference("eiger", file, path, count=count)
    return scan
