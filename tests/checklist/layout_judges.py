"""Ask programs of others about the files of one technique.

Each function takes a file and returns what one program says: a list of problems, empty
where it has none, or values in units that their names carry. NXmx has two readers that
share no code, nxmx and DIALS; both answer with the same names, so a test compares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.checklist.judges import ask, ask_debian, program, run

__all__ = [
    "cxi_reader",
    "dials_frames",
    "dials_import",
    "fabio_frames",
    "nxmx",
    "nxtomo",
    "nxtomomill_copy",
    "nxvalidate",
    "openpmd_validator",
    "pymca_spectra",
    "pynxtools",
    "tomoscan",
]


def nxvalidate(path: Path, entry: str = "/entry", definition: str = "") -> list[str]:
    """Return what nxvalidate calls errors, each with the node it speaks of.

    Parameters
    ----------
    definition : str
        An application definition; by default the one that the entry names. A file that
        names none is an error.
    """
    return _texts(ask("nexusformat", _NXVALIDATE, path, entry, definition))


# It prints, and returns how many it printed; its exit code is 0 either way. What an
# error is about stands in the line before it, and None means that it did not start.
_NXVALIDATE = """
import logging
from nexusformat.nexus import validate
class Lines(logging.Handler):
    errors, about, all = [], "", []
    def emit(self, record):
        text = record.getMessage().strip()
        self.all.append(text)
        if record.levelno == logging.ERROR:
            self.errors.append(f"{self.about}: {text}")
        elif text.startswith(("Group:", "Field:", "Attribute:", "Link:")):
            self.about = text
        elif text.startswith("NX") and ": /" in text:
            self.about = text
lines = Lines()
validate.logger.handlers[:] = [lines]
validate.logger.setLevel(logging.ERROR)
path, entry, definition = sys.argv[1:]
found = validate.validate_application(path, path=entry, application=definition or None)
answer = lines.errors or ([] if found == (found[0], 0) else lines.all)
"""


def nxmx(path: Path) -> dict[str, float]:
    """Return what the package nxmx reads, with the names of `dials_import`.

    Its distance and beam centre are the fields of these names; those of DIALS follow
    from the chain of transformations.
    """
    return _numbers(ask("nxmx", _NXMX, path))


_NXMX = """
import h5py, numpy, nxmx
with h5py.File(sys.argv[1]) as file:
    entry, = nxmx.NXmx(file).entries
    instrument, = entry.instruments
    detector, (beam,) = instrument.detectors[0], instrument.beams
    fast = detector.modules[0].fast_pixel_direction[()].to("mm").magnitude
    slow = detector.modules[0].slow_pixel_direction[()].to("mm").magnitude
    omega = nxmx.get_dependency_chain(entry.samples[0].depends_on)[0]
    angles = omega[()].to("degree").magnitude
    ends = omega.end[()].to("degree").magnitude if omega.end else angles
    signal = entry.data[0][entry.data[0].signal]
    answer = {
        "images": len(angles),
        "wavelength_angstrom": beam.incident_wavelength.to("angstrom").magnitude,
        "distance_mm": detector.distance.to("mm").magnitude,
        "pixel_fast_mm": numpy.ravel(fast)[0],
        "pixel_slow_mm": numpy.ravel(slow)[0],
        "beam_fast_px": detector.beam_center_x.magnitude,
        "beam_slow_px": detector.beam_center_y.magnitude,
        "start_deg": angles[0],
        "width_deg": numpy.median(ends - angles),
    }
    answer = {name: float(value) for name, value in answer.items()}
