"""The live subscriber of the demo: ``python -m scanbus.cli.demo.subscriber URL PNG``.

It reads every channel while the scan runs, and draws the data every few seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scanbus.cli.demo.picture import ScanSnapshot, draw
from scanbus.cli.demo.progress_report import print_report
from scanbus.cli.demo.publisher import AXIS, DETECTOR, SPECTROMETER
from scanbus.cli.logs import log_to_stderr
from scanbus.schemas.errors import DeadlineError, ScanbusError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.subscriber import Batch, ScanReader, Subscriber

__all__ = ["main"]

_SCAN_TIMEOUT_S = 60.0
_DATA_TIMEOUT_S = 60.0
# Drawing takes most of a second of one core, which other processes need too.
_DRAW_INTERVAL_S = 3.0


def main(argv: Sequence[str]) -> ExitCode:
    """Read the first scan on the bus live, and draw it."""
    log_to_stderr()
    url, picture = argv[0], Path(argv[1])
    try:
        with Subscriber(url, name="scanbus-demo-live") as subscriber:
            watch(_first_scan(subscriber), picture)
    except ScanbusError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return ExitCode.COMPLETE


def _first_scan(subscriber: Subscriber) -> ScanReader:
    for scan in subscriber.follow(from_now=False, timeout_s=_SCAN_TIMEOUT_S):
        scan.wait_prepared(_SCAN_TIMEOUT_S)
        return scan
    raise DeadlineError("waiting for a scan", _SCAN_TIMEOUT_S, "none was announced")


def watch(scan: ScanReader, picture: Path) -> None:
    """Read a scan to its end; draw it every few seconds and at the end."""
    accumulator = _Accumulator(scan)
    draw_at = time.monotonic() + _DRAW_INTERVAL_S / 2
    for batch in scan.stream(timeout_s=_DATA_TIMEOUT_S):
        accumulator.add(batch)
        if time.monotonic() >= draw_at and accumulator.n_frames:
            draw(accumulator.snapshot(), picture)
            draw_at = time.monotonic() + _DRAW_INTERVAL_S
    draw(accumulator.snapshot(), picture)


class _Accumulator:
    """The data of a scan received so far.

    Parameters
    ----------
    scan : ScanReader
        The scan; its prepared document has been read.
    """

    def __init__(self, scan: ScanReader) -> None:
        self._title = scan.record.title
        self._metadata = scan.record.metadata()["instrument"]
        self._mask = scan.array(self._metadata[DETECTOR]["pixel_mask"])
        self._n_expected = scan.channels[DETECTOR].points
        self._scalars: dict[str, list[float]] = {
            name: []
            for name, channel in scan.channels.items()
            if channel.shape == () and not channel.is_string
        }
        self._spectrum: Any = np.zeros(scan.channels[SPECTROMETER].shape)
        self._newest: Batch | None = None
        self.n_frames = 0

    def add(self, batch: Batch) -> None:
        """Add one batch; only the newest frames are decompressed."""
        if batch.channel == DETECTOR:
            self._newest = batch
            self.n_frames = batch.stop
            print_report("seen live", batch.stop, self._n_expected)
        elif batch.channel == SPECTROMETER:
            self._spectrum = self._spectrum + np.asarray(batch.values).sum(axis=0)
        elif batch.channel in self._scalars:
            self._scalars[batch.channel].extend(np.asarray(batch.values).tolist())

    def snapshot(self) -> ScanSnapshot:
        """Return the data so far, to be drawn.

        Raises
        ------
        DeadlineError
            If no frame came.
        """
        if self._newest is None:
            raise DeadlineError("waiting for a frame", _DATA_TIMEOUT_S, "none came")
        calibration = self._metadata[SPECTROMETER]
        energy_ev = calibration["calibration_offset"] + calibration[
            "calibration_slope"
        ] * np.arange(len(self._spectrum))
        return ScanSnapshot(
            title=self._title,
            n_frames=self.n_frames,
            n_expected=self._n_expected,
            angle_deg=np.array(self._scalars[AXIS]),
            counters={
                name: np.array(values)
                for name, values in self._scalars.items()
                if name != AXIS
            },
            energy_ev=energy_ev,
            spectrum=self._spectrum,
            frame=np.asarray(self._newest.values)[-1],
            mask=self._mask,
        )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
