"""Items 72 to 79, 81 and 82: pairs of NXmx files, and who opens them."""

from __future__ import annotations

import bz2
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from tests.checklist import layout_judges as judge
from tests.checklist.items import item
from tests.checklist.mx_scans import (
    FRAME,
    MASK,
    N_FRAMES,
    N_TRIGGERS,
    MxScan,
    files_scan,
    mx_scans,
    program,
)
from tests.checklist.neggia_rules import durin_problems, neggia_problems
from tests.support.waiting import found_below
from tests.support.writers import wait_until, writer

# Programs of others start slowly on a machine that has much to do.
pytestmark = pytest.mark.timeout(400)

DETECTOR = "entry/instrument/detector"
OMEGA = "entry/sample/transformations/omega"
COMPLETE = ("program", "series", "rotation")
# What a simulated detector says of itself.
SERIES = {
    "images": 12.0,
    "wavelength_angstrom": 1.0,
    "distance_mm": 150.0,
    "pixel_fast_mm": 0.075,
    "pixel_slow_mm": 0.075,
    "beam_fast_px": 515.5,
    "beam_slow_px": 256.25,
    "start_deg": 10.0,
    "width_deg": 0.1,
}
PROGRAM = {
    **SERIES,
    "wavelength_angstrom": 12398.419843320026 / 12_400,
    "distance_mm": 250.0,
    "beam_fast_px": 24.5,
    "beam_slow_px": 31.25,
    "start_deg": 30.0,
    "width_deg": 0.25,
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, MxScan]:
    """Scans by name; each is published once."""
    return mx_scans(tmp_path_factory.mktemp("mx"))


@pytest.fixture(scope="module", params=COMPLETE)
def scan(scans: dict[str, MxScan], request: pytest.FixtureRequest) -> MxScan:
    """Each of those that have what NXmx requires."""
    return scans[request.param]


@pytest.fixture(scope="module")
def thaumatin(
    tmp_path_factory: pytest.TempPathFactory, shared_data: Path
) -> Iterator[MxScan]:
    """Ten frames of a PILATUS, whose sources are not packed for DIALS."""
    folder = tmp_path_factory.mktemp("thaumatin")
    files = []
    for path in sorted((shared_data / "thaumatin_grid").glob("*.cbf.bz2")):
        files.append(folder / path.stem)
        files[-1].write_bytes(bz2.decompress(path.read_bytes()))
    with PrivateRedis(tcp=True) as server, writer(server.url, folder / "data") as one:
        wait_until(lambda: "writer_started" in one.said)
        yield files_scan(server.url, folder / "data", "mx", files, ())


def is_utc(text: str) -> bool:
    offset = datetime.fromisoformat(text).utcoffset()
    return text.endswith("Z") and offset is not None and not offset


@item(72, "rules of neggia")
def test_72_neggia_shows_every_frame(scan: MxScan) -> None:
    assert neggia_problems(scan.linking) == []


@item(72, "rules of durin")
def test_72_durin_shows_every_frame(scan: MxScan) -> None:
    assert durin_problems(scan.linking) == []


@item(72, "fabio")
def test_72_fabio_counts_each_frame_once(scans: dict[str, MxScan]) -> None:
    assert len(judge.fabio_frames(scans["series"].linking)) == N_FRAMES
    rotation = scans["rotation"]
    for path in rotation.pair:
        assert judge.fabio_frames(path) == list(rotation.sums)


@item(72, "rules of neggia, fabio")
def test_72_ten_frames_of_thaumatin(thaumatin: MxScan) -> None:
    assert neggia_problems(thaumatin.linking) == []
    assert durin_problems(thaumatin.linking) == []
    for path in thaumatin.pair:
        assert len(judge.fabio_frames(path)) == 10


@item(73, "nxvalidate")
def test_73_nxvalidate_finds_no_error(scan: MxScan) -> None:
    for path in scan.pair:
        assert judge.nxvalidate(path) == []


@item(73, "nxmx, DIALS")
def test_73_dials_and_nxmx_read_what_a_detector_said(
    scans: dict[str, MxScan], tmp_path: Path
) -> None:
    for path in scans["series"].pair:
        assert judge.dials_import(path, tmp_path) == pytest.approx(SERIES)
        assert judge.nxmx(path) == pytest.approx(SERIES)


