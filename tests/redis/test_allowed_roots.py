"""Symbolic links below a root: to roots that the setting names, and elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scanbus.bus.store import connect, writers_alive
from scanbus.cli import main
from scanbus.publisher import Publisher
from scanbus.publisher.scan import Scan
from scanbus.schemas import VerdictWord
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.file_names import dataset_path
from scanbus.writer import check_files, replay
from tests.support.mounts import small_disk
from tests.support.roots import made_root
from tests.support.trees import differences, files_of
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, wait_until, writer

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANBUS_RETRY_S", "0.1")
    monkeypatch.setenv("SCANBUS_HEARTBEAT_S", "0.3")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made_root(tmp_path / "data")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Another root, as of another disk."""
    return made_root(tmp_path / "disk")


@pytest.fixture
def scan(redis_url: str) -> Iterator[Scan]:
    """A scan that has ended, and is not written yet."""
    with Publisher(redis_url, close_timeout_s=0.1) as publisher:
        with publisher.scan(proposal="hg123", scan_number=1) as one:
            one.detector("camera", shape=(8, 8), dtype="uint16")
            one.channel("i0")
            for number in range(20):
                one.send("camera", np.full((8, 8), number, np.uint16))
                one.send("i0", float(number))
        yield one


def problems(url: str) -> str:
    with connect(url, name="test") as client:
        found = writers_alive(client).values()
        return "; ".join(text for info in found for text in info["problems"])


def link(scan: Scan, root: Path, disk: Path, depth: int) -> None:
    """Link the folder of a scan's proposal, session, …, dataset to another disk."""
    parts = Path(dataset_path(scan.identity)).parts
    folder = root.joinpath(*parts[:depth])
    folder.mkdir(parents=True, exist_ok=True)
    (disk / "linked").mkdir()
    (folder / parts[depth]).symlink_to(disk / "linked")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("depth", range(6))
def test_a_link_to_an_allowed_root_is_followed(
    *,
    depth: int,
    redis_url: str,
    scan: Scan,
    root: Path,
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if depth >= len(Path(dataset_path(scan.identity)).parts):
        pytest.skip("its path has fewer parts")
    link(scan, root, disk, depth)
    monkeypatch.setenv("SCANBUS_ALLOWED_ROOTS", str(disk))
    with writer(redis_url, root) as service:
        assert final_verdict(redis_url, scan.uid).verdict is VerdictWord.COMPLETE
        service.leave()  # It writes the masters above before.
    masters = sorted(found_below(disk, "scan0001.h5"))
    assert len(masters) == 1
    assert check_files(masters, everything=True).ok
    replay(redis_url, scan.uid, tmp_path / "again")
    assert tree(root) == files_of(tmp_path / "again")
    if depth == 0:
        proposal = tmp_path / "again" / "hg123"
        assert differences(disk / "linked", proposal) == []
    assert main(["master", "rebuild", "--root", str(root)]) == ExitCode.COMPLETE


def tree(root: Path) -> set[str]:
    """The files below a root, with those behind links."""
    found, folders = set(), [root]
    while folders:
        for path in folders.pop().iterdir():
            if path.is_dir() and not path.name.startswith("."):
                folders.append(path)
            elif path.is_file():
                found.add(str(path.relative_to(root)))
    return found


def test_a_link_elsewhere_is_refused_with_the_setting_that_would_allow_it(
    *,
    redis_url: str,
    scan: Scan,
    root: Path,
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link(scan, root, disk, 0)
    other = made_root(tmp_path / "other")
    monkeypatch.setenv("SCANBUS_ALLOWED_ROOTS", str(other))
    sentence = (
        f"to {disk / 'linked'}/id00/{scan.identity.session}/RAW_DATA/sample/sample_0001"
        ", by a symbolic link, and the setting allowed_roots names no root there "
        f"(it names {other})"
    )
    with writer(redis_url, root):
        wait_until(lambda: sentence in problems(redis_url))
    assert not files_of(disk)
    monkeypatch.setenv("SCANBUS_ALLOWED_ROOTS", f"{other}:{disk}")
    with writer(redis_url, root):
        assert final_verdict(redis_url, scan.uid).verdict is VerdictWord.COMPLETE


def test_nothing_is_written_behind_an_allowed_root_that_is_not_there(
    redis_url: str,
    scan: Scan,
    root: Path,
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link(scan, root, disk, 0)
    disk.rename(disk.with_name("unmounted"))
    (disk / "linked").mkdir(parents=True)
    monkeypatch.setenv("SCANBUS_ALLOWED_ROOTS", str(disk))
    with writer(redis_url, root):
        wait_until(lambda: f"paused: {disk} is no root" in problems(redis_url))
        assert f"allowed_roots: {disk} is no root of scanbus" in problems(redis_url)
        assert not list((disk / "linked").iterdir())
        (disk / "linked").rmdir()
        disk.rmdir()
        disk.with_name("unmounted").rename(disk)
        assert final_verdict(redis_url, scan.uid).verdict is VerdictWord.COMPLETE
        wait_until(lambda: problems(redis_url) == "")
    assert found_below(disk / "linked", "scan0001.h5")


def test_the_free_space_is_that_of_the_disk_behind_the_link(
    redis_url: str,
    scan: Scan,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with small_disk(tmp_path / "small", "4m"):
        disk = made_root(tmp_path / "small")
        link(scan, root, disk, 0)
        monkeypatch.setenv("SCANBUS_ALLOWED_ROOTS", str(disk))
        monkeypatch.setenv("SCANBUS_LEAST_FREE_BYTES", "8MB")
        with writer(redis_url, root):
            sentence = f"paused: no space on {root}/hg123/"
            wait_until(lambda: sentence in problems(redis_url))
        monkeypatch.setenv("SCANBUS_LEAST_FREE_BYTES", "1MB")
        with writer(redis_url, root):
            assert final_verdict(redis_url, scan.uid).verdict is VerdictWord.COMPLETE
