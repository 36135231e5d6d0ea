"""Layouts of techniques: tomography, fluorescence, XAS, SAXS, CXI, openPMD.

Each starts from the NXentry in ESRF's layout. Which channel is what follows from its
role and name, or from ``technique/PROFILE`` in the metadata of the scan.
"""

from scanbus.writer.layouts.techniques.cxi import CXI
from scanbus.writer.layouts.techniques.nxfluo import NXFLUO
from scanbus.writer.layouts.techniques.nxsas import NXSAS
from scanbus.writer.layouts.techniques.nxtomo import NXTOMO
from scanbus.writer.layouts.techniques.nxxas import NXXAS
from scanbus.writer.layouts.techniques.openpmd import OPENPMD

__all__ = ["CXI", "NXFLUO", "NXSAS", "NXTOMO", "NXXAS", "OPENPMD"]
