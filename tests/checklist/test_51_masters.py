"""Items 51 to 60: masters, links, virtual datasets."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np

from scanbus.writer import check_files, rebuild
from tests.checklist.items import item
from tests.checklist.judges import ask, program
from tests.checklist.problems import problems
from tests.checklist.readers import reads
from tests.checklist.sample import (
    FRAME,
    N_POINTS,
    Sample,
    mask,
    tomography_frames,
)
from tests.support.checklist import check_file
from tests.support.trees import differences

TOMOGRAPHY = ["tomo:basic", "projections"]
PYFAI = "frames by their path; detectors of the scan master"


def copied(sample: Sample, folder: Path) -> Path:
    """Copy the whole tree; return the copy's root."""
    return Path(shutil.copytree(sample.root, folder / "elsewhere"))


def in_copy(sample: Sample, root: Path, path: Path) -> Path:
    return root / path.relative_to(sample.root)


@item(51, "h5py")
def test_51_paths_are_relative(sample: Sample) -> None:
    assert problems(sample, 51) == []


@item(52, "h5py")
def test_52_the_tree_can_be_moved(sample: Sample, tmp_path: Path) -> None:
    root = copied(sample, tmp_path)
    for path in sample.masters.values():
        assert check_file(in_copy(sample, root, path)) == []
    with h5py.File(in_copy(sample, root, sample.dataset)) as file:
        frames = file["1.1/measurement/eiger"]
        np.testing.assert_array_equal(frames, sample.sent["eiger"])


@item(53, "h5py")
def test_53_only_counted_frames_are_mapped(sample: Sample) -> None:
    assert problems(sample, 53) == []


@item(54, "h5py")
def test_54_sources_are_listed(sample: Sample) -> None:
    assert problems(sample, 54) == []
    with h5py.File(sample.rich) as file:
        assert set(file["1.1/scanbus/sources"]) == {"eiger", "cam", "noise"}


@item(55, "h5py")
def test_55_no_source_in_the_own_file_has_a_name(sample: Sample) -> None:
    names: list[tuple[str, str]] = []

    def look(_: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset) and node.is_virtual:
            own = Path(node.file.filename).name
            names.extend((own, one.file_name) for one in node.virtual_sources())

    for path in sample.files:
        with h5py.File(path) as file:
            file.visititems(look)
    assert names
    assert not [own for own, source in names if own in {source, source.lstrip("./")}]


@item(56, "scanbus check")
def test_56_a_missing_source_is_found(sample: Sample, tmp_path: Path) -> None:
    root = copied(sample, tmp_path)
    master = in_copy(sample, root, sample.rich)
    lost = master.parent / "eiger_0000.h5"
    lost.unlink()
    report = check_files([master])
    assert not report.ok
    assert any(lost.name in str(found) for found in report.findings)


@item(57, "h5py")
def test_57_links_resolve(sample: Sample) -> None:
    assert problems(sample, 57) == []


@item(57, "scanbus check")
def test_57_check_finds_the_links_of_sequences_in_order(sample: Sample) -> None:
    report = check_files([sample.dataset, sample.masters["sequence"]])
    assert report.ok, report.findings


@item(58, "h5py")
def test_58_masters_of_all_levels_link_every_entry(sample: Sample) -> None:
    folder = sample.dataset.parent
    collection = folder.parent / "hg123_sample-A.h5"
    proposal = folder.parent.parent / "hg123_id00.h5"
    for path in (sample.dataset, collection, proposal):
        with h5py.File(path) as file:
            titles = [entry["title"].asstr()[()] for entry in file.values()]
            assert titles[1:4] == ["mesh", "gaps", "sequence_of_scans"]
            # The collection has a second dataset.
            assert titles[4:] == ([] if path == sample.dataset else TOMOGRAPHY)


@item(59, "scanbus master rebuild")
def test_59_masters_are_made_again_equal(sample: Sample, tmp_path: Path) -> None:
    root = copied(sample, tmp_path)
    for path in sample.masters.values():
        in_copy(sample, root, path).unlink()
    report = rebuild(root)
    assert not report.skipped
    assert differences(sample.root, root) == []


@item(60, "h5py")
def test_60_a_dataset_names_all_its_files(sample: Sample) -> None:
    found: set[Path] = set()
    folder = sample.dataset.parent
    with h5py.File(sample.dataset) as file:
        for name, entry in file.items():
            scan = (folder / file.get(name, getlink=True).filename).parent
            found |= {scan / one for one in entry["scanbus/files"].asstr()}
    parts = [path for path in sample.files if path.parent.parent == folder]
    expected = {*parts} - {*sample.masters.values()}
    assert found == expected


