"""Images and PVs of an EPICS 7 IOC, simulated by a server of p4p over real sockets."""

import gc
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt
import pytest
from structlog.testing import capture_logs

from scanbus.bus.codecs import find_codec
from scanbus.bus.store import connect, find_scan
from scanbus.publisher.gateways.runner import (
    GatewayReport,
    GatewayRunner,
    GatewaySettings,
    ScanNames,
)
from scanbus.schemas import EndReason, VerdictWord
from scanbus.schemas.errors import ConfigurationError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.subscriber import Subscriber
from scanbus.writer import WriterSettings, run_writer
from tests.support.gate import Gate as GateOfSender
from tests.support.roots import made_root
from tests.support.waiting import found_below, wait_until
from tests.support.writers import final_verdict

epics = pytest.importorskip("scanbus.publisher.gateways.epics")

pytestmark = pytest.mark.redis

IMAGE = "T:IMAGE"
NAMES = ScanNames("cam", {"proposal": "hg1", "collection": "sample"})


class Gate(GateOfSender):
    """A gateway of the images of an IOC, once it has connected."""

    def __init__(self, ioc: Any, url: str, **settings: Any) -> None:
        once = settings.pop("once", True)
        made = epics.PvaSettings(IMAGE, conf=ioc.conf, **{"idle_s": 1.0, **settings})
        self._gateway = epics.PvaGateway(made)
        super().__init__(self, url, NAMES, once=once)
        time.sleep(0.5)  # Until it has connected: an IOC keeps one image only.

    def gateway(self) -> Any:
        """Return what `runner` runs."""
        return self._gateway


@pytest.fixture
def ioc() -> Iterator[Any]:
    values: dict[str, float | str] = {"T:ENERGY": 12.4, "T:SHUTTER": "open"}
    with epics.SimulatedIoc(IMAGE, values, is_isolated=True) as made:
        yield made
    gc.collect()


def frame(number: int, shape: tuple[int, int] = (20, 30)) -> npt.NDArray[Any]:
    return np.random.default_rng(number).poisson(9, shape).astype("u2")


def written(url: str, root: Path, report: GatewayReport) -> Any:
    run_writer(WriterSettings.load(redis=url, root=made_root(root)), once=True)
    return final_verdict(url, report.series[0][0])


@contextmanager
def scan_file(root: Path, number: int = 1) -> Iterator[h5py.File]:
    with h5py.File(found_below(root, f"scan{number:04}.h5")[0]) as file:
        yield file[f"{number}.1/measurement"]


def notes_of(url: str, uid: str) -> str:
    with connect(url, name="test") as client:
        return " | ".join(each.note for each in find_scan(client, uid).updates)


def test_100_frames_of_2_mb_at_50_hz_all_arrive(
    ioc: Any, redis_url: str, tmp_path: Path
) -> None:
    base = frame(0, (1000, 1000))
    gate = Gate(ioc, redis_url, n_frames=100)
    began = time.monotonic()
    for number in range(100):
        time.sleep(max(0.0, began + number / 50 - time.monotonic()))
        ioc.send(number, np.roll(base, number), {"Gain": number, "Mode": "fast"})
    took_s = time.monotonic() - began
    report = gate.report()
    assert took_s < 4.0
    assert report.exit_code is ExitCode.COMPLETE
    (_, counts) = report.series[0]
    assert (counts.frames, counts.missing, counts.refused) == (100, 0, 0)
    assert written(redis_url, tmp_path, report).verdict is VerdictWord.COMPLETE
    with scan_file(tmp_path) as file:
        for number in range(100):
            np.testing.assert_array_equal(file["cam"][number], np.roll(base, number))
        assert file["cam_gain"][()].tolist() == list(range(100))
        assert file["cam_frame_number"][()].tolist() == list(range(100))


def packed_by(codec: str, pixels: npt.NDArray[Any]) -> bytes:
    """Return pixels as a codec of areaDetector packs them."""
    if codec == "bslz4":
        import bitshuffle

        return bytes(bitshuffle.compress_lz4(pixels))
    if codec in {"lz4", "lz4hdf5"}:
        framed = bytes(find_codec("lz4").encode(pixels))
        return framed if codec == "lz4hdf5" else framed[16:]
    if codec == "zlib":
        import zlib

        return zlib.compress(pixels.tobytes())
    if codec == "jpeg":
        from PIL import Image

        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG", quality=100)
        return out.getvalue()
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        dataset = file.create_dataset(
            "d", data=pixels, chunks=pixels.shape, **hdf5plugin.Blosc(cname="lz4")
        )
        return bytes(dataset.id.read_direct_chunk((0, 0))[1])


