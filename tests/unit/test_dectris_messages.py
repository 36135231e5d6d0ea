"""Messages of DECTRIS streams are translated, or refused with a sentence."""

import json
from typing import Any, Literal

import cbor2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from scanbus.bus.codecs import find_codec
from scanbus.publisher.gateways.dectris.simulated_messages import SeriesV1
from scanbus.publisher.gateways.dectris.stream_v1 import decode_v1
from scanbus.publisher.gateways.runner.messages import (
    FrameArrived,
    SeriesEnded,
    SeriesStarted,
)
from scanbus.publisher.gateways.wire.simulated_v2 import SeriesV2
from scanbus.publisher.gateways.wire.stream_v2 import decode_v2
from scanbus.schemas.errors import MessageError
from tests.support.hostile_messages import damaged, decoded_or_refused

COMPRESSIONS: tuple[Literal["bslz4", "lz4", "none"], ...] = ("bslz4", "lz4", "none")
CONFIG = {
    "nimages": 10,
    "ntrigger": 2,
    "count_time": 0.5,
    "wavelength": 1.0,
    "omega_start": 10.0,
    "omega_increment": 0.1,
    "description": "Dectris EIGER2 Si 500K",
    "unknown": [1, 2, 3],
}


def frame_of(seed: int = 0, dtype: str = "<u2") -> npt.NDArray[Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 100, (4, 6)).astype(dtype)


# --------------------------------------------------------------------- stream V1


@pytest.mark.parametrize("detail", ["none", "basic", "all"])
@pytest.mark.parametrize("appendix", [b"", b'{"user": "x"}'])
def test_a_header_of_any_detail_is_read(
    detail: Literal["none", "basic", "all"], appendix: bytes
) -> None:
    flatfield = np.arange(24, dtype="<f4").reshape(4, 6)
    sent = SeriesV1(
        7, CONFIG, detail, header_appendix=appendix, flatfield=flatfield
    ).header()
    started = decode_v1(sent)
    assert isinstance(started, SeriesStarted)
    assert started.series == "7"
    assert started.n_frames == (None if detail == "none" else 20)
    assert started.metadata.get("user_data") == (appendix.decode() or None)
    if detail == "none":
        assert not started.fields
        return
    assert started.fields["count_time"] == 0.5
    assert started.fields["count_time@units"] == "s"
    beam = started.metadata["instrument"]["beam"]
    assert beam["incident_wavelength"] == 1.0
    assert started.metadata["sample"]["goniometer"]["omega"] == 10.0
    assert ("flatfield" in started.fields) == (detail == "all")
    if detail == "all":
        np.testing.assert_array_equal(started.fields["flatfield"], flatfield)
        assert started.fields["pixel_mask"].shape == (4, 6)
        assert started.fields["countrate_correction_lookup_table"].shape == (2, 1000)


def test_bytes_of_bitshuffle_stay_as_they_came() -> None:
    parts = SeriesV1(7).image(3, frame_of())
    (data,) = decoded_frame(parts).channels.values()
    assert data.is_packed
    assert data.payload is parts[2]
    assert data.codec == "bitshuffle-lz4"


def test_a_bare_block_of_lz4_gets_the_framing_of_hdf5() -> None:
    parts = SeriesV1(7, compression="lz4").image(3, frame_of())
    (data,) = decoded_frame(parts).channels.values()
    assert data.is_packed
    assert data.payload[16:] == parts[2]
    np.testing.assert_array_equal(
        find_codec("lz4").decode(data.payload, "<u2", (4, 6)), frame_of()
    )


def test_a_block_of_lz4_as_large_as_its_frame_is_unpacked() -> None:
    """HDF5's filter would take its bytes for pixels."""
    frame = np.ones((3, 3), "<u2")
    frame[0, 2] = 0
    parts = SeriesV1(7, compression="lz4").image(3, frame)
    assert len(parts[2]) == frame.nbytes
    (data,) = decoded_frame(parts).channels.values()
    np.testing.assert_array_equal(data.array(), frame)
    assert not data.is_packed
    parts[2] = b"\xff" * frame.nbytes
    with pytest.raises(MessageError, match="lz4: "):
        decode_v1(parts)


def test_values_of_a_frame_come_along() -> None:
    times = {"start_time": 0, "stop_time": 5, "real_time": 5}
    arrived = decoded_frame(
        SeriesV1(7, image_appendix=b"x").image(3, frame_of(), times)
    )
    assert arrived.number == 3
    assert arrived.series == "7"
    assert arrived.values.keys() == {*times, "hash", "image_appendix"}


