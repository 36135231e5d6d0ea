"""What readers in Python and C show of a scan, compared with what was published."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from tests.checklist.judges import (
    ask,
    ask_debian,
    missing,
    plugin_path,
    program,
    run,
)
from tests.checklist.readers import reads
from tests.checklist.sample import Sample

# Programs of others start slowly on a machine that has much to do.
pytestmark = pytest.mark.timeout(400)

VALUES = ("th", "diode", "count", "comment")
SPECTRA = ("mca_det0",)
FRAMES = ("eiger", "cam", "noise")
ALL = VALUES + SPECTRA + FRAMES

# What a reader with the manners of h5py gives: `file` and `names` are set before.
READ = """
def plain(values):
    return [one.decode() if isinstance(one, bytes) else one for one in values.tolist()]
measured = file["1.1/measurement"]
answer = {name: plain(measured[name][()]) for name in names}
"""


def assert_equal(
    answer: dict[str, Any], sample: Sample, names: tuple[str, ...] = ALL
) -> None:
    assert set(answer) == set(names)
    for name, values in answer.items():
        np.testing.assert_array_equal(values, sample.sent[name], err_msg=name)


@reads("h5py", values="ok", spectra="ok", frames="ok", dataset="ok")
def test_h5py_reads_all_from_the_dataset(sample: Sample) -> None:
    code = f"import h5py\nfile, names = h5py.File(sys.argv[1]), sys.argv[2:]\n{READ}"
    assert_equal(ask("h5py", code, sample.dataset, *ALL), sample)


@reads("h5py with HDF5 1.10", values="ok", spectra="ok", frames="ok", dataset="ok")
def test_an_old_h5py_reads_all_from_the_dataset(sample: Sample) -> None:
    code = f"""
import h5py
if h5py.version.hdf5_version_tuple[:2] == (1, 10):
    file, names = h5py.File(sys.argv[1]), sys.argv[2:]
    {READ.replace(chr(10), chr(10) + "    ")}
else:
    answer = h5py.version.hdf5_version
"""
    answer = ask_debian(code, sample.dataset, *ALL)
    if isinstance(answer, str):
        missing(f"HDF5 1.10; Debian's h5py here has {answer}")
    assert_equal(answer, sample)


COPY = "h5py without filters, of a copy by `scanbus convert`"


@reads(COPY, values="ok", spectra="ok", frames="ok", dataset="ok")
def test_a_copy_needs_no_filter(sample: Sample, tmp_path: Path) -> None:
    copy = tmp_path / "all.h5"
    scanbus = [sys.executable, "-m", "scanbus.cli"]
    run([*scanbus, "convert", str(sample.dataset), str(copy)], env=None)
    code = f"import h5py\nfile, names = h5py.File(sys.argv[1]), sys.argv[2:]\n{READ}"
    assert_equal(ask_debian(code, copy, *ALL, filters=""), sample)


@reads("h5dump", values="ok", spectra="ok", frames="ok", dataset="ok")
def test_h5dump_prints_all(sample: Sample, tmp_path: Path) -> None:
    h5dump = program("h5dump")
    if "Version 1.10" not in (version := run([h5dump, "--version"]).stdout):
        missing(f"h5dump 1.10; here is {version}")
    for name in set(ALL) - {"comment"}:
        raw = tmp_path / name
        path = ["-d", f"/1.1/measurement/{name}", str(sample.dataset)]
        filters = {**os.environ, "HDF5_PLUGIN_PATH": plugin_path()}
        run([h5dump, "-b", "LE", "-o", str(raw), *path], env=filters)
        sent = np.asarray(sample.sent[name])
        np.testing.assert_array_equal(np.fromfile(raw, sent.dtype), sent.ravel())
    texts = ["-d", "/1.1/measurement/comment", str(sample.dataset)]
    printed = run([h5dump, "-y", *texts]).stdout
    assert 'Punkt \\37777777742\\37777777604\\37777777626 11"' in printed


@reads("silx", values="ok", spectra="ok", frames="ok", dataset="ok")
def test_silx_reads_all_from_the_dataset(sample: Sample) -> None:
    code = f"""
import silx.io
file, names = silx.io.open(sys.argv[1]), sys.argv[2:]
{READ}"""
    assert_equal(ask("silx", code, sample.dataset, *ALL), sample)


@reads("silx convert", values="ok", spectra="ok", frames="ok", dataset="ok")
def test_silx_convert_keeps_every_channel(sample: Sample, tmp_path: Path) -> None:
    converted = tmp_path / "all.h5"
    run([program("silx"), "convert", str(sample.dataset), "-o", str(converted)])
    with h5py.File(converted) as file, h5py.File(sample.dataset) as original:
        assert not file["1.1/measurement/eiger"].is_virtual
        for name, entry in original.items():
            assert set(file[name]["measurement"]) == set(entry["measurement"])
            for channel, values in entry["measurement"].items():
                copy = file[name]["measurement"][channel]
                np.testing.assert_array_equal(copy, values[()], err_msg=channel)


PYMCA = """
import h5py
from PyMca5.PyMcaCore import NexusDataSource, NexusTools
path, counters, spectrum, frames = sys.argv[1], *map(str.split, sys.argv[2:])
source = NexusDataSource.NexusDataSource(path)
source.refresh()
asked = {"sourcename": path, "entry": "/1.1", "x": [], "m": [], "y": [0],
         "yselectiontype": ["full"], "mcaselectiontype": "sum"}
def measured(name, kind, **more):
    names = {"cntlist": ["/measurement/" + name], "LabelNames": [name]}
    asked_for = {**asked, **names, **more, "selectiontype": kind}
    found = source.getDataObject("1.1", asked_for)
    return found.data if found.y is None else found.y[0]
