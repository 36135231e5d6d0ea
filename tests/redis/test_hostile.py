"""What anybody may throw at a running scan is refused and named; the rest goes on."""

import json
import struct
import time
import zlib
from pathlib import Path
from typing import Any
from uuid import uuid4

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from scanbus.bus.protocol import (
    ANNOUNCEMENTS,
    checksum_of,
    events_key,
    fence_key,
    lane_key,
    pack_header,
)
from scanbus.bus.store import connect, find_scan
from scanbus.schemas import Verdict, VerdictWord
from scanbus.schemas.file_names import WORK_FOLDER
from scanbus.writer import WriterSettings, run_writer
from tests.support.long import long_but
from tests.support.raw_publisher import RawScan, frames
from tests.support.roots import made_root
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, wait_until, writer

QUICK: dict[str, Any] = {"poll_s": 0.02, "retry_s": 0.1, "flush_s": 0.2}
# A writer with nothing to do has some 100 MB: HDF5, its filters, numpy, pydantic.
MOST_MEMORY_BYTES = 400 * 2**20
TERABYTES = 2**43
N_ATTEMPTS = 3
LANES = ("g", "hits", "eiger")
few = settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def write_once(url: str, root: Path) -> list[dict[str, Any]]:
    """Write all there is; return what was logged: an attempt must not fail."""
    with capture_logs() as logged:
        run_writer(
            WriterSettings.load(redis=url, root=made_root(root), **QUICK), once=True
        )
    logs = [dict(event) for event in logged]
    assert not [one for one in logs if one["event"] == "attempt_failed"]
    return logs


def verdict_of(url: str, uid: str) -> Verdict:
    with connect(url, name="test") as client:
        verdict = find_scan(client, uid).verdict
    assert verdict is not None
    return verdict


def empty(url: str) -> None:
    with connect(url, name="test") as client:
        client.flushall()


def throw(scan: RawScan, lane: str, count: int, fields: dict[Any, Any]) -> None:
    """Append anything under the id of the next points, and go on behind them."""
    first = scan.reached[lane]
    scan.client.xadd(lane_key(scan.uid, lane), fields, id=f"{first}-{count}")
    scan.reached[lane] = first + count


def master_of(root: Path) -> Path:
    return found_below(root, "scan0001.h5")[0]


def names_in(folder: Path) -> list[str]:
    """Names in a folder, without what makes it a root."""
    names = (path.name for path in folder.iterdir())
    return sorted(name for name in names if name != WORK_FOLDER)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Files below a folder, without what makes it a root."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in found_below(folder, "*")
        if path.is_file() and path.relative_to(folder).parts[0] != WORK_FOLDER
    }


# Headers that are nearly right meet more code than noise does.
integers = st.integers(-(2**63), 2**64 - 1)
near_headers = st.fixed_dictionaries(
    {},
    optional={
        "session": st.binary(max_size=70) | st.none() | integers,
        "checksum": st.just(checksum_of(b"")) | st.integers(0, 2**64 - 1) | st.text(),
        "codecs": st.sampled_from(["none", "zstd", "blosc2", "lz4", "\0", "../x"])
        | st.lists(st.sampled_from(["none", "zstd"]), max_size=4)
        | integers,
        "sizes": st.lists(st.integers(-1, 2**63), max_size=4) | integers,
        "times": st.lists(st.floats() | st.integers(-1, 2**40), max_size=3),
        "gaps": st.dictionaries(
            st.sampled_from(["th", "eiger", "x"]),
            st.lists(st.lists(st.integers(0, 2**60), max_size=3), max_size=3),
        ),
        "gap": st.booleans() | st.none(),
        # Who says True says that files have the points: a writer waits for those.
        "durable": st.sampled_from([False, None, 1, "yes"]),
        "padded": st.booleans(),
        "length": st.integers(0, 2**63),
        "point": st.integers(0, 2**63),
    },
).map(msgpack.packb)
deep = st.integers(1, 3000).map(lambda depth: b"\x91" * depth + b"\x01")
thrown = st.tuples(
    st.sampled_from(LANES),
    st.integers(1, 4),
    st.dictionaries(
        st.sampled_from([b"h", b"p", b"x", b"oversize"]),
        st.binary(max_size=200) | near_headers | deep,
        min_size=1,
    ),
)


