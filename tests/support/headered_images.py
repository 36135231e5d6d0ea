"""Images with what detectors say of them: from fabio, or from a format's description.

Each of `TURNING` is frame `n` of a series in which an angle turns by 0.5 degrees from
10 + n/2 on, at 0.25 m, with 0.98 angstrom and pixels of 0.1 mm, for 2 s.
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]


def pixels_of(number: int, size: int = 64) -> Pixels:
    """Return a frame that differs from the others."""
    return ((np.arange(size * size).reshape(size, size) + number) % 199).astype("int32")


def written_by_fabio(image_class: str, header: dict[str, Any], frame: Pixels) -> Any:
    """Return an image of fabio, to be written."""
    from fabio import fabioformats

    return type(fabioformats.factory(image_class))(data=frame, header=header)


def _mar345(number: int, path: Path) -> Pixels:
    from fabio.fabioutils import ENDIANNESS

    start = 10 + number / 2
    header = {
        "PHI_START": start,
        "PHI_END": start + 0.5,
        "OMEGA_START": 0,
        "OMEGA_END": 0,
        "WAVELENGTH": 0.98,
        "DISTANCE": 250,
        "PIXEL_LENGTH": 100,
        "PIXEL_HEIGHT": 100,
        "TIME": 2,
        "DATE": f"Wed Sep 11 13:20:{28 + 2 * number} 2019",
    }
    frame = pixels_of(number).astype("uint32")
    image = written_by_fabio("mar345image", header, frame)
    image.byteorder = ENDIANNESS.LITTLE
    image.write(str(path))
    return frame


def _bruker(number: int, path: Path) -> Pixels:
    start = 10 + number / 2
    header = {
        "ANGLES": f"0 {start} 0 54.7",
        "ENDING": f"0 {start + 0.5} 0 54.7",
        "ELAPSDR": "2.0",
        "DISTANC": "25.0",
        "WAVELEN": "0.98 0.98 0.98",
        "CREATED": f"2019-09-11 13:20:{28 + 2 * number}",
    }
    frame = pixels_of(number)
    written_by_fabio("bruker100image", header, frame).write(str(path))
    return frame


def _oxford(number: int, path: Path) -> Pixels:
    start = 10 + number / 2
    header = {
        "Omega start in deg": start,
        "Omega end in deg": start + 0.5,
        "Omega step in deg": 0.00025,
        "Distance in mm": 250.0,
        "Wavelength alpha1": 0.98,
        "Exposure time in sec": 2.0,
        "Real pixel size x (mm)": 0.1,
        "Real pixel size y (mm)": 0.1,
        "Time": f"Wed Sep 11 13:20:{28 + 2 * number} 2019",
    }
    frame = pixels_of(number)
    written_by_fabio("oxdimage", header, frame).write(str(path))
    return frame


def _esperanto(number: int, path: Path) -> Pixels:
    start = 10 + number / 2
    header = {
        "format": 1,
        "dom_s": start,
        "dom_e": start + 0.5,
        "ddistanceinmm": 250.0,
        "dalpha1": 0.98,
        "dexposuretimeinsec": 2.0,
        "drealpixelsizex": 0.1,
        "drealpixelsizey": 0.1,
        "timestampstring": f"Wed Sep 11 13:20:{28 + 2 * number} 2019",
    }
    frame = pixels_of(number, 256)
    written_by_fabio("esperantoimage", header, frame).write(str(path))
    return frame


def _dtrek(number: int, path: Path) -> Pixels:
    """Return what d*TREK says of a rotation: start, end, increment, seconds."""
    start = 10 + number / 2
    header = {
        "ROTATION": f"{start} {start + 0.5} 0.5 2.0 0 0 0 0 0 0",
        "ROTATION_AXIS_NAME": "Omega",
        "SOURCE_WAVELENGTH": "1 0.98",
        "DTREK_DATE_TIME": f"11-Sep-2019 13:20:{28 + 2 * number}",
        "DISTANCE": "250",
        "PIXEL_SIZE": "0.1",
        "TIME": "2.0",
    }
    frame = pixels_of(number)
    written_by_fabio("dtrekimage", header, frame).write(str(path))
    return frame


GEOMETRY = (
    "# Silicon sensor, thickness 0.000450 m\n"
    "# Count_cutoff 115897 counts\n"
    "# Beam_xy (30.50, 31.50) pixels\n"
)
"""What `pilatus_header` leaves out and NXmx requires."""


def pilatus_header(number: int) -> str:
    """Return the header of a mini-CBF."""
    start = 10 + number / 2
    return (
        "# Detector: PILATUS3 6M, S/N 60-0119\n"
        f"# 2019-09-11T13:20:{28 + 2 * number}.500\n"
        "# Pixel_size 100e-6 m x 100e-6 m\n"
        "# Exposure_time 2.0000000 s\n"
        "# Exposure_period 2.0000000 s\n"
        f"# Image_path: /ramdisk/{number}\n"
        f"# N_excluded_pixels = {600 + number}\n"
        "# Wavelength 0.98000 A\n"
        "# Detector_distance 0.25000 m\n"
        f"# Start_angle {start:.4f} deg.\n"
        "# Angle_increment 0.5000 deg.\n"
        f"# Omega {start:.4f} deg.\n"
        "# Omega_increment 0.5000 deg.\n"
    )


def written_cbf(
    number: int, path: Path, text: str = "", frame: Pixels | None = None
) -> Pixels:
    """Write a mini-CBF, by default with `pilatus_header`; return the frame."""
    header = {
        "_array_data.header_convention": "PILATUS_1.2",
        "_array_data.header_contents": text or pilatus_header(number),
    }
    frame = pixels_of(number) if frame is None else frame
    written_by_fabio("cbfimage", header, frame).write(str(path))
    return frame


def _pilatus_tiff(number: int, path: Path) -> Pixels:
    """Write a TIFF whose description is the header, as Camserver does."""
    description = pilatus_header(number).encode() + b"\0"
    frame = pixels_of(number)
    path.write_bytes(tiff_bytes(frame, description))
    return frame


def tiff_bytes(frame: Pixels, description: bytes = b"", gap: bytes = b"") -> bytes:
    """Return a TIFF by its specification, with a gap of 4096 bytes before the text."""
    height, width = frame.shape
    short, long, text = 3, 4, 2
    kinds = {"u": 1, "i": 2, "f": 3}
    begin = 4096 + len(description)
    tags = [
        (256, long, 1, width),
        (257, long, 1, height),
        (258, short, 1, frame.itemsize * 8),
        (259, short, 1, 1),
        (262, short, 1, 1),
        (270, text, len(description), 4096),
        (273, long, 1, begin),
        (278, long, 1, height),
        (279, long, 1, frame.nbytes),
        (339, short, 1, kinds[frame.dtype.kind]),
    ]
    tags = [tag for tag in tags if tag[2]]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    head = (b"II*\0" + directory).ljust(1024, b"\0") + gap.ljust(3072, b"\0")
    return head + description + frame.tobytes()


def _marccd(number: int, path: Path) -> Pixels:
    """Write a MarCCD file by the C structure in Rayonix's description of the format."""
    from fabio.marccdimage import HEADER_NAMES

    values = {
        "xtal_to_detector": 250_000,
        "exposure_time": 2000,
        "start_phi": 10_000 + 500 * number,
        "end_phi": 10_500 + 500 * number,
        "pixelsize_x": 100_000,
        "pixelsize_y": 100_000,
        "source_wavelength": 98_000,
        "beam_x": 30_500,
        "beam_y": 31_500,
    }
    content = bytearray(3072)
    content[4:7] = b"MMX"
    for name, value in values.items():
        offset = _marccd_offset(HEADER_NAMES, name)
        struct.pack_into("<i", content, offset, value)
    place = _marccd_offset(HEADER_NAMES, "acquire_timestamp")
    date = f"091113202019.{28 + 2 * number}".encode()  # MMDDhhmmYYYY.ss
    content[place : place + len(date)] = date
    frame = pixels_of(number).astype("uint16")
    path.write_bytes(tiff_bytes(frame, gap=bytes(content)))
    return frame


