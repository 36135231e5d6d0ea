"""The process that made a publisher or a subscriber: a fork of it has neither.

A forked process has a copy of the object and the same sockets, but none of its threads,
and locks that a thread of the parent held stay taken. So an object refuses calls in any
process but its own.
"""

from __future__ import annotations

import os

from scanbus.schemas.errors import ScanStateError

__all__ = ["OwnProcess"]


class OwnProcess:
    """The process that makes an object, remembered.

    Parameters
    ----------
    what : str
        The object, for the message, e.g. ``"Publisher"``.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this is that process."""
        return os.getpid() == self._pid

    @property
    def error(self) -> ScanStateError:
        """What is raised in another process."""
        return ScanStateError(
            f"this {self._what} was made by process {self._pid}, before the fork to "
            f"process {os.getpid()}: make the {self._what} after the fork"
        )

    def check(self) -> None:
        """Raise ScanStateError in another process."""
        if not self.is_here:
            raise self.error