@few
@given(st.lists(thrown, min_size=1, max_size=12))
def test_the_rest_of_a_scan_with_fuzzed_entries_is_written(
    redis_url: str, tmp_path: Path, entries: list[tuple[str, int, dict[bytes, bytes]]]
) -> None:
    empty(redis_url)
    root = tmp_path / uuid4().hex
    scan = RawScan(redis_url).prepare()
    sent = []
    for lane, count, fields in entries:
        throw(scan, lane, count, fields)
        first = scan.reached["eiger"]
        scan.send_frames(first, first + 1)
        sent.append(first)
    scan.end()

    write_once(redis_url, root)

    verdict = verdict_of(redis_url, scan.uid)
    assert (verdict.verdict, verdict.provisional) == (VerdictWord.PARTIAL, False)
    assert verdict.reason
    with h5py.File(root / verdict.master) as file:
        data = file["1.1/measurement/eiger"]
        for number in sent:
            np.testing.assert_array_equal(data[number], frames(number, number + 1)[0])


documents = st.binary(max_size=300) | st.fixed_dictionaries(
    {"protocol": st.sampled_from([1, 1, 1, 2, "1"])},
    optional={
        "type": st.sampled_from(
            ["announced", "prepared", "started", "updated", "ended", "judged", "x"]
        ),
        "time": st.floats() | st.integers(-1, 2**70),
        "end_reason": st.text(max_size=5),
        "metadata": st.recursive(
            st.none() | st.text() | st.floats(),
            lambda inner: st.dictionaries(st.text(max_size=9), inner, max_size=3),
            max_leaves=5,
        ),
        "note": st.text(max_size=20),
        "lanes": st.lists(st.dictionaries(st.text(max_size=5), st.integers())),
        "quota_bytes": st.integers(),
    },
).map(lambda tree: json.dumps(tree).encode())


@few
@given(st.lists(documents, min_size=1, max_size=8), st.lists(documents, max_size=4))
def test_fuzzed_documents_do_not_stop_a_scan(
    redis_url: str, tmp_path: Path, events: list[bytes], announced: list[bytes]
) -> None:
    empty(redis_url)
    root = tmp_path / uuid4().hex
    scan = RawScan(redis_url).prepare()
    for text in announced:
        scan.client.xadd(ANNOUNCEMENTS, {"doc": text})
    scan.send_frames(0, 4)
    for text in events:
        scan.client.xadd(events_key(scan.uid), {"doc": text})
    scan.end()

    write_once(redis_url, root)

    verdict = verdict_of(redis_url, scan.uid)
    assert not verdict.provisional
    assert verdict.channels["eiger"].written == 4
    record = find_scan(scan.client, scan.uid)
    assert bool(record.problems) == (verdict.verdict is VerdictWord.PARTIAL)


def bombs() -> dict[str, tuple[str, bytes]]:
    """Codec and payload of a few bytes that say they are terabytes, or grow to them."""
    zeros = zstandard.ZstdCompressor(level=19).compress(bytes(2**28))
    declared = zstandard.ZstdCompressor().compressobj(size=TERABYTES).compress(b"")
    deflate = zlib.compressobj(9)
    gzip = b"".join([deflate.compress(bytes(2**24)) for _ in range(64)])
    header = struct.pack(">QI", TERABYTES, 8192)
    return {
        "zstd that grows": ("zstd", zeros),
        "zstd that declares": ("zstd", declared + b"\x28\xb5\x2f\xfd"),
        "gzip": ("gzip-shuffle", gzip + deflate.flush()),
        "bitshuffle": ("bitshuffle-lz4", header + b"\0" * 64),
        "one block": ("bitshuffle-lz4", struct.pack(">QII", 384, 2**31, 2**31)),
        "lz4": ("lz4", header + b"\0" * 64),
        "blosc2": ("blosc2", b"\x9e\xa8b2frame\0" + b"\xff" * 200),
    }


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_bombs_are_refused_without_memory(redis_url: str, tmp_path: Path) -> None:
    scan = RawScan(redis_url).prepare()
    all_bombs = bombs()
    with writer(redis_url, tmp_path) as one:
        for count in (1, 4):  # Of a part of a chunk, and of a whole one.
            for name, payload in all_bombs.values():
                header = pack_header(
                    session=b"hostile",
                    checksum=checksum_of(payload),
                    codecs=(name,),
                    sizes=(len(payload),),
                )
                for lane in ("eiger", "hits"):
                    throw(scan, lane, count, {b"h": header, b"p": payload})
            first = scan.reached["eiger"]
            scan.send_frames(first, first + 4 - first % 4)
        scan.client.xadd(
            lane_key(scan.uid, "g"),
            {"h": msgpack.packb({"sizes": [TERABYTES] * 3})},
            id="0-7",
        )
        scan.reached["g"] = 7
        scan.send_group(7, 17)
        scan.end()
        verdict = final_verdict(redis_url, scan.uid)
        peak = peak_bytes(one.process.pid)
        assert one.leave() == 0

    assert peak < MOST_MEMORY_BYTES
    assert "Traceback" not in one.said
    assert verdict.verdict is VerdictWord.PARTIAL
    assert verdict.channels["th"].refused == ((0, 7),)
    assert verdict.channels["th"].written == 10
    ledger = verdict.channels["eiger"]
    assert ledger.refused == ledger.missing
    with h5py.File(tmp_path / verdict.master) as file:
        data = file["1.1/measurement/eiger"]
        assert len(data) == ledger.expected
        np.testing.assert_array_equal(data[-1], frames(len(data) - 1, len(data))[0])


