"""Publish image files as one scan: for tests, old data, and data of other programs.

Frames are sent unchanged, with the values that flag pixels; headers become NeXus
metadata, angles and counters in them become channels, and every frame keeps the name of
its file.
"""

from scanbus.publisher.gateways.files.publish import PublishedScan, publish_files

__all__ = ["PublishedScan", "publish_files"]
