"""Image files as one scan: real frames for tests, replays of old data, other programs.

Frames go out as they are, to the last flag; headers become NeXus metadata, angles and
counters of the headers become channels, and every frame keeps the name of its file.
"""

from scanbus.publisher.gateways.files.publish import PublishedScan, publish_files

__all__ = ["PublishedScan", "publish_files"]
