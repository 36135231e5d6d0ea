"""Dates in headers of images, as metadata and as seconds. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["moment", "seconds_of"]


def moment(name: str, date: str) -> dict[str, str]:
    """Return a date as metadata, in ISO 8601; without its time zone if it has none.

    Examples
    --------
    >>> moment("start_time", "2021-06-17T13:51:36.5"), moment("start_time", "")
    ({'start_time': '2021-06-17T13:51:36.500000'}, {})
    >>> moment("end_time", "1568200828.5")
    {'end_time': '2019-09-11T11:20:28.500000+00:00'}
    """
    seconds = seconds_of(date)
    if seconds is not None:
        return {name: datetime.fromtimestamp(seconds, UTC).isoformat()}
    try:
        return {name: datetime.fromisoformat(date).isoformat()}
    except ValueError:
        return {}


def seconds_of(date: str) -> float | None:
    """Return a date as seconds since 1970; None if it is invalid or has no time zone.

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
        return moment.timestamp() if moment.tzinfo else None
    return seconds if 0 < seconds < 1e11 else None
