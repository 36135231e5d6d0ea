"""Messages of libraries: as events of our log, or not at all.

Python prints warnings, and log lines that nobody takes, to stderr as they are, between
our JSON and over the progress line.
"""

from __future__ import annotations

import logging

from scanbus.schemas.log_events import LogEvent
from scanbus.schemas.logs import get_logger

__all__ = ["take_library_logs"]

log = get_logger()

_MOST_TEXT = 2000
# What they say of a damaged image, or of a key of ICAT, says our own sentence, too.
_SILENCED = frozenset({"fabio", "PIL", "py", "pyicat_plus"})


class _ToOurLog(logging.Handler):
    """Makes an event of each log record."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record, on one line."""
        if record.name.partition(".")[0] in _SILENCED:
            return
        text = " ".join(self.format(record).split())[:_MOST_TEXT]
        log.warning(LogEvent.LIBRARY_MESSAGE, library=record.name, text=text)


def take_library_logs() -> None:
    """Have what libraries log, and their warnings, from now on; once per process."""
    root = logging.getLogger()
    if any(isinstance(each, _ToOurLog) for each in root.handlers):
        return
    root.addHandler(_ToOurLog(logging.WARNING))
    logging.captureWarnings(capture=True)
