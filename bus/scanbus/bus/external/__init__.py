"""Files that a detector wrote itself, to which frames by reference refer.

Writer, check and subscribers open them here and nowhere else: names come off the bus,
so nothing outside of the external roots is opened, whatever links lead there.
"""

from __future__ import annotations

from scanbus.bus.external.hdf5_frames import FrameFiles
from scanbus.bus.external.names import literal_name, mapped_name
from scanbus.bus.external.paths import image_below, place_below

__all__ = [
    "FrameFiles",
    "image_below",
    "literal_name",
    "mapped_name",
    "place_below",
]
