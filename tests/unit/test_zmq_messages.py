"""Messages of JSON and bytes, and Jungfraujoch's, are translated or refused."""

import json
from typing import Any

import bitshuffle
import cbor2
import lz4.block
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from scanbus.bus.codecs import find_codec
from scanbus.publisher.gateways.runner.messages import (
    FrameArrived,
    FrameData,
    SeriesDescribed,
    SeriesEnded,
    SeriesStarted,
)
from scanbus.publisher.gateways.wire.simulated_frames import Compression
from scanbus.publisher.gateways.wire.simulated_v2 import SeriesV2
from scanbus.publisher.gateways.zmq import ZmqGateway
from scanbus.publisher.gateways.zmq.arrays import array_number
from scanbus.publisher.gateways.zmq.simulated_messages import ArrayFrames, MaxivSeries
from scanbus.schemas.errors import MessageError
from tests.support.hostile_messages import damaged, decoded_or_refused

decode = ZmqGateway("tcp://127.0.0.1:9999").decode
COMPRESSIONS: tuple[Compression, ...] = ("bslz4", "lz4", "none")


def frame_of(seed: int = 0, shape: tuple[int, ...] = (40, 60)) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 100, shape).astype("<u2")


def message(blob: bytes, **fields: Any) -> list[bytes]:
    """Return a frame of 40 x 60 pixels with other fields in its header."""
    header = {"htype": "array-1.0", "shape": [40, 60], "type": "uint16", "frame": 3}
    return [json.dumps({**header, **fields}).encode(), blob]


def data_of(parts: list[bytes]) -> FrameData:
    arrived = decode(parts)
    assert isinstance(arrived, FrameArrived)
    (data,) = arrived.channels.values()
    return data


# ------------------------------------------------------------------ JSON and bytes


def test_a_frame_of_std_daq_is_read() -> None:
    """The header is what std_live_stream formats."""
    header = b'{"htype":"array-1.0", "shape":[40,60], "type":"uint16", "frame":91}'
    arrived = decode([header, frame_of().tobytes()])
    assert isinstance(arrived, FrameArrived)
    assert (arrived.series, arrived.number, arrived.values) == ("", 91, {})
    np.testing.assert_array_equal(arrived.channels[""].array(), frame_of())


def test_a_series_of_max_iv_is_read() -> None:
    meta = {"exptime": 0.5, "nimages": 5, "ntrigger": 2, "photon_energy": 12_000.0}
    series = MaxivSeries(7, meta)
    started = decode(series.header())
    assert isinstance(started, SeriesStarted)
    assert (started.series, started.n_frames) == ("7", 10)
    assert started.key == "/data/scan_000007.h5"
    assert started.fields["count_time"] == 0.5
    assert started.metadata["instrument"]["beam"]["incident_energy"] == 12_000.0
    arrived = decode(series.image(3, frame_of()))
    assert isinstance(arrived, FrameArrived)
    assert (arrived.series, arrived.number, arrived.values) == (
        "",
        3,
        {"msg_number": 11},
    )
    assert decode(series.end()) == SeriesEnded("")


def test_a_header_alone_begins_a_series() -> None:
    """As Xspress3 detectors send it."""
    header = b'{"htype": "header", "filename": "", "overwritable": false}'
    assert decode([header]) == SeriesStarted("")


def test_values_of_a_header_come_along() -> None:
    values = {"pulse_id": 2**40, "is_good_frame": True, "exptime": 0.5, "source": "x"}
    arrived = decode(message(frame_of().tobytes(), **values, nested={"a": 1}))
    assert isinstance(arrived, FrameArrived)
    assert arrived.values == {**values, "is_good_frame": 1}


def test_names_of_values_that_no_channel_may_have_are_left_out() -> None:
    values = {"a-b": 1, "": 2, "x" * 80: 3, "a/b": 4, "Ä": 5, "good": 6}
    arrived = decode(message(frame_of().tobytes(), **values))
    assert isinstance(arrived, FrameArrived)
    assert arrived.values == {"good": 6}


def test_parts_after_the_array_are_not_looked_at() -> None:
    """Some senders pickle objects there."""
    parts = [*message(frame_of().tobytes()), b"cos\nsystem\n(S'false'\ntR."]
    np.testing.assert_array_equal(data_of(parts).array(), frame_of())


PLAIN = frame_of().tobytes()
HDF5_BSLZ4 = bytes(find_codec("bitshuffle-lz4").encode(frame_of()))
HDF5_LZ4 = bytes(find_codec("lz4").encode(frame_of()))
BARE_LZ4 = lz4.block.compress(PLAIN, store_size=False)
PACKED = {
    "as HDF5 has it": ("bslz4", HDF5_BSLZ4),
    "as bsread names it": ("bitshuffle_lz4", HDF5_BSLZ4),
    "without header": ("bslz4", bitshuffle.compress_lz4(frame_of()).tobytes()),
    "lz4 as HDF5 has it": ("lz4", HDF5_LZ4),
    "a bare block": ("lz4", BARE_LZ4),
    "a block after its size": ("lz4", len(PLAIN).to_bytes(4, "big") + BARE_LZ4),
    "zstd": ("bszstd", bytes(find_codec("bitshuffle-zstd").encode(frame_of()))),
}


