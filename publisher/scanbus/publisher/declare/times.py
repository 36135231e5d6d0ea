"""Times that a program gives for points, as float64 seconds since 1970 UTC.

A float64 is kept bit by bit. Of a datetime, the float64 nearest to its exact number of
seconds is taken. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import Times, evenly_spaced

__all__ = ["GivenTime", "GivenTimes", "times_of"]

GivenTime: TypeAlias = "float | np.floating[Any] | datetime | np.datetime64"
"""When a point was taken: seconds since 1970 UTC, or a moment."""
GivenTimes: TypeAlias = "GivenTime | Sequence[GivenTime] | npt.NDArray[Any] | None"
"""One time for all points, the first and the last of evenly spaced ones, or one each.

None stands for now.
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Fractions of a second of numpy's units of time; all others are whole seconds.
_PARTS = {"ms": 10**3, "us": 10**6, "ns": 10**9, "ps": 10**12, "fs": 10**15}


def times_of(name: str, given: GivenTimes, count: int) -> Times | None:
    """Return one time for each of `count` points; None if none were given.

    Parameters
    ----------
    name : str
        The channel, for error messages.
    given : number, datetime, numpy.datetime64, or sequence of them
        One time: all points have it. Two: the first and the last of evenly spaced
        points. Else one for each. A datetime has a time zone; numpy's are UTC. NaN, NaT
        and masked times are not known.

    Raises
    ------
    ValueError
        If they are not 1, 2 or `count`, or one cannot be a float64 without loss, is
        infinite, a datetime without time zone, or no time.

    Examples
    --------
    >>> times_of("th", (0.0, 1.0), 3)
    array([0. , 0.5, 1. ])
    """
    if type(given) is float:
        times: Times = np.array([given])
    elif given is None:
        return None
    else:
        times = _seconds(name, given)
    if np.isinf(times).any():
        raise ValueError(f"{name}: a time is infinite; leave out time if none is known")
    if len(times) == count:
        return times
    if len(times) == 1:
        return np.full(count, times[0])
    if len(times) == 2 and count > 2:
        return evenly_spaced(float(times[0]), float(times[1]), count)
    raise ValueError(
        f"{name}: {len(times)} times for {count} points; give one time for all, the "
        "first and the last of evenly spaced points, or one for each point"
    )


def _seconds(name: str, given: Any) -> Times:
    """Return times as a new array, shape ``(n,)``."""
    if isinstance(given, date):
        return np.array([_of_datetime(name, given)])
    if isinstance(given, Sequence) and any(isinstance(one, date) for one in given):
        return np.concatenate([_seconds(name, one) for one in given])
    try:
        array = np.ma.atleast_1d(given) if np.ma.isMA(given) else np.atleast_1d(given)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{name}: times are not a list: {error}") from error
    if array.ndim != 1:
        raise ValueError(f"{name}: times have shape {array.shape} instead of (n,)")
    if array.dtype == object:
        return np.concatenate([np.empty(0), *(_of_object(name, one) for one in array)])
    seconds = _of_array(name, np.ma.getdata(array))
    seconds[np.ma.getmaskarray(array)] = np.nan
    return seconds


def _of_object(name: str, one: Any) -> Times:
    if isinstance(one, date | np.datetime64 | np.number | int | float):
        return _seconds(name, one)
    raise _no_time(name, type(one).__name__)


def _of_array(name: str, array: npt.NDArray[Any]) -> Times:
    if array.dtype.kind == "M":
        return _of_datetime64(array)
    if array.dtype.kind not in "iuf":
        raise _no_time(name, str(array.dtype))
    seconds: Times = array.astype(np.float64)
    # As integers: numpy would compare them as floats.
    is_lossy = (
        seconds.astype(object) != array.astype(object)
        if array.dtype.kind in "iu"
        else ~np.isnan(array) & (seconds != array)
    )
    if np.any(is_lossy):
        lost = array[is_lossy][0]
        raise ValueError(f"{name}: the time {lost} s loses digits as float64")
    return seconds


def _of_datetime(name: str, moment: date) -> float:
    if not isinstance(moment, datetime):
        raise _no_time(name, "date")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ValueError(
            f"{name}: the time {moment} has no time zone; use datetime.now(UTC), or "
            "moment.astimezone() if it is local time"
        )
    return (moment - _EPOCH).total_seconds()


def _of_datetime64(moments: npt.NDArray[Any]) -> Times:
    unit, _ = np.datetime_data(moments.dtype)
    parts = _PARTS.get(unit, 1)
    exact = moments.astype(f"M8[{unit if unit in _PARTS else 's'}]")
    # Division of integers rounds once; that of floats would round the dividend, too.
    seconds = [ticks / parts for ticks in exact.astype(np.int64).tolist()]
    return np.where(np.isnat(exact), np.nan, np.array(seconds, np.float64))


def _no_time(name: str, kind: str) -> ValueError:
    return ValueError(
        f"{name}: expected times in seconds since 1970, or datetimes, got {kind}"
    )
