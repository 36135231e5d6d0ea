"""The publisher of the demo: ``python -m scanbus.cli.demo.publisher URL FRAMES``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from scanbus.cli.demo.progress_report import print_report
from scanbus.cli.logs import log_to_stderr
from scanbus.publisher import Publisher, Scan
from scanbus.publisher.simulation import SimulatedExperiment
from scanbus.schemas import PlotDescription
from scanbus.schemas.errors import ScanbusError
from scanbus.schemas.exit_codes import ExitCode

__all__ = ["AXIS", "DETECTOR", "SPECTROMETER", "main"]

AXIS = "omega"
DETECTOR = "eiger"
SPECTROMETER = "xrf"
_GROUP = "counters"
_STEP_DEG = 0.1
# Duration of the scan, within the limits of the rate.
_SHOWN_S = 10.0
_SLOWEST_HZ, _FASTEST_HZ = 8.0, 20.0
# Photon-counting frames are mostly zeros: a cautious ratio, for larger segments.
_COMPRESSION = 3.0


def main(argv: Sequence[str]) -> ExitCode:
    """Publish one simulated scan and wait for its verdict."""
    log_to_stderr()
    url, n_frames = argv[0], int(argv[1])
    try:
        publish(url, n_frames, SimulatedExperiment(seed=7, step_deg=_STEP_DEG))
    except ScanbusError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return ExitCode.COMPLETE


def publish(url: str, n_frames: int, experiment: SimulatedExperiment) -> None:
    """Publish `n_frames` points of an experiment."""
    last = experiment.angle_deg(n_frames - 1)
    with Publisher(url, name="demo") as publisher:
        with publisher.scan(
            title=f"ascan {AXIS} 0 {last:g} {n_frames - 1} 0.1",
            proposal="demo",
            beamline="id00",
            collection="lab6",
            instrument="simulated diffractometer",
            metadata=_metadata(experiment),
            positioners={
                AXIS: ("deg", experiment.angle_deg(0)),
                "detector_distance": ("m", experiment.geometry.distance_m),
                "slit_gap": ("mm", 0.2),
            },
            plots=_plots(experiment),
            compression=_COMPRESSION,
        ) as scan:
            _declare(scan, experiment, n_frames)
            _run(scan, experiment, n_frames)
            scan.end_positioners({AXIS: ("deg", last)})
        scan.verdict()


def _metadata(experiment: SimulatedExperiment) -> dict[str, Any]:
    tree = experiment.metadata(DETECTOR, SPECTROMETER)
    tree["instrument"][DETECTOR]["pixel_mask"] = experiment.mask
    return tree


def _plots(experiment: SimulatedExperiment) -> list[PlotDescription]:
    counters = tuple(experiment.counter_infos)
    return [
        PlotDescription(name="counters", signals=counters, axes=(AXIS,)),
        PlotDescription(name="frames", signals=(DETECTOR,)),
        PlotDescription(name="spectra", signals=(SPECTROMETER,)),
    ]


def _declare(scan: Scan, experiment: SimulatedExperiment, n_frames: int) -> None:
    scan.channel(AXIS, units="deg", role="axis", group=_GROUP, points=n_frames)
    for name, info in experiment.counter_infos.items():
        scan.channel(name, units=info.units, group=_GROUP, points=n_frames)
    scan.channel(
        SPECTROMETER,
        role="spectrum",
        dtype="uint32",
        shape=experiment.spectrum(0).shape,
        units="counts",
        points=n_frames,
    )
    scan.detector(
        DETECTOR, shape=experiment.shape, dtype=experiment.dtype, points=n_frames
    )


def _run(scan: Scan, experiment: SimulatedExperiment, n_frames: int) -> None:
    rate_hz = min(_FASTEST_HZ, max(_SLOWEST_HZ, n_frames / _SHOWN_S))
    started = time.monotonic()
    for k in range(n_frames):
        frame = experiment.frame(k)
        time.sleep(max(0.0, started + k / rate_hz - time.monotonic()))
        scan.send(AXIS, experiment.angle_deg(k))
        for name, value in experiment.counters(k).items():
            scan.send(name, value)
        scan.send(SPECTROMETER, experiment.spectrum(k))
        scan.send(DETECTOR, frame)
        print_report("published", k + 1, n_frames)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