@pytest.mark.parametrize(
    ("codec", "stored"),
    [
        ("bslz4", "bitshuffle-lz4"),
        ("lz4", "lz4"),
        ("lz4hdf5", "lz4"),
        ("zlib", "bitshuffle-lz4"),
        ("blosc", "bitshuffle-lz4"),
        ("jpeg", "bitshuffle-lz4"),
    ],
)
def test_packed_images_are_the_same_pixels_in_the_file(
    ioc: Any, redis_url: str, tmp_path: Path, codec: str, stored: str
) -> None:
    if codec == "blosc":
        pytest.importorskip("blosc2")
    dtype = "u1" if codec == "jpeg" else "u2"
    frames = [
        np.full((24, 32), 40 * n, dtype) + frame(n, (24, 32)).astype(dtype) // 8
        for n in range(3)
    ]
    gate = Gate(ioc, redis_url, n_frames=3)
    blobs = [packed_by(codec, each) for each in frames]
    for number, blob in enumerate(blobs):
        ioc.send_packed(number, blob, codec, (24, 32), dtype)
    report = gate.report()
    assert written(redis_url, tmp_path, report).verdict is VerdictWord.COMPLETE
    with connect(redis_url, name="test") as client:
        prepared = find_scan(client, report.series[0][0]).prepared
    assert prepared is not None
    lane = next(each for each in prepared.lanes if each.name == "cam")
    assert lane.channels[0].codec == stored
    with scan_file(tmp_path) as file:
        found = file["cam"][()]
    np.testing.assert_allclose(found, frames, atol=2 if codec == "jpeg" else 0)


def test_the_ioc_restarts_and_its_numbers_go_on_or_begin_again(
    ioc: Any, redis_url: str
) -> None:
    gate = Gate(ioc, redis_url, once=False, idle_s=20.0)
    for number in range(3):
        ioc.send(number, frame(number))
    wait_until(lambda: gate.n_frames == 3)
    ioc.restart()
    wait_until(lambda: any("disconnected" in n for n in gate_notes(gate, redis_url)))
    for number in (5, 6):
        send_until_seen(ioc, number, gate)
    ioc.restart()
    for number in (0, 1):
        send_until_seen(ioc, number, gate)
    report = gate.stop()
    assert [(c.frames, c.missing) for _, c in report.series] == [(5, 2), (2, 0)]
    with connect(redis_url, name="test") as client:
        ends = [find_scan(client, uid).ended for uid, _ in report.series]
    assert [end.end_reason for end in ends if end] == [
        EndReason.SUCCESS,
        EndReason.USER_ABORT,
    ]


def gate_notes(gate: Gate, url: str) -> list[str]:
    current = gate.runner._current
    return [] if current is None else notes_of(url, current.scan.uid).split(" | ")


def send_until_seen(ioc: Any, number: int, gate: Gate) -> None:
    """Send an image, again until the client has found the IOC and has taken it."""
    before = gate.n_frames
    taken = time.time()

    def is_seen() -> bool:
        ioc.send(number, frame(number), taken=taken)
        time.sleep(0.2)
        return gate.n_frames > before

    wait_until(is_seen)


def test_an_image_from_before_is_none_of_the_series(ioc: Any, redis_url: str) -> None:
    ioc.send(77, frame(77), taken=time.time() - 60)
    gate = Gate(ioc, redis_url, n_frames=2)
    for number in (78, 79):
        ioc.send(number, frame(number))
    (_, counts) = gate.report().series[0]
    assert (counts.frames, counts.missing) == (2, 0)


def test_the_first_image_of_an_ioc_without_a_clock_is_one_of_the_series(
    ioc: Any, redis_url: str
) -> None:
    """The PV had no image when the gateway connected, so this one is new."""
    gate = Gate(ioc, redis_url, n_frames=2)
    for number in (0, 1):
        ioc.send(number, frame(number), taken=0.0)
    (_, counts) = gate.report().series[0]
    assert (counts.frames, counts.missing) == (2, 0)


def test_numbers_after_the_greatest_one_of_an_ioc_are_a_series(
    ioc: Any, redis_url: str, tmp_path: Path
) -> None:
    """They have 32 bits and a sign."""
    gate = Gate(ioc, redis_url, n_frames=3)
    numbers = [-(2**31), -(2**31) + 1, -(2**31) + 2]
    for number, sent in enumerate(numbers):
        ioc.send(sent, frame(number))
    report = gate.report()
    assert [(c.frames, c.missing) for _, c in report.series] == [(3, 0)]
    assert written(redis_url, tmp_path, report).verdict is VerdictWord.COMPLETE
    with scan_file(tmp_path) as file:
        assert file["cam_frame_number"][()].tolist() == numbers
        np.testing.assert_array_equal(file["cam"], [frame(n) for n in range(3)])


