"""Items 25 to 40: instrument, measurement, plots, sample."""

from __future__ import annotations

import h5py
import numpy as np

from scanbus.schemas.file_names import scan_folder_name
from tests.checklist.items import item
from tests.checklist.judges import ask
from tests.checklist.problems import problems
from tests.checklist.sample import FRAME, N_POINTS, Sample, mask


@item(25, "h5py")
def test_25_the_instrument_has_its_names(sample: Sample) -> None:
    assert problems(sample, 25) == []
    with h5py.File(sample.rich) as file:
        name = file["1.1/instrument/name"]
        assert name.asstr()[()] == "ID00 Streuung Å"
        assert name.attrs["short_name"] == "id00"


@item(26, "h5py")
def test_26_every_device_has_data(sample: Sample) -> None:
    assert problems(sample, 26) == []


@item(26, "pyFAI")
def test_26_pyfai_knows_the_detector_from_the_master(sample: Sample) -> None:
    answer = ask(
        "pyFAI",
        """
        from pyFAI.detectors import detector_factory
        found = detector_factory(sys.argv[1])
        answer = [list(found.shape), found.pixel1, found.pixel2, found.mask.tolist()]
        """,
        sample.rich,
    )
    assert answer[0] == list(FRAME)
    np.testing.assert_allclose(answer[1:3], [100e-6, 75e-6])
    np.testing.assert_array_equal(answer[3], mask() > 0)


@item(27, "h5py")
def test_27_frames_have_the_names_of_lima(sample: Sample) -> None:
    assert problems(sample, 27) == []
    with h5py.File(sample.rich) as file:
        device = file["1.1/instrument/eiger"]
        assert device["image"] == device["data"]


@item(28, "h5py")
def test_28_scanned_axes_are_positioners(sample: Sample) -> None:
    assert problems(sample, 28) == []
    with h5py.File(sample.rich) as file:
        axis = file["1.1/instrument/th"]
        assert axis.attrs["NX_class"] == "NXpositioner"
        np.testing.assert_array_equal(axis["value"], sample.sent["th"])


@item(29, "h5py")
def test_29_positions_at_start_and_end_with_dials(sample: Sample) -> None:
    expected = {"start": 0.0, "end": 2.75, "dial_start": 0.5, "dial_end": 3.25}
    with h5py.File(sample.rich) as file:
        for name, value in expected.items():
            node = file[f"1.1/instrument/positioners_{name}/th"]
            assert node[()] == value
            assert node.attrs["units"] == "deg"
        assert file["1.1/instrument/positioners_start/gone"].asstr()[()] == "ERR"


@item(30, "h5py")
def test_30_a_positioner_leads_to_the_scanned_positions(sample: Sample) -> None:
    assert problems(sample, 30) == []
    with h5py.File(sample.rich) as file:
        link = file["1.1/instrument/positioners"].get("th", getlink=True)
        assert link.path == "/1.1/instrument/th/value"


@item(31, "h5py")
def test_31_measurement_has_every_channel_once(sample: Sample) -> None:
    assert problems(sample, 31) == []
    with h5py.File(sample.rich) as file:
        assert len(file["1.1/measurement"]) == len(sample.sent)


@item(32, "pint")
def test_32_pint_parses_all_units(sample: Sample) -> None:
    assert problems(sample, 32) == []
    units: set[str] = set()

    def collect(_: str, node: h5py.Group | h5py.Dataset) -> None:
        if "units" in node.attrs:
            units.add(node.attrs["units"])

    for path in sample.files:
        with h5py.File(path) as file:
            file.visititems(collect)
    assert {"deg", "A", "Hz", "m", "keV"} <= units
    answer = ask(
        "pint",
        "import pint\nanswer = [str(pint.Unit(name)) for name in sys.argv[1:]]",
        *sorted(units),
    )
    assert len(answer) == len(units)


@item(33, "silx")
def test_33_silx_shows_each_array_as_what_it_is(sample: Sample) -> None:
    assert problems(sample, 33) == []
    answer = ask(
        "silx",
        """
        import h5py
        from silx.io.nxdata import NXdata
        with h5py.File(sys.argv[1]) as file:
            plots = {
                name: NXdata(node)
                for name, node in file["1.1"].items()
                if node.attrs.get("NX_class") == "NXdata"
            }
            answer = {
                plot.signal_name: [plot.is_valid, plot.interpretation]
                for plot in plots.values()
            }
        """,
        sample.rich,
    )
    assert all(is_valid for is_valid, _ in answer.values())
    shown = {name: meaning for name, (_, meaning) in answer.items()}
    assert shown["eiger"] == "image"
    assert shown["cam"] == "rgb-image"
    assert shown["mca_det0"] == "spectrum"


