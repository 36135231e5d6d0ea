"""Mean image of a simulated detector: powder rings, air scattering, hot pixels.

The rings are those of LaB6, the standard powder for calibrating wavelength and
distance.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanbus.publisher.simulation.geometry import NOISY, Geometry, Image, Mask

__all__ = ["LAB6_LATTICE_ANGSTROM", "mean_image", "ring_angles"]

# NIST SRM 660c, "Line Position and Line Shape Standard for Powder Diffraction".
LAB6_LATTICE_ANGSTROM = 4.156826
# h^2+k^2+l^2 and intensity relative to (110), rounded from powder patterns.
_LAB6_LINES = (
    (1, 58.0),
    (2, 100.0),
    (3, 41.0),
    (4, 22.0),
    (5, 46.0),
    (6, 25.0),
    (8, 8.0),
    (9, 22.0),
    (10, 15.0),
    (11, 10.0),
    (12, 2.5),
    (13, 6.5),
    (14, 13.0),
    (16, 2.0),
    (17, 9.0),
    (18, 8.0),
    (19, 5.0),
    (20, 4.0),
    (21, 6.0),
    (22, 4.0),
)
_RING_WIDTH_RAD = 1.6e-3
_HOT_COUNTS = 900.0


def ring_angles(wavelength_angstrom: float) -> list[tuple[float, float]]:
    """Return 2 theta in radians and relative intensity of every ring of LaB6.

    Bragg's law: wavelength = 2 d sin(theta), with d = a / sqrt(h^2 + k^2 + l^2).

    Examples
    --------
    >>> angle, intensity = ring_angles(0.5)[0]
    >>> float(round(np.degrees(angle), 3)), intensity
    (6.896, 0.58)
    """
    rings = []
    for squares, percent in _LAB6_LINES:
        spacing = LAB6_LATTICE_ANGSTROM / np.sqrt(squares)
        sine = wavelength_angstrom / (2 * spacing)
        if sine < 1:
            rings.append((2 * float(np.arcsin(sine)), percent / 100))
    return rings


def mean_image(
    geometry: Geometry, mask: Mask, *, ring_counts: float, air_counts: float
) -> Image:
    """Return the expected counts of every pixel in one frame, without Bragg spots.

    Parameters
    ----------
    geometry : Geometry
        Detector and beam.
    mask : numpy.ndarray
        Its pixel mask: noisy pixels have high counts, gaps and dead pixels none.
    ring_counts, air_counts : float
        Counts of a pixel at the peak of the strongest ring, and next to the beam stop.
    """
    angle = geometry.two_theta()
    rings = np.zeros(geometry.shape)
    for centre, intensity in ring_angles(geometry.wavelength_angstrom):
        profile = np.exp(-0.5 * ((angle - centre) / _RING_WIDTH_RAD) ** 2)
        # The same photons are spread over a longer circle at larger angles.
        rings += intensity * profile * np.sin(0.12) / np.sin(max(centre, 0.12))
    air = 0.85 * np.exp(-angle / 0.09) + 0.15
    flat = geometry.solid_angle() * geometry.polarization()
    image = flat * (ring_counts * rings + air_counts * air)
    image[_behind_beam_stop(geometry)] *= 0.02
    image[mask == NOISY] += _HOT_COUNTS
    image[(mask != 0) & (mask != NOISY)] = 0
    return np.asarray(image)


def _behind_beam_stop(
    geometry: Geometry,
) -> npt.NDArray[np.bool]:
    """Return the pixels in the shadow of the beam stop, a disc on a wire."""
    x, y = geometry.positions_m()
    disc = np.hypot(x, y) < 2.2e-3
    wire = (np.abs(x + 0.04 * y) < 2.5e-4) & (y > 0)
    return np.asarray(disc | wire)