"""


def dials_import(paths: Path | Sequence[Path], folder: Path) -> dict[str, float]:
    """Return what `dials.import` of Debian makes of a master, or of frames in CBF.

    Parameters
    ----------
    folder : pathlib.Path
        Where its output goes; the file imported.expt there is replaced.

    Returns
    -------
    dict
        images, wavelength_angstrom, distance_mm, pixel_fast_mm, pixel_slow_mm,
        beam_fast_px, beam_slow_px, and of the rotation start_deg and width_deg. Frames
        of a rotation that stands still are as many experiments, which are counted.
    """
    found = folder / "imported.expt"
    names = [str(one) for one in ([paths] if isinstance(paths, Path) else paths)]
    output = [f"output.experiments={found}", f"output.log={folder / 'dials.log'}"]
    run([program("dials.import"), *names, *output], cwd=folder)
    return _numbers(ask_debian(_EXPERIMENTS, found, package="dxtbx"))


_EXPERIMENTS = """
from dxtbx.model.experiment_list import ExperimentListFactory
found = ExperimentListFactory.from_json_file(sys.argv[1], check_format=False)
first = found[0]
panel, = first.detector
beam_px = panel.get_beam_centre_px(first.beam.get_s0())
start, width = first.scan.get_oscillation() if first.scan else (0.0, 0.0)
answer = {
    "images": sum(one.scan.get_num_images() if one.scan else 1 for one in found),
    "wavelength_angstrom": first.beam.get_wavelength(),
    "distance_mm": panel.get_distance(),
    "pixel_fast_mm": panel.get_pixel_size()[0],
    "pixel_slow_mm": panel.get_pixel_size()[1],
    "beam_fast_px": beam_px[0],
    "beam_slow_px": beam_px[1],
    "start_deg": start,
    "width_deg": width,
}
"""


def dials_frames(path: Path) -> list[int]:
    """Return the sum of every frame as dxtbx reads it, without masked pixels."""
    code = """
from dxtbx.imageset import ImageSetFactory
images, = ImageSetFactory.new([sys.argv[1]])
answer = []
for number in range(len(images)):
    (frame,), (mask,) = images.get_raw_data(number), images.get_mask(number)
    answer.append(int(sum(frame.as_1d().select(mask.as_1d()))))
"""
    sums: list[int] = ask_debian(code, path, package="dxtbx")
    return sums


def fabio_frames(path: Path) -> list[int]:
    """Return the sum of every frame that fabio counts."""
    code = """
import fabio
with fabio.open(sys.argv[1]) as image:
    answer = [int(image.get_frame(n).data.sum()) for n in range(image.nframes)]
"""
    sums: list[int] = ask("fabio", code, path)
    return sums


def pynxtools(path: Path, allowed: Sequence[str] = ()) -> list[str]:
    """Return what pynxtools warns of, without what it is wrong about.

    Its definitions are a fork of February 2024. It takes names that end in ``_mask`` or
    ``_offset`` for companions of another field, though NXdetector and
    NXdetector_module define them.

    Parameters
    ----------
    allowed : sequence of str
        Parts of further warnings that are no fault of the file.
    """
    # The file is asked about by its name: some of its messages cut a path.
    done = run(
        [program("pynx"), "validate", "--ignore-undocumented", path.name],
        cwd=path.parent,
    )
    lines = [one.strip() for one in (done.stdout + done.stderr).splitlines()]
    known = ("Reserved suffix '_mask'", "Reserved suffix '_offset'", *allowed)
    warnings = [
        one.removeprefix("WARNING: ") for one in lines if one.startswith("WARNING: ")
    ]
    # Its verdict counts what is allowed, too.
    return [
        one
        for one in warnings
        if not one.startswith("Invalid: ") and not any(part in one for part in known)
    ]


def nxtomo(path: Path, entry: str = "entry") -> dict[str, Any]:
    """Return what the package nxtomo loads.

    Returns
    -------
    dict
        image_key, angle_deg, distance_m, pixel_x_m, pixel_y_m, energy_kev and frames,
        the shape of the data.
    """
    answer: dict[str, Any] = ask("nxtomo", _NXTOMO, path, entry)
    return answer


_NXTOMO = """
from nxtomo import NXtomo
found = NXtomo().load(sys.argv[1], sys.argv[2], detector_data_as="as_data_url")
detector = found.instrument.detector
def number(quantity, unit):
    return None if quantity is None else float(quantity.to(unit).magnitude)