ODD_NAMES = [
    "..",
    "../../x",
    "a/b",
    "a\0b",
    "/etc",
    "\u202egnp",
    "a\u0301",
    "a\n",
    " a",
    "",
]


@pytest.mark.parametrize("field", ["proposal", "collection", "dataset", "session"])
def test_names_that_could_lead_elsewhere_make_no_folder(
    redis_url: str, tmp_path: Path, field: str
) -> None:
    good = RawScan(redis_url).prepare()
    good.send_frames(0, 2)
    good.end()
    for name in ODD_NAMES:
        scan = {**good.identity.model_dump(), "uid": uuid4().hex, field: name}
        said = {"protocol": 1, "type": "announced", "time": time.time(), "scan": scan}
        good.client.xadd(ANNOUNCEMENTS, {"doc": json.dumps(said)})
    root = tmp_path / "in" / "root"

    logs = write_once(redis_url, root)

    refused = [one for one in logs if one["event"] == "bad_announcement"]
    assert len(refused) == len(ODD_NAMES)
    assert names_in(root) == ["hg123"]
    assert names_in(tmp_path) == ["in"]
    assert names_in(tmp_path / "in") == ["root"]
    assert verdict_of(redis_url, good.uid).verdict is VerdictWord.COMPLETE


@pytest.mark.parametrize("name", ["../evil", "a/b", "late.x", "e\0", "é", "a" * 300])
def test_lanes_and_channels_of_odd_names_are_not_prepared(
    redis_url: str, tmp_path: Path, name: str
) -> None:
    scan = RawScan(redis_url)
    lane = {**scan.lanes["eiger"].model_dump(mode="json"), "name": name}
    lane["channels"][0]["group"] = name
    said = {
        "protocol": 1,
        "type": "prepared",
        "time": time.time(),
        "scan": scan.identity.model_dump(),
        "lanes": [lane],
        "quota_bytes": 2**20,
    }
    scan.client.xadd(events_key(scan.uid), {"doc": json.dumps(said)})
    scan.lanes.clear()
    scan.end()
    root = tmp_path / "root"

    write_once(redis_url, root)

    verdict = verdict_of(redis_url, scan.uid)
    assert verdict.verdict is VerdictWord.FAILED
    assert "name" in verdict.reason or "lanes" in verdict.reason
    assert names_in(tmp_path) == ["root"]
    assert snapshot(root) == {}


DATASET = "hg123/id00/20260101/RAW_DATA/sample/sample_d1"


FOLDERS = ("hg123/id00", DATASET, f"{DATASET}/scan0001", f"{DATASET}/.scanbus")
FILES = (
    f"{DATASET}/scan0001/scan0001.h5",
    f"{DATASET}/scan0001/scan0001_values.h5",
    f"{DATASET}/scan0001/eiger_0000.h5",
    f"{DATASET}/scan0001/values-0000.segment",
    f"{DATASET}/sample_d1.h5",
    "hg123/id00/20260101/RAW_DATA/sample/hg123_sample.h5",
)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("planted", "kind"),
    long_but(
        # Of links that lead nowhere, one of each kind.
        {"folder", "file", FOLDERS[0], FILES[0]},
        [
            *((name, kind) for name in FOLDERS for kind in ("folder", "nothing")),
            *((name, kind) for name in FILES for kind in ("file", "nothing")),
        ],
    ),
)
def test_planted_links_lead_nobody_out_of_the_root(
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    planted: str,
    kind: str,
) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (outside / "precious.h5").write_bytes(b"precious")
    link = root / planted
    link.parent.mkdir(parents=True)
    target = {"folder": outside, "file": outside / "precious.h5"}
    link.symlink_to(target.get(kind, outside / "not there"))
    before = snapshot(outside)
    scan = RawScan(redis_url).prepare()
    for first in range(0, 28, 4):
        scan.send_frames(first, first + 4)
    scan.end()

    def is_done_or_tried_again() -> bool:
        # What needs a human is tried again for ever, with a new fence each time.
        fence = int(scan.client.get(fence_key(scan.uid)) or 0)
        return one.process.poll() is not None or fence > N_ATTEMPTS

    monkeypatch.setenv("SCANBUS_RETRY_S", "0.1")
    with writer(redis_url, root, "--once") as one:
        wait_until(is_done_or_tried_again)
        one.leave()

    assert snapshot(outside) == before
    assert names_in(outside) == ["precious.h5"]
    assert "Traceback" not in one.said