@pytest.mark.parametrize("times", [b"", b"[1]", b"{", b'{"start_time": "x"}'])
def test_unusable_times_of_v1_cost_no_image(times: bytes) -> None:
    parts = SeriesV1(7).image(3, frame_of(), {"start_time": 1})
    parts[3] = times
    arrived = decode_v1(parts)
    assert isinstance(arrived, FrameArrived)
    assert "start_time" not in arrived.values


@pytest.mark.parametrize(
    "value",
    [
        cbor2.CBORTag(1040, [[4, 6], cbor2.CBORTag(69, b"")]),
        cbor2.CBORTag(40, [[2**30, 2**30], cbor2.CBORTag(69, b"x")]),
        cbor2.CBORTag(69, "x"),
        [cbor2.CBORTag(56500, ["zip", 2, b"x"])],
        {"a": cbor2.CBORTag(40, [[1], cbor2.CBORTag(87, b"x")])},
    ],
)
def test_unusable_user_data_cost_neither_image_nor_start(value: Any) -> None:
    for sent in (SeriesV2(1).image(0, frame_of()), SeriesV2(1).header()):
        found = {**cbor2.loads(sent[0]), "user_data": value}
        message = decode_v2(cbor2.dumps(found))
        assert isinstance(message, FrameArrived | SeriesStarted)


def test_an_image_needs_neither_series_nor_hash_nor_times() -> None:
    parts = SeriesV1(7).image(3, frame_of())[:3]
    parts[0] = b'{"htype": "dimage-1.0", "frame": 3}'
    arrived = decoded_frame(parts)
    assert not arrived.series
    assert not arrived.values


def test_the_end_of_a_series_is_known() -> None:
    assert decode_v1(SeriesV1(7).end()) == SeriesEnded("7")
    assert decode_v2(*SeriesV2(7).end()) == SeriesEnded("7")


def decoded_frame(parts: list[bytes]) -> FrameArrived:
    arrived = decode_v1(parts)
    assert isinstance(arrived, FrameArrived)
    return arrived


def changed(part: int, **fields: Any) -> list[bytes]:
    """Return an image with other fields in one of its JSON parts."""
    parts = SeriesV1(7).image(3, frame_of())
    parts[part] = json.dumps({**json.loads(parts[part]), **fields}).encode()
    return parts


BAD_V1: dict[str, tuple[list[bytes], str]] = {
    "nothing": ([], "without parts"),
    "no JSON": ([b"\xff"], "no JSON"),
    "nested": ([b"[" * 100_000], "nested too deeply"),
    "a list": ([b"[1]"], "expected a JSON object"),
    "much JSON": ([b" " * 2**21], "at most 1048576"),
    "another kind": ([b'{"htype": "x"}'], "unknown htype 'x'"),
    "no number": (changed(0, frame=None), "frame: expected 0 to"),
    "a negative number": (changed(0, frame=-1), "got -1"),
    "a huge number": (changed(0, frame=10**30), "more than 64 bits"),
    "a true number": (changed(0, frame=True), "got True"),
    "a bad series": (changed(0, series="x"), "series: expected"),
    "too few parts": (SeriesV1(7).image(3, frame_of())[:2], "expected 4 parts"),
    "another shape": (changed(1, shape=[6, 5]), "expected 60 bytes"),
    "terabytes": (changed(1, shape=[2**20, 2**20]), "cannot unpack to"),
    "one axis": (changed(1, shape=[24]), "no size of an image"),
    "an empty axis": (changed(1, shape=[0, 6]), "no size of an image"),
    "axes of text": (changed(1, shape=["4", "6"]), "no size of an image"),
    "another type": (changed(1, type="uint32"), "does not fit pixels of uint32"),
    "objects": (changed(1, type="object"), "type 'object' is none of"),
    "another encoding": (changed(1, encoding="zip"), "encoding 'zip' is unknown"),
    "shuffled only": (changed(1, encoding="bs16<"), "does not fit"),
    "no order": (changed(1, encoding="bs16-lz4"), "is unknown"),
    "another size": (changed(1, size=1), "expected 1 bytes"),
    "a bare header": ([SeriesV1(7).header()[0]], "lacks the configuration"),
    "another detail": (
        [b'{"htype": "dheader-1.0", "series": 1, "header_detail": {}}'],
        "header_detail",
    ),
}


@pytest.mark.parametrize(("parts", "sentence"), BAD_V1.values(), ids=list(BAD_V1))
def test_a_bad_message_of_v1_is_refused(parts: list[bytes], sentence: str) -> None:
    with pytest.raises(MessageError, match=sentence):
        decode_v1(parts)


