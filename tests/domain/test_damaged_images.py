"""Damaged images of each format: whole frames or a sentence, and never a crash."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scanbus.publisher.gateways.files.headers import read_header
from scanbus.publisher.gateways.files.images import headers_of, open_image
from scanbus.publisher.gateways.files.read_apart import Examiner
from scanbus.schemas.errors import SourceError
from tests.support.headered_images import TURNING, eiger_series, pixels_of

N_HEADER = 4096


def damaged(content: bytes, n: int, seed: str) -> Iterator[bytes]:
    """Yield a file cut off, with other octets, digits or gaps, `n` times each."""
    draw = random.Random(seed)
    n_header = min(len(content), N_HEADER)
    digits = [at for at in range(n_header) if content[at : at + 1].isdigit()]
    for _ in range(n):
        yield content[: draw.randrange(1, len(content))]
        noisy = bytearray(content)
        for _ in range(4):
            noisy[draw.randrange(n_header)] = draw.randrange(256)
        yield bytes(noisy)
        other = bytearray(content)
        for at in draw.sample(digits, min(4, len(digits))):
            other[at] = draw.choice(b"0123456789-e.")
        yield bytes(other)
        at = draw.randrange(len(content))
        yield content[:at] + content[at + draw.randrange(1, 600) :]


def refusal_of(path: Path) -> SourceError | None:
    """Read all that would be published, and return the error if it is invalid."""
    try:
        for header in headers_of(path):
            read_header(header)
        for frame in open_image(path, follows_links=True):
            assert frame.data.ndim == 2
    except SourceError as error:
        return error
    return None


def look(path: Path) -> None:
    """Verify that there is a sentence, if there is no frame."""
    refusal = refusal_of(path)
    if refusal is not None:
        assert refusal.path == str(path)
        assert refusal.reason
        assert "\n" not in refusal.reason


@pytest.mark.parametrize("suffix", TURNING)
def test_a_damaged_image_is_frames_or_a_sentence(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("fabio")
    path = tmp_path / f"a.{suffix}"
    TURNING[suffix][0](0, path)
    n_each = 2 if suffix == "mar3450" else 12  # which needs a process each time
    for content in damaged(path.read_bytes(), n_each, suffix):
        path.write_bytes(content)
        look(path)


def test_a_damaged_hdf5_file_is_frames_or_a_sentence(tmp_path: Path) -> None:
    frames = pixels_of(0).astype("uint16")[None].repeat(2, axis=0)
    eiger_series(tmp_path, frames)
    for path in sorted(tmp_path.glob("*.h5")):
        whole = path.read_bytes()
        for content in damaged(whole, 12, path.name):
            path.write_bytes(content)
            look(path)
        path.write_bytes(whole)


def test_a_mar345_file_that_kills_its_decoder_harms_nobody(tmp_path: Path) -> None:
    """fabio's overwrites memory with pixels that do not pack, also of a whole file."""
    fabioformats = pytest.importorskip("fabio.fabioformats")
    fabioutils = pytest.importorskip("fabio.fabioutils")
    path = tmp_path / "a.mar3450"
    pixels = np.random.default_rng(1).integers(0, 60000, (64, 64)).astype("uint32")
    image = type(fabioformats.factory("mar345image"))(data=pixels)
    image.byteorder = fabioutils.ENDIANNESS.LITTLE
    image.write(str(path))
    look(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refusal = refusal_of(path)
    assert refusal is not None
    assert "its pixels do not unpack" in refusal.reason


DIES = """
import os, sys
for line in sys.stdin:
    if not os.path.exists(sys.argv[1]) or sys.argv[2] != "15":
        open(sys.argv[1], "w").close()
        os.kill(os.getpid(), int(sys.argv[2]))
    print("alive", flush=True)
"""


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (signal.SIGSEGV, "the HDF5 library dies of it"),
        (signal.SIGXCPU, "the HDF5 library does not come to an end with it"),
        (signal.SIGTERM, None),  # of a service that is stopped, not of the file
    ],
)
def test_an_hdf5_file_that_kills_its_reader_is_a_sentence(
    tmp_path: Path, number: signal.Signals, sentence: str | None
) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"any")
    mark = str(tmp_path / "died")
    examiner = Examiner([sys.executable, "-c", DIES, mark, str(int(number))])
    try:
        if sentence is None:
            examiner.examine(path, follows_links=False)
            assert Path(mark).exists()
            return
        for _ in range(2):  # also without another process
            with pytest.raises(SourceError, match=sentence):
                examiner.examine(path, follows_links=False)
    finally:
        examiner.close()
