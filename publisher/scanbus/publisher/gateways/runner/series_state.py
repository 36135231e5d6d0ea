"""What a gateway keeps of the series on the way, for its successor if it is killed.

It is a few hundred bytes of JSON, which stand on the bus before the scan is announced
and until it has ended. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from scanbus.publisher.gateways.runner.messages import FrameData, SeriesStarted
from scanbus.schemas import EndReason

__all__ = ["SeriesState"]

_TYPES: Mapping[str, type] = {"int": int, "float": float, "str": str}


@dataclass(slots=True)
class SeriesState:
    """A series on the way.

    Attributes
    ----------
    uid : str
        Uid of its scan.
    series, key, n_frames
        As its start said; see `SeriesStarted`.
    is_from_start : bool
        Whether its start was received.
    first_number : int or None
        Number of its first frame; None while that is not known.
    came_first : int or None
        Number of the frame that came first, if `first_number` is concluded from it.
    channels : dict
        Channel of the detector to shape, type and codec of its frames, and whether
        these came packed.
    values : dict
        Value of each frame to the name of its type.
    slow : dict
        Slow channel to whether its values are text.
    lost : list of tuple
        What was lost when the gateway was killed: channel of the scan, number of the
        first frame that it lacks, and of the first one that came since.
    end : tuple or None
        Reason and text with which it ends: that may not be on the bus yet.
    """

    uid: str
    series: str
    key: str = ""
    n_frames: int | None = None
    is_from_start: bool = True
    first_number: int | None = None
    came_first: int | None = None
    channels: dict[str, dict[str, Any]] = field(default_factory=dict[str, Any])
    values: dict[str, str] = field(default_factory=dict[str, str])
    slow: dict[str, bool] = field(default_factory=dict[str, bool])
    lost: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])
    end: tuple[EndReason, str] | None = None

    @classmethod
    def of(
        cls, uid: str, started: SeriesStarted, *, is_from_start: bool
    ) -> SeriesState:
        """Return the state of a series that begins."""
        return cls(
            uid,
            started.series,
            started.key,
            started.n_frames,
            is_from_start,
            started.first_number,
            slow={each.name: each.is_text for each in started.slow},
        )

    @property
    def started(self) -> SeriesStarted:
        """What is still known of its start."""
        return SeriesStarted(self.series, self.key, self.n_frames)

    def note_channels(
        self, channels: Mapping[str, FrameData], values: Mapping[str, type]
    ) -> None:
        """Note what the first frame has fixed."""
        self.channels = {
            name: {
                "shape": list(data.shape),
                "dtype": data.dtype.str,
                "codec": data.codec,
            }
            for name, data in channels.items()
        }
        self.values = {name: kind.__name__ for name, kind in values.items()}

    def first_frame(self) -> dict[str, FrameData]:
        """Return the channels of the first frame, without its pixels."""
        return {
            name: FrameData(
                b"", each["codec"], tuple(each["shape"]), np.dtype(each["dtype"])
            )
            for name, each in self.channels.items()
        }

    def value_types(self) -> dict[str, type]:
        """Return the type of each value of the first frame."""
        return {name: _TYPES[kind] for name, kind in self.values.items()}

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Any) -> SeriesState | None:
        """Return a state that was kept; None if it is none, or of another version.

        Examples
        --------
        >>> state = SeriesState("uid", "7", n_frames=100)
        >>> SeriesState.from_json(state.to_json()) == state, SeriesState.from_json({})
        (True, None)
        """
        try:
            state = cls(**found)
            state.lost = [
                (str(channel), int(first), int(stop))
                for channel, first, stop in state.lost
            ]
            if state.end is not None:
                state.end = EndReason(state.end[0]), str(state.end[1])
            state.first_frame()
            state.value_types()
        except (TypeError, ValueError, KeyError, AttributeError):
            return None
        return state if state.uid else None
