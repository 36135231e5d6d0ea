"""Check values against their channel, and convert them to the type on the bus.

Small values may be converted if integers keep their digits and numbers stay finite;
frames must have the declared type. Returned arrays may be the program's own: a caller
that keeps them copies them, so that the program may reuse its arrays at once. Pure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scanbus.bus.protocol import Variable, pack_variable
from scanbus.schemas import ChannelDescription, FrameRun, parse_frame_url
from scanbus.schemas.frame_references import check_format, check_run

__all__ = ["frames_of", "number_of", "packed_frames_of", "points_of"]


def number_of(channel: ChannelDescription, value: Any) -> float | int | None:
    """Return one plain number for a scalar channel; None if `value` is none.

    Raises
    ------
    ValueError
        If an integer channel cannot hold it.
    """
    if isinstance(value, np.timedelta64):  # numpy has it among the integers
        return None
    kind = channel.numpy_dtype.kind
    if kind == "f" and isinstance(value, float | int | np.floating | np.integer):
        return _as_float(channel, value)
    if kind in "iu" and isinstance(value, int | np.integer):
        limits = np.iinfo(channel.dtype)
        if not limits.min <= value <= limits.max:
            raise ValueError(
                f"{channel.name}: expected {channel.dtype} "
                f"({limits.min} to {limits.max}), got {value}"
            )
        return int(value)
    return None


def _as_float(channel: ChannelDescription, value: Any) -> float:
    try:
        number = float(value)
        with np.errstate(over="ignore"):
            kept = channel.numpy_dtype.type(number)
    except OverflowError:  # an integer of hundreds of digits
        raise _not_kept(channel, f"an integer of {value.bit_length()} bits") from None
    if isinstance(value, int | np.integer):
        if not np.isfinite(kept) or int(kept) != value:
            raise _not_kept(channel, value)
    elif np.isinf(kept) and np.isfinite(value):
        raise _not_kept(channel, value)
    return number


def points_of(channel: ChannelDescription, values: Any) -> npt.NDArray[Any] | Variable:
    """Return one or many points of small values, ``(n, *shape)``; not always copied.

    Raises
    ------
    ValueError
        If shape or type do not fit; the message names what was expected and given.
    """
    if channel.is_variable:
        return pack_variable(channel, _variable_points(channel, values))
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{channel.name}: {error}") from error
    array = _many(channel, array)
    expected = channel.numpy_dtype
    if type(values) in {list, tuple}:
        _check_listed(channel, array, values)
    return array if array.dtype == expected else _converted(channel, array)


def frames_of(channel: ChannelDescription, values: Any) -> npt.NDArray[Any]:
    """Return one or many frames, ``(n, *shape)``; not copied.

    Raises
    ------
    ValueError
        If the shape differs, or the type is of another kind or would lose bits.
    """
    expected = channel.numpy_dtype
    # Fast path for one valid frame: small ones come ten thousand times a second.
    if (
        type(values) is np.ndarray
        and values.dtype == expected
        and values.shape == channel.shape
    ):
        return values[np.newaxis]
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{channel.name}: {error}") from error
    array = _many(channel, array)
    if array.dtype.kind != expected.kind or not np.can_cast(
        array.dtype, expected, "safe"
    ):
        raise _wrong_type(channel, array.dtype)
    return array


def packed_frames_of(channel: ChannelDescription, packed: Any) -> list[bytes]:
    """Return frames that the program has compressed itself, as immutable bytes.

    Raises
    ------
    ValueError
        If they cannot be frames of the channel's codec.
    """
    one = isinstance(packed, bytes | bytearray | memoryview)
    frames = [bytes(frame) for frame in ((packed,) if one else packed)]
    for frame in frames:
        if not frame or (channel.codec == "none" and len(frame) != channel.point_bytes):
            raise ValueError(
                f"{channel.name}: expected frames of {channel.shape} {channel.dtype} "
                f"compressed by {channel.codec}, got {len(frame)} bytes"
            )
    return frames


def _many(channel: ChannelDescription, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.shape == channel.shape:
        return array[np.newaxis]
    if array.ndim == len(channel.shape) + 1 and array.shape[1:] == channel.shape:
        return array
    many = ", ".join(["n", *map(str, channel.shape)])
    raise ValueError(
        f"{channel.name}: expected a point of shape {channel.shape}, or ({many}) for "
        f"many, got {array.shape}"
    )


def _converted(
    channel: ChannelDescription, array: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Return numbers as the channel's type; refuse those that it cannot hold."""
    expected = channel.numpy_dtype
    if array.dtype.kind in "iu" and expected.kind in "iu":
        _check_range(channel, array)
    elif not np.can_cast(array.dtype, expected, "same_kind"):
        raise _wrong_type(channel, array.dtype)
    with np.errstate(over="ignore"):  # float64 to float32; it is refused below
        found = np.array(array, expected, order="C", ndmin=1)
    if expected.kind in "fc" and array.dtype.kind in "fc":
        lost = np.isfinite(array) & ~np.isfinite(found)
    elif expected.kind in "fc" and array.dtype.kind in "iu":
        lost = _loses_digits(array, found)
    else:
        return found
    if lost.any():
        raise _not_kept(channel, array[lost].flat[0])
    return found


