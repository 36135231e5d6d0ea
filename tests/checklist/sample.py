"""Scans of every kind that the checklist looks at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from scanbus.bus.codecs import find_codec
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher, Scan
from scanbus.schemas import Positioner, Verdict
from scanbus.schemas.running_files import UNLISTED_GLOB
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, wait_until, writer

__all__ = [
    "FOLDERS",
    "FRAME",
    "N_POINTS",
    "Sample",
    "mask",
    "published_sample",
    "tomography_frames",
]

N_POINTS = 12
FRAME = (40, 60)
ROWS, COLUMNS = 4, 5


class Folders(TypedDict):
    """Where a scan is: arguments of `Publisher.scan`."""

    proposal: str
    collection: str
    dataset: str


FOLDERS: Folders = {
    "proposal": "hg123",
    "collection": "sample-A",
    "dataset": "0001",
}


@dataclass
class Sample:
    """What was published, and where it is.

    Attributes
    ----------
    url : str
        The bus; its writer is alive.
    root : pathlib.Path
        Root of the files.
    masters : dict
        Scan master by the name of the scan.
    sent : dict
        Values by channel of the scan `rich`.
    verdicts : dict
        Final verdict by the name of the scan.
    """

    url: str
    root: Path
    masters: dict[str, Path] = field(default_factory=dict)
    sent: dict[str, Any] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    @property
    def rich(self) -> Path:
        """Master of the scan that has everything."""
        return self.masters["rich"]

    @property
    def dataset(self) -> Path:
        """Master of the dataset."""
        folder = self.rich.parent.parent
        return folder / f"{folder.name}.h5"

    @property
    def files(self) -> list[Path]:
        """All HDF5 files below the root."""
        return sorted(found_below(self.root, "*.h5"))


def mask() -> np.ndarray:
    found = np.zeros(FRAME, np.uint32)
    found[3, 5:9] = [1, 2, 2**8, 2**30]
    return found


def values_sent() -> dict[str, Any]:
    points, rng = np.arange(N_POINTS), np.random.default_rng(13)
    frames = rng.poisson(3, (N_POINTS, *FRAME)).astype(np.uint32)
    frames[:, mask() > 0] = 2**32 - 1
    return {
        "th": points / 4,
        "diode": 1e-6 * points,
        "diode_std": np.full(N_POINTS, 1e-8),
        "monitor": 2e-6 * points,
        "count": (points * 7).astype(np.int32),
        "open": points % 2 == 0,
        "comment": [f"Punkt № {point}" for point in points],
        "peaks": [np.arange(point % 4, dtype=float) for point in points],
        "mca_det0": rng.integers(0, 99, (N_POINTS, 64)).astype(np.uint32),
        "mca_det0_icr": points * 1000.0,
        "mca_det0_realtime": np.full(N_POINTS, 0.1),
        "eiger": frames,
        "cam": rng.integers(0, 255, (N_POINTS, 20, 30, 3)).astype(np.uint8),
        "noise": rng.integers(0, 2**16, (N_POINTS, 64, 64)).astype(np.uint16),
        "a-b": points + 0.5,
        "a_b": points + 0.25,
    }


METADATA = {
    "sample": {"name": "Lysozym Å", "mass": 1.5, "mass@units": "mg"},
    "user": {"name": "A. Person"},
    "flag": True,
    "technique": {"scan": {"energy": 17.0, "energy@units": "keV"}},
    "saxs": {"@NX_class": "NXsubentry", "title": "SAXS"},
    "instrument": {
        "eiger": {
            "x_pixel_size": 75e-6,
            "x_pixel_size@units": "m",
            "y_pixel_size": 0.1,
            "y_pixel_size@units": "mm",
            "pixel_mask": mask(),
            "count_time": 0.1,
        },
        "mca_det0": {
            "energy": [0.25 + 0.01 * number for number in range(64)],
            "energy@units": "keV",
            "preset_time": 0.1,
        },
    },
}


def publish_rich(scan: Scan, sent: dict[str, Any]) -> None:
    scan.channel("th", role="axis", units="deg", group="fast")
    for name, units in (("diode", "A"), ("monitor", "A"), ("diode_std", "A")):
        scan.channel(name, units=units, group="fast")
    scan.channel("count", dtype="int32", units="1/s", group="fast")
    scan.channel("open", dtype="bool", group="fast")
    scan.channel("comment", dtype="string", max_point_bytes=64)
    scan.channel("peaks", shape=(-1,), max_point_bytes=128)
    scan.channel("mca_det0", role="spectrum", shape=(64,), dtype="uint32")
    scan.channel("mca_det0_icr", units="Hz", group="fast")
    scan.channel("mca_det0_realtime", units="s", group="fast")
    scan.channel("a-b")
    scan.channel("a_b")
    scan.detector("eiger", shape=FRAME, dtype="uint32", points_per_chunk=1)
    scan.detector("cam", shape=(20, 30, 3), dtype="uint8", points_per_chunk=1)
    scan.detector("noise", shape=(64, 64), dtype="uint16", points_per_chunk=1)
    codec = find_codec("bitshuffle-lz4")
    for name, values in sent.items():
        if name == "eiger":
            scan.send(name, values[: N_POINTS // 2])
            rest = [bytes(codec.encode(one[None])) for one in values[N_POINTS // 2 :]]
            scan.send(name, packed=rest)
        else:
            scan.send(name, values)
    scan.update(note="Verschluß geöffnet")
    scan.end_positioners({"th": Positioner(value=2.75, units="deg", dial=3.25)})


def publish_mesh(scan: Scan) -> None:
    columns = np.tile(np.arange(COLUMNS), (ROWS, 1))
    columns[1::2] = columns[1::2, ::-1]
    for name in ("sy", "sx"):
        scan.channel(name, role="axis", units="mm", group="g")
    scan.channel("diode", units="A", group="g")
    scan.channel("monitor", units="A", group="g")
    rows = np.repeat(np.arange(ROWS), COLUMNS)
    scan.send("sy", rows / 2)
    scan.send("sx", columns.ravel() / 10)
    scan.send("diode", 10.0 * rows + columns.ravel())
    scan.send("monitor", np.ones(rows.size))


def publish_gaps(scan: Scan) -> None:
    scan.channel("th", role="axis", units="deg")
    scan.detector("eiger", shape=FRAME, dtype="uint16", points_per_chunk=1)
    scan.send("th", np.arange(6.0))
    scan.send("eiger", np.ones((2, *FRAME), np.uint16))
    scan.skip("eiger", 2)
    scan.send("eiger", np.full((2, *FRAME), 2, np.uint16))


def publish_tomography(publisher: Publisher) -> list[Scan]:
    """Publish a sequence as Bliss's tomography does: its start, then the frames."""
    technique = {
        "scan_category": "tomo:basic",
        "scan": {
            "energy": 17.0,
            "energy@units": "keV",
            "sample_detector_distance": 100.0,
            "sample_detector_distance@units": "mm",
            "source_sample_distance": 100.0,
            "source_sample_distance@units": "m",
            "tomo_n": N_POINTS,
            "field_of_view": "Full",
            "name": "rock",
        },
        "optic": {"sample_pixel_size": 0.65, "sample_pixel_size@units": "um"},
        "tomoconfig": {"rotation": ["srot"], "detector": ["pcolinux"]},
    }
    folders: Folders = {**FOLDERS, "dataset": "tomo"}
    positioners = {"srot": ("deg", 0.0), "sz": ("mm", 1.5)}
    start = publisher.scan(
        title="tomo:basic",
        metadata={"technique": technique},
        positioners=positioners,
        **folders,
    )
    with start as first:
        first.channel("current", units="mA")
        first.send("current", 200.0)
    frames = publisher.scan(
        title="projections",
        metadata={
            "technique": {"image_key": 0},
            "instrument": {
                "pcolinux": {
                    "acq_parameters": {"acq_expo_time": 0.1},
                    "x_pixel_size": 6.5e-6,
                    "y_pixel_size": 6.5e-6,
                }
            },
        },
        positioners=positioners,
        **folders,
    )
    with frames as scan:
        scan.channel("srot", role="axis", units="deg", group="g")
        scan.channel("current", units="mA", group="g")
        scan.detector("pcolinux", shape=FRAME, dtype="uint16", points_per_chunk=1)
        scan.send("srot", np.linspace(0, 180, N_POINTS))
        scan.send("current", np.full(N_POINTS, 200.0))
        scan.send("pcolinux", tomography_frames())
    return [start, frames]


