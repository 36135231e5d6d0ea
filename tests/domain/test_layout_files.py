"""Files of layouts beside a scan master: what goes wrong with one costs no scan."""

from __future__ import annotations

import dataclasses
import resource
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest

from scanbus.schemas.errors import RootUnusableError
from scanbus.writer.layouts import profiles
from scanbus.writer.layouts.common.scan_view import ScanView
from scanbus.writer.layouts.profile import Master, Profile
from scanbus.writer.layouts.profiles import lay_out
from scanbus.writer.masters.write import foreign_layouts, write_scan_master
from scanbus.writer.model.layout_choice import LayoutChoice
from scanbus.writer.model.nexus_tree import Dataset, Group, Node, SoftLink
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.storage.provenance import stamp_now
from scanbus.writer.storage.regular_file import version_of
from tests.support.written_scans import WrittenScan, write_scan

GOOD, ODD = "scan0001_good.h5", "scan0001_odd.h5"
Layouts = Callable[..., ScanContents]


def profile(name: str, files: Mapping[str, Mapping[str, Node]]) -> Profile:
    masters = {file: Master(children) for file, children in files.items()}
    return Profile(name, lambda _: tuple(masters), lambda _: masters)


def entry(**children: Node) -> dict[str, Node]:
    return {"entry": Group("NXentry", children=children)}


@pytest.fixture
def scan(tmp_path: Path) -> WrittenScan:
    return write_scan(tmp_path)


@pytest.fixture
def layouts(scan: WrittenScan, monkeypatch: pytest.MonkeyPatch) -> Layouts:
    """Return the scan's contents with layouts that a test makes up."""

    def chosen(*made: Profile) -> ScanContents:
        for each in made:
            monkeypatch.setitem(profiles.PROFILES, each.name, each)
        choice = LayoutChoice(tuple(each.name for each in made))
        return dataclasses.replace(scan.contents, choice=choice)

    return chosen


GOOD_PROFILE = profile("good", {GOOD: entry(title=Dataset("ascan"))})


def test_a_layout_has_its_file_with_the_name_of_its_scan(
    scan: WrittenScan, layouts: Layouts
) -> None:
    write_scan_master(scan.folder, layouts(GOOD_PROFILE))
    with h5py.File(scan.folder / GOOD) as file:
        assert file.attrs["scanbus_layout"] == "good"
        assert file.attrs["scanbus_uid"] == scan.identity.uid
        assert file.attrs["default"] == "entry"
        assert file["entry/title"].asstr()[()] == "ascan"


@pytest.mark.parametrize(
    "child",
    [
        {"a/b": Dataset(1), "a": Dataset(2)},  # A dataset is no group.
        {"texts": Dataset(np.array([object()]))},  # HDF5 has no such type.
        {"huge": Dataset(1, {"long": np.zeros(10**5)})},  # No attribute holds it.
        {"": Dataset(1)},
        {"to": SoftLink("")},
    ],
)
def test_a_tree_that_hdf5_refuses_costs_its_own_file_alone(
    scan: WrittenScan,
    layouts: Layouts,
    child: dict[str, Node],
    capsys: pytest.CaptureFixture[str],
) -> None:
    odd = profile("odd", {ODD: {"entry": Group("NXentry", children=child)}})
    write_scan_master(scan.folder, layouts(odd, GOOD_PROFILE))
    assert (scan.folder / GOOD).exists()
    assert not (scan.folder / ODD).exists()
    assert ODD in capsys.readouterr().err
    assert not [each for each in scan.folder.iterdir() if each.suffix == ".tmp"]


def test_a_profile_that_fails_is_a_sentence(
    scan: WrittenScan, layouts: Layouts
) -> None:
    def fail(_: ScanView) -> dict[str, Master]:
        raise ZeroDivisionError("no\ngood")

    odd = Profile("odd", lambda _: (ODD,), fail)
    found = lay_out(layouts(odd, GOOD_PROFILE), stamp_now())
    assert list(found.files) == [GOOD]
    (note,) = found.notes
    assert note == "layout odd: its files are not written (ZeroDivisionError: no)"


@pytest.mark.parametrize(
    "name",
    [
        "scan0001.h5",
        "scan0001_values.h5",
        "scan0001.sha256",
        "scan0001_amendments.jsonl",
        "scan0001_0000.h5",  # A segment of a lane that is called so.
        "scan0002_other.h5",
        "other.h5",
        "scan0001/../other.h5",
        "../scan0001_a.h5",
        "scan0001_*.h5",
        "scan0001_\n.h5",
        "scan0001_" + "x" * 300,
        "",
    ],
)
def test_files_of_the_scan_and_of_others_are_no_layout(
    scan: WrittenScan, layouts: Layouts, name: str
) -> None:
    before = {path: path.read_bytes() for path in scan.folder.iterdir()}
    odd = profile("odd", {name: entry()})
    contents = layouts(odd, GOOD_PROFILE)
    write_scan_master(scan.folder, contents)
    found = lay_out(contents, stamp_now())
    assert list(found.files) == [GOOD]
    assert "is not written" in found.notes[0]
    master = scan.folder / "scan0001.h5"
    after = {path: path.read_bytes() for path in before if path != master}
    assert after == {path: data for path, data in before.items() if path != master}


def test_two_layouts_that_want_one_name_are_told_apart(
    scan: WrittenScan, layouts: Layouts
) -> None:
    other = profile("other", {GOOD: entry(title=Dataset("another"))})
    contents = layouts(GOOD_PROFILE, other)
    write_scan_master(scan.folder, contents)
    with h5py.File(scan.folder / GOOD) as file:
        assert file["entry/title"].asstr()[()] == "ascan"
    notes = lay_out(contents, stamp_now()).notes
    assert notes == (
        f"layout other: {GOOD} is not written, as layout good has a file of that name",
    )


@pytest.mark.parametrize("kind", ["text", "hdf5", "folder", "link"])
def test_what_has_the_name_of_a_layout_stays(
    scan: WrittenScan,
    layouts: Layouts,
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = scan.folder / GOOD
    if kind == "text":
        path.write_text("my notes")
    elif kind == "hdf5":
        with h5py.File(path, "w") as file:
            file.attrs["scanbus_uid"] = "another"
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(scan.values)
    before = version_of(path.lstat())
    write_scan_master(scan.folder, layouts(GOOD_PROFILE))
    assert version_of(path.lstat()) == before
    assert GOOD in capsys.readouterr().err
    assert foreign_layouts(scan.folder, layouts(GOOD_PROFILE))


def test_a_file_system_that_refuses_ends_the_attempt(
    scan: WrittenScan, layouts: Layouts
) -> None:
    big = np.random.default_rng(1).random(2**19)
    odd = profile("odd", {ODD: entry(big=Dataset(big))})
    contents = layouts(odd)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(RootUnusableError):
            write_scan_master(scan.folder, contents)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    write_scan_master(scan.folder, contents)
    assert (scan.folder / ODD).exists()
