"""File systems that lack things: worked around, named, or refused at the start.

Real ones: ext4 and tmpfs, and one of our own that lacks what it is told to.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from scanbus.bus.store import connect, writers_alive
from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from scanbus.schemas.errors import RootUnusableError, SpoolError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.writer import check_files, replay
from scanbus.writer.service.file_systems import FileSystems
from scanbus.writer.storage.exclusive_names import give_name
from scanbus.writer.storage.file_system import check_file_system, probe
from tests.faults.processes import WriterProcess, until
from tests.support.mounts import dead_mount, lacking_mount, loop_mount, small_disk
from tests.support.roots import made_root
from tests.support.trees import differences
from tests.support.waiting import found_below
from tests.support.writers import final_verdict

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.timeout(120)]

SOON_S = 30.0
N_POINTS = 60
SHAPE = (32, 32)

# What is lacking, how files get their names there, and what is said in the status.
WORKED_AROUND = {
    "no hard links": (("links", "symlinks"), "rename", ""),
    "links in one folder only": (("links_across", "no_replace"), "link beside", ""),
    "no locks": (("locks",), "link", ""),
    "no fsync of folders": (("fsync_folder",), "link", "fsync of folders is refused"),
    "no case": (("case",), "link", "names that differ in case only are the same"),
    "short names": (("long_names",), "link", "names may have 143 bytes there"),
    "like vfat": (("links", "case", "symlinks", "locks"), "rename", "case only"),
}
REFUSED = {
    "nothing exclusive": (("links", "no_replace"), "neither hard links nor renames"),
    "no fsync": (("fsync",), "cannot do without: fsync of files (Invalid argument)"),
    "no rename": (("rename",), "cannot do without: rename (Operation not permitted)"),
    "no writes": (("writes",), "cannot do without: writing (Input/output error)"),
}


@pytest.fixture(autouse=True)
def _ordinary_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says of locks counts for nothing."""
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "TRUE")


def problems(url: str) -> str:
    with connect(url, name="test") as client:
        found = writers_alive(client).values()
        return "; ".join(text for info in found for text in info["problems"])


def publish(url: str, proposal: str) -> str:
    """Publish a scan of several segments; return its uid."""
    with (
        Publisher(url, close_timeout_s=60) as publisher,
        publisher.scan(proposal=proposal, quota_bytes=400_000, scan_number=1) as scan,
    ):
        scan.detector(
            "camera", shape=SHAPE, dtype="uint16", points_per_chunk=1, codec="none"
        )
        scan.channel("i0")
        for number in range(N_POINTS):
            scan.send("camera", np.full(SHAPE, number, np.uint16))
            scan.send("i0", float(number))
    return scan.uid


def assert_written(url: str, uid: str, folder: Path) -> None:
    verdict = final_verdict(url, uid)
    assert verdict.verdict is VerdictWord.COMPLETE
    replay(url, uid, folder / "again")
    masters = sorted(found_below(folder / "again", "scan0001.h5"))
    assert check_files(masters, everything=True).ok


@pytest.mark.parametrize("kind", WORKED_AROUND)
def test_what_a_file_system_lacks_is_worked_around_or_named(
    kind: str, redis_url: str, tmp_path: Path
) -> None:
    faults, exclusive, sentence = WORKED_AROUND[kind]
    root = tmp_path / "files"
    with lacking_mount(root, *faults):
        made_root(root)
        writer = WriterProcess(
            redis_url,
            root,
            tmp_path,
            "writer",
            # As replay does, to which the files are compared.
            environment={"SCANBUS_WANTED_SOURCES": "128"},
        )
        try:
            assert until(lambda: writer.is_ready, SOON_S), writer.log_tail()
            assert until(lambda: sentence in problems(redis_url), SOON_S)
            assert bool(problems(redis_url)) is bool(sentence)
            uid = publish(redis_url, "lacking")
            assert_written(redis_url, uid, tmp_path)
            masters = sorted(found_below(root, "scan0001.h5"))
            assert masters
            assert check_files(masters, everything=True).ok
            assert differences(root, tmp_path / "again") == []
            assert f'"exclusive": "{exclusive}"' in writer.said
        finally:
            writer.kill()
        left = [path.name for path in found_below(root, ".scanbus-probe-*")]
        left += [path.name for path in found_below(root, "*.placed")]
        assert left == []


@pytest.mark.parametrize("kind", REFUSED)
def test_what_a_writer_cannot_do_without_is_named_at_its_start(
    kind: str, redis_url: str, tmp_path: Path
) -> None:
    faults, sentence = REFUSED[kind]
    root = tmp_path / "files"
    (tmp_path / "files.backing").mkdir()
    made_root(tmp_path / "files.backing")
    with lacking_mount(root, *faults):
        code, said = writer_once(redis_url, root)
        with pytest.raises(RootUnusableError):
            check_file_system(root)
    assert code == ExitCode.USAGE, said
    assert sentence in said
    assert "Traceback" not in said


