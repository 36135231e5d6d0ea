"""How files and folders are called: the names of the ESRF layout.

::

    {root}/{proposal}/{beamline}/{session}/RAW_DATA/    {proposal}_{beamline}.h5
        {collection}/                                   {proposal}_{collection}.h5
            {collection}_{dataset}/                     {collection}_{dataset}.h5
                scan{NNNN}/                             scan{NNNN}.h5
                                                        scan{NNNN}_values.h5
                                                        {lane}_{NNNN}.h5

Names come from the bus; the schemas let through only what can be a file name. Pure:
:mod:`scanbus.writer.storage.scan_paths` finds where files stand below the root.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "RAW_DATA",
    "scan_folder_name",
    "scan_master_name",
    "segment_file_name",
    "values_file_name",
]

RAW_DATA: Final = "RAW_DATA"


def scan_folder_name(scan_number: int) -> str:
    """Return the name of a scan's folder.

    Examples
    --------
    >>> scan_folder_name(7)
    'scan0007'
    """
    return f"scan{scan_number:04d}"


def scan_master_name(scan_number: int) -> str:
    """Return the name of a scan's master, in the scan's folder."""
    return f"{scan_folder_name(scan_number)}.h5"


def values_file_name(scan_number: int) -> str:
    """Return the name of the scan file, in the scan's folder."""
    return f"{scan_folder_name(scan_number)}_values.h5"


def segment_file_name(lane: str, index: int) -> str:
    """Return the name of a segment, in the scan's folder.

    Examples
    --------
    >>> segment_file_name("eiger", 12)
    'eiger_0012.h5'
    """
    return f"{lane}_{index:04d}.h5"
