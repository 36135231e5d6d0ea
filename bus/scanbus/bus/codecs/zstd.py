"""One Zstandard frame, as HDF5 filter 32015 stores it."""

from __future__ import annotations

from dataclasses import dataclass

import zstandard

from scanbus.bus.codecs.codec import Buffer, Filter, Octets, view_or_copy
from scanbus.schemas.errors import PayloadError

_ZSTD_ID = 32015


@dataclass(frozen=True)
class ZstdScheme:
    """The HDF5 filter for Zstandard, without shuffling.

    Parameters
    ----------
    level : int
        1 (fast) to 22 (small).
    """

    level: int = 3

    def filters(self) -> tuple[Filter, ...]:
        """Return the filter."""
        return (Filter(_ZSTD_ID, (self.level,), "zstd"),)

    def pack(self, data: Octets, itemsize: int) -> Buffer:  # noqa: ARG002
        """Return a Zstandard frame that declares its content size, for the filter."""
        # A compressor must not be shared between threads; creating one is cheap.
        return zstandard.ZstdCompressor(level=self.level).compress(data.data)

    def unpack(
        self,
        payload: memoryview,
        n_bytes: int,
        itemsize: int,
        out: Octets | None,
    ) -> Octets:
        """Return the content of the frame; its declared size is checked first."""
        self.check(payload, n_bytes, itemsize)
        try:
            content = zstandard.ZstdDecompressor().decompress(
                payload, max_output_size=n_bytes, allow_extra_data=False
            )
        except zstandard.ZstdError as error:
            raise PayloadError(f"zstd: {error}") from error
        if len(content) != n_bytes:
            raise PayloadError(f"zstd: expected {n_bytes} bytes, got {len(content)}")
        return view_or_copy(content, out)

    def check(self, payload: memoryview, n_bytes: int, itemsize: int) -> None:  # noqa: ARG002
        """Check the declared content size, which the library would allocate."""
        try:
            declared = zstandard.get_frame_parameters(payload).content_size
        except zstandard.ZstdError as error:
            raise PayloadError(f"zstd: {error}") from error
        if declared != n_bytes:
            raise PayloadError(
                f"zstd: expected {n_bytes} bytes, the frame declares {declared}"
            )