def writer_once(url: str, root: Path) -> tuple[int, str]:
    command = ["-m", "scanbus.cli", "writer", "--once", "--redis", url]
    done = subprocess.run(
        [sys.executable, *command, "--root", str(root)],
        capture_output=True,
        text=True,
        timeout=SOON_S,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_writer_whose_root_does_not_answer_says_so_and_leaves(
    redis_url: str, tmp_path: Path
) -> None:
    root = made_root(tmp_path / "files")
    with dead_mount(root):
        code, said = writer_once(redis_url, root)
    assert code == ExitCode.USAGE
    assert f"{root}: its file system did not answer within 10 s" in said


@pytest.fixture
def writer(redis_url: str, tmp_path: Path) -> Iterator[WriterProcess]:
    root = made_root(tmp_path / "files")
    one = WriterProcess(redis_url, root, tmp_path, "writer")
    try:
        assert until(lambda: one.is_ready, SOON_S), one.log_tail()
        yield one
    finally:
        one.kill()


@pytest.mark.usefixtures("writer")
def test_a_mount_below_the_root_is_probed_when_it_comes(
    redis_url: str, tmp_path: Path
) -> None:
    mount = tmp_path / "files" / "my proposal"
    assert until(lambda: problems(redis_url) == "", SOON_S)
    with lacking_mount(mount, "case", "links", "no_replace"):
        hindrance = f"cannot write below {mount}: it has neither hard links nor"
        assert until(lambda: hindrance in problems(redis_url), SOON_S)
        assert f"the file system of {mount}: names that differ" in problems(redis_url)
    assert until(lambda: problems(redis_url) == "", SOON_S)


@pytest.mark.usefixtures("writer")
def test_a_mount_below_the_root_that_does_not_answer_is_named_and_stops_nothing(
    redis_url: str, tmp_path: Path
) -> None:
    mount = tmp_path / "files" / "dead"
    mount.mkdir()
    with dead_mount(mount):
        sentence = f"{mount} is mounted, but did not answer within 10 s"
        assert until(lambda: sentence in problems(redis_url), SOON_S)
        uid = publish(redis_url, "alive")
        assert final_verdict(redis_url, uid).verdict is VerdictWord.COMPLETE
    assert until(lambda: problems(redis_url) == "", SOON_S)


Mounted = Callable[[Path], AbstractContextManager[object]]
WHOLE: dict[str, Mounted] = {
    "ext4": lambda path: loop_mount(path.with_name("image"), path),
    "tmpfs": lambda path: small_disk(path, "4m"),
    "FUSE": lacking_mount,
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_local_file_system_lacks_nothing(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "mount"
    with WHOLE[kind](folder):
        report = probe(folder)
        left = {path.name for path in folder.iterdir()} - {"lost+found"}
    assert (report.lacks, report.exclusive, report.longest_name) == ({}, "link", 255)
    assert (report.hindrance, report.remarks, left) == ("", (), set())


@pytest.mark.parametrize(
    "faults", [(), ("links",), ("links_across", "no_replace")], ids=str
)
def test_a_name_is_given_once_however_it_is_given(
    faults: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "mount"
    with lacking_mount(folder, *faults):
        (folder / "work").mkdir()
        made, final = folder / "work" / "a", folder / "a"
        made.write_text("first")
        give_name(made, final)
        made.unlink(missing_ok=True)
        made.write_text("second")
        with pytest.raises(FileExistsError):
            give_name(made, final)
        assert (made.read_text(), final.read_text()) == ("second", "first")
        # A successor has renamed the folder: the name is not given.
        made.parent.rename(folder / "taken")
        with pytest.raises(FileNotFoundError):
            give_name(made, folder / "b")
        assert sorted(path.name for path in folder.iterdir()) == ["a", "taken"]


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("locks", "lacks locks (No locks available); a spool needs a local disk"),
        ("fsync", "lacks fsync of files (Invalid argument)"),
        ("fsync_folder", "lacks fsync of folders (Invalid argument)"),
        ("rename", "lacks rename (Operation not permitted)"),
    ],
)
def test_a_spool_that_cannot_work_is_refused_before_a_scan_needs_it(
    fault: str, sentence: str, redis_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "mount"
    with lacking_mount(folder, fault):
        with pytest.raises(SpoolError, match=re.escape(sentence)):
            Publisher(redis_url, spool=folder / "spool")
        assert list((folder / "spool").iterdir()) == []


@pytest.mark.parametrize("fault", ["links", "case", "symlinks"])
def test_a_spool_needs_no_more_than_it_uses(
    fault: str, redis_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "mount"
    with (
        lacking_mount(folder, fault),
        Publisher(redis_url, spool=folder / "spool", close_timeout_s=0.1) as one,
        one.scan() as scan,
    ):
        scan.channel("i0")
        scan.send("i0", 1.0)
        scan.flush()
        assert [path.name for path in (folder / "spool").iterdir()] == [scan.uid]


def test_a_probe_of_a_dead_mount_holds_up_a_start_for_its_deadline_only(
    tmp_path: Path,
) -> None:
    root = made_root(tmp_path / "files")
    with dead_mount(root):
        began = time.monotonic()
        with pytest.raises(RootUnusableError, match="did not answer"):
            FileSystems(root).begin()
        assert time.monotonic() - began < 15
