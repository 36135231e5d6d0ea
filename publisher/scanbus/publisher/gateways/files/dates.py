"""Dates in headers of images, as metadata and as seconds. Pure.

Most headers have the time of a clock on a wall somewhere, without its time zone. Such a
date means one moment only if somebody says the zone; nobody else's is guessed.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from scanbus.publisher.gateways.files.headers import HeaderFacts
from scanbus.schemas.errors import ConfigurationError

__all__ = [
    "end_of",
    "is_date",
    "is_without_zone",
    "moment",
    "moment_of",
    "seconds_of",
    "start_of",
    "zone_of",
]

# From 1970 to 2262: what is outside is no date of an image, and nanoseconds since 1970
# would not fit 64 bits.
_END_S: Final = 2**63 / 1e9
# A number below this (1979) is not a date but a duration.
_LEAST_SECONDS: Final = 3e8
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})")
# Fractions of any length: nanoseconds are cut to the microseconds of Python.
_FRACTION = re.compile(r"(:\d{2}\.\d{6})\d+")
_FORMATS: Final = (
    "%Y-%b-%d %H:%M:%S.%f",  # CBF: 2019-Sep-11 13:20:28.989
    "%Y-%b-%d %H:%M:%S",
    "%Y/%b/%d %H:%M:%S.%f",  # the first PILATUS
    "%Y/%b/%d %H:%M:%S",
    "%Y/%m/%d %H:%M:%S.%f",
    "%Y/%m/%d %H:%M:%S",
    "%Y:%m:%d %H:%M:%S",  # TIFF
    "%a %b %d %H:%M:%S %Y",  # ctime: SPEC, SMV, mar345, EDF
    "%a %b %d %H:%M:%S.%f %Y",
    "%d-%b-%Y %H:%M:%S",  # d*TREK
    "%d %b %Y %H:%M:%S",
    "%b/%d/%y %H:%M:%S",
    "%m/%d/%y %H:%M:%S",  # Bruker
    "%m/%d/%Y %H:%M:%S",
    "%m%d%H%M%Y.%S",  # MarCCD: 091113202019.28
)
_UTC_NAMES = re.compile(r"\s*\b(UTC|GMT|Z)\b\s*")
# As in ISO 8601, of a date that else is none.
_T = re.compile(r"(?<=\d)T(?=\d)")


def is_date(seconds: float) -> bool:
    """Whether something may have been measured then, in seconds since 1970."""
    return 0 < seconds < _END_S


def zone_of(text: str) -> tzinfo:
    """Return a time zone by its name or offset.

    Raises
    ------
    ConfigurationError
        If there is none of that name, or this computer does not know it.

    Examples
    --------
    >>> zone_of("Europe/Paris"), zone_of("UTC"), str(zone_of("-05:30"))
    (zoneinfo.ZoneInfo(key='Europe/Paris'), datetime.timezone.utc, 'UTC-05:30')
    """
    if text.upper() in {"UTC", "Z"}:
        return UTC
    offset = _OFFSET.fullmatch(text)
    if offset and int(offset[2]) < 24 and int(offset[3]) < 60:
        minutes = int(offset[2]) * 60 + int(offset[3])
        sign = -1 if offset[1] == "-" else 1
        return timezone(sign * timedelta(minutes=minutes))
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(
            "time_zone",
            f"{text!r} is not known: give a name such as Europe/Paris (the system "
            "package tzdata has them), or an offset such as +02:00",
        ) from error


def moment_of(date: str, zone: tzinfo | None = None) -> datetime | None:
    """Return a date, without a zone if nobody says which.

    None if it is none, or is not from 1970 to 2262.

    Parameters
    ----------
    date : str
        As the header has it: ISO 8601, seconds since 1970, ctime, and others.
    zone : tzinfo, optional
        That of a date without one.

    Examples
    --------
    >>> moment_of("2019-09-11T13:20:28.989").isoformat()
    '2019-09-11T13:20:28.989000'
    >>> moment_of("Wed Sep 11 13:20:28 2019", zone_of("+02:00")).isoformat()
    '2019-09-11T13:20:28+02:00'
    >>> moment_of("0.5"), moment_of("yesterday")
    (None, None)
    >>> moment_of("2021-13-01T00:00:00"), moment_of("1904-01-01T00:00:00")
    (None, None)
    """
    found = _parsed(date)
    if found is None or not _may_be(found):
        return None
    if found.tzinfo is not None:
        return found
    return found.replace(tzinfo=zone)


def _may_be(found: datetime) -> bool:
    zone = found.tzinfo or UTC
    return is_date(found.replace(tzinfo=zone).timestamp())


def _parsed(date: str) -> datetime | None:
    text = _FRACTION.sub(r"\1", " ".join(date.split()))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if _LEAST_SECONDS <= seconds < _END_S and not _is_compact(text):
        return datetime.fromtimestamp(seconds, UTC)
    try:
        return datetime.fromisoformat(text) if not text.isdecimal() else None
    except ValueError:
        pass
    is_utc = bool(_UTC_NAMES.search(text))
    plain = _T.sub(" ", _UTC_NAMES.sub(" ", text)).strip()
    for form in _FORMATS:
        try:
            found = datetime.strptime(plain, form)  # noqa: DTZ007 - the zone follows
        except ValueError:
            continue
        return found.replace(tzinfo=UTC) if is_utc else found
    return None


def _is_compact(text: str) -> bool:
    """Whether digits are those of MarCCD's date, of which there are twelve."""
    return len(text.partition(".")[0]) == 12


def start_of(facts: HeaderFacts, zone: tzinfo | None = None) -> datetime | None:
    """Return when a frame began."""
    found = moment_of(facts.date, zone)
    return None if found is None else _later(found, facts.starts_after_s)


def end_of(facts: HeaderFacts, zone: tzinfo | None = None) -> datetime | None:
    """Return when a frame, the last one of its file, ended.

    As far as its header says that, or how long it took.
    """
    ended = moment_of(facts.end_date, zone)
    if ended is not None:
        return ended
    found = start_of(facts, zone)
    return None if found is None else _later(found, facts.ends_after_s)


def _later(found: datetime, seconds: float) -> datetime:
    try:
        later = found + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return found  # No frame lasts for ages: the header is wrong.
    return later if _may_be(later) else found


def moment(name: str, found: datetime | None) -> dict[str, str]:
    """Return a moment as metadata, in ISO 8601; without its time zone if it has none.

    Examples
    --------
    >>> moment("start_time", moment_of("2021-06-17T13:51:36.5")), moment("a", None)
    ({'start_time': '2021-06-17T13:51:36.500000'}, {})
    """
    return {} if found is None else {name: found.isoformat()}


def seconds_of(found: datetime | None) -> float | None:
    """Return a moment as seconds since 1970; None if it has no time zone.

    Examples
    --------
    >>> seconds_of(moment_of("2021-06-17T13:51:36+02:00"))
    1623930696.0
    >>> seconds_of(moment_of("1568200828.989"))
    1568200828.989
    >>> seconds_of(moment_of("2021-06-17T13:51:36.874")) is None  # of which zone?
    True
    """
    return None if found is None or found.tzinfo is None else found.timestamp()


def is_without_zone(found: datetime | None) -> bool:
    """Whether a date is known, and its time zone is not."""
    return found is not None and found.tzinfo is None
