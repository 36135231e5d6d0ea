"""Masked arrays: what is masked was not measured, so its value must not be stored.

A point of which every element is masked is missing, like one that is skipped. Of any
other, masked elements get the channel's fill value. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.schemas import ChannelDescription

__all__ = ["is_masked", "masked_points", "runs_of"]

_Points = npt.NDArray[Any]


def is_masked(values: Any) -> bool:
    """Return whether values are a masked array, or a list with some in it."""
    if type(values) in {list, tuple}:
        # The types first: a list of numbers is looked through at the speed of C.
        kinds = set(map(type, values))
        return any(issubclass(kind, np.ma.MaskedArray) for kind in kinds) or (
            bool(kinds & {list, tuple}) and any(map(is_masked, values))
        )
    return isinstance(values, np.ma.MaskedArray)


def masked_points(
    channel: ChannelDescription,
    values: Any,
    convert: Callable[[ChannelDescription, _Points], Any],
) -> tuple[_Points, npt.NDArray[np.bool_]]:
    """Return points with fill values, ``(n, *shape)``, and which of them are missing.

    Parameters
    ----------
    convert : callable
        Checks an array without a mask and returns it as points of the channel.

    Raises
    ------
    ValueError
        If the channel is variable, or `convert` raises it.
    """
    if channel.is_variable:
        raise ValueError(
            f"{channel.name}: masked values are taken only for points of fixed shape; "
            "leave them out"
        )
    masked = _as_array(channel, values)
    mask = np.ma.getmaskarray(masked)
    # What is masked may be anything, so it must not be checked.
    plain = np.where(mask, np.zeros((), masked.dtype), np.ma.getdata(masked))
    points = np.array(convert(channel, plain), channel.numpy_dtype)
    hidden = mask.reshape(points.shape)
    points[hidden] = channel.missing_value
    return points, np.asarray(hidden.reshape(len(points), -1).all(axis=1))


def runs_of(missing: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int, bool]]:
    """Yield start, stop and value of the runs of equal values.

    Examples
    --------
    >>> list(runs_of(np.array([False, False, True])))
    [(0, 2, False), (2, 3, True)]
    """
    edges = [0, *(np.flatnonzero(np.diff(missing)) + 1).tolist(), len(missing)]
    for start, stop in pairwise(edges):
        if start < stop:
            yield start, stop, bool(missing[start])


def _as_array(channel: ChannelDescription, values: Any) -> np.ma.MaskedArray[Any, Any]:
    zeros = np.zeros(channel.shape, channel.numpy_dtype)
    nothing = np.ma.array(zeros, mask=np.ones(channel.shape, bool))
    if values is np.ma.masked:
        return nothing
    if isinstance(values, np.ma.MaskedArray):
        masked: np.ma.MaskedArray[Any, Any] = values
        return masked
    if any(type(one) in {list, tuple} and is_masked(one) for one in values):
        raise ValueError(
            f"{channel.name}: masked values in nested lists; use numpy.ma.array"
        )
    parts = [nothing if one is np.ma.masked else np.ma.asarray(one) for one in values]
    try:
        stacked: np.ma.MaskedArray[Any, Any] = np.ma.stack(parts)
    except ValueError as error:
        raise ValueError(f"{channel.name}: {error}") from error
    return stacked
