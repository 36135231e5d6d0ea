"""Publish the frames of image files as one scan, with metadata of their headers."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanbus.bus.store import open_bus, writers_alive
from scanbus.publisher.gateways.files.dates import moment, seconds_of
from scanbus.publisher.gateways.files.headers import (
    nexus_name,
    read_header,
)
from scanbus.publisher.gateways.files.images import Frame, find_images
from scanbus.publisher.gateways.files.masks import pixel_mask
from scanbus.publisher.gateways.files.read_ahead import frames_ahead
from scanbus.publisher.gateways.runner.sent import wait_sent
from scanbus.publisher.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import PlotDescription, Role, ScanIdentity, Verdict, merged
from scanbus.schemas.errors import SourceError

__all__ = ["Progress", "PublishedScan", "publish_files"]

Progress = Callable[[str, int, int | None], None]
"""Called with ``(name, done, total or None)``."""

# Group of all channels with a value per frame from the header.
_GROUP = "frames"
_FILE_NAME = "file_name"
_DATE = "frame_date"
_NAME_BYTES = 512
_DATE_BYTES = 64
_MISSING = float("nan")
# Longest wait for the writer's verdict.
_VERDICT_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class PublishedScan:
    """The scan that was published from files.

    Attributes
    ----------
    uid : str
        Uid of the scan.
    n_frames : int
        Number of frames sent.
    identity : ScanIdentity
        Its folders and number.
    verdict : Verdict or None
        Verdict of the writer; None if it was not waited for, or no writer is alive.
    """

    uid: str
    n_frames: int
    identity: ScanIdentity
    verdict: Verdict | None = None


def publish_files(
    url: str,
    paths: Sequence[Path | str],
    *,
    proposal: str | None = None,
    beamline: str | None = None,
    collection: str | None = None,
    dataset: str | None = None,
    scan_number: int | None = None,
    title: str | None = None,
    rate_hz: float | None = None,
    repeat: int = 1,
    wait: bool = False,
    progress: Progress | None = None,
) -> PublishedScan:
    """Publish images as the frames of one scan.

    Parameters
    ----------
    url : str
        Address of Redis.
    paths : sequence of Path
        Images (CBF, EDF, TIFF, also compressed by gzip or bzip2), in this order, and
        folders of images. All frames must have one shape and one type.
    proposal, beamline, collection, dataset : str, optional
        Names of the folders of the scan; the collection is by default the name of the
        first file's folder.
    scan_number : int, optional
        By default the next free one.
    title : str, optional
        By default the name of the first file, and the number of files.
    rate_hz : float, optional
        Frames per second; by default as fast as possible.
    repeat : int
        How often all files are sent.
    wait : bool
        Wait for the writer's verdict, at most an hour, if a writer is alive.
    progress : callable, optional
        Called with ``("frames", sent, expected)``.

    Raises
    ------
    SourceError
        If a file cannot be published. If the files or the first frame show it, nothing
        is announced; otherwise the scan ends with FAILURE.
    ValueError
        If `rate_hz` or `repeat` is not positive, or a name is invalid.
    BusUnavailableError
        If Redis does not answer.
    DeadlineError
        If Redis has no room in time, or no verdict comes in time.
    """
    if repeat < 1 or (rate_hz is not None and not rate_hz > 0):
        raise ValueError(f"rate and repeat must be positive, got {rate_hz}, {repeat}")
    files = find_images(paths)
    uid = uuid.uuid4().hex
    with frames_ahead(files, repeat) as frames:
        source = _Source(next(frames), len(files) * repeat)
        # Not closed before all is on the bus. After that the files can be published
        # again after a loss, so closing does not wait for the verdict.
        with Publisher(url, close_timeout_s=0.0) as publisher, _all_sent(url, uid):
            opened = publisher.scan(
                uid=uid,
                title=title or f"{files[0].name} and on, {len(files)} files",
                proposal=proposal or "files",
                beamline=beamline or "files",
                collection=collection or _folder_name(files[0]),
                dataset=dataset or "0001",
                scan_number=scan_number,
                metadata=source.metadata(),
                positioners=source.facts.positioners,
                plots=source.plots(),
            )
            with opened as scan:
                source.declare(scan)
                try:
                    n_sent = _send(scan, source, frames, rate_hz, progress)
                finally:
                    source.tell_end(scan)
            verdict = _verdict(url, scan) if wait else None
    return PublishedScan(uid, n_sent, scan.identity, verdict)


def _verdict(url: str, scan: Scan) -> Verdict | None:
    """Return the writer's verdict; None if no writer is alive."""
    with open_bus(url, name="scanbus-files") as client:
        if not writers_alive(client):
            return None
    return scan.verdict(_VERDICT_TIMEOUT_S)


@contextmanager
def _all_sent(url: str, uid: str) -> Iterator[None]:
    """Leave the block only when the end of the scan is on the bus, also after an error.

    Raises
    ------
    DeadlineError
        If Redis has no room for it in time.
    """
    try:
        yield
    finally:
        wait_sent(url, [uid])


def _folder_name(file: Path) -> str:
    return nexus_name(file.resolve().parent.name, "files")


