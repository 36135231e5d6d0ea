"""Items 15 to 24: the entry and its end."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import redis

from scanbus.publisher import Publisher
from scanbus.schemas import EndReason, VerdictWord
from tests.checklist.items import item
from tests.checklist.judges import ask
from tests.checklist.problems import problems
from tests.checklist.sample import FOLDERS, Sample
from tests.conftest import RedisFactory
from tests.support.writers import final_verdict, wait_until, writer


@item(15, "h5py")
def test_15_entries_have_a_title(sample: Sample) -> None:
    assert problems(sample, 15) == []


@item(16, "h5py")
def test_16_start_time_has_a_zone(sample: Sample) -> None:
    assert problems(sample, 16) == []


@item(17, "h5py")
def test_17_end_time_comes_last_with_the_final_verdict(sample: Sample) -> None:
    assert problems(sample, 17) == []
    for path in sample.masters.values():
        with h5py.File(path) as file:
            (entry,) = (one for one in file.values() if "title" in one)
            assert list(entry)[-1] == "end_time"


@item(18, "h5py")
def test_18_end_reason_is_a_word_of_bliss(sample: Sample) -> None:
    assert problems(sample, 18) == []


@item(19, "h5py")
def test_19_the_writer_says_its_state(sample: Sample) -> None:
    assert problems(sample, 19) == []
    with h5py.File(sample.rich) as file:
        assert file["1.1/writer/status"].asstr()[()] == "SUCCEEDED"
    with h5py.File(sample.masters["gaps"]) as file:
        assert file["3.1/writer/status"].asstr()[()] == "FAILED"


@item(19, "blissdata")
def test_19_blissdata_reads_a_dataset_to_its_end(sample: Sample) -> None:
    answer = ask(
        "blissdata",
        """
        from blissdata.h5api import static_hdf5
        with static_hdf5.File(sys.argv[1]) as file:
            answer = {name: sorted(scan["measurement"]) for name, scan in file.items()}
        """,
        sample.dataset,
    )
    assert set(answer) == {"1.1", "2.1", "3.1", "4.1"}
    assert {"eiger", "diode", "mca_det0"} <= set(answer["1.1"])


@item(20, "h5py")
def test_20_a_crash_leaves_running_and_is_completed(
    redis_factory: RedisFactory, tmp_path: Path
) -> None:
    server, root = redis_factory(), tmp_path / "data"
    with Publisher(server.url) as publisher:
        with writer(server.url, root) as first:
            with publisher.scan(quota_bytes=2**23, **FOLDERS) as scan:
                scan.detector("eiger", shape=(512, 512), dtype="uint32", codec="none")
                frame = np.ones((512, 512), np.uint32)
                masters: list[Path] = []
                while not masters:
                    scan.send("eiger", frame)
                    masters = [*root.glob("**/scan0001.h5")]
                first.kill()
                with h5py.File(masters[0], locking=False) as file:
                    assert file["1.1/writer/status"].asstr()[()] == "RUNNING"
                    assert "end_time" not in file["1.1"]
                with writer(server.url, root):
                    scan.flush()
                    scan.finish(EndReason.SUCCESS)
                    verdict = final_verdict(server.url, scan.uid)
        assert verdict.verdict is VerdictWord.COMPLETE, verdict.reason
    with h5py.File(masters[0]) as file:
        assert file["1.1/writer/status"].asstr()[()] == "SUCCEEDED"
        assert "end_time" in file["1.1"]


@item(21, "h5py")
def test_21_no_definition_that_nobody_validated(sample: Sample) -> None:
    assert problems(sample, 21) == []


@item(22, "silx")
def test_22_the_default_of_an_entry_is_plotselect(sample: Sample) -> None:
    assert problems(sample, 22) == []
    answer = ask(
        "silx",
        """
        import h5py
        from silx.io.nxdata import get_default
        with h5py.File(sys.argv[1]) as file:
            signal = get_default(file).signal_dataset_name
            answer = [file["1.1"].attrs["default"], signal]
        """,
        sample.rich,
    )
    assert answer == ["plotselect", "diode"]


@item(23, "h5py")
def test_23_notes_are_nxnotes(sample: Sample) -> None:
    assert problems(sample, 23) == []
    with h5py.File(sample.rich) as file:
        notes = [note["data"].asstr()[()] for note in file["1.1/notes"].values()]
        assert "Verschluß geöffnet" in notes


@item(24, "redis")
def test_24_scan_numbers_rise_when_redis_forgot_them(
    redis_factory: RedisFactory, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    numbers = []
    server = redis_factory()
    for _ in range(2):
        with writer(server.url, root), Publisher(server.url) as publisher:
            wait_until(lambda: _has_writer(server.url))
            with publisher.scan(**FOLDERS) as scan:
                scan.channel("th")
                scan.send("th", np.arange(3.0))
            verdict = final_verdict(server.url, scan.uid)
            numbers.append(int(Path(verdict.master).stem.removeprefix("scan")))
        with redis.Redis.from_url(server.url) as client:
            client.delete(*client.keys("scanbus:number:*"))
    assert numbers == [1, 2]


def _has_writer(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        return bool(client.keys("scanbus:writer:*"))
