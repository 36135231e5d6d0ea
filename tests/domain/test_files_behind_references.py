"""Files that HDF5 would read behind a referenced one: all below the roots, or none."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from scanbus.bus.external import FrameFiles, literal_name, mapped_name
from scanbus.bus.external.behind import CheckedFiles
from scanbus.schemas import FrameDescription
from scanbus.schemas.errors import ExternalFileError

SHAPE = (2, 3)
FRAMES = FrameDescription(dtype="uint16", shape=SHAPE)
N_BYTES = 4 * 2 * 3 * 2


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    made = tmp_path / "disk"
    made.mkdir()
    return made


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return own(tmp_path / "secret.h5", 7)


def own(path: Path, value: int = 1) -> Path:
    """A file with frames of its own."""
    with h5py.File(path, "w") as file:
        file["d"] = np.full((4, *SHAPE), value, "uint16")
    return path


def virtual(path: Path, sources: Sequence[tuple[str, str]], mode: str = "w") -> Path:
    """A file whose frames are those of the last of some sources."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.VIRTUAL)
    space = h5py.h5s.create_simple((4, *SHAPE))
    for file_name, name in sources:
        plist.set_virtual(space, file_name.encode(), name.encode(), space)
    with h5py.File(path, mode) as file:
        dtype = h5py.h5t.NATIVE_UINT16
        h5py.h5d.create(file.id, b"v", dtype, space, plist)
    return path


def linked(path: Path, file_name: str, name: str = "d") -> Path:
    with h5py.File(path, "w") as file:
        file["l"] = h5py.ExternalLink(file_name, name)
    return path


def raw(path: Path, file_name: str, size: int = N_BYTES) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("r", (4, *SHAPE), "uint16", external=[(file_name, 0, size)])
    return path


def first_pixel(path: Path, name: str, root: Path) -> int:
    return int(FrameFiles(FRAMES, [root]).read(str(path), name, 0, 1)[0, 0, 0])


def refusal(path: Path, name: str, root: Path) -> str:
    files = FrameFiles(FRAMES, [root])
    with pytest.raises(ExternalFileError) as length:
        files.length(str(path), name)
    with pytest.raises(ExternalFileError):
        files.read(str(path), name, 0, 1)
    return str(length.value)


def own_link(disk: Path, secret: Path) -> tuple[Path, str]:
    path = linked(disk / "a.h5", str(secret))
    return virtual(path, [(".", "/l")], "a"), "v"


def own_raw_file(disk: Path, secret: Path) -> tuple[Path, str]:
    path = raw(disk / "a.h5", str(secret))
    return virtual(path, [(".", "/r")], "a"), "v"


def own_name(disk: Path, secret: Path) -> tuple[Path, str]:
    path = linked(disk / "a.h5", str(secret))
    return virtual(path, [(path.name, "/l")], "a"), "v"


def chain(disk: Path, secret: Path) -> tuple[Path, str]:
    linked(disk / "c.h5", str(secret))
    virtual(disk / "b.h5", [("c.h5", "/l")])
    return virtual(disk / "a.h5", [("b.h5", "/v")]), "v"


def linked_chain(disk: Path, secret: Path) -> tuple[Path, str]:
    virtual(disk / "b.h5", [(f"../{secret.name}", "/d")])
    return linked(disk / "a.h5", "b.h5", "v"), "l"


def symbolic_link(disk: Path, secret: Path) -> tuple[Path, str]:
    (disk / "s.h5").symlink_to(secret)
    return virtual(disk / "a.h5", [("s.h5", "/d")]), "v"


def linked_folder(disk: Path, secret: Path) -> tuple[Path, str]:
    (disk / "f").symlink_to(secret.parent)
    return virtual(disk / "a.h5", [(f"f/{secret.name}", "/d")]), "v"


def beside_a_linked_file(disk: Path, secret: Path) -> tuple[Path, str]:
    """HDF5 looks beside the link first, and then beside the file."""
    (disk / "real").mkdir()
    own(disk / "real" / "c.h5")
    virtual(disk / "real" / "b.h5", [("c.h5", "/d")])
    (disk / "b.h5").symlink_to(disk / "real" / "b.h5")
    (disk / "c.h5").symlink_to(secret)
    return virtual(disk / "a.h5", [("b.h5", "/v")]), "v"