class _Source:
    """The first frame with its header, and the channels that follow from it.

    Parameters
    ----------
    first : Frame
        The first frame.
    n_files : int
        Number of files, each counted as often as it is sent.
    """

    def __init__(self, first: Frame, n_files: int) -> None:
        self.first = first
        self.facts = read_header(first.header)
        self.n_expected = n_files * first.n_in_file
        taken = {self.facts.detector, _FILE_NAME, _DATE}
        self._axis = ""
        if self.facts.axis is not None:
            self._axis = _free_name(self.facts.axis.name, taken)
        self._counters = {name: _free_name(name, taken) for name in self.facts.counters}
        self._last_date = self.facts.date

    @property
    def detector(self) -> str:
        """Name of the detector's channel."""
        return self.facts.detector

    def metadata(self) -> dict[str, Any]:
        """Return the NeXus tree of the first header, with its frame's pixel mask."""
        tree = merged(self.facts.tree, moment("start_time", self.facts.date))
        mask = pixel_mask(self.first.data) if self.facts.flags_pixels else None
        if mask is None:
            return tree
        fields = {"pixel_mask": mask, "underload_value": 0}
        return merged(tree, {"instrument": {self.detector: fields}})

    def tell_end(self, scan: Scan) -> None:
        """Say when the last frame was taken, if its header does."""
        end = moment("end_time", self._last_date)
        if end:
            scan.update(end)

    def plots(self) -> list[PlotDescription]:
        """Return the default plots: frames first, then counters if there are any."""
        plots = [PlotDescription(name="plot2D", signals=(self.detector,))]
        if self._counters:
            signals = tuple(self._counters.values())
            axes = (self._axis,) if self._is_axis_moving else ()
            plots.append(PlotDescription(name="plot0D", signals=signals, axes=axes))
        return plots

    @property
    def _is_axis_moving(self) -> bool:
        """Whether the angle changes from frame to frame; only then it is an axis."""
        return self.facts.axis is not None and self.facts.axis.increment != 0

    def declare(self, scan: Scan) -> None:
        """Declare the detector, and a channel for each value that its frames have."""
        data = self.first.data
        scan.detector(
            self.detector, shape=data.shape, dtype=data.dtype, points=self.n_expected
        )
        text: dict[str, Any] = {
            "dtype": "string",
            "group": _GROUP,
            "device": self.detector,
        }
        scan.channel(_FILE_NAME, max_point_bytes=_NAME_BYTES, **text)
        if self.facts.date:
            scan.channel(_DATE, max_point_bytes=_DATE_BYTES, **text)
        for name in self._counters.values():
            scan.channel(name, group=_GROUP)
        axis = self.facts.axis
        if axis is not None:
            scan.channel(
                self._axis,
                group=_GROUP,
                units=axis.units,
                role=Role.AXIS if self._is_axis_moving else Role.COUNTER,
                nexus={"nx_class": "NXpositioner", "field": "value"},
            )

    def send(self, scan: Scan, frame: Frame) -> None:
        """Send one frame and the values of its header.

        Raises
        ------
        SourceError
            If the frame does not have the shape and type of the first one.
        """
        self._check(frame)
        facts = self.facts if frame is self.first else read_header(frame.header)
        self._last_date = facts.date
        taken_s = seconds_of(facts.date)
        if taken_s is None:
            taken_s = math.nan  # Not now: files may have been written years ago.
        scan.send(self.detector, frame.data, time=taken_s)
        scan.send(_FILE_NAME, _short(_name_of(frame), _NAME_BYTES), time=taken_s)
        if self.facts.date:
            scan.send(_DATE, _short(facts.date, _DATE_BYTES))
        for name, channel in self._counters.items():
            scan.send(channel, facts.counters.get(name, _MISSING))
        if self._axis:
            scan.send(self._axis, facts.axis.start if facts.axis else _MISSING)

    def _check(self, frame: Frame) -> None:
        expected, got = self.first.data, frame.data
        if got.shape != expected.shape or got.dtype != expected.dtype:
            raise SourceError(
                _name_of(frame),
                f"expected frames of {expected.shape} {expected.dtype} as in "
                f"{self.first.file.name}, got {got.shape} {got.dtype}",
            )


def _send(
    scan: Scan,
    source: _Source,
    frames: Iterator[Frame],
    rate_hz: float | None,
    progress: Progress | None,
) -> int:
    """Send all frames, at most `rate_hz`; return how many there were."""
    started = time.monotonic()
    frame: Frame | None = source.first
    n_sent = 0
    while frame is not None:
        if rate_hz is not None:
            time.sleep(max(0.0, started + n_sent / rate_hz - time.monotonic()))
        source.send(scan, frame)
        n_sent += 1
        if progress is not None:
            progress("frames", n_sent, max(source.n_expected, n_sent))
        frame = next(frames, None)
    return n_sent


def _free_name(name: str, taken: set[str]) -> str:
    """Return `name`, with a suffix if it is taken, and add it to `taken`."""
    free = name
    number = 2
    while free in taken or free == _GROUP:
        free = f"{name[:56]}_{number}"
        number += 1
    taken.add(free)
    return free


def _name_of(frame: Frame) -> str:
    number = f"#{frame.number}" if frame.n_in_file > 1 else ""
    return f"{frame.file}{number}"


def _short(text: str, max_bytes: int) -> str:
    """Return `text`, or its end if it is too long: the end of a path names the file."""
    octets = text.encode("utf-8", "replace").replace(b"\0", b"")
    return octets[-max_bytes:].decode("utf-8", "ignore")
