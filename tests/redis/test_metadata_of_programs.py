"""Metadata as programs of the field have them: the scan is complete, with all of them.

``bluesky_starts.json`` in ``tests/support`` has two start documents as bluesky made
them, ``blissdata_scan_info.json`` what a reader of blissdata got; ``source`` says how.
`SCAN_INFO` is like what Bliss gives to its writer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from scanbus.publisher import Publisher
from scanbus.schemas import VerdictWord
from tests.domain.test_metadata_in_files import ODD
from tests.support.metadata_leaves import missing_leaves
from tests.support.waiting import found_below
from tests.support.writers import writer

pytestmark = pytest.mark.redis


def recorded(name: str) -> Any:
    return json.loads((Path(__file__).parents[1] / "support" / name).read_text())


STARTS = recorded("bluesky_starts.json")

MASK = np.random.default_rng(7).integers(0, 2, (1100, 1000), np.uint8)

SCAN_INFO: dict[str, Any] = {
    "name": "ascan",
    "type": "ascan",
    "title": "ascan samy 0 1 10 0.1",
    "scan_nb": 7,
    "index_in_sequence": 1,
    "retry_nb": 0,
    "is_scan_sequence": False,
    "save": True,
    "session_name": "test_session",
    "user_name": "opid00",
    "start_time": "2026-11-26T15:54:29.123456+01:00",
    "end_time": "2026-11-26T15:55:29.123456+01:00",
    "end_reason": "SUCCESS",
    "npoints": 11,
    "count_time": 0.1,
    "sleep_time": None,
    "stab_time": 0.0,
    "data_policy": "ESRF",
    "data_writer": "nexus",
    "publisher": "test",
    "publisher_version": "1.2",
    "start": [0.0],
    "stop": [1.0],
    "scan_parameters": {"@NX_class": "NXparameters", "count_time@units": "s"},
    "acquisition_chain": {
        "axis": {
            "top_master": "axis",
            "devices": ["axis", "timer", "mca1", "mca1:det0"],
            "scalars": ["timer:elapsed_time", "simulation_diode:diode1"],
            "spectra": ["mca1:spectrum_det0"],
            "images": [],
            "master": {"scalars": ["axis:samy"], "spectra": [], "images": []},
        }
    },
    "channels": {
        "axis:samy": {
            "display_name": "samy",
            "unit": "mm",
            "dim": 0,
            "start": 0.0,
            "stop": 1.0,
            "points": 11,
            "axis_id": 0,
            "axis_kind": "forth",
            "group": "axis",
            "min": None,
        },
        "mca1:spectrum_det0": {"dim": 1, "decimals": None, "group": "mca1:det0"},
    },
    "devices": {
        "mca1:det0": {
            "name": "det0",
            "channels": ["mca1:spectrum_det0"],
            "triggered_devices": [],
            "type": "mca",
            "xaxis_array": np.linspace(0, 20, 64),
            "xaxis_array_unit": "keV",
            "metadata": {"roi:a/b": [1, 5], "calib": [0.0, 1.5e-2, None]},
        }
    },
    "instrument": {
        "@NX_class": "NXinstrument",
        "primary_slit": {"@NX_class": "NXslit", "x_gap": 1.0, "x_gap@units": "mm"},
    },
    "plots": [
        {"kind": "curve-plot", "items": [{"kind": "curve", "x": "axis:samy"}]},
        {"kind": "scatter-plot", "name": None, "items": []},
    ],
    "positioners": {
        "positioners_start": {"samy": 0.0, "slit_top": -1.0, "hexapod": None},
        "positioners_end": {"samy": 1.0, "slit_top": -1.0},
        "positioners_dial_start": {"samy": 0.5},
        "positioners_units": {"samy": "mm", "slit_top": None},
    },
    "requests": {"axis:samy": {"points": 11}},
    "sequence_info": {"scan_count": None, "scans": []},
    "sample": {"@NX_class": "NXsample", "name": "LaB6 \N{MICRO SIGN}", "mask": MASK},
    "display_extra": {"displayed_channels": [], "plotselect": ["diode1"]},
    "writer_options": {"chunk_options": {}, "separate_scan_files": None},
}


@pytest.fixture
def folder(redis_url: str, tmp_path: Path) -> Iterator[Path]:
    with writer(redis_url, tmp_path):
        yield tmp_path


def published(
    url: str, folder: Path, metadata: dict[str, Any], **more: Any
) -> h5py.Group:
    """Publish a scan with these metadata; return its entry, which must be complete."""
    with Publisher(url, name="tests") as publisher:
        with publisher.scan(metadata=metadata, **more) as scan:
            scan.channel("a")
            scan.send("a", [1.0, 2.0])
        verdict = scan.verdict(90)
    assert verdict.verdict is VerdictWord.COMPLETE
    file = h5py.File(folder / verdict.master)
    return file[f"{scan.identity.scan_number}.1"]


def all_missing(metadata: dict[str, Any], entry: h5py.Group) -> list[str]:
    """Return what is neither where it was put, nor where it stands if that is taken."""
    kept = entry.get("scanbus/metadata", {})
    return [
        path
        for key, value in metadata.items()
        for path in missing_leaves({key: value}, entry)
        if list(missing_leaves({key: value}, kept))
    ]


@pytest.mark.parametrize("plan", ["scan", "grid_scan"])
def test_a_start_document_of_bluesky(redis_url: str, folder: Path, plan: str) -> None:
    entry = published(redis_url, folder, STARTS[plan])
    assert all_missing(STARTS[plan], entry) == []
    assert "problems" not in entry["scanbus"]


def test_a_start_document_of_the_bluesky_that_is_installed(
    redis_url: str, folder: Path
) -> None:
    bluesky = pytest.importorskip("bluesky")
    sim = pytest.importorskip("ophyd.sim")
    plans = pytest.importorskip("bluesky.plans")
    documents: list[tuple[str, dict[str, Any]]] = []
    run = bluesky.RunEngine({})
    run.subscribe(lambda *document: documents.append(document))
    run(plans.grid_scan([sim.det], sim.motor1, -1, 1, 2, sim.motor2, -2, 2, 3, True))
    start = next(document for name, document in documents if name == "start")
    entry = published(redis_url, folder, start)
    assert all_missing(start, entry) == []


def test_a_scan_info_of_bliss(redis_url: str, folder: Path) -> None:
    entry = published(redis_url, folder, SCAN_INFO)
    plain = {key: each for key, each in SCAN_INFO.items() if key != "scan_parameters"}
    plain["instrument"] = {"primary_slit": {"x_gap": 1.0}}
    plain["sample"] = {"name": SCAN_INFO["sample"]["name"], "mask": MASK}
    assert all_missing(plain, entry) == []
    assert entry["scan_parameters"].attrs["NX_class"] == "NXparameters"
    assert entry["scan_parameters/count_time_units"].asstr()[()] == "s"
    assert entry["instrument/primary_slit/x_gap"].attrs["units"] == "mm"
    assert entry["sample"].attrs["NX_class"] == "NXsample"
    assert entry["start_time"].asstr()[()] == SCAN_INFO["start_time"]
    assert entry["instrument/primary_slit"].attrs["NX_class"] == "NXslit"


def test_a_scan_info_of_blissdata(redis_url: str, folder: Path) -> None:
    info = recorded("blissdata_scan_info.json")["scan_info"]
    entry = published(redis_url, folder, info, proposal="fscan", collection="mca")
    assert all_missing(info, entry) == []
    device = entry["devices"]["mca1_det0"]
    assert device.attrs["original_name"] == "mca1:det0"
    assert len(device["xaxis_array"]) == 64


def test_a_value_of_every_odd_kind(redis_url: str, folder: Path) -> None:
    metadata = {f"odd {number}": each[0] for number, each in enumerate(ODD)}
    entry = published(redis_url, folder, {"odd": metadata}, title="odd\0 \ud800" * 999)
    assert len(entry["odd"]) == len(ODD)
    assert "problems" not in entry["scanbus"]


def test_motors_that_answer_nothing(redis_url: str, folder: Path) -> None:
    motors = {"th": ("deg", 1.5), "id00:tth": ("deg", None), "phi": float("nan")}
    entry = published(redis_url, folder, {}, positioners=motors)
    found = entry["instrument/positioners_start"]
    assert found["th"][()] == 1.5
    assert found["id00_tth"].asstr()[()] == "None"
    assert dict(found["id00_tth"].attrs) == {
        "units": "deg",
        "original_name": "id00:tth",
        "stored_as": "text of NoneType",
    }


def test_devices_of_several_axes(redis_url: str, folder: Path) -> None:
    motors = {
        "id00:hexapod": ("mm", [0.5, 2.0]),
        "mirror": MASK,
        "none": np.array([]),
        "mixed": [1.5, None, 2],
        "th": 1.0,
    }
    with Publisher(redis_url, name="tests") as publisher:
        with publisher.scan(positioners=motors) as scan:
            scan.channel("a")
            scan.send("a", 1.0)
            scan.end_positioners({"mirror": MASK, "id00:hexapod": (1.5, 3.0, 4)})
        verdict = scan.verdict(60)
    assert verdict.verdict is VerdictWord.COMPLETE
    with h5py.File(folder / verdict.master) as file:
        instrument = file["1.1/instrument"]
        for group in ("positioners", "positioners_start"):
            assert instrument[group]["id00_hexapod"][()].tolist() == [0.5, 2.0]
            assert instrument[group]["id00_hexapod"].attrs["units"] == "mm"
            assert instrument[group]["th"][()] == 1.0
            assert instrument[group]["mixed"].asstr()[()] == "[1.5, null, 2]"
            assert instrument[group]["none"].shape == (0,)
        first = instrument["positioners_start/id00_hexapod"]
        assert first.attrs["original_name"] == "id00:hexapod"
        end = instrument["positioners_end"]
        assert end["id00_hexapod"][()].tolist() == [1.5, 3.0, 4.0]
        np.testing.assert_array_equal(end["mirror"], MASK)
    assert len(found_below(folder, "static.*.h5")) == 1


def test_hints_of_a_detector_are_beside_its_frames(
    redis_url: str, folder: Path
) -> None:
    hints = {
        "attributes": {"vector": np.array([1.0, 0, 0]), "mask": MASK, "of": None},
        "pixel_mask": MASK,
        "distance": 0.2,
    }
    with Publisher(redis_url, name="tests") as publisher:
        with publisher.scan() as scan:
            scan.detector("my-cam", shape=(2, 2), dtype="u1", nexus=hints)
            scan.send("my-cam", np.ones((2, 2), "u1"))
        verdict = scan.verdict(60)
    assert verdict.verdict is VerdictWord.COMPLETE
    with h5py.File(folder / verdict.master) as file:
        device = file["1.1/instrument/my_cam"]
        assert device.attrs["NX_class"] == "NXdetector"
        assert device["distance"][()] == 0.2
        for name in ("pixel_mask", "mask"):
            np.testing.assert_array_equal(device[name], MASK)
        frames = file["1.1/measurement/my_cam"]
        assert frames.attrs["vector"].tolist() == [1, 0, 0]
        assert frames.attrs["of_stored_as"] == "text of NoneType"
    assert len(found_below(folder, "static.*.h5")) == 1