def escaped_percent(disk: Path, secret: Path) -> tuple[Path, str]:
    (disk / "50%b.h5").symlink_to(secret)
    own(disk / "50%%b.h5")
    return virtual(disk / "a.h5", [("50%%b.h5", "/d")]), "v"


def linked_raw_file(disk: Path, secret: Path) -> tuple[Path, str]:
    (disk / "s.bin").symlink_to(secret)
    return raw(disk / "a.h5", str(disk / "s.bin")), "r"


WAYS_OUT = (
    own_link,
    own_raw_file,
    own_name,
    chain,
    linked_chain,
    symbolic_link,
    linked_folder,
    beside_a_linked_file,
    escaped_percent,
    linked_raw_file,
)


@pytest.mark.parametrize("way_out", WAYS_OUT)
def test_no_way_out_of_the_roots_is_followed(
    way_out: Callable[[Path, Path], tuple[Path, str]], disk: Path, secret: Path
) -> None:
    path, name = way_out(disk, secret)
    assert "not opened" in refusal(path, name, disk)
    both = FrameFiles(FRAMES, [secret.parent])  # Nothing else is wrong with it.
    assert both.length(str(path), name) == (4, 3)


def test_raw_files_with_relative_names_are_refused(disk: Path) -> None:
    """HDF5 looks for them in the folder in which the reader runs."""
    own(disk / "raw.bin")
    assert "not opened" in refusal(raw(disk / "a.h5", "raw.bin"), "r", disk)


def test_what_lies_below_the_roots_is_read(disk: Path) -> None:
    own(disk / "50%b.h5", 3)
    (disk / "raw.bin").write_bytes(N_BYTES * b"\x01")
    assert first_pixel(raw(disk / "r.h5", str(disk / "raw.bin")), "r", disk) == 0x0101
    virtual(disk / "b.h5", [("50%%b.h5", "/d")])
    linked(disk / "l.h5", "b.h5", "v")
    path = virtual(disk / "a.h5", [("./l.h5", "/l")])
    assert first_pixel(path, "v", disk) == 3
    with h5py.File(path, "a") as file:
        file["d"] = np.full((4, *SHAPE), 5, "uint16")
        del file["v"]
    assert first_pixel(virtual(path, [(".", "/d")], "a"), "v", disk) == 5


def test_a_raw_file_that_is_too_short_is_not_read_as_zeros(disk: Path) -> None:
    (disk / "raw.bin").write_bytes((N_BYTES - 1) * b"\x01")
    path = raw(disk / "r.h5", str(disk / "raw.bin"))
    assert f"has {N_BYTES - 1} of {N_BYTES} bytes" in refusal(path, "r", disk)
    unlimited = raw(disk / "u.h5", str(disk / "raw.bin"), h5py.h5f.UNLIMITED)
    assert f"of {N_BYTES} bytes" in refusal(unlimited, "r", disk)


