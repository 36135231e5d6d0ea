"""Names as control systems have them are taken, and found again under both names."""

from __future__ import annotations

import uuid
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
import pytest

from scanbus.cli import main
from scanbus.publisher import Publisher
from scanbus.schemas import PlotDescription
from scanbus.subscriber import ScanReader, Subscriber
from tests.support.waiting import found_below, wait_until
from tests.support.writers import writer

pytestmark = pytest.mark.redis

NAMES = (
    "panda1-counter-1-out",
    "fscan:mca:det0",
    "XF:23ID1-ES{Dif-Ax:Del}Pos.RBV",
    "temp\N{LATIN SMALL LETTER E WITH ACUTE}rature",
    "late.motor",
    "x" * 100,
    "a b",
    "a_b",
    "a-b",
)


def test_channels_of_any_name(redis_url: str, tmp_path: Path) -> None:
    uid = str(uuid.uuid4())
    group = "all-of:them"
    with writer(redis_url, tmp_path), Publisher(redis_url) as publisher:
        plot = PlotDescription(name="my-plot", signals=(NAMES[0],), axes=(NAMES[1],))
        with publisher.scan(uid=uid, title="a\0b", plots=[plot]) as scan:
            for number, name in enumerate(NAMES):
                scan.channel(name, group=group if number % 2 else None)
            image = scan.detector
            image(
                "my cam",
                shape=(2, 2),
                dtype="u1",
                nexus={"interpretation": "rgb-image"},
            )
            for number, name in enumerate(NAMES):
                scan.send(name, float(number))
                scan.send(name, [number + 0.5])
                scan.skip(name)
            scan.send("my cam", np.ones((2, 2), "u1"))
        verdict = scan.verdict(90)
        assert {each.written for each in verdict.channels.values()} == {1, 2}
        missing = [name for name, each in verdict.channels.items() if each.missing]
        assert len(missing) == len(NAMES)  # the point of each that was skipped
        with Subscriber(redis_url) as subscriber:
            reader = subscriber.scan(uid)
            assert reader.uid == uid.replace("-", "")
            originals = {
                each.original_name or name for name, each in reader.channels.items()
            }
            assert originals == {*NAMES, "my cam"}
    with h5py.File(tmp_path / verdict.master) as file:
        counters = file["1.1/measurement"]
        found = {
            data.attrs.get("original_name", name): data[:2].tolist()
            for name, data in counters.items()
        }
        assert found.pop("my cam") == [[[1, 1], [1, 1]]]
        assert found == {
            name: [number, number + 0.5] for number, name in enumerate(NAMES)
        }
        assert counters["a_b"][0] == NAMES.index("a_b")
        assert "channel 'a b' is a_b_2" in file["1.1/notes/note_01/data"].asstr()[()]
        assert file["1.1/my_plot"].attrs["signal"] == "panda1_counter_1_out"
        assert file["1.1/instrument/my_cam"].attrs["original_name"] == "my cam"


