"""What changes from header to header, and of which type it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.publisher.gateways.files.dates import moment_of, zone_of
from scanbus.publisher.gateways.files.header_changes import HeaderChanges
from scanbus.publisher.gateways.files.headers import HeaderFacts, ScanAxis
from scanbus.publisher.gateways.files.headers.facts import Quantity, instrument
from scanbus.publisher.gateways.files.headers.keywords import Keywords

Values = list[float | int | str | None]
PLACE = ("keywords", "x")


def changes_of(values: Values) -> HeaderChanges:
    changes = HeaderChanges()
    for value in values:
        changes.add(HeaderFacts(keywords={} if value is None else {"x": value}))
    return changes


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2, 3], "int64"),
        ([1, 2.5], "float64"),
        ([1, 2, "three"], "string"),
        ([2**60, 2**60 + 1], "int64"),
        ([2**60, 0.5], "string"),  # float64 would lose digits
        ([1, None, 2], "float64"),  # which has a value for "missing"
        ([None, 2**60 + 1], "string"),
    ],
)
def test_a_value_that_changes_keeps_all_its_digits(values: Values, dtype: str) -> None:
    assert changes_of(values).changing()[PLACE].dtype == dtype


@given(st.one_of(st.integers(), st.floats(), st.text()), st.integers(1))
def test_what_stays_the_same_is_no_channel(value: float | str, count: int) -> None:
    assert changes_of([value] * min(count, 20)).changing() == {}


def test_a_number_keeps_its_units_and_a_name_its_zeros() -> None:
    keywords = [
        Keywords({"Bias": bias, "Temp": temperature, "Id": sample})
        for bias, temperature, sample in (
            ("5 V", "300 K", "0012"),
            ("5 mV", "301 K", "012"),
            ("5 kV", "302.5 K", "12"),
        )
    ]
    changes = HeaderChanges()
    for each in keywords:
        changes.add(HeaderFacts(keywords=each.rest()))
    found = changes.changing()

    assert {place[1]: each.dtype for place, each in found.items()} == {
        "Bias": "string",
        "Temp": "float64",
        "Id": "string",
    }
    assert found["keywords", "Temp"].first.units == "K"


def test_keywords_of_like_names_have_fields_of_their_own() -> None:
    facts = HeaderFacts(keywords={"a-b": 1, "a_b": 2, "A b": Quantity(3, "s")})
    tree = instrument("d", {}, "text", facts.keywords)
    found = tree["instrument"]["d"]["header"]["keywords"]

    assert found == {
        "@NX_class": "NXcollection",
        "a_b": 1,
        "a_b_2": 2,
        "a_b_3": 3,
        "a_b_3@units": "s",
    }
    assert [each.field for each in facts.values().values()] == [*found][1:4]


def test_the_angle_moves_if_it_turns_or_is_another_one() -> None:
    for axes, moves in (
        ([(5.0, 0.0), (5.0, 0.0)], False),
        ([(5.0, 0.1), (5.0, 0.1)], True),
        ([(5.0, 0.0), (5.5, 0.0)], True),
    ):
        changes = HeaderChanges()
        for start, increment in axes:
            changes.add(HeaderFacts(axis=ScanAxis("omega", start, increment)))
        assert changes.axis_moves is moves


@pytest.mark.parametrize(
    "date",
    [
        "2019-09-11T13:20:28.989",
        "2019-Sep-11 13:20:28.989",
        "2019/Sep/11 13:20:28.989",
        "2019-09-11T13:20:28.989000000",
        "Wed Sep 11 13:20:28.989 2019",
        "1568200828.989",
        "2019-09-11T11:20:28.989Z",
    ],
)
def test_a_date_is_one_moment_in_whatever_form(date: str) -> None:
    found = moment_of(date, zone_of("Europe/Paris"))
    assert found is not None
    assert found.timestamp() == 1568200828.989


@pytest.mark.parametrize(
    "date",
    [
        "Wed Sep 11 13:20:28 2019",
        "2019:09:11 13:20:28",
        "11-Sep-2019 13:20:28",
        "09/11/19 13:20:28",
        "091113202019.28",
        "Wed Sep 11 11:20:28 UTC 2019",
    ],
)
def test_a_date_without_fractions_is_one_moment(date: str) -> None:
    found = moment_of(date, zone_of("+02:00"))
    assert found is not None
    assert found.timestamp() == 1568200828


@given(st.text(max_size=40))
def test_any_text_is_a_date_or_none(date: str) -> None:
    moment_of(date)