@pytest.mark.parametrize("prefix", ["HDF5_VDS_PREFIX", "HDF5_EXT_PREFIX"])
def test_relative_names_are_refused_where_hdf5_looks_elsewhere_first(
    prefix: str, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(disk / "b.h5")
    path = virtual(disk / "a.h5", [("b.h5", "/d")])
    monkeypatch.setenv(prefix, "/somewhere")
    assert prefix in refusal(path, "v", disk)


@pytest.mark.parametrize("names", [(".", "/v"), ("a.h5", "/v")])
def test_a_virtual_dataset_that_leads_to_itself_is_refused(
    names: tuple[str, str], disk: Path
) -> None:
    """HDF5 would follow it until the stack is full, and the process dies."""
    path = virtual(disk / "a.h5", [names])
    assert "behind one another" in refusal(path, "v", disk)


def test_a_chain_is_as_long_from_whichever_end_it_is_looked_at(disk: Path) -> None:
    own(disk / "v0.h5")
    with h5py.File(disk / "v0.h5", "a") as file:
        file["v"] = h5py.SoftLink("/d")
    files = FrameFiles(FRAMES, [disk])
    for number in range(1, 7):
        path = virtual(disk / f"v{number}.h5", [(f"v{number - 1}.h5", "/v")])
        if number <= 4:
            assert files.length(str(path), "v") == (4, 3)
            continue
        with pytest.raises(ExternalFileError, match="behind one another"):
            files.length(str(path), "v")


def test_a_fan_of_sources_is_given_up_soon(disk: Path) -> None:
    """A few small files name each other, and a million ways lead through them."""
    for level in range(3):
        sources = [(f"f{level + 1}_{number}.h5", "/v") for number in range(30)]
        for number in range(30):
            virtual(disk / f"f{level}_{number}.h5", sources)
    for number in range(30):
        own(disk / f"f3_{number}.h5")
        with h5py.File(disk / f"f3_{number}.h5", "a") as file:
            file["v"] = h5py.SoftLink("/d")
    began = time.monotonic()
    assert FrameFiles(FRAMES, [disk]).length(str(disk / "f0_0.h5"), "v") == (4, 3)
    assert time.monotonic() - began < 20  # Each of 91 files once.


def test_more_sources_than_may_be_looked_at_are_named(disk: Path) -> None:
    files = FrameFiles(FRAMES, [disk])
    own(disk / "b.h5")
    with h5py.File(disk / "b.h5", "a") as file:
        for number in range(500):
            file[f"d{number}"] = h5py.SoftLink("/d")
    few = [("b.h5", f"/d{number}") for number in range(500)]
    path = virtual(disk / "a.h5", few)
    assert files.length(str(path), "v") == (4, 3)
    path = virtual(disk / "a.h5", [*few, ("b.h5", "/d")])
    assert "501 virtual sources" in refusal(path, "v", disk)
    path = virtual(disk / "a.h5", 10_001 * [("b.h5", "/d")])
    assert "10001 virtual mappings" in refusal(path, "v", disk)


def test_many_files_share_one_bound_of_looks(disk: Path) -> None:
    with h5py.File(own(disk / "b.h5"), "a") as file:
        for number in range(60):
            file[f"d{number}"] = h5py.SoftLink("/d")
    files = CheckedFiles([disk], most_looks=50)

    def look(number: int) -> None:
        every = range(20 * number, 20 * (number + 1))
        path = disk / f"a{number}.h5"
        virtual(path, [("b.h5", f"/d{each}") for each in every])
        with files.opened(str(path), "v") as dataset:
            assert len(dataset) == 4

    for number in (0, 1, 0, 1):  # Each is looked at once.
        look(number)
    with pytest.raises(ExternalFileError, match="more than 50 sources"):
        look(2)


def test_patterns_are_refused(disk: Path) -> None:
    assert literal_name("a_%b.h5") is None
    assert literal_name("a%") is None
    for name in ("a.h5", "%", "%%b", "%b%", "a%%%b"):
        assert literal_name(mapped_name(name)) == name
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.VIRTUAL)
    unlimited = (h5py.h5s.UNLIMITED, *SHAPE)
    space = h5py.h5s.create_simple((0, *SHAPE), unlimited)
    space.select_hyperslab(
        (0, 0, 0), (h5py.h5s.UNLIMITED, 1, 1), (4, 1, 1), (4, *SHAPE)
    )
    part = h5py.h5s.create_simple((4, *SHAPE))
    plist.set_virtual(space, b"part_%b.h5", b"d", part)
    with h5py.File(disk / "a.h5", "w") as file:
        h5py.h5d.create(file.id, b"v", h5py.h5t.NATIVE_UINT16, space, plist)
    assert "by a pattern, part_%b.h5" in refusal(disk / "a.h5", "v", disk)


def test_types_that_numpy_does_not_have_are_a_sentence(disk: Path) -> None:
    with h5py.File(disk / "a.h5", "w") as file:
        dtype = h5py.h5t.UNIX_D32LE
        h5py.h5d.create(file.id, b"t", dtype, h5py.h5s.create_simple((4, *SHAPE)))
    assert "t cannot be read" in refusal(disk / "a.h5", "t", disk)


def test_a_damaged_file_of_the_latest_format_is_refused_at_once(disk: Path) -> None:
    """HDF5 would read it again and again, if it were told that it is being written."""
    path = disk / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["d"] = np.ones((4, *SHAPE), "uint16")
    content = bytearray(path.read_bytes())
    content[44] ^= 0xFF  # In the checksum of the superblock.
    path.write_bytes(content)
    assert "cannot be opened as HDF5" in refusal(path, "d", disk)
