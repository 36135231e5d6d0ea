"""Dates in headers of images, as metadata and as seconds. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["is_date", "moment", "seconds_of"]

# From 1970 to 2262: what is outside is no date of an image, and nanoseconds since 1970
# would not fit 64 bits.
_END_S = 2**63 / 1e9


def is_date(seconds: float) -> bool:
    """Whether something may have been measured then, in seconds since 1970."""
    return 0 < seconds < _END_S


def moment(name: str, date: str) -> dict[str, str]:
    """Return a date as metadata, in ISO 8601; without its time zone if it has none.

    Examples
    --------
    >>> moment("start_time", "2021-06-17T13:51:36.5"), moment("start_time", "")
    ({'start_time': '2021-06-17T13:51:36.500000'}, {})
    >>> moment("end_time", "1568200828.5"), moment("end_time", "2021-13-01T00:00:00")
    ({'end_time': '2019-09-11T11:20:28.500000+00:00'}, {})
    """
    seconds = seconds_of(date)
    if seconds is not None:
        return {name: datetime.fromtimestamp(seconds, UTC).isoformat()}
    try:
        found = datetime.fromisoformat(date)
    except ValueError:
        return {}
    is_local = found.tzinfo is None and is_date(found.replace(tzinfo=UTC).timestamp())
    return {name: found.isoformat()} if is_local else {}


def seconds_of(date: str) -> float | None:
    """Return a date as seconds since 1970.

    None if it is invalid, has no time zone, or is not from 1970 to 2262.

    Examples
    --------
    >>> seconds_of("2021-06-17T13:51:36+02:00"), seconds_of("1568200828.989")
    (1623930696.0, 1568200828.989)
    >>> seconds_of("2021-06-17T13:51:36.874") is None  # of which time zone?
    True
    """
    try:
        seconds = float(date)
    except ValueError:
        try:
            moment = datetime.fromisoformat(date)
        except ValueError:
            return None
        if moment.tzinfo is None:
            return None
        seconds = moment.timestamp()
    return seconds if is_date(seconds) else None
