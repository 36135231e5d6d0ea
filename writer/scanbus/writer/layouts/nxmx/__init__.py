"""NXmx: a pair of small masters of a detector's frames, for crystallography.

``scan0001_master.h5`` links the detector's files as DECTRIS' file writer does, for XDS
and whatever reads that; ``scan0001.nxs`` has all frames as one virtual dataset, for
DIALS. One file cannot be both: fabio would count each frame twice, and neggia reads no
virtual dataset.
"""

from scanbus.writer.layouts.nxmx.masters import NXMX

__all__ = ["NXMX"]
