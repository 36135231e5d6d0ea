"""Files of a site's own layout: their values, and what becomes of them later."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.schemas.errors import ConfigurationError, LayoutError
from scanbus.writer import (
    check_files,
    check_template,
    known_layouts,
    preview_files,
    rebuild,
)
from scanbus.writer.layouts.expected import layout_notes
from scanbus.writer.layouts.profiles import lay_out
from scanbus.writer.masters.write import write_scan_master
from scanbus.writer.model.layout_choice import LayoutChoice
from scanbus.writer.storage.layout_templates import read_templates
from scanbus.writer.storage.provenance import stamp_now
from tests.support.trees import differences
from tests.support.written_scans import N_POINTS, WrittenScan, write_scan

FILE = "scan0001_bm99.nxs"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "site-layouts.md"
Nodes = dict[str, dict[str, Any]]
NODES: Nodes = {
    "entry": {"group": "NXentry", "attributes": {"default": "data"}},
    "entry/definition": {"value": "NXbm99"},
    "entry/title": {"metadata": "title"},
    "entry/name": {
        "metadata": "sample/name",
        "attributes": {"note": "{scan} of {dataset}"},
    },
    "entry/none": {"metadata": "sample/colour"},
    "entry/colour": {"metadata": "sample/colour", "default": [1, 2], "dtype": "uint8"},
    "entry/scanned": {"value": True, "if": {"channel": {"role": "axis"}}},
    "entry/other": {
        "value": 1,
        "unless": {"metadata": "sample/name", "equals": "sample"},
    },
    "entry/gone": {"group": "NXdata", "if": {"channel": "xia"}},
    "entry/gone/x": {"value": 1},
    "entry/{detector}": {"group": "NXdetector"},
    "entry/{detector}/data": {"channel": "{detector}"},
    "entry/{detector}/local_name": {"value": "{detector}"},
    "entry/{detector}/all": {"master": "instrument/{detector}"},
    "entry/data": {"group": "NXdata", "attributes": {"signal": "counts"}},
    "entry/data/angle": {"channel": {"role": "axis", "name": "t?"}, "units": "deg"},
    "entry/data/counts": {"channel": "counts", "attributes": {"long_name": "all"}},
    "entry/data/label": {"channel": "label"},
    "entry/data/mca": {"channel": {"ndim": 1, "name": "m*a"}},
    "entry/plot": {"link": "/entry/data"},
}


@pytest.fixture
def scan(tmp_path: Path) -> WrittenScan:
    return write_scan(tmp_path / "root")


def template(folder: Path, nodes: Nodes, name: str = "bm99", **others: Any) -> Path:
    said = {"name": name, "file": f"{{scan}}_{name}.nxs", "nodes": nodes}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(said | others))
    return path


def written(scan: WrittenScan, *paths: Path) -> Path:
    """Write the scan's master and layouts; return the file of the first one."""
    texts = read_templates(paths)
    choice = LayoutChoice(tuple(texts), texts)
    write_scan_master(scan.folder, dataclasses.replace(scan.contents, choice=choice))
    return scan.folder / FILE


def notes_of(scan: WrittenScan, *paths: Path) -> tuple[str, ...]:
    texts = read_templates(paths)
    choice = LayoutChoice(tuple(texts), texts)
    contents = dataclasses.replace(scan.contents, choice=choice)
    verdict = contents.record.verdict
    assert verdict is not None
    return layout_notes(contents, verdict, stamp_now())


