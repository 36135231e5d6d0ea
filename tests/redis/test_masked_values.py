"""What is masked was not measured: fill values in the files, counted as missing."""

from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from scanbus.writer import replay
from tests.support.waiting import found_below

pytestmark = pytest.mark.redis

FULL = 65535  # what uint16 channels have in place of a missing value


def test_masked_points_are_missing_and_masked_elements_are_filled(
    redis_url: str, tmp_path: Path
) -> None:
    frames = np.ma.array(np.ones((6, 2, 2), np.uint16))
    frames[1] = np.ma.masked
    frames[2, 0, 1] = np.ma.masked
    frames[5] = np.ma.masked
    with Publisher(redis_url, close_timeout_s=0) as publisher:
        with publisher.scan(quota_bytes=2**20) as scan:
            scan.channel("a", group="g")
            scan.channel("b", group="g", dtype="int32", fill_value=-1)
            scan.channel("s", shape=(2,))
            scan.detector("d", shape=(2, 2), dtype="uint16", points_per_chunk=4)
            scan.send("a", np.ma.array([1.0, 2.0, 3.0], mask=np.array([0, 1, 1], bool)))
            scan.send(
                "b",
                np.ma.array([1, 2, 3], mask=np.array([0, 0, 1], bool)),
                time=[5.0, 7.0, 8.0],
            )
            scan.send("a", np.ma.masked)
            scan.send("b", 4)
            scan.send(
                "s",
                np.ma.array(
                    [[1.0, 2.0], [3.0, 4.0]], mask=np.array([[1, 0], [1, 1]], bool)
                ),
            )
            scan.send("d", frames, time=np.arange(6.0))
        verdict = replay(redis_url, scan.uid, tmp_path)

    assert verdict.verdict is VerdictWord.PARTIAL
    missing = {name: one.missing for name, one in verdict.channels.items()}
    assert missing == {
        "a": ((1, 4),),
        "b": ((2, 3),),
        "s": ((1, 2),),
        "d": ((1, 2), (5, 6)),
    }
    (master,) = found_below(tmp_path, "scan[0-9][0-9][0-9][0-9].h5")
    with h5py.File(master) as file:
        entry = file[next(name for name in file if name.endswith(".1"))]
        found = {name: one[()] for name, one in entry["measurement"].items()}
        times = {name: one[()] for name, one in entry["scanbus/times"].items()}
    nan = np.nan
    np.testing.assert_array_equal(found["a"], [1.0, nan, nan, nan])
    np.testing.assert_array_equal(found["b"], [1, 2, -1, 4])
    np.testing.assert_array_equal(found["s"], [[nan, 2.0], [nan, nan]])
    assert found["d"].sum(axis=(1, 2)).tolist() == [
        4,
        4 * FULL,
        FULL + 3,
        4,
        4,
        4 * FULL,
    ]
    np.testing.assert_array_equal(times["g"][:3], [5.0, 7.0, nan])
    np.testing.assert_array_equal(times["d"], [0.0, nan, 2.0, 3.0, 4.0, nan])


def test_a_numbered_masked_point_is_refused(redis_url: str) -> None:
    with (
        Publisher(redis_url, close_timeout_s=0) as publisher,
        publisher.scan(quota_bytes=2**20) as scan,
    ):
        scan.channel("a")
        with pytest.raises(ValueError, match="a: a numbered point is masked"):
            scan.send("a", np.ma.masked, point=3)


def test_single_floats_of_float32_stay_finite(redis_url: str) -> None:
    """Plain floats take a way of their own if the channel holds every one."""
    with (
        Publisher(redis_url, close_timeout_s=0) as publisher,
        publisher.scan(quota_bytes=2**20) as scan,
    ):
        scan.channel("a", dtype="float32")
        scan.send("a", 1.0)
        with pytest.raises(ValueError, match="a: float32 cannot hold 1e\\+300"):
            scan.send("a", 1e300)
