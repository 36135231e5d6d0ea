"""Draw a scan: counters over the motor, the summed spectrum, the newest frame."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ScanSnapshot", "draw"]

_INK = "#22303c"
_GRID = "#dfe5ea"
_DIODE, _BRAGG, _SPECTRUM = "#1f6fb4", "#d1495b", "#2a9d8f"
_MASKED = "#6b7b88"
_LINES_EV = {"Fe": 6398.0, "Cu": 8041.0, "Zr": 15746.0, "elastic": 24797.0}


@dataclass(frozen=True)
class ScanSnapshot:
    """The data of a scan that a subscriber has received.

    Attributes
    ----------
    title : str
        Title of the scan.
    n_frames, n_expected : int
        Number of frames received and expected; None if the latter is not known.
    angle_deg : numpy.ndarray
        Positions of the motor, in degrees.
    counters : mapping
        Values of each counter, at least ``i0``, ``diode`` and ``bragg_sum``.
    energy_ev, spectrum : numpy.ndarray
        Energies of the bins in eV, and the sum of all spectra.
    frame, mask : numpy.ndarray
        The newest frame, and its pixel mask: pixels that are not 0 are not shown.
    """

    title: str
    n_frames: int
    n_expected: int | None
    angle_deg: npt.NDArray[np.float64]
    counters: Mapping[str, npt.NDArray[np.float64]]
    energy_ev: npt.NDArray[np.float64]
    spectrum: npt.NDArray[Any]
    frame: npt.NDArray[Any]
    mask: npt.NDArray[Any]


def draw(scan: ScanSnapshot, path: Path) -> None:
    """Draw a snapshot to a PNG file, which is replaced atomically."""
    # pyplot would look for a display, and keep every figure in memory.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(13.0, 7.2), facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        1, 2, width_ratios=(1.0, 1.35), left=0.055, right=0.955, bottom=0.08, top=0.85
    )
    grid.update(wspace=0.13)
    left = grid[0].subgridspec(2, 1, height_ratios=(2.1, 1.0), hspace=0.3)
    counters = left[0].subgridspec(2, 1, hspace=0.22)
    _draw_counters(
        figure.add_subplot(counters[0]), figure.add_subplot(counters[1]), scan
    )
    _draw_spectrum(figure.add_subplot(left[1]), scan)
    _draw_frame(figure, figure.add_subplot(grid[1]), scan)
    of_all = f" of {scan.n_expected}" if scan.n_expected else ""
    figure.text(0.055, 0.945, scan.title, fontsize=16, weight="bold", color=_INK)
    figure.text(
        0.055,
        0.908,
        f"seen live by a subscriber: frame {scan.n_frames}{of_all} (simulated data)",
        fontsize=10,
        color=_MASKED,
    )
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    figure.savefig(unfinished, format="png", dpi=110)
    unfinished.replace(path)


def _plain(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=_INK)
    axes.tick_params(labelsize=8, colors=_INK, length=3)
    axes.grid(visible=True, color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_MASKED)


def _draw_counters(upper: Any, lower: Any, scan: ScanSnapshot) -> None:
    # Channels of one group advance together, but a batch of one may come first.
    n_points = min(len(scan.angle_deg), *map(len, scan.counters.values()))
    angle = scan.angle_deg[:n_points]
    i0 = np.maximum(scan.counters["i0"][:n_points], 1)
    transmission = 100 * scan.counters["diode"][:n_points] / i0
    bragg = scan.counters["bragg_sum"][:n_points] / 1000
    _plain(upper, "diode / i0  (%)")
    upper.plot(angle, transmission, ".-", color=_DIODE, linewidth=1, markersize=4)
    _plain(lower, "photons in Bragg spots  (thousands)")
    lower.plot(angle, bragg, ".-", color=_BRAGG, linewidth=1, markersize=4)
    lower.set_xlabel("omega (deg)", fontsize=9, color=_INK)
    upper.tick_params(labelbottom=False)
    lower.sharex(upper)


def _draw_spectrum(axes: Any, scan: ScanSnapshot) -> None:
    _plain(axes, "fluorescence, all points  (counts)")
    counts = np.maximum(scan.spectrum, 0.5)
    axes.semilogy(scan.energy_ev / 1000, counts, color=_SPECTRUM, linewidth=0.7)
    axes.fill_between(
        scan.energy_ev / 1000, 0.5, counts, color=_SPECTRUM, alpha=0.15, linewidth=0
    )
    axes.set_xlim(2, 27)
    axes.set_ylim(max(1.0, np.median(counts) / 20), counts.max() * 8)
    axes.set_xlabel("energy (keV)", fontsize=9, color=_INK)
    for name, energy_ev in _LINES_EV.items():
        near = np.abs(scan.energy_ev - energy_ev) < 100
        axes.annotate(
            name,
            (energy_ev / 1000, counts[near].max()),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=_INK,
        )


def _draw_frame(figure: Any, axes: Any, scan: ScanSnapshot) -> None:
    from matplotlib import colormaps  # noqa: PLC0415
    from matplotlib.colors import LogNorm  # noqa: PLC0415

    good = scan.mask == 0
    counts = np.ma.masked_where(~good, np.maximum(scan.frame, 0.5).astype(np.float32))
    brightest = float(np.percentile(counts.compressed(), 99.97)) if good.any() else 1.0
    colours = colormaps["inferno"].with_extremes(bad=_MASKED)
    picture = axes.imshow(
        counts,
        norm=LogNorm(0.5, max(20.0, brightest)),
        cmap=colours,
        interpolation="antialiased",
        interpolation_stage="rgba",
    )
    bar = figure.colorbar(picture, ax=axes, fraction=0.04, pad=0.02, extend="max")
    ticks = [each for each in (1, 3, 10, 30, 100, 300) if each < picture.norm.vmax]
    bar.set_ticks(ticks, labels=[str(each) for each in ticks])
    bar.ax.minorticks_off()
    bar.set_label("counts per pixel", fontsize=9, color=_INK)
    bar.ax.tick_params(labelsize=8, colors=_INK)
    bar.outline.set_visible(False)
    n_masked = int((~good).sum())
    axes.set_title(
        f"frame {scan.n_frames - 1}, {scan.frame.shape[0]} x {scan.frame.shape[1]} "
        f"pixels, {n_masked} masked (grey)",
        loc="left",
        fontsize=10,
        color=_INK,
    )
    axes.tick_params(labelsize=8, colors=_INK, length=3)
    for spine in axes.spines.values():
        spine.set_visible(False)