def test_values_are_those_of_the_scan(scan: WrittenScan, tmp_path: Path) -> None:
    path = written(scan, template(tmp_path, NODES))
    with h5py.File(path) as file, h5py.File(scan.master) as master:
        entry, own = file["entry"], master["1.1"]
        assert file.attrs["default"] == "entry"
        assert file.attrs["scanbus_layout"] == "bm99"
        assert entry["definition"][()] == b"NXbm99"
        assert entry["title"][()] == own["title"][()]
        assert entry["name"].asstr()[()] == "sample"
        assert entry["name"].attrs["note"] == "scan0001 of 0001"
        assert entry["colour"].dtype == "u1"
        assert list(entry["colour"]) == [1, 2]
        assert entry["scanned"][()]
        assert not {"none", "other", "gone"} & set(entry)
        frames = own["measurement/eiger"][()]
        assert frames.any()
        np.testing.assert_array_equal(entry["eiger/data"][()], frames)
        np.testing.assert_array_equal(entry["eiger/all"]["image"][()], frames)
        assert entry["eiger/local_name"].asstr()[()] == "eiger"
        for name in ("counts", "label", "mca"):
            found, said = entry[f"data/{name}"][()], own[f"measurement/{name}"][()]
            assert len(found) == N_POINTS
            np.testing.assert_array_equal(found, said)
        np.testing.assert_array_equal(entry["data/angle"], own["measurement/th"])
        assert entry["data/angle"].attrs["units"] == "deg"
        assert entry["data/counts"].attrs["long_name"] == "all"
        assert file["entry/plot/angle"] == file["entry/data/angle"]
        assert file["entry/data"].attrs["target"] == "/entry/data"
    assert notes_of(scan, template(tmp_path, NODES)) == ()


def test_the_example_of_the_page_is_a_template(
    scan: WrittenScan, tmp_path: Path
) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = tmp_path / "bm99.toml"
    path.write_text(example)
    assert check_template(path).messages == ()
    with h5py.File(written(scan, path)) as file:
        assert file["entry/sample/temperature"].dtype == "f4"
        assert file["entry/sample/temperature"].attrs["units"] == "K"
        assert file["entry/sample/temperature"][()] == 295.0
        assert len(file["entry/data/angle"]) == N_POINTS
        assert len(file["entry/instrument/eiger/data"]) == N_POINTS
        assert "attenuated" not in file["entry/data"]
    assert notes_of(scan, path) == ()


def test_what_is_required_and_missing_costs_the_definition_alone(
    scan: WrittenScan, tmp_path: Path
) -> None:
    more = {
        "entry/a": {"channel": "xia", "required": True},
        "entry/b": {"metadata": "sample/mass", "required": True},
    }
    path = template(tmp_path, NODES | more)
    (note,) = notes_of(scan, path)
    assert note == (
        "layout bm99: scan0001_bm99.nxs has no definition, as the scan lacks "
        "a channel xia, for entry/a, sample/mass of its metadata, for entry/b"
    )
    with h5py.File(written(scan, path)) as file:
        assert "definition" not in file["entry"]
        assert len(file["entry/data/counts"]) == N_POINTS


def test_units_are_converted_or_the_value_is_left_out(
    scan: WrittenScan, tmp_path: Path
) -> None:
    nodes: Nodes = {
        "entry": {"group": "NXentry"},
        "entry/wrong": {"metadata": "title", "dtype": "float32"},
        "entry/th": {"channel": "th", "units": "rad"},
    }
    path = template(tmp_path, nodes)
    with h5py.File(written(scan, path)) as file:
        assert "wrong" not in file["entry"]
        assert file["entry/th"].attrs["units"] == "deg"
    notes = notes_of(scan, path)
    assert any("entry/th stays in deg" in note for note in notes)
    assert any("a text is no float32" in note for note in notes)


def test_a_link_to_what_the_scan_lacks_is_left_out_with_a_note(
    scan: WrittenScan, tmp_path: Path
) -> None:
    nodes: Nodes = {
        "entry": {"group": "NXentry"},
        "entry/a": {"channel": "xia"},
        "entry/b": {"link": "/entry/a"},
        "entry/c": {"link": "/entry/b"},
    }
    path = template(tmp_path, nodes)
    with h5py.File(written(scan, path)) as file:
        assert list(file["entry"]) == []
    assert notes_of(scan, path) == (
        "layout bm99: entry/b is not written, as the file has no /entry/a",
        "layout bm99: entry/c is not written, as the file has no /entry/b",
    )


