"""A publisher that comes back to a scan which an operator has closed."""

from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from scanbus.bus.protocol import RESERVED, heartbeat_key, lane_key
from scanbus.bus.store import connect
from scanbus.cli import main
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.publisher.recovery.operator_close import close_scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import ScanClosedError, ScanStateError, UnknownScanError
from scanbus.writer import WriterSettings, run_writer
from tests.conftest import RedisFactory
from tests.support.proxy import Proxy
from tests.support.published import record_of
from tests.support.roots import made_root
from tests.support.trees import files_of
from tests.support.waiting import wait_until
from tests.support.writers import writer

pytestmark = pytest.mark.redis

UID = "closedmeanwhile"
N_SENT, N_ALL = 6, 10


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


def publish_and_be_closed(server: PrivateRedis, spool: Path | None) -> str:
    """Send some points, be closed, send the others; return what the publisher says."""
    url = server.url
    port = int(server.tcp_url.rpartition(":")[2])
    with (
        Proxy(port) as proxy,
        Publisher(
            f"redis://127.0.0.1:{proxy.port}", spool=spool, close_timeout_s=5
        ) as publisher,
    ):
        with pytest.raises(ScanClosedError) as caught:  # noqa: PT012
            with publisher.scan(uid=UID, session="20260101") as scan:
                scan.channel("a")
                scan.send("a", np.arange(N_SENT, dtype=float))
                scan.flush()
                with connect(url, name="test") as client:
                    wait_until(lambda: bool(client.xlen(lane_key(UID, "a"))))
                # It learns of its end after it took the others, not in between.
                proxy.slow(0.5)
                wait_until(lambda: close_it(url))
                scan.send("a", np.arange(N_SENT, N_ALL, dtype=float))
                proxy.heal()
                wait_until(lambda: scan._queue.error is not None)
    return str(caught.value)


def values_in(root: Path, number: int) -> list[float]:
    with h5py.File(next(root.rglob(f"scan{number:04d}.h5"))) as file:
        return list(file[f"{number}.1/measurement/a"][()])


def write_once(url: str, root: Path) -> int:
    return run_writer(WriterSettings.load(redis=url, root=made_root(root)), once=True)


def test_a_publisher_of_a_closed_scan_is_told_what_only_it_has(
    server: PrivateRedis,
) -> None:
    said = publish_and_be_closed(server, None)

    assert said == (
        f"scan {UID} was closed without its publisher (it hung): nothing is added to "
        "it. Only this process has points a 6 to 9: publish them as a new scan."
    )


def test_the_spool_of_a_closed_scan_stays_until_somebody_decides(
    server: PrivateRedis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spool, root = tmp_path / "spool", tmp_path / "root"
    root.mkdir()
    said = publish_and_be_closed(server, spool)
    assert f"--spool {spool} --as-new {UID}" in said
    kept = files_of(spool / UID / "lanes")
    assert kept
    assert write_once(server.url, root) == 0  # What an operator closed is complete.
    resume = ["publish", "resume", "--spool", str(spool), "--redis", server.url]

    for loses_redis in (False, True):
        if loses_redis:
            server.kill()
            server.start()
        with writer(server.url, root):
            assert main([*resume, "--timeout-s", "20"]) == 3
        with connect(server.url, name="test") as client:
            verdict = record_of(client, UID).final_verdict
            assert client.hget(RESERVED, UID) is None
        assert verdict is not None
        assert verdict.verdict is VerdictWord.COMPLETE
        assert values_in(root, 1) == list(range(N_SENT))
        assert files_of(spool / UID / "lanes") == kept
    assert "a 6 to 9" in " ".join(capsys.readouterr().out.split())

    with writer(server.url, root):
        assert main([*resume, "--as-new", UID]) == 0
    assert values_in(root, 2) == list(range(N_ALL))
    assert values_in(root, 1) == list(range(N_SENT))
    assert list(spool.iterdir()) == []


def test_only_what_was_closed_is_made_a_new_scan(
    server: PrivateRedis, tmp_path: Path
) -> None:
    with Publisher(server.url, spool=tmp_path, close_timeout_s=0) as publisher:
        scan = publisher.scan(uid=UID)
        scan.__enter__()
        scan.channel("a")
        scan.send("a", 1.0)
    with connect(server.url, name="test") as client:
        client.delete("scanbus:scans")
    as_new = ["publish", "resume", "--spool", str(tmp_path), "--as-new", UID]

    assert main([*as_new, "--redis", server.url]) == UnknownScanError.exit_code
    assert (tmp_path / UID).is_dir()
    assert main([*as_new[:-1], "unknownunknown", "--redis", server.url]) == 3
