"""Frames that were packed wrongly and have a right checksum: kept, named, no crash."""

from pathlib import Path

import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.bus.protocol import checksum_of, pack_header
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import PayloadError
from scanbus.subscriber import Subscriber
from scanbus.writer import WriterSettings, run_writer
from scanbus.writer.check import check_files
from tests.support.raw_publisher import SESSION, RawScan, block_of, frames
from tests.support.roots import made_root
from tests.support.waiting import found_below

pytestmark = pytest.mark.redis


def test_garbage_in_a_chunk_is_kept_named_and_kills_no_reader(
    redis_url: str, tmp_path: Path
) -> None:
    scan = RawScan(redis_url).prepare()
    scan.send_frames(0, 4)
    lane = scan.lanes["eiger"]
    whole = block_of(lane.channels[0], frames(4, 8))
    payload = whole[:16] + b"\xff" * (len(whole) - 16)
    header = pack_header(
        session=SESSION, checksum=checksum_of(payload), codecs=("bitshuffle-lz4",)
    )
    scan.put("eiger", 4, header, payload)
    scan.send_frames(8, 12)
    scan.end()

    settings = WriterSettings.load(redis=redis_url, root=made_root(tmp_path))
    assert run_writer(settings, once=True) == VerdictWord.COMPLETE.exit_code
    (master,) = found_below(tmp_path, "scan0001.h5")
    report = check_files([master], everything=True)

    assert [one.points for one in report.findings] == [((4, 8),)]
    assert "do not unpack" in report.findings[0].problem
    _read_with_silx(master)
    with Subscriber(redis_url) as subscriber:
        reader = subscriber.scan(scan.uid)
        np.testing.assert_array_equal(reader.read("eiger", 8, 12), frames(8, 12))
        with pytest.raises(PayloadError):
            reader.read("eiger", 4, 8)
        with pytest.raises(PayloadError):
            reader.point("eiger", 5)


def _read_with_silx(master: Path) -> None:
    from silx.io import utils

    with utils.open(str(master)) as file:  # type: ignore[no-untyped-call]
        images = file["1.1/measurement/eiger"]
        np.testing.assert_array_equal(images[8:12], frames(8, 12))
        with pytest.raises(OSError, match="read"):
            images[4:8]