# --------------------------------------------------------------------- stream V2


def test_a_start_brings_arrays_of_each_threshold() -> None:
    mask = np.arange(24, dtype="<u4").reshape(4, 6)
    config = {
        "number_of_images": 5,
        "channels": ["threshold_1", "threshold_2"],
        "count_time": 0.1,
        "incident_energy": 12_000.0,
        "goniometer": {"omega": {"start": 1.0, "increment": 0.5}, "x": 3},
        "flatfield": {"threshold_1": np.ones((4, 6), "<f4")},
        "pixel_mask": {"threshold_1": mask, "threshold_2": mask},
        "threshold_energy": {"threshold_1": 6000.0, "threshold_2": 9000.0},
        "countrate_correction_lookup_table": np.zeros((2, 10), "<f4"),
        "a later key": {"of": ["anything", 1.5, None]},
    }
    started = decode_v2(*SeriesV2(8, config).header())
    assert isinstance(started, SeriesStarted)
    assert (started.series, started.key, started.n_frames) == ("8", "01HXYZ", 5)
    assert started.fields["countrate_correction_lookup_table"].shape == (2, 10)
    first, second = (started.channel_fields[f"threshold_{n}"] for n in (1, 2))
    np.testing.assert_array_equal(second["pixel_mask"], mask)
    assert first["threshold_energy"] == 6000.0
    assert "flatfield" not in second
    assert started.metadata["sample"]["goniometer"]["omega_increment_set"] == 0.5


def test_an_image_has_absolute_times() -> None:
    times = {"start_time": 500_000_000, "stop_time": 1_000_000_000}
    arrived = decode_v2(*SeriesV2(8).image(0, frame_of(), times))
    assert isinstance(arrived, FrameArrived)
    assert arrived.time == 1767323045.25 + 0.5
    assert arrived.values == {"start_time": 0.5, "stop_time": 1.0}


def tagged(value: Any) -> bytes:
    fields = {"type": "image", "series_id": 1, "image_id": 2, "data": {"t": value}}
    return cbor2.dumps(fields)


def array_of(typed: Any, dims: Any = (4, 6)) -> bytes:
    return tagged(cbor2.CBORTag(40, [dims, typed]))


def compressed(*content: Any, tag: int = 69) -> bytes:
    return array_of(cbor2.CBORTag(tag, cbor2.CBORTag(56500, list(content))))


PACKED = bytes(find_codec("bitshuffle-lz4").encode(frame_of()))
BAD_V2: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "truncated"),
    "a number": (b"\x01", "expected a map"),
    "an array of terabytes": (b"\x9b\x00\x00\x0f" + b"\xff" * 5, "items in"),
    "a text of terabytes": (b"\x7b\x00\x00\x0f" + b"\xff" * 5, "a text of"),
    "bytes of terabytes": (b"\x5b\x00\x00\x0f" + b"\xff" * 5, "bytes are missing"),
    "a map of millions": (b"\xba\x00\x1e\x84\x80" + b"\x00" * 4_000_000, "items in"),
    "empty lists": (b"\x9a\x00\x1e\x84\x80" + b"\x80" * 2_000_000, "items in"),
    "deep lists": (b"\x81" * 100_000, "levels"),
    "deep tags": (b"\xc1" * 100_000, "levels"),
    "no end": (b"\xbf\xff", "indefinite length"),
    "something after it": (SeriesV2(1).end()[0] + b"\x00", "1 bytes follow"),
    "another type": (cbor2.dumps({"type": "x"}), "type 'x' is unknown"),
    "a list as type": (cbor2.dumps({"type": [1]}), "is unknown"),
    "no series": (cbor2.dumps({"type": "end"}), "series_id: expected"),
    "no data": (
        cbor2.dumps({"type": "image", "series_id": 1, "image_id": 1}),
        "data: expected arrays",
    ),
    "plain data": (tagged(b"x"), "channel 't'"),
    "a column-major image": (
        tagged(cbor2.CBORTag(1040, [[4, 6], cbor2.CBORTag(69, b"")])),
        "column-major",
    ),
    "quadruple precision": (array_of(cbor2.CBORTag(87, b"x" * 384)), "typed array"),
    "a typed text": (array_of(cbor2.CBORTag(69, "x")), "tag 69 without bytes"),
    "another size": (array_of(cbor2.CBORTag(69, b"x")), "expected"),
    "terabytes": (
        array_of(cbor2.CBORTag(69, b"x"), [2**30, 2**30]),
        "cannot unpack to",
    ),
    "negative axes": (array_of(cbor2.CBORTag(69, b"x"), [-1, 6]), "dimensions"),
    "one axis": (array_of(cbor2.CBORTag(69, b"x" * 48), [24]), "shape"),
    "another compression": (compressed("zip", 2, PACKED), "one of bslz4, bszstd"),
    "items of 4 bytes": (compressed("bslz4", 4, PACKED), "items of 4 bytes"),
    "truncated blocks": (compressed("bslz4", 2, PACKED[:-3]), "truncated"),
    "typed for another size": (compressed("bslz4", 4, PACKED, tag=70), "expected 96"),
}


