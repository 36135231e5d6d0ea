"""Publish the frames of image files as one scan, with metadata of their headers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path

from scanbus.bus.store import open_bus, writers_alive
from scanbus.publisher.gateways.files.dates import zone_of
from scanbus.publisher.gateways.files.frame_source import FrameSource
from scanbus.publisher.gateways.files.header_changes import HeaderChanges
from scanbus.publisher.gateways.files.headers import nexus_name, read_header
from scanbus.publisher.gateways.files.images import Frame, find_images
from scanbus.publisher.gateways.files.read_ahead import frames_ahead, headers_ahead
from scanbus.publisher.gateways.runner.sent import wait_sent
from scanbus.publisher.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import ScanIdentity, Verdict

__all__ = ["Progress", "PublishedScan", "publish_files"]

Progress = Callable[[str, int, int | None], None]
"""Called with ``(name, done, total or None)``."""

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
    notes : tuple of str
        What the headers left open, for whoever publishes.
    """

    uid: str
    n_frames: int
    identity: ScanIdentity
    verdict: Verdict | None = None
    notes: tuple[str, ...] = ()


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
    layouts: Sequence[str] = (),
    rate_hz: float | None = None,
    repeat: int = 1,
    time_zone: str | None = None,
    wait: bool = False,
    progress: Progress | None = None,
) -> PublishedScan:
    """Publish images as the frames of one scan.

    Parameters
    ----------
    url : str
        Address of Redis.
    paths : sequence of Path
        Images (CBF, EDF, TIFF, MarCCD, SMV, HDF5 and what else fabio reads, also
        compressed by gzip or bzip2), in this order, and folders of images. All frames
        must have one shape and one type.
    proposal, beamline, collection, dataset : str, optional
        Names of the folders of the scan; the collection is by default the name of the
        first file's folder.
    scan_number : int, optional
        By default the next free one.
    title : str, optional
        By default the name of the first file, and the number of files.
    layouts : sequence of str
        Layouts of its files besides ESRF's, as of ``Publisher.scan``.
    rate_hz : float, optional
        Frames per second; by default as fast as possible.
    repeat : int
        How often all files are sent.
    time_zone : str, optional
        That of times in headers without one: a name such as Europe/Paris, or +02:00.
    wait : bool
        Wait for the writer's verdict, at most an hour, if a writer is alive.
    progress : callable, optional
        Called with ``("headers", files read, files)``, then ``("frames", sent,
        expected)``.

    Raises
    ------
    SourceError
        If a file cannot be published. If the files or the first frame show it, nothing
        is announced; otherwise the scan ends with FAILURE.
    ValueError
        If `rate_hz` or `repeat` is not positive, or a name is invalid.
    ConfigurationError
        If the time zone is not known.
    BusUnavailableError
        If Redis does not answer.
    DeadlineError
        If Redis has no room in time, or no verdict comes in time.
    """
    if repeat < 1 or (rate_hz is not None and not rate_hz > 0):
        raise ValueError(f"rate and repeat must be positive, got {rate_hz}, {repeat}")
    zone = None if time_zone is None else zone_of(time_zone)
    files = find_images(paths)
    changes = _read_headers(files, zone, progress)
    uid = uuid.uuid4().hex
    with frames_ahead(files, repeat) as frames:
        source = FrameSource(next(frames), changes, changes.n_headers * repeat, zone)
        # Not closed before all is on the bus. After that the files can be published
        # again after a loss, so closing does not wait for the verdict.
        with Publisher(url, close_timeout_s=0.0) as publisher, _all_sent(url, uid):
            opened = publisher.scan(
                uid=uid,
                title=title or _title_of(files),
                proposal=proposal or "files",
                beamline=beamline or "files",
                collection=collection or _folder_name(files[0]),
                dataset=dataset or "0001",
                scan_number=scan_number,
                metadata=source.metadata(),
                positioners=source.positioners,
                plots=source.plots(),
                layouts=layouts,
            )
            with opened as scan:
                source.declare(scan)
                for note in source.notes():
                    scan.update(note=note)
                try:
                    n_sent = _send(scan, source, frames, rate_hz, progress)
                finally:
                    source.tell_end(scan)
            verdict = _verdict(url, scan) if wait else None
    return PublishedScan(uid, n_sent, scan.identity, verdict, tuple(source.notes()))


def _read_headers(
    files: Sequence[Path], zone: tzinfo | None, progress: Progress | None
) -> HeaderChanges:
    """Read all headers: only together they show what changes.

    Raises
    ------
    SourceError
        If a file is invalid, as far as its headers show it: nothing was announced yet.
    """
    changes = HeaderChanges(zone)
    with headers_ahead(files) as found:
        for n_read, headers in enumerate(found, start=1):
            for header in headers:
                changes.add(read_header(header))
            if progress is not None:
                progress("headers", n_read, len(files))
    return changes


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


def _title_of(files: Sequence[Path]) -> str:
    name = files[0].name
    return name if len(files) == 1 else f"{name} and on, {len(files)} files"


def _folder_name(file: Path) -> str:
    return nexus_name(file.resolve().parent.name, "files")


def _send(
    scan: Scan,
    source: FrameSource,
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
