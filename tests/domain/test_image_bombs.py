"""Small image files that declare, or unpack to, any size."""

import bz2
import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scanbus.publisher.gateways.files import images
from scanbus.publisher.gateways.files.images import open_image
from scanbus.publisher.gateways.files.packed_files import unpacked_file
from scanbus.schemas.errors import SourceError

MOST = 2**20
N_BYTES = 64 * MOST


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_packed_file_unpacks_to_its_bound_only(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(pack(bytes(N_BYTES)))
    start = images.first_bytes(path)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=r"bomb: the file unpacks to more than"):
            unpacked_file(path, start, MOST)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < N_BYTES / 2
    content = unpacked_file(path, start, N_BYTES)
    assert content is not None
    assert len(content) == N_BYTES


def edf(side: int) -> bytes:
    """Return an EDF that declares more pixels than it has."""
    header = (
        "{\nHeaderID = EH:000001:000000:000000 ;\nImage = 1 ;\n"
        "ByteOrder = LowByteFirst ;\nDataType = UnsignedLong ;\n"
        f"Dim_1 = {side} ;\nDim_2 = {side} ;\nSize = {4 * side * side} ;\n"
    )
    return header.ljust(510).encode() + b"}\n" + bytes(1000)


def cbf(tmp_path: Path, side: int) -> bytes:
    """Return a CBF that declares more pixels than it has bytes."""
    cbfimage = pytest.importorskip("fabio.cbfimage")
    path = tmp_path / "ten.cbf"
    cbfimage.CbfImage(data=np.zeros((10, 10), "i4")).write(str(path))
    content = path.read_bytes()
    content = content.replace(b"Elements: 100", b"Elements: %d" % side**2)
    return content.replace(b"Dimension: 10\r", b"Dimension: %d\r" % side)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("kind", ["edf", "cbf"])
def test_a_declared_size_is_compared_before_anything_is_allocated(
    tmp_path: Path, kind: str, pack: Callable[[bytes], bytes]
) -> None:
    pytest.importorskip("fabio")
    side = 8000  # 256 MB of pixels
    path = tmp_path / f"image.{kind}"
    path.write_bytes(pack(edf(side) if kind == "edf" else cbf(tmp_path, side)))
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=r"truncated|cannot unpack to 64000000"):
            open_image(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**25