PEOPLES = (
    "panda1-counter-1-out",
    "fscan:mca:det0",
    "XF:23ID1-ES{Dif-Ax:Del}Pos.RBV",
    "e7083d84-55bc-45cf-b867-e2d6a012251d",
    "rgb-image",
    "LaB6 (NIST 660c) 1/2",
    "y" * 90,
)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", PEOPLES)
def test_every_call_and_command_takes_a_name(
    redis_url: str, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    detector, folders = f"{name}-2", ("proposal", "beamline", "collection", "dataset")
    with (
        writer(redis_url, tmp_path),
        Publisher(redis_url) as publisher,
        publisher.scan(
            **dict.fromkeys(folders, name),  # type: ignore[arg-type]
            uid=name,
            instrument=name,
            metadata={name: {name: 1.5}},
            positioners={name: 2.5},
            plots=[PlotDescription(name=name, signals=(name,))],
        ) as scan,
    ):
        scan.channel(name, device=name)
        scan.detector(detector, shape=(2, 2), dtype="u1", device=name)
        scan.send(name, [1.0, 2.0])
        scan.send(detector, np.ones((2, 2), "u1"))
        scan.skip(name)
        scan.end_positioners({name: 3.5})
        scan.update({name: {"more": 1}})
        scan.flush()
        with Subscriber(redis_url) as subscriber:
            reader = subscriber.scan(name)
            assert subscriber.scan(name[:12]).uid == reader.uid == scan.uid
            reader.wait_prepared()
            check_reads(reader, name)
    verdict = scan.verdict(60)
    with h5py.File(tmp_path / verdict.master) as file:
        entry = file["1.1"]
        for key in folders:
            word = entry["scanbus"][key]
            assert word.attrs.get("original_name", word.asstr()[()]) == name, key
        assert entry["sample/name"].asstr()[()] == name
        assert entry["experiment_identifier"].asstr()[()] == name
        (motor,) = entry["instrument/positioners_end"].values()
        assert motor[()] == 3.5
    with Subscriber(redis_url) as subscriber:
        assert list(subscriber.scan(name).lost(name)) == [(2, 3)]
    for command, code in (
        (["tail", name, name, "--from-start"], 0),
        (["replay", name, "--root", str(tmp_path / "again")], 2),
        (["close", name], 1),
        (["ls"], 0),
        (["simulate", "--points", "2", "--frames", "1", "--dataset", name], 0),
    ):
        assert main([*command, "--redis", redis_url]) == code, command
        assert "Traceback" not in capsys.readouterr().err


def check_reads(reader: ScanReader, name: str) -> None:
    """Read the points of a channel by the name that the program gave."""
    wait_until(lambda: reader.length(name) == 3)
    assert reader.read(name, 0, 2).tolist() == [1.0, 2.0]
    assert reader.point(name, 1) == 2.0
    assert reader.latest(name)[0] in {1, 2}
    assert next(reader.batches(name)).values[0] == 1.0
    assert next(iter(reader.stream(name, timeout_s=10))).start == 0
    assert reader.point(f"{name}-2", 0).shape == (2, 2)


@pytest.mark.parametrize("number", [True, 1.5, "7"])
def test_a_scan_number_is_an_integer(redis_url: str, number: object) -> None:
    with (
        Publisher(redis_url, close_timeout_s=0) as publisher,
        pytest.raises((TypeError, ValueError), match="integer"),
    ):
        publisher.scan(scan_number=number)  # type: ignore[arg-type]


def test_the_first_names_of_groups_and_uids_are_in_the_files(
    redis_url: str, tmp_path: Path
) -> None:
    uid = "ID00/scan 7"
    with writer(redis_url, tmp_path), Publisher(redis_url) as publisher:
        with publisher.scan(uid=uid) as scan:
            scan.channel("a", group="panda1-x", device="panda1-x")
            scan.channel("b", group="panda1_x", device="panda1_x")
            scan.channel("c-1")
            for name in ("a", "b", "c-1"):
                scan.send(name, 1.0)
        verdict = scan.verdict(90)
        with Subscriber(redis_url) as subscriber:
            assert subscriber.scan(uid).uid == scan.uid
    with h5py.File(tmp_path / verdict.master) as file:
        entry = file["1.1"]
        assert entry["scanbus/uid"].attrs["original_name"] == uid
        counters = entry["measurement"]
        assert counters["a"].attrs["original_group"] == "panda1-x"
        assert "original_group" not in counters["b"].attrs
        assert "original_group" not in counters["c_1"].attrs
        times = entry["scanbus/times"]
        firsts = {name: times[name].attrs.get("original_name") for name in times}
        assert firsts == {"panda1_x_2": "panda1-x", "panda1_x": None, "c_1": "c-1"}
        notes = [note["data"].asstr()[()] for note in entry["notes"].values()]
        assert [note.split(" in files")[0] for note in notes] == [
            "group 'panda1-x' is panda1_x_2",
            "device 'panda1-x' is panda1_x_2",
        ]
    # The scan file, from which masters are made again, has it, too.
    with h5py.File(found_below(tmp_path, "scan0001_values.h5")[0]) as file:
        assert file["entry_0000/scanbus/uid"].attrs["original_name"] == uid
