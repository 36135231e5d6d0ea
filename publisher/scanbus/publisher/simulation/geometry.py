"""Geometry of a simulated detector in the beam, and its pixel mask.

The detector is built of modules of 512 x 1028 pixels with gaps between them,
perpendicular to the beam. Only the bad pixels are random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["DEAD", "GAP", "NOISY", "Geometry", "Image", "Mask", "pixel_mask"]

Image = npt.NDArray[np.float64]
Mask = npt.NDArray[np.uint32]

# Bits of NXdetector/pixel_mask (NeXus base class NXdetector, v2026.01).
GAP = 1 << 0
DEAD = 1 << 1
NOISY = 1 << 4

MODULE = (512, 1028)
MODULE_GAP = (38, 12)
# Dead and hot pixels per million.
_DEAD_PER_MILLION = 60
_HOT_PER_MILLION = 25


@dataclass(frozen=True)
class Geometry:
    """A flat detector perpendicular to the beam.

    Parameters
    ----------
    shape : tuple of int
        Pixels, slow (down) and fast (across).
    wavelength_angstrom : float
        Wavelength of the incident beam.
    distance_m, pixel_m : float
        Distance from sample to detector; edge length of a square pixel.
    centre : tuple of float, optional
        Pixel that the direct beam hits, slow and fast; by default a little off the
        middle, and not in a gap of the two default module rows.

    Raises
    ------
    ValueError
        If a length or the number of pixels is not positive.
    """

    shape: tuple[int, int] = (1062, 1028)
    wavelength_angstrom: float = 0.5
    distance_m: float = 0.09
    pixel_m: float = 75e-6
    centre: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse lengths and numbers of pixels that are not positive."""
        if min(self.shape) < 1:
            raise ValueError(f"shape {self.shape} has no pixel")
        lengths = (self.wavelength_angstrom, self.distance_m, self.pixel_m)
        if min(lengths) <= 0:
            raise ValueError(f"wavelength, distance, pixel must be positive: {lengths}")

    @property
    def beam_centre(self) -> tuple[float, float]:
        """Position of the direct beam, in pixels, slow and fast."""
        if self.centre is not None:
            return self.centre
        return 0.54 * self.shape[0], 0.47 * self.shape[1]

    @property
    def energy_ev(self) -> float:
        """Photon energy in eV: hc / wavelength."""
        return 12398.41984 / self.wavelength_angstrom

    def positions_m(self) -> tuple[Image, Image]:
        """Return x (across) and y (down) of every pixel from the beam, in metres."""
        slow, fast = self.beam_centre
        y = (np.arange(self.shape[0]) - slow) * self.pixel_m
        x = (np.arange(self.shape[1]) - fast) * self.pixel_m
        across, down = np.meshgrid(x, y)
        return across.astype(np.float64), down.astype(np.float64)

    def two_theta(self) -> Image:
        """Return the scattering angle of every pixel, in radians."""
        x, y = self.positions_m()
        return np.asarray(np.arctan2(np.hypot(x, y), self.distance_m))

    def solid_angle(self) -> Image:
        """Return the solid angle of every pixel relative to one in the direct beam.

        On a flat detector cos(2 theta) cubed: squared for distance, once for tilt.
        """
        return np.asarray(np.cos(self.two_theta()) ** 3)

    def polarization(self) -> Image:
        """Return the polarization factor of a beam polarized along the fast axis."""
        x, y = self.positions_m()
        squared = x**2 / (x**2 + y**2 + self.distance_m**2)
        return np.asarray(1.0 - squared)


def pixel_mask(shape: tuple[int, int], rng: np.random.Generator) -> Mask:
    """Return ``NXdetector/pixel_mask``: gaps between modules, dead and hot pixels.

    Parameters
    ----------
    shape : tuple of int
        Pixels, slow and fast.
    rng : numpy.random.Generator
        Source of the bad pixels.
    """
    mask = np.zeros(shape, dtype=np.uint32)
    for axis in (0, 1):
        period = MODULE[axis] + MODULE_GAP[axis]
        in_gap = np.arange(shape[axis]) % period >= MODULE[axis]
        mask[(slice(None),) * axis + (in_gap,)] |= GAP
    good = np.flatnonzero(mask == 0)
    n_dead = max(1, good.size * _DEAD_PER_MILLION // 1_000_000)
    n_hot = max(1, good.size * _HOT_PER_MILLION // 1_000_000)
    bad = rng.choice(good, size=min(good.size, n_dead + n_hot), replace=False)
    mask.flat[bad[:n_dead]] = DEAD
    mask.flat[bad[n_dead:]] = NOISY
    return mask