answer = {
    "image_key": [int(one.value) for one in detector.image_key],
    "angle_deg": found.sample.rotation_angle.to("degree").magnitude.tolist(),
    "distance_m": number(detector.distance, "m"),
    "pixel_x_m": number(detector.x_pixel_size, "m"),
    "pixel_y_m": number(detector.y_pixel_size, "m"),
    "energy_kev": number(found.instrument.beam.incident_energy, "keV"),
}
"""


def nxtomomill_copy(path: Path, copy: Path) -> Path:
    """Return the copy that ``nxtomomill nx-copy`` makes of an NXtomo.

    It loads every field and writes it anew; data that are virtual stay so, with their
    sources found from the folder of the copy.
    """
    run([program("nxtomomill"), "nx-copy", str(path), str(copy)], cwd=copy.parent)
    return copy


def tomoscan(path: Path, entry: str = "entry") -> dict[str, Any]:
    """Return what tomoscan, from which nabu reconstructs, finds in an NXtomo.

    Returns
    -------
    dict
        projections, flats and darks, as numbers of frames; shape, of a frame; and
        problems, what its validator of reconstructions says: empty where all is there.
    """
    answer: dict[str, Any] = ask("tomoscan", _TOMOSCAN, path, entry)
    return answer


_TOMOSCAN = """
import logging
logging.disable(logging.CRITICAL)
from tomoscan.esrf.scan.nxtomoscan import NXtomoScan
from tomoscan.validator import ReconstructionValidator
scan = NXtomoScan(sys.argv[1], entry=sys.argv[2])
# Its is_valid counts what is there: true, whatever is missing. Its report has a minus
# before each of these.
said = map(str.strip, ReconstructionValidator(scan).checkup().splitlines())
answer = {
    "projections": len(scan.projections or {}),
    "flats": len(scan.flats or {}),
    "darks": len(scan.darks or {}),
    "shape": [int(scan.dim_2), int(scan.dim_1)],
    "problems": [line.lstrip("- ") for line in said if line.startswith("-")],
}
"""


def pymca_spectra(path: Path, entry: str = "entry") -> dict[str, list[int]]:
    """Return the shapes of what the window of PyMca lists as spectra, by path.

    It lists datasets that stand in the entry itself: none behind a soft or an external
    link, and none named energy.
    """
    code = """
import h5py
from PyMca5.PyMcaCore import NexusTools
with h5py.File(sys.argv[1]) as file:
    found = NexusTools.getMcaList(file, "/" + sys.argv[2])
    answer = {name: list(file[name].shape) for name in found}
"""
    shapes: dict[str, list[int]] = ask("PyMca5", code, path, entry)
    return shapes


def openpmd_validator(path: Path) -> list[str]:
    """Return what openPMD's own validator calls errors."""
    code = """
import contextlib, io
from openpmd_validator.check_h5 import check_file
said = io.StringIO()
with contextlib.redirect_stdout(said):
    errors = int(check_file(sys.argv[1])[0])
answer = [line for line in said.getvalue().splitlines() if line.startswith("Error")]
assert bool(answer) == bool(errors), said.getvalue()
"""
    return _texts(ask("openpmd_validator", code, path))


def cxi_reader(path: Path) -> dict[str, Any]:
    """Return what a program of ptychography takes from a CXI file.

    No such program is in a package registry, so this reader was written here: it opens
    what the CXI format (version 1.6, tables of its entry, source, detector, sample and
    data classes) names, in SI units, as PyNX and SHARP do. It is no program of others.

    Returns
    -------
    dict
        version, energy_j, distance_m, pixel_x_m, pixel_y_m, frames (the shape of the
        data), translation_m (the shape of the translations), and sums, of each frame.
    """
    answer: dict[str, Any] = ask("h5py", _CXI, path)
    return answer


_CXI = """
import h5py
with h5py.File(sys.argv[1]) as file:
    detector = file["entry_1/instrument_1/detector_1"]
    frames, moved = file["entry_1/data_1/data"], file["entry_1/data_1/translation"]
    assert detector["data"].shape == frames.shape
    assert file["entry_1/sample_1/geometry_1/translation"].shape == moved.shape
    answer = {
        "version": int(file["cxi_version"][()]),
        "energy_j": float(file["entry_1/instrument_1/source_1/energy"][()]),
        "distance_m": float(detector["distance"][()]),
        "pixel_x_m": float(detector["x_pixel_size"][()]),
        "pixel_y_m": float(detector["y_pixel_size"][()]),
        "frames": list(frames.shape),
        "translation_m": list(moved.shape),
        "sums": [int(frame.sum()) for frame in frames],
    }
"""


def _texts(answer: Any) -> list[str]:
    return [str(one) for one in answer]


def _numbers(answer: Any) -> dict[str, float]:
    return {str(name): float(value) for name, value in answer.items()}