@item(73, "nxmx, DIALS")
def test_73_dials_and_nxmx_read_what_a_program_said(
    scans: dict[str, MxScan], tmp_path: Path
) -> None:
    for path in scans["program"].pair:
        assert judge.dials_import(path, tmp_path) == pytest.approx(PROGRAM)
        assert judge.nxmx(path) == pytest.approx(PROGRAM)


@item(73, "DIALS")
def test_73_dials_reads_a_rotation_as_from_its_cbf_files(
    scans: dict[str, MxScan], tmp_path: Path
) -> None:
    rotation = scans["rotation"]
    expected = judge.dials_import(rotation.sources, tmp_path)
    assert expected["width_deg"] == 0.5
    for path in rotation.pair:
        assert judge.dials_import(path, tmp_path) == pytest.approx(expected)


@item(73, "nxvalidate, DIALS")
def test_73_dials_reads_thaumatin_as_from_its_cbf_files(
    thaumatin: MxScan, tmp_path: Path
) -> None:
    assert thaumatin.verdict.verdict is VerdictWord.COMPLETE
    assert thaumatin.verdict.notes == ()
    expected = judge.dials_import(thaumatin.sources, tmp_path)
    assert expected["images"] == 10
    for path in thaumatin.pair:
        assert judge.nxvalidate(path) == []
        assert judge.dials_import(path, tmp_path) == pytest.approx(expected)


@item(73, "dxtbx")
def test_73_dxtbx_reads_every_frame(scans: dict[str, MxScan]) -> None:
    sums = list(scans["program"].sums)
    assert judge.dials_frames(scans["program"].mapping) == sums


@item(73, "rules of durin")
def test_73_durin_shows_the_mapped_frames(scan: MxScan) -> None:
    assert durin_problems(scan.mapping) == []


@item(73, "nxvalidate, h5py")
def test_73_without_half_of_it_there_is_no_definition(
    scans: dict[str, MxScan],
) -> None:
    bare = scans["bare"]
    (said,) = [note for note in bare.verdict.notes if "scan0001.nxs" in note]
    for path in bare.pair:
        with h5py.File(path) as file:
            assert "definition" not in file["entry"]
            # The frames are there all the same.
            assert len(judge.fabio_frames(path)) == len(bare.sources)
            lacks = list(file.attrs["scanbus_missing"])
        assert lacks
        assert all(name in said for name in lacks)
    for name in ("sensor_material", "sensor_thickness", "beam_center_x"):
        assert f"/{name}" in said
    assert bare.verdict.verdict is VerdictWord.COMPLETE


@item(74, "h5py")
def test_74_times_are_in_utc(scan: MxScan) -> None:
    for path in scan.pair:
        with h5py.File(path) as file:
            for name in ("start_time", "end_time", "end_time_estimated"):
                assert is_utc(file[f"entry/{name}"].asstr()[()])


@item(74, "h5py")
def test_74_a_time_zone_is_converted(thaumatin: MxScan) -> None:
    with h5py.File(thaumatin.mapping) as file:
        assert file["entry/start_time"].asstr()[()] == "2019-09-11T11:20:28.989000Z"


@item(75, "h5py")
def test_75_the_end_is_estimated_while_the_scan_runs(tmp_path: Path) -> None:
    def running() -> Path | None:
        return next(iter(found_below(tmp_path, "scan0001.nxs")), None)

    with (
        PrivateRedis() as server,
        writer(server.url, tmp_path),
        Publisher(server.url, close_timeout_s=0.0) as publisher,
        program(publisher) as scan,
    ):
        scan.detector("eiger", shape=FRAME, dtype="uint32", points=1000)
        scan.send("eiger", np.zeros((2, *FRAME), np.uint32))
        with h5py.File(wait_until(running), locking=False) as file:
            entry = file["entry"]
            assert "end_time" not in entry
            start, end = (
                datetime.fromisoformat(entry[name].asstr()[()])
                for name in ("start_time", "end_time_estimated")
            )
            # 1000 frames, 0.02 s each.
            assert (end - start).total_seconds() == pytest.approx(20)


@item(75, "h5py")
def test_75_in_the_end_the_estimate_is_the_end(scan: MxScan) -> None:
    with h5py.File(scan.mapping) as file:
        entry = file["entry"]
        assert entry["end_time_estimated"][()] == entry["end_time"][()]
        assert entry["end_time"][()] > entry["start_time"][()]