answer = {name: measured(name, "SCAN").tolist() for name in counters}
answer |= {name: measured(name, "3D").tolist() for name in frames}
(name,) = spectrum
found = measured(name, "MCA", mca=[0], mcalist=["/measurement/" + name])
answer[name] = found.tolist()
with h5py.File(path) as file:
    for one in NexusTools.getMcaList(file, "/1.1"):
        one = NexusTools.sanitizeFilePath(file, one, entry="/1.1")
        answer.setdefault("listed", []).append(one if one in file else "")
"""
NAMES = (
    "reads all, but its window cannot list entries behind two links: take scan masters"
)


@reads("PyMca", values="ok", spectra="ok", frames="ok", dataset=NAMES)
def test_pymca_lists_and_reads(sample: Sample) -> None:
    counters, frames = ("th", "diode", "count"), ("eiger", "noise")
    words = [" ".join(names) for names in (counters, SPECTRA, frames)]
    for path, is_listed in ((sample.rich, True), (sample.dataset, False)):
        answer = ask("PyMca5", PYMCA, path, *words)
        listed = "/1.1/instrument/mca_det0/spectrum" in answer.pop("listed")
        assert listed is is_listed
        total = answer.pop("mca_det0")
        np.testing.assert_array_equal(total, sample.sent["mca_det0"].sum(axis=0))
        assert_equal(answer, sample, counters + frames)


@reads("fabio", frames="ok", dataset="ok")
def test_fabio_reads_frames_by_their_path(sample: Sample) -> None:
    code = """
import fabio
with fabio.open(sys.argv[1]) as image:
    answer = [image.get_frame(n).data.tolist() for n in range(image.nframes)]
"""
    for name in ("eiger", "noise"):
        answer = ask("fabio", code, f"{sample.dataset}::/1.1/measurement/{name}")
        np.testing.assert_array_equal(answer, sample.sent[name])


NEXUS = """
from nexusformat.nexus import nxload
measured = nxload(sys.argv[1])["1.1/measurement"]
answer = {}
for name in sys.argv[2:]:
    values = measured[name][()].nxdata.tolist()
    answer[name] = [v.decode() if isinstance(v, bytes) else v for v in values]
"""


@reads("nexusformat (NeXpy)", values="ok", spectra="ok", frames="ok", dataset="ok")
def test_nexusformat_reads_all_of_a_scan(sample: Sample) -> None:
    assert_equal(ask("nexusformat", NEXUS, sample.rich, *ALL), sample)
    assert_equal(ask("nexusformat", NEXUS, sample.dataset, *ALL), sample)


@reads("blissdata `static_hdf5`", values="ok", spectra="ok", frames="ok", dataset="ok")
def test_blissdata_reads_all_from_the_dataset(sample: Sample) -> None:
    code = f"""
from blissdata.h5api import static_hdf5
file, names = static_hdf5.File(sys.argv[1]), sys.argv[2:]
{READ}"""
    assert_equal(ask("blissdata", code, sample.dataset, *ALL), sample)


@reads("h5grove (jupyterlab-h5web)", values="ok", spectra="ok", frames="ok")
@reads("h5grove (jupyterlab-h5web)", dataset="ok")
def test_h5grove_serves_all_from_the_dataset(sample: Sample) -> None:
    code = """
from h5grove.content import get_content_from_file
from h5grove.encoders import encode
def refuse(status, message=None): raise RuntimeError(message)
answer = {}
for name in sys.argv[2:]:
    path = "/1.1/measurement/" + name
    with get_content_from_file(sys.argv[1], path, refuse) as content:
        answer[name] = json.loads(encode(content.data()).content)
"""
    assert_equal(ask("h5grove", code, sample.dataset, *ALL), sample)


TILED = """
import os, socket, subprocess, time
from tiled.client import from_uri
tiled, folder, dataset, *names = sys.argv[1:]
with socket.socket() as found:
    found.bind(("127.0.0.1", 0))
    port = found.getsockname()[1]
command = [tiled, "serve", "directory", folder, "--public", "--port", str(port)]
server = subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr)
try:
    for _ in range(300):
        try:
            client = from_uri(f"http://127.0.0.1:{port}/api/v1/")
            measured = client[dataset]["1.1/measurement"]
            break
        except Exception as error:
            time.sleep(0.3)  # It is still looking through the folder.
    answer = {}
    for name in names:
        values = measured[name][:].tolist()
        answer[name] = [v.decode() if isinstance(v, bytes) else v for v in values]
finally:
    server.terminate()
    server.wait()
"""


@reads("Tiled", values="ok", spectra="ok", frames="ok", dataset="ok")
def test_tiled_serves_the_folder(sample: Sample) -> None:
    folder = sample.dataset.relative_to(sample.root).with_suffix("")
    answer = ask("tiled", TILED, program("tiled"), sample.root, folder, *ALL)
    assert_equal(answer, sample)


BESIDE = "looks for data files beside the dataset master; names none that is there"


@reads("esrf-data-compressor", dataset=BESIDE)
def test_the_compressor_lists_what_it_would_compress(
    sample: Sample, tmp_path: Path
) -> None:
    report = tmp_path / "list.txt"
    place = sample.dataset.relative_to(sample.root).parts
    command = [program("compress-hdf5"), "list", *place[:3], "--filter", "title:ascan"]
    run([*command, "--root", str(sample.root), "--output", str(report)])
    said = [line for line in report.read_text().splitlines() if "ascan" in line]
    named = [Path(line.partition("    #")[0]) for line in said]
    assert {path.name for path in named} == {f"{name}_0000.h5" for name in FRAMES}
    assert not [path for path in named if path.is_file()]
    assert {path.parent for path in named} == {sample.dataset.parent}
