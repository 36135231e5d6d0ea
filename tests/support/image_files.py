"""Files as detectors write them, one frame each, of every format that is read."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]


def edf_bytes(frame: Pixels, **keywords: object) -> bytes:
    """Return a file of the ESRF data format."""
    types = {"uint16": "UnsignedShort", "int32": "SignedInteger"}
    header = {
        "ByteOrder": "LowByteFirst",
        "DataType": types[frame.dtype.name],
        "Dim_1": frame.shape[1],
        "Dim_2": frame.shape[0],
        "Size": frame.nbytes,
        **keywords,
    }
    lines = "".join(f"{key} = {value} ;\n" for key, value in header.items())
    text = ("{\n" + lines).ljust(1022) + "}\n"
    return text.encode() + frame.tobytes()


def fabio_bytes(suffix: str) -> Callable[[Pixels, Path], bytes]:
    """Return what makes a file of a format with fabio."""

    def made(frame: Pixels, folder: Path) -> bytes:
        from fabio.cbfimage import CbfImage
        from fabio.tifimage import TifImage

        kinds = {".cbf": CbfImage, ".tif": TifImage}
        path = folder / f"made{suffix}"
        kinds[suffix](data=frame).write(str(path))
        content = path.read_bytes()
        path.unlink()
        return content

    return made


def marccd_bytes(frame: Pixels) -> bytes:
    """Return a MarCCD file: TIFF of 1024 bytes, a header of 3072, pixels of 16 bits."""
    height, width = frame.shape
    short, long = 3, 4
    tags = [
        (256, long, width),
        (257, long, height),
        (258, short, 16),
        (259, short, 1),
        (262, short, 1),
        (273, long, 4096),
        (278, long, height),
        (279, long, frame.nbytes),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, n) for tag, kind, n in tags)
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    header = struct.pack("<I16sI", 2, b"MMX", 1).ljust(80, b"\0")
    header += struct.pack("<II", width, height)
    return tiff.ljust(1024, b"\0") + header.ljust(3072, b"\0") + frame.tobytes()


def hdf5_bytes(frames: Pixels) -> bytes:
    """Return an HDF5 file with its frames where NeXus has them."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs["default"] = "data"
        data = entry.create_group("data")
        data.attrs["signal"] = "data"
        data.create_dataset("data", data=frames, chunks=(1, *frames.shape[-2:]))
    return content.getvalue()


FORMATS: dict[str, Callable[[Pixels, Path], bytes]] = {
    ".edf": lambda frame, _: edf_bytes(frame),
    ".cbf": fabio_bytes(".cbf"),
    ".tif": fabio_bytes(".tif"),
    ".mccd": lambda frame, _: marccd_bytes(frame),
    ".h5": lambda frame, _: hdf5_bytes(np.stack([frame])),
}
