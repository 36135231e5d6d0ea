"""Read image files with fabio; the only module that uses it.

It opens some thirty formats and reports errors in as many ways: by bare exceptions, or
in its log alone. It returns a CBF with a wrong checksum and an EDF that ends too early
as if they were valid. Here a file gives whole frames or a :class:`SourceError`.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from scanbus.publisher.gateways.files.packed_files import unpacked_file, unpacked_head
from scanbus.publisher.gateways.files.read_apart import is_mar345, pixels_read_apart
from scanbus.schemas.errors import SourceError

__all__ = ["check_not_empty", "pixels_of", "read_frames", "read_headers", "reason_of"]

_CBF: Final = b"###CBF"
_CBF_SECTION: Final = b"--CIF-BINARY-FORMAT-SECTION--"
_CBF_STARTER: Final = b"\x0c\x1a\x04\xd5"
_TIFF: Final = (b"II*\0", b"MM\0*")
# MarCCD and Rayonix write TIFFs with a header of their own before the pixels.
_MARCCD_AT: Final = 1024
_MARCCD_BYTES: Final = 3072
_MARCCD_NAME: Final = b"MMX"
# Headers of CBF come first; a packed file need not be unpacked as a whole for them.
_HEAD_BYTES: Final = 2**16
_BYTE_OFFSET: Final = b"x-CBF_BYTE_OFFSET"
_CONVERSION: Final = re.compile(rb'conversions\s*=\s*"?([\w-]+)', re.IGNORECASE)
_ENCODING: Final = re.compile(
    rb'Content-Transfer-Encoding:\s*"?([\w-]+)', re.IGNORECASE
)
# More than what stands between the start of the binary section and its pixels.
_MIME_BYTES: Final = 2048
# fabio reads headers of CBF in at most 16 blocks.
_MOST_EMPTY: Final = 32
_NOT_AN_IMAGE: Final = (
    "this is not a readable image (CBF, EDF, TIFF, MarCCD, SMV, HDF5, or another that "
    "fabio reads)"
)


def read_frames(
    path: Path, start: bytes
) -> Iterator[tuple[npt.NDArray[Any], dict[str, Any], int]]:
    """Yield pixels and header of each frame, and how many there are.

    Parameters
    ----------
    path : Path
        The file.
    start : bytes
        Its first bytes.

    Raises
    ------
    SourceError
        If the file is invalid, or of a format that fabio does not know.
    """
    try:
        _load_fabio(path)
        image, extra = _opened(path, start)
        try:
            n_frames = int(image.nframes)
            for frame in _frames(image, n_frames):
                yield _pixels(path, frame), {**frame.header, **extra}, n_frames
        finally:
            image.close()
    except SourceError:
        raise
    except Exception as error:  # noqa: BLE001 - fabio raises it bare
        _refuse(path, error)


def read_headers(path: Path, start: bytes) -> list[dict[str, Any]]:
    """Return the header of each frame; the pixels are read only if they must be.

    Raises
    ------
    SourceError
        If the file is invalid, as far as its headers show it.
    """
    try:
        _load_fabio(path)
        head = unpacked_head(path, start, _HEAD_BYTES)
        if head.startswith(_CBF) and _cbf_pixels_at(path, head) >= 0:
            return [_cbf_header(head)]
        if is_mar345(head):
            return [_mar345_header(head)]
        image, extra = _opened(path, start)
        try:
            headers: list[dict[str, Any]] = []
            for frame in _frames(image, int(image.nframes)):
                _check_complete(path, frame)
                headers.append({**frame.header, **extra})
            return headers
        finally:
            image.close()
    except SourceError:
        raise
    except Exception as error:  # noqa: BLE001 - fabio raises it bare
        _refuse(path, error)


def _load_fabio(path: Path) -> None:
    """Import the whole of fabio, before any part of it.

    It imports its parts itself: a thread that asked for one of them first would meet
    another one that has asked for the whole, and one of both would see half a module.
    """
    try:
        import fabio  # noqa: PLC0415, F401
    except ImportError as error:
        raise SourceError(
            str(path), "reading images needs fabio: pip install 'scanbus[files]'"
        ) from error


def _cbf_header(head: bytes) -> dict[str, Any]:
    from fabio.cbfimage import CbfImage  # noqa: PLC0415

    image = CbfImage()
    image.header = image.check_header()
    image._readheader(_EndingStream(head))  # noqa: SLF001 - `read` needs the pixels, too
    return dict(image.header)


def _mar345_header(head: bytes) -> dict[str, Any]:
    from fabio.mar345image import Mar345Image  # noqa: PLC0415

    image = Mar345Image()
    return dict(image._readheader(BytesIO(head)))  # noqa: SLF001 - `read` unpacks


def _mar345_image(path: Path, content: bytes) -> Any:
    from fabio.mar345image import Mar345Image  # noqa: PLC0415

    header = _mar345_header(content)
    return Mar345Image(pixels_read_apart(path, content), header)


class _EndingStream(BytesIO):
    """A file in memory that does not let fabio's loops look beyond its end for ever."""

    name = "stream"  # fabio names it in errors.
    _n_empty = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self._n_empty = 0 if found else self._n_empty + 1
        if self._n_empty > _MOST_EMPTY:
            raise EOFError("it ends before its pixels")
        return found