def test_numbers_that_begin_again_after_a_clock_was_set_back_are_a_series(
    ioc: Any, redis_url: str
) -> None:
    gate = Gate(ioc, redis_url, once=False, idle_s=20.0)
    now = time.time()
    for number in range(80):
        ioc.send(number, frame(number), taken=now + number)
    wait_until(lambda: gate.n_frames == 80)
    for number in range(5):
        ioc.send(number, frame(number), taken=now - 3600 + number)
    wait_until(lambda: gate.n_frames == 85)
    report = gate.stop()
    assert [(c.frames, c.repeated) for _, c in report.series] == [(80, 0), (5, 0)]


def test_a_pv_has_its_value_from_before_its_changes_and_its_disconnection(
    ioc: Any, redis_url: str, tmp_path: Path
) -> None:
    slow = {"energy": "T:ENERGY", "shutter": "T:SHUTTER", "none": "T:NOT_THERE"}
    ioc.post("T:ENERGY", 12.5, timestamp=time.time() - 100)
    gate = Gate(ioc, redis_url, slow=slow, idle_s=3.0)
    ioc.send(0, frame(0))
    wait_until(lambda: gate.n_frames == 1)
    ioc.post("T:ENERGY", 13.0)
    ioc.post("T:SHUTTER", "closed")
    time.sleep(0.3)
    ioc.remove("T:ENERGY")
    wait_until(lambda: any("disconnected" in n for n in gate_notes(gate, redis_url)))
    ioc.add("T:ENERGY")
    wait_until(
        lambda: any("T:ENERGY is connected" in n for n in gate_notes(gate, redis_url))
    )
    ioc.send(1, frame(1))
    report = gate.report()
    uid = report.series[0][0]
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(uid)
        energies = scan.read("energy")
        shutters = [str(each) for each in scan.read("shutter")]
        assert scan.length("none") == 0
        times = scan.record.prepared
    np.testing.assert_array_equal(energies, [12.5, 13.0, np.nan, 13.0])
    assert shutters == ["open", "closed"]
    assert times is not None
    channels = {c.name: c for lane in times.lanes for c in lane.channels}
    energy = channels["energy"].nexus.attributes
    assert energy["source"] == "T:ENERGY"
    assert 99 < float(energy["age_at_start"]) < 130  # type: ignore[arg-type]
    assert "stale_at_start" not in energy
    assert channels["none"].nexus.attributes["stale_at_start"] == "the PV was not found"
    assert "none has no value, PV T:NOT_THERE: the PV was n" in notes_of(redis_url, uid)
    assert written(redis_url, tmp_path, report).verdict is VerdictWord.COMPLETE
    with h5py.File(found_below(tmp_path, "scan0001.h5")[0]) as file:
        shown = file["1.1/plotselect"]
        assert shown.attrs["signal"] == "cam"
        assert file["1.1/plot0D"].attrs["signal"] == "energy"


def test_images_of_six_axes_are_refused_in_our_words(ioc: Any, redis_url: str) -> None:
    gate = Gate(ioc, redis_url)
    ioc.send(0, np.zeros((1, 1, 1, 1, 2, 3), "u2"))
    report = gate.report()
    (uid, counts) = report.series[0]
    assert (counts.frames, counts.refused) == (0, 1)
    assert "shape: 6 axes, where at most 5 are possible, got (1" in notes_of(
        redis_url, uid
    )


def test_the_alarm_of_a_value_is_kept_when_a_series_begins_or_a_pv_connects(
    ioc: Any, redis_url: str
) -> None:
    ioc.post("T:ENERGY", 12.5, severity=2, message="HIHI")
    ioc.remove("T:SHUTTER")
    slow = {"energy": "T:ENERGY", "shutter": "T:SHUTTER"}
    gate = Gate(ioc, redis_url, slow=slow, idle_s=3.0)
    ioc.send(0, frame(0))
    wait_until(lambda: gate.n_frames == 1)
    ioc.add("T:SHUTTER", severity=3, message="UDF")
    report = gate.report()
    uid = report.series[0][0]
    assert "PV T:SHUTTER is connected: INVALID (UDF)" in notes_of(redis_url, uid)
    with connect(redis_url, name="test") as client:
        prepared = find_scan(client, uid).prepared
    assert prepared is not None
    channels = {c.name: c for lane in prepared.lanes for c in lane.channels}
    energy = channels["energy"].nexus.attributes
    assert energy["severity_at_start"] == "MAJOR"
    assert energy["status_at_start"] == "HIHI"
    assert "stale_at_start" not in energy


