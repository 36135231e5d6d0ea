"""References that lead where nothing may be opened, or that are none."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import h5py
import pytest

from scanbus.schemas import VerdictWord
from scanbus.subscriber import Subscriber
from scanbus.writer import check_files
from tests.support.published import unjudged_scan
from tests.support.referenced_files import (
    LIMA_PATH,
    SHAPE,
    frames,
    lima_file,
    lima_scan,
    written,
)

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def hostile_file(disk: Path, tmp_path: Path, kind: str) -> Path:
    """A file below the root that leads out of it, or that must not be opened."""
    outside = lima_file(tmp_path, 7, frames(0, 10))
    path = disk / "hostile.h5"
    if kind == "elsewhere":
        return outside
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(outside)
    elif kind == "linked folder":
        (disk / "linked").symlink_to(tmp_path)
        return disk / "linked" / outside.name
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        _hdf5_leading_out(path, outside, kind)
    return path


def _hdf5_leading_out(path: Path, outside: Path, kind: str) -> None:
    with h5py.File(path, "w") as file:
        if kind == "external link":
            file[LIMA_PATH] = h5py.ExternalLink(str(outside), LIMA_PATH)
        elif kind == "virtual":
            layout = h5py.VirtualLayout((10, *SHAPE), "uint16")
            layout[:] = h5py.VirtualSource(str(outside), LIMA_PATH, (10, *SHAPE))
            file.create_virtual_dataset(LIMA_PATH, layout)
        else:
            file.create_dataset(
                LIMA_PATH, (10, *SHAPE), "uint16", external=str(outside)
            )


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "kind",
    [
        "elsewhere",
        "fifo",
        "folder",
        "link",
        "linked folder",
        "loop",
        "device",
        "external link",
        "virtual",
        "raw file",
    ],
)
def test_nothing_outside_of_the_external_roots_is_opened(
    kind: str, redis_url: str, root: Path, disk: Path, tmp_path: Path
) -> None:
    path = hostile_file(disk, tmp_path, kind)
    scan = lima_scan(redis_url, [path], 10)
    began = time.monotonic()
    master, verdict = written(redis_url, root, scan)
    assert time.monotonic() - began < 60
    assert verdict.verdict is VerdictWord.PARTIAL
    assert "hostile" in verdict.reason or "external_roots" in verdict.reason
    with h5py.File(master) as file:
        assert not file["1.1/measurement/eiger"].is_virtual
        assert file["1.1/measurement/eiger"].asstr()[0].startswith("silx://")
    check_files([master], external_roots=[disk])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"file": "a.h5"}, "relative"),
        ({"file": "/data/../etc/a.h5"}, "upwards"),
        ({"file": "/data/a?b.h5"}, "one of"),
        ({"file": "/data/a\0.h5"}, "control"),
        ({"file": "/" + 2000 * "a"}, "limit"),
        ({"path": "data"}, "relative"),
        ({"count": 0}, "count"),
        ({"first": -1}, "frame"),
    ],
)
def test_what_cannot_be_a_reference_is_refused_at_once(
    given: dict[str, Any], sentence: str, redis_url: str
) -> None:
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        scan.external_detector("eiger", shape=SHAPE, dtype="uint16")
        scan.reference("eiger", "/data/a.h5", "/data")
        arguments = {"file": "/data/a.h5", "path": "/data", **given}
        with pytest.raises(ValueError, match=sentence):
            scan.reference("eiger", **arguments)
        with pytest.raises(ValueError, match="no URL of a frame"):
            scan.send("eiger", "/data/a.h5")
        with pytest.raises(ValueError, match="skip"):
            scan.send("eiger", "")
    with Subscriber(redis_url) as subscriber:
        assert subscriber.scan(scan.uid).length("eiger") == 1
