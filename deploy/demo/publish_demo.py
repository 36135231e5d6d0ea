"""Publish a simulated scan to the Redis of the compose file.

``scanbus demo`` brings its own Redis and shows everything at once. This one makes
the frames of a small diffraction pattern and hands them to ``scanbus publish files``,
so that the writer in the other container has something to write.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import fabio.edfimage
import numpy as np

N_FRAMES = 100
SIDE = 512


def write_frames(
    folder: Path, n_frames: int = N_FRAMES, side: int = SIDE
) -> list[Path]:
    """Write rings that widen from frame to frame, with counting noise, as EDF."""
    random = np.random.default_rng(1)
    j, i = np.meshgrid(np.arange(side), np.arange(side))
    radius = np.hypot(i - side / 2, j - side / 2)
    paths = []
    for number in range(n_frames):
        rings = 1 + np.cos(radius / (4 + 4 * number / n_frames))
        counts = random.poisson(rings * 40 * np.exp(-radius / side * 4))
        path = folder / f"frame_{number:04d}.edf"
        fabio.edfimage.EdfImage(data=counts.astype(np.uint16)).write(str(path))
        paths.append(path)
    return paths


def publish_command(frames: list[Path]) -> list[str]:
    """Return the command that publishes the frames, 20 a second."""
    names = [str(path) for path in frames]
    options = ["--sample", "demo", "--title", "simulated rings", "--rate", "20"]
    return ["scanbus", "publish", "files", *names, *options]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        command = publish_command(write_frames(Path(made)))
        sys.exit(subprocess.run(command, check=False).returncode)
