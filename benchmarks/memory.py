"""Does memory stay flat while a scan grows?

Publishes scans of 2048 x 2048 uint16 frames through a private Redis into a writer, each
in processes of their own, with a quota below a tenth of the bytes sent, and prints the
largest resident memory of publisher and writer and the most that Redis used.

    python benchmarks/memory.py [--frames 200 2000] [--quota-mib 64]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from scanbus.bus.connection import connect
from scanbus.bus.room import used_memory
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher

SHAPE = (2048, 2048)
MEMORY_MIB = 512


@dataclass
class Peaks:
    """The most that was seen, in bytes."""

    publisher: int = 0
    writer: int = 0
    redis: int = 0


def publish(url: str, n_frames: int, quota_bytes: int) -> None:
    rng = np.random.default_rng(1)
    frames = [rng.poisson(2.0, SHAPE).astype(np.uint16) for _ in range(8)]
    with (
        Publisher(url, name="memory") as publisher,
        publisher.scan(
            title=f"{n_frames} frames",
            quota_bytes=quota_bytes,
            compression=2.0,
            require_writer=True,
        ) as scan,
    ):
        scan.detector("camera", shape=SHAPE, dtype="uint16", points=n_frames)
        for number in range(n_frames):
            scan.send("camera", frames[number % len(frames)])
    verdict = scan.verdict(60.0)
    print(f"verdict {verdict.verdict}", file=sys.stderr)


def watch(
    peaks: Peaks, url: str, writer: int, publisher: int, stop: threading.Event
) -> None:
    client = connect(url, name="watch")
    while not stop.wait(0.05):
        peaks.redis = max(peaks.redis, used_memory(client))
        for name, pid in (("writer", writer), ("publisher", publisher)):
            try:
                resident = psutil.Process(pid).memory_info().rss
            except psutil.NoSuchProcess:
                continue
            setattr(peaks, name, max(getattr(peaks, name), resident))


def run(n_frames: int, quota_bytes: int) -> tuple[Peaks, float, int]:
    peaks, stop = Peaks(), threading.Event()
    options = {"maxmemory": f"{MEMORY_MIB}mb", "maxmemory-policy": "noeviction"}
    with (
        PrivateRedis(options=options) as redis,
        tempfile.TemporaryDirectory() as folder,
    ):
        environment = {**os.environ, "SCANBUS_REDIS": redis.url}
        writer = subprocess.Popen(
            [sys.executable, "-m", "scanbus.cli", "writer", "--root", folder],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(1.5)
        started = time.perf_counter()
        publisher = subprocess.Popen(
            [sys.executable, __file__, "--publish", redis.url, str(n_frames)]
            + [str(quota_bytes)]
        )
        watcher = threading.Thread(
            target=watch, args=(peaks, redis.url, writer.pid, publisher.pid, stop)
        )
        watcher.start()
        publisher.wait()
        elapsed = time.perf_counter() - started
        stop.set()
        watcher.join()
        writer.terminate()
        writer.wait()
        written = sum(
            path.stat().st_size for path in Path(folder).rglob("camera_*.h5")
        )
    return peaks, elapsed, written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--quota-mib", type=int, default=64)
    parser.add_argument("--publish", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publish:
        url, n_frames, quota = arguments.publish
        publish(url, int(n_frames), int(quota))
        return 0
    mib = 2**20
    print(
        f"quota {arguments.quota_mib} MiB, Redis maxmemory {MEMORY_MIB} MiB "
        f"(budget {MEMORY_MIB * 0.6:.0f}), frames of "
        f"{np.prod(SHAPE) * 2 / mib:.0f} MiB raw"
    )
    for n_frames in arguments.frames:
        peaks, elapsed, written = run(n_frames, arguments.quota_mib * mib)
        print(
            f"{n_frames:6d} frames: sent {written / mib:7.0f} MiB packed in "
            f"{elapsed:5.1f} s ({n_frames / elapsed:5.1f} frames/s); resident "
            f"publisher {peaks.publisher / mib:.0f} MiB, writer "
            f"{peaks.writer / mib:.0f} MiB; Redis {peaks.redis / mib:.0f} MiB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
