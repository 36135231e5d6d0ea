"""Find image files, and read their frames: HDF5 by itself, all others with fabio.

A file gives whole frames or a :class:`SourceError`, a sentence that says what is wrong.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy.typing as npt

from scanbus.publisher.gateways.files.fabio_images import (
    check_not_empty,
    pixels_of,
    read_frames,
    read_headers,
    reason_of,
)
from scanbus.publisher.gateways.files.read_apart import examine_hdf5
from scanbus.schemas.errors import SourceError

__all__ = [
    "NO_FRAME",
    "Frame",
    "find_images",
    "first_bytes",
    "headers_of",
    "is_image_name",
    "natural_key",
    "open_image",
]

# Suffixes of files taken from a folder; a file given by name may have any suffix.
IMAGE_SUFFIXES = frozenset(
    (".cbf", ".edf", ".tif", ".tiff", ".mccd", ".img", ".ccd", ".sfrm", ".mar3450")
)
PACKED_SUFFIXES = frozenset((".gz", ".bz2"))
HDF5_SUFFIXES = frozenset((".h5", ".hdf5", ".hdf", ".nxs"))

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAGIC_BYTES = 64
NO_FRAME = "the file contains no frame of its own"
# What h5py raises for a bad file, and what its content may do to our own code.
_HDF5_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of one file.

    Attributes
    ----------
    data : numpy.ndarray
        Shape ``(i, j)``, C-contiguous, little-endian.
    header : dict
        Keywords and values as fabio returns them, or what stands beside the frame.
    file : Path
        The file.
    number : int
        Index in the file, from 0.
    n_in_file : int
        Number of frames of the file.
    """

    data: npt.NDArray[Any]
    header: dict[str, Any]
    file: Path
    number: int
    n_in_file: int


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Return a sort key by which 2 comes before 10.

    Examples
    --------
    >>> [p.name for p in sorted([Path("a10"), Path("a2"), Path("a")], key=natural_key)]
    ['a', 'a2', 'a10']
    """
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def find_images(paths: Sequence[Path | str]) -> list[Path]:
    """Return the given files, and the images of the given folders, in order.

    Parameters
    ----------
    paths : sequence of Path
        Files keep the given order; a folder stands for its images, sorted naturally.

    Raises
    ------
    SourceError
        If one does not exist, is empty or cannot be read; if there is no image.
    """
    if "" in paths:
        raise SourceError("(no path)", "the path is empty")
    found: list[Path] = []
    for path in map(Path, paths):
        found.extend(_images_in(path) if path.is_dir() else [path])
    if not found:
        raise SourceError("(no path)", "no image was given")
    for path in found:
        first_bytes(path)
    return found


def _images_in(folder: Path) -> list[Path]:
    try:
        inside = [path for path in folder.iterdir() if path.is_file()]
    except OSError as error:
        raise SourceError(str(folder), reason_of(error)) from error
    images = [path for path in inside if _image_suffix(path) in IMAGE_SUFFIXES]
    if not images:
        raise SourceError(
            str(folder),
            "this folder contains no image (CBF, EDF, TIFF, also .gz, .bz2)",
        )
    return sorted(images, key=natural_key)


def is_image_name(path: PurePath) -> bool:
    """Whether a detector may have given this name to an image.

    Examples
    --------
    >>> [is_image_name(PurePath(n)) for n in ("a.cbf.gz", "a.h5", "a.0001", "a.txt")]
    [True, True, True, False]
    """
    suffix = path.suffix.lower()
    is_counted = suffix[1:].isdecimal() and len(suffix) > 3  # as MarCCD has them
    known = IMAGE_SUFFIXES | HDF5_SUFFIXES
    return is_counted or _image_suffix(path) in known


def _image_suffix(path: PurePath) -> str:
    suffix = path.suffix.lower()
    return PurePath(path.stem).suffix.lower() if suffix in PACKED_SUFFIXES else suffix


def first_bytes(path: Path) -> bytes:
    """Return the first bytes of a file, compressed or not, as a cheap early check.

    Raises
    ------
    SourceError
        If it does not exist, cannot be read, is no file, or is empty.
    """
    try:
        if not path.exists():
            raise SourceError(str(path), "there is no such file")
        if not path.is_file():
            raise SourceError(str(path), "this is not a file")
        with path.open("rb") as stream:
            start = stream.read(_MAGIC_BYTES)
    except OSError as error:
        raise SourceError(str(path), reason_of(error)) from error
    check_not_empty(path, start)
    return start


def open_image(
    path: Path,
    *,
    follows_links: bool = False,
    partial: bool = False,
    foreign: bool = False,
) -> Iterator[Frame]:
    """Return the frames of a file; the first one is read at once.

    Parameters
    ----------
    path : Path
        The file.
    follows_links : bool
        Whether frames count that an HDF5 file only links to, in other files.
    partial : bool
        Whether frames of an HDF5 file that were never written are left out; by default
        such a file is invalid.
    foreign : bool
        Whether a file of a scanbus writer counts as one without frames.

    Raises
    ------
    SourceError
        If the file is invalid; raised at once, or with a later frame.
    """
    start = first_bytes(path)
    if start.startswith(_HDF5):
        frames = _read_hdf5(
            path, follows_links=follows_links, partial=partial, foreign=foreign
        )
    else:
        frames = _read_others(path, start)
    first = next(frames, None)
    if first is None:
        raise SourceError(str(path), NO_FRAME)
    return itertools.chain([first], frames)


def headers_of(path: Path) -> list[dict[str, Any]]:
    """Return the header of each frame that `open_image` yields, links followed.

    Raises
    ------
    SourceError
        If the file is invalid, as far as its headers show it.
    """
    start = first_bytes(path)
    if not start.startswith(_HDF5):
        return read_headers(path, start)
    try:
        read_headers_of = _hdf5(path)[1]
        examine_hdf5(path, follows_links=True)
        headers: list[dict[str, Any]] = read_headers_of(path)
    except _HDF5_ERRORS as error:
        raise _not_hdf5(path, error) from error
    return headers


def _read_others(path: Path, start: bytes) -> Iterator[Frame]:
    for number, (data, header, n_frames) in enumerate(read_frames(path, start)):
        yield Frame(data, header, path, number, n_frames)


def _read_hdf5(path: Path, **how: bool) -> Iterator[Frame]:
    try:
        read_frames_of = _hdf5(path)[0]
        examine_hdf5(path, follows_links=how["follows_links"])
        for number, data, header, n_frames in read_frames_of(path, **how):
            yield Frame(pixels_of(path, data), header, path, number, n_frames)
    except _HDF5_ERRORS as error:
        raise _not_hdf5(path, error) from error


def _hdf5(path: Path) -> tuple[Any, Any]:
    """Return what reads frames and headers, imported when there is such a file."""
    try:
        from scanbus.publisher.gateways.files.hdf5_frames import (  # noqa: PLC0415
            hdf5_headers,
            read_hdf5,
        )
    except ImportError as error:
        raise SourceError(
            str(path), "reading HDF5 files needs h5py: pip install 'scanbus[writer]'"
        ) from error
    return read_hdf5, hdf5_headers


def _not_hdf5(path: Path, error: Exception) -> SourceError:
    return SourceError(
        str(path), f"this is not a readable HDF5 file: {reason_of(error)}"
    )
