"""The scan master as a tree: nothing is written here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scanbus.schemas import (
    EndReason,
    LaneDescription,
    Role,
    ScanEnded,
    ScanUpdated,
    Storage,
    Verdict,
    VerdictWord,
)
from scanbus.schemas.valid_names import unique_name
from scanbus.writer.layouts.common.channel_nodes import ascii_units, find_places
from scanbus.writer.layouts.common.root import iso_time
from scanbus.writer.layouts.esrf import layout
from scanbus.writer.model.file_stamp import FileStamp
from scanbus.writer.model.nexus_tree import (
    CopiedDataset,
    Dataset,
    Group,
    Node,
    SoftLink,
    VirtualDataset,
)
from scanbus.writer.model.scan_contents import (
    DATA_GROUP,
    ScanContents,
    SegmentFile,
    data_path,
    length_path,
)
from scanbus.writer.model.value_files import StoredArray, ValueFile
from tests.support.scan_folders import START, channel, identity, lane, record
from tests.support.scan_folders import lanes as all_lanes

VALUES = "scan0003_values.h5"
STAMP = FileStamp("2024-01-31T00:00:00+01:00", "1", "1.14.6", "3.13")
SEGMENTS = {
    "eiger": (SegmentFile("eiger_0000.h5", 0, 10), SegmentFile("eiger_0001.h5", 10, 15))
}


def contents_of(**prepared: Any) -> ScanContents:
    return ScanContents(
        record(identity(3), **prepared),
        SEGMENTS,
        VALUES,
        values=(values_of(VALUES, 15),),
    )


def values_of(
    name: str,
    n_points: int,
    lanes: Iterable[LaneDescription] | None = None,
    *,
    is_lasting: bool = True,
) -> ValueFile:
    """Return a file with so many points of every small channel, 8 bytes of each."""
    paths = [
        path
        for part in lanes or all_lanes()
        for one in part.channels
        if part.storage is Storage.VALUES
        for path in (data_path(part, one), length_path(part, one))
        if one.is_ragged or not path.endswith("__length")
    ]
    arrays = {path: StoredArray((n_points,), 8 * n_points) for path in paths}
    return ValueFile(name, arrays, is_lasting)


def entry_of(contents: ScanContents) -> Group:
    tree = layout(contents, stamp=STAMP)
    entry = tree.children[contents.entry_name]
    assert isinstance(entry, Group)
    return entry


def at(tree: Group, path: str) -> Node:
    node: Node = tree
    for name in path.split("/"):
        assert isinstance(node, Group), path
        node = node.children[name]
    return node


def value_at(tree: Group, path: str) -> Any:
    node = at(tree, path)
    assert isinstance(node, Dataset), path
    return node.value


def test_the_root_says_who_wrote_it_and_for_whom() -> None:
    tree = layout(contents_of(), stamp=FileStamp("now", "7", "1.14.6", "3.13"))
    assert tree.nx_class == "NXroot"
    assert tree.attributes["default"] == "3.1"
    assert tree.attributes["file_time"] == tree.attributes["file_update_time"] == "now"
    assert tree.attributes["creator_version"] == "7"
    assert tree.attributes["HDF5_Version"] == "1.14.6"
    assert tree.attributes["h5py_version"] == "3.13"
    assert tree.attributes["file_name"] == "scan0003.h5"
    assert tree.attributes["publisher"] == "spec"
    assert tree.attributes["publisher_version"] == "6.11"


def test_frames_are_one_virtual_dataset_with_lima_names() -> None:
    entry = entry_of(contents_of())
    image = at(entry, "instrument/eiger/image")
    assert isinstance(image, VirtualDataset)
    assert image.shape == (15, 6, 8)
    assert [(s.file, s.start, s.stop) for s in image.sources] == [
        ("eiger_0000.h5", 0, 10),
        ("eiger_0001.h5", 10, 15),
    ]
    assert image.fill_value == 65535
    assert image.attributes["target"] == "/3.1/instrument/eiger/image"
    assert at(entry, "instrument/eiger/data") == SoftLink("/3.1/instrument/eiger/image")


def test_small_values_are_copied_and_larger_ones_mapped() -> None:
    contents = contents_of()
    entry = entry_of(contents)
    diode = at(entry, "instrument/diode/data")
    assert isinstance(diode, CopiedDataset)
    assert (diode.file, diode.path) == (VALUES, f"{DATA_GROUP}/diode")
    assert diode.attributes["target"] == "/3.1/instrument/diode/data"
    assert isinstance(at(entry, "instrument/peaks/data__length"), CopiedDataset)
    listed = dict(
        zip(
            value_at(entry, "scanbus/copies/dataset"),
            value_at(entry, "scanbus/copies/original"),
            strict=True,
        )
    )
    assert listed["/3.1/instrument/diode/data"] == f"{DATA_GROUP}/diode"

    mapped = at(entry_of(replace(contents, copied_bytes=0)), "instrument/diode/data")

    assert isinstance(mapped, VirtualDataset)
    inner = f"/scan0003_values_uid00000003x0001{DATA_GROUP}/diode"
    assert [(one.file, one.path) for one in mapped.sources] == [(VALUES, inner)]


def test_a_growing_scan_has_no_end_and_no_name_without_points() -> None:
    contents = contents_of()
    contents.record.verdict = None
    latest = values_of("latest.h5", 10, is_lasting=False)
    comment = f"{DATA_GROUP}/comment"
    latest = replace(latest, arrays={**latest.arrays, comment: StoredArray((0,), 0)})
    growing = replace(contents, values_file=None, segments={}, values=(latest,))
    entry = entry_of(growing)
    assert "end_time" not in entry.children
    assert value_at(entry, "writer/status") == "RUNNING"
    assert at(entry, "measurement/diode") == SoftLink("/3.1/instrument/diode/data")
    assert isinstance(at(entry, "instrument/diode/data"), CopiedDataset)
    measured = at(entry, "measurement")
    assert isinstance(measured, Group)
    assert not {"comment", "eiger"} & set(measured.children)


def test_older_points_of_a_growing_scan_are_mapped_and_the_latest_copied() -> None:
    contents = contents_of()
    contents.record.verdict = None
    files = (
        values_of("values-0000.h5", 8),
        values_of("latest.h5", 2, is_lasting=False),
    )
    entry = entry_of(replace(contents, values_file=None, values=files))
    diode = at(entry, "instrument/diode/data")
    assert isinstance(diode, VirtualDataset)
    latest = f"scanbus/latest{DATA_GROUP}/diode"
    assert [(one.file, one.start, one.stop) for one in diode.sources] == [
        (".", 8, 10),
        ("values-0000.h5", 0, 8),
    ]
    assert diode.sources[0].path == f"/3.1/{latest}"
    assert at(entry, latest) == CopiedDataset("latest.h5", f"{DATA_GROUP}/diode")


@pytest.mark.parametrize(
    ("word", "provisional", "status"),
    [
        (VerdictWord.COMPLETE, False, "SUCCEEDED"),
        (VerdictWord.PARTIAL, False, "FAILED"),
        (VerdictWord.FAILED, False, "FAILED"),
        (VerdictWord.PARTIAL, True, "RUNNING"),
    ],
)
def test_the_status_follows_the_final_verdict_only(
    word: VerdictWord, provisional: bool, status: str
) -> None:
    contents = contents_of()
    contents.record.verdict = Verdict(
        uid=contents.record.uid, verdict=word, provisional=provisional
    )
    entry = entry_of(contents)
    assert value_at(entry, "writer/status") == status
    assert ("end_time" in entry.children) is not provisional


def test_a_scan_that_nobody_ended_ends_with_the_last_word() -> None:
    contents = contents_of()
    contents.record.ended = None
    entry = entry_of(contents)
    assert value_at(entry, "end_time") == iso_time(START + 1)
    assert "end_reason" not in entry.children


def test_a_scan_that_was_only_announced_has_a_master() -> None:
    contents = ScanContents(type(record(identity()))(identity(), title="t"))
    entry = entry_of(contents)
    assert value_at(entry, "title") == "t"
    assert value_at(entry, "writer/status") == "STARTING"
    assert "plotselect" not in entry.children


def test_scanned_motors_replace_their_one_position() -> None:
    entry = entry_of(contents_of())
    positions = at(entry, "instrument/positioners")
    assert isinstance(positions, Group)
    assert positions.children["th"] == SoftLink("/3.1/instrument/th/value")
    assert value_at(entry, "instrument/positioners/gone") == "ERR"
    assert value_at(entry, "instrument/positioners_start/th") == 0.5
    assert value_at(entry, "instrument/positioners_end/th") == 1.5
    assert value_at(entry, "instrument/positioners_dial_end/th") == 1.25


def test_the_ledger_names_missing_points() -> None:
    entry = entry_of(contents_of())
    missing = value_at(entry, "scanbus/ledger/missing/eiger")
    np.testing.assert_array_equal(missing, [[12, 14]])
    assert value_at(entry, "scanbus/sources/eiger/file") == (
        "eiger_0000.h5",
        "eiger_0001.h5",
    )


def test_notes_keep_their_date_and_the_text_of_the_end() -> None:
    contents = contents_of()
    contents.record.ended = ScanEnded(
        time=START + 5, end_reason=EndReason.FAILURE, text="no beam"
    )
    entry = entry_of(contents)
    assert value_at(entry, "notes/note_01/date") == iso_time(START + 1)
    assert value_at(entry, "notes/note_02/data") == "no beam"
    assert value_at(entry, "end_reason") == "FAILURE"


def test_notes_beyond_a_hundred_are_arrays_of_the_last_one() -> None:
    contents = contents_of()
    contents.record.updates[:] = [
        ScanUpdated(time=START + number, note=f"note {number}")
        for number in range(1, 251)
    ]
    entry = entry_of(contents)
    notes = at(entry, "notes")
    assert isinstance(notes, Group)
    assert len(notes.children) == 100
    assert value_at(entry, "notes/note_99/data") == "note 99"
    texts = value_at(entry, "notes/note_100/data")
    assert texts == tuple(f"note {number}" for number in range(100, 251))
    assert value_at(entry, "notes/note_100/date")[-1] == iso_time(START + 250)


def test_channels_of_one_device_share_a_group_and_mca_names_are_those_of_nexus() -> (
    None
):
    places = find_places(contents_of())
    assert places["mca"].path == "/3.1/instrument/mca/spectrum"
    assert places["mca_icr"].path == "/3.1/instrument/mca/trigger_count_rate"


def test_devices_and_fields_never_share_a_name() -> None:
    group = lane(
        "fast",
        Storage.VALUES,
        channel("a", "fast", device="positioners"),
        channel("b", "fast", device="x", nexus={"field": "data"}),
        channel("c", "fast", device="x", nexus={"field": "data"}),
        channel("value", "fast", device="y", role=Role.COUNTER),
        channel("y", "fast", device="y", role=Role.AXIS),
    )
    places = find_places(contents_of(lanes=(group,), plots=()))
    paths = [place.path for place in places.values()]
    assert len(set(paths)) == len(paths)
    assert places["a"].device == "positioners_2"
    assert places["y"].field == "value"


def test_metadata_of_a_device_stand_in_its_group() -> None:
    mask = {"threshold": 6000, "threshold@units": "eV", "@vendor": "D"}
    entry = entry_of(contents_of(metadata={"instrument": {"eiger": mask}}))
    eiger = at(entry, "instrument/eiger")
    assert isinstance(eiger, Group)
    assert eiger.nx_class == "NXdetector"
    assert eiger.attributes["vendor"] == "D"
    threshold = eiger.children["threshold"]
    assert threshold == Dataset(6000, {"units": "eV"})


def test_metadata_cannot_replace_what_the_scan_says() -> None:
    told = {
        "title": "mine",
        "end_time": "2020-01-01",
        "definition": "NXmx",
        "instrument": {"eiger": {"image": 3}},
        "scanbus": {"verdict": "complete"},
    }
    entry = entry_of(contents_of(metadata=told))
    assert value_at(entry, "title") == "ascan th 0 1 25 0.1"
    assert value_at(entry, "end_time") == iso_time(START + 10)
    assert "definition" not in entry.children
    assert isinstance(at(entry, "instrument/eiger/image"), VirtualDataset)
    problems = value_at(entry, "scanbus/problems")
    for name in ("/title", "/end_time", "/definition", "/eiger/image", "/scanbus"):
        assert any(name in problem for problem in problems), name


def test_the_sample_is_the_collection_unless_metadata_name_it() -> None:
    assert value_at(entry_of(contents_of()), "sample/name") == "Lysozym"
    nameless = entry_of(contents_of(metadata={"sample": {"mass": 2}}))
    assert value_at(nameless, "sample/name") == "lyso-A"


def test_later_metadata_win_and_null_takes_back() -> None:
    contents = contents_of(metadata={"sample": {"mass": 1.0, "note": "x"}})
    later = {"sample": {"mass": 2.0, "note": None}}
    contents.record.updates.append(ScanUpdated(time=START + 2, metadata=later))
    entry = entry_of(contents)
    assert value_at(entry, "sample/mass") == 2.0
    sample = at(entry, "sample")
    assert isinstance(sample, Group)
    assert "note" not in sample.children


@pytest.mark.parametrize("time", [1e300, -1e300, float("nan"), float("inf")])
def test_any_number_makes_a_time(time: float) -> None:
    assert iso_time(time).startswith("1970-01-01T00:00:00")


def test_names_are_cut_and_made_unique() -> None:
    taken: set[str] = set()
    for _ in range(3):
        name = unique_name("x" * 100, taken)
        assert len(name) <= 63
        taken.add(name)
    assert len(taken) == 3
    assert unique_name("...", ()) == "_"


def test_units_become_words_that_pint_knows() -> None:
    assert ascii_units("Å") == "angstrom"
    assert ascii_units("°C") == "degC"
    assert ascii_units("counts/s") == "counts/s"


def test_metadata_may_say_when_the_scan_was_acquired() -> None:
    """Files of years ago are published now; what is no moment is not taken."""
    said = {"start_time": "2019-06-17T13:51:36", "end_time": "yesterday"}
    entry = entry_of(contents_of(metadata=said))
    assert at(entry, "start_time") == Dataset("2019-06-17T13:51:36")
    assert at(entry, "end_time") == Dataset(iso_time(START + 10))
    problems = at(entry, "scanbus/problems")
    assert isinstance(problems, Dataset)
    assert "metadata /end_time: the name is taken" in str(problems.value)
    assert at(entry, "scanbus/metadata/end_time") == Dataset("yesterday")
