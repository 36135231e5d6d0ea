"""Convert the header of an image to NeXus: what holds for the scan, and for the frame.

Pure: a header in, facts out. One module per dialect; what no dialect knows stays, as
keywords with their values. A value that cannot be parsed is left out here, but never
lost: the header's text is kept too.
"""

from scanbus.publisher.gateways.files.headers.facts import (
    FrameValue,
    HeaderFacts,
    Scalar,
    ScanAxis,
    nexus_name,
)
from scanbus.publisher.gateways.files.headers.read import read_header

__all__ = [
    "FrameValue",
    "HeaderFacts",
    "Scalar",
    "ScanAxis",
    "nexus_name",
    "read_header",
]