@pytest.mark.parametrize(
    ("pv", "sentence"),
    [
        ("T:NO_IMAGE", "no IOC answers for PV T:NO_IMAGE: is the name right"),
        ("T:ENERGY", "T:ENERGY is no NTNDArray, but epics:nt/NTScalar:1.0"),
    ],
)
def test_a_pv_that_cannot_have_the_images_is_named_in_time(
    ioc: Any, redis_url: str, pv: str, sentence: str
) -> None:
    made = epics.PvaSettings(pv, {"none": "T:NONE"}, conf=ioc.conf, find_s=5.5)
    settings = GatewaySettings(redis_url, NAMES, once=True)
    runner = GatewayRunner(epics.PvaGateway(made), settings)
    with capture_logs() as events, pytest.raises(ConfigurationError, match=sentence):
        runner.run()
    if pv == "T:NO_IMAGE":
        said = [each["text"].partition(":")[2] for each in events if "text" in each]
        assert [text.partition(":")[0] for text in said] == ["NO_IMAGE", "NONE"]


def test_images_that_come_late_are_waited_for_and_named(redis_url: str) -> None:
    with epics.SimulatedIoc(IMAGE, is_isolated=True) as ioc:
        conf = ioc.conf
    made = epics.PvaSettings(IMAGE, conf=conf, n_frames=1)
    runner = GatewayRunner(
        epics.PvaGateway(made), GatewaySettings(redis_url, NAMES, once=True)
    )
    thread = threading.Thread(target=runner.run)
    with capture_logs() as events:
        thread.start()
        wait_until(lambda: any("no IOC answers" in str(each) for each in events))
        with_images = epics.SimulatedIoc(IMAGE, is_isolated=True)
        with_images.close()
        with_images._start(conf=conf, useenv=False)
        assert with_images.wait_for_client(60.0)
        wait_until(lambda: any("T:IMAGE is connected" in str(e) for e in events))
        with_images.send(0, frame(0))
        thread.join(60)
        with_images.close()
    assert [counts.frames for _, counts in runner.so_far.series] == [1]


@pytest.mark.parametrize("how", ["disconnected", "old"])
def test_a_value_that_may_no_longer_hold_is_marked(
    ioc: Any, redis_url: str, how: str
) -> None:
    ioc.post("T:ENERGY", 12.5, timestamp=time.time() - 100)
    stale_s = 50.0 if how == "old" else None
    gate = Gate(ioc, redis_url, slow={"energy": "T:ENERGY"}, stale_s=stale_s)
    if how == "disconnected":
        ioc.remove("T:ENERGY")
        time.sleep(0.5)
    ioc.send(0, frame(0))
    report = gate.report()
    with Subscriber(redis_url) as subscriber:
        scan = subscriber.scan(report.series[0][0])
        np.testing.assert_array_equal(scan.read("energy"), [12.5])
        prepared = scan.record.prepared
    assert prepared is not None
    (channel,) = (
        c for lane in prepared.lanes for c in lane.channels if c.name == "energy"
    )
    expected = {
        "disconnected": "the PV was disconnected",
        "old": "it was older than 50 s",
    }
    assert channel.nexus.attributes["stale_at_start"] == expected[how]


@pytest.mark.parametrize(
    ("codec", "blob", "reason"),
    [
        ("bslz4", bytes(900), "bitshuffle-lz4: "),
        ("rot13", bytes(900), "codec 'rot13' is unknown"),
        ("blosc", bytes(900), "sizes in the header"),
        ("zlib", b"x" * 900, "zlib"),
        ("jpeg", b"x" * 900, "jpeg"),
    ],
)
def test_rubbish_is_refused_and_the_series_goes_on(
    ioc: Any, redis_url: str, codec: str, blob: bytes, reason: str
) -> None:
    gate = Gate(ioc, redis_url)
    ioc.send(0, frame(0))
    ioc.send_packed(1, blob, codec, (20, 30), "u2")
    ioc.send(2, frame(2))
    report = gate.report()
    (uid, counts) = report.series[0]
    assert (counts.frames, counts.refused, counts.missing) == (2, 1, 1)
    assert report.exit_code is ExitCode.PARTIAL
    assert reason in notes_of(redis_url, uid)