def _loses_digits(
    integers: npt.NDArray[Any], floats: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    exact = 2 ** (np.finfo(floats.dtype).nmant + 1)
    lost: npt.NDArray[np.bool_] = (integers > exact) | (integers < -exact)
    # Larger ones may be exact, too; Python compares integers and floats exactly.
    pairs = zip(integers[lost].tolist(), np.real(floats[lost]).tolist(), strict=True)
    lost[lost] = [integer != number for integer, number in pairs]
    return lost


def _check_listed(
    channel: ChannelDescription, array: npt.NDArray[Any], values: Any
) -> None:
    """Refuse integers that numpy made lossy floats, as other items are floats."""
    if array.dtype.kind != "f" or not (np.abs(array) >= 2**53).any():
        return
    for one in values:
        if type(one) in {list, tuple}:
            _check_listed(channel, np.asarray(one), one)
        elif isinstance(one, int | np.integer) and float(one) != int(one):
            raise _not_kept(channel, one)


def _check_range(channel: ChannelDescription, array: npt.NDArray[Any]) -> None:
    if np.can_cast(array.dtype, channel.numpy_dtype, "safe") or not array.size:
        return
    limits = np.iinfo(channel.dtype)
    low, high = int(array.min()), int(array.max())
    if low < limits.min or high > limits.max:
        raise ValueError(
            f"{channel.name}: expected {channel.dtype} ({limits.min} to {limits.max}), "
            f"got values from {low} to {high}"
        )


def _not_kept(channel: ChannelDescription, value: object) -> ValueError:
    wide = "int64, uint64 or a text" if isinstance(value, int | np.integer) else "wider"
    return ValueError(
        f"{channel.name}: {channel.dtype} cannot hold {value}; declare another dtype "
        f"({wide})"
    )


def _wrong_type(channel: ChannelDescription, got: np.dtype[Any]) -> ValueError:
    return ValueError(f"{channel.name}: expected {channel.dtype}, got {got}")


def _variable_points(channel: ChannelDescription, values: Any) -> list[Any]:
    """Return the points as a list, also for one string or one array."""
    if channel.is_string:
        texts = [values] if isinstance(values, str) else _listed(channel, values)
        if channel.is_reference:
            _check_references(channel, texts)
        return texts
    if isinstance(values, np.ndarray):
        if values.ndim == 1 and values.dtype != object:
            return [_series(channel, values)]
    elif len(_listed(channel, values)) and np.isscalar(values[0]):
        return [_series(channel, values)]
    return [_series(channel, point) for point in _listed(channel, values)]


def _check_references(channel: ChannelDescription, urls: list[Any]) -> None:
    """Refuse what is no URL of a frame: threads that send it cannot."""
    for url in urls:
        try:
            file, path, frame = parse_frame_url(url)
            check_run(FrameRun(file, path, frame, 1))
            check_format(file, path)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{channel.name}: {error}; send it by reference()"
            ) from None
        if not file:
            raise ValueError(f"{channel.name}: no frame; skip() it")


def _listed(channel: ChannelDescription, values: Any) -> list[Any]:
    if isinstance(values, list | tuple):
        return list(values)
    if isinstance(values, np.ndarray) and values.ndim:
        return list(values)
    kind = "texts" if channel.is_string else "one-dimensional arrays"
    raise ValueError(
        f"{channel.name}: expected {kind} or a list of them, "
        f"got {type(values).__name__}"
    )


def _series(channel: ChannelDescription, point: Any) -> npt.NDArray[Any]:
    array = np.asarray(point)
    if not array.size:
        return np.empty(0, channel.numpy_dtype)
    if type(point) in {list, tuple}:
        _check_listed(channel, array, point)
    return _converted(channel, array)