@item(60, "pyFAI")
@reads("pyFAI", frames="ok", dataset=PYFAI)
def test_60_pyfai_integrates_from_the_dataset(sample: Sample) -> None:
    answer = ask(
        "pyFAI",
        """
        import h5py
        from pyFAI.detectors import detector_factory
        from pyFAI.integrator.azimuthal import AzimuthalIntegrator
        with h5py.File(sys.argv[1]) as file:
            frame = file["1.1/measurement/eiger"][0]
        with h5py.File(sys.argv[1]) as file:
            folder = file.get("1.1", getlink=True).filename
        import os
        master = os.path.join(os.path.dirname(sys.argv[1]), folder)
        detector = detector_factory(master)
        integrator = AzimuthalIntegrator(0.1, 2e-3, 2e-3, detector=detector,
                                         wavelength=1e-10)
        found = integrator.integrate1d(frame, 20, method=("no", "histogram", "cython"))
        answer = [float(found.sum_signal.sum()), float(found.count.sum())]
        """,
        sample.dataset,
    )
    is_good = mask() == 0
    total, count = answer
    assert round(count) == is_good.sum()
    np.testing.assert_allclose(total, sample.sent["eiger"][0][is_good].sum())


@item(60, "PyMca5")
def test_60_pymca_lists_the_spectra_of_a_scan(sample: Sample) -> None:
    answer = ask(
        "PyMca5",
        """
        import h5py
        from PyMca5.PyMcaCore import NexusTools
        with h5py.File(sys.argv[1]) as file:
            listed = NexusTools.getMcaList(file, "/1.1")
            paths = NexusTools.getMcaObjectPaths(file, listed[0])
            shape = list(file[paths["counts"]].shape)
            calibration = file[paths["calibration"]][()].tolist()
        with h5py.File(sys.argv[2]) as file:
            # From the dataset it lists them, by their paths in the scan's master.
            below = NexusTools.getMcaList(file, "/1.1")
            ends = [path.partition("/1.1/")[2] for path in below]
        answer = [listed, shape, calibration, ends]
        """,
        sample.rich,
        sample.dataset,
    )
    listed, shape, calibration, below = answer
    assert listed[0] == "/1.1/instrument/mca_det0/spectrum"
    assert not any("/scanbus/" in path for path in listed)
    assert [path.removeprefix("/1.1/") for path in listed] == below
    assert shape == [N_POINTS, 64]
    np.testing.assert_allclose(calibration, [0.25, 0.01, 0], atol=1e-9)


@item(60, "nxtomomill")
@reads("nxtomomill", values="ok", frames="ok", dataset="ok")
def test_60_nxtomomill_converts_a_tomography(sample: Sample, tmp_path: Path) -> None:
    folder = sample.masters["tomo"].parent.parent
    dataset, converted = folder / f"{folder.name}.h5", tmp_path / "out.nx"
    command = [program("nxtomomill"), "h52nx", str(dataset), str(converted)]
    done = subprocess.run(
        [*command, "--single-file", "--no-input", "--overwrite"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert converted.is_file(), done.stderr[-2000:]
    with h5py.File(converted) as file:
        (entry,) = file.values()
        detector = entry["instrument/detector"]
        np.testing.assert_array_equal(detector["data"], tomography_frames())
        angles = entry["sample/rotation_angle"]
        np.testing.assert_allclose(angles, np.linspace(0, 180, N_POINTS))
        assert set(detector["image_key"][()]) == {0}


@item(60, "tiled")
def test_60_tiled_serves_the_master(sample: Sample) -> None:
    answer = ask(
        "tiled",
        """
        from tiled.adapters.hdf5 import HDF5Adapter
        from tiled.client import Context, from_context
        from tiled.server.app import build_app
        from pathlib import Path
        tree = HDF5Adapter.from_uris(Path(sys.argv[1]).as_uri())
        with Context.from_app(build_app(tree)) as context:
            entry = from_context(context)["1.1"]
            frames = entry["instrument"]["eiger"]["image"]
            answer = [list(frames.shape), int(frames[0].sum())]
        """,
        sample.rich,
    )
    assert answer[0] == [N_POINTS, *FRAME]
    assert answer[1] == sample.sent["eiger"][0].sum(dtype=np.uint64)