@pytest.mark.parametrize(("message", "sentence"), BAD_V2.values(), ids=list(BAD_V2))
def test_a_bad_message_of_v2_is_refused(message: bytes, sentence: str) -> None:
    with pytest.raises(MessageError, match=sentence):
        decode_v2(message)


@pytest.mark.parametrize("tag", [1, 2, 4, 5, 25, 28, 30, 35, 36, 37, 258, 260, 9999])
@pytest.mark.parametrize("value", ["(a+)+$", 7, b"x", [1, 2], {"x": 1}])
def test_other_tags_are_skipped(tag: int, value: Any) -> None:
    message = cbor2.dumps(
        {"type": "end", "series_id": 1, "more": cbor2.CBORTag(tag, value)}
    )
    assert decode_v2(message) == SeriesEnded("1")


# ----------------------------------------------------------------- for all inputs

FRAMES = st_np.arrays(
    st.sampled_from(["u1", "<u2", "<u4", ">u2", ">u4"]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
)


@given(FRAMES, st.sampled_from(COMPRESSIONS), st.integers(0, 2**31))
def test_any_frame_of_v1_comes_back(
    frame: npt.NDArray[Any], compression: Literal["bslz4", "lz4", "none"], number: int
) -> None:
    sent = SeriesV1(1, compression=compression).image(number, frame)
    arrived = decoded_frame(sent)
    assert arrived.number == number
    _assert_same(arrived, frame)


@given(FRAMES, st.sampled_from(COMPRESSIONS), st.integers(0, 2**31))
def test_any_frame_of_v2_comes_back(
    frame: npt.NDArray[Any], compression: Literal["bslz4", "lz4", "none"], number: int
) -> None:
    channels = {"threshold_1": frame, "threshold_2": frame[::-1].copy()}
    sent = SeriesV2(1, compression=compression).image(number, channels)
    arrived = decode_v2(*sent)
    assert isinstance(arrived, FrameArrived)
    for name, expected in channels.items():
        got = arrived.channels[name]
        np.testing.assert_array_equal(got.array(), expected)


def _assert_same(arrived: FrameArrived, frame: npt.NDArray[Any]) -> None:
    (data,) = arrived.channels.values()
    got = data.array()
    assert got.dtype.isnative
    assert got.dtype.itemsize == frame.dtype.itemsize
    np.testing.assert_array_equal(got, frame)
    if data.is_packed:
        assert data.dtype.newbyteorder("=") == frame.dtype.newbyteorder("=")


MESSAGES_V1 = (
    SeriesV1(1, CONFIG, "all", header_appendix=b"x").header(),
    SeriesV1(1).image(3, frame_of()),
    SeriesV1(1, compression="lz4").image(3, frame_of(dtype=">u4")),
    SeriesV1(1).end(),
)
MESSAGES_V2 = (
    SeriesV2(
        1, {"pixel_mask": {"t": frame_of()}, "goniometer": {"omega": {"start": 1.0}}}
    ).header()[0],
    SeriesV2(1).image(3, frame_of(), {"start_time": 1})[0],
    SeriesV2(1).end()[0],
)


@given(st.data())
def test_a_damaged_message_of_v1_is_decoded_or_refused(data: st.DataObject) -> None:
    parts = list(data.draw(st.sampled_from(MESSAGES_V1)))
    index = data.draw(st.integers(0, len(parts) - 1))
    parts[index] = data.draw(damaged(parts[index]))
    decoded_or_refused(lambda: decode_v1(parts), sum(map(len, parts)))


@given(st.data())
def test_a_damaged_message_of_v2_is_decoded_or_refused(data: st.DataObject) -> None:
    message = data.draw(damaged(data.draw(st.sampled_from(MESSAGES_V2))))
    decoded_or_refused(lambda: decode_v2(message), len(message))


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(message: bytes) -> None:
    decoded_or_refused(lambda: decode_v1([message, message]), len(message))
    decoded_or_refused(lambda: decode_v2(message), len(message))
