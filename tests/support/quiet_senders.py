"""Senders that say nothing but frames: a folder of files, and a PV of EPICS 7.

They have neither starts nor ends, so a gateway learns them from numbers, names and
silence. What the suite asks and such a sender cannot do is named in `lacks`.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from scanbus.publisher.gateways.epics import PvaGateway, PvaSettings, SimulatedIoc
from scanbus.publisher.gateways.files import WatchGateway, WatchSettings
from scanbus.publisher.gateways.runner import Gateway
from tests.support.image_files import edf_bytes
from tests.support.waiting import wait_until

# Ends of scans are not looked for here; files stay.
_NO_REDIS = "redis://127.0.0.1:1"
_IMAGE = "T:IMAGE"


class FileSender:
    """A detector that writes files."""

    names_series = True
    has_starts = False
    lacks: Mapping[str, str] = {
        "test_rubbish_is_refused_and_the_series_goes_on": (
            "a file without pixels, or with a number that no counter has, is of "
            "another series; test_publish_watch.py has those of one series"
        ),
        "test_repeated_and_shuffled_frames_stand_once_in_order": (
            "a file that is written again before it was taken has come once"
        ),
        "test_frames_of_the_hole_that_come_later_are_kept": (
            "files stay, so one that comes before its series is over is not late"
        ),
    }

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="scanbus-watch-"))
        self._frames = self._folder / "frames"
        self._frames.mkdir()

    def maker(self) -> Callable[[], Gateway]:
        database = self._folder / "taken.sqlite"
        settings = WatchSettings(self._frames, database, idle_s=1.5, settle_s=0.3)
        return partial(WatchGateway, _NO_REDIS, settings)

    def gateway(self) -> Gateway:
        return self.maker()()

    def start(self, series: int, n_frames: int) -> None:
        """Nothing: files come, or do not."""

    def frame(self, series: int, number: int, frame: npt.NDArray[Any]) -> None:
        path = self._frames / f"series{series}_{number:04}.edf"
        part = path.with_name(f".{path.name}")
        part.write_bytes(edf_bytes(frame))
        part.rename(path)

    def end(self, series: int) -> None:
        """Nothing: no more files come."""

    def rubbish(self) -> None:
        (self._frames / "series0_0000.edf").write_bytes(b"nonsense")

    def await_loss(self) -> None:
        """Nothing: files are for whoever comes."""

    def restart(self) -> None:
        """Nothing: the files are there."""

    def close(self) -> None:
        shutil.rmtree(self._folder)


class PvaSender:
    """An IOC that sends images."""

    names_series = False
    has_starts = False
    lacks: Mapping[str, str] = {
        "test_a_late_gateway_gets_what_the_sender_kept": "an IOC keeps one image",
        "test_a_full_queue_loses_nothing": (
            "an IOC keeps some images, and drops what comes then"
        ),
        "test_rubbish_is_refused_and_the_series_goes_on": (
            "rubbish has a number too; test_pva.py has it in its place"
        ),
        "test_a_scan_that_cannot_start_is_reported_and_others_are_tried": (
            "frames that were refused do not say of which series they were"
        ),
    }

    def __init__(self) -> None:
        self._ioc = SimulatedIoc(_IMAGE, is_isolated=True)
        # Of the detector's clock; a repeated image has the time of the first one.
        self._taken: dict[tuple[int, int], float] = {}
        self._last = 0.0

    def maker(self) -> Callable[[], Gateway]:
        settings = PvaSettings(_IMAGE, conf=self._ioc.conf, idle_s=3.0)
        return partial(PvaGateway, settings)

    def gateway(self) -> Gateway:
        return self.maker()()

    def start(self, series: int, n_frames: int) -> None:
        """Nothing: images come, or do not."""

    def frame(self, series: int, number: int, frame: npt.NDArray[Any]) -> None:
        self._ioc.wait_for_client(10.0)
        # Images that change places have the times at which they were taken: in a
        # minute, as to a gateway that took long to start an old image is no new one.
        began = self._taken.setdefault((series, -1), time.time() + 60.0)
        self._ioc.send(number, frame, taken=began + number / 1000)
        time.sleep(0.005)

    def end(self, series: int) -> None:
        """Nothing: no more images come."""

    def rubbish(self) -> None:
        self._ioc.send_packed(0, b"nonsense", "rot13", (4, 4), "u2")

    def await_loss(self) -> None:
        """Wait for the end of the connection: images before it go nowhere."""
        wait_until(lambda: not self._ioc.wait_for_client(0.0))

    def restart(self) -> None:
        self._ioc.restart()

    def close(self) -> None:
        self._ioc.close()