def test_a_detector_may_have_a_file_of_its_own(
    scan: WrittenScan, tmp_path: Path
) -> None:
    nodes: Nodes = {
        "entry": {"group": "NXentry"},
        "entry/data": {"channel": "{detector}"},
    }
    path = template(tmp_path, nodes, file="{scan}_{detector}_own.hdf5")
    written(scan, path)
    with h5py.File(scan.folder / "scan0001_eiger_own.hdf5") as file:
        assert file["entry/data"].shape == (N_POINTS, 6, 8)


def test_two_layouts_that_want_one_file_are_told_apart(
    scan: WrittenScan, tmp_path: Path
) -> None:
    first = template(tmp_path, NODES)
    other = template(
        tmp_path, {"entry": {"group": "NXentry"}}, "other", file="{scan}_bm99.nxs"
    )
    with h5py.File(written(scan, first, other)) as file:
        assert file.attrs["scanbus_layout"] == "bm99"
    assert notes_of(scan, first, other) == (
        f"layout other: {FILE} is not written, as layout bm99 has a file of that name",
    )


def test_a_layout_of_finished_scans_stays_without_the_sites_file(
    scan: WrittenScan, tmp_path: Path
) -> None:
    path = template(tmp_path, NODES)
    before = scan.values.read_bytes()
    report = rebuild(scan.root, layouts=("bm99",), templates=(path,))
    assert (report.skipped, report.notes) == ((), ())
    assert scan.values.read_bytes() == before
    old = tmp_path / "old"
    old.mkdir()
    (old / FILE).write_bytes((scan.folder / FILE).read_bytes())
    path.unlink()
    (scan.folder / FILE).unlink()
    rebuild(scan.root)
    assert (scan.folder / FILE).exists()
    with h5py.File(old / FILE) as one, h5py.File(scan.folder / FILE) as two:
        assert _items(one) == _items(two)
    assert preview_files(scan.folder).layouts == ("bm99",)
    assert check_files([scan.root], everything=True).ok
    rebuild(scan.root, layouts=("nxmx",))
    assert preview_files(scan.folder).layouts == ("bm99", "nxmx")


def _items(file: h5py.File) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    file.visit_links(
        lambda name: found.append((name, str(file.get(name, getlink=True).__dict__)))
    )
    return found


@pytest.mark.parametrize("text", ["", "{", "[]", '{"layouts": 1}', "[" * 10**5])
def test_a_damaged_list_of_added_layouts_is_named(scan: WrittenScan, text: str) -> None:
    (scan.folder / "scan0001_layouts.json").write_text(text)
    found = check_files([scan.folder])
    assert not found.ok
    assert any("scan0001_layouts.json" in str(each) for each in found.findings)
    report = rebuild(scan.root)
    (skipped,) = report.skipped
    assert skipped.is_damaged
    assert "scan0001_layouts.json" in skipped.reason
    assert "remove it" in skipped.reason


@pytest.mark.parametrize(
    "text", ["", "7", "[]", '{"name": "bm99"}', "[" * 10**5, '{"name": "x\\ud800"}']
)
def test_a_hostile_template_in_a_scan_file_is_a_note(
    scan: WrittenScan, text: str
) -> None:
    choice = LayoutChoice(("bm99",), {"bm99": text})
    contents = dataclasses.replace(scan.contents, choice=choice)
    write_scan_master(scan.folder, contents)
    (note,) = lay_out(contents, stamp_now()).notes
    assert note.startswith("layout bm99: ")
    assert not (scan.folder / FILE).exists()


def test_check_of_a_folder_looks_at_the_files_of_layouts(
    scan: WrittenScan, tmp_path: Path
) -> None:
    rebuild(scan.root, layouts=("bm99",), templates=(template(tmp_path, NODES),))
    path = scan.folder / FILE
    whole = check_files([scan.folder], everything=True)
    assert whole.ok
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    report = check_files([scan.folder])
    assert not report.ok
    (finding,) = [one for one in report.findings if one.file == str(path)][:1]
    assert "scanbus master rebuild" in finding.problem
    path.unlink()
    rebuild(scan.root)
    assert check_files([scan.folder]).ok


