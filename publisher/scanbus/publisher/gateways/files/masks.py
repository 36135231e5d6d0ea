"""Convert the flags of bad pixels in image files to a NeXus pixel mask. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["pixel_mask"]

# Bits of NXdetector/pixel_mask (NeXus base class NXdetector, v2026.01).
_GAP = 1 << 0
_DEAD = 1 << 1
# The value of PILATUS for a gap; other negative numbers flag bad pixels.
_GAP_VALUE = -1


def pixel_mask(frame: npt.NDArray[Any]) -> npt.NDArray[np.uint32] | None:
    """Return ``NXdetector/pixel_mask`` of a frame with flags in it, if it has any.

    Parameters
    ----------
    frame : numpy.ndarray
        Counts; -1 flags the gap between modules, -2 and below a bad pixel.

    Returns
    -------
    numpy.ndarray or None
        uint32 of the frame's shape: 0 good, 1 gap, 2 dead. None if the frame is not of
        a signed integer type, or no value is negative.

    Examples
    --------
    >>> pixel_mask(np.array([[7, -1, -2]], dtype="int32"))
    array([[0, 1, 2]], dtype=uint32)
    """
    if frame.dtype.kind != "i" or not (frame < 0).any():
        return None
    mask = np.zeros(frame.shape, dtype=np.uint32)
    mask[frame < 0] = _DEAD
    mask[frame == _GAP_VALUE] = _GAP
    return mask
