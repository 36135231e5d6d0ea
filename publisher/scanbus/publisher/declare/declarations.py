"""The channels of a scan, as a program declares them one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from scanbus.publisher.declare.arguments import declare_channel, declare_detector
from scanbus.publisher.declare.channel_names import named_channels
from scanbus.publisher.declare.lane_plan import Declared
from scanbus.schemas import NexusHints, Role, Stamp
from scanbus.schemas.errors import UnknownChannelError

__all__ = ["ChannelDeclarations"]


class ChannelDeclarations(ABC):
    """The channels that a scan declares until its first send; see ``Scan``."""

    def __init__(self) -> None:
        self._declared: dict[str, Declared] = {}
        self._fields: dict[str, dict[str, Any]] = {}

    def channel(
        self,
        name: str,
        *,
        units: str = "",
        role: Role | str = Role.COUNTER,
        dtype: Any = "float64",
        shape: tuple[int, ...] = (),
        group: str | None = None,
        device: str | None = None,
        points: int | None = None,
        codec: str = "none",
        max_point_bytes: int | None = None,
        fill_value: float | None = None,
        display_name: str = "",
        nexus: NexusHints | Mapping[str, Any] | None = None,
        stamp: Stamp | str | None = None,
    ) -> None:
        """Declare a channel of small values: a counter, axis, spectrum or string.

        Parameters
        ----------
        name : str
            Any text, unique in the scan. One that is no NeXus name gets another in
            files, beside which it stands as ``original_name``.
        units : str
            Units in the form that NeXus defines.
        role : {"axis", "counter", "timer", "spectrum"}
            Role of the channel in the scan.
        dtype : str or numpy.dtype
            numpy's name of the type, or ``"string"``.
        shape : tuple of int
            Shape of one point; ``(-1,)`` if the length differs from point to point.
        group : str, optional
            Channels of one group advance together and share entries; by default a
            channel is a group of its own.
        device : str, optional
            Device that produces it, by default `name`.
        points : int, optional
            Expected number of points.
        codec : str
            Codec of the blocks.
        max_point_bytes : int, optional
            Most bytes of one point; required for strings and ragged channels.
        fill_value : int or float, optional
            Value of a missing point in the file.
        display_name : str
            Name for people, in user interfaces.
        nexus : NexusHints or mapping, optional
            Class, field and attributes in the NeXus file; by default from the role.
            What else a mapping has, e.g. a mask, are fields of the device's group.
        stamp : Stamp or str, optional
            What it says of the points of the other channels of `device`: "pulse_id",
            "trigger_id", "frame_number", "detector_time", "arrival_time" or
            "publish_time". Readers join channels by such numbers.

        Raises
        ------
        ScanStateError
            After the first send.
        ValueError
            If the description is inconsistent, or the channel was declared before.
        UnknownCodecError
            If there is no such codec.
        """
        self._declare(
            declare_channel(
                name,
                units=units,
                role=role,
                dtype=dtype,
                shape=shape,
                group=group,
                device=device,
                points=points,
                codec=codec,
                max_point_bytes=max_point_bytes,
                fill_value=fill_value,
                display_name=display_name,
                nexus=nexus,
                stamp=stamp,
            )
        )

    def detector(
        self,
        name: str,
        *,
        shape: tuple[int, ...],
        dtype: Any,
        codec: str = "bitshuffle-lz4",
        points: int | None = None,
        points_per_chunk: int | None = None,
        device: str | None = None,
        units: str = "",
        fill_value: float | None = None,
        display_name: str = "",
        nexus: NexusHints | Mapping[str, Any] | None = None,
    ) -> None:
        """Declare a detector: it has its own lane and data files.

        Parameters
        ----------
        shape : tuple of int
            Shape of one frame: ``(i, j)``; of several thresholds or any stack
            ``(n, i, j)``; of colours ``(i, j, 3)``; at most five axes. With
            ``nexus={"axes": ("threshold_energy", "y", "x"), "threshold_energy": [6e3,
            12e3]}`` the axes have names and values.
        points_per_chunk : int, optional
            Frames of one HDF5 chunk; by default one, or about 1 MiB of small frames,
            which XDS cannot read: of a scan with the layout ``nxmx`` always one.

        Other parameters are those of `channel`.

        Raises
        ------
        ScanStateError
            After the first send.
        ValueError
            If the description is inconsistent, or the channel was declared before.
        UnknownCodecError
            If there is no such codec.
        """
        self._declare(
            declare_detector(
                name,
                shape=shape,
                dtype=dtype,
                codec=codec,
                points=points,
                points_per_chunk=points_per_chunk,
                device=device,
                units=units,
                fill_value=fill_value,
                display_name=display_name,
                nexus=nexus,
            )
        )

    def _declare(self, declared: Declared) -> None:
        name = declared.original.name
        self._check_may_declare(name)
        if not name:
            raise ValueError("the name of a channel is empty")
        if name in self._declared:
            raise ValueError(f"{name}: declared twice")
        device = declared.original.device
        fields = self._own_fields(declared)
        if fields:
            self.update({"instrument": {device: fields}})
        self._declared[name] = declared
        self._fields.setdefault(device, {}).update(fields)

    def _own_fields(self, declared: Declared) -> dict[str, Any]:
        """Return the fields of a device that a channel says, none in another's place.

        Each threshold of a detector may have a mask. The second one, if it is another,
        has the name of its channel before its own.
        """
        before = self._fields.get(declared.original.device, {})
        found: dict[str, Any] = {}
        for key, value in declared.fields.items():
            field, at, attribute = str(key).partition("@")
            is_other = any(
                not _is_same(before.get(one), declared.fields.get(one))
                for one in before
                if str(one).partition("@")[0] == field and one in declared.fields
            )
            name = f"{declared.original.name}_{field}{at}{attribute}"
            found[name if is_other else key] = value
        return found

    @abstractmethod
    def update(self, metadata: Mapping[str, Any]) -> None:
        """Add metadata of the scan."""

    @abstractmethod
    def _check_may_declare(self, name: str) -> None:
        """Raise ScanStateError if channels are fixed."""

    def _check_declared(self, name: str) -> None:
        if name not in self._declared:
            raise UnknownChannelError(name, tuple(self._declared))

    def _fixed(self) -> tuple[Declared, ...]:
        return named_channels(tuple(self._declared.values()))


def _is_same(value: Any, other: Any) -> bool:
    """Whether two values of metadata, of any type, are surely equal."""
    try:
        return value is other or bool(np.array_equal(value, other))
    except Exception:  # noqa: BLE001 - values of the program
        return False