@pytest.mark.parametrize(("name", "blob"), PACKED.values(), ids=list(PACKED))
def test_packed_pixels_stay_packed(name: str, blob: bytes) -> None:
    data = data_of(message(blob, compression=name))
    assert data.is_packed
    assert data.payload.endswith(blob[-100:])
    np.testing.assert_array_equal(data.array(), frame_of())


def test_zeros_of_zstd_are_no_bomb() -> None:
    blob = find_codec("bitshuffle-zstd").encode(np.zeros((2000, 2000), "<u4"))
    fields = {"shape": [2000, 2000], "type": "uint32", "compression": "bszstd"}
    assert not data_of(message(bytes(blob), **fields)).array().any()


@pytest.mark.parametrize("key", ["encoding", "endianess", "endianness"])
def test_big_endian_pixels_are_swapped(key: str) -> None:
    blob = frame_of().astype(">u2").tobytes()
    data = data_of(message(blob, **{key: "big"}))
    np.testing.assert_array_equal(data.array(), frame_of())
    assert not data.is_packed


BAD: dict[str, tuple[list[bytes], str]] = {
    "nothing": ([], "0 parts"),
    "an empty part": ([b""], "no JSON"),
    "many parts": ([b"{}"] * 65, "65 parts"),
    "nested": ([b"[" * 100_000], "nested too deeply"),
    "another kind": ([b'{"htype": "array-2.0"}'], "unknown htype 'array-2.0'"),
    "no kind": ([b"{}"], "unknown htype None"),
    "a list as kind": ([b'{"htype": [1]}'], "unknown htype"),
    "no array": (message(PLAIN)[:1], "expected a part with the array"),
    "no number": (message(PLAIN, frame=None), "frame: expected 0 to"),
    "a negative number": (message(PLAIN, frame=-1), "got -1"),
    "a half number": (message(PLAIN, frame=0.5), "got 0.5"),
    "a huge number": (message(PLAIN, frame=10**30), "more than 64 bits"),
    "another shape": (message(PLAIN, shape=[40, 61]), "expected 4880"),
    "no shape": (message(PLAIN, shape=[]), "no size of an array"),
    "a negative axis": (message(PLAIN, shape=[-40, -60]), "no size of an array"),
    "five axes": (message(PLAIN, shape=[1] * 5), "no size of an array"),
    "axes of millions": (message(PLAIN, shape=[1] * 10**5), "a list of 100000"),
    "terabytes": (message(PLAIN, shape=[2**20, 2**20]), "cannot unpack to"),
    "exabytes": (message(PLAIN, shape=[2**20] * 4), "are too many"),
    "packed exabytes": (
        message(HDF5_BSLZ4, shape=[2**20] * 4, compression="bslz4"),
        "are too many",
    ),
    "packed terabytes": (
        message(HDF5_BSLZ4, shape=[2**19, 2**19], compression="bslz4"),
        "cannot unpack to",
    ),
    "another type": (message(PLAIN, type="uint32"), "expected 9600"),
    "objects": (message(PLAIN, type="object"), "type 'object' is none of"),
    "no type": (message(PLAIN, type=["uint16"]), "is none of"),
    "another compression": (message(PLAIN, compression="zip"), "'zip' is unknown"),
    "another encoding": (message(PLAIN, encoding="jpeg"), "'jpeg' is unknown"),
    "a compression of 1": (message(PLAIN, compression=1), "compression 1 is unknown"),
    "a middle endian": (message(PLAIN, endianness="middle"), "little or big"),
    "two endians": (
        message(PLAIN, endianness="little", encoding="big"),
        "differ in the byte order",
    ),
    "pixels as blocks": (message(PLAIN, compression="bslz4"), "bitshuffle-lz4: "),
    "truncated blocks": (
        message(HDF5_BSLZ4[:-3], compression="bslz4"),
        "bitshuffle-lz4: ",
    ),
    "blocks of another type": (
        message(HDF5_BSLZ4, compression="bslz4", type="uint32"),
        "bitshuffle-lz4: ",
    ),
    "a header of rubbish": ([b'{"htype": "header"}', b"\xff"], "no JSON"),
}


@pytest.mark.parametrize(("parts", "sentence"), BAD.values(), ids=list(BAD))
def test_a_bad_message_is_refused(parts: list[bytes], sentence: str) -> None:
    with pytest.raises(MessageError, match=sentence):
        decode(parts)
    assert array_number(parts) in {None, 3}


# -------------------------------------------------------------------- Jungfraujoch


def test_a_calibration_describes_the_detector() -> None:
    pedestal = frame_of(shape=(8, 8))
    described = decode(SeriesV2(4).calibration("pedestal_G0", pedestal))
    assert isinstance(described, SeriesDescribed)
    assert described.series == "4"
    np.testing.assert_array_equal(described.fields["calibration_pedestal_G0"], pedestal)