@item(34, "h5py")
def test_34_an_mca_has_the_names_of_bliss(sample: Sample) -> None:
    with h5py.File(sample.rich) as file:
        for tail in ("", "_trigger_count_rate", "_elapsed_time"):
            assert len(file[f"1.1/measurement/mca_det0{tail}"]) == N_POINTS


@item(34, "PyMca5")
def test_34_pymca_finds_what_it_needs_beside_spectra(sample: Sample) -> None:
    answer = ask(
        "PyMca5",
        """
        import h5py
        from PyMca5.PyMcaCore import NexusTools
        with h5py.File(sys.argv[1]) as file:
            path = "/1.1/instrument/mca_det0/spectrum"
            answer = sorted(NexusTools.getMcaObjectPaths(file, path))
        """,
        sample.rich,
    )
    needed = {"calibration", "channels", "counts", "elapsed_time", "preset_time"}
    assert needed <= set(answer)


@item(35, "h5py")
def test_35_the_sample_has_its_name(sample: Sample) -> None:
    assert problems(sample, 35) == []
    with h5py.File(sample.rich) as file:
        assert file["1.1/sample/name"].asstr()[()] == "Lysozym Å"


@item(36, "h5py")
def test_36_no_personal_data_are_written(sample: Sample) -> None:
    assert problems(sample, 36) == []
    with h5py.File(sample.rich) as file:
        assert "user" not in file["1.1"]
        said = " ".join(file["1.1/scanbus/problems"].asstr())
        assert "personal data" in said


@item(37, "silx")
def test_37_a_mesh_is_an_image(sample: Sample) -> None:
    assert problems(sample, 37) == []
    answer = ask(
        "silx",
        """
        import h5py
        from silx.io.nxdata import get_default
        with h5py.File(sys.argv[1]) as file:
            found = get_default(file)
            answer = [found.is_image, found.signal[()].tolist(),
                      [axis[()].tolist() for axis in found.axes]]
        """,
        sample.masters["mesh"],
    )
    rows, columns = np.arange(4)[:, None], np.arange(5)
    assert answer[0] is True
    np.testing.assert_array_equal(answer[1], 10 * rows + columns)
    np.testing.assert_allclose(answer[2][0], np.arange(4) / 2)
    np.testing.assert_allclose(answer[2][1], columns / 10)


@item(37, "h5grove")
def test_37_h5grove_serves_the_default_plot(sample: Sample) -> None:
    answer = ask(
        "h5grove",
        """
        from h5grove.content import get_content_from_file
        path = "/1.1/plotselect/diode"
        def refuse(status, message=None): raise RuntimeError(message)
        with get_content_from_file(sys.argv[1], path, refuse) as content:
            answer = [list(content.metadata()["shape"]), content.data().tolist()]
        """,
        sample.rich,
    )
    assert answer[0] == [N_POINTS]
    np.testing.assert_allclose(answer[1], sample.sent["diode"])


@item(38, "h5py")
def test_38_auxiliary_signals_are_of_one_unit_and_shape(sample: Sample) -> None:
    assert problems(sample, 38) == []
    with h5py.File(sample.rich) as file:
        plots = [
            node for node in file["1.1"].values() if "auxiliary_signals" in node.attrs
        ]
        assert plots
        for plot in plots:
            names = (plot.attrs["signal"], *plot.attrs["auxiliary_signals"])
            assert len({plot[name].attrs.get("units") for name in names}) == 1


@item(39, "nexusformat")
def test_39_linked_objects_name_themselves(sample: Sample) -> None:
    assert problems(sample, 39) == []
    answer = ask(
        "nexusformat",
        """
        from nexusformat.nexus import nxload
        root = nxload(sys.argv[1])
        found = root["1.1/instrument/eiger/image"]
        answer = [str(found.attrs["target"]), root["1.1/measurement/eiger"].nxtarget]
        """,
        sample.rich,
    )
    assert answer == ["/1.1/instrument/eiger/image"] * 2


@item(40, "h5py")
def test_40_technique_subentries_and_sequences_are_kept(sample: Sample) -> None:
    with h5py.File(sample.rich) as file:
        assert file["1.1/technique"].attrs["NX_class"] == "NXcollection"
        assert file["1.1/technique/scan/energy"].attrs["units"] == "keV"
        assert file["1.1/saxs"].attrs["NX_class"] == "NXsubentry"
    with h5py.File(sample.masters["sequence"]) as file:
        parts = file["4.1/subscans"]
        assert list(parts) == ["1.1", "2.1", "3.1"]
        assert parts["2.1/title"].asstr()[()] == "mesh"
        link = parts.get("2.1", getlink=True)
        assert link.filename.split("/")[1] == scan_folder_name(2)