def _marccd_offset(names: list[str], wanted: str) -> int:
    """Return where a field is: of 4 bytes, but letters and percentiles."""
    from fabio.marccdimage import HEADER_FORMAT

    sizes = {"i": 4, "I": 4, "c": 1, "H": 2}
    place = [name.partition("[")[0] for name in names].index(wanted)
    return sum(sizes[kind] for kind in HEADER_FORMAT[:place])


def smv_bytes(frame: Pixels, **keywords: object) -> bytes:
    """Return an SMV file, as ADSC describes it: 512 bytes of keywords, then pixels."""
    own = {
        "HEADER_BYTES": "  512",
        "DIM": 2,
        "BYTE_ORDER": "little_endian",
        "TYPE": "unsigned_short",
        "SIZE1": frame.shape[1],
        "SIZE2": frame.shape[0],
    }
    lines = "".join(f"{key}={value};\n" for key, value in {**own, **keywords}.items())
    text = "{\n" + lines + "}\f"
    return text.encode().ljust(512, b" ") + frame.astype("<u2").tobytes()


def _adsc(number: int, path: Path) -> Pixels:
    frame = pixels_of(number).astype("uint16")
    keywords = {
        "DATE": f"Wed Sep 11 13:20:{28 + 2 * number} 2019",
        "TIME": "2.00",
        "DISTANCE": "250.00",
        "OSC_RANGE": "0.5000",
        "OSC_START": f"{10 + number / 2:.4f}",
        "PHI": f"{10 + number / 2:.4f}",
        "AXIS": "phi",
        "WAVELENGTH": "0.98000",
        "BEAM_CENTER_X": "3.05",
        "BEAM_CENTER_Y": "3.15",
        "PIXEL_SIZE": "0.1000",
        "DETECTOR_SN": 911,
    }
    path.write_bytes(smv_bytes(frame, **keywords))
    return frame


