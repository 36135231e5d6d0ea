"""One simulated experiment: a rotation scan of a crystal in a powder.

Every number of point `k` depends only on the seed and `k`, so points can be computed in
any order, twice, or in several processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from scanbus.publisher.simulation.crystal import find_spots
from scanbus.publisher.simulation.geometry import Geometry, Image, Mask, pixel_mask
from scanbus.publisher.simulation.scattering import mean_image

__all__ = ["CounterInfo", "SimulatedExperiment"]

# Independent streams of random numbers.
_SETUP, _FRAME, _SPECTRUM, _COUNTERS = range(4)
# Entries of the landing table per pixel, 4 bytes each: more give a finer mean.
_ENTRIES_PER_PIXEL = 6

SPECTRUM_BINS = 4096
SPECTRUM_EV_PER_BIN = 10.0
# Energy in eV and photons per spectrum: K of iron, copper, zirconium; L of lead.
_LINES = (
    (6398.0, 9000.0),
    (7058.0, 1250.0),
    (8041.0, 5200.0),
    (8905.0, 720.0),
    (10551.0, 2100.0),
    (12614.0, 1900.0),
    (15746.0, 3300.0),
    (17668.0, 560.0),
)


@dataclass(frozen=True)
class CounterInfo:
    """Units and meaning of a simulated counter."""

    units: str
    text: str


class SimulatedExperiment:
    """A rotating crystal, a large detector, a fluorescence detector and counters.

    Immutable after it is made: safe to share between threads.

    Parameters
    ----------
    seed : int
        Seed of crystal, bad pixels and noise.
    shape : tuple of int
        Pixels of the detector, slow and fast.
    dtype : str
        ``uint16`` or ``uint32``; gaps and dead pixels hold its largest value.
    geometry : Geometry, optional
        Detector and beam; its shape replaces `shape`.
    start_deg, step_deg : float
        Angle of the first point, and step from point to point.
    ring_counts, air_counts, spot_counts : float
        Photons of a pixel on the strongest ring and beside the beam stop, and of a
        strong Bragg spot, in one frame.

    Raises
    ------
    ValueError
        If `dtype` is neither of the two, or no photons fall on the detector.

    Examples
    --------
    >>> experiment = SimulatedExperiment(seed=1, shape=(64, 64))
    >>> experiment.frame(3).dtype, experiment.frame(3).shape
    (dtype('uint32'), (64, 64))
    >>> bool((experiment.frame(3) == experiment.frame(3)).all())
    True
    """

    def __init__(
        self,
        seed: int = 0,
        shape: tuple[int, int] = (1062, 1028),
        *,
        dtype: Literal["uint16", "uint32"] = "uint32",
        geometry: Geometry | None = None,
        start_deg: float = 0.0,
        step_deg: float = 0.1,
        ring_counts: float = 10.0,
        air_counts: float = 1.5,
        spot_counts: float = 2500.0,
    ) -> None:
        if dtype not in ("uint16", "uint32"):
            raise ValueError(f"dtype must be uint16 or uint32, got {dtype!r}")
        self.geometry = geometry or Geometry(shape=shape)
        self.dtype = np.dtype(dtype)
        self._seed = seed
        self._start_deg = start_deg
        self._step_deg = step_deg
        rng = self._rng(_SETUP, 0)
        self._mask = pixel_mask(self.shape, rng)
        self._spots = find_spots(self.geometry, rng, peak_counts=spot_counts)
        mean = mean_image(
            self.geometry, self._mask, ring_counts=ring_counts, air_counts=air_counts
        )
        self._landing, self._entries_per_photon = _landing_table(mean, rng)
        # Pixels without counts: gaps and dead pixels have the flag value instead.
        self._unusable = np.flatnonzero((self._mask & 0b11) != 0)

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels of the detector, slow and fast."""
        return self.geometry.shape

    @property
    def mask(self) -> Mask:
        """``NXdetector/pixel_mask``: 0 good, bit 0 gap, bit 1 dead, bit 4 noisy."""
        return self._mask

    @property
    def flag_value(self) -> int:
        """Value of gaps and dead pixels in a frame."""
        return int(np.iinfo(self.dtype).max)

    @property
    def expectation(self) -> Image:
        """Mean counts of every pixel without spots; 0 in gaps and dead pixels."""
        entries = np.bincount(self._landing, minlength=self._mask.size)
        return entries.astype(np.float64).reshape(self.shape) / self._entries_per_photon

    @property
    def counter_infos(self) -> Mapping[str, CounterInfo]:
        """Units and meaning of what `counters` returns, in its order."""
        return _COUNTER_INFOS

    def angle_deg(self, k: int) -> float:
        """Return the angle of the crystal at point `k`."""
        return self._start_deg + k * self._step_deg

    def expected_spots(self, k: int) -> Image:
        """Return the mean counts that Bragg spots add to frame `k`."""
        pixels, counts = self._spots.expected(self.angle_deg(k))
        image = np.bincount(pixels, weights=counts, minlength=self._mask.size)
        image[self._unusable] = 0
        return np.asarray(image, dtype=np.float64).reshape(self.shape)

    def frame(self, k: int) -> npt.NDArray[Any]:
        """Return frame `k`: Poisson counts around `expectation` plus `expected_spots`.

        The number of photons on the whole detector is drawn from a Poisson
        distribution, then a pixel for each photon. Every pixel is then Poisson
        distributed and independent of the others, at less cost than a draw per pixel as
        long as most pixels have no photon.
        """
        rng = self._rng(_FRAME, k)
        n_photons = rng.poisson(self._landing.size / self._entries_per_photon)
        drawn = rng.integers(0, self._landing.size, size=n_photons, dtype=np.uint32)
        pixels, counts = self._spots.expected(self.angle_deg(k))
        image = np.bincount(self._landing[drawn], minlength=self._mask.size)
        np.add.at(image, pixels, rng.poisson(counts))
        # The counter of a pixel saturates below the flag value.
        bright = pixels[image[pixels] >= self.flag_value]
        image[bright] = self.flag_value - 1
        image[self._unusable] = self.flag_value
        return image.astype(self.dtype).reshape(self.shape)

    def spectrum(self, k: int) -> npt.NDArray[np.uint32]:
        """Return the fluorescence spectrum of point `k`, 4096 bins of 10 eV."""
        wobble = 1 + 0.25 * np.sin(np.radians(9 * self.angle_deg(k)))
        mean = wobble * _mean_spectrum(self.energy_ev)
        counts: npt.NDArray[np.int64] = self._rng(_SPECTRUM, k).poisson(mean)
        return counts.astype(np.uint32)

    @property
    def energy_ev(self) -> float:
        """Photon energy of the beam."""
        return self.geometry.energy_ev

    def counters(self, k: int) -> dict[str, float]:
        """Return the counters of point `k`, by name."""
        rng = self._rng(_COUNTERS, k)
        angle = self.angle_deg(k)
        # 200 mA, decaying with a lifetime of hours, with a refill every 60 points.
        current = 198.0 + 2.0 * np.exp(-(k % 60) / 40) + rng.normal(scale=0.004)
        i0 = float(rng.poisson(5e5 * current / 200))
        # A plate-like crystal absorbs least when it is perpendicular to the beam.
        tilt = np.radians(70) * np.sin(np.radians(3 * angle))
        transmission = np.exp(-0.35 / np.cos(tilt))
        bragg = float((self._spots.counts * self._spots.rocking(angle)).sum())
        return {
            "ring_current": float(current),
            "i0": i0,
            "diode": float(rng.poisson(0.6 * i0 * transmission)),
            "bragg_sum": float(rng.poisson(bragg)),
            "cryo_temperature": float(100 + 0.2 * np.sin(k / 17) + rng.normal(0, 0.02)),
        }

    def _rng(self, stream: int, k: int) -> np.random.Generator:
        sequence = np.random.SeedSequence((self._seed, stream, k))
        return np.random.Generator(np.random.SFC64(sequence))

    def metadata(
        self, detector: str = "detector", spectrometer: str = ""
    ) -> dict[str, Any]:
        """Return the NeXus tree of beam, detector and sample, without the pixel mask.

        Parameters
        ----------
        detector, spectrometer : str
            Names of their groups; an empty `spectrometer` leaves its group out.
        """
        geometry = self.geometry
        slow, fast = geometry.beam_centre
        instrument: dict[str, Any] = {
            "beam": {
                "@NX_class": "NXbeam",
                "incident_wavelength": geometry.wavelength_angstrom,
                "incident_wavelength@units": "angstrom",
                "incident_energy": geometry.energy_ev,
                "incident_energy@units": "eV",
            },
            detector: {
                "@NX_class": "NXdetector",
                "description": "simulated photon-counting detector",
                "distance": geometry.distance_m,
                "distance@units": "m",
                "x_pixel_size": geometry.pixel_m,
                "x_pixel_size@units": "m",
                "y_pixel_size": geometry.pixel_m,
                "y_pixel_size@units": "m",
                "beam_center_x": fast,
                "beam_center_x@units": "pixel",
                "beam_center_y": slow,
                "beam_center_y@units": "pixel",
                "sensor_material": "Si",
                "sensor_thickness": 4.5e-4,
                "sensor_thickness@units": "m",
                "saturation_value": self.flag_value - 1,
            },
        }
        if spectrometer:
            instrument[spectrometer] = _spectrometer_tree()
        sample = {
            "@NX_class": "NXsample",
            "name": "simulated crystal in LaB6 powder",
            "description": "simulated data",
        }
        return {"instrument": instrument, "sample": sample}


