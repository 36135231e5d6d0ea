"""Documents survive the bus; what else comes from there is refused in a sentence."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scanbus.schemas import (
    ChannelDescription,
    EndReason,
    LaneDescription,
    PlotDescription,
    Positioner,
    ScanAnnounced,
    ScanEnded,
    ScanJudged,
    ScanStarted,
    ScanUpdated,
    Storage,
    Verdict,
    VerdictWord,
    parse_announcement,
    parse_event,
)
from scanbus.schemas.documents import MAX_ANNOUNCEMENT_BYTES, MAX_DOCUMENT_BYTES
from scanbus.schemas.errors import DocumentError, UnknownProtocolError
from tests.support.descriptions import (
    NOW,
    UID,
    announced,
    bytes_lane,
    channel,
    identity,
    lane_of,
    prepared,
)


def said(document: Any, **changes: Any) -> bytes:
    """A document as JSON, with some fields changed."""
    return json.dumps({**json.loads(document.to_json()), **changes}).encode()


EVENTS = [
    prepared(
        bytes_lane(),
        lane_of(channel("eiger", "eiger", shape=(4, 5), dtype="uint16", fill_value=7)),
        metadata={"sample": {"name": "LaB6", "mass": 1.5, "mass@units": "g"}},
        positioners={"th": Positioner(value=1.5, units="deg", dial=-1.5)},
        plots=(PlotDescription(name="plot", signals=("a",)),),
    ),
    ScanStarted(time=NOW),
    ScanUpdated(time=NOW, metadata={"a": [1, 2, 3]}, note="näher\ndran"),
    ScanEnded(time=NOW, end_reason=EndReason.USER_ABORT, text="C-c"),
    ScanJudged(time=NOW, verdict=Verdict(uid=UID, verdict=VerdictWord.PARTIAL)),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_an_event_comes_back_as_it_was_said(event: Any) -> None:
    assert parse_event(event.to_json()) == event


def test_an_announcement_comes_back_as_it_was_said() -> None:
    assert parse_announcement(announced().to_json()) == announced()


def test_numbers_that_are_no_numbers_come_back_too() -> None:
    """JSON has no NaN; every document here writes it as NaN all the same."""
    described = channel("a", fill_value=math.nan, nexus={"attributes": {"x": math.inf}})
    event = prepared(
        lane_of(described),
        metadata={"a": [math.nan, -math.inf]},
        positioners={"th": Positioner(value=math.nan)},
    )

    text = event.to_json()
    came = parse_event(text)

    assert b"NaN" in text
    assert b"-Infinity" in text
    assert came.to_json() == text


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_unknown_fields_are_ignored(event: Any) -> None:
    assert parse_event(said(event, colour="blue", later={"x": [1]})) == event


def test_unknown_fields_deep_inside_are_ignored() -> None:
    document = json.loads(EVENTS[0].to_json())
    document["lanes"][0]["channels"][0]["flavour"] = 3
    document["scan"]["visit"] = 4

    assert parse_event(json.dumps(document).encode()) == EVENTS[0]


@pytest.mark.parametrize("protocol", [0, 2, -1, "1", 1.0, True, None, [1], {"1": 1}])
def test_another_protocol_is_refused_and_named(protocol: object) -> None:
    text = said(announced(), protocol=protocol, scan="what version 2 says here")
    with pytest.raises(UnknownProtocolError, match=r"this scanbus supports\s1"):
        parse_announcement(text)


def test_a_document_without_protocol_is_refused() -> None:
    with pytest.raises(UnknownProtocolError, match="None"):
        parse_event(b"{}")


def test_a_document_without_type_is_refused() -> None:
    document = json.loads(announced().to_json())
    del document["type"]
    with pytest.raises(DocumentError, match="field 'type' is missing"):
        parse_announcement(json.dumps(document).encode())


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc",
        "a\\b",
        "a\0b",
        "a\n",
        "a ",
        " a",
        "a.",
        ".a",
        "{a}",
        "a:b",
        "*",
        "ä",
        "ａ",  # noqa: RUF001  full width
        "а",  # noqa: RUF001  Cyrillic
        "a\u202eb",
        "a\u200db",
        "x" * 64,
    ],
)
def test_a_name_that_could_become_a_path_or_a_key_is_refused(name: str) -> None:
    text = said(announced(), scan={**identity().model_dump(), "dataset": name})
    with pytest.raises(DocumentError, match=r"scan\.dataset"):
        parse_announcement(text)
    with pytest.raises(ValidationError):
        channel(name)


@pytest.mark.parametrize(
    "uid", ["short", "x" * 41, "with-hyphen", "a:b:c:d:e", "..a" * 3]
)
def test_a_uid_is_letters_and_digits(uid: str) -> None:
    text = said(announced(), scan={**identity().model_dump(), "uid": uid})
    with pytest.raises(DocumentError, match=r"scan\.uid"):
        parse_announcement(text)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time", "5"),
        ("time", True),
        ("time", math.nan),
        ("time", math.inf),
        ("time", -1),
        ("time", 1e12),
        ("title", 5),
        ("title", "NUL \0 ends texts in HDF5"),
        ("title", "x" * 4097),
        ("scan", None),
        ("scan", []),
        ("type", "prepared"),
    ],
)
def test_a_value_of_another_kind_is_refused_not_converted(
    field: str, value: object
) -> None:
    with pytest.raises(DocumentError, match=field):
        parse_announcement(said(announced(), **{field: value}))


@pytest.mark.parametrize("number", [0, -1, "3", 3.5, True, None, 10**8, 10**400])
def test_a_scan_number_is_a_small_positive_integer(number: object) -> None:
    text = said(announced(), scan={**identity().model_dump(), "scan_number": number})
    with pytest.raises(DocumentError, match="scan_number"):
        parse_announcement(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0",
        b"null",
        b"[]",
        b'"protocol"',
        b"{",
        b"\xff\xfe{}",
        b'{"protocol": 1, "title": "\xed\xa0\x80"}',
        b'{"protocol": 1, "title": "\\ud800"}',
        b'{"protocol": 1, "x": ' + b"[" * 100_000,
        b'{"protocol": 1, "x": ' + b'{"a":' * 100_000,
        b'{"protocol": 1, "x": ' + b"9" * 100_000 + b"}",
    ],
)
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_announcement(text)
    with pytest.raises(DocumentError):
        parse_event(text)


def test_of_a_field_that_comes_twice_both_checks_see_the_same_one() -> None:
    text = announced().to_json()
    good_last = b'{"protocol":2,' + text[1:]
    bad_last = text[:-1] + b',"protocol":2}'

    assert parse_announcement(good_last) == announced()
    with pytest.raises(UnknownProtocolError):
        parse_announcement(bad_last)


def test_a_document_that_is_too_long_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(DocumentError, match="bytes; the limit is"):
        parse_event(b"{" * (MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(DocumentError, match="bytes; the limit is"):
        parse_announcement(b"{" * (MAX_ANNOUNCEMENT_BYTES + 1))


def test_a_document_of_very_many_small_values_is_refused_before_it_is_parsed() -> None:
    """Sixty mebibytes of brackets would be gigabytes of lists."""
    text = b'{"protocol":1,"x":[' + b"[]," * 2**20 + b"[]]}"
    with pytest.raises(DocumentError, match="values"):
        parse_event(text)


def test_a_large_array_in_metadata_passes() -> None:
    array = {"dtype": "uint8", "shape": [2**22], "data": "AAAA" * (2**22 // 3) + "AA=="}
    event = ScanUpdated(time=NOW, metadata={"mask": {"array": array}})
    assert parse_event(event.to_json()) == event


def test_what_a_hostile_document_says_is_quoted_short_and_without_controls() -> None:
    key = "\x1b[2J\n" + "x" * 10**6
    with pytest.raises(DocumentError) as caught:
        parse_event(said(EVENTS[0], positioners={key: {"value": 1}}))
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()

    with pytest.raises(UnknownProtocolError) as unknown:
        parse_event(said(EVENTS[0], protocol="x" * 10**6))
    assert len(str(unknown.value)) < 1000


def test_two_lanes_or_channels_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="more than one lane 'group'"):
        prepared(bytes_lane(), bytes_lane())
    with pytest.raises(ValidationError, match="two channels of the same name"):
        lane_of(channel("a"), channel("a"))
    with pytest.raises(ValidationError, match="more than one channel 'a'"):
        prepared(lane_of(channel("a", "one")), lane_of(channel("a", "two")))


def test_very_many_channels_are_checked_quickly() -> None:
    lanes = [
        lane_of(*(channel(f"c{lane}_{number}", f"l{lane}") for number in range(1000)))
        for lane in range(10)
    ]
    assert len(prepared(*lanes).channels) == 10_000


def test_a_plot_of_a_channel_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValidationError, match="no channel 'b'"):
        prepared(bytes_lane(), plots=(PlotDescription(name="p", signals=("b",)),))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shape": (0,)}, "has an axis of length 0"),
        ({"shape": (3, -1)}, "one-dimensional"),
        ({"shape": (-2,)}, "greater than or equal"),
        ({"shape": (2**31,)}, "less than"),
        ({"shape": (2**20, 2**20, 2**20)}, "does not fit into an entry"),
        ({"shape": (1,) * 6}, "at most 5"),
        ({"shape": (-1,)}, "max_point_bytes"),
        ({"dtype": "string"}, "max_point_bytes"),
        ({"dtype": "string", "shape": (2,), "max_point_bytes": 9}, "scalar"),
        ({"dtype": "object"}, "dtype"),
        ({"dtype": "uint8", "fill_value": -1}, "fill value"),
        ({"dtype": "int16", "fill_value": math.nan}, "fill value"),
        ({"dtype": "int16", "fill_value": 0.5}, "fill value"),
        ({"dtype": "int64", "fill_value": math.inf}, "fill value"),
        ({"dtype": "bool", "fill_value": 2}, "fill value"),
        ({"units": "m\0"}, "pattern"),
        ({"points": 2**48}, "less than"),
        ({"max_point_bytes": 2**40}, "less than"),
    ],
)
def test_a_channel_that_cannot_be_is_refused(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        channel("a", **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"points_per_segment": 95}, "95 is not a multiple of points_per_chunk"),
        ({"points_per_segment": 0, "points_per_chunk": 1}, "greater than"),
        ({"points_per_segment": 2**48}, "less than"),
        ({"channels": ()}, "at least 1"),
        ({"name": "other"}, "another group"),
    ],
)
def test_a_lane_that_cannot_be_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        LaneDescription.model_validate({**bytes_lane().model_dump(), **changes})


def test_only_single_channels_of_fixed_shape_have_own_files() -> None:
    ragged = channel("a", shape=(-1,), max_point_bytes=80)
    for channels in ([channel("a"), channel("b")], [ragged]):
        with pytest.raises(ValidationError, match="files of its own need a single"):
            lane_of(*channels, storage=Storage.FILES)


def test_a_chunk_that_fits_no_entry_is_refused() -> None:
    frame = channel("a", shape=(4096, 4096), dtype="float64")
    with pytest.raises(ValidationError, match="does not fit into an entry"):
        lane_of(frame, storage=Storage.FILES)


@pytest.mark.parametrize(
    ("dtype", "fill_value", "missing"),
    [
        ("uint16", None, 65535),
        ("int32", None, -(2**31)),
        ("bool", None, False),
        ("int32", -1, -1),
        ("uint64", 2**64 - 1, 2**64 - 1),
        ("int8", 3.0, 3),
    ],
)
def test_a_missing_point_has_the_declared_value_or_the_usual_one(
    dtype: str, fill_value: int | float | None, missing: object
) -> None:
    assert channel("a", dtype=dtype, fill_value=fill_value).missing_value == missing


def test_missing_floats_and_texts_are_nan_and_empty() -> None:
    assert math.isnan(channel("a").missing_value)  # type: ignore[arg-type]
    assert channel("a", dtype="string", max_point_bytes=9).missing_value == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    event=st.sampled_from(EVENTS),
    path=st.lists(st.integers(0, 9), max_size=4),
    value=json_values,
)
def test_whatever_stands_in_a_document_is_taken_or_refused_in_a_sentence(
    event: Any, path: list[int], value: object
) -> None:
    document = json.loads(event.to_json())
    place: Any = document
    for step in path:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys or not isinstance(place[keys[step % len(keys)]], dict | list):
            break
        place = place[keys[step % len(keys)]]
    if not place:
        return
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    place[keys[(path or [0])[-1] % len(keys)]] = value

    try:
        came = parse_event(json.dumps(document).encode())
    except DocumentError as error:
        assert len(str(error)) < 2000  # noqa: PT017  any other error fails too
    else:
        assert parse_event(came.to_json()).to_json() == came.to_json()


@given(st.binary(max_size=200))
def test_bytes_are_no_document(text: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_event(text)


def test_documents_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        announced().title = "another"  # type: ignore[misc]


def test_what_publishers_write_in_python_may_be_less_strict() -> None:
    described = ChannelDescription.model_validate(
        {"name": "a", "group": "a", "device": "a", "role": "axis", "shape": [3]}
    )
    assert described.shape == (3,)
    found = ScanAnnounced.model_validate(
        {"time": 1, "scan": identity().model_dump(), "title": "a scan"}
    )
    assert found.time == 1.0
