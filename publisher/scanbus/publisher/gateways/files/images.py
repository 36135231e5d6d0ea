"""Read frames of image files; the only module that uses fabio.

HDF5 files are read by :mod:`hdf5_frames`, all others by fabio. It opens a dozen formats
and reports errors in as many ways, some of them only in its log: it returns a CBF with
a wrong checksum and an EDF that ends too early as if they were valid. Here a file gives
whole frames or a :class:`SourceError`.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.publisher.gateways.files.packed_files import unpacked_file
from scanbus.schemas.errors import SourceError

__all__ = [
    "NO_FRAME",
    "Frame",
    "find_images",
    "first_bytes",
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

_CBF = b"###CBF"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAGIC_BYTES = 64
NO_FRAME = "the file contains no frame of its own"
_NOT_AN_IMAGE = "this is not a readable image (CBF, EDF, TIFF, HDF5)"
# What fabio, the libraries below it and the file system raise for a bad file.
_READ_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of one file.

    Attributes
    ----------
    data : numpy.ndarray
        Shape ``(i, j)``, C-contiguous, little-endian.
    header : dict
        Keywords and values as fabio returns them.
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
        raise SourceError(str(folder), _reason(error)) from error
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
        raise SourceError(str(path), _reason(error)) from error
    _check_not_empty(path, start)
    return start


def _check_not_empty(path: Path, start: bytes) -> None:
    if not start:
        raise SourceError(str(path), "the file is empty")


def open_image(
    path: Path, *, partial: bool = False, foreign: bool = False
) -> Iterator[Frame]:
    """Return the frames of a file; the first one is read at once.

    Parameters
    ----------
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
    frames = _read(path, partial, foreign)
    first = next(frames, None)
    if first is None:
        raise SourceError(str(path), NO_FRAME)
    return itertools.chain([first], frames)


def _read(path: Path, partial: bool, foreign: bool) -> Iterator[Frame]:
    start = first_bytes(path)
    if start.startswith(_HDF5):
        return _read_hdf5(path, partial, foreign)
    return _read_fabio(path, start)


def _read_hdf5(path: Path, partial: bool, foreign: bool) -> Iterator[Frame]:
    try:
        from scanbus.publisher.gateways.files.hdf5_frames import (  # noqa: PLC0415
            read_hdf5,
        )
    except ImportError as error:
        raise SourceError(
            str(path), "reading HDF5 files needs h5py: pip install 'scanbus[writer]'"
        ) from error
    try:
        found = read_hdf5(path, partial=partial, foreign=foreign)
        for number, data, n_frames in found:
            pixels = np.ascontiguousarray(data, data.dtype.newbyteorder("<"))
            yield Frame(pixels, {}, path, number, n_frames)
    except _READ_ERRORS as error:
        raise SourceError(
            str(path), f"this is not a readable HDF5 file: {_reason(error)}"
        ) from error


def _read_fabio(path: Path, start: bytes) -> Iterator[Frame]:
    try:
        image = _opened(path, start)
        try:
            n_frames = int(image.nframes)
            for number, frame in enumerate(_frames(image, n_frames)):
                yield Frame(
                    data=_pixels(path, frame),
                    header=dict(frame.header),
                    file=path,
                    number=number,
                    n_in_file=n_frames,
                )
        finally:
            image.close()
    except _READ_ERRORS as error:
        raise SourceError(str(path), _not_an_image(error)) from error


def _opened(path: Path, start: bytes) -> Any:
    """Return fabio's image; decompress files here, which detects a truncated one."""
    try:
        import fabio  # noqa: PLC0415
    except ImportError as error:
        raise SourceError(
            str(path), "reading images needs fabio: pip install 'scanbus[files]'"
        ) from error
    content = unpacked_file(path, start)
    if content is None and not start.startswith(_CBF):
        return fabio.open(str(path))
    if content is None:
        content = path.read_bytes()
    _check_not_empty(path, content)
    if content.startswith(_CBF):
        _check_cbf(path, content)
    from fabio.fabioutils import BytesIO  # noqa: PLC0415

    return fabio.open(BytesIO(content))  # fabio's own BytesIO: EDF needs its lock.


def _check_cbf(path: Path, content: bytes) -> None:
    """Verify size and checksum of the binary section; fabio only logs a difference."""
    from fabio.cbfimage import CbfImage  # noqa: PLC0415
    from fabio.fabioutils import BytesIO  # noqa: PLC0415

    section = content.find(CbfImage.BINARAY_SECTION)
    if section < 0 or content.find(CbfImage.STARTER, section) < 0:
        # fabio would look for them for ever.
        raise SourceError(str(path), "the file is truncated: it ends before its pixels")
    image = CbfImage()
    binary = image.read(BytesIO(content), only_raw=True)
    expected_size = image.header.get("X-Binary-Size")
    if expected_size is not None and len(binary) != int(expected_size):
        raise SourceError(
            str(path),
            f"the file is truncated: {expected_size} bytes of pixels expected, "
            f"{len(binary)} found",
        )
    dimensions = ("X-Binary-Size-Fastest-Dimension", "X-Binary-Size-Second-Dimension")
    n_pixels = math.prod(int(image.header.get(name, 1)) for name in dimensions)
    if n_pixels > len(binary):  # Each pixel has a byte at least.
        raise SourceError(
            str(path), f"{len(binary)} bytes cannot unpack to {n_pixels} pixels"
        )
    expected = image.header.get("Content-MD5")
    digest = hashlib.md5(binary, usedforsecurity=False).digest()
    found = base64.b64encode(digest).decode()
    if expected is not None and expected != found:
        raise SourceError(
            str(path),
            f"the pixels are corrupt: their MD5 is {found}, the header says {expected}",
        )


def _frames(image: Any, n_frames: int) -> Iterable[Any]:
    # A single frame was read already; ``frames()`` would read some formats twice.
    return [image] if n_frames == 1 else image.frames()


def _pixels(path: Path, frame: Any) -> npt.NDArray[Any]:
    # Before its pixels: fabio makes zeros of those that an EDF lacks, however many.
    if getattr(_raw_frame(frame), "incomplete_data", False):
        raise SourceError(
            str(path), "the file is truncated: it ends before its last pixel"
        )
    data = frame.data
    if data is None:
        raise SourceError(str(path), _NOT_AN_IMAGE)
    if data.ndim != 2 or data.size == 0:
        raise SourceError(
            str(path), f"expected frames of two dimensions, got {data.shape}"
        )
    if data.dtype.kind not in "biuf":
        raise SourceError(str(path), f"pixels of type {data.dtype} cannot be published")
    return np.ascontiguousarray(data, data.dtype.newbyteorder("<"))


def _raw_frame(frame: Any) -> Any:
    """Return the object that has ``incomplete_data``: of an EDF image, its frame."""
    get_frame = getattr(frame, "get_frame", None)
    return get_frame(0) if hasattr(frame, "_frames") and get_frame else frame


def _not_an_image(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return f"the file is truncated: {error}"
    # Errors from inside fabio help no user: "NoneType has no attribute find".
    detail = f": {_reason(error)}" if isinstance(error, OSError) else ""
    return _NOT_AN_IMAGE + detail


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
