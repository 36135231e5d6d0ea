"""A scan that is a tomography, a ptychography, a map and an absorption spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scanbus.publisher import Publisher
from scanbus.publisher.gateways.runner.sent import wait_sent
from scanbus.schemas import Verdict
from scanbus.writer import WriterSettings, run_writer
from scanbus.writer.storage.scan_file import read_scan_file
from tests.support.roots import made_root
from tests.support.waiting import found_below

__all__ = [
    "ANGLES_DEG",
    "ENERGY_KEV",
    "FRAMES",
    "IMAGE_KEYS",
    "METADATA",
    "N_POINTS",
    "POSITIONS_M",
    "SPECTRA",
    "TECHNIQUES",
    "Wanted",
    "written_techniques",
]

N_POINTS = 10
TECHNIQUES = ("nxtomo", "nxfluo", "nxxas", "nxsas", "cxi", "openpmd")
FRAMES = np.random.default_rng(14).poisson(9, (N_POINTS, 16, 12)).astype(np.uint16)
SPECTRA = np.random.default_rng(15).poisson(9, (N_POINTS, 64)).astype(np.uint32)
IMAGE_KEYS = np.array([2, 1, *[0] * (N_POINTS - 3), 1], np.int32)
ANGLES_DEG = 18.0 * np.arange(N_POINTS)
ENERGY_KEV = 17.0 + 0.01 * np.arange(N_POINTS)
POSITIONS_M = np.stack(
    [
        1.5e-6 * np.arange(N_POINTS),
        2e-6 * np.arange(N_POINTS),
        np.zeros(N_POINTS),
    ],
    axis=1,
)
METADATA: dict[str, Any] = {
    "sample": {"name": "LaB6"},
    "technique": {"nxtomo": {"rotation": "rot"}},
    "instrument": {
        "source": {
            "name": "ESRF",
            "type": "Synchrotron X-ray Source",
            "probe": "x-ray",
        },
        "monochromator": {"energy": 17.0, "energy@units": "keV"},
        "beam": {"incident_energy_spread": 1.0, "incident_energy_spread@units": "eV"},
        "eiger": {
            "distance": 1500.0,
            "distance@units": "mm",
            "x_pixel_size": 75.0,
            "x_pixel_size@units": "um",
            "y_pixel_size": 75.0,
            "y_pixel_size@units": "um",
            "count_time": 0.1,
            "count_time@units": "s",
        },
        "mca": {"calibration_offset": 0.05, "calibration_slope": 0.01},
    },
}


@dataclass(frozen=True)
class Wanted:
    """One scan to publish.

    Attributes
    ----------
    layouts : tuple of str
        Its layouts.
    metadata : mapping
        Its metadata.
    without : tuple of str
        Channels that it lacks.
    n_points : int
        How many of the points it has.
    changed : mapping
        Other values of channels.
    """

    layouts: tuple[str, ...] = TECHNIQUES
    metadata: Mapping[str, Any] = field(default_factory=lambda: METADATA)
    without: tuple[str, ...] = ()
    n_points: int = N_POINTS
    changed: Mapping[str, Any] = field(default_factory=dict)


def written_techniques(
    url: str, root: Path, *scans: Wanted
) -> list[tuple[Path, Verdict]]:
    """Publish scans and write them; return the folder and the verdict of each."""
    with Publisher(url, close_timeout_s=0.0) as publisher:
        wait_sent(url, [_publish(publisher, each) for each in scans])
    run_writer(WriterSettings.load(redis=url, root=made_root(root)), once=True)
    found: list[tuple[Path, Verdict]] = []
    for number in range(1, len(scans) + 1):
        (path,) = found_below(root, f"scan{number:04d}_values.h5")
        found.append((path.parent, read_scan_file(path).verdict))
    return found


def _publish(publisher: Publisher, wanted: Wanted) -> str:
    columns = {
        "rot": (ANGLES_DEG, {"role": "axis", "units": "deg"}),
        "energy": (ENERGY_KEV, {"role": "axis", "units": "keV"}),
        "sx": (POSITIONS_M[:, 0] * 1e6, {"role": "axis", "units": "um"}),
        "sy": (POSITIONS_M[:, 1] * 1e3, {"role": "axis", "units": "mm"}),
        "i0": (100 + np.arange(N_POINTS), {"dtype": "int64"}),
        "i1": (50.0 + np.arange(N_POINTS), {}),
        "image_key": (IMAGE_KEYS, {"dtype": "int32"}),
        "mca": (SPECTRA, {"shape": (64,), "dtype": "uint32", "role": "spectrum"}),
        "eiger": (FRAMES, {}),
    }
    names = [name for name in columns if name not in wanted.without]
    with publisher.scan(
        proposal="p1",
        title="loopscan",
        metadata=wanted.metadata,
        layouts=wanted.layouts,
    ) as scan:
        for name in names:
            if name == "eiger":
                scan.detector(name, shape=(16, 12), dtype="uint16")
            else:
                scan.channel(name, **columns[name][1])  # type: ignore[arg-type]
        for point in range(wanted.n_points):
            for name in names:
                values = wanted.changed.get(name, columns[name][0])
                scan.send(name, values[point])
    return scan.uid