def _opened(path: Path, start: bytes) -> tuple[Any, dict[str, Any]]:
    """Return fabio's image, and the header that fabio does not read by itself.

    Files are decompressed here, which detects a truncated one.
    """
    import fabio  # noqa: PLC0415

    content = unpacked_file(path, start)
    is_own = start.startswith(_CBF) or is_mar345(start)
    if content is None and not is_own:
        return fabio.open(str(path)), _marccd_header(path, start)
    if content is None:
        content = path.read_bytes()
    check_not_empty(path, content)
    if content.startswith(_CBF):
        return _cbf_image(path, content), {}
    if is_mar345(content):
        return _mar345_image(path, content), {}
    # Its own: EDF needs its lock.
    from fabio.fabioutils import BytesIO as FabioBytesIO  # noqa: PLC0415

    try:
        return fabio.open(FabioBytesIO(content)), _marccd_of(content[: 2 * 4096])
    except OSError:
        return _by_name(path.stem, content), {}


def _by_name(name: str, content: bytes) -> Any:
    """Return fabio's image of a format that it knows by the name of the file only."""
    import fabio  # noqa: PLC0415

    with TemporaryDirectory(prefix="scanbus-") as folder:
        unpacked = Path(folder) / name
        unpacked.write_bytes(content)
        return fabio.open(str(unpacked))


def _marccd_header(path: Path, start: bytes) -> dict[str, Any]:
    if not start.startswith(_TIFF):
        return {}
    with path.open("rb") as stream:
        return _marccd_of(stream.read(_MARCCD_AT + _MARCCD_BYTES))


def _marccd_of(content: bytes) -> dict[str, Any]:
    """Return the header of MarCCD within a TIFF; fabio's reader has the TIFF's only."""
    header = content[_MARCCD_AT : _MARCCD_AT + _MARCCD_BYTES]
    is_marccd = content.startswith(_TIFF) and header[4:7] == _MARCCD_NAME
    if not is_marccd or len(header) < _MARCCD_BYTES:
        return {}
    from fabio.marccdimage import (  # noqa: PLC0415
        HEADER_FORMAT,
        HEADER_NAMES,
        interpret_header,
    )

    found = interpret_header(header, HEADER_FORMAT, HEADER_NAMES)
    # fabio's names have the lengths of texts: "filetitle[128]".
    texts = {name.partition("[")[0]: _joined(value) for name, value in found.items()}
    return {name: value for name, value in texts.items() if value is not None}


def _joined(value: Any) -> Any:
    """Return letters as text, and no lists of numbers: those are statistics."""
    if not isinstance(value, list):
        return value
    if all(isinstance(each, bytes) for each in value):
        return b"".join(value).partition(b"\0")[0].decode("latin-1")
    return None


