"""Series whose end was received: what still comes of them is refused."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["EndedSeries"]

_MAX_KEPT = 1000
# A successor should know of these, too.
_MAX_NOTED = 20


class EndedSeries:
    """Names of the last series that ended; empty for frames that name no series.

    Parameters
    ----------
    names : iterable of str
        Those that a gateway before this one noted.

    Examples
    --------
    >>> ended = EndedSeries(["1"])
    >>> ended.add("2")
    >>> ended.forget("1")
    >>> "1" in ended, "2" in ended, ended.newest()
    (False, True, ['2'])
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = dict.fromkeys(names)

    def __contains__(self, series: str) -> bool:
        """Whether a series has ended."""
        return series in self._names

    def add(self, series: str) -> None:
        """Note that a series has ended."""
        self._names[series] = None
        if len(self._names) > _MAX_KEPT:
            del self._names[next(iter(self._names))]

    def forget(self, *series: str) -> None:
        """Take frames of series again."""
        for name in series:
            self._names.pop(name, None)

    def newest(self) -> list[str]:
        """Return those that are kept for a successor."""
        return list(self._names)[-_MAX_NOTED:]
