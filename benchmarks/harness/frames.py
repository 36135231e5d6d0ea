"""Frames to send: real ones if there are any, else simulated ones."""

import bz2
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import find_codec
from scanbus.publisher.simulation import SimulatedExperiment

CODEC = "bitshuffle-lz4"
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "thaumatin_grid"
# A PILATUS3 6M.
PILATUS_SHAPE = (2527, 2463)
# Compression ratio to plan segments with; 9.4 was measured for the real frames.
COMPRESSION = 8.0


@dataclass(frozen=True)
class FrameSet:
    """Frames on disk, raw and packed, that child processes load.

    Attributes
    ----------
    folder : pathlib.Path
        Contains ``raw_N.npy`` and ``packed_N.bin``.
    count : int
        Number of different frames.
    shape, dtype : tuple of int, str
        Shape and dtype of a frame.
    source : str
        Description, for the page.
    raw_bytes, packed_bytes : int
        Size of a frame in bytes; the mean if packed.
    """

    folder: Path
    count: int
    shape: tuple[int, int]
    dtype: str
    source: str
    raw_bytes: int
    packed_bytes: int

    def raw(self) -> list[npt.NDArray[Any]]:
        """Return the frames."""
        return [np.load(self.folder / f"raw_{i}.npy") for i in range(self.count)]

    def packed(self) -> list[bytes]:
        """Return the packed frames, as a detector would send them."""
        paths = [self.folder / f"packed_{i}.bin" for i in range(self.count)]
        return [path.read_bytes() for path in paths]


def pack(frame: npt.NDArray[Any]) -> bytes:
    """Return a frame as the bitshuffle filter stores it."""
    return bytes(find_codec(CODEC).encode(frame[np.newaxis]))


def detector_frames(folder: Path, count: int = 6, *, simulated: bool) -> FrameSet:
    """Return frames of a PILATUS 6M: simulated ones, or real ones if they can be read.

    Kept ratios always use simulated frames: not every machine has real ones.
    """
    if not simulated:
        try:
            source = "real PILATUS3 6M frames (thaumatin, int32)"
            return _kept(folder, _real_frames(count), source)
        except (ImportError, OSError) as error:
            print(f"Frames are simulated: no real ones ({error}).", file=sys.stderr)
    source = "simulated frames of a PILATUS3 6M (int32)"
    return _kept(folder, _simulated_frames(count), source)


def noise_frames(folder: Path, count: int = 4) -> FrameSet:
    """Return 8 MiB frames of uint16 noise, which is incompressible."""
    rng = np.random.default_rng(1)
    shape = (2048, 2048)
    frames = [rng.integers(0, 2**16, shape, dtype=np.uint16) for _ in range(count)]
    return _kept(folder, frames, "uint16 noise, 2048 x 2048")


def small_frames(folder: Path, shape: tuple[int, int], count: int = 16) -> FrameSet:
    """Return small frames with few photons."""
    rng = np.random.default_rng(2)
    frames = [rng.poisson(2.0, shape).astype(np.uint16) for _ in range(count)]
    return _kept(folder, frames, f"Poisson noise, {shape[0]} x {shape[1]} uint16")


def _real_frames(count: int) -> list[npt.NDArray[Any]]:
    import fabio  # noqa: PLC0415 - optional

    if not REAL.is_dir():
        raise FileNotFoundError(REAL)
    frames = []
    with tempfile.TemporaryDirectory() as scratch:
        for packed in sorted(REAL.glob("*.cbf.bz2"))[:count]:
            plain = Path(scratch) / packed.stem
            plain.write_bytes(bz2.decompress(packed.read_bytes()))
            frames.append(np.ascontiguousarray(fabio.open(plain).data, "<i4"))
    return frames


def _simulated_frames(count: int) -> list[npt.NDArray[Any]]:
    experiment = SimulatedExperiment(seed=1, shape=PILATUS_SHAPE)
    return [experiment.frame(number).view("<i4") for number in range(count)]


def _kept(folder: Path, frames: list[npt.NDArray[Any]], source: str) -> FrameSet:
    folder.mkdir(parents=True)
    sizes = []
    for number, frame in enumerate(frames):
        np.save(folder / f"raw_{number}.npy", frame)
        packed = pack(frame)
        (folder / f"packed_{number}.bin").write_bytes(packed)
        sizes.append(len(packed))
    first = frames[0]
    return FrameSet(
        folder=folder,
        count=len(frames),
        shape=first.shape,
        dtype=first.dtype.str,
        source=source,
        raw_bytes=first.nbytes,
        packed_bytes=sum(sizes) // len(sizes),
    )
