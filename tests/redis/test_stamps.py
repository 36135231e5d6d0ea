"""The time and the numbers of every frame: in files, in batches, and joined."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from silx.io.nxdata import parse as nxdata

from scanbus.publisher import Scan
from scanbus.schemas import Stamp
from scanbus.schemas.errors import UnknownChannelError
from scanbus.subscriber import Subscriber
from tests.support.published import unjudged_scan
from tests.support.writers import final_verdict, writer

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

EIGER = [100, 101, 103, 104, 107]  # 102, 105 and 106 are lost.
DIODE = [101, 102, 103, 104, 104, 105, 106, 107, 108]  # 104 comes twice.


def frame(pulse: int) -> np.ndarray:
    return np.full((4, 5), pulse, np.uint16)


def declare(scan: Scan) -> None:
    scan.detector("eiger", shape=(4, 5), dtype="uint16")
    scan.channel("eiger_pulse", dtype="uint64", device="eiger", stamp="pulse_id")
    for stamp in ("arrival_time", "publish_time", "detector_time"):
        scan.channel(f"eiger_{stamp}", device="eiger", units="s", stamp=stamp)
    scan.channel("eiger_trigger", dtype="int32", device="eiger", stamp="trigger_id")
    scan.channel("diode", group="diode", device="diode")
    scan.channel(
        "pulse", dtype="int64", group="diode", device="diode", stamp=Stamp.PULSE_ID
    )
    scan.channel("other", device="other")


def send(scan: Scan) -> None:
    for number, pulse in enumerate(EIGER):
        scan.send("eiger", frame(pulse), time=1e9 + number)
        scan.send("eiger_pulse", pulse)
        scan.send("eiger_arrival_time", 1e9 + number + 0.25)
        scan.send("eiger_publish_time", 1e9 + number + 0.5)
        scan.send("eiger_detector_time", number / 8)
        scan.send("eiger_trigger", 7 * number)
    scan.send("diode", np.array(DIODE) / 2.0)
    scan.send("pulse", np.array(DIODE))
    scan.send("other", [1.0, 2.0])


def test_every_time_and_number_of_a_frame_stands_beside_it(
    redis_url: str, tmp_path: Path
) -> None:
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        declare(scan)
        send(scan)
    root = tmp_path / "data"
    with writer(redis_url, root):
        verdict = final_verdict(redis_url, scan.uid)
    with h5py.File(root / verdict.master) as file:
        eiger = file["1.1/instrument/eiger"]
        assert eiger["pulse"][()].tolist() == EIGER
        assert eiger["pulse"].attrs["stamp"] == "pulse_id"
        assert eiger["trigger"][()].tolist() == [0, 7, 14, 21, 28]
        for name, start in (("arrival_time", 0.25), ("publish_time", 0.5)):
            assert eiger[name][()].tolist() == [1e9 + n + start for n in range(5)]
            assert eiger[name].attrs["stamp"] == name
        assert eiger["detector_time"][3] == 0.375
        times = file["1.1/scanbus/times/eiger"][()]
        assert times.tolist() == [1e9 + n for n in range(5)]
        plot = file["1.1/plotselect"].attrs
        shown = {plot["signal"], *plot.get("auxiliary_signals", ())}
        assert shown in ({"diode"}, {"diode", "other"})  # Of other length.
        assert nxdata.get_default(file) is not None


def test_batches_have_the_times_and_numbers_of_their_points(redis_url: str) -> None:
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        declare(scan)
        send(scan)
        scan.send("eiger", frame(9))  # Its numbers do not come.
    with Subscriber(redis_url) as subscriber:
        reader = subscriber.scan(scan.uid)
        assert reader.channels["eiger_pulse"].stamp is Stamp.PULSE_ID
        n_points = 0
        for batch in reader.stream("eiger"):
            stamps = reader.stamps(batch)
            assert {*stamps} == {
                *("pulse_id", "trigger_id"),
                *("arrival_time", "publish_time", "detector_time"),
            }
            points = np.arange(batch.start, min(batch.stop, len(EIGER)))
            n_points += len(points)
            n_known = len(points)
            assert stamps["pulse_id"][:n_known].tolist() == [EIGER[p] for p in points]
            arrival = stamps["arrival_time"]
            assert arrival[:n_known].tolist() == (1e9 + points + 0.25).tolist()
            if batch.stop > len(EIGER):
                assert np.isnan(arrival[-1])
                assert stamps["pulse_id"][-1] == np.iinfo("u8").max
        assert n_points == len(EIGER)


def test_channels_are_joined_by_pulse_and_holes_are_named(redis_url: str) -> None:
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        declare(scan)
        send(scan)
        scan.flush()
        with Subscriber(redis_url) as subscriber:
            joined = subscriber.scan(scan.uid).join("eiger", "diode")
            assert joined.pending["eiger"].tolist() == [108]
            assert joined.holes["eiger"].tolist() == [102, 105, 106]
    with Subscriber(redis_url) as subscriber:
        joined = subscriber.scan(scan.uid).join("eiger", "diode")
        assert joined.ids.tolist() == [*range(100, 109)]
        assert joined.holes["eiger"].tolist() == [102, 105, 106, 108]
        assert joined.holes["diode"].tolist() == [100]
        assert joined.pending["eiger"].tolist() == []
        assert joined.repeated == {"eiger": (), "diode": ((4, 5),)}
        assert joined.ids[joined.is_whole].tolist() == [101, 103, 104, 107]
        frames, is_there = joined.read("eiger")
        assert is_there.tolist() == [n in EIGER for n in range(100, 109)]
        assert frames[is_there][:, 0, 0].tolist() == EIGER
        assert (frames[~is_there] == 65535).all()
        diode, there = joined.read("diode", 1, 4)
        assert diode.tolist() == [50.5, 51.0, 51.5]
        assert there.all()


def test_points_without_a_number_are_named(redis_url: str) -> None:
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        declare(scan)
        send(scan)
        scan.skip("eiger_pulse", 1)
        scan.send("eiger", frame(1))
        scan.send("eiger", frame(2))
    with Subscriber(redis_url) as subscriber:
        joined = subscriber.scan(scan.uid).join("eiger", "diode")
        assert joined.unnumbered == {"eiger": ((5, 7),), "diode": ()}
        named = subscriber.scan(scan.uid).join(
            "eiger", "diode", by={"eiger": "eiger_trigger", "diode": "pulse"}
        )
        assert named.holes["eiger"].tolist() == [*range(101, 109)]


def test_a_frame_that_is_missing_is_a_hole_when_it_is_read(redis_url: str) -> None:
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        declare(scan)
        scan.send("eiger", frame(1))
        scan.skip("eiger", 1)
        scan.send("eiger", frame(3))
        scan.send("eiger_pulse", [1, 2, 3])
    with Subscriber(redis_url) as subscriber:
        joined = subscriber.scan(scan.uid).join("eiger")
        frames, is_there = joined.read("eiger")
        assert is_there.tolist() == [True, False, True]
        assert frames[:, 0, 0].tolist() == [1, 65535, 3]


def test_what_has_no_numbers_is_not_joined(redis_url: str) -> None:
    with unjudged_scan(redis_url, proposal="hg123", scan_number=1) as scan:
        declare(scan)
        with pytest.raises(ValueError, match="stamp"):
            scan.channel("a", dtype="string", max_point_bytes=9, stamp="pulse_id")
        with pytest.raises(ValueError, match="stamp"):
            scan.channel("a", stamp="nonsense")
        send(scan)
        scan.skip("other", 1)
    with Subscriber(redis_url) as subscriber:
        reader = subscriber.scan(scan.uid)
        with pytest.raises(UnknownChannelError, match="pulse_id of other"):
            reader.join("eiger", "other")
        with pytest.raises(ValueError, match="not integers"):
            reader.join("eiger", by="arrival_time")
