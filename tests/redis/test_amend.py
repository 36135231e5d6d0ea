"""A correction of metadata: an event beside the scan, a new master, the same data."""

import dataclasses
import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import pytest

from scanbus.publisher import Publisher
from scanbus.publisher.gateways.runner.sent import wait_sent
from scanbus.schemas import merged
from scanbus.schemas.errors import (
    ConfigurationError,
    VerificationError,
)
from scanbus.schemas.exit_codes import ExitCode
from scanbus.writer import (
    WriterSettings,
    amend,
    amendments,
    check_files,
    rebuild,
    run_writer,
)
from scanbus.writer.masters.rebuild import read_contents
from scanbus.writer.masters.write import write_scan_master
from tests.support.roots import made_root
from tests.support.waiting import found_below

pytestmark = pytest.mark.redis


@pytest.fixture
def folder(redis_url: str, tmp_path: Path) -> Path:
    """Return the folder of a finished scan."""
    with Publisher(redis_url, close_timeout_s=0.0) as publisher:
        with publisher.scan(
            proposal="p1",
            collection="s1",
            beamline="id00",
            title="ascan th",
            metadata={"sample": {"name": "lyzosyme", "mass": 3.0}},
        ) as scan:
            scan.channel("th")
            scan.send("th", 1.0)
            scan.update({"sample": {"mass": 4.0, "comment": "wet"}})
        wait_sent(redis_url, [scan.uid])
    settings = WriterSettings.load(redis=redis_url, root=made_root(tmp_path / "root"))
    run_writer(settings, once=True)
    return found_below(tmp_path / "root", "scan0001.h5")[0].parent


def contents_of(folder: Path) -> dict[str, bytes]:
    names = {path.name for path in folder.iterdir()} - {"scan0001.h5"}
    return {name: (folder / name).read_bytes() for name in names}


def vars_of(given: Any) -> dict[str, Any]:
    return {each.name: getattr(given, each.name) for each in dataclasses.fields(given)}


def amended(folder: Path, **changes: object) -> None:
    given = {key.replace("__", "/"): value for key, value in changes.items()}
    amend(folder, given, reason="a slip", author="me@here")


def test_a_correction_is_in_the_master_and_the_data_are_the_same(folder: Path) -> None:
    before = contents_of(folder)
    amended(folder, sample__name="lysozyme", sample__mass=5.0, title="ascan phi")
    after = contents_of(folder)
    history = after.pop("scan0001_amendments.jsonl")
    assert after == before
    with h5py.File(folder / "scan0001.h5") as file:
        entry = file["1.1"]
        assert entry["sample/name"].asstr()[()] == "lysozyme"
        assert entry["sample/mass"][()] == 5.0
        assert entry["sample/comment"].asstr()[()] == "wet"
        assert entry["title"].asstr()[()] == "ascan phi"
        notes = [note["data"].asstr()[()] for note in entry["notes"].values()]
        assert "metadata amended by me@here: a slip" in notes
    said = json.loads(history)
    assert said["before"] == {
        "sample/name": "lyzosyme",
        "sample/mass": 4.0,
        "title": "ascan th",
    }
    assert check_files([folder], everything=True).findings == ()


