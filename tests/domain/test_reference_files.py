"""What the writer finds of files by reference, and whether a master can map them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scanbus.schemas import ChannelDescription, FrameRun
from scanbus.writer.model.nexus_tree import FrameSource
from scanbus.writer.model.reference_map import ReferenceFiles
from scanbus.writer.storage.references import (
    Found,
    allow_references_below,
    examine_references,
)
from scanbus.writer.storage.tree_writer import check_mapping

CHANNEL = ChannelDescription(
    name="ccd",
    group="ccd",
    device="ccd",
    dtype="string",
    codec="reference",
    max_point_bytes=1024,
    frames={"dtype": "uint16", "shape": (6, 8)},
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    allow_references_below([tmp_path])
    yield tmp_path
    allow_references_below([])


def found_of(*runs: FrameRun) -> Found:
    files = ReferenceFiles()
    files.add(runs)
    return examine_references([CHANNEL], {"ccd": files})


def test_an_empty_file_of_another_format_is_named_with_its_points(disk: Path) -> None:
    full, empty = disk / "a_0.cbf", disk / "a_1.cbf"
    full.write_bytes(b"x")
    empty.touch()
    found = found_of(FrameRun(str(full), "", 0, 3), FrameRun(str(empty), "", 0, 2))
    assert found.problems == (f"ccd: {empty} is empty (points 3 to 4)",)
    assert "ccd: files other than HDF5 are listed by URL" in found.notes


def test_how_many_frames_another_format_has_is_not_guessed(disk: Path) -> None:
    path = disk / "a_0.cbf"
    path.write_bytes(b"x")
    assert found_of(FrameRun(str(path), "", 2**48, 2)).problems == ()


def test_what_hdf5_would_refuse_in_a_master_is_a_sentence() -> None:
    whole = FrameSource("/50%b/a.h5", "/d", 0, 1, 2, 0, 1)
    check_mapping([whole], 2, (6, 8))
    single = FrameSource("/a.h5", "/d", 0, 1, 2, 0, 1, is_single=True)
    with pytest.raises(ValueError, match="cannot be mapped"):
        check_mapping([single], 2, (6, 8))
