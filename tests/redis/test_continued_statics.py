"""A scan that goes on as another one has the metadata and static arrays again, once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from scanbus.bus.protocol import heartbeat_key
from scanbus.bus.store import connect
from scanbus.cli import main
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher, Scan
from scanbus.publisher.recovery.operator_close import close_scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import ScanStateError
from scanbus.writer.check import check_files
from tests.conftest import RedisFactory
from tests.support.proxy import Proxy
from tests.support.static_publisher import MASK
from tests.support.waiting import found_below, wait_until
from tests.support.writers import final_verdict, writer

pytestmark = pytest.mark.redis

UID = "continuedstatics"
METADATA = {"sample": {"name": "LaB6", "mask": MASK}, "same": MASK}


@pytest.fixture
def server(redis_factory: RedisFactory) -> PrivateRedis:
    return redis_factory({"appendonly": "no"}, tcp=True)


def close_it(url: str) -> bool:
    """Close the scan as if its publisher had been silent; it beats every 2 s."""
    with connect(url, name="test") as client:
        client.delete(heartbeat_key(UID))
    with suppress(ScanStateError):
        return close_scan(url, UID, text="it hung") == UID
    return False


def are_durable(scan: Scan, count: int) -> bool:
    lanes = scan._queue.lanes.values()
    found = [lane for lane in lanes if lane.description.is_static]
    return len(found) == count and all(lane.durable for lane in found)


def check(root: Path, number: int, *, more: bool) -> None:
    path = found_below(root, f"scan{number:04d}.h5")[0]
    with h5py.File(path) as file:
        entry = file[f"{number}.1"]
        assert entry["sample/name"].asstr()[()] == "LaB6"
        arrays = {"sample/mask": MASK, "same": MASK, "later": MASK + 1}
        if more:
            arrays |= {"more": MASK + 2, "again": MASK}
        for name, array in arrays.items():
            np.testing.assert_array_equal(entry[name], array)
    found = found_below(root, f"scan{number:04d}/static.*.h5")
    assert len(found) == len({a.tobytes() for a in arrays.values()})
    assert check_files([path], everything=True).findings == ()


@pytest.mark.parametrize("is_spooled", [False, True])
def test_a_program_that_goes_on_sends_its_arrays_again(
    server: PrivateRedis, tmp_path: Path, *, is_spooled: bool
) -> None:
    url, root, spool = server.url, tmp_path / "root", tmp_path / "spool"
    with (
        writer(url, root),
        Publisher(url, spool=spool if is_spooled else None) as publisher,
        publisher.scan(uid=UID, metadata=METADATA, session="20260101") as scan,
    ):
        scan.channel("a")
        scan.send("a", [1.0, 2.0])
        scan.update({"later": MASK + 1})
        scan.flush()
        wait_until(lambda: are_durable(scan, 2), timeout_s=60)
        wait_until(lambda: close_it(url), timeout_s=60)
        scan.send("a", [3.0])
        wait_until(lambda: scan.uid != UID, timeout_s=60)
        scan.update({"more": MASK + 2, "again": MASK})
        scan.send("a", [4.0])
        scan.flush()
    verdict = scan.verdict(60)
    assert verdict.verdict is VerdictWord.PARTIAL
    assert verdict.channels["a"].missing == ((0, 2),)
    assert final_verdict(url, UID).verdict is VerdictWord.COMPLETE
    check(root, 1, more=False)
    check(root, 2, more=True)
    assert not is_spooled or list(spool.iterdir()) == []


def test_a_spool_keeps_them_until_the_verdict(
    server: PrivateRedis, tmp_path: Path
) -> None:
    """The writer had them in files when the scan was closed; its points only later."""
    url, root, spool = server.url, tmp_path / "root", tmp_path / "spool"
    port = int(server.tcp_url.rpartition(":")[2])
    with writer(url, root):
        with (
            Proxy(port) as proxy,
            Publisher(
                f"redis://127.0.0.1:{proxy.port}", spool=spool, close_timeout_s=0
            ) as publisher,
            publisher.scan(uid=UID, metadata=METADATA, session="20260101") as scan,
        ):
            scan.channel("a")
            scan.send("a", [1.0, 2.0])
            scan.update({"later": MASK + 1})
            scan.flush()
            wait_until(lambda: are_durable(scan, 2), timeout_s=60)
            proxy.cut()
            scan.send("a", [3.0, 4.0])
            scan.flush()
        wait_until(lambda: close_it(url), timeout_s=60)
        assert final_verdict(url, UID).verdict is VerdictWord.COMPLETE
        resume = ["publish", "resume", "--spool", str(spool), "--redis", url]
        assert main([*resume, "--timeout-s", "60"]) == 2
    check(root, 1, more=False)
    check(root, 2, more=False)
    assert list(spool.iterdir()) == []
