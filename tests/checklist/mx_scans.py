"""Scans with the layout nxmx: of a program, of a detector's stream, of files."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.publisher.gateways.dectris import (
    DectrisGateway,
    SimulatedSender,
    simulate_series,
)
from scanbus.publisher.gateways.files import publish_files
from scanbus.publisher.gateways.runner import (
    GatewayRunner,
    GatewaySettings,
    ScanNames,
)
from scanbus.schemas import Verdict
from tests.support.headered_images import GEOMETRY, pilatus_header, written_cbf
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, writer

__all__ = [
    "FRAME",
    "MASK",
    "N_FRAMES",
    "N_TRIGGERS",
    "MxScan",
    "files_scan",
    "mx_scans",
    "program",
]

N_FRAMES, N_TRIGGERS = 12, 3
FRAME = (60, 50)
MASK: npt.NDArray[np.uint32] = np.zeros(FRAME, np.uint32)
MASK[3, 5:9] = [1, 2, 2**8, 2**30]
# One module of a PILATUS: DIALS looks for the gaps between modules.
_PILATUS = (195, 487)
_LAYOUTS = ("nxmx",)


@dataclass(frozen=True)
class MxScan:
    """A scan and its two files.

    Attributes
    ----------
    linking, mapping : pathlib.Path
        The one that links the detector's files, and the one that maps them.
    sums : tuple of int
        Sum of each frame that was published.
    sources : tuple of pathlib.Path
        The frames as files, if it was published from these.
    """

    linking: Path
    mapping: Path
    verdict: Verdict
    sums: tuple[int, ...]
    sources: tuple[Path, ...] = ()

    @property
    def pair(self) -> tuple[Path, Path]:
        """Both files."""
        return self.linking, self.mapping


def mx_scans(folder: Path) -> dict[str, MxScan]:
    """Publish each scan, and wait until it is written; return them by name.

    Parameters
    ----------
    folder : pathlib.Path
        An empty one; the root of the files is in it.
    """
    root = folder / "data"
    with PrivateRedis(tcp=True) as server, writer(server.url, root):
        return {
            name: make(server.url, folder, root / name)
            for name, make in _MAKERS.items()
        }


def files_scan(
    url: str, root: Path, proposal: str, files: Sequence[Path], sums: Sequence[int]
) -> MxScan:
    """Publish files as a scan, and wait until it is written."""
    done = publish_files(
        url,
        files,
        proposal=proposal,
        layouts=_LAYOUTS,
        time_zone="Europe/Paris",
        wait=True,
    )
    assert done.verdict is not None
    return _found(root / proposal, done.verdict, sums, files)


def program(publisher: Publisher, **more: Any) -> Any:
    """Return a scan of which a program says all that NXmx has, with `more` options."""
    detector = {
        "distance": 250.0,
        "distance@units": "mm",
        "x_pixel_size": 75e-6,
        "x_pixel_size@units": "m",
        "y_pixel_size": 75e-6,
        "y_pixel_size@units": "m",
        "beam_center_x": 24.5,
        "beam_center_y": 31.25,
        "sensor_material": "silicon",
        "sensor_thickness": 450.0,
        "sensor_thickness@units": "um",
        "pixel_mask": MASK,
        "count_time": 0.019,
        "count_time@units": "s",
        "frame_time": 0.02,
        "frame_time@units": "s",
        "saturation_value": 100_000,
        "underload_value": 0,
        "ntrigger": N_TRIGGERS,
    }
    metadata = {
        "instrument": {
            "eiger": detector,
            "beam": {"incident_energy": 12.4, "incident_energy@units": "keV"},
            "source": {"@NX_class": "NXsource", "name": "Ring of Å"},
        },
        "sample": {"name": "lysozyme"},
    }
    return publisher.scan(
        proposal="program", beamline="id30", metadata=metadata, layouts=_LAYOUTS, **more
    )


def _program(url: str, folder: Path, place: Path) -> MxScan:
    frames = _frames(N_FRAMES)
    with Publisher(url, close_timeout_s=0.0) as publisher:
        with program(publisher) as scan:
            scan.channel("omega", role="axis", units="deg")
            # Small frames: with other layouts they would share chunks.
            scan.detector("eiger", shape=FRAME, dtype="uint32")
            scan.send("omega", 30 + np.arange(N_FRAMES) / 4)
            scan.send("eiger", frames)
        verdict = final_verdict(url, scan.uid)
    # Readers leave out what is masked.
    sums = np.where(MASK > 0, 0, frames).sum(axis=(1, 2)).tolist()
    return _found(place, verdict, sums)


def _frames(number: int) -> npt.NDArray[np.uint32]:
    return np.random.default_rng(7).poisson(3, (number, *FRAME)).astype(np.uint32)


def _series(url: str, folder: Path, place: Path) -> MxScan:
    names = ScanNames(
        "eiger", {"proposal": place.name, "beamline": "id30", "layouts": _LAYOUTS}
    )
    settings = GatewaySettings(url, names, once=True)
    with SimulatedSender("tcp://127.0.0.1:*") as sender:
        how = {"n_frames": N_FRAMES, "shape": FRAME}
        sending = threading.Thread(target=simulate_series, args=(sender,), kwargs=how)
        sending.start()
        gateway = DectrisGateway(sender.address, "pull")
        report = GatewayRunner(gateway, settings).run()
        sending.join()
    ((uid, _),) = report.series
    return _found(place, report.verdicts[uid], ())


def _rotation(url: str, folder: Path, place: Path) -> MxScan:
    return _of_cbf(url, folder, place, GEOMETRY)


def _bare(url: str, folder: Path, place: Path) -> MxScan:
    return _of_cbf(url, folder, place, "")


def _of_cbf(url: str, folder: Path, place: Path, more: str) -> MxScan:
    files = [folder / f"{place.name}_{number:04}.cbf" for number in range(1, 5)]
    sums = []
    for number, path in enumerate(files):
        # DIALS knows the detector of that number, and expects more of its header.
        text = pilatus_header(number).replace("60-0119", "60-0000") + more
        pixels = (np.arange(_PILATUS[0] * _PILATUS[1]) + number) % 199
        frame = pixels.astype(np.int32).reshape(_PILATUS)
        sums.append(int(written_cbf(number, path, text, frame).sum()))
    return files_scan(url, place.parent, place.name, files, sums)


def _found(
    place: Path, verdict: Verdict, sums: Sequence[int], sources: Sequence[Path] = ()
) -> MxScan:
    (linking,) = found_below(place, "scan0001_master.h5")
    mapping = linking.with_name("scan0001.nxs")
    assert mapping.is_file()
    return MxScan(linking, mapping, verdict, tuple(sums), tuple(sources))


# The first one waits for the writer; `publish_files` would not.
_MAKERS = {
    "program": _program,
    "series": _series,
    "rotation": _rotation,
    "bare": _bare,
}