def test_a_preview_writes_nothing(scan: WrittenScan, tmp_path: Path) -> None:
    path = template(tmp_path, NODES)
    before = {each: each.stat().st_mtime_ns for each in scan.folder.iterdir()}
    found = preview_files(scan.master, layouts=("bm99",), templates=(path,))
    assert {each: each.stat().st_mtime_ns for each in scan.folder.iterdir()} == before
    assert list(found.files) == [FILE]
    tree = json.loads(json.dumps(found.files[FILE]))
    entry = tree["children"]["entry"]
    assert entry["class"] == "NXentry"
    assert entry["children"]["name"]["value"] == "sample"
    assert entry["children"]["colour"] == {
        "kind": "dataset",
        "dtype": "uint8",
        "shape": [2],
        "value": [1, 2],
        "attributes": {},
    }
    frames = entry["children"]["eiger"]["children"]["data"]
    assert (frames["kind"], frames["shape"]) == ("virtual", [N_POINTS, 6, 8])
    assert frames["sources"][0]["file"] == "eiger_0000.h5"
    assert entry["children"]["plot"] == {
        "kind": "link",
        "type": "soft",
        "path": "/entry/data",
    }
    assert list(preview_files(scan.folder).files) == ["scan0001.h5"]


def test_a_preview_needs_a_finished_scan(scan: WrittenScan, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="no such layout"):
        preview_files(scan.folder, layouts=("bm99",))
    with pytest.raises(ConfigurationError, match="no such file"):
        preview_files(tmp_path / "scan0007")
    scan.values.unlink()
    with pytest.raises(ConfigurationError, match="no scan file"):
        preview_files(scan.folder)


def test_layouts_are_listed_with_those_of_the_site(tmp_path: Path) -> None:
    found = known_layouts((template(tmp_path, NODES, summary="Of BM99."),))
    names = [each.name for each in found]
    assert names[0] == "esrf"
    assert names[-1] == "bm99"
    assert "nxmx" in names
    assert all(each.summary for each in found)


@pytest.mark.parametrize("kind", ["folder", "gone", "binary", "nxmx", "twice"])
def test_a_file_that_is_no_template_is_a_sentence(tmp_path: Path, kind: str) -> None:
    paths = [tmp_path / "bm99.json"]
    if kind == "folder":
        paths[0].mkdir()
    elif kind == "binary":
        paths[0].write_bytes(b"\xff\xfe" * 10)
    elif kind == "nxmx":
        paths = [template(tmp_path, NODES, "nxmx")]
    elif kind == "twice":
        paths = [template(tmp_path, NODES)] * 2
    with pytest.raises(LayoutError) as caught:
        read_templates(paths)
    assert str(caught.value).startswith("layout ")


def test_a_scan_is_the_same_whether_it_has_layouts(
    scan: WrittenScan, tmp_path: Path
) -> None:
    other = write_scan(tmp_path / "other")
    written(scan, template(tmp_path, NODES))
    (scan.folder / FILE).unlink()
    assert differences(scan.root, other.root) == []


def test_a_dead_link_of_a_layout_is_named_with_its_layout(
    scan: WrittenScan, tmp_path: Path
) -> None:
    rebuild(scan.root, layouts=("bm99",), templates=(template(tmp_path, NODES),))
    path = scan.folder / FILE
    with h5py.File(path, "a") as file:
        file["entry/lost"] = h5py.ExternalLink("scan0001_lost.h5", "/entry")
    report = check_files([scan.folder])
    assert [one.file for one in report.findings] == [str(path)]
    assert any(f"{path} is the file of layout bm99" in note for note in report.notes)
    rebuild(scan.root)
    assert check_files([scan.folder]).ok
