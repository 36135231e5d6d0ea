"""This project's side: children that publish a scan and wait for its verdict.

The clock runs from opening the scan to the writer's final verdict, that is until all
segments are closed, compared, fsynced and under their final names.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.harness.frames import CODEC, COMPRESSION, FrameSet
from scanbus.publisher import Publisher, Scan
from scanbus.schemas import Verdict

VERDICT_S = 120.0
Ready = Callable[[], None]


@dataclass(frozen=True)
class Run:
    """One scan.

    Attributes
    ----------
    seconds : float
        From opening it to its verdict.
    verdict_s : float
        From the last send to the verdict.
    cpu_s : float
        Of the publisher.
    """

    seconds: float
    verdict_s: float
    cpu_s: float


def check(verdict: Verdict, expected: Mapping[str, int]) -> None:
    """Check that all points are in a file.

    Raises
    ------
    RuntimeError
        If the scan is not complete, or a channel has not as many points as expected.
    """
    written = {name: ledger.written for name, ledger in verdict.channels.items()}
    if verdict.verdict != "complete" or written != expected:
        raise RuntimeError(f"{verdict.verdict}: {verdict.reason}; written {written}")


def _timed(
    ready: Ready,
    publisher: Publisher,
    send: Callable[[Scan], None],
    expected: dict[str, int],
    **options: Any,
) -> Run:
    ready()
    cpu, started = time.process_time(), time.perf_counter()
    with publisher.scan(require_writer=True, **options) as scan:
        send(scan)
        sent = time.perf_counter()
    verdict = scan.verdict(VERDICT_S)
    done = time.perf_counter()
    check(verdict, expected)
    return Run(done - started, done - sent, time.process_time() - cpu)


def send_frames(
    ready: Ready,
    url: str,
    frames: FrameSet,
    count: int,
    how: str,
    *,
    per_chunk: int | None = None,
    copy: bool = False,
) -> Run:
    """Publish frames: ``raw``, ``packed`` already, or ``plain``, never packed.

    Like the bare loop, this does not copy frames unless told to.
    """
    raw = frames.raw() if how != "packed" else []
    packed = frames.packed() if how == "packed" else []

    def send(scan: Scan) -> None:
        scan.detector(
            "detector",
            shape=frames.shape,
            dtype=frames.dtype,
            codec="none" if how == "plain" else CODEC,
            points=count,
            points_per_chunk=per_chunk,
        )
        for number in range(count):
            if packed:
                scan.send("detector", packed=[packed[number % len(packed)]])
            else:
                scan.send("detector", raw[number % len(raw)], copy=copy)

    compression = 1.0 if how == "plain" else min(COMPRESSION, _compression(frames))
    with Publisher(url, name="bench") as publisher:
        expected = {"detector": count}
        return _timed(ready, publisher, send, expected, compression=compression)


def _compression(frames: FrameSet) -> float:
    return max(1.0, 0.9 * frames.raw_bytes / frames.packed_bytes)


def send_scalars(
    ready: Ready, url: str, n_channels: int, per_send: int, n_sends: int
) -> Run:
    """Publish float64 counters that are groups of their own.

    Parameters
    ----------
    per_send : int
        Values of each send; 1 for single numbers.
    n_sends : int
        Sends of each channel.
    """
    names = [f"c{number}" for number in range(n_channels)]
    values: Iterable[Any] = (
        [float(number) for number in range(n_sends)]
        if per_send == 1
        else [np.arange(per_send, dtype=np.float64)] * n_sends
    )

    def send(scan: Scan) -> None:
        for name in names:
            scan.channel(name)
        push = scan.send
        for value in values:
            for name in names:
                push(name, value)

    expected = dict.fromkeys(names, n_sends * per_send)
    with Publisher(url, name="bench") as publisher:
        return _timed(ready, publisher, send, expected)


def send_grouped(ready: Ready, url: str, n_channels: int, n_points: int) -> Run:
    """Publish counters of one group, point by point, as a step scan does."""
    names = [f"c{number}" for number in range(n_channels)]

    def send(scan: Scan) -> None:
        for name in names:
            scan.channel(name, group="step")
        for number in range(n_points):
            for name in names:
                scan.send(name, float(number))

    with Publisher(url, name="bench") as publisher:
        return _timed(ready, publisher, send, dict.fromkeys(names, n_points))


def send_spectra(ready: Ready, url: str, n_bins: int, count: int) -> Run:
    """Publish spectra one by one."""
    rng = np.random.default_rng(3)
    spectra = rng.poisson(5.0, (16, n_bins)).astype(np.uint32)

    def send(scan: Scan) -> None:
        scan.channel("mca", shape=(n_bins,), dtype="uint32", role="spectrum")
        for number in range(count):
            scan.send("mca", spectra[number % len(spectra)])

    with Publisher(url, name="bench") as publisher:
        return _timed(ready, publisher, send, {"mca": count})
