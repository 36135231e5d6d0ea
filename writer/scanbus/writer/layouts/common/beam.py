"""The wavelength of the beam, from whatever the metadata say of it."""

from __future__ import annotations

from typing import Final

from scanbus.writer.layouts.common.scan_view import ScanView

__all__ = ["HC_EV_ANGSTROM", "lacks_wavelength", "wavelength_of"]

HC_EV_ANGSTROM: Final = 12398.419843320026
"""Planck's constant times the speed of light, in eV times angstrom (CODATA 2018)."""
_WAVELENGTHS: Final = ("beam/incident_wavelength", "monochromator/wavelength")
_ENERGIES: Final = ("beam/incident_energy", "monochromator/energy")


def wavelength_of(view: ScanView) -> float | None:
    """Return the wavelength of the beam in angstrom; None if nobody says it."""
    for path in _WAVELENGTHS:
        found = view.number(f"instrument/{path}", "angstrom")
        if found is not None and found > 0:
            return found
    for path in _ENERGIES:
        energy = view.number(f"instrument/{path}", "eV")
        if energy is not None and energy > 0:
            return HC_EV_ANGSTROM / energy
    return None


def lacks_wavelength(view: ScanView) -> str:
    """Return what is missing for a wavelength; empty if it is known."""
    if wavelength_of(view) is not None:
        return ""
    for paths, units in ((_WAVELENGTHS, "angstrom"), (_ENERGIES, "eV")):
        for path in paths:
            if view.dataset(f"instrument/{path}") is not None:
                said = view.lacks(f"instrument/{path}", units)
                return said or f"instrument/{path} (it is not above 0)"
    return f"instrument/{_WAVELENGTHS[0]}"
