"""Publish image files: those that are there as one scan, or as a detector writes them.

Frames are sent unchanged, with the values that flag pixels. What changes from header to
header becomes channels, what does not becomes NeXus metadata, and every frame keeps the
name of its file.
"""

from scanbus.publisher.gateways.files.dates import zone_of
from scanbus.publisher.gateways.files.publish import PublishedScan, publish_files
from scanbus.publisher.gateways.files.watch import WatchGateway, WatchSettings

__all__ = [
    "PublishedScan",
    "WatchGateway",
    "WatchSettings",
    "publish_files",
    "zone_of",
]