def _cbf_image(path: Path, content: bytes) -> Any:
    """Return fabio's image of a CBF whose size and checksum are right.

    fabio only logs a difference, and reads pixels in one compression only.
    """
    from fabio.cbfimage import DATA_TYPES, CbfImage  # noqa: PLC0415

    if _cbf_pixels_at(path, content) < 0:
        raise SourceError(str(path), "the file is truncated: it ends before its pixels")
    image = CbfImage()
    binary = image.read(_EndingStream(content), only_raw=True)
    _check_cbf(path, image.header, binary)
    if image.header.get("conversions"):
        return CbfImage().read(_EndingStream(content))
    is_big = "BIG" in image.header.get("X-Binary-Element-Byte-Order", "")
    kind = np.dtype(DATA_TYPES[image.header["X-Binary-Element-Type"]])
    plain = np.frombuffer(binary, kind.newbyteorder(">" if is_big else "<"))
    shape = image._shape  # noqa: SLF001 - it has no pixels yet
    return CbfImage(data=plain.reshape(shape), header=image.header)


def _cbf_pixels_at(path: Path, content: bytes) -> int:
    """Return where the pixels of a CBF start; -1 if that is not in `content`.

    Raises
    ------
    SourceError
        If they are in another packing than byte offset, or are text.
    """
    section = content.find(_CBF_SECTION)
    if section < 0:
        return -1
    start = content[section : section + _MIME_BYTES]
    packing = _CONVERSION.search(start)
    encoding = _ENCODING.search(start)
    is_text = encoding is not None and encoding[1] != b"BINARY"
    if is_text or (packing is not None and packing[1] != _BYTE_OFFSET):
        found = [each[1].decode() for each in (packing, encoding) if each is not None]
        raise SourceError(
            str(path),
            f"its pixels are packed as {', '.join(found)}, and only "
            f"{_BYTE_OFFSET.decode()}, BINARY can be read: convert the file, with "
            "CBFlib's 'cif2cbf -e none -c b FILE NEW', and publish that",
        )
    return content.find(_CBF_STARTER, section)


def _check_cbf(path: Path, header: dict[str, Any], binary: bytes) -> None:
    """Compare size and checksum of the binary section with what the header says."""
    expected_size = header.get("X-Binary-Size")
    if expected_size is not None and len(binary) != int(expected_size):
        raise SourceError(
            str(path),
            f"the file is truncated: {expected_size} bytes of pixels expected, "
            f"{len(binary)} found",
        )
    dimensions = ("X-Binary-Size-Fastest-Dimension", "X-Binary-Size-Second-Dimension")
    n_pixels = math.prod(int(header.get(name, 1)) for name in dimensions)
    if n_pixels > len(binary):  # Each pixel has a byte at least.
        raise SourceError(
            str(path), f"{len(binary)} bytes cannot unpack to {n_pixels} pixels"
        )
    expected = header.get("Content-MD5")
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


def _check_complete(path: Path, frame: Any) -> None:
    if getattr(_raw_frame(frame), "incomplete_data", False):
        raise SourceError(
            str(path), "the file is truncated: it ends before its last pixel"
        )


def _pixels(path: Path, frame: Any) -> npt.NDArray[Any]:
    _check_complete(path, frame)  # Before fabio makes zeros of pixels that lack.
    data = frame.data
    if data is None:
        raise SourceError(str(path), _NOT_AN_IMAGE)
    return pixels_of(path, data)


def pixels_of(path: Path, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return pixels as they are sent: C-contiguous, little-endian.

    Raises
    ------
    SourceError
        If they are no frame of numbers.
    """
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


def check_not_empty(path: Path, start: bytes) -> None:
    """Refuse a file without content.

    Raises
    ------
    SourceError
        If it is empty.
    """
    if not start:
        raise SourceError(str(path), "the file is empty")


def _refuse(path: Path, error: Exception) -> NoReturn:
    """Say in a sentence what fabio says in its own ways."""
    if isinstance(error, EOFError):
        raise SourceError(str(path), f"the file is truncated: {error}") from error
    # Errors from inside fabio help no user: "NoneType has no attribute find".
    detail = f": {reason_of(error)}" if isinstance(error, OSError) else ""
    remedy = "; is it whole? fabio-convert may make an EDF or TIFF of it"
    raise SourceError(str(path), f"{_NOT_AN_IMAGE}{detail}{remedy}") from error


def reason_of(error: BaseException) -> str:
    """Return what an error says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
