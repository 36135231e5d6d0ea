"""The last subscriber: from the bus into NeXus files, and their proof.

:func:`run_writer` is the service, :func:`replay` writes one scan again,
:func:`rebuild` makes masters from the disk alone, :func:`salvage` partial scans where
Redis was lost, :func:`check_files` proves files against the checksums made at the
source.
"""

from scanbus.writer.check import CheckReport, check_files
from scanbus.writer.masters.rebuild import rebuild
from scanbus.writer.recovery.salvage import salvage
from scanbus.writer.scan.replay import replay
from scanbus.writer.service.service import run_writer
from scanbus.writer.settings import WriterSettings

__all__ = [
    "CheckReport",
    "WriterSettings",
    "check_files",
    "rebuild",
    "replay",
    "run_writer",
    "salvage",
]
