"""The last subscriber: from the bus into NeXus files, and their proof.

:func:`run_writer` is the service, :func:`replay` writes one scan again,
:func:`check_files` proves files against the checksums made at the source.
"""

from scanbus.writer.replay import replay
from scanbus.writer.service import run_writer
from scanbus.writer.settings import WriterSettings

__all__ = ["WriterSettings", "replay", "run_writer"]
