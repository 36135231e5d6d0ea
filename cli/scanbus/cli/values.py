"""Format the values of a batch as text or JSON. Pure; only this module needs numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scanbus.cli.output import printable

if TYPE_CHECKING:
    from scanbus.subscriber import Batch

__all__ = ["batch_as_dict", "batch_as_line", "short_values"]

# Most values of a line, and most characters of a string: they fit a terminal.
SHOWN_VALUES = 8
SHOWN_TEXT = 40


def batch_as_line(batch: Batch) -> str:
    """Return one batch as a line of text: channel, points, shortened values."""
    last = batch.stop - 1
    points = str(last) if last == batch.start else f"{batch.start}-{last}"
    n_missing = sum(stop - start for start, stop in batch.missing)
    note = f"  ({n_missing} missing; {batch.reason})" if n_missing else ""
    return f"{batch.channel} [{points}] {short_values(batch.values)}{note}"


def batch_as_dict(batch: Batch) -> dict[str, Any]:
    """Return one batch for JSON: its values, or a summary of arrays per point."""
    found: dict[str, Any] = {
        "channel": batch.channel,
        "start": batch.start,
        "stop": batch.stop,
        "times": [None if np.isnan(one) else one for one in batch.times.tolist()],
        "missing": [list(each) for each in batch.missing],
        "reason": batch.reason,
    }
    values = batch.values
    if isinstance(values, np.ndarray) and values.ndim > 1:
        found["summary"] = _summary(values)
    else:
        found["values"] = [_plain(value) for value in values]
    return found


def _plain(value: Any) -> Any:
    """Return a numpy value as a plain Python value."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def short_values(values: Any) -> str:
    """Return the values of a batch as short text.

    Examples
    --------
    >>> short_values(np.array([1.0, 2.5]))
    '1 2.5'
    >>> short_values(np.array([[1, 2], [3, 6]]))
    'min 1 max 6 mean 3 shape (2, 2)'
    """
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return " ".join(f"{name} {value}" for name, value in _shown_summary(values))
    texts = [_short(value) for value in values[:SHOWN_VALUES]]
    n_more = len(values) - len(texts)
    return " ".join(texts) + (f" … {n_more} more" if n_more else "")


def _short(value: Any) -> str:
    if isinstance(value, str):
        cut = value if len(value) <= SHOWN_TEXT else value[:SHOWN_TEXT] + "…"
        return repr(printable(cut))
    if isinstance(value, np.ndarray):
        return f"({short_values(value)})" if len(value) else "()"
    return _number(value)


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


def _shown_summary(values: np.ndarray[Any, Any]) -> list[tuple[str, str]]:
    summary = _summary(values)
    shown = [(name, _number(summary[name])) for name in ("min", "max", "mean")]
    shown[2] = ("mean", f"{summary['mean']:.4g}")
    return [*shown, ("shape", str(tuple(summary["shape"])))]


def _summary(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    if values.dtype.kind == "c":
        values = np.abs(values)
    # A mean of bool or of uint8 must not be computed in its own type.
    mean = float(values.mean(dtype=np.float64))
    return {
        "min": _plain(values.min()),
        "max": _plain(values.max()),
        "mean": mean,
        "shape": list(values.shape),
    }