def test_metadata_without_pixels_is_skipped() -> None:
    found = {"type": "metadata", "series_id": 4, "images": [{"image_id": 1}]}
    assert decode([cbor2.dumps(found)]) == SeriesDescribed("4", {})


def test_values_that_jungfraujoch_adds_come_along() -> None:
    (sent,) = SeriesV2(4, channel="default").image(2, frame_of(), {"end_time": 10**9})
    more = {"xfel_pulse_id": 2**40, "indexing_result": True, "bkg_estimate": 0.5}
    found = {**cbor2.loads(sent), **more, "spots": [{"x": 1.5}], "user_data": {"a": 1}}
    arrived = decode([cbor2.dumps(found)])
    assert isinstance(arrived, FrameArrived)
    assert arrived.values == {**more, "indexing_result": 1, "end_time": 1.0}


def test_images_packed_by_zstd_stay_packed() -> None:
    payload = bytes(find_codec("bitshuffle-zstd").encode(frame_of()))
    typed = cbor2.CBORTag(69, cbor2.CBORTag(56500, ["bszstd", 2, payload]))
    data = {"default": cbor2.CBORTag(40, [[40, 60], typed])}
    sent = cbor2.dumps({"type": "image", "series_id": 1, "image_id": 0, "data": data})
    arrived = decode([sent])
    assert isinstance(arrived, FrameArrived)
    assert arrived.channels["default"].is_packed
    np.testing.assert_array_equal(arrived.channels["default"].array(), frame_of())


@pytest.mark.parametrize(
    "data", [None, [1], {"a": 1}, {"../a": None}, {"x" * 80: None}, {1: None}]
)
def test_a_bad_calibration_is_refused(data: Any) -> None:
    found = {"type": "calibration", "series_id": 4, "data": data}
    with pytest.raises(MessageError, match="calibration"):
        decode([cbor2.dumps(found)])


# ----------------------------------------------------------------- for all inputs

FRAMES = st_np.arrays(
    st.sampled_from(["u1", "<u2", "<i4", "<f4", "<f8", ">u2"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
    elements={"allow_nan": False},
)


@given(FRAMES, st.sampled_from(COMPRESSIONS), st.integers(0, 2**31))
def test_any_frame_comes_back(
    frame: npt.NDArray[Any], compression: Compression, number: int
) -> None:
    parts = ArrayFrames(compression).image(number, frame)
    assert array_number(parts) == number
    got = data_of(parts).array()
    assert got.dtype == frame.dtype.newbyteorder("=")
    np.testing.assert_array_equal(got, frame)


MESSAGES = (
    message(PLAIN, pulse_id=4),
    message(HDF5_BSLZ4, compression="bslz4"),
    message(BARE_LZ4, compression="lz4"),
    MaxivSeries(7, {"nimages": 5}).header(),
    MaxivSeries(7).end(),
    SeriesV2(4).calibration("pedestal_G0", frame_of(shape=(8, 8))),
    SeriesV2(4).image(2, frame_of(shape=(8, 8)), {"end_time": 1}),
)


@given(st.data())
def test_a_damaged_message_is_decoded_or_refused(data: st.DataObject) -> None:
    parts = list(data.draw(st.sampled_from(MESSAGES)))
    index = data.draw(st.integers(0, len(parts) - 1))
    parts[index] = data.draw(damaged(parts[index]))
    decoded_or_refused(lambda: decode(parts), sum(map(len, parts)))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["array-1.0", "image", "header", "uint16", "bslz4", "big"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner)
    ),
    max_leaves=8,
)
KEYS = ("htype", "shape", "type", "frame", "compression", "encoding", "endianness")


@given(st.dictionaries(st.sampled_from(KEYS), JSON), st.binary(max_size=100))
def test_a_header_of_anything_is_decoded_or_refused(
    fields: dict[str, Any], blob: bytes
) -> None:
    parts = message(blob, **fields)
    decoded_or_refused(lambda: decode(parts), sum(map(len, parts)))


TAGS = (0, 2, 30, 40, 64, 69, 87, 1040, 56500)
CBOR = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats()
    | st.binary(max_size=20) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        | st.builds(cbor2.CBORTag, st.sampled_from(TAGS), inner)
    ),
    max_leaves=12,
)  # fmt: skip
CBOR_KEYS = (
    "type", "series_id", "image_id", "data", "start_time", "user_data", "pixel_mask",
    "goniometer", "series_date", "threshold_energy", "number_of_images",
)  # fmt: skip


@given(
    st.sampled_from(["start", "image", "calibration", "metadata", "end"]),
    st.dictionaries(st.sampled_from(CBOR_KEYS), CBOR),
)
def test_a_map_of_anything_is_decoded_or_refused(
    kind: str, fields: dict[str, Any]
) -> None:
    sent = cbor2.dumps({"type": kind, "series_id": 1, "image_id": 2, **fields})
    decoded_or_refused(lambda: decode([sent]), len(sent))


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(octets: bytes) -> None:
    decoded_or_refused(lambda: decode([octets, octets]), len(octets))
