"""Large arrays of a scan's metadata: masks, flat fields. Each travels once, by itself.

In a document an array is text, which everybody who looks at the scan has to read. So
from some size on the document only names a lane, whose one point the array is. The name
tells the content, so the same array has one lane, however often it is given. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import find_codec
from scanbus.bus.protocol import MAX_STATIC_LANES, checksum_of
from scanbus.schemas import (
    ENTRY_OVERHEAD_BYTES,
    MAX_ENTRY_BYTES,
    Event,
    LaneDescription,
    static_lanes,
)
from scanbus.schemas.errors import DeclarationError
from scanbus.schemas.file_names import STATIC_PREFIX
from scanbus.schemas.valid_names import MAX_NAME_LENGTH, nexus_name

__all__ = ["STATIC_FROM_BYTES", "PackedArrays", "StaticArrays"]

STATIC_FROM_BYTES: Final = 2**20
"""Arrays of more bytes than this do not stand in documents."""

PackedArrays: TypeAlias = Mapping[str, tuple[LaneDescription, bytes]]
"""By name, lanes and the packed arrays that they carry."""

_CODEC: Final = "bitshuffle-lz4"
_DIGEST_LENGTH: Final = 16
_STEM_LENGTH: Final = MAX_NAME_LENGTH - len(STATIC_PREFIX) - _DIGEST_LENGTH - 1


class StaticArrays:
    """The static arrays of one scan, packed, until they are sent.

    Safe to share between threads that convert metadata one after the other.

    Parameters
    ----------
    max_bytes : int
        Most bytes of all together, not packed: they have to fit on the bus.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # By digest, as the same array may be given under several keys.
        self._lanes: dict[str, str] = {}
        self._raw_bytes: dict[str, int] = {}
        self._packed: dict[str, bytes] = {}

    def reference(self, key: str, array: npt.NDArray[Any]) -> dict[str, Any] | None:
        """Return what stands in a document in place of an array.

        Parameters
        ----------
        key : str
            Under which it is given; people find it again in the name of its file.
        array : numpy.ndarray
            Of a type of the protocol; not kept.

        Returns
        -------
        dict or None
            None if the scan has as many as it may: this one has to stand in a document.

        Raises
        ------
        DeclarationError
            If it does not fit an entry, or all together do not fit on the bus.
        """
        if array.nbytes > MAX_ENTRY_BYTES:
            reason = f"{key}: {array.nbytes} bytes, the limit is {MAX_ENTRY_BYTES}"
            raise DeclarationError("metadata", reason)
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        what = f"{plain.dtype.name} {plain.shape}"
        digest = f"{checksum_of(what.encode(), plain.data):016x}"
        if digest not in self._lanes and not self._add(key, digest, plain):
            return None
        return {
            "array": {
                "dtype": plain.dtype.name,
                "shape": list(plain.shape),
                "codec": _CODEC,
                "lane": self._lanes[digest],
            }
        }

    def _add(self, key: str, digest: str, plain: npt.NDArray[Any]) -> bool:
        together = sum(self._raw_bytes.values()) + plain.nbytes
        if together > self._max_bytes:
            reason = (
                f"{key}: arrays of {together} bytes; a scan may have "
                f"{self._max_bytes} bytes of them on this bus"
            )
            raise DeclarationError("metadata", reason)
        if len(self._lanes) == MAX_STATIC_LANES:
            return False
        stem = nexus_name(key.replace(".", "_"))[:_STEM_LENGTH]
        lane = f"{STATIC_PREFIX}{stem}_{digest}"
        self._packed[lane] = bytes(find_codec(_CODEC).encode(plain))
        self._raw_bytes[digest] = plain.nbytes
        self._lanes[digest] = lane
        return True

    @contextmanager
    def whole_or_none(self) -> Iterator[None]:
        """Forget the arrays of a block that raises: no document refers to them."""
        before = len(self._lanes)
        try:
            yield
        except BaseException:
            for digest in list(self._lanes)[before:]:
                del self._raw_bytes[digest]
                self._packed.pop(self._lanes.pop(digest), None)
            raise

    @property
    def room_bytes(self) -> int:
        """Room on the bus for those that are not sent yet, in bytes.

        Twice their size, as open segments may take half of what a scan reserves.
        """
        packed = self._packed.values()
        return 2 * sum(len(each) + ENTRY_OVERHEAD_BYTES for each in packed)

    def unsent(self, events: Iterable[Event]) -> PackedArrays:
        """Return the arrays to which events refer first."""
        found: dict[str, tuple[LaneDescription, bytes]] = {}
        for event in events:
            for lane in static_lanes(getattr(event, "metadata", {})):
                packed = self._packed.get(lane.name)
                if packed is not None:
                    found[lane.name] = lane, packed
        return found

    def note_queued(self, names: Iterable[str]) -> None:
        """Forget the bytes of arrays that are queued to be sent."""
        for name in names:
            self._packed.pop(name, None)
