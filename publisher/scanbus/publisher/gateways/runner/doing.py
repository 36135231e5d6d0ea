"""What a gateway does now, for people and for metrics. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Doing"]


@dataclass(frozen=True, slots=True)
class Doing:
    """What a gateway does, or waits for.

    Parameters
    ----------
    what : str
        One of a few phrases, so that metrics can count by it.
    about : str
        Of which frame or series.

    Examples
    --------
    >>> str(Doing("sending", "frame 3 of series 7")), str(Doing("starting"))
    ('sending frame 3 of series 7', 'starting')
    """

    what: str
    about: str = ""

    def __str__(self) -> str:
        """Return it as one phrase."""
        return f"{self.what} {self.about}".rstrip()
