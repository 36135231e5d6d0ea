"""Each finished scan has a manifest that `sha256sum` and `scanbus check` verify."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanbus.publisher import Publisher
from scanbus.publisher.gateways.runner.sent import wait_sent
from scanbus.writer import WriterSettings, check_files, run_writer, salvage
from scanbus.writer.steps import Steps
from scanbus.writer.storage.manifest import complete_manifest
from scanbus.writer.storage.work_folder import WorkFolder
from tests.conftest import RedisFactory
from tests.support.roots import made_root
from tests.support.salvaged import killed_writer
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, writer
from tests.support.written_scans import UID, write_scan

pytestmark = pytest.mark.redis


def publish(url: str, n_frames: int = 40) -> str:
    """Publish a scan with two segments of frames, and a counter."""
    with Publisher(url, close_timeout_s=0.0) as publisher:
        with publisher.scan(proposal="p1", collection="s1", beamline="id00") as scan:
            scan.detector("eiger", shape=(64, 64), dtype="uint16")
            scan.channel("th")
            for number in range(n_frames):
                scan.send("eiger", np.full((64, 64), number, "uint16"))
                scan.send("th", float(number))
        wait_sent(url, [scan.uid])
    return scan.uid


def written(url: str, root: Path, **settings: Any) -> Path:
    made_root(root)
    run_writer(WriterSettings.load(redis=url, root=root, **settings), once=True)
    return found_below(root, "scan0001.h5")[0].parent


def sha256sum(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sha256sum", "-c", "scan0001.sha256"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def names_in(folder: Path) -> set[str]:
    lines = (folder / "scan0001.sha256").read_text().splitlines()
    return {line.partition("  ")[2] for line in lines}


def test_a_scan_has_a_manifest_that_sha256sum_reads(
    redis_url: str, tmp_path: Path
) -> None:
    publish(redis_url)
    folder = written(redis_url, tmp_path / "root")
    data = {path.name for path in folder.glob("*.h5")} - {"scan0001.h5"}
    assert names_in(folder) == data
    assert sha256sum(folder).returncode == 0
    report = check_files([folder], everything=True)
    assert report.findings == ()
    assert report.n_digests == report.n_digests_checked == len(data)


@pytest.mark.parametrize("asked", ["folder", "master", "manifest", "root"])
def test_a_file_changed_after_its_manifest_is_named(
    redis_url: str, tmp_path: Path, asked: str
) -> None:
    publish(redis_url)
    folder = written(redis_url, tmp_path / "root")
    (changed,) = folder.glob("eiger_*.h5")
    octets = bytearray(changed.read_bytes())
    octets[-1] ^= 1
    changed.write_bytes(octets)
    paths = {
        "folder": folder,
        "master": folder / "scan0001.h5",
        "manifest": folder / "scan0001.sha256",
        "root": tmp_path / "root",
    }
    report = check_files([paths[asked]])
    assert sha256sum(folder).returncode != 0
    (found,) = [each for each in report.findings if "manifest" in each.problem]
    assert found.file == str(changed)
    assert "was changed" in found.problem
    assert report.exit_code == 2


def test_a_file_that_is_gone_and_a_line_that_is_none_are_named(
    redis_url: str, tmp_path: Path
) -> None:
    publish(redis_url)
    folder = written(redis_url, tmp_path / "root")
    (gone,) = folder.glob("eiger_*.h5")
    gone.unlink()
    manifest = folder / "scan0001.sha256"
    report = check_files([manifest])
    assert [each.problem for each in report.findings if each.file == str(gone)]
    manifest.write_text(manifest.read_text() + "nonsense\n")
    report = check_files([manifest])
    assert any("line 3" in each.problem for each in report.findings)


def test_a_file_that_was_added_is_named(redis_url: str, tmp_path: Path) -> None:
    """A segment as a problem, as a rebuild would take it; other files as a note."""
    publish(redis_url)
    folder = written(redis_url, tmp_path / "root")
    (segment,) = folder.glob("eiger_*.h5")
    (folder / "notes.txt").touch()
    assert check_files([folder]).findings == ()
    added = folder / "eiger_0001.h5"
    shutil.copy(segment, added)
    report = check_files([folder / "scan0001.sha256"])
    (found,) = report.findings
    assert (found.file, report.exit_code) == (str(added), 2)
    assert "added later" in found.problem
    assert any("notes.txt" in note for note in report.notes)


def test_parts_of_joined_segments_may_stay_or_be_gone(
    redis_url: str, tmp_path: Path
) -> None:
    """They stay for a grace period, and have lines until the scan is over."""
    publish(redis_url)
    folder = written(redis_url, tmp_path / "root")
    (segment,) = folder.glob("eiger_*.h5")
    manifest = folder / "scan0001.sha256"
    joined = folder / "eiger_0000-0003.h5"
    manifest.write_text(manifest.read_text().replace(segment.name, joined.name))
    shutil.copy(segment, joined)
    assert check_files([manifest]).findings == ()
    segment.unlink()
    manifest.write_text(manifest.read_text() + f"{'0' * 64}  {segment.name}\n")
    assert check_files([manifest]).findings == ()


def test_no_manifest_if_none_is_wanted(redis_url: str, tmp_path: Path) -> None:
    publish(redis_url)
    folder = written(redis_url, tmp_path / "root", manifest=False)
    assert not (folder / "scan0001.sha256").exists()


def test_a_folder_without_files_of_a_scan_is_a_sentence(tmp_path: Path) -> None:
    report = check_files([tmp_path])
    assert report.unreadable == (str(tmp_path),)
    assert "no HDF5 file" in report.findings[0].problem


@pytest.mark.parametrize("where", ["link.after", "manifest.before", "verdict.before"])
def test_a_successor_completes_the_manifest(
    redis_url: str, tmp_path: Path, where: str
) -> None:
    """Killed after a file got its name and before its line; later; when all stood."""
    uid = publish(redis_url)
    with writer(redis_url, tmp_path / "root", failpoints=f"{where}=kill@1") as one:
        final_verdict(redis_url, uid)
        assert "worker_died" in one.said
    (folder,) = {path.parent for path in found_below(tmp_path, "scan0001.h5")}
    data = {path.name for path in folder.glob("*.h5")} - {"scan0001.h5"}
    assert names_in(folder) == data
    assert sha256sum(folder).returncode == 0


def test_what_a_manifest_says_is_not_made_true_later(tmp_path: Path) -> None:
    """A line is evidence of what was written, not of what is there now."""
    scan = write_scan(tmp_path)
    work = WorkFolder(scan.folder.parent, UID, 1, Steps())
    work.open()
    complete_manifest(scan.folder, scan.contents, work)
    before = (scan.folder / "scan0001.sha256").read_text()
    with scan.values.open("ab") as file:
        file.write(b"more")
    complete_manifest(scan.folder, scan.contents, work)
    assert (scan.folder / "scan0001.sha256").read_text() == before
    assert sha256sum(scan.folder).returncode != 0


def test_a_salvaged_scan_has_a_manifest(
    redis_factory: RedisFactory, tmp_path: Path
) -> None:
    killed_writer(redis_factory(), tmp_path)
    salvage(tmp_path, force=True)
    (folder,) = {path.parent for path in found_below(tmp_path, "scan0001.h5")}
    assert "scan0001_values.h5" in names_in(folder)
    assert sha256sum(folder).returncode == 0
