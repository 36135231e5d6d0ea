"""How the axes of a scan moved: which of them, along a line, or over a grid.

Found in the positions themselves, since no event tells. Plots depend on it: a mesh is
an image, two motors that move together make a curve, others points in a plane. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.writer.model.nexus_tree import Array

__all__ = ["Mesh", "Positions", "Trajectory", "find_trajectory"]

Positions: TypeAlias = npt.NDArray[np.float64]
"""Positions of an axis, shape ``(n_points,)``."""

# Of positions in a mesh, in steps of it: continuous scans and encoders are not exact.
_TOLERANCE: Final = 0.4
_LEAST_POINTS: Final = 4
# Rank correlation above which two axes move along one line; motors and their encoders
# do so, but for noise.
_ON_A_LINE: Final = 0.99


@dataclass(frozen=True)
class Mesh:
    """A grid of positions that a scan visited row by row.

    Attributes
    ----------
    slow, fast : str
        Channels of the axes.
    slow_positions, fast_positions : numpy.ndarray
        float64, shape ``(n_slow,)`` and ``(n_fast,)``: the mean position of each row
        and column.
    places : numpy.ndarray
        int64, shape ``(n_points,)``: the place of each point in the flat grid. Rows of
        a snake run in turns; the last row may be incomplete.
    """

    slow: str
    fast: str
    slow_positions: Positions
    fast_positions: Positions
    places: npt.NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.slow_positions), len(self.fast_positions)

    def arranged(self, values: Array, missing: Any = None) -> Array:
        """Return the values of points as a grid.

        Parameters
        ----------
        values : numpy.ndarray
            Numbers, shape ``(n,)`` with at most as many points as the mesh.
        missing : number, optional
            What stands for a point without a value.

        Returns
        -------
        numpy.ndarray
            The shape of the mesh. Of the type of the values; float64 with NaN if a
            place of the grid has no value.
        """
        is_there = np.ones(len(values), bool)
        if missing is not None:
            is_there = values != missing
        places = self.places[: len(values)][is_there]
        n_slow, n_fast = self.shape
        if len(places) == n_slow * n_fast:
            grid = np.empty(n_slow * n_fast, values.dtype)
        else:
            dtype = values.dtype if values.dtype.kind in "fc" else np.float64
            grid = np.full(n_slow * n_fast, np.nan, dtype)
        grid[places] = values[is_there]
        return grid.reshape(self.shape)


@dataclass(frozen=True)
class Trajectory:
    """How the axes of a scan moved.

    Attributes
    ----------
    moving : tuple of str
        Channels of axes with more than one position, in the order of declaration.
    followers : mapping
        Of axes that move along a line with an earlier one: channel to that channel.
    mesh : Mesh or None
        The grid, if two of them span one.
    """

    moving: tuple[str, ...] = ()
    followers: Mapping[str, str] = field(default_factory=dict)
    mesh: Mesh | None = None


def find_trajectory(positions: Mapping[str, Positions]) -> Trajectory:
    """Return how axes moved.

    Parameters
    ----------
    positions : mapping
        Channel of each axis to its positions, float64, shape ``(n_points,)``; NaN where
        there is none.

    Examples
    --------
    >>> x, y = np.tile([0.0, 1.0, 2.0], 2), np.repeat([5.0, 6.0], 3)
    >>> found = find_trajectory({"x": x, "y": y, "z": np.zeros(6)})
    >>> found.moving, found.mesh.shape
    (('x', 'y'), (2, 3))
    """
    moving = {name: found for name, found in positions.items() if _moves(found)}
    for slow, fast in permutations(moving, 2):
        mesh = _mesh_of((slow, moving[slow]), (fast, moving[fast]))
        if mesh is not None:
            return Trajectory(tuple(moving), mesh=mesh)
    return Trajectory(tuple(moving), _followers(moving))


def _followers(moving: Mapping[str, Positions]) -> dict[str, str]:
    """Return the axes that move along a line with an earlier one, and which."""
    ranks = {name: _ranks(positions) for name, positions in moving.items()}
    found: dict[str, str] = {}
    for name, other in combinations(moving, 2):
        if name in found or other in found:
            continue
        if _is_on_a_line(ranks[name], ranks[other]):
            found[other] = name
    return found


def _moves(positions: Positions) -> bool:
    found = positions[np.isfinite(positions)]
    return len(found) > 1 and bool(np.ptp(found) > 0)


def _is_on_a_line(first: Positions, second: Positions) -> bool:
    """Whether two axes rise and fall together: their ranks are correlated."""
    if len(first) != len(second):
        return False
    is_there = np.isfinite(first) & np.isfinite(second)
    one, other = first[is_there], second[is_there]
    if len(one) < 2 or one.std() == 0 or other.std() == 0:
        return False
    return bool(abs(np.corrcoef(one, other)[0, 1]) > _ON_A_LINE)


def _ranks(positions: Positions) -> Positions:
    """Return the rank of each position; equal ones share theirs, NaN stays."""
    ranks = np.full(len(positions), np.nan)
    is_there = np.isfinite(positions)
    _, inverse, counts = np.unique(
        positions[is_there], return_inverse=True, return_counts=True
    )
    ranks[is_there] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def _mesh_of(
    slow_axis: tuple[str, Positions], fast_axis: tuple[str, Positions]
) -> Mesh | None:
    (slow, lines), (fast, columns) = slow_axis, fast_axis
    n_fast = _row_length(lines) if len(lines) == len(columns) else None
    if n_fast is None:
        return None
    n_points, n_slow = len(lines), -(-len(lines) // n_fast)
    row, column = np.divmod(np.arange(n_points), n_fast)
    rows = _in_rows(columns, n_slow, n_fast)
    reference = rows[np.isfinite(rows).all(axis=1)][:1]
    if not len(reference):
        return None
    for index in np.flatnonzero(_are_backward(rows, reference[0])):
        at = row == index
        column[at] = n_fast - 1 - column[at]
    places = row * n_fast + column
    slow_positions = _even(lines, row, n_slow)
    fast_positions = _even(columns, column, n_fast)
    if slow_positions is None or fast_positions is None:
        return None
    return Mesh(slow, fast, slow_positions, fast_positions, places)


def _row_length(lines: Positions) -> int | None:
    """Return after how many points the slow axis usually moves; None if at each.

    In a row it may jitter by less than half a step.
    """
    known = np.flatnonzero(np.isfinite(lines))
    if len(lines) < _LEAST_POINTS or not len(known):
        return None
    # Where a position is missing, the one before it holds.
    last = np.maximum.accumulate(np.where(np.isfinite(lines), np.arange(len(lines)), 0))
    steps = np.abs(np.diff(lines[np.maximum(last, known[0])]))
    jumps = np.flatnonzero(steps > steps.max() / 2)
    if not len(jumps):
        return None
    lengths = np.diff(jumps) if len(jumps) > 1 else jumps + 1
    n_fast = int(np.median(lengths))
    return n_fast if 2 <= n_fast < len(lines) else None


def _in_rows(positions: Positions, n_rows: int, n_columns: int) -> Positions:
    rows = np.full(n_rows * n_columns, np.nan)
    rows[: len(positions)] = positions
    return rows.reshape(n_rows, n_columns)


def _are_backward(rows: Positions, reference: Positions) -> npt.NDArray[np.bool_]:
    """Return for each row whether it is nearer to the reversed reference."""
    forward = np.nan_to_num(np.abs(rows - reference)).sum(axis=1)
    backward = np.nan_to_num(np.abs(rows - reference[::-1])).sum(axis=1)
    return np.asarray(backward < forward)


def _even(
    positions: Positions, lines: npt.NDArray[np.int64], n_lines: int
) -> Positions | None:
    """Return the mean position of each line; None if a point is far from its line."""
    is_there = np.isfinite(positions)
    counts = np.bincount(lines[is_there], minlength=n_lines)
    if not counts.all():
        return None
    sums = np.bincount(lines[is_there], positions[is_there], minlength=n_lines)
    means = np.asarray(sums / counts, np.float64)
    steps = np.diff(means)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        return None
    off = np.abs(positions[is_there] - means[lines[is_there]])
    return means if off.max() <= _TOLERANCE * np.abs(steps).min() else None
