"""Containers that never end, as of a device whose answer is made while it is read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

__all__ = ["Endless", "EndlessList", "EndlessSet", "Onion"]


class Endless(Mapping[Any, Any]):
    """A mapping whose iterator never ends."""

    def __getitem__(self, key: Any) -> Any:
        return key

    def __iter__(self) -> Iterator[Any]:
        return itertools.count()

    def __len__(self) -> int:
        return 1


class EndlessList(Sequence[Any]):
    """A sequence that always has one more item."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __getitem__(self, index: Any) -> Any:
        return self.item

    def __len__(self) -> int:
        return 1


class EndlessSet(Set[Any]):
    """A set whose iterator never ends."""

    def __contains__(self, item: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return itertools.count()

    def __len__(self) -> int:
        return 1


class Onion(Mapping[str, Any]):
    """A mapping with new mappings of its kind inside, for ever."""

    def __getitem__(self, key: str) -> Any:
        return Onion()

    def __iter__(self) -> Iterator[str]:
        return iter("abc")

    def __len__(self) -> int:
        return 3
