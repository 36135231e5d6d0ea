"""Every file says when and with which software it was made."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import h5py
import pytest

from scanbus.writer import rebuild
from scanbus.writer.storage.provenance import commit_of
from tests.support.checklist import check_stamp
from tests.support.written_scans import write_scan

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_every_file_says_who_made_it_and_with_what(tmp_path: Path) -> None:
    scan = write_scan(tmp_path, lost=[(8, 12)], late={"eiger": [9, 8]})
    rebuild(scan.root)
    files = sorted(scan.root.rglob("*.h5"))
    names = {path.name for path in files}
    assert {"scan0001.h5", "scan0001_values.h5", "eiger_0000.h5"} <= names
    assert any(name.startswith("late.") for name in names)
    for path in files:
        assert list(check_stamp(path)) == []
        with h5py.File(path) as file:
            made = datetime.fromisoformat(file.attrs["file_time"])
            age = datetime.now(made.tzinfo) - made
            assert 0 <= age.total_seconds() < 3600
            assert f"lz4 {version('lz4')}" in file.attrs["codec_versions"]


def test_the_commit_is_that_of_the_repository(tmp_path: Path) -> None:
    of_pip = {"url": "https://host/x.git", "vcs_info": {"commit_id": COMMIT}}
    assert commit_of(of_pip) == COMMIT

    clone = tmp_path / "a clone"
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=b"]
    subprocess.run(["git", "init", "-q", str(clone)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True)
    commit = done.stdout.decode().strip()
    origin = {"url": clone.as_uri(), "dir_info": {"editable": True}}

    assert commit_of(origin) == commit
    subprocess.run([*git, "pack-refs", "--all"], check=True)
    assert commit_of(origin) == commit
    subprocess.run([*git, "checkout", "-q", "--detach"], check=True)
    assert commit_of(origin) == commit


@pytest.mark.parametrize(
    "origin",
    [
        {},
        [],
        None,
        {"vcs_info": {"commit_id": "main"}},
        {"url": "file:///nowhere", "dir_info": {"editable": True}},
        {"url": "file:///nowhere", "dir_info": {}},
        {"url": "https://host/x.whl", "archive_info": {}},
    ],
    ids=json.dumps,
)
def test_without_a_repository_there_is_no_commit(origin: object) -> None:
    assert commit_of(origin) == ""
