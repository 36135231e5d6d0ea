"""Bare loops: speed of this machine without checks and guarantees.

In-process h5py with the filter; the filter alone in threads; two processes and a Redis
with nothing between them but XADD and XREAD. Each loop is a child process' main.
"""

import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import redis

from benchmarks.harness.frames import FrameSet, pack

LANE = "bare:lane"
# Largest number of frames in flight; the real publisher has a limit too.
_READ_COUNT = 4

Ready = Callable[[], None]


def h5py_in_process(ready: Ready, frames: FrameSet, count: int, path: Path) -> float:
    """Write frames through HDF5's own filter, fsync; return seconds."""
    import h5py  # noqa: PLC0415
    import hdf5plugin  # noqa: PLC0415

    raw = frames.raw()
    options = dict(hdf5plugin.Bitshuffle(cname="lz4"))
    ready()
    started = time.perf_counter()
    with h5py.File(path, "w") as file:
        shape, chunk = (count, *frames.shape), (1, *frames.shape)
        data = file.create_dataset("data", shape, frames.dtype, chunks=chunk, **options)
        for number in range(count):
            data[number] = raw[number % len(raw)]
    _fsync(path)
    return time.perf_counter() - started


def packing(ready: Ready, frames: FrameSet, count: int) -> float:
    """Only pack frames, in two threads; return seconds."""
    raw = frames.raw()
    pack(raw[0])
    ready()
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        tasks = pool.map(lambda number: pack(raw[number % len(raw)]), range(count))
        deque(tasks, maxlen=0)
    return time.perf_counter() - started


def publish(ready: Ready, url: str, frames: FrameSet, count: int, how: str) -> float:
    """XADD frames; return the time of the start.

    Parameters
    ----------
    how : str
        ``raw``: packed here in two threads; ``packed``: sent as they are;
        ``plain``: sent unpacked.
    """
    bus = redis.Redis.from_url(url, protocol=2)
    bus.delete(LANE)
    raw = frames.raw() if how != "packed" else []
    ready_made = [frame.tobytes() for frame in raw] if how == "plain" else []
    ready_made = ready_made or (frames.packed() if how == "packed" else [])
    ready()
    started = time.perf_counter()
    if ready_made:
        for number in range(count):
            _add(bus, number, ready_made[number % len(ready_made)])
        return started
    with ThreadPoolExecutor(2) as pool:
        pending: deque[Any] = deque()
        for number in range(count):
            pending.append(pool.submit(pack, raw[number % len(raw)]))
            if len(pending) > 4:
                _add(bus, number - len(pending) + 1, pending.popleft().result())
        left = len(pending)
        for index, future in enumerate(pending):
            _add(bus, count - left + index, future.result())
    return started


def _add(bus: Any, number: int, payload: bytes) -> None:
    bus.xadd(LANE, {"d": payload}, id=f"{number}-1")


def write(
    ready: Ready, url: str, frames: FrameSet, count: int, path: Path, *, filtered: bool
) -> float:
    """XREAD frames into direct chunks, trim, fsync; return the time of the end."""
    import h5py  # noqa: PLC0415
    import hdf5plugin  # noqa: PLC0415

    options = dict(hdf5plugin.Bitshuffle(cname="lz4")) if filtered else {}
    bus = redis.Redis.from_url(url, socket_timeout=None, protocol=2)
    ready()
    with h5py.File(path, "w") as file:
        shape, chunk = (count, *frames.shape), (1, *frames.shape)
        data = file.create_dataset("data", shape, frames.dtype, chunks=chunk, **options)
        _drain(bus, count, lambda n, p: data.id.write_direct_chunk((n, 0, 0), p))
    _fsync(path)
    return time.perf_counter()


def read(ready: Ready, url: str, count: int) -> float:
    """XREAD frames and discard them; return the time of the end."""
    bus = redis.Redis.from_url(url, socket_timeout=None, protocol=2)
    ready()
    _drain(bus, count, lambda _number, _payload: None)
    return time.perf_counter()


def _drain(bus: Any, count: int, take: Callable[[int, bytes], None]) -> None:
    last, done = b"0-0", 0
    while done < count:
        for _, entries in bus.xread({LANE: last}, count=_READ_COUNT, block=2000):
            for entry, fields in entries:
                take(done, fields[b"d"])
                last, done = entry, done + 1
        bus.xtrim(LANE, minid=last)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def send_times(ready: Ready, url: str, rate: int, count: int) -> None:
    """XADD the time at a given rate per second."""
    bus = redis.Redis.from_url(url, protocol=2)
    bus.delete(LANE)
    ready()
    started = time.perf_counter() + 0.5
    for number in range(count):
        time.sleep(max(0.0, started + number / rate - time.perf_counter()))
        bus.xadd(LANE, {"d": repr(time.perf_counter())})


def receive_times(ready: Ready, url: str, count: int) -> list[float]:
    """XREAD times; return the age of each in seconds."""
    bus = redis.Redis.from_url(url, socket_timeout=None, protocol=2)
    ready()
    last, found = b"0-0", []
    while len(found) < count:
        reply: Any = bus.xread({LANE: last}, count=100, block=5000)
        now = time.perf_counter()
        if not reply:
            raise RuntimeError("nothing came")
        for identifier, fields in reply[0][1]:
            last = identifier
            found.append(now - float(fields[b"d"]))
    return found
