"""A scan that was dismissed keeps no number, unless something of it is on the disk."""

from pathlib import Path

import pytest

from scanbus.bus.store import announcements, connect, find_scan
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher, close_scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.file_names import WORK_FOLDER, dataset_path
from scanbus.writer.steps import Steps
from scanbus.writer.storage.work_folder import WorkFolder
from tests.support.raw_publisher import RawScan
from tests.support.roots import made_root
from tests.support.waiting import found_below
from tests.support.writers import wait_until, writer

pytestmark = pytest.mark.redis


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made_root(tmp_path / "root")


def _claims(root: Path) -> list[str]:
    return [path.name for path in found_below(root, f"{WORK_FOLDER}/claim-*")]


def _ended(url: str) -> RawScan:
    scan = RawScan(url).prepare()
    for first in range(0, 24, 4):
        scan.send_frames(first, first + 4)
    scan.end()
    return scan


def test_a_program_that_waits_is_told_and_publishes_nothing_again(
    server: PrivateRedis, root: Path
) -> None:
    with Publisher(server.url, name="tests", close_timeout_s=60) as publisher:
        with publisher.scan(session="20260101") as scan:
            scan.channel("a")
            scan.send("a", [1.0, 2.0])
        with connect(server.url, name="test") as client:
            wait_until(lambda: find_scan(client, scan.uid).ended is not None)
        close_scan(server.url, scan.uid, dismiss=True)
        assert scan.verdict(60).verdict is VerdictWord.FAILED
    with connect(server.url, name="test") as client:
        assert len(list(announcements(client))) == 1


def _is_passed(url: str) -> bool:
    with connect(url, name="test") as client:
        return client.get("scanbus:position") is not None


def test_it_goes_with_the_dismissal_while_a_writer_waits(
    server: PrivateRedis, root: Path
) -> None:
    """No segment gets its name, as on a mount that refuses it."""
    scan = _ended(server.url)
    traps = ";".join(f"link.before=raise=EACCES@{hit}" for hit in range(1, 500))
    with writer(server.url, root, failpoints=traps):
        wait_until(lambda: _claims(root) == ["claim-scan0001"])
        close_scan(server.url, scan.uid, dismiss=True)
        wait_until(lambda: not _claims(root))


@pytest.mark.parametrize("has_file", [False, True])
def test_it_goes_when_the_next_writer_starts(
    server: PrivateRedis, root: Path, *, has_file: bool
) -> None:
    scan = _ended(server.url)
    dataset = root / dataset_path(scan.identity)
    left = WorkFolder(dataset, scan.uid, 1, Steps())
    left.open()
    left.claim(1)
    if has_file:
        (dataset / "scan0001").mkdir()
        (dataset / "scan0001/eiger_0000.h5").write_bytes(b"its first segment")
    close_scan(server.url, scan.uid, dismiss=True)

    with writer(server.url, root) as one:
        wait_until(lambda: _is_passed(server.url))
        assert one.leave() == 0

    assert _claims(root) == (["claim-scan0001"] if has_file else [])
    with connect(server.url, name="test") as client:
        assert find_scan(client, scan.uid).final_verdict is not None