@item(76, "h5py")
def test_76_the_source_is_under_the_entry(scans: dict[str, MxScan]) -> None:
    names = {"program": "Ring of Å", "series": "id30"}
    for name, source in names.items():
        for path in scans[name].pair:
            with h5py.File(path) as file:
                assert file["entry/source"].attrs["NX_class"] == "NXsource"
                assert file["entry/source/name"].asstr()[()] == source
                assert "source" not in file["entry/instrument"]


@item(77, "h5py")
def test_77_the_module_has_its_vectors(scans: dict[str, MxScan]) -> None:
    for path in scans["program"].pair:
        with h5py.File(path) as file:
            module = file[f"{DETECTOR}/module"]
            assert module.attrs["NX_class"] == "NXdetector_module"
            assert module["data_origin"][()].tolist() == [0, 0]
            assert tuple(module["data_size"][()]) == FRAME
            for name, vector in (("fast", [-1, 0, 0]), ("slow", [0, -1, 0])):
                direction = module[f"{name}_pixel_direction"]
                assert direction[()] == pytest.approx(75e-6)
                assert direction.attrs["transformation_type"] == "translation"
                assert direction.attrs["vector"].tolist() == vector
                assert direction.attrs["units"] == "m"
                assert direction.attrs["offset"].tolist() == [0, 0, 0]
                assert direction.attrs["depends_on"] in file


@item(78, "h5py")
def test_78_materials_have_the_names_that_dxtbx_knows(scan: MxScan) -> None:
    for path in scan.pair:
        with h5py.File(path) as file:
            assert file[f"{DETECTOR}/sensor_material"].asstr()[()] == "Si"


@item(79, "h5py")
def test_79_uint32_was_read_out_with_32_bits(scans: dict[str, MxScan]) -> None:
    for path in scans["program"].pair:
        with h5py.File(path) as file:
            assert file[f"{DETECTOR}/bit_depth_readout"][()] == 32


@item(80, "h5py")
def test_80_the_mask_of_nxmx_is_in_one_piece(scans: dict[str, MxScan]) -> None:
    one = scans["program"]
    with h5py.File(one.linking) as file:
        mask = file[f"{DETECTOR}/detectorSpecific/pixel_mask"]
        assert mask.chunks is None
        np.testing.assert_array_equal(mask, MASK)
    for path in one.pair:
        with h5py.File(path) as file:
            mask = file[f"{DETECTOR}/pixel_mask"]
            assert mask.dtype == np.uint32
            np.testing.assert_array_equal(mask, MASK)


@item(81, "h5py")
def test_81_omega_has_its_ends_and_types(scan: MxScan) -> None:
    for path in scan.pair:
        with h5py.File(path) as file:
            assert file["entry/sample/depends_on"].asstr()[()] == f"/{OMEGA}"
            start, end = file[OMEGA], file[f"{OMEGA}_end"]
            for angle in (start, end):
                assert angle.attrs["transformation_type"] == "rotation"
                assert angle.attrs["units"] == "deg"
                assert len(angle.attrs["vector"]) == 3
            np.testing.assert_allclose(end[:-1], start[1:])


@item(82, "h5py")
def test_82_counts_and_the_goniometer_are_where_older_programs_look(
    scans: dict[str, MxScan],
) -> None:
    with h5py.File(scans["program"].linking) as file:
        specific = file[f"{DETECTOR}/detectorSpecific"]
        assert specific["nimages"][()] == N_FRAMES // N_TRIGGERS
        assert specific["ntrigger"][()] == N_TRIGGERS
        assert specific["y_pixels_in_detector"][()] == FRAME[0]
        assert specific["x_pixels_in_detector"][()] == FRAME[1]
        assert specific["countrate_correction_count_cutoff"][()] == 100_000
        assert specific["photon_energy"][()] == pytest.approx(12_400)
        gonio = file["entry/sample/goniometer"]
        np.testing.assert_allclose(gonio["omega"], 30 + np.arange(N_FRAMES) / 4)
        assert gonio["omega_increment"][()] == pytest.approx(0.25)
        assert gonio["omega_range_average"][()] == pytest.approx(0.25)
        assert gonio["omega_end"][N_FRAMES - 1] == pytest.approx(33)
