"""A name in a folder is durable before Redis may forget what stands under it."""

from pathlib import Path

import numpy as np
import pytest

from scanbus.bus.store import connect, read_cursor
from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from scanbus.writer.steps import FAILPOINT_LOG_VARIABLE, FAILPOINTS_VARIABLE
from scanbus.writer.storage.durable_files import make_folder
from tests.support.waiting import found_below
from tests.support.writers import wait_until, writer

pytestmark = pytest.mark.redis

BEFORE = "fsync_folder.before=stop@1"
FRAMES = np.arange(20 * 64, dtype=np.uint16).reshape(20, 8, 8)


def test_a_successor_acknowledges_only_names_that_it_made_durable_itself(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANBUS_LEASE_S", "0.3")
    monkeypatch.setenv(FAILPOINTS_VARIABLE, BEFORE)
    hits = tmp_path / "hits"
    hits.write_text("")
    monkeypatch.setenv(FAILPOINT_LOG_VARIABLE, str(hits))

    def acknowledged() -> int:
        with connect(redis_url, name="test") as client:
            return read_cursor(client, scan.uid, "camera")

    with Publisher(redis_url) as publisher:
        with publisher.scan(session="20260101") as scan:
            scan.detector("camera", shape=(8, 8), dtype="uint16")
            scan.send("camera", FRAMES)
        for _ in range(2):
            # The first is killed between its link and this, the second at its start.
            with writer(redis_url, tmp_path) as one:
                wait_until(lambda: "fsync_folder.before 1 stop" in hits.read_text())
                one.kill()
            hits.write_text("")
            assert found_below(tmp_path, "camera_0000.h5")
            assert acknowledged() == 0
        monkeypatch.delenv(FAILPOINTS_VARIABLE)
        with writer(redis_url, tmp_path, "--once") as last:
            assert last.wait() == 0
        verdict = scan.verdict(20)
    assert verdict.verdict is VerdictWord.COMPLETE
    assert acknowledged() == len(FRAMES)


def test_folders_that_lack_are_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c"
    make_folder(folder)
    make_folder(folder)
    assert folder.is_dir()


def test_a_folder_where_a_file_stands_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("data")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "a" / "b")
