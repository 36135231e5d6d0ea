"""Masks and flat fields: outside of events, once per scan, found under their path."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import numpy.typing as npt
import pytest

from scanbus.bus.protocol import events_key, heartbeat_key, hold_key, lane_key
from scanbus.bus.store import Evictor, connect
from scanbus.cli import main
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher, Scan
from scanbus.schemas import EndReason, Verdict, VerdictWord
from scanbus.schemas.errors import DeclarationError, NotYetError, UnknownChannelError
from scanbus.subscriber import Subscriber
from scanbus.writer import rebuild, replay, salvage
from scanbus.writer.check import check_files
from tests.conftest import RedisFactory
from tests.support.static_publisher import MASK, UID
from tests.support.trees import differences
from tests.support.waiting import wait_until
from tests.support.writers import final_verdict, writer

pytestmark = pytest.mark.redis

RNG = np.random.default_rng(3)
FLAT = RNG.normal(1, 0.01, (700, 512)).astype(">f4")
CUBE = RNG.integers(0, 9, (2, 3, 4, 20_000), np.int64)


@dataclass
class Calibration:
    gains: npt.NDArray[Any]
    kind: str = "flat"


METADATA = {
    "instrument": {
        "eiger": {
            "pixel_mask": MASK,
            "pixel_mask@units": "1",
            "calib": Calibration(FLAT),
        }
    },
    "calibration": {"the same mask": MASK, "cube@of": CUBE[::2], "cube": CUBE},
}


def assert_there(entry: h5py.Group) -> None:
    eiger = entry["instrument/eiger"]
    np.testing.assert_array_equal(eiger["pixel_mask"], MASK)
    assert eiger["pixel_mask"].attrs["units"] == "1"
    np.testing.assert_array_equal(eiger["calib/gains"], FLAT)
    kept = entry["calibration"]
    np.testing.assert_array_equal(kept["the_same_mask"], MASK)
    assert kept["the_same_mask"].attrs["original_name"] == "the same mask"
    np.testing.assert_array_equal(kept["cube"], CUBE)
    np.testing.assert_array_equal(kept["cube_of"], CUBE[::2])


def arrays_of(root: Path) -> list[str]:
    """The names of the files with static arrays, without their digests."""
    found = root.glob("*/*/*/*/*/*/scan*/static.*.h5")
    return sorted(path.name.rsplit("_", 2)[0] for path in found)


def publish(url: str, *, later: bool = False, **more: Any) -> tuple[Scan, Verdict]:
    """Publish a scan with all these arrays; `later`: by updates, after the start."""
    with Publisher(url, name="tests") as publisher:
        metadata = {} if later else METADATA
        with publisher.scan(metadata=metadata, session="20260101", **more) as scan:
            scan.channel("a")
            scan.detector("eiger", shape=(4, 4), dtype="u2")
            scan.update({"early": MASK})
            scan.send("a", 1.0)
            scan.update(METADATA)
            scan.send("eiger", np.ones((4, 4), "u2"))
            scan.update({"calibration": {"more": FLAT}})
        return scan, scan.verdict(60)


@pytest.mark.parametrize("later", [False, True])
def test_static_arrays_stand_under_their_paths_and_once(
    redis_url: str, tmp_path: Path, later: bool
) -> None:
    with writer(redis_url, tmp_path):
        scan, verdict = publish(redis_url, later=later, quota_bytes=2**20)
    assert verdict.verdict is VerdictWord.COMPLETE
    # The mask is given under three paths, twice; the slice is another array.
    mask = "static.early" if later else "static.pixel_mask"
    names = [mask, "static.gains", "static.cube", "static.of"]
    assert arrays_of(tmp_path) == sorted(names)
    master = tmp_path / verdict.master
    with h5py.File(master) as file:
        assert_there(file["1.1"])
        np.testing.assert_array_equal(file["1.1/early"], MASK)
        np.testing.assert_array_equal(file["1.1/calibration/more"], FLAT)
        assert sorted(file["1.1/measurement"]) == ["a", "eiger"]
        assert "problems" not in file["1.1/scanbus"]
        assert file["1.1/plotselect"].attrs["signal"] == "a"
    with connect(redis_url, name="test") as client:
        every = [fields[1] for _, fields in client.xrange(events_key(scan.uid))]
        assert max(map(len, every)) < 10_000
    report = check_files([master], everything=True)
    assert report.findings == ()
    master.unlink()
    assert rebuild(tmp_path).skipped == ()
    with h5py.File(master) as file:
        assert_there(file["1.1"])


def test_a_replay_has_them_and_an_evicted_scan_leaves_none(
    redis_url: str, tmp_path: Path
) -> None:
    with writer(redis_url, tmp_path / "live"):
        scan, _ = publish(redis_url)
    again = replay(redis_url, scan.uid, tmp_path / "again")
    assert again.verdict is VerdictWord.COMPLETE
    assert differences(tmp_path / "live", tmp_path / "again") == []
    with connect(redis_url, name="test") as client:
        client.delete(hold_key(scan.uid), heartbeat_key(scan.uid))
        # The killed writer's lease may not have expired: its data are trimmed before.
        wait_until(lambda: Evictor().free(client, 1, kept_scans=0).scans == 1)
        assert not list(client.scan_iter(f"*{scan.uid}*"))


def test_a_reader_takes_an_array_wherever_it_travels(
    redis_url: str, tmp_path: Path
) -> None:
    small = CUBE[0, 0, 0, :300].astype(">i4")
    with Subscriber(redis_url) as subscriber:
        with Publisher(redis_url, close_timeout_s=0) as publisher:
            with publisher.scan(metadata={"mask": MASK, "small": small}) as scan:
                scan.channel("a")
                scan.send("a", 1.0)
                scan.update({"later": {"cube": CUBE}, "none": 5})
                scan.flush()
                reader = subscriber.scan(scan.uid)
                reader.wait_prepared()
                reader.refresh()
                metadata = reader.record.metadata()
                for value, array in (
                    (metadata["mask"], MASK),
                    (metadata["small"], small),
                    (metadata["later"]["cube"], CUBE),
                ):
                    found = reader.array(value)
                    np.testing.assert_array_equal(found, array)
                    assert found.dtype == array.dtype.newbyteorder("=")
                for none in (metadata["none"], metadata["later"], {"array": 1}):
                    with pytest.raises(ValueError, match="no array of the metadata"):
                        reader.array(none)
                assert list(reader.channels) == ["a"]
                with pytest.raises(UnknownChannelError) as unknown:
                    reader.read("b", 0, 1)
                assert unknown.value.known == ("a",)
        # The publisher, which would send a lane that is gone again, has ended.
        lane = metadata["later"]["cube"]["array"]["lane"]
        with connect(redis_url, name="test") as client:
            client.delete(lane_key(scan.uid, lane))
        with pytest.raises(NotYetError):
            reader.array(metadata["later"]["cube"], timeout_s=0.2)


def test_no_list_of_channels_has_them(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with writer(redis_url, tmp_path / "live"):
        scan, verdict = publish(redis_url)
        with Subscriber(redis_url) as subscriber:
            batches = [*subscriber.scan(scan.uid).stream(timeout_s=20)]
    assert {batch.channel for batch in batches} == {"a", "eiger"}
    assert sorted(verdict.of_data) == ["a", "eiger"]
    assert set(verdict.of_data) < set(verdict.channels)
    assert scan._queue.watch.undelivered_points() == (0, 0, 0)
    commands = (
        ["ls"],
        ["ls", "--json"],
        ["status"],
        ["status", "--json"],
        ["tail", scan.uid, "--from-start"],
        ["replay", scan.uid, "--root", str(tmp_path / "again")],
    )
    for command in commands:
        main([*command, "--redis", redis_url])
        said = capsys.readouterr().out
        assert said, command
        assert "static." not in said, command


class _Killed:
    """A publisher in a process of its own that sent arrays, and is killed."""

    def __init__(self, url: str, spool: str = "") -> None:
        command = [sys.executable, "-m", "tests.support.static_publisher", url, spool]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "flushed\n"

    def kill(self) -> None:
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()


def close(url: str, uid: str) -> None:
    """Close a scan, as an operator does when its publisher has been silent."""
    with connect(url, name="test") as client:
        client.delete(heartbeat_key(uid))
    assert main(["close", uid, "--redis", url]) == 0


def assert_masked(path: Path, keys: tuple[str, ...] = ("mask", "later")) -> None:
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file[f"1.1/{keys[0]}"], MASK)
        np.testing.assert_array_equal(file[f"1.1/{keys[1]}"], MASK + 1)


def test_closing_a_dead_publishers_scan_keeps_them(
    redis_url: str, tmp_path: Path
) -> None:
    _Killed(redis_url).kill()
    with writer(redis_url, tmp_path):
        close(redis_url, UID)
        verdict = final_verdict(redis_url, UID)
    assert verdict.verdict is VerdictWord.COMPLETE
    assert_masked(tmp_path / verdict.master)


def test_a_spool_has_them(redis_factory: RedisFactory, tmp_path: Path) -> None:
    server = redis_factory({"appendonly": "no"})
    spool, root = tmp_path / "spool", tmp_path / "root"
    one = _Killed(server.url, str(spool))
    server.kill()
    one.kill()
    server.start()
    root.mkdir()
    with writer(server.url, root):
        assert (
            main(["publish", "resume", "--spool", str(spool), "--redis", server.url])
            == 0
        )
        verdict = final_verdict(server.url, UID)
    assert verdict.verdict is VerdictWord.COMPLETE
    assert_masked(root / verdict.master)


def test_a_redis_that_lost_them_gets_them_again(
    redis_factory: RedisFactory, tmp_path: Path
) -> None:
    server = redis_factory({"appendonly": "no"})
    with Publisher(server.url) as publisher:
        with publisher.scan(metadata={"mask": MASK}) as scan:
            scan.channel("a")
            scan.send("a", 1.0)
            scan.update({"later": MASK + 1})
            scan.flush()
            server.kill()
            server.start()
            with writer(server.url, tmp_path):
                scan.send("a", 2.0)
                scan.finish(EndReason.SUCCESS)
                verdict = scan.verdict(60)
    assert verdict.verdict is VerdictWord.COMPLETE
    assert_masked(tmp_path / verdict.master)


def test_a_salvaged_scan_has_them(server: PrivateRedis, tmp_path: Path) -> None:
    with writer(server.url, tmp_path) as one:
        publisher = _Killed(server.url)
        wait_until(lambda: len(arrays_of(tmp_path)) == 2)
        one.kill()
    publisher.kill()
    server.kill()
    (scan,) = salvage(tmp_path, force=True).scans
    assert_masked(tmp_path / scan.verdict.master)
    assert check_files([tmp_path / scan.verdict.master], everything=True).findings == ()


@pytest.fixture
def server(redis_factory: RedisFactory) -> PrivateRedis:
    return redis_factory()


def test_a_scan_whose_array_never_came_is_partial(
    redis_url: str, tmp_path: Path
) -> None:
    with Publisher(redis_url, close_timeout_s=0) as publisher:
        with publisher.scan(metadata={"mask": MASK}) as scan:
            scan.channel("a")
            scan.send("a", 1.0)
            scan.flush()
    with connect(redis_url, name="test") as client:
        (lane,) = client.scan_iter(f"scanbus:*{scan.uid}:static.*:lane")
        client.delete(lane)
    with writer(redis_url, tmp_path):
        close(redis_url, scan.uid)
        verdict = final_verdict(redis_url, scan.uid)
    assert verdict.verdict is VerdictWord.PARTIAL
    assert "static.mask" in verdict.reason


@pytest.mark.parametrize("is_prepared", [False, True])
def test_what_the_bus_cannot_hold_is_refused_where_it_is_given(
    redis_factory: RedisFactory, tmp_path: Path, is_prepared: bool
) -> None:
    server = redis_factory({"maxmemory": "64mb"})
    large = np.zeros(20 * 2**20, np.uint8)
    with writer(server.url, tmp_path), Publisher(server.url) as publisher:
        with pytest.raises(DeclarationError, match="20971520 bytes"):
            publisher.scan(metadata={"a": {"large": large}})
        with connect(server.url, name="test") as client:
            assert not client.exists("scanbus:scans")
        with publisher.scan(metadata={"mask": MASK}) as scan:
            scan.channel("a")
            if is_prepared:
                scan.send("a", 1.0)
            with pytest.raises(DeclarationError, match="on this bus"):
                scan.update({"b": {"mask": MASK, "large": large}})
            scan.update({"later": MASK + 1})
            scan.send("a", 2.0)
        verdict = scan.verdict(60)
    assert verdict.verdict is VerdictWord.COMPLETE
    assert_masked(tmp_path / verdict.master)
    with h5py.File(tmp_path / verdict.master) as file:
        assert "b" not in file["1.1"]
