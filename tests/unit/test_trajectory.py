"""How axes moved, found in their positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.writer.model.trajectory import Mesh, find_trajectory


def mesh_of(positions: dict[str, np.ndarray]) -> Mesh:
    mesh = find_trajectory(positions).mesh
    assert mesh is not None
    return mesh


@given(
    n_slow=st.integers(2, 12),
    n_fast=st.integers(3, 12),
    missing=st.integers(0, 11),
    is_snake=st.booleans(),
    steps=st.tuples(st.sampled_from([-2.0, 0.01, 5.0]), st.sampled_from([-1.0, 3.0])),
    jitter=st.floats(0, 0.15),
    seed=st.integers(0, 99),
)
def test_a_mesh_is_found_whatever_its_order(
    *,
    n_slow: int,
    n_fast: int,
    missing: int,
    is_snake: bool,
    steps: tuple[float, float],
    jitter: float,
    seed: int,
) -> None:
    """Rows in turns or not, the last one incomplete, positions not exact."""
    n_points = n_slow * n_fast - min(missing, n_fast - 1)
    rows = np.repeat(np.arange(n_slow), n_fast)
    columns = np.tile(np.arange(n_fast), (n_slow, 1))
    if is_snake:
        columns[1::2] = columns[1::2, ::-1]
    columns = columns.ravel()
    noise = np.random.default_rng(seed).uniform(-jitter, jitter, (2, rows.size))
    y = (10 + steps[0] * (rows + noise[0]))[:n_points]
    x = (-3 + steps[1] * (columns + noise[1]))[:n_points]

    mesh = mesh_of({"x": x, "y": y})

    assert (mesh.slow, mesh.fast, mesh.shape) == ("y", "x", (n_slow, n_fast))
    np.testing.assert_array_equal(mesh.places, (rows * n_fast + columns)[:n_points])
    np.testing.assert_allclose(
        mesh.fast_positions, -3 + steps[1] * np.arange(n_fast), atol=abs(steps[1]) / 5
    )


def test_values_stand_where_they_were_measured() -> None:
    x, y = np.array([0.0, 1, 2, 2, 1]), np.array([0.0, 0, 0, 1, 1])
    mesh = mesh_of({"y": y, "x": x})

    counts = mesh.arranged(np.arange(5, dtype="i4"))
    np.testing.assert_array_equal(counts, [[0, 1, 2], [np.nan, 4, 3]])
    lost = mesh.arranged(np.array([7, -1, 8], "i4"), missing=-1)
    np.testing.assert_array_equal(lost[0], [7, np.nan, 8])


def test_a_complete_mesh_keeps_the_type_of_its_values() -> None:
    x, y = np.tile([0.0, 1], 2), np.repeat([0.0, 1], 2)
    assert mesh_of({"y": y, "x": x}).arranged(np.arange(4, dtype="u2")).dtype == "u2"


def test_a_missing_position_hides_no_mesh() -> None:
    x, y = np.tile(np.arange(4.0), 5), np.repeat(np.arange(5.0), 4)
    x[7] = y[0] = y[8] = np.nan
    assert mesh_of({"y": y, "x": x}).shape == (5, 4)


ANGLE = np.linspace(0, 12, 60)
X = np.tile(np.arange(6.0), 6)
IRREGULAR = {
    "a spiral": {"x": ANGLE * np.cos(ANGLE), "y": ANGLE * np.sin(ANGLE)},
    "at random": dict(zip("xy", np.random.default_rng(1).random((2, 60)), strict=True)),
    "rows of different lengths": {
        "x": np.array([0.0, 1, 2, 0, 1, 0, 1, 2, 3]),
        "y": np.array([0.0, 0, 0, 1, 1, 2, 2, 2, 2]),
    },
    "rows that are shifted": {"x": X + np.repeat(np.arange(6), 6), "y": np.sort(X)},
    "three axes": {
        "z": np.repeat([0.0, 1], 9),
        "y": np.tile(np.repeat([0.0, 1, 2], 3), 2),
        "x": np.tile([0.0, 1, 2], 6),
    },
    "nothing": {"x": np.empty(0), "y": np.full(9, np.nan)},
}


@pytest.mark.parametrize("positions", IRREGULAR.values(), ids=IRREGULAR)
def test_what_is_no_mesh_is_none(positions: dict[str, np.ndarray]) -> None:
    found = find_trajectory(positions)
    assert found.mesh is None
    assert not found.followers


def test_axes_that_move_along_a_line_follow_the_first() -> None:
    energy = np.linspace(7, 8, 20)
    jitter = np.random.default_rng(0).normal(0, 1e-3, 20)
    found = find_trajectory(
        {
            "energy": energy,
            "still": np.ones(20),
            "gap": energy**2,
            "enc": energy + jitter,
        }
    )
    assert found.moving == ("energy", "gap", "enc")
    assert found.followers == {"gap": "energy", "enc": "energy"}
