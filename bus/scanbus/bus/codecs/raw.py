"""Codec without a filter: the bytes as they are in memory."""

from __future__ import annotations

from dataclasses import dataclass

from scanbus.bus.codecs.codec import Buffer, Filter, Octets, view_or_copy
from scanbus.schemas.errors import PayloadError


@dataclass(frozen=True)
class RawScheme:
    """An HDF5 dataset without filters."""

    def filters(self) -> tuple[Filter, ...]:
        """Return an empty pipeline."""
        return ()

    def pack(self, data: Octets, itemsize: int) -> Buffer:  # noqa: ARG002
        """Return a view of `data`, without a copy."""
        return data.data

    def unpack(
        self,
        payload: memoryview,
        n_bytes: int,
        itemsize: int,
        out: Octets | None,
    ) -> Octets:
        """Return a view of `payload`, or `out` with a copy of it."""
        self.check(payload, n_bytes, itemsize)
        return view_or_copy(payload, out)

    def check(self, payload: memoryview, n_bytes: int, itemsize: int) -> None:  # noqa: ARG002
        """Check the number of bytes."""
        if len(payload) != n_bytes:
            raise PayloadError(f"none: expected {n_bytes} bytes, got {len(payload)}")