_COUNTER_INFOS: Mapping[str, CounterInfo] = {
    "ring_current": CounterInfo("mA", "electron current of the storage ring"),
    "i0": CounterInfo("counts", "photons before the sample"),
    "diode": CounterInfo("counts", "photons behind the sample"),
    "bragg_sum": CounterInfo("counts", "photons of all Bragg spots"),
    "cryo_temperature": CounterInfo("K", "temperature of the cold gas at the sample"),
}


def _landing_table(
    mean: Image, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int32], float]:
    """Return pixel indices, repeated in proportion to `mean`, and entries per photon.

    Whole entries make the mean coarse; random rounding keeps the mean of an area right,
    and `SimulatedExperiment.expectation` reports the mean of the table.
    """
    total = float(mean.sum())
    if total <= 0:
        raise ValueError("no photons fall on this detector")
    per_photon = _ENTRIES_PER_PIXEL * mean.size / total
    entries = np.floor(mean * per_photon + rng.random(mean.shape)).astype(np.int64)
    pixels = np.arange(mean.size, dtype=np.int32)
    return np.repeat(pixels, entries.ravel()), per_photon


def _mean_spectrum(energy_ev: float) -> npt.NDArray[np.float64]:
    """Return expected counts per bin: lines, elastic and Compton peak, background."""
    axis = (np.arange(SPECTRUM_BINS) + 0.5) * SPECTRUM_EV_PER_BIN
    compton = energy_ev / (1 + energy_ev / 510998.95)  # scattered by 90 degrees
    lines = (*_LINES, (energy_ev, 6000.0), (compton, 9000.0))
    counts = 14.0 * np.exp(-axis / 9000.0) * (axis < energy_ev) + 0.02
    for centre, photons in lines:
        # Silicon: Fano factor 0.115, 3.66 eV per pair, 60 eV of electronic noise.
        width = np.hypot(60.0, np.sqrt(0.115 * 3.66 * centre))
        shape = np.exp(-0.5 * ((axis - centre) / width) ** 2)
        counts += photons * SPECTRUM_EV_PER_BIN / (width * np.sqrt(2 * np.pi)) * shape
    return np.asarray(counts)


def _spectrometer_tree() -> dict[str, Any]:
    return {
        "@NX_class": "NXdetector",
        "description": "simulated silicon drift detector",
        "calibration_offset": 0.5 * SPECTRUM_EV_PER_BIN,
        "calibration_offset@units": "eV",
        "calibration_slope": SPECTRUM_EV_PER_BIN,
        "calibration_slope@units": "eV",
    }