TURNING: dict[str, tuple[Callable[[int, Path], Pixels], str]] = {
    "cbf": (written_cbf, "omega"),
    "tif": (_pilatus_tiff, "omega"),
    "mar3450": (_mar345, "phi"),
    "sfrm": (_bruker, "omega"),
    "oxford.img": (_oxford, "omega"),
    "esper": (_esperanto, "omega"),
    "dtrek.img": (_dtrek, "omega"),
    "mccd": (_marccd, "phi"),
    "adsc.img": (_adsc, "phi"),
}
"""Suffix to what writes frame n of a series, and the angle that turns in it."""


def packed_cbf_bytes(frame: Pixels) -> bytes:
    """Return a CBF with packed pixels, as Rayonix's programs write them with CBFlib."""
    binary = frame.astype("<i4").tobytes()[: frame.size // 2]
    height, width = frame.shape
    return (
        b"###CBF: VERSION 1.3\r\n\r\ndata_rayonix\r\n\r\n_array_data.data\r\n;\r\n"
        b"--CIF-BINARY-FORMAT-SECTION--\r\n"
        b"Content-Type: application/octet-stream;\r\n"
        b'     conversions="x-CBF_PACKED"\r\n'
        b"Content-Transfer-Encoding: BINARY\r\n"
        + f"X-Binary-Size: {len(binary)}\r\n".encode()
        + b"X-Binary-ID: 1\r\n"
        b'X-Binary-Element-Type: "signed 32-bit integer"\r\n'
        + f"X-Binary-Number-of-Elements: {frame.size}\r\n".encode()
        + f"X-Binary-Size-Fastest-Dimension: {width}\r\n".encode()
        + f"X-Binary-Size-Second-Dimension: {height}\r\n\r\n".encode()
        + b"\x0c\x1a\x04\xd5"
        + binary
        + b"\r\n--CIF-BINARY-FORMAT-SECTION----\r\n;\r\n"
    )


def eiger_series(folder: Path, frames: Pixels, per_file: int = 2) -> Path:
    """Write data files and a master as DECTRIS's FileWriter does; return the master."""
    master = folder / "run1_master.h5"
    numbers = np.arange(len(frames))
    with h5py.File(master, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        data = entry.create_group("data")
        data.attrs["NX_class"] = "NXdata"
        instrument = _group(entry, "instrument", "NXinstrument")
        detector = _group(instrument, "detector", "NXdetector")
        detector["description"] = "Dectris Eiger 1M"
        detector["detector_number"] = "E-02-0100"
        fields = {
            "count_time": (2.0, "s"),
            "frame_time": (2.0, "s"),
            "detector_distance": (0.25, "m"),
            "x_pixel_size": (1e-4, "m"),
            "y_pixel_size": (1e-4, "m"),
            "beam_center_x": (30.5, "pixel"),
        }
        for name, (value, units) in fields.items():
            detector[name] = value
            detector[name].attrs["units"] = units
        specific = _group(detector, "detectorSpecific", "NXcollection")
        specific["data_collection_date"] = "2019-09-11T13:20:28.5+02:00"
        specific["nimages"] = len(frames)
        specific["ntrigger"] = 1
        mask = np.zeros(frames.shape[1:], "u4")
        mask[0, 0] = 1
        specific["pixel_mask"] = mask
        # Also of two dimensions, and no frames.
        specific["detectorModule_000/countrate_correction_table"] = np.ones((2, 99))
        specific["detectorModule_000/flatfield"] = np.ones(frames.shape[1:], "f4")
        beam = _group(instrument, "beam", "NXbeam")
        beam["incident_wavelength"] = 0.98
        beam["incident_wavelength"].attrs["units"] = "angstrom"
        sample = _group(entry, "sample", "NXsample")
        goniometer = _group(sample, "goniometer", "NXtransformations")
        goniometer["omega"] = 10 + numbers / 2
        goniometer["omega"].attrs["units"] = "degree"
        goniometer["omega_end"] = 10.5 + numbers / 2
        for part, first in enumerate(range(0, len(frames), per_file), start=1):
            name = f"run1_data_{part:06}.h5"
            with h5py.File(folder / name, "w") as other:
                dataset = other.create_dataset(
                    "entry/data/data", data=frames[first : first + per_file]
                )
                dataset.attrs["image_nr_low"] = first + 1
                dataset.attrs["image_nr_high"] = first + len(dataset)
            data[f"data_{part:06}"] = h5py.ExternalLink(name, "/entry/data/data")
    return master


def _group(parent: Any, name: str, nx_class: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    return group
