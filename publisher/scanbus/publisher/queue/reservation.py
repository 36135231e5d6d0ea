"""What a scan has reserved on the bus, and what its data need now. State only."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Reservation"]


@dataclass(slots=True)
class Reservation:
    """Bytes on the bus of one scan; guarded by the scan's lock.

    Attributes
    ----------
    quota_bytes : int
        Most bytes that may be on the bus and in no file; 0 before it is prepared.
    most_bytes : int
        Up to which the quota may grow.
    document_bytes : int
        Bytes of all on the bus that are no points, about.
    reserved_bytes : int
        What is reserved now.
    """

    quota_bytes: int = 0
    most_bytes: int = 0
    document_bytes: int = 0
    reserved_bytes: int = 0

    def __post_init__(self) -> None:
        self.reserved_bytes = self.quota_bytes

    def wanted_bytes(self, used_bytes: int, *, is_fully_sent: bool) -> int:
        """Return what should be reserved: what is used, once all was sent.

        Before that, twice the quota if more than half of it is used: the writer is
        behind.

        Parameters
        ----------
        used_bytes : int
            Bytes that are, or will be, on the bus and in no file.

        Examples
        --------
        >>> room = Reservation(quota_bytes=100, most_bytes=150, document_bytes=5)
        >>> room.wanted_bytes(50, is_fully_sent=False)
        100
        >>> room.wanted_bytes(51, is_fully_sent=False)
        150
        >>> room.wanted_bytes(51, is_fully_sent=True)
        56
        """
        if is_fully_sent:
            return min(self.reserved_bytes, used_bytes + self.document_bytes)
        if 2 * used_bytes <= self.quota_bytes:
            return self.reserved_bytes
        return max(self.reserved_bytes, min(2 * self.quota_bytes, self.most_bytes))

    def note(self, reserved_bytes: int) -> bool:
        """Note what is reserved now; return whether the quota grew with it."""
        self.reserved_bytes = reserved_bytes
        has_grown = reserved_bytes > self.quota_bytes
        self.quota_bytes = max(self.quota_bytes, reserved_bytes)
        return has_grown
