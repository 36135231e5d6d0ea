"""Read an image in a process of its own, whose death harms no other.

A damaged mar345 file may overwrite memory in fabio, and end the process: a gateway with
all its scans. An image plate takes longer to be read out than a process to start.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from scanbus.schemas.errors import SourceError

__all__ = ["is_mar345", "pixels_read_apart"]

_PROGRAM: Final = Path(__file__).with_name("mar345_reader.py")
# The first number of the file, in either byte order.
_MAR345: Final = (b"\xd2\x04\0\0", b"\0\0\x04\xd2")


def is_mar345(start: bytes) -> bool:
    """Whether these are the first bytes of a mar345 file."""
    return start.startswith(_MAR345)


def pixels_read_apart(path: Path, content: bytes) -> npt.NDArray[Any]:
    """Return the pixels of a mar345 file.

    Raises
    ------
    SourceError
        If it is damaged.
    """
    done = subprocess.run(
        [sys.executable, "-P", str(_PROGRAM)],
        input=content,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise SourceError(
            str(path), "the file is truncated or damaged: its pixels do not unpack"
        )
    found: npt.NDArray[Any] = np.load(io.BytesIO(done.stdout), allow_pickle=False)
    return found
