"""Pixels that a codec of areaDetector has packed, as the bus stores them. Pure.

The codecs are those of NDPluginCodec. Those of the bus keep their bytes, after the
header that HDF5 wants; others are unpacked.
"""

from __future__ import annotations

import io
import math
import struct
import zlib

import numpy as np

from scanbus.publisher.gateways.runner.messages import FrameData
from scanbus.publisher.gateways.wire.framing import framed
from scanbus.schemas.errors import MessageError

__all__ = ["unpackable"]

# Sizes in the header of a chunk of Blosc 1.
_BLOSC = struct.Struct("<4xI4xI")
# What Zstandard in Blosc makes of zeros. LZ4 has a bound of its own.
_MAX_RATIO = 65536
_MAX_BYTES = 2**31


def unpackable(
    where: str, codec: str, blob: bytes, shape: tuple[int, ...], dtype: np.dtype
) -> FrameData:
    """Return the pixels as the bus can have them.

    Raises
    ------
    MessageError
        If the codec is unknown, or the bytes do not fit shape and type.
    """
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes > min(_MAX_BYTES, _MAX_RATIO * len(blob)):
        raise MessageError(where, f"{len(blob)} bytes cannot unpack to {n_bytes}")
    match codec:
        case "":
            data = FrameData(blob, "none", shape, dtype)
        case "bslz4" | "lz4" | "lz4hdf5":
            name = codec.removesuffix("hdf5")
            found, blob = framed(where, name, blob, n_bytes, dtype.itemsize)
            data = FrameData(blob, found, shape, dtype)
        case "blosc":
            data = FrameData(_blosc(where, blob, n_bytes), "none", shape, dtype)
        case "zlib":
            data = FrameData(_zlib(where, blob, n_bytes), "none", shape, dtype)
        case "jpeg":
            data = FrameData(_jpeg(where, blob, shape), "none", shape, dtype)
        case _:
            raise MessageError(where, f"codec {codec[:64]!r} is unknown")
    data.check(where)
    return data


def _blosc(where: str, blob: bytes, n_bytes: int) -> bytes:
    """Unpack a chunk of Blosc 1, whose HDF5 filter the bus does not have."""
    try:
        import blosc2  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        text = "Blosc needs blosc2: pip install 'scanbus[blosc2]'"
        raise MessageError(where, text) from error
    if len(blob) < 16 or _BLOSC.unpack_from(blob) != (n_bytes, len(blob)):
        raise MessageError(where, "the sizes in the header of Blosc are wrong")
    try:
        plain = blosc2.decompress(blob)
    except (RuntimeError, ValueError, TypeError) as error:
        raise MessageError(where, f"blosc: {error}") from error
    return bytes(plain)


def _zlib(where: str, blob: bytes, n_bytes: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        # One byte more than there should be: else the checksum behind is not read.
        plain = unpacker.decompress(blob, n_bytes + 1)
    except zlib.error as error:
        raise MessageError(where, f"zlib: {error}") from error
    if len(plain) != n_bytes or not unpacker.eof or unpacker.unused_data:
        raise MessageError(where, f"zlib: not exactly the {n_bytes} bytes of a frame")
    return plain


def _jpeg(where: str, blob: bytes, shape: tuple[int, ...]) -> bytes:
    try:
        from PIL import Image  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        text = "JPEG needs pillow: pip install pillow"
        raise MessageError(where, text) from error
    try:
        with Image.open(io.BytesIO(blob), formats=["JPEG"]) as image:
            if (image.height, image.width) != shape[:2] or image.mode not in {
                "L",
                "RGB",
            }:
                size = f"{image.height} x {image.width}, {image.mode}"
                raise MessageError(where, f"a JPEG of {size} does not fit {shape}")
            return np.asarray(image).tobytes()
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:
        raise MessageError(where, f"jpeg: {error}") from error
