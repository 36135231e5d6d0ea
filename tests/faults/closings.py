"""Scans that are closed while their publisher is away, and numbers that are taken."""

import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from tests.faults.processes import PublisherProcess, until
from tests.faults.schedule import Fault
from tests.support.waiting import found_below

if TYPE_CHECKING:
    from tests.faults.arena import Ring

__all__ = ["close_meanwhile", "empty_redis", "renumber", "take_numbers"]

REACH_S = 90.0
N_TAKEN = 4
_DATASET = "proposal/id00/20260101/RAW_DATA/sample/sample_0001"


def close_meanwhile(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Suspend the publisher, have its scans closed, and let it come back to them."""
    before = set(publisher.said("begun"))
    until(lambda: set(publisher.said("begun")) - before, REACH_S)
    assert ring.writer.is_running
    time.sleep(fault.after_s / 3)
    publisher.signal(signal.SIGSTOP)
    try:
        scans = publisher.unjudged
        known = set(ring.witness.points_on_redis(scans))
        ring.close_scans(known, by_writer=fault.value == "writer")
        if fault.value == "emptied":
            # It finds nothing of that, and then a verdict with fewer points.
            with redis.Redis.from_url(ring.redis.url) as client:
                client.flushall()
    finally:
        publisher.signal(signal.SIGCONT)
    until(lambda: not (scans & publisher.unjudged and publisher.is_running), REACH_S)
    return bool(scans)


def empty_redis(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Remove everything from Redis: files and publishers know more than it."""
    time.sleep(fault.after_s)
    with redis.Redis.from_url(ring.redis.url) as client:
        client.flushall()
    time.sleep(fault.for_s)
    return publisher.is_running


def renumber(ring: "Ring", fault: Fault, publisher: PublisherProcess) -> bool:
    """Take numbers of coming scans on the disk; the counter does not know that."""
    assert ring.writer.is_running
    before = _n_renumbered(ring)
    take_numbers(ring, fault)
    return until(lambda: _n_renumbered(ring) > before, REACH_S)


def _n_renumbered(ring: "Ring") -> int:
    return sum(each.said.count('"scan_renumbered"') for each in ring.writers)


def take_numbers(ring: "Ring", fault: Fault) -> None:
    """Take numbers by any file, or by a copy of a scan, but not the very next one."""
    _copy_files(ring, is_scan=fault.hit % 2 == 0)


def _copy_files(ring: "Ring", *, is_scan: bool) -> None:
    """Take some numbers; a scan may be about to have the next one."""
    dataset, counter = ring.root / _DATASET, f"scanbus:number:{_DATASET}"
    with redis.Redis.from_url(ring.redis.url) as client:
        # An emptied Redis has no counter: the next scan's is filled from the disk, and
        # leaves out what is taken there.
        until(lambda: client.exists(counter) > 0, REACH_S)
        counted = int(client.get(counter) or 0)
    folders = sorted(dataset.glob("scan[0-9]*"))
    last = max(counted, *(int(each.name[4:]) for each in folders))
    for number in range(last + 2, last + 2 + N_TAKEN):
        folder = dataset / f"scan{number:04d}"
        if is_scan:
            shutil.copytree(folders[0], folder)
        else:
            folder.mkdir()
            (folder / f"scan{number:04d}.h5").write_bytes(b"of somebody else")
        ring.foreign |= {path: path.read_bytes() for path in _files(folder)}


def _files(folder: Path) -> list[Path]:
    return [path for path in found_below(folder, "*") if path.is_file()]
