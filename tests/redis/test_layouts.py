"""Layouts of a scan: who chooses them, and what becomes of a name that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest

from scanbus.publisher import Publisher
from scanbus.publisher.gateways.runner.sent import wait_sent
from scanbus.schemas import Verdict, VerdictWord
from scanbus.schemas.layout_names import BUILT_IN_LAYOUTS
from scanbus.writer import WriterSettings, rebuild, run_writer
from scanbus.writer.layouts.profiles import PROFILES
from tests.support.roots import made_root
from tests.support.waiting import found_below

pytestmark = pytest.mark.redis


def written(
    url: str,
    tmp_path: Path,
    layouts: tuple[str, ...] = (),
    default: tuple[str, ...] = (),
) -> tuple[Path, Verdict]:
    """Return the folder of a finished scan of one counter, and its verdict."""
    with Publisher(url, close_timeout_s=0.0) as publisher:
        with publisher.scan(proposal="p1", layouts=layouts) as scan:
            scan.channel("th", role="axis", units="deg")
            scan.send("th", 1.0)
        wait_sent(url, [scan.uid])
    root = made_root(tmp_path / "root")
    loaded = WriterSettings.load(redis=url, root=root, layouts=default)
    run_writer(loaded, once=True)
    folder = found_below(root, "scan0001.h5")[0].parent
    with h5py.File(folder / "scan0001_values.h5") as file:
        said = file["entry_0000/scanbus/verdict"].asstr()[()]
    return folder, Verdict.model_validate_json(said)


def choice_in(folder: Path) -> dict[str, object]:
    with h5py.File(folder / "scan0001_values.h5") as file:
        found: dict[str, object] = json.loads(
            file["entry_0000/scanbus/layouts"].asstr()[()]
        )
    return found


def test_an_unknown_layout_is_a_note_of_a_complete_scan(
    redis_url: str, tmp_path: Path
) -> None:
    folder, verdict = written(redis_url, tmp_path, ("nxmxx",))
    assert verdict.verdict is VerdictWord.COMPLETE
    assert any(
        "layout nxmxx: there is no such layout" in each for each in verdict.notes
    )
    assert "did you mean nxmx?" in " ".join(verdict.notes)
    assert choice_in(folder)["layouts"] == ["nxmxx"]


def test_a_scan_that_asks_for_none_has_those_of_the_settings(
    redis_url: str, tmp_path: Path
) -> None:
    folder, _ = written(redis_url, tmp_path, default=("nxmx",))
    assert choice_in(folder)["layouts"] == ["nxmx"]


def test_a_scan_may_ask_for_the_scan_master_alone(
    redis_url: str, tmp_path: Path
) -> None:
    folder, verdict = written(redis_url, tmp_path, ("esrf",))
    assert choice_in(folder)["layouts"] == []
    assert verdict.notes == ()


@pytest.mark.parametrize("name", ["", "NXmx", "a/b", "../a", "a b", "nxmx\n", "x" * 33])
def test_what_is_no_name_of_a_layout_is_refused_at_once(
    redis_url: str, name: str
) -> None:
    with (
        Publisher(redis_url, close_timeout_s=0.0) as publisher,
        pytest.raises(ValueError, match="no name of a layout"),
    ):
        publisher.scan(layouts=(name,))


def test_too_many_layouts_are_refused_at_once(redis_url: str) -> None:
    names = [f"layout{number}" for number in range(17)]
    with (
        Publisher(redis_url, close_timeout_s=0.0) as publisher,
        pytest.raises(ValueError, match="at most 16 layouts"),
    ):
        publisher.scan(layouts=names)


@pytest.mark.parametrize("wanted", [True, False])
def test_personal_data_are_in_masters_only_if_the_writer_says_so(
    redis_url: str, tmp_path: Path, *, wanted: bool
) -> None:
    person = {"name": "A. Author", "email": "a@b.org"}
    with Publisher(redis_url, close_timeout_s=0.0) as publisher:
        with publisher.scan(proposal="p1", metadata={"user": person}) as scan:
            scan.channel("th")
            scan.send("th", 1.0)
        wait_sent(redis_url, [scan.uid])
    root = made_root(tmp_path / "root")
    settings = WriterSettings.load(redis=redis_url, root=root, users=wanted)
    run_writer(settings, once=True)
    (master,) = found_below(root, "scan0001.h5")
    # A rebuild knows no settings: the scan file has them.
    for _ in range(2):
        with h5py.File(master) as file:
            assert ("user" in file["1.1"]) is wanted
            problems = file["1.1/scanbus"].get("problems")
            assert (problems is None) is wanted
        master.unlink()
        rebuild(root)


def test_publishers_know_the_layouts_of_this_version() -> None:
    assert set(BUILT_IN_LAYOUTS) == {"esrf", *PROFILES}