def test_history_is_kept_and_a_rebuild_gives_the_same_master(
    folder: Path, tmp_path: Path
) -> None:
    amended(folder, sample__name="lysozyme")
    amended(folder, sample__name="thaumatin", sample__comment=None)
    found = amendments(folder)
    assert [each.before["sample/name"] for each in found] == ["lyzosyme", "lysozyme"]
    for master in found_below(tmp_path / "root", "*.h5"):
        if "_values" not in master.name:
            master.unlink()
    assert rebuild(tmp_path / "root").skipped == ()
    with h5py.File(folder / "scan0001.h5") as file:
        assert file["1.1/sample/name"].asstr()[()] == "thaumatin"
        assert "comment" not in file["1.1/sample"]
        assert len(file["1.1/notes"]) == 2


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("sample/no name", 1, "not a NeXus name"),
        ("sample/name", "a\0b", "NUL"),
        ("sample/list", [1, "a"], "mixed types"),
    ],
)
def test_what_no_file_can_hold_is_a_sentence_and_changes_nothing(
    folder: Path, key: str, value: object, sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        amend(folder, {key: value}, reason="r", author="me")
    assert not (folder / "scan0001_amendments.jsonl").exists()


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("../../x", 1, "not a NeXus name"),
        ("a" * 1_000_000, 1, "more than 1200 characters"),
        ("title", 5, "text is needed"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(
    folder: Path, key: str, value: object, sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as refused:
        amend(folder, {key: value}, reason="r", author="me")
    assert len(str(refused.value)) < 300
    assert not (folder / "scan0001_amendments.jsonl").exists()


def test_not_a_number_is_a_value(folder: Path, tmp_path: Path) -> None:
    """As JSON has no NaN, it would come back as null, which withdraws."""
    amended(folder, sample__mass=math.nan)
    said = merged(amendments(folder)[0].metadata)
    assert math.isnan(said["sample"]["mass"])
    rebuild(tmp_path / "root")
    with h5py.File(folder / "scan0001.h5") as file:
        assert math.isnan(file["1.1/sample/mass"][()])


def test_text_with_other_line_breaks_than_ours_is_one_correction(
    folder: Path, tmp_path: Path
) -> None:
    """As it comes out of a word processor; JSON does not escape all of them."""
    breaks = "a\u2028b\u2029c\x85d\ve\ff\x1cg"
    amended(folder, sample__comment=breaks)
    amended(folder, title="next")
    assert [each.before for each in amendments(folder)] == [
        {"sample/comment": "wet"},
        {"title": "ascan th"},
    ]
    assert rebuild(tmp_path / "root").skipped == ()
    with h5py.File(folder / "scan0001.h5") as file:
        assert file["1.1/sample/comment"].asstr()[()] == breaks


def test_a_value_that_the_scan_itself_says_is_named(folder: Path) -> None:
    done = amend(folder, {"start_time": "never"}, reason="r", author="me")
    (problem,) = done.problems
    assert "scanbus/metadata/start_time" in problem


def test_what_the_disk_refuses_is_not_half_a_line(folder: Path, tmp_path: Path) -> None:
    """In a process that may not write files of more than a few kilobytes."""
    amended(folder, sample__name="lysozyme")
    history = folder / "scan0001_amendments.jsonl"
    before = history.read_bytes()
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from scanbus.writer.storage.amendments import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "path = Path(sys.argv[1])\n"
        "size = path.stat().st_size + 10\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        "found = read_amendments(path.parent)\n"
        "with locked_amendments(path) as descriptor:\n"
        "    try:\n"
        "        add_amendment(descriptor, path, found[0])\n"
        "    except OSError:\n"
        "        print('refused')\n"
    )
    command = [sys.executable, "-c", code, str(history)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
    assert history.read_bytes() == before


def test_a_correction_during_the_last_master_of_a_writer_is_in_it(
    folder: Path,
) -> None:
    """A writer that read the corrections before, and renames after, looks again."""
    contents = read_contents(folder)
    old = folder / ".scan0001.h5.0.old"

    class Slow(type(contents)):  # type: ignore[misc]
        """Contents of a writer that is overtaken while it builds its master."""

        @property
        def entry_name(self) -> str:
            if not old.exists():
                old.touch()
                amended(folder, sample__name="lysozyme")
            return str(super().entry_name)

    write_scan_master(folder, Slow(**vars_of(contents)))
    assert old.exists()
    with h5py.File(folder / "scan0001.h5") as file:
        assert file["1.1/sample/name"].asstr()[()] == "lysozyme"


def test_corrections_at_once_are_all_kept(folder: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        for number in range(4):
            threads.submit(amended, folder, **{f"sample__c{number}": number})
        threads.submit(rebuild, tmp_path / "root")
    assert len(amendments(folder)) == 4
    with h5py.File(folder / "scan0001.h5") as file:
        assert {f"c{number}" for number in range(4)} <= set(file["1.1/sample"])


def test_what_is_no_finished_scan_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    for path, sentence in (
        (tmp_path / "gone.h5", "no such file"),
        (folder.parent, "not of one scan"),
    ):
        with pytest.raises(ConfigurationError, match=sentence):
            amend(path, {"title": "x"}, reason="r", author="me")
    (folder / "scan0001_values.h5").rename(folder / "elsewhere")
    with pytest.raises(ConfigurationError, match="is not finished"):
        amended(folder, title="x")


def test_a_damaged_history_is_named_and_the_old_master_stays(folder: Path) -> None:
    amended(folder, sample__name="lysozyme")
    history = folder / "scan0001_amendments.jsonl"
    history.write_text(history.read_text() + "half a li")
    with pytest.raises(VerificationError, match="line 2"):
        amended(folder, sample__name="thaumatin")
    report = rebuild(folder.parents[6])
    assert [each.is_damaged for each in report.skipped] == [True]
    with h5py.File(folder / "scan0001.h5") as file:
        assert file["1.1/sample/name"].asstr()[()] == "lysozyme"


def test_the_command_prints_old_and_new_and_the_history(folder: Path) -> None:
    master = str(folder / "scan0001.h5")

    def said(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "scanbus.cli", "amend", master, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = said(
        "--set", "sample/name=lysozyme", "--unset", "sample/mass", "--reason", "r"
    )
    assert done.returncode == ExitCode.COMPLETE, done.stderr
    assert 'sample/name: "lyzosyme" -> "lysozyme"' in done.stdout
    assert "sample/mass: 4.0 -> (none)" in done.stdout
    (line,) = json.loads(said("--history", "--json").stdout)
    assert line["metadata"] == {"sample": {"name": "lysozyme", "mass": None}}
    assert said("--set", "title=x").returncode == ExitCode.USAGE
    for wrong in ("=x", "sample/x=" + "[" * 50_000):
        refused = said("--set", wrong, "--reason", "r")
        assert refused.returncode == ExitCode.USAGE
        assert "Traceback" not in refused.stderr