def tomography_frames() -> np.ndarray:
    size = N_POINTS * FRAME[0] * FRAME[1]
    return np.arange(size, dtype=np.uint16).reshape(N_POINTS, *FRAME)


@contextmanager
def published_sample(root: Path) -> Iterator[Sample]:
    """Publish all scans, wait for their verdicts, and keep bus and writer running."""
    with PrivateRedis() as server, writer(server.url, root):
        found = Sample(server.url, root, sent=values_sent())
        scans: dict[str, Scan] = {}
        with Publisher(server.url, name="spec 6.11") as publisher:
            rich = publisher.scan(
                title="ascan th 0 3 12 0.1 № Å",
                instrument="ID00 Streuung Å",
                metadata=METADATA,
                positioners={
                    "th": Positioner(value=0.0, units="deg", dial=0.5),
                    "gone": "ERR",
                },
                **FOLDERS,
            )
            with rich as scan:
                publish_rich(scan, found.sent)
            scans["rich"] = rich
            for name, publish in (("mesh", publish_mesh), ("gaps", publish_gaps)):
                with publisher.scan(title=name, **FOLDERS) as scan:
                    publish(scan)
                scans[name] = scan
            with publisher.scan(title="sequence_of_scans", **FOLDERS) as sequence:
                for part in scans.values():
                    sequence.add_subscan(part)
            scans["sequence"] = sequence
            scans["tomo"], scans["projections"] = publish_tomography(publisher)
            for name, each in scans.items():
                verdict = final_verdict(server.url, each.uid)
                found.verdicts[name] = verdict
                found.masters[name] = root / verdict.master
        # Masters above a scan are written after its verdict.
        wait_until(lambda: not [*root.glob(UNLISTED_GLOB)])
        yield found
