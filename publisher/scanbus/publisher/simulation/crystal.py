"""Bragg spots of a crystal that rotates in the beam.

For every reflection of a lattice, the rotation angles at which it meets the Ewald
sphere give the angle and the position of its spot. Computed once; a frame then selects
the spots near its angle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scanbus.publisher.simulation.geometry import Geometry

__all__ = ["Spots", "find_spots"]

_Floats = npt.NDArray[np.float64]
# A tetragonal cell as of a small protein, in angstrom; B factor of a frozen crystal.
_CELL_ANGSTROM = (28.0, 28.0, 41.0)
_B_FACTOR = 9.0
MOSAICITY_DEG = 0.18
_SPOT_WIDTH_PIXELS = 1.1
_PATCH_RADIUS = 4


@dataclass(frozen=True)
class Spots:
    """The reflections of one crystal that hit one detector.

    Attributes
    ----------
    angle_deg : numpy.ndarray
        Rotation angle of each one's peak, in [0, 360).
    counts : numpy.ndarray
        Photons of each one at its peak, in one frame.
    slow, fast : numpy.ndarray
        Position of each one on the detector, in pixels.
    shape : tuple of int
        Pixels of the detector, slow and fast.
    """

    angle_deg: _Floats
    counts: _Floats
    slow: _Floats
    fast: _Floats
    shape: tuple[int, int]

    def rocking(self, angle_deg: float) -> _Floats:
        """Return each spot's intensity at an angle, relative to its peak, 0 to 1."""
        away = (angle_deg - self.angle_deg + 180) % 360 - 180
        return np.asarray(np.exp(-0.5 * (away / MOSAICITY_DEG) ** 2))

    def expected(self, angle_deg: float) -> tuple[npt.NDArray[np.int64], _Floats]:
        """Return pixels and expected counts of the spots at an angle.

        A pixel is repeated where spots overlap.
        """
        rocking = self.rocking(angle_deg)
        seen = rocking > 1e-3
        pixels, share = _patches(self.shape, self.slow[seen], self.fast[seen])
        counts = (self.counts[seen] * rocking[seen])[:, None] * share
        lit = counts > 0
        return pixels[lit], counts[lit]


def find_spots(
    geometry: Geometry, rng: np.random.Generator, *, peak_counts: float
) -> Spots:
    """Return the spots of a crystal of random orientation.

    Parameters
    ----------
    geometry : Geometry
        Detector and beam.
    rng : numpy.random.Generator
        Source of orientation and structure factors.
    peak_counts : float
        Mean photons of a strong reflection in the frame where it is brightest.
    """
    vectors = _reciprocal_lattice(geometry, rng)
    factor = peak_counts * rng.exponential(size=len(vectors))  # Wilson, acentric
    factor *= np.exp(-_B_FACTOR * (vectors**2).sum(axis=1) / 2)
    angle, direction, which = _diffracted(vectors, 1 / geometry.wavelength_angstrom)
    slow, fast, hit = _on_detector(geometry, direction)
    counts = factor[which]
    return Spots(angle[hit], counts[hit], slow[hit], fast[hit], geometry.shape)


def _reciprocal_lattice(geometry: Geometry, rng: np.random.Generator) -> _Floats:
    """Return the rotated reciprocal lattice up to the detector's corner, 1/angstrom."""
    largest = 2 * np.sin(geometry.two_theta().max() / 2) / geometry.wavelength_angstrom
    counts = [int(np.ceil(largest * edge)) for edge in _CELL_ANGSTROM]
    axes = [
        np.arange(-n, n + 1) / a for n, a in zip(counts, _CELL_ANGSTROM, strict=True)
    ]
    vectors = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    length = np.linalg.norm(vectors, axis=1)
    orientation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return np.asarray(vectors[(length > 0) & (length < largest)] @ orientation.T)


def _diffracted(
    vectors: _Floats, radius: float
) -> tuple[_Floats, _Floats, npt.NDArray[np.int64]]:
    """Return angle, scattered direction and index wherever a vector meets the sphere.

    The beam is along z and the crystal rotates about x (the fast axis): a vector is on
    the sphere if ``r_z = -r^2 / (2 radius)``, which holds for two angles or none.
    """
    across = np.hypot(vectors[:, 1], vectors[:, 2])
    wanted = -(vectors**2).sum(axis=1) / (2 * radius)
    which = np.flatnonzero(across > np.abs(wanted))
    start = np.arctan2(vectors[which, 1], vectors[which, 2])
    half = np.arccos(wanted[which] / across[which])
    angle = np.concatenate([start + half, start - half])
    which = np.concatenate([which, which])
    y, z = vectors[which, 1], vectors[which, 2]
    turned = np.stack(
        [
            vectors[which, 0],
            y * np.cos(angle) - z * np.sin(angle),
            y * np.sin(angle) + z * np.cos(angle) + radius,
        ],
        axis=1,
    )
    return np.degrees(angle) % 360, turned, which


def _on_detector(
    geometry: Geometry, direction: _Floats
) -> tuple[_Floats, _Floats, npt.NDArray[np.bool]]:
    """Return where directions hit the detector's plane, in pixels, and which hit it."""
    forward = direction[:, 2] > 0
    depth = np.where(forward, direction[:, 2], 1.0)
    scale = geometry.distance_m / geometry.pixel_m / depth
    slow = geometry.beam_centre[0] + direction[:, 1] * scale
    fast = geometry.beam_centre[1] + direction[:, 0] * scale
    inside = (slow >= 0) & (slow < geometry.shape[0])
    inside &= (fast >= 0) & (fast < geometry.shape[1])
    return slow, fast, np.asarray(forward & inside)


def _patches(
    shape: tuple[int, int], slow: _Floats, fast: _Floats
) -> tuple[npt.NDArray[np.int64], _Floats]:
    """Return flat indices of the pixels of each spot, and each pixel's share of it."""
    around = np.arange(-_PATCH_RADIUS, _PATCH_RADIUS + 1)
    down, right = (each.ravel() for each in np.meshgrid(around, around, indexing="ij"))
    i = np.rint(slow).astype(np.int64)[:, None] + down
    j = np.rint(fast).astype(np.int64)[:, None] + right
    squared = (i - slow[:, None]) ** 2 + (j - fast[:, None]) ** 2
    share = np.exp(-0.5 * squared / _SPOT_WIDTH_PIXELS**2)
    share /= 2 * np.pi * _SPOT_WIDTH_PIXELS**2
    outside = (i < 0) | (i >= shape[0]) | (j < 0) | (j >= shape[1])
    share[outside] = 0
    pixels = np.clip(i, 0, shape[0] - 1) * shape[1] + np.clip(j, 0, shape[1] - 1)
    return pixels, share
