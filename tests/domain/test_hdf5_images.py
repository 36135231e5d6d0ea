"""Frames of HDF5 files: only those that stand in the file, and that were written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from scanbus.publisher.gateways.files.images import NO_FRAME, open_image
from scanbus.schemas.errors import SourceError

SHAPE = (4, 6)


def numbers(path: Path, *, partial: bool = False) -> list[tuple[int, int]]:
    """Number and first pixel of each frame."""
    found = [*open_image(path, partial=partial)]
    assert all((each.data == each.data[0, 0]).all() for each in found)
    return [(each.number, int(each.data[0, 0])) for each in found]


def allocated(path: Path, n_frames: int, written: range, **given: Any) -> Path:
    """A file that was allocated, and of which some frames were written."""
    with h5py.File(path, "w") as file:
        shape = (n_frames, *SHAPE)
        data = file.create_dataset("data", shape, "uint16", **given)
        for number in written:
            data[number] = number + 1
    return path


@pytest.mark.parametrize("chunks", [(1, *SHAPE), (1, 2, 3), (2, 4, 3)])
def test_frames_that_were_never_written_are_none(
    tmp_path: Path, chunks: tuple[int, ...]
) -> None:
    path = allocated(tmp_path / "a.h5", 7, range(2, 6), chunks=chunks)
    with pytest.raises(SourceError, match="3 of 7 frames were never written"):
        open_image(path)
    assert numbers(path, partial=True) == [(n, n + 1) for n in range(2, 6)]
    path = allocated(tmp_path / "b.h5", 7, range(7), chunks=chunks)
    assert numbers(path) == [(n, n + 1) for n in range(7)]


def test_a_frame_of_which_a_part_is_lacking_is_none(tmp_path: Path) -> None:
    path = allocated(tmp_path / "a.h5", 2, range(1), chunks=(1, 2, 3))
    with h5py.File(path, "a") as file:
        file["data"][1, :2, :3] = 2
    assert numbers(path, partial=True) == [(0, 1)]


@pytest.mark.parametrize("given", [{}, {"chunks": (1, *SHAPE)}])
def test_a_file_of_which_nothing_was_written_is_refused(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    path = allocated(tmp_path / "a.h5", 3, range(0), **given)
    for partial in (False, True):
        with pytest.raises(SourceError, match="3 of 3 frames were never written"):
            open_image(path, partial=partial)


def test_a_file_that_declares_any_number_of_frames_is_looked_at_soon(
    tmp_path: Path,
) -> None:
    path = allocated(tmp_path / "a.h5", 2**31, range(2), chunks=(1, *SHAPE))
    with pytest.raises(SourceError, match="2147483646 of 2147483648 frames"):
        open_image(path)
    assert numbers(path, partial=True) == [(0, 1), (1, 2)]
    path = allocated(tmp_path / "b.h5", 2**40, range(2), chunks=(1, *SHAPE))
    with pytest.raises(SourceError, match="too many"):
        open_image(path, partial=True)


def virtual(file: h5py.File, outside: Path) -> None:
    layout = h5py.VirtualLayout((3, *SHAPE), "uint16")
    layout[:] = h5py.VirtualSource(str(outside), "data", (3, *SHAPE))
    file.create_virtual_dataset("data", layout)


def raw(file: h5py.File, outside: Path) -> None:
    file.create_dataset("data", (3, *SHAPE), "uint16", external=str(outside))


def linked_group(file: h5py.File, outside: Path) -> None:
    file["group"] = h5py.ExternalLink(str(outside), "/")
    file.attrs["signal"] = "group/data"


def as_signal(file: h5py.File, outside: Path) -> None:
    virtual(file, outside)
    file["mask"] = np.zeros((30, *SHAPE), "uint16")
    file.attrs["signal"] = "data"


def with_a_mask(file: h5py.File, outside: Path) -> None:
    raw(file, outside)
    file["mask"] = np.zeros(SHAPE, "uint16")


@pytest.mark.parametrize("make", [virtual, raw, linked_group, as_signal, with_a_mask])
def test_what_stands_elsewhere_is_not_read(
    tmp_path: Path, make: Callable[[h5py.File, Path], None]
) -> None:
    """A master has no frames of its own; what else stands there is none."""
    outside = allocated(tmp_path / "outside.h5", 3, range(3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file, outside)
    with pytest.raises(SourceError) as caught:
        open_image(tmp_path / "a.h5")
    assert caught.value.reason == NO_FRAME


def test_frames_that_are_virtual_too_are_read(tmp_path: Path) -> None:
    path = allocated(tmp_path / "a.h5", 3, range(3))
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((3, *SHAPE), "uint16")
        layout[:] = h5py.VirtualSource(".", "data", (3, *SHAPE))
        file.create_virtual_dataset("also", layout)
    assert numbers(path) == [(n, n + 1) for n in range(3)]


def test_a_file_of_a_writer_has_frames_for_who_asks_for_it_only(tmp_path: Path) -> None:
    path = allocated(tmp_path / "a.h5", 2, range(2), chunks=(1, *SHAPE))
    assert len([*open_image(path, foreign=True)]) == 2
    with h5py.File(path, "a") as file:
        file.attrs["creator"] = "scanbus"
    assert len([*open_image(path)]) == 2
    with pytest.raises(SourceError, match=NO_FRAME):
        open_image(path, foreign=True)


def read_by_links(path: Path) -> list[int]:
    return [int(each.data[0, 0]) for each in open_image(path, follows_links=True)]


def test_a_virtual_dataset_is_as_whole_as_what_it_maps(tmp_path: Path) -> None:
    for name, written in (("a", range(3)), ("b", range(1, 3))):
        allocated(tmp_path / f"{name}.h5", 3, written, chunks=(1, *SHAPE))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        layout = h5py.VirtualLayout((6, *SHAPE), "uint16")
        for place, name in enumerate("ab"):
            layout[place::2] = h5py.VirtualSource(f"{name}.h5", "data", (3, *SHAPE))
        file.create_virtual_dataset("data", layout)
    with pytest.raises(SourceError, match=r"1 of 3 frames in b\.h5 were never written"):
        read_by_links(tmp_path / "all.h5")
    allocated(tmp_path / "b.h5", 3, range(3), chunks=(1, *SHAPE))
    assert read_by_links(tmp_path / "all.h5") == [1, 1, 2, 2, 3, 3]
    (tmp_path / "b.h5").unlink()
    with pytest.raises(SourceError, match=r"its frames are in b\.h5, which is not"):
        read_by_links(tmp_path / "all.h5")


def test_frames_that_nothing_is_mapped_to_are_none(tmp_path: Path) -> None:
    """Gaps between modules are in no frame, and so no sign of a lost one."""
    path = allocated(tmp_path / "module.h5", 3, range(3), chunks=(1, *SHAPE))
    with h5py.File(tmp_path / "all.h5", "w") as file:
        layout = h5py.VirtualLayout((4, 4, 8), "uint16", maxshape=(4, 4, 8))
        layout[:3, :, 1:7] = h5py.VirtualSource(path.name, "data", (3, *SHAPE))
        file.create_virtual_dataset("data", layout, fillvalue=9)
    with pytest.raises(SourceError, match="1 of 4 frames were never written"):
        read_by_links(tmp_path / "all.h5")
    with h5py.File(tmp_path / "all.h5", "w") as file:
        layout = h5py.VirtualLayout((3, 4, 8), "uint16")
        layout[:, :, 1:7] = h5py.VirtualSource(path.name, "data", (3, *SHAPE))
        file.create_virtual_dataset("data", layout, fillvalue=9)
    assert read_by_links(tmp_path / "all.h5") == [9, 9, 9]
    assert len([*open_image(tmp_path / "all.h5", follows_links=True)]) == 3
