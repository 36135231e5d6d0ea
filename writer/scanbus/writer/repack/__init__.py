"""Repack a scan or a dataset as one file that needs no other.

Masters hold links and virtual datasets, and frames are packed by a filter that not
every reader has. A copy without all that goes to programs that cannot follow them, to a
browser, an object store, or a colleague. May import check, storage and what these may.
"""

from scanbus.writer.repack.conversion import ConvertedFile, convert
from scanbus.writer.repack.packing import Packing

__all__ = ["ConvertedFile", "Packing", "convert"]
