"""Fields of a device that several of its channels say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scanbus.publisher.declare.declarations import ChannelDeclarations


class Declarations(ChannelDeclarations):
    """Channels without a scan, and the fields of their devices."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, Any] = {}

    def update(self, metadata: Mapping[str, Any]) -> None:
        for device, fields in metadata["instrument"].items():
            assert device == "eiger"
            for key, value in fields.items():
                assert self.fields.setdefault(key, value) is value

    def _check_may_declare(self, name: str) -> None:
        pass


def declare(name: str, to: Declarations, **nexus: Any) -> None:
    shape = (2, 2)
    to.detector(name, shape=shape, dtype="uint8", device="eiger", nexus=nexus)


def test_each_threshold_keeps_its_mask() -> None:
    scan = Declarations()
    one, two = np.zeros((2, 2)), np.ones((2, 2))
    declare("low", scan, pixel_mask=one, gain=1)
    declare("high", scan, pixel_mask=two, gain=1)
    declare("top", scan, **{"pixel_mask": two, "pixel_mask@by": "me"})
    assert scan.fields == {
        "pixel_mask": one,
        "gain": 1,
        "high_pixel_mask": two,
        "top_pixel_mask": two,
        "top_pixel_mask@by": "me",
    }
